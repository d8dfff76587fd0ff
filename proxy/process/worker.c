/* worker.c - the thread of a worker: accepts connections, passes them to smtp/front or milter, has tables refreshed, carries out main's
 * orders.
 *
 * Accepting pauses while limits.connections is reached or there are too few descriptors; connections then wait in the kernel's queue. A
 * worker counts a session (`places`) before it accepts it, so that all workers together never exceed the limit. Worker 0 checks tables and
 * certificates for changes once a second, on a pool thread. */
#include "process/worker_thread.h"
#include "smtp/back/backend.h"
#include "smtp/front/session.h"

enum {
    TICK = 1000,       /* milliseconds between two checks of tables */
    PAUSED_TICK = 100, /* milliseconds between two checks whether accepting may continue */
    PEAK_LEAST = 250,  /* after a peak of so many sessions memory is returned to the system, when three of four have ended */
    LAST_WORDS = 5000  /* milliseconds after timeouts.drain, in which sessions send their last replies (session.c) */
};

/* ---- room ---- */

static bool has_descriptors(const struct worker_thread *p)
{
    /* A session may come to need another one, for the backend; not all of them do at once, and who gets none waits for
     * it. */
    return stream_count() + p->worker.nsessions / 4 < p->all->descriptors;
}

static bool has_places(const struct worker_thread *p, uint32_t taken)
{
    uint32_t most = p->worker.generation->conf->limits.connections;
    return !most || taken < most;
}

static void pause_all(struct worker_thread *p, bool paused)
{
    p->paused = paused;
    for (struct worker_listener *e = p->listeners; e; e = e->next)
        listener_pause(e->listener, paused);
}

static void set_clock(struct worker_thread *p)
{
    uint64_t at = p->worker.mail.number == 0 ? p->next_tick : 0;
    uint64_t now = loop_now(p->worker.mail.loop);
    if (p->paused)
        at = at ? min_u64(at, now + PAUSED_TICK) : now + PAUSED_TICK;
    uint64_t end = p->drain_at ? p->drain_at : p->end_by;
    if (end && now >= end) /* tables are still being checked */
        end = now + PAUSED_TICK;
    if (end)
        at = at ? min_u64(at, end) : end;
    alarm_set(&p->alarm, &p->task, at);
}

static bool has_room(void *data)
{
    struct worker_thread *p = ((struct worker_listener *)data)->thread;
    if (((struct worker_listener *)data)->inlet.milter && has_descriptors(p)) /* a milter has its own limit, reported by replies */
        return true;
    uint32_t taken = __atomic_fetch_add(&p->all->places, 1, __ATOMIC_RELAXED);
    if (has_places(p, taken) && has_descriptors(p)) {
        p->places++;
        p->peak = taken >= p->peak ? taken + 1 : p->peak;
        return true;
    }
    __atomic_sub_fetch(&p->all->places, 1, __ATOMIC_RELAXED);
    log_rare(LOG_WARNING, "paused", "as many connections as allowed: new ones wait");
    pause_all(p, true);
    set_clock(p);
    return false;
}

/* Subtracts sessions that have ended from `places`, and ends a pause when there is room. */
static void watch_room(struct worker_thread *p)
{
    if (p->places != p->worker.nsessions) { /* only on a change, since all workers write this cache line */
        __atomic_add_fetch(&p->all->places, p->worker.nsessions - p->places, __ATOMIC_RELAXED);
        p->places = p->worker.nsessions;
    }
    if (p->paused && has_places(p, __atomic_load_n(&p->all->places, __ATOMIC_RELAXED)) && has_descriptors(p))
        pause_all(p, false);
}

static unsigned percent(uint64_t used, uint64_t most)
{
    return most ? (unsigned)(used * 100 / most) : 0;
}

static void watch_load(struct worker_thread *p)
{
    const struct limits *l = &p->worker.generation->conf->limits;
    unsigned places = percent(__atomic_load_n(&p->all->places, __ATOMIC_RELAXED), l->connections);
    unsigned files = percent(stream_count(), p->all->descriptors),
             memory = percent(block_total() + arena_total(), l->memory);
    worker_set_usage(&p->worker, (unsigned)max_size(places, max_size(files, memory)));
}

/* ---- listeners ---- */

