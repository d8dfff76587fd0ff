/* worker.c - threads and their loops: accepts, hands sessions to relay, refreshes tables, drains.
 *
 * Accepting pauses while there are as many sessions as allowed or descriptors run short: connections then wait in the
 * kernel's queue. (Two workers may take the last place at once; the census then turns one away.) Worker 0 looks at all
 * tables once a second, on a pool thread. Nothing here knows SMTP. */
#include "proxy/worker.h"
#include "relay/worker.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TICK = 1000,           /* milliseconds between two looks at the tables */
    PAUSED_TICK = 100,     /* and at whether accepting may go on */
    LAST_WORDS = 5000,     /* behind the grace of a drain, for sessions that wait for a backend's last reply */
    SPARE_DESCRIPTORS = 64 /* of the process: log, tables, scripts, loops */
};

struct ear { /* one bound address in one worker */
    struct post *post;
    const struct listen_conf *listen;
    struct listener *listener;
    int fd;
};
struct post { /* one worker, and what it needs around relay's struct */
    struct worker worker;
    struct workers *all;
    pthread_t thread;
    struct ear *ears;
    size_t nears;
    struct task task;
    struct alarm alarm;
    uint64_t next_tick;
    struct conf *refreshed; /* while refreshing: the pool thread's */
    uint64_t end_by; /* 0: not draining */
    bool paused, refreshing, stopped, cut_off, started;
    bool ended;        /* under the lock: the loop may be gone */
    uint32_t sessions; /* for the other workers to read */
};
struct workers {
    struct conf *conf;
    struct census *census;
    struct post *posts;
    unsigned n;
    size_t descriptors; /* of one worker */
    void (*on_end)(void *);
    void *on_end_data;
    unsigned running; /* atomic */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    unsigned nready;
    char error[256]; /* of the first thread that failed to start */
};

/* ---- binding ---- */

static uint16_t port_of(int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
        return 0;
    return ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                            : ((struct sockaddr_in *)&name)->sin_port);
}

static void set_port(struct address *a, uint16_t port)
{
    a->port = port;
    if (a->name.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a->name)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&a->name)->sin_port = htons(port);
}

/* "[::]:25" of ":25" on a machine without IPv6: 0.0.0.0 is enough then. */
static bool is_dispensable(const struct listen_conf *l, size_t i)
{
    const struct address *a = &l->addresses[i], *b = a + 1;
    return i + 1 < l->naddresses && a->name.ss_family == AF_INET6 && b->name.ss_family == AF_INET &&
           a->port == b->port && IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->name)->sin6_addr) &&
           ((const struct sockaddr_in *)&b->name)->sin_addr.s_addr == INADDR_ANY &&
           (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL);
}

static void ear_add(struct post *p, const struct listen_conf *l, int fd)
{
    p->ears = must_grow(p->ears, (p->nears + 1) * sizeof *p->ears);
    p->ears[p->nears++] = (struct ear){.post = p, .listen = l, .fd = fd};
}

static bool bind_one(struct workers *all, const struct listen_conf *l, size_t i, char *error, size_t room)
{
    struct address a = l->addresses[i];
    struct arena arena = {0};
    bool local = a.name.ss_family == AF_UNIX;
    int first = -1;
    for (unsigned w = 0; w < all->n; w++) {
        int fd = local && w ? fcntl(first, F_DUPFD_CLOEXEC, 3) : listener_bind(&a, true, error, room);
        if (fd < 0 && !w && is_dispensable(l, i)) {
            log_say(LOG_WARNING, "listen \"%.*s\": %s; IPv4 only", STR_ARGS(l->name), error);
            return true;
        }
        if (fd < 0)
            return false;
        if (!w)
            first = fd;
        if (!local && !a.port) /* any port: the same one for all workers */
            set_port(&a, port_of(fd));
        ear_add(&all->posts[w], l, fd);
    }
    struct address shown = local ? a : address_of((struct sockaddr *)&a.name, a.len, &arena);
    log_say(LOG_INFO, "listen \"%.*s\" at %.*s", STR_ARGS(l->name), STR_ARGS(shown.text));
    arena_reset(&arena);
    return true;
}

struct workers *workers_bind(struct conf *conf, char *error, size_t room)
{
    struct workers *all = must_alloc(sizeof *all);
    struct rlimit files = {0};
    all->conf = conf_hold(conf);
    all->n = conf->workers;
    all->posts = must_alloc(all->n * sizeof *all->posts);
    all->census = census_open();
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->ready, NULL);
    getrlimit(RLIMIT_NOFILE, &files);
    size_t most =
        files.rlim_cur > SPARE_DESCRIPTORS * 2 ? (size_t)files.rlim_cur - SPARE_DESCRIPTORS : SPARE_DESCRIPTORS;
    all->descriptors = max_size(most / all->n, 8);
    for (unsigned i = 0; i < all->n; i++) {
        all->posts[i].all = all;
        all->posts[i].worker.number = i;
    }
    for (size_t i = 0; i < conf->nlistens; i++)
        for (size_t k = 0; k < conf->listens[i].naddresses; k++) {
            errno = 0;
            if (!bind_one(all, &conf->listens[i], k, error, room)) {
                workers_close(&all);
                return NULL;
            }
        }
    return all;
}

