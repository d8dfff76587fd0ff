/* loop.c - the ready list on uv_prepare, alarms on a heap with one timerfd, work on the pool, posts from other threads.
 *
 * Owns the libuv loop and the two blocks that all reads of a thread share. No uv_timer is ever armed here: while one
 * is, every epoll_wait carries a timeout, and that costs microseconds per round trip on an idle machine. */
#include "net/channel.h"
#include <errno.h>
#include <pthread.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 8, FINE_MS = 8, COARSE_MS = 64, NEAR_MS = 1000, HURRY_MS = 2500 };

struct loop_post {
    struct loop_post *next;
    void (*run)(void *);
    void *data;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_idle_t idle;
    uv_async_t async;
    uv_poll_t tick;
    int timerfd;
    uint64_t tick_at; /* what the timerfd is set to; 0: nothing */
    struct task *first, *last;
    size_t ready;
    struct alarm **heap;
    uint32_t heaped, heap_room;
    pthread_mutex_t lock; /* of posts */
    struct loop_post *posts, **posts_end;
    struct loop_post *hooks; /* before_sleep */
    struct block *read, *plain;
    void *leaving;
    int64_t wall; /* of loop_set_wall, in microseconds: the offset to the system's clock; if it stands still, the time itself */
    bool wall_stands;
    uv_timer_t hurry; /* bounds loop_close; never armed before */
};

/* ---- tasks */

void task_start(struct task *t, struct loop *l, void (*run)(struct task *))
{
    *t = (struct task){.loop = l, .run = run};
}

void task_wake(struct task *t)
{
    if (t->queued)
        return;
    struct loop *l = t->loop;
    t->queued = true;
    t->next = NULL;
    if (l->last)
        l->last->next = t;
    else
        l->first = t;
    l->last = t;
    l->ready++;
}

static struct task *take_ready(struct loop *l)
{
    struct task *t = l->first;
    l->first = t->next;
    if (!l->first)
        l->last = NULL;
    l->ready--;
    t->queued = false;
    return t;
}

void task_forget(struct task *t)
{
    if (!t->queued)
        return;
    struct loop *l = t->loop;
    struct task *before = NULL;
    for (struct task *at = l->first; at != t; at = at->next)
        before = at;
    if (before)
        before->next = t->next;
    else
        l->first = t->next;
    if (l->last == t)
        l->last = before;
    l->ready--;
    t->queued = false;
}

static void keep_awake(uv_idle_t *handle)
{
    (void)handle; /* while an idle handle is active, polling does not wait */
}

/* Runs each of the `n` tasks that are ready once; tasks woken meanwhile are queued after them for the next round. */
static void drain(uv_prepare_t *handle)
{
    struct loop *l = handle->data;
    for (int round = 0; round < ROUNDS && l->ready; round++)
        for (size_t n = l->ready; n && l->first; n--) {
            struct task *t = take_ready(l);
            t->run(t);
        }
    for (struct loop_post *h = l->hooks; h; h = h->next)
        h->run(h->data);
    bool awake = uv_is_active((uv_handle_t *)&l->idle);
    if (l->ready && !awake)
        uv_idle_start(&l->idle, keep_awake);
    else if (!l->ready && awake)
        uv_idle_stop(&l->idle);
}

/* ---- alarms */

static void stand(struct loop *l, uint32_t i, struct alarm *a)
{
    l->heap[i] = a;
    a->index = i + 1;
}

static void sift_up(struct loop *l, uint32_t i, struct alarm *a)
{
    for (; i && l->heap[(i - 1) / 2]->armed > a->armed; i = (i - 1) / 2)
        stand(l, i, l->heap[(i - 1) / 2]);
    stand(l, i, a);
}

static void sift_down(struct loop *l, uint32_t i, struct alarm *a)
{
    for (uint32_t child; (child = 2 * i + 1) < l->heaped; i = child) {
        if (child + 1 < l->heaped && l->heap[child + 1]->armed < l->heap[child]->armed)
            child++;
        if (l->heap[child]->armed >= a->armed)
            break;
        stand(l, i, l->heap[child]);
    }
    stand(l, i, a);
}