static void accepted(void *data, struct stream *stream)
{
    struct worker_listener *l = data;
    if (l->inlet.milter)
        milter_start(&l->thread->milters, l->inlet.milter, l->listen_id, stream);
    else
        session_start(&l->thread->worker, l->inlet.listen, l->listen_id, stream);
}

static void open_listener(struct worker_thread *p, const struct assignment *assignment)
{
    static const struct listener_owner owner = {.has_room = has_room, .accepted = accepted};
    struct worker_listener *l = must_alloc(sizeof *l);
    *l = (struct worker_listener){.next = p->listeners, .thread = p, .inlet = assignment->inlet, .listen_id = assignment->listen_id};
    p->listeners = l;
    l->listener = listener_open(p->worker.mail.loop, assignment->fd, &owner, l);
    listener_pause(l->listener, p->paused);
}

static void close_listener(struct worker_thread *p, struct worker_listener *l, enum listener_end end)
{
    struct worker_listener **at = &p->listeners;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    listener_close(&l->listener, end);
    free(l);
}

static void close_listeners(struct worker_thread *p, enum listener_end end)
{
    while (p->listeners)
        close_listener(p, p->listeners, end);
}

static const struct assignment *assignment_of(const struct assignment *assignments, size_t n, uint32_t listen_id)
{
    for (size_t i = 0; i < n; i++)
        if (assignments[i].listen_id == listen_id)
            return &assignments[i];
    return NULL;
}

/* ---- turns ---- */

static void refresh_tls(struct tls *tls, const char *kind, struct str name)
{
    char error[512];
    enum tls_news news = tls ? tls_refresh(tls, error, sizeof error) : TLS_AS_IT_WAS;
    if (news == TLS_AS_IT_WAS && tls && tls_expiry_is_due(tls, error, sizeof error))
        log_say(LOG_WARNING, "%s \"%.*s\": certificate %s expires within two weeks, or has expired", kind,
                STR_ARGS(name), error);
    if (news == TLS_RENEWED)
        log_say(LOG_INFO, "%s \"%.*s\": the certificates have been read again", kind, STR_ARGS(name));
    else if (news == TLS_UNFIT)
        log_say(LOG_ERROR, "%s \"%.*s\": %s; what was read before stays", kind, STR_ARGS(name), error);
}

static void refresh_run(void *data)
{
    struct smtp_conf *conf = ((struct worker_thread *)data)->refreshed;
    for (size_t i = 0; i < conf->mail.ntables; i++)
        table_refresh(conf->mail.tables[i]);
    for (size_t i = 0; i < conf->nlistens; i++) {
        size_t first = 0; /* listeners may share a context, which must be checked only once a second */
        while (conf->listens[first].tls != conf->listens[i].tls)
            first++;
        if (first == i)
            refresh_tls(conf->listens[i].tls, "listen", conf->listens[i].visit.name);
    }
    for (size_t i = 0; i < conf->nbackends; i++)
        refresh_tls(conf->backends[i].tls, "backend", conf->backends[i].hop.name);
    if (((struct worker_thread *)data)->give_back)
        alloc_give_back();
    log_flush(); /* lines of the pool thread */
}

/* Returns memory to the system: after a peak of sessions the allocator keeps it, half a GiB after 10,000 handshakes. */
static void watch_peak(struct worker_thread *p)
{
    uint32_t places = __atomic_load_n(&p->all->places, __ATOMIC_RELAXED);
    p->give_back = p->peak >= PEAK_LEAST && places <= p->peak / 4;
    if (p->give_back)
        p->peak = places;
}

static void refresh_done(void *data)
{
    struct worker_thread *p = data;
    smtp_conf_drop(p->refreshed);
    p->refreshing = false;
    if (!p->ended)
        task_wake(&p->task); /* a drain may wait for this */
}

/* Sessions of clients, and connections of MTAs. */
static uint32_t guests(const struct worker_thread *p)
{
    return p->worker.nsessions + p->milters.n;
}

static bool is_over(const struct worker_thread *p)
{
    return p->leaving && guests(p) == 0 && !p->refreshing;
}

static void before_sleep(void *data)
{
    struct worker_thread *p = data;
    log_flush();
    if (p->ended)
        return;
    watch_room(p);
    if (p->worker.generation) /* 0 during the start, when the loop runs once before there is a configuration */
        watch_load(p);
    if (is_over(p) && !p->stopped)
        task_wake(&p->task);
}

