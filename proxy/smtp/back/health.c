/* health.c - health checks of the servers of a backend: a connection, its banner and EHLO, QUIT. What it says goes to server.c, and from
 * there to the pools of all workers: what clients may be offered, and who is up.
 *
 * Real mail counts as one too, so a server in use is hardly ever checked. A check is claimed by one worker for the process. */
#include "smtp/back/backend.h"

enum { FIRST_CHECK = 5000, FIRST_CHECK_TICK = 20, CHECK_SPARE = 1000 };

static uint64_t now_of(const struct pool *p)
{
    return loop_now(p->worker->mail.loop);
}

static bool is_looking(const struct pool *p)
{
    return p->open && !p->worker->mail.draining && p->generation->filters.current;
}

/* Connecting, banner and EHLO have their own deadlines; a check that takes longer than they allow has been given up. */
static uint64_t longest(const struct pool *p)
{
    const struct timeouts *t = &p->generation->conf->timeouts;
    return t->connect + t->banner + 2 * t->helo + t->handshake + CHECK_SPARE;
}

static void check_server(struct pool *p, struct pooled_server *at)
{
    if (at->check || !server_claim_check(at->server, now_of(p), now_of(p) + longest(p)))
        return;
    at->first_check = !p->checked;
    at->check = backend_dial(p, at, NULL);
}

void health_give_up(struct pooled_server *at)
{
    atomic_store(&at->server->next_check, 0); /* others may */
    backend_abort(&at->check);
}

/* The connection of the first check is kept for the first mail, also when a session has noticed its end before us. */
static void turn_check(struct pool *p, struct pooled_server *at)
{
    struct backend *b = at->check;
    if (!b)
        return;
    if (!is_looking(p)) {
        health_give_up(at);
    } else if (b->step == BACKEND_READY) {
        bool keep = at->first_check && (p->conf->identity == IDENTITY_NONE || p->conf->identity == IDENTITY_XFORWARD);
        at->check = NULL;
        alarm_stop(&b->alarm);
        if (keep)
            pool_idle(b);
        else
            backend_close(&b);
    } else if (b->step == BACKEND_BROKEN) {
        backend_abort(&at->check);
    } else {
        alarm_set(&b->alarm, &b->task, b->deadline);
    }
}

static void notice_first(struct pool *p)
{
    if (p->checked)
        return;
    bool all = true;
    for (size_t i = 0; i < p->conf->nservers; i++)
        all &= atomic_load(&p->servers[i].server->checked);
    if (!all && now_of(p) < p->first_checks_by)
        return;
    p->checked = true;
    for (size_t i = 0; i < p->nwaiting; i++)
        task_wake(p->waiting[i]);
    p->nwaiting = 0;
}

void health_turn(struct pool *p)
{
    for (size_t i = 0; i < p->conf->nservers; i++) {
        turn_check(p, &p->servers[i]);
        if (is_looking(p))
            check_server(p, &p->servers[i]);
    }
    if (p->open)
        notice_first(p);
}

uint64_t health_clock(const struct pool *p)
{
    /* The answer may come to another worker; after a reload, to the pool of the new generation. */
    uint64_t at = p->nwaiting ? now_of(p) + FIRST_CHECK_TICK : 0;
    if (!is_looking(p))
        return at;
    for (size_t i = 0; i < p->conf->nservers; i++) {
        uint64_t due = atomic_load(&p->servers[i].server->next_check);
        if (!p->servers[i].check)
            at = at ? min_u64(at, due) : due;
    }
    return max_size(at, now_of(p) + 1);
}

void pool_open(struct pool *p)
{
    if (p->open)
        return;
    p->open = true;
    p->first_checks_by = now_of(p) + FIRST_CHECK;
    task_wake(&p->task);
}

bool pool_wait(struct pool *p, struct task *task)
{
    if (p->checked)
        return false;
    pool_open(p);
    notice_first(p);
    if (p->checked)
        return false;
    for (size_t i = 0; i < p->nwaiting; i++)
        if (p->waiting[i] == task)
            return true;
    if (p->nwaiting == p->waiting_room) {
        p->waiting_room = p->waiting_room ? p->waiting_room * 2 : 16;
        p->waiting = must_grow(p->waiting, p->waiting_room * sizeof *p->waiting);
    }
    p->waiting[p->nwaiting++] = task;
    task_wake(&p->task);
    return true;
}

void pool_forget(struct pool *p, struct task *task)
{
    for (size_t i = 0; i < p->nwaiting; i++)
        if (p->waiting[i] == task)
            p->waiting[i--] = p->waiting[--p->nwaiting];
}

/* Those that are up decide; when none is, whatever is known of the others. */
static bool common(struct pool *p, bool up, struct capabilities *can)
{
    bool any = false;
    for (size_t i = 0; i < p->conf->nservers; i++) {
        struct server *server = p->servers[i].server;
        struct capabilities one;
        if (up && !atomic_load(&server->up))
            continue;
        if (!server_is_known(server, &one))
            continue;
        *can = any ? capabilities_common(*can, one) : one;
        any = true;
    }
    return any;
}

const struct capabilities *pool_can(struct pool *p)
{
    unsigned version = servers_version();
    if (version != p->version) {
        struct capabilities can = {0};
        p->version = version;
        p->known = common(p, true, &can) || common(p, false, &can);
        p->can = can;
    }
    return &p->can;
}
