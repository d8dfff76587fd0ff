/* pool.c - the connections to one backend that a worker keeps: idle ones by server, those that RSET makes clean, and who waits for one.
 *
 * No identity is ever bound to a connection in here. An idle connection keeps being read: EOF, 421 or any octet while nothing is
 * owed removes it. The one that was used last is used next, so that the others grow old and go. Where the
 * number of connections is limited, that is of all workers together: whoever finds no room waits in line here, is given what
 * is left in this worker, and looks every 100 ms for what others have closed. */
#include "smtp/back/pool.h"
#include "smtp/back/backend.h"

enum { RESET_TIME = 5000, QUEUE_LOOK = 100, SURPLUS = 1000 }; /* SURPLUS: more than `pool` are kept so long, for bursts come again */

static void pool_turn(struct task *);

struct pool *pool_of(struct generation *g, const struct backend_conf *conf)
{
    struct pool **at = &g->pools[conf->index];
    if (*at)
        /* cppcheck-suppress identicalInnerCondition ; what it holds, not where it is */
        return *at;
    struct pool *p = *at = must_alloc(sizeof *p);
    p->worker = g->worker;
    p->generation = g;
    p->conf = conf;
    p->servers = must_alloc(conf->nservers * sizeof *p->servers);
    for (size_t i = 0; i < conf->nservers; i++)
        p->servers[i] = (struct pooled_server){.server = server_hold(conf, &conf->servers[i], g->conf->workers), .conf = &conf->servers[i]};
    p->version = servers_version() - 1;
    task_start(&p->task, g->worker->mail.loop, pool_turn);
    return p;
}

static void backend_unlink(struct backend **list, struct backend *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        *list = b->next;
    if (b->next)
        b->next->prev = b->prev;
    b->next = b->prev = NULL;
}

static void backend_link(struct backend **list, struct backend *b)
{
    b->prev = NULL;
    b->next = *list;
    if (*list)
        (*list)->prev = b;
    *list = b;
}

static uint64_t now_of(const struct pool *p)
{
    return loop_now(p->worker->mail.loop);
}

static void set_clock(struct pool *p)
{
    uint64_t at = health_clock(p), soon = now_of(p) + QUEUE_LOOK;
    if (p->queue || (p->conf->connections && p->nidle))
        at = at ? min_u64(at, soon) : soon;
    alarm_set(&p->alarm, &p->task, at);
}

/* ---- idle ----------------------------------------------------------------------------------------------------------- */

static bool is_good(const struct backend *b)
{
    return !b->stream->dead && !b->stream->ended && pipe_is_empty(&b->stream->in);
}

static void take_out(struct pool *p, struct backend *b)
{
    backend_unlink(&b->at->idle, b);
    p->nidle--;
}

static void use(struct backend *b)
{
    b->in_use = true;
    server_use(b->at->server, b->worker->mail.number);
}

void pool_unuse(struct backend *b)
{
    if (b->in_use)
        server_unuse(b->at->server, b->worker->mail.number);
    b->in_use = false;
}

static void hold(struct backend *b, struct delivery *d)
{
    b->step = BACKEND_READY;
    b->deadline = 0;
    b->delivery = d;
    b->stream->task = d->visit->task;
    b->pooled = true;
    b->uses++;
    alarm_stop(&b->alarm);
    task_forget(&b->task);
    use(b);
}

void pool_unqueue(struct backend *b)
{
    struct pool *p = b->pool;
    backend_unlink(&p->queue, b);
    for (size_t i = 0; i < p->conf->nservers; i++)
        atomic_fetch_sub(&p->servers[i].server->wanted, 1);
}

static void replace(struct delivery *d, struct backend *b)
{
    b->bound |= d->backend->bound; /* by AUTH, that is about to run on it */
    backend_abort(&d->backend);
    d->backend = b;
}

/* The first in line has it, in the place of the one it has been waiting with. */
static void give(struct pool *p, struct backend *b)
{
    struct backend *waiter = p->queue;
    struct delivery *d = waiter->delivery;
    hold(b, d);
    replace(d, b);
    task_wake(d->visit->task);
}

void pool_idle(struct backend *b)
{
    struct pool *p = b->pool;
    const struct timeouts *t = &p->generation->conf->timeouts;
    uint64_t uses = b->can.mail_max ? min_u64(p->conf->pool_uses, b->can.mail_max) : p->conf->pool_uses; /* RFC 9422 */
    if (b->uses >= uses || p->worker->mail.draining || now_of(p) - b->born > t->pool_age || p->conf->pool == 0) {
        backend_close(&b);
        return;
    }
    if (!b->entered) /* a health check: it has not been counted so far */
        b->entered = server_enter(b->at->server, p->conf->connections);
    if (b->entered && p->queue) {
        give(p, b);
        return;
    }
    if (!b->entered || atomic_load(&b->at->server->wanted)) {
        backend_close(&b);
        return;
    }
    b->step = BACKEND_IDLE;
    b->idle_since = now_of(p);
    b->deadline = 0;
    backend_link(&b->at->idle, b);
    p->nidle++;
    alarm_set(&b->alarm, &b->task, b->idle_since + (p->nidle > p->conf->pool ? min_u64(SURPLUS, t->pool_idle) : t->pool_idle));
    if (p->conf->connections)
        set_clock(p);
}

