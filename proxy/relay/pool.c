/* pool.c - the connections to one backend that a worker keeps: idle ones, washing ones, and the probe that learns what the
 * next hop can do (protocol.md 4.1). No identity is ever bound to a connection in here. An idle connection keeps being read:
 * EOF, 421 or any octet while nothing is owed removes it (engine.md A11). */
#include "relay/backend.h"
#include "relay/session.h"

enum { PROBE_AGAIN = 10000, PROBE_REFRESH = 300000, WASH_TIME = 5000, PROBE_WAIT = 5000 };

static void pool_turn(struct task *);

struct pool *pool_of(struct generation *g, const struct backend_conf *conf)
{
    struct pool **slot = &g->pools[conf->index];
    if (!*slot) {
        *slot = must_alloc(sizeof **slot);
        (*slot)->worker = g->worker;
        (*slot)->generation = g;
        (*slot)->conf = conf;
        task_start(&(*slot)->task, g->worker->loop, pool_turn);
    }
    return *slot;
}

static void unlink_from(struct backend **list, struct backend *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        *list = b->next;
    if (b->next)
        b->next->prev = b->prev;
    b->next = b->prev = NULL;
}

static void link_to(struct backend **list, struct backend *b)
{
    b->prev = NULL;
    b->next = *list;
    if (*list)
        (*list)->prev = b;
    *list = b;
}

static void wake_waiting(struct pool *p)
{
    p->probed = true;
    for (size_t i = 0; i < p->nwaiting; i++)
        task_wake(p->waiting[i]);
    p->nwaiting = 0;
}

void pool_open(struct pool *p)
{
    if (!p->probe)
        p->probe = backend_dial(p, NULL);
    alarm_set(&p->alarm, &p->task, loop_now(p->worker->loop) + PROBE_WAIT);
}

void pool_take_over(struct pool *p, const struct pool *old)
{
    p->can = old->can;
    p->known = old->known;
    p->probed = old->probed;
}

bool pool_wait(struct pool *p, struct task *task)
{
    if (p->probed || p->known)
        return false;
    for (size_t i = 0; i < p->nwaiting; i++)
        if (p->waiting[i] == task)
            return true;
    if (p->nwaiting == p->waiting_room) {
        p->waiting_room = p->waiting_room ? p->waiting_room * 2 : 16;
        p->waiting = must_grow(p->waiting, p->waiting_room * sizeof *p->waiting);
    }
    p->waiting[p->nwaiting++] = task;
    if (!p->probe)
        pool_open(p);
    return true;
}

void pool_forget(struct pool *p, struct task *task)
{
    for (size_t i = 0; i < p->nwaiting; i++)
        if (p->waiting[i] == task)
            p->waiting[i--] = p->waiting[--p->nwaiting];
}

static void become_idle(struct pool *p, struct backend *b)
{
    if (p->nidle >= p->conf->pool || b->uses >= p->conf->pool_uses || p->worker->draining ||
        loop_now(p->worker->loop) - b->born > p->generation->conf->timeouts.pool_age) {
        backend_close(&b);
        return;
    }
    b->step = BACKEND_IDLE;
    b->idle_since = loop_now(p->worker->loop);
    b->deadline = 0;
    link_to(&p->idle, b);
    p->nidle++;
    alarm_set(&b->alarm, &b->task, b->idle_since + p->generation->conf->timeouts.pool_idle);
}

static void turn_probe(struct pool *p)
{
    struct backend *b = p->probe;
    if (!b)
        return;
    if (b->step == BACKEND_READY) {
        p->probe = NULL;
        wake_waiting(p);
        if (p->conf->identity == IDENTITY_NONE)
            become_idle(p, b);
        else
            backend_close(&b);
        alarm_set(&p->alarm, &p->task, loop_now(p->worker->loop) + PROBE_REFRESH);
    } else if (b->step == BACKEND_BROKEN) {
        backend_abort(&p->probe);
        wake_waiting(p);
        alarm_set(&p->alarm, &p->task, loop_now(p->worker->loop) + PROBE_AGAIN);
    } else {
        alarm_set(&b->alarm, &b->task, b->deadline);
    }
}

