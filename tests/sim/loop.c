/* loop.c - proxy/net/loop.h and dns.h on a virtual clock: the same ready list, the same alarms, no kernel.
 *
 * As in proxy/net/loop.c each ready task has one turn a round, eight rounds go before the loop looks at the world
 * again, and alarms ring on a grain of 8 or 64 ms. What the contract allows and the real loop never does is done here:
 * an alarm may ring early. Posts and work on other threads are events. */
#include "clock.h"
#include "net/dns.h"

enum { ROUNDS = 8, FINE_MS = 8, COARSE_MS = 64, NEAR_MS = 1000, STANDS_STILL = 100000 };

struct job {
    struct event event;
    struct job *next, **link;
    struct loop *loop;
    void (*run)(void *), (*done)(void *);
    void *data;
};

struct loop {
    struct task *first, *last;
    size_t ready;
    struct alarm **alarms;
    uint32_t nalarms, alarms_room;
    struct job *jobs, *hooks;
    bool stopped;
    bool (*still)(void *);
    void *still_data;
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

static void drain(struct loop *l)
{
    for (int round = 0; round < ROUNDS && l->ready; round++)
        for (size_t n = l->ready; n && l->first; n--) {
            struct task *t = l->first;
            task_forget(t);
            t->run(t);
        }
    for (struct job *h = l->hooks; h; h = h->next)
        h->run(h->data);
}

/* ---- alarms: few, so a row will do */

static void take_out(struct loop *l, struct alarm *a)
{
    uint32_t i = a->index - 1;
    a->index = 0;
    l->alarms[i] = l->alarms[--l->nalarms];
    if (i < l->nalarms)
        l->alarms[i]->index = i + 1;
}

static void push(struct loop *l, struct alarm *a)
{
    if (l->nalarms == l->alarms_room) {
        l->alarms_room = l->alarms_room ? l->alarms_room * 2 : 64;
        l->alarms = must_grow(l->alarms, l->alarms_room * sizeof(struct alarm *));
    }
    a->armed = a->at;
    l->alarms[l->nalarms++] = a;
    a->index = l->nalarms;
}

void alarm_set(struct alarm *a, struct task *task, uint64_t at)
{
    a->task = task;
    a->at = at;
    if (!at || (a->index && at >= a->armed))
        return;
    if (a->index)
        take_out(task->loop, a);
    push(task->loop, a);
}

void alarm_stop(struct alarm *a)
{
    if (a->index)
        take_out(a->task->loop, a);
    a->at = 0;
}

static uint64_t next_ring(const struct loop *l)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < l->nalarms; i++)
        if (!at || l->alarms[i]->armed < at)
            at = l->alarms[i]->armed;
    if (!at)
        return 0;
    uint64_t grain = at <= sim_now() + NEAR_MS ? FINE_MS : COARSE_MS;
    return (at + grain - 1) / grain * grain;
}

static void ring(struct loop *l)
{
    uint64_t now = sim_now();
    for (uint32_t i = 0; i < l->nalarms;) {
        struct alarm *a = l->alarms[i];
        if (a->armed > now) {
            i++;
            continue;
        }
        take_out(l, a);
        if (a->at > now)
            push(l, a);
        if (a->at && (a->at <= now || sim_may(F_EARLY_ALARMS, 25)))
            task_wake(a->task);
    }
}

/* ---- other threads */

static void run_job(struct event *e)
{
    struct job *j = holder_of(e, struct job, event);
    *j->link = j->next;
    if (j->next)
        j->next->link = j->link;
    j->run(j->data);
    if (j->done)
        j->done(j->data);
    free(j);
}

void loop_work(struct loop *l, void (*run)(void *), void (*done)(void *), void *data)
{
    struct job *j = must_alloc(sizeof *j);
    *j = (struct job){.loop = l, .run = run, .done = done, .data = data, .next = l->jobs, .link = &l->jobs};
    if (j->next)
        j->next->link = &j->next;
    l->jobs = j;
    event_set(&j->event, sim_random(20), run_job);
}