static void turn_idle(struct pool *p, struct backend *b)
{
    uint64_t now = now_of(p);
    bool old = now >= b->idle_since + p->generation->conf->timeouts.pool_idle;
    old |= p->nidle > p->conf->pool && now >= b->idle_since + SURPLUS;
    bool wanted = atomic_load(&b->at->server->wanted) && !p->queue; /* by another worker */
    if (is_good(b) && !old && !wanted)
        return;
    take_out(p, b);
    if (is_good(b))
        backend_close(&b);
    else
        backend_abort(&b);
}

/* RSET was said; every reply that is still owed is read and dropped, the last one must be RSET's 250. */
static void turn_resetting(struct pool *p, struct backend *b)
{
    struct expected expected;
    struct reply reply;
    enum backend_took took;
    uint64_t by = b->deadline; /* for all replies up to that of RSET */
    while ((took = backend_reply(b, &b->arena, &expected, &reply)) == TOOK_REPLY && b->count)
        ;
    b->deadline = by;
    bool clean = took == TOOK_REPLY && b->count == 0 && expected.what == EXPECT_RSET && reply_class(&reply) == 2;
    bool over = took != TOOK_NONE || now_of(p) >= b->deadline;
    if (!over) {
        backend_flush(b);
        b->deadline = by;
        alarm_set(&b->alarm, &b->task, by);
        return;
    }
    backend_unlink(&p->resetting, b);
    alarm_stop(&b->alarm);
    arena_reset(&b->arena);
    if (clean && !b->closing) {
        b->step = BACKEND_READY; /* so that it is left with QUIT if there is no place for it */
        pool_idle(b);
    } else {
        backend_abort(&b);
    }
}

/* ---- the choice ----------------------------------------------------------------------------------------------------- */

static bool was_tried(const struct pool *p, const struct delivery *d, size_t i)
{
    return d->course.of == p->conf && (d->course.tried & (1ull << i));
}

bool pool_has_other(struct pool *p, const struct delivery *d, const struct pooled_server *at)
{
    for (size_t i = 0; i < p->conf->nservers; i++)
        if (&p->servers[i] != at && !was_tried(p, d, i) && atomic_load(&p->servers[i].server->up))
            return true;
    return false;
}

/* NULL: none; *full then says that some would do, but for the limit of connections. */
static struct pooled_server *choose(struct pool *p, const struct delivery *d, bool *full)
{
    struct candidate candidates[BACKEND_SERVERS];
    size_t n = p->conf->nservers;
    bool any = false, compares = n > 1 && p->conf->balance == BALANCE_LEAST_CONNECTIONS;
    for (size_t i = 0; i < n; i++) {
        struct pooled_server *at = &p->servers[i];
        bool room = !p->conf->connections || at->idle || atomic_load(&at->server->connections) < p->conf->connections;
        candidates[i] = (struct candidate){.usable = room,
                                           .up = atomic_load(&at->server->up) && !was_tried(p, d, i),
                                           .backup = at->conf->backup,
                                           .weight = at->conf->weight,
                                           .in_use = compares ? server_in_use(at->server) : 0,
                                           .turn = &at->turn};
        any |= candidates[i].up;
    }
    int chosen = server_choose(candidates, n, p->conf->balance);
    *full = chosen < 0 && any;
    return chosen < 0 ? NULL : &p->servers[chosen];
}

/* An idle connection of that server, or a dial. NULL: another worker was faster, there is no room, or no descriptor. */
static struct backend *take_of(struct pool *p, struct pooled_server *at, struct delivery *d, bool fresh)
{
    while (!fresh && at->idle) {
        struct backend *b = at->idle;
        take_out(p, b);
        if (is_good(b)) {
            hold(b, d);
            return b;
        }
        backend_abort(&b);
    }
    if (p->worker->descriptors && stream_count() >= p->worker->descriptors)
        return NULL;
    if (!server_enter(at->server, p->conf->connections)) {
        if (!at->idle) /* fresh: an idle one gives its room */
            return NULL;
        struct backend *b = at->idle;
        take_out(p, b);
        backend_close(&b);
        if (!server_enter(at->server, p->conf->connections))
            return NULL;
    }
    struct backend *b = backend_dial(p, at, d);
    b->entered = true;
    use(b);
    return b;
}

static struct backend *get_in_line(struct pool *p, struct delivery *d)
{
    struct backend *b = backend_new(p, d), **at = &p->queue, *last = NULL;
    for (; *at; at = &(*at)->next)
        last = *at;
    *at = b;
    b->prev = last;
    for (size_t i = 0; i < p->conf->nservers; i++)
        atomic_fetch_add(&p->servers[i].server->wanted, 1);
    backend_step_to(b, BACKEND_QUEUED, p->conf->wait);
    task_wake(&p->task);
    return b;
}