/* RSET was said; every reply that is still owed is read and dropped, the last one must be RSET's 250. */
static void turn_washing(struct pool *p, struct backend *b)
{
    struct debt debt;
    struct reply reply;
    enum backend_took took;
    uint64_t by = b->deadline; /* of the washing as a whole, whatever comes */
    while ((took = backend_reply(b, &b->arena, &debt, &reply)) == TOOK_REPLY && b->count)
        ;
    b->deadline = by;
    bool clean = took == TOOK_REPLY && b->count == 0 && debt.what == DEBT_RSET && reply_class(&reply) == 2;
    bool over = took != TOOK_NONE || loop_now(p->worker->loop) >= b->deadline;
    if (!over) {
        backend_flush(b);
        b->deadline = by;
        alarm_set(&b->alarm, &b->task, by);
        return;
    }
    unlink_from(&p->washing, b);
    arena_reset(&b->arena);
    if (clean && !b->closing) {
        b->step = BACKEND_READY; /* so that it is left with QUIT if there is no place for it */
        become_idle(p, b);
    } else {
        backend_abort(&b);
    }
}

static void turn_idle(struct pool *p, struct backend *b)
{
    uint64_t now = loop_now(p->worker->loop);
    bool news = b->stream->dead || b->stream->ended || !pipe_is_empty(&b->stream->in);
    bool old = now >= b->idle_since + p->generation->conf->timeouts.pool_idle;
    if (!news && !old)
        return;
    unlink_from(&p->idle, b);
    p->nidle--;
    if (news)
        backend_abort(&b);
    else
        backend_close(&b);
}

static void pool_turn(struct task *task)
{
    struct pool *p = holder_of(task, struct pool, task);
    turn_probe(p);
    for (struct backend *b = p->washing, *next; b; b = next) {
        next = b->next;
        turn_washing(p, b);
    }
    for (struct backend *b = p->idle, *next; b; b = next) {
        next = b->next;
        turn_idle(p, b);
    }
    if (p->alarm.at && loop_now(p->worker->loop) >= p->alarm.at) {
        alarm_set(&p->alarm, &p->task, 0);
        if (p->probe) /* slow: whoever waits for its answer does not wait any longer */
            wake_waiting(p);
        else if (!p->worker->draining)
            pool_open(p);
    }
}

struct backend *pool_take(struct pool *p, struct session *s, bool fresh)
{
    while (!fresh && p->idle) {
        struct backend *b = p->idle;
        unlink_from(&p->idle, b);
        p->nidle--;
        alarm_stop(&b->alarm);
        task_forget(&b->task);
        if (b->stream->dead || b->stream->ended || !pipe_is_empty(&b->stream->in)) {
            backend_abort(&b);
            continue;
        }
        b->step = BACKEND_READY;
        b->session = s;
        b->stream->task = &s->task;
        b->pooled = true;
        b->uses++;
        return b;
    }
    struct backend *b = backend_dial(p, s);
    b->uses = 1;
    return b;
}

void pool_leave(struct backend **backend, bool clean)
{
    struct backend *b = *backend;
    struct pool *p = b->pool;
    if (b->step != BACKEND_READY || b->bound || b->closing || p->conf->pool == 0 || (clean && b->count)) {
        if (b->step == BACKEND_READY && clean && !b->count)
            backend_close(backend);
        else
            backend_abort(backend);
        return;
    }
    *backend = NULL;
    b->session = NULL;
    b->pooled = false;
    b->stream->task = &b->task;
    if (clean) {
        become_idle(p, b);
        return;
    }
    b->step = BACKEND_WASH;
    if (b->count == DEBTS || b->worker->draining) {
        backend_abort(&b);
        return;
    }
    pipe_put(backend_words(b), STR("RSET\r\n"));
    backend_say(b, DEBT_RSET, 0, 0);
    backend_flush(b);
    b->deadline = loop_now(p->worker->loop) + WASH_TIME;
    link_to(&p->washing, b);
    alarm_set(&b->alarm, &b->task, b->deadline);
    task_wake(&b->task);
}

void pool_close(struct pool **pool)
{
    struct pool *p = *pool;
    if (!p)
        return;
    backend_abort(&p->probe);
    while (p->idle) {
        struct backend *b = p->idle;
        unlink_from(&p->idle, b);
        backend_close(&b);
    }
    while (p->washing) {
        struct backend *b = p->washing;
        unlink_from(&p->washing, b);
        backend_abort(&b);
    }
    alarm_stop(&p->alarm);
    task_forget(&p->task);
    free(p->waiting);
    free(p);
    *pool = NULL;
}
