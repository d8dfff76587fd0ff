/* workers.c - manages all workers from main's thread: starts them, gives orders and waits for them, joins them.
 *
 * An order is reference-counted: main and each worker that has got it hold a reference, and the last one frees it. A worker whose loop has
 * ended gets no orders. */
#include "process/worker_thread.h"
#include "smtp/front/connections.h"
#include "base/fault.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    SPARE_DESCRIPTORS = 64, /* reserved for log, tables, scripts and loops */
    ORDER_SECONDS = 10
};

/* ---- orders ---- */

struct order_copy {
    struct worker_order *order;
    struct worker_thread *thread;
};

static void order_drop(struct workers *all, struct worker_order *o) /* under the lock */
{
    if (--o->holders)
        return;
    for (unsigned i = 0; o->assignments && i < all->n; i++) {
        for (size_t k = 0; k < o->nassignments[i]; k++)
            if (o->assignments[i][k].fd >= 0) /* of a worker that had ended */
                close(o->assignments[i][k].fd);
        free(o->assignments[i]);
    }
    free(o->assignments);
    free(o->nassignments);
    conf_drop(o->conf);
    free(o);
}

static void carry_out(void *data)
{
    struct order_copy e = *(struct order_copy *)data;
    struct workers *all = e.thread->all;
    free(data);
    if (!e.thread->ended && e.order->run != worker_thread_tell)
        e.order->run(e.thread, e.order);
    pthread_mutex_lock(&all->lock);
    if (!e.thread->ended && e.order->status)
        e.order->run(e.thread, e.order);
    e.order->left--;
    order_drop(all, e.order);
    pthread_cond_signal(&all->ready);
    pthread_mutex_unlock(&all->lock);
}

/* True: all workers have carried it out. */
static bool give(struct workers *all, struct worker_order *o)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ORDER_SECONDS;
    pthread_mutex_lock(&all->lock);
    o->holders = 1;
    for (unsigned i = 0; i < all->n; i++) {
        struct worker_thread *p = &all->threads[i];
        if (!p->started || p->ended)
            continue;
        struct order_copy *e = must_alloc(sizeof *e);
        *e = (struct order_copy){o, p};
        o->left++;
        o->holders++;
        loop_post(p->worker.mail.loop, carry_out, e);
    }
    while (o->left && pthread_cond_timedwait(&all->ready, &all->lock, &until) != ETIMEDOUT)
        ;
    bool done = o->left == 0;
    o->status = done ? o->status : NULL;
    order_drop(all, o);
    pthread_mutex_unlock(&all->lock);
    if (!done)
        log_say(LOG_ERROR, "a worker is busy since %d seconds", ORDER_SECONDS);
    return done;
}

static struct worker_order *order_new(void (*run)(struct worker_thread *, struct worker_order *))
{
    struct worker_order *o = must_alloc(sizeof *o);
    o->run = run;
    return o;
}

/* Distributes the sockets of a port: each worker gets duplicates, and each socket has at least one worker, since connections queued at a
 * socket without a listener would wait for ever. False: no descriptor for a duplicate (errno). */
static bool seats_of(struct workers *all, struct worker_order *o, const struct ports_plan *plan)
{
    o->assignments = must_alloc(all->n * sizeof *o->assignments);
    o->nassignments = must_alloc(all->n * sizeof *o->nassignments);
    for (unsigned w = 0; w < all->n; w++) {
        size_t most = 0;
        for (size_t i = 0; i < plan->nplaces; i++)
            most += plan->places[i].port->nfds;
        o->assignments[w] = must_alloc(max_size(most, 1) * sizeof **o->assignments);
        for (size_t i = 0; i < plan->nplaces; i++) {
            const struct port_place *place = &plan->places[i];
            const struct port *p = place->port;
            for (unsigned k = w % p->nfds; k < p->nfds; k += all->n) {
                int fd = p->open || fault_strikes(FAULT_FILE) ? -1 : fcntl(p->fds[k], F_DUPFD_CLOEXEC, 3);
                if (fd < 0 && !p->open)
                    return false;
                o->assignments[w][o->nassignments[w]++] = (struct assignment){.inlet = place->inlet, .listen_id = p->listen_id, .fd = fd};
            }
        }
    }
    return true;
}