/* ---- a worker at work ---- */

static bool is_full(const struct post *p)
{
    uint64_t sessions = 0;
    for (unsigned i = 0; i < p->all->n; i++)
        sessions += __atomic_load_n(&p->all->posts[i].sessions, __ATOMIC_RELAXED);
    /* Each session may come to need a second connection. */
    return sessions >= p->worker.generation->conf->limits.connections ||
           stream_count() + p->worker.nsessions >= p->all->descriptors;
}

static void pause_all(struct post *p, bool paused)
{
    p->paused = paused;
    for (size_t i = 0; i < p->nears; i++)
        if (p->ears[i].listener)
            listener_pause(p->ears[i].listener, paused);
}

static void set_clock(struct post *p)
{
    uint64_t at = p->worker.number == 0 ? p->next_tick : 0;
    uint64_t now = loop_now(p->worker.loop);
    if (p->paused)
        at = at ? min_u64(at, now + PAUSED_TICK) : now + PAUSED_TICK;
    uint64_t end = p->end_by && now >= p->end_by ? now + PAUSED_TICK : p->end_by; /* a reply is still owed: look again */
    if (end)
        at = at ? min_u64(at, end) : end;
    alarm_set(&p->alarm, &p->task, at);
}

static void watch_room(struct post *p)
{
    if (p->sessions != p->worker.nsessions) /* the line of memory is shared */
        __atomic_store_n(&p->sessions, p->worker.nsessions, __ATOMIC_RELAXED);
    if (p->worker.draining)
        return;
    bool full = is_full(p);
    if (full == p->paused)
        return;
    if (full)
        log_rare(LOG_WARNING, "paused", "as many connections as allowed: new ones wait");
    pause_all(p, full);
    if (full)
        set_clock(p);
}

static void accepted(void *data, struct stream *stream)
{
    struct ear *ear = data;
    session_start(&ear->post->worker, ear->listen, stream);
    watch_room(ear->post);
}

static void refresh_run(void *data)
{
    struct conf *conf = ((struct post *)data)->refreshed;
    for (size_t i = 0; i < conf->ntables; i++)
        table_refresh(conf->tables[i]);
    log_flush(); /* of the pool's thread */
}

static void refresh_done(void *data)
{
    struct post *p = data;
    conf_drop(p->refreshed);
    p->refreshing = false;
    task_wake(&p->task); /* a drain may wait for us */
}

static void before_sleep(void *data)
{
    struct post *p = data;
    log_flush();
    if (p->ended)
        return;
    watch_room(p);
    if (p->worker.draining && p->worker.nsessions == 0 && !p->refreshing && !p->stopped)
        task_wake(&p->task);
}

static void close_ears(struct post *p)
{
    for (size_t i = 0; i < p->nears; i++)
        if (p->ears[i].listener)
            listener_close(&p->ears[i].listener);
}

static void turn(struct task *task)
{
    struct post *p = holder_of(task, struct post, task);
    uint64_t now = loop_now(p->worker.loop);
    watch_room(p);
    if (p->worker.number == 0 && now >= p->next_tick) {
        p->next_tick = now + TICK;
        if (!p->refreshing && p->worker.generation->conf->ntables) {
            p->refreshing = true;
            p->refreshed = conf_hold(p->worker.generation->conf);
            loop_work(p->worker.loop, refresh_run, refresh_done, p);
        }
    }
    bool over = p->worker.draining && p->worker.nsessions == 0 && !p->refreshing;
    p->cut_off = p->end_by && now >= p->end_by && p->worker.nsessions && !worker_owes_a_reply(&p->worker);
    if (over || p->cut_off) {
        p->stopped = true;
        loop_stop(p->worker.loop);
        return;
    }
    set_clock(p);
}

static void drain(void *data)
{
    struct post *p = data;
    if (p->worker.draining)
        return;
    uint64_t by = loop_now(p->worker.loop) + p->worker.generation->conf->timeouts.drain;
    close_ears(p);
    p->end_by = by + LAST_WORDS;
    worker_drain(&p->worker, by);
    p->worker.draining = true;
    task_wake(&p->task);
}

static void stop(void *data)
{
    struct post *p = data;
    close_ears(p);
    p->cut_off = p->worker.nsessions > 0;
    p->worker.draining = p->stopped = true;
    loop_stop(p->worker.loop);
}