static void begin_drain(struct worker_thread *p)
{
    uint64_t by = loop_now(p->worker.mail.loop) + p->worker.generation->conf->timeouts.drain;
    p->leaving = true;
    p->drain_at = 0;
    p->end_by = by + LAST_WORDS;
    worker_drain(&p->worker, LISTEN_ALL, by);
    milter_drain(&p->milters, LISTEN_ALL, by);
}

static void turn(struct task *task)
{
    struct worker_thread *p = holder_of(task, struct worker_thread, task);
    uint64_t now = loop_now(p->worker.mail.loop);
    watch_room(p);
    if (p->worker.mail.number == 0 && now >= p->next_tick) {
        p->next_tick = now + TICK;
        if (!p->refreshing) {
            p->refreshing = true;
            p->refreshed = smtp_conf_hold(p->worker.generation->conf);
            watch_peak(p);
            loop_work(p->worker.mail.loop, refresh_run, refresh_done, p);
        }
    }
    if (p->drain_at && now >= p->drain_at)
        begin_drain(p);
    p->cut_off = p->end_by && now >= p->end_by && guests(p);
    if (is_over(p) || p->cut_off) {
        p->stopped = true;
        loop_stop(p->worker.mail.loop);
        return;
    }
    set_clock(p);
}

/* ---- orders ---- */

/* Asks the sessions of listeners that are closed to leave, with the connections that were queued there. */
static void leave_address(struct worker_thread *p, uint32_t listen_id)
{
    uint64_t by = loop_now(p->worker.mail.loop) + p->worker.generation->conf->timeouts.drain;
    for (struct worker_listener *l = p->listeners, *next; l; l = next) {
        next = l->next;
        if (l->listen_id == listen_id)
            close_listener(p, l, LISTENER_REST);
    }
    worker_drain(&p->worker, listen_id, by);
    milter_drain(&p->milters, listen_id, by);
}

void worker_thread_switch(struct worker_thread *p, struct worker_order *order)
{
    struct assignment *assignments = order->assignments[p->worker.mail.number];
    size_t n = order->nassignments[p->worker.mail.number];
    if (p->leaving)
        return;
    for (struct worker_listener *l = p->listeners, *next; l; l = next) {
        next = l->next;
        if (!assignment_of(assignments, n, l->listen_id)) {
            leave_address(p, l->listen_id);
            next = p->listeners; /* an address may have several */
        }
    }
    worker_switch(&p->worker, &order->conf->smtp);
    p->milters.filters = &p->worker.generation->filters;
    p->milters.confs = order->conf->milters;
    p->milters.nconfs = order->conf->nmilters;
    for (struct worker_listener *l = p->listeners; l; l = l->next)
        l->inlet = assignment_of(assignments, n, l->listen_id)->inlet;
    for (size_t i = 0; i < n; i++)
        if (assignments[i].fd >= 0) {
            open_listener(p, &assignments[i]);
            assignments[i].fd = -1;
        }
    task_wake(&p->task); /* the limits have changed, and there may be room now */
}

void worker_thread_drain(struct worker_thread *p, struct worker_order *order)
{
    for (size_t i = 0; i < order->nlisten_ids; i++)
        leave_address(p, order->listen_ids[i]);
    if (!order->nlisten_ids && !p->worker.mail.draining) {
        close_listeners(p, LISTENER_REST);
        begin_drain(p);
        task_wake(&p->task);
    }
}

void worker_thread_retire(struct worker_thread *p, struct worker_order *order)
{
    if (p->leaving)
        return;
    close_listeners(p, LISTENER_HANDED_ON);
    p->leaving = true;
    p->drain_at = loop_now(p->worker.mail.loop) + p->worker.generation->conf->timeouts.drain;
    task_wake(&p->task);
}

void worker_thread_stop(struct worker_thread *p, struct worker_order *order)
{
    close_listeners(p, LISTENER_GONE);
    p->cut_off = guests(p) > 0;
    p->leaving = p->worker.mail.draining = p->stopped = true;
    loop_stop(p->worker.mail.loop);
}

static struct status_backend *backend_row(struct worker_status *s, struct str name)
{
    static _Thread_local struct status_backend none; /* there are too many */
    size_t i = 0;
    while (i < s->nbackends && !str_equal(str_of(s->backends[i].name), str_part(name, 0, sizeof none.name - 1)))
        i++;
    if (i == countof(s->backends))
        return &none;
    if (i == s->nbackends)
        snprintf(s->backends[s->nbackends++].name, sizeof none.name, "%.*s", STR_ARGS(name));
    return &s->backends[i];
}