struct worker_order *workers_prepare(struct workers *all, struct conf *conf, const struct ports_plan *plan, char *error,
                                     size_t room)
{
    struct worker_order *o = order_new(worker_thread_switch);
    o->conf = conf_hold(conf);
    o->holders = 1;
    if (seats_of(all, o, plan))
        return o;
    snprintf(error, room, "the workers cannot listen: %s", strerror(errno));
    pthread_mutex_lock(&all->lock);
    order_drop(all, o);
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

void workers_switch(struct workers *all, struct worker_order *o)
{
    give(all, o);
}

void workers_drain(struct workers *all)
{
    give(all, order_new(worker_thread_drain));
}

void workers_drain_listeners(struct workers *all, const uint32_t *listen_ids, size_t n)
{
    for (size_t batch; n; listen_ids += batch, n -= batch) {
        struct worker_order *o = order_new(worker_thread_drain);
        batch = min_size(n, countof(o->listen_ids));
        memcpy(o->listen_ids, listen_ids, batch * sizeof *listen_ids);
        o->nlisten_ids = batch;
        give(all, o);
    }
}

void workers_retire(struct workers *all)
{
    give(all, order_new(worker_thread_retire));
}

void workers_stop(struct workers *all)
{
    give(all, order_new(worker_thread_stop));
}

bool workers_status(struct workers *all, struct worker_status *status)
{
    struct worker_order *o = order_new(worker_thread_tell);
    *status = (struct worker_status){0};
    o->status = status;
    return give(all, o);
}

/* ---- the watchdog ---- */

static void answer_tick(void *data)
{
    struct worker_thread *p = data;
    __atomic_store_n(&p->ticked, __atomic_load_n(&p->all->ticks, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
}

bool workers_turn(struct workers *all)
{
    bool turned = true;
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < all->n; i++) {
        const struct worker_thread *p = &all->threads[i];
        turned = turned && (p->ended || __atomic_load_n(&p->ticked, __ATOMIC_ACQUIRE) == all->ticks);
    }
    if (turned) {
        __atomic_add_fetch(&all->ticks, 1, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < all->n; i++)
            if (!all->threads[i].ended)
                loop_post(all->threads[i].worker.mail.loop, answer_tick, &all->threads[i]);
    }
    pthread_mutex_unlock(&all->lock);
    return turned;
}

/* ---- from the start to the end ---- */

static size_t descriptors_of(const struct ports_plan *plan, unsigned n)
{
    struct rlimit files = {0};
    size_t spare = SPARE_DESCRIPTORS;
    for (size_t i = 0; i < plan->nplaces; i++)
        spare += plan->places[i].port->nfds + max_size(plan->places[i].port->nfds, n);
    getrlimit(RLIMIT_NOFILE, &files);
    size_t most = files.rlim_cur > spare + SPARE_DESCRIPTORS ? (size_t)files.rlim_cur - spare : SPARE_DESCRIPTORS;
    return max_size(most / n, 8);
}

struct workers *workers_start(struct conf *conf, const struct ports_plan *plan, void (*on_end)(void *), void *data)
{
    struct workers *all = must_alloc_lines(sizeof *all);
    unsigned started = 0;
    all->n = conf->smtp.workers;
    all->threads = must_alloc_lines(all->n * sizeof *all->threads);
    all->connections = connections_open();
    all->on_end = on_end;
    all->on_end_data = data;
    all->descriptors = descriptors_of(plan, all->n);
    size_t enough = all->descriptors * all->n * 4 / 5; /* the same formula as in worker.c */
    if (conf->smtp.limits.connections > enough)
        log_say(LOG_WARNING,
                "limits: connections = %u, but descriptors are enough for %zu (LimitNOFILE=, ulimit -n): more wait",
                conf->smtp.limits.connections, enough);
    pthread_mutex_init(&all->lock, NULL);
    pthread_condattr_t steady; /* CLOCK_MONOTONIC, so that setting the clock does not change a wait */
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&all->ready, &steady);
    pthread_condattr_destroy(&steady);
    for (; started < all->n; started++) {
        struct worker_thread *p = &all->threads[started];
        p->all = all;
        p->worker.mail.number = started;
        __atomic_add_fetch(&all->running, 1, __ATOMIC_ACQ_REL);
        int code = pthread_create(&p->thread, NULL, worker_thread_work, p);
        p->started = code == 0;
        if (p->started) {
            char name[16];
            snprintf(name, sizeof name, "worker %u", started % 10000);
            pthread_setname_np(p->thread, name);
        }
        if (code) {
            __atomic_sub_fetch(&all->running, 1, __ATOMIC_ACQ_REL);
            log_say(LOG_ERROR, "a thread cannot be started: %s", strerror(code));
            break;
        }
    }
    pthread_mutex_lock(&all->lock);
    while (all->nready < started)
        pthread_cond_wait(&all->ready, &all->lock);
    pthread_mutex_unlock(&all->lock);
    char error[200];
    struct worker_order *first = started == all->n ? workers_prepare(all, conf, plan, error, sizeof error) : NULL;
    if (started == all->n && !first)
        log_say(LOG_ERROR, "%s", error);
    if (!first) {
        workers_stop(all);
        workers_close(&all);
        return NULL;
    }
    workers_switch(all, first);
    return all;
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
        struct worker_thread *p = &all->threads[i];
        if (p->started)
            pthread_join(p->thread, NULL);
        clean = clean && !p->cut_off;
    }
    if (!clean)
        return false;
    connections_close(all->connections);
    pthread_mutex_destroy(&all->lock);
    pthread_cond_destroy(&all->ready);
    free(all->threads);
    free(all);
    return true;
}