static void push(struct loop *l, struct alarm *a)
{
    if (l->heaped == l->heap_room) {
        l->heap_room = l->heap_room ? l->heap_room * 2 : 64;
        l->heap = must_grow(l->heap, l->heap_room * sizeof *l->heap);
    }
    a->armed = a->at;
    sift_up(l, l->heaped++, a);
}

static void take_out(struct loop *l, struct alarm *a)
{
    uint32_t i = a->index - 1;
    a->index = 0;
    struct alarm *moved = l->heap[--l->heaped];
    if (moved == a)
        return;
    if (i && l->heap[(i - 1) / 2]->armed > moved->armed)
        sift_up(l, i, moved);
    else
        sift_down(l, i, moved);
}

/* Rounds the time up, so that close alarms share one timer event, within the limits that loop.h states. */
static void arm_tick(struct loop *l)
{
    if (!l->heaped)
        return;
    uint64_t at = l->heap[0]->armed, now = loop_now(l);
    uint64_t grain = at <= now + NEAR_MS ? FINE_MS : COARSE_MS;
    at = (at + grain - 1) / grain * grain;
    if (l->tick_at && l->tick_at <= at)
        return;
    l->tick_at = at;
    struct itimerspec when = {.it_value = {(time_t)(at / 1000), (long)(at % 1000) * 1000000}};
    must(timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

static void ring(uv_poll_t *handle, int status, int events)
{
    struct loop *l = handle->data;
    uint64_t times;
    if (read(l->timerfd, &times, sizeof times) < 0)
        return;
    l->tick_at = 0;
    uint64_t now = loop_now(l);
    while (l->heaped && l->heap[0]->armed <= now) {
        struct alarm *a = l->heap[0];
        take_out(l, a);
        if (a->at > now)
            push(l, a); /* it was moved later meanwhile */
        else if (a->at)
            task_wake(a->task);
    }
    arm_tick(l);
}

void alarm_set(struct alarm *a, struct task *task, uint64_t at)
{
    struct loop *l = task->loop;
    a->task = task;
    a->at = at;
    if (!at || (a->index && at >= a->armed))
        return;
    if (a->index)
        take_out(l, a);
    push(l, a);
    if (l->heap[0] == a)
        arm_tick(l);
}

void alarm_stop(struct alarm *a)
{
    if (a->index)
        take_out(a->task->loop, a);
    a->at = 0;
}

/* ---- other threads */

static void run_posts(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct loop_post *p = l->posts;
    l->posts = NULL;
    l->posts_end = &l->posts;
    pthread_mutex_unlock(&l->lock);
    for (struct loop_post *next; p; p = next) {
        next = p->next;
        p->run(p->data);
        free(p);
    }
}

static void hear(uv_async_t *handle)
{
    run_posts(handle->data);
}

void loop_post(struct loop *l, void (*run)(void *), void *data)
{
    struct loop_post *p = must_alloc(sizeof *p);
    *p = (struct loop_post){NULL, run, data};
    pthread_mutex_lock(&l->lock);
    *l->posts_end = p;
    l->posts_end = &p->next;
    pthread_mutex_unlock(&l->lock);
    uv_async_send(&l->async);
}

struct loop_work {
    uv_work_t request;
    void (*run)(void *), (*done)(void *);
    void *data;
};

static void run_work(uv_work_t *request)
{
    struct loop_work *w = request->data;
    w->run(w->data);
}

static void end_work(uv_work_t *request, int status)
{
    struct loop_work *w = request->data;
    if (w->done)
        w->done(w->data);
    free(w);
}

void loop_work(struct loop *l, void (*run)(void *), void (*done)(void *), void *data)
{
    struct loop_work *w = must_alloc(sizeof *w);
    *w = (struct loop_work){.request.data = w, .run = run, .done = done, .data = data};
    must(uv_queue_work(&l->uv, &w->request, run_work, end_work) == 0);
}

void loop_before_sleep(struct loop *l, void (*run)(void *), void *data)
{
    struct loop_post *h = must_alloc(sizeof *h), **end = &l->hooks;
    *h = (struct loop_post){NULL, run, data};
    while (*end)
        end = &(*end)->next;
    *end = h;
}

/* ---- the loop */

struct loop *loop_open(void)
{
    struct loop *l = must_alloc(sizeof *l);
    must(uv_loop_init(&l->uv) == 0);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_idle_init(&l->uv, &l->idle);
    must(uv_async_init(&l->uv, &l->async, hear) == 0);
    l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    must(l->timerfd >= 0);
    must(uv_poll_init(&l->uv, &l->tick, l->timerfd) == 0);
    l->prepare.data = l->idle.data = l->async.data = l->tick.data = l;
    uv_poll_start(&l->tick, UV_READABLE, ring);
    uv_prepare_start(&l->prepare, drain);
    pthread_mutex_init(&l->lock, NULL);
    l->posts_end = &l->posts;
    l->read = block_take(BLOCK_READ);
    l->plain = block_take(BLOCK_READ);
    return l;
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

static void hurry(uv_timer_t *timer)
{
    leave_hurry(timer->data);
}

/* Limits the closing of the loop to the time that lingering streams may take. */
static void run_out(struct loop *l)
{
    uv_timer_init(&l->uv, &l->hurry);
    l->hurry.data = l;
    uv_update_time(&l->uv);
    uv_timer_start(&l->hurry, hurry, HURRY_MS, HURRY_MS);
    while (l->leaving)
        uv_run(&l->uv, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&l->hurry, NULL);
}

void loop_close(struct loop *l)
{
    run_out(l);
    run_posts(l);
    uv_close((uv_handle_t *)&l->tick, NULL);
    uv_close((uv_handle_t *)&l->async, NULL);
    uv_run(&l->uv, UV_RUN_NOWAIT);
    /* Work still on the pool may wake tasks: the ready list is the last to go. */
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->idle);
    do {
        uv_run(&l->uv, UV_RUN_DEFAULT);
        drain(&l->prepare);
    } while (l->ready || uv_loop_alive(&l->uv));
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->prepare, NULL);
    while (uv_loop_alive(&l->uv)) /* the last tasks may have asked it to stop */
        uv_run(&l->uv, UV_RUN_DEFAULT);
    must(uv_loop_close(&l->uv) == 0);
    close(l->timerfd);
    pthread_mutex_destroy(&l->lock);
    for (struct loop_post *h = l->hooks, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    for (struct loop_post *p = l->posts, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    block_drop(l->read);
    block_drop(l->plain);
    free(l->heap);
    free(l);
}

uint64_t loop_now(const struct loop *l)
{
    uint64_t now = uv_now(&l->uv);
    return now ? now : 1;
}

uint64_t loop_micros(const struct loop *l)
{
    return uv_hrtime() / 1000;
}

int64_t loop_wall(const struct loop *l)
{
    struct timespec now;
    if (l->wall_stands)
        return l->wall;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + l->wall;
}

void loop_set_wall(struct loop *l, int64_t wall, bool stands)
{
    l->wall_stands = false;
    l->wall = 0;
    l->wall = stands ? wall : wall - loop_wall(l);
    l->wall_stands = stands;
}

/* ---- for net/ only */

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

struct block *loop_read_block(struct loop *l)
{
    return l->read;
}

struct block *loop_plain_block(struct loop *l)
{
    return l->plain;
}

/* Copies few octets, since handing over the block would keep 64 KiB in use for them; hands it over when most of it is filled. */
static void give(struct block **b, struct pipe *p, size_t n)
{
    if (n <= BLOCK_READ / 2) {
        pipe_copy(p, (*b)->octets, n);
        return;
    }
    (*b)->used = (uint32_t)n;
    pipe_view(p, *b, (*b)->octets, n);
    block_drop(*b);
    *b = block_take(BLOCK_READ);
}

void loop_give_read(struct loop *l, struct pipe *p, size_t n)
{
    give(&l->read, p, n);
}

void loop_give_plain(struct loop *l, struct pipe *p, size_t n)
{
    give(&l->plain, p, n);
}

void **loop_leaving(struct loop *l)
{
    return &l->leaving;
}