static struct backend *none_is_up(struct pool *p, struct delivery *d)
{
    struct backend *b = backend_new(p, d);
    for (size_t i = 0; i < p->conf->nservers; i++)
        server_check_soon(p->servers[i].server, now_of(p));
    task_wake(&p->task);
    b->blameless = true;
    backend_break(b, REPLY_BACKEND_DOWN, p->conf->nservers > 1 ? "all servers are down" : "it is down");
    return b;
}

static void begin_trying(struct pool *p, struct delivery *d)
{
    if (d->course.of == p->conf && d->course.tried)
        return;
    d->course.of = p->conf;
    d->course.tried = 0;
    d->course.by = now_of(p) + 2 * d->listen->timeouts.connect;
}

struct backend *pool_take(struct pool *p, struct delivery *d, bool fresh)
{
    begin_trying(p, d);
    bool full = p->queue != NULL;
    struct pooled_server *at = full ? NULL : choose(p, d, &full);
    struct backend *b = at ? take_of(p, at, d, fresh) : NULL;
    if (b)
        return b;
    return at || full ? get_in_line(p, d) : none_is_up(p, d);
}

bool pool_again(struct delivery *d)
{
    struct backend *b = d->backend;
    struct pool *p = b->pool;
    bool full;
    must(b->step == BACKEND_BROKEN);
    if (b->was_ready || b->blameless || !b->at || d->course.of != p->conf) {
        d->course.tried = 0;
        return false;
    }
    d->course.tried |= 1ull << (b->at - p->servers);
    if (now_of(p) >= d->course.by) {
        d->course.tried = 0;
        return false;
    }
    struct pooled_server *at = choose(p, d, &full);
    struct backend *next = at ? take_of(p, at, d, false) : NULL;
    if (!next && (at || full))
        next = get_in_line(p, d);
    if (!next) {
        d->course.tried = 0;
        return false;
    }
    replace(d, next);
    return true;
}

/* ---- leaving -------------------------------------------------------------------------------------------------------- */

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
    b->delivery = NULL;
    b->pooled = false;
    b->stream->task = &b->task;
    pool_unuse(b);
    if (clean) {
        pool_idle(b);
        return;
    }
    b->step = BACKEND_RESET;
    if (b->count == EXPECTED_MOST || b->worker->mail.draining) {
        backend_abort(&b);
        return;
    }
    pipe_put(backend_words(b), STR("RSET\r\n"));
    backend_say(b, EXPECT_RSET, 0, 0);
    backend_flush(b);
    b->deadline = now_of(p) + RESET_TIME;
    backend_link(&p->resetting, b);
    alarm_set(&b->alarm, &b->task, b->deadline);
    task_wake(&b->task);
}

void pool_freed(struct pool *p)
{
    if (p->queue)
        task_wake(&p->task);
}

/* Whoever has waited longest is served first; where there is no room for it, nobody behind it is served either. */
static void turn_queue(struct pool *p)
{
    while (p->queue) {
        struct backend *waiter = p->queue;
        struct delivery *d = waiter->delivery;
        bool full;
        struct pooled_server *at = choose(p, d, &full);
        if (!at && full)
            return;
        struct backend *b = at ? take_of(p, at, d, false) : NULL;
        if (at && !b)
            return;
        if (!b) { /* all have gone down meanwhile */
            backend_break(waiter, REPLY_BACKEND_DOWN, "all servers are down");
            continue;
        }
        must(d->backend == waiter);
        replace(d, b);
        task_wake(d->visit->task);
    }
}

static void pool_turn(struct task *task)
{
    struct pool *p = holder_of(task, struct pool, task);
    health_turn(p);
    for (struct backend *b = p->resetting, *next; b; b = next) {
        next = b->next;
        turn_resetting(p, b);
    }
    for (size_t i = 0; i < p->conf->nservers; i++)
        for (struct backend *b = p->servers[i].idle, *next; b; b = next) {
            next = b->next;
            turn_idle(p, b);
        }
    turn_queue(p);
    set_clock(p);
}

void pool_close(struct pool **pool)
{
    struct pool *p = *pool;
    if (!p)
        return;
    must(!p->queue);
    for (size_t i = 0; i < p->conf->nservers; i++) {
        struct pooled_server *at = &p->servers[i];
        if (at->check)
            health_give_up(at);
        while (at->idle) {
            struct backend *b = at->idle;
            backend_unlink(&at->idle, b);
            backend_close(&b);
        }
    }
    while (p->resetting) {
        struct backend *b = p->resetting;
        backend_unlink(&p->resetting, b);
        backend_abort(&b);
    }
    for (size_t i = 0; i < p->conf->nservers; i++)
        server_drop(&p->servers[i].server);
    alarm_stop(&p->alarm);
    task_forget(&p->task);
    free(p->servers);
    free(p->waiting);
    free(p);
    *pool = NULL;
}