static bool open_worker(struct post *p, char *error, size_t room)
{
    struct worker *w = &p->worker;
    struct conf *conf = p->all->conf;
    w->loop = loop_open();
    w->dns = dns_open(w->loop, conf->dns.at, error, room);
    if (!w->dns)
        return false;
    w->census = p->all->census;
    w->serial = ((uint64_t)w->number + 1) << 48; /* no two workers give the same */
    task_start(&p->task, w->loop, turn);
    p->next_tick = loop_now(w->loop) + TICK;
    loop_before_sleep(w->loop, before_sleep, p);
    worker_switch(w, conf);
    for (size_t i = 0; i < p->nears; i++) {
        p->ears[i].listener = listener_open(w->loop, p->ears[i].fd, accepted, &p->ears[i]);
        p->ears[i].fd = -1;
    }
    set_clock(p);
    return true;
}

static void close_worker(struct post *p)
{
    struct worker *w = &p->worker;
    pthread_mutex_lock(&p->all->lock);
    p->ended = true;
    pthread_mutex_unlock(&p->all->lock);
    if (p->cut_off) {
        log_say(LOG_WARNING, "worker %u: %u sessions were cut off", w->number, w->nsessions);
        return;
    }
    worker_close(w);
    close_ears(p);
    alarm_stop(&p->alarm);
    task_forget(&p->task);
    dns_close(&w->dns);
    loop_close(w->loop);
    worker_forget(w);
    block_forget();
}

static void tell_ready(struct workers *all, const char *error)
{
    pthread_mutex_lock(&all->lock);
    all->nready++;
    if (error && !*all->error)
        snprintf(all->error, sizeof all->error, "%s", error);
    pthread_cond_signal(&all->ready);
    pthread_mutex_unlock(&all->lock);
}

static void *work(void *data)
{
    struct post *p = data;
    char error[256] = "";
    bool opened = open_worker(p, error, sizeof error);
    tell_ready(p->all, opened ? NULL : error);
    if (opened) {
        loop_run(p->worker.loop);
        close_worker(p);
    } else {
        loop_close(p->worker.loop);
    }
    log_flush();
    __atomic_sub_fetch(&p->all->running, 1, __ATOMIC_ACQ_REL);
    if (opened)
        p->all->on_end(p->all->on_end_data);
    return NULL;
}

/* ---- all of them, from main's thread ---- */

bool workers_start(struct workers *all, void (*on_end)(void *), void *data, char *error, size_t room)
{
    all->on_end = on_end;
    all->on_end_data = data;
    unsigned started = 0;
    for (; started < all->n; started++) {
        __atomic_add_fetch(&all->running, 1, __ATOMIC_ACQ_REL);
        int code = pthread_create(&all->posts[started].thread, NULL, work, &all->posts[started]);
        if (code) {
            __atomic_sub_fetch(&all->running, 1, __ATOMIC_ACQ_REL);
            snprintf(all->error, sizeof all->error, "a thread cannot be started: %s", strerror(code));
            break;
        }
        all->posts[started].started = true;
    }
    pthread_mutex_lock(&all->lock);
    while (all->nready < started)
        pthread_cond_wait(&all->ready, &all->lock);
    pthread_mutex_unlock(&all->lock);
    if (*all->error)
        snprintf(error, room, "%s", all->error);
    return !*all->error;
}

static void post_all(struct workers *all, void (*run)(void *))
{
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < all->n; i++)
        if (all->posts[i].started && !all->posts[i].ended)
            loop_post(all->posts[i].worker.loop, run, &all->posts[i]);
    pthread_mutex_unlock(&all->lock);
}

void workers_drain(struct workers *all)
{
    post_all(all, drain);
}

void workers_stop(struct workers *all)
{
    post_all(all, stop);
}

bool workers_ended(struct workers *all)
{
    return __atomic_load_n(&all->running, __ATOMIC_ACQUIRE) == 0;
}

bool workers_close(struct workers **at)
{
    struct workers *all = *at;
    bool clean = true;
    *at = NULL;
    for (unsigned i = 0; i < all->n; i++) {
        struct post *p = &all->posts[i];
        if (p->started)
            pthread_join(p->thread, NULL);
        clean = clean && !p->cut_off;
    }
    if (!clean)
        return false;
    for (unsigned i = 0; i < all->n; i++) {
        for (size_t k = 0; k < all->posts[i].nears; k++)
            if (all->posts[i].ears[k].fd >= 0 && !all->posts[i].started)
                close(all->posts[i].ears[k].fd);
        free(all->posts[i].ears);
    }
    census_close(all->census);
    pthread_mutex_destroy(&all->lock);
    pthread_cond_destroy(&all->ready);
    conf_drop(all->conf);
    free(all->posts);
    free(all);
    return true;
}