void loop_post(struct loop *l, void (*run)(void *), void *data)
{
    loop_work(l, run, NULL, data);
}

void loop_before_sleep(struct loop *l, void (*run)(void *), void *data)
{
    struct job *j = must_alloc(sizeof *j);
    *j = (struct job){.run = run, .data = data, .next = l->hooks};
    l->hooks = j;
}

/* ---- the loop */

void loop_when_still(struct loop *l, bool (*look)(void *), void *data)
{
    l->still = look;
    l->still_data = data;
}

struct loop *loop_open(void)
{
    return must_alloc(sizeof(struct loop));
}

/* The next moment: time moves to what is due first, an event of the world or an alarm. False: nothing is to come. */
static bool move(struct loop *l)
{
    uint64_t event = event_next(), alarm = next_ring(l);
    if (!event && !alarm)
        return false;
    if (alarm && (!event || alarm < event || (alarm == event && sim_chance(50)))) {
        clock_move(alarm);
        ring(l);
        return true;
    }
    do
        event_run(); /* several may be found by one poll */
    while (event_next() && event_next() <= sim_now() && sim_chance(50));
    return true;
}

void loop_run(struct loop *l)
{
    uint64_t since = sim_now();
    unsigned steps = 0;
    l->stopped = false;
    while (!l->stopped && !sim_violated()) {
        drain(l);
        if (l->stopped || sim_violated())
            return;
        if (!l->ready && l->still && l->still(l->still_data))
            continue;
        if (l->ready && !(event_next() && event_next() <= sim_now()))
            ; /* still awake: the clock stands, the poll finds nothing */
        else if (!move(l))
            sim_violation("time stands still: nothing is to come, and somebody waits");
        if (sim_now() != since)
            since = sim_now(), steps = 0;
        else if (++steps > STANDS_STILL)
            sim_violation("time stands still: the loop never sleeps");
    }
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}

void loop_close(struct loop *l)
{
    while (!sim_violated()) {
        drain(l);
        if (!l->ready && !event_next())
            break;
        if (event_next())
            event_run();
    }
    must(sim_violated() || !l->nalarms);
    for (struct job *h = l->hooks, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    free(l->alarms);
    free(l);
}

uint64_t loop_now(const struct loop *l)
{
    return sim_now();
}

uint64_t loop_micros(const struct loop *l)
{
    return sim_now() * 1000;
}

int64_t loop_wall(const struct loop *l)
{
    return 1700000000000000 + (int64_t)sim_now() * 1000;
}

/* ---- a resolver that knows nobody */

struct dns {
    struct loop *loop;
};
struct question {
    struct dns_query query; /* first */
    struct event event;
};

struct dns *dns_open(struct loop *l, const char *servers, char *error, size_t room)
{
    struct dns *d = must_alloc(sizeof *d);
    d->loop = l;
    return d;
}

void dns_close(struct dns **d)
{
    free(*d);
    *d = NULL;
}

static void answer(struct event *e)
{
    struct question *q = holder_of(e, struct question, event);
    q->query.done = true;
    if (q->query.task)
        task_wake(q->query.task);
}

struct dns_query *dns_ask(struct dns *d, const char *type, struct str name, unsigned ms, struct task *task)
{
    static const enum failure errors[] = {FAILURE_NXDOMAIN, FAILURE_NODATA, FAILURE_SERVFAIL, FAILURE_TIMEOUT};
    struct question *q = must_alloc(sizeof *q);
    size_t which = sim_random(countof(errors));
    q->query.task = task;
    q->query.error = errors[which];
    uint64_t in = sim_random(200);
    event_set(&q->event, which == 3 && sim_may(F_LONG_LAGS, 100) ? ms ? ms : 5000 : in, answer);
    return &q->query;
}

void dns_drop(struct dns_query **query)
{
    struct question *q = (struct question *)*query;
    *query = NULL;
    if (!q)
        return;
    event_stop(&q->event);
    arena_reset(&q->query.arena);
    free(q);
}
