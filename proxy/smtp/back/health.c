/* health.c - looks at the servers of a backend: a connection, its banner and EHLO, QUIT. What it says goes to server.c, and from
 * there to the pools of all workers: what clients may be offered, and who is up (protocol.md 4.1).
 *
 * Real mail counts as a look too, so a server in use is hardly looked at. A look is claimed by one worker for the process. */
#include "smtp/back/backend.h"

enum { FIRST_LOOK = 5000, FIRST_LOOK_TICK = 20, LOOK_SPARE = 1000 };

static uint64_t now_of(const struct pool *p)
{
    return loop_now(p->worker->mail.loop);
}

static bool is_looking(const struct pool *p)
{
    return p->open && !p->worker->mail.draining && p->generation->filters.current;
}

/* Connecting, banner and EHLO have their own deadlines; a look that takes longer than they allow has been given up. */
static uint64_t longest(const struct pool *p)
{
    const struct timeouts *t = &p->generation->conf->timeouts;
    return t->connect + t->banner + 2 * t->helo + t->handshake + LOOK_SPARE;
}

static void look_at(struct pool *p, struct berth *at)
{
    if (at->look || !server_claim_look(at->server, now_of(p), now_of(p) + longest(p)))
        return;
    at->first_look = !p->looked;
    at->look = backend_dial(p, at, NULL);
}

void look_give_up(struct berth *at)
{
    atomic_store(&at->server->next_look, 0); /* others may */
    backend_abort(&at->look);
}

/* The connection of the first look is kept for the first mail, also when a session has noticed its end before us. */
static void turn_look(struct pool *p, struct berth *at)
{
    struct backend *b = at->look;
    if (!b)
        return;
    if (!is_looking(p)) {
        look_give_up(at);
    } else if (b->step == BACKEND_READY) {
        bool keep = at->first_look && (p->conf->identity == IDENTITY_NONE || p->conf->identity == IDENTITY_XFORWARD);
        at->look = NULL;
        alarm_stop(&b->alarm);
        if (keep)
            pool_idle(b);
        else
            backend_close(&b);
    } else if (b->step == BACKEND_BROKEN) {
        backend_abort(&at->look);
    } else {
        alarm_set(&b->alarm, &b->task, b->deadline);
    }
}

static void notice_first(struct pool *p)
{
    if (p->looked)
        return;
    bool all = true;
    for (size_t i = 0; i < p->conf->nservers; i++)
        all &= atomic_load(&p->berths[i].server->looked);
    if (!all && now_of(p) < p->look_by)
        return;
    p->looked = true;
    for (size_t i = 0; i < p->nwaiting; i++)
        task_wake(p->waiting[i]);
    p->nwaiting = 0;
}

void look_turn(struct pool *p)
{
    for (size_t i = 0; i < p->conf->nservers; i++) {
        turn_look(p, &p->berths[i]);
        if (is_looking(p))
            look_at(p, &p->berths[i]);
    }
    if (p->open)
        notice_first(p);
}

uint64_t look_clock(const struct pool *p)
{
    /* The answer may come to another worker; after a reload, to the pool of the new generation. */
    uint64_t at = p->nwaiting ? now_of(p) + FIRST_LOOK_TICK : 0;
    if (!is_looking(p))
        return at;
    for (size_t i = 0; i < p->conf->nservers; i++) {
        uint64_t due = atomic_load(&p->berths[i].server->next_look);
        if (!p->berths[i].look)
            at = at ? min_u64(at, due) : due;
    }
    return max_size(at, now_of(p) + 1);
}

void pool_open(struct pool *p)
{
    if (p->open)
        return;
    p->open = true;
    p->look_by = now_of(p) + FIRST_LOOK;
    task_wake(&p->task);
}

bool pool_wait(struct pool *p, struct task *task)
{
    if (p->looked)
        return false;
    pool_open(p);
    notice_first(p);
    if (p->looked)
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
        struct server *server = p->berths[i].server;
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