static void tell_servers(struct worker_status *s, const struct pool *pool)
{
    for (size_t i = 0; i < pool->conf->nservers && s->nservers < countof(s->servers); i++) {
        const struct pooled_server *at = &pool->servers[i];
        struct status_server one = {.up = atomic_load(&at->server->up),
                                    .checked = atomic_load(&at->server->checked),
                                    .connections = atomic_load(&at->server->connections),
                                    .in_use = server_in_use(at->server)};
        server_why(at->server, one.why, sizeof one.why);
        snprintf(one.backend, sizeof one.backend, "%.*s", STR_ARGS(pool->conf->hop.name));
        snprintf(one.address, sizeof one.address, "%.*s", STR_ARGS(at->conf->address.text));
        s->servers[s->nservers++] = one;
    }
}

static void count_listen_id(void *data, uint32_t listen_id)
{
    struct worker_status *s = data;
    size_t d = 0;
    while (d < s->nlisten_ids && s->listen_ids[d].listen_id != listen_id)
        d++;
    if (d == s->nlisten_ids && d < countof(s->listen_ids))
        s->listen_ids[s->nlisten_ids++].listen_id = listen_id;
    if (d < countof(s->listen_ids))
        s->listen_ids[d].sessions++;
}

/* Called under the lock: adds the numbers of this worker to the status. */
void worker_thread_tell(struct worker_thread *p, struct worker_order *order)
{
    struct worker_status *s = order->status;
    s->workers++;
    s->sessions += p->worker.nsessions;
    s->paused += p->paused;
    const struct smtp_conf *conf = p->worker.generation->conf;
    for (size_t i = 0; i < conf->nbackends; i++) {
        const struct pool *pool = p->worker.generation->pools[i];
        if (pool)
            backend_row(s, conf->backends[i].hop.name)->idle += pool->nidle;
        if (pool && s->workers == 1) /* the first worker that answers */
            tell_servers(s, pool);
    }
    for (const struct session *one = p->worker.sessions; one; one = one->next) {
        size_t g = 0;
        if (one->delivery.backend)
            backend_row(s, one->delivery.backend->conf->hop.name)->busy++;
        while (g < s->ngenerations && s->generations[g].generation != one->generation->conf->generation)
            g++;
        if (g == s->ngenerations && g < countof(s->generations))
            s->generations[s->ngenerations++].generation = one->generation->conf->generation;
        if (g < countof(s->generations))
            s->generations[g].sessions++;
        count_listen_id(s, one->listen_id);
    }
    milter_count(&p->milters, count_listen_id, s);
}

/* ---- the thread ---- */

static void open_post(struct worker_thread *p)
{
    struct worker *w = &p->worker;
    w->mail.loop = loop_open();
    p->milters.mail = &w->mail;
    w->connections = p->all->connections;
    w->descriptors = p->all->descriptors;
    w->mail.serial = ((uint64_t)w->mail.number + 1) << 48; /* so that serials of two workers never collide */
    task_start(&p->task, w->mail.loop, turn);
    p->next_tick = loop_now(w->mail.loop) + TICK;
    loop_before_sleep(w->mail.loop, before_sleep, p);
}

static void close_post(struct worker_thread *p)
{
    struct worker *w = &p->worker;
    pthread_mutex_lock(&p->all->lock);
    p->ended = true;
    pthread_mutex_unlock(&p->all->lock);
    if (p->cut_off) {
        log_say(LOG_WARNING, "worker %u: %u sessions were cut off", w->mail.number, guests(p));
        return;
    }
    close_listeners(p, LISTENER_GONE);
    worker_close(w);
    alarm_stop(&p->alarm);
    task_forget(&p->task);
    loop_close(w->mail.loop);
    worker_forget(w);
    block_forget();
}

void *worker_thread_work(void *data)
{
    struct worker_thread *p = data;
    struct workers *all = p->all;
    open_post(p);
    pthread_mutex_lock(&all->lock);
    all->nready++;
    pthread_cond_signal(&all->ready);
    pthread_mutex_unlock(&all->lock);
    loop_run(p->worker.mail.loop);
    close_post(p);
    log_flush();
    __atomic_sub_fetch(&all->running, 1, __ATOMIC_ACQ_REL);
    all->on_end(all->on_end_data);
    return NULL;
}
