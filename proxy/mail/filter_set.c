/* filter_set.c - the filters of one configuration in one worker, from the first START to STOP; calls that belong to no visit. */
#include "mail/call.h"

void filter_set_open(struct filter_set *set, struct mail_worker *worker, const struct mail_conf *conf, struct task *owner)
{
    *set = (struct filter_set){.worker = worker, .conf = conf, .owner = owner};
    set->memory = must_alloc(max_size(conf->nfilters, 1) * sizeof *set->memory);
}

void filter_set_free(struct filter_set *set)
{
    free(set->memory);
    set->memory = NULL;
}

void filter_set_enter(struct filter_set *set)
{
    set->users++;
}

void filter_set_leave(struct filter_set *set)
{
    must(set->users);
    if (--set->users == 0 && !set->current && set->owner)
        task_wake(set->owner);
}

/* ---- calls without a visit ------------------------------------------------------------------------------------------- */

struct solo { /* START once, TICK again and again */
    struct solo *next;
    struct task task;
    struct alarm alarm;
    struct filter_set *set;
    const struct filter *filter;
    struct filter_call *call;
    struct slot slot;
    unsigned id, seconds; /* 0: START */
};

static void solo_end(struct solo *solo, enum filter_verdict v)
{
    if (v == VERDICT_ERROR)
        log_say(LOG_ERROR, "filter %.*s failed at %s: %.*s", STR_ARGS(solo->filter->name), solo->seconds ? "tick" : "start",
                STR_ARGS(solo->call->verdict.why));
    call_close(solo->call);
    solo->call = NULL;
}

static void solo_turn(struct task *task)
{
    struct solo *solo = holder_of(task, struct solo, task);
    struct filter_set *set = solo->set;
    uint64_t now = loop_now(set->worker->loop);
    enum filter_verdict v = VERDICT_SUSPEND;
    bool due = !solo->seconds || (now >= solo->alarm.at && set->current); /* the new one ticks instead */
    if (!solo->call && due) {
        solo->call = call_open(set, NULL, solo->filter, &solo->slot, solo->seconds ? FILTER_TICK : FILTER_START);
        solo->call->task = task;
        solo->call->tick = solo->id;
        solo->call->deadline = now + solo->filter->timeout;
        v = solo->filter->def->hook(solo->call, solo->call->stage);
    }
    while (solo->call && v == VERDICT_SUSPEND && call_resume(solo->call, &v))
        ;
    if (solo->call && v == VERDICT_SUSPEND && (now >= solo->call->deadline || !call_has_ops(solo->call))) {
        if (solo->filter->def->cancel)
            solo->filter->def->cancel(solo->call, CANCEL_TIMEOUT);
        solo->call->verdict.why = STR("timeout");
        v = VERDICT_ERROR;
    }
    if (solo->call && v != VERDICT_SUSPEND)
        solo_end(solo, v);
    if (solo->call)
        alarm_set(&solo->alarm, task, min_u64(solo->call->deadline, call_clock(solo->call)));
    else if (solo->seconds && solo->alarm.at <= now && set->current)
        alarm_set(&solo->alarm, task, now + solo->seconds * 1000ull);
}

static void solo_start(struct filter_set *set, const struct filter *f, unsigned id, unsigned seconds)
{
    struct solo *solo = must_alloc(sizeof *solo);
    *solo = (struct solo){.next = set->solos, .set = set, .filter = f, .id = id, .seconds = seconds};
    set->solos = solo;
    task_start(&solo->task, set->worker->loop, solo_turn);
    if (seconds)
        alarm_set(&solo->alarm, &solo->task, loop_now(set->worker->loop) + seconds * 1000ull);
    else
        task_wake(&solo->task);
}

void filter_set_start(struct filter_set *set)
{
    for (size_t i = 0; i < set->conf->nfilters; i++) {
        const struct filter *f = set->conf->filters[i];
        if (f->stages & (1u << FILTER_START))
            solo_start(set, f, 0, 0);
        for (unsigned t = 0; t < f->nticks && set->worker->number == 0; t++)
            solo_start(set, f, f->ticks[t].id, f->ticks[t].seconds);
    }
}

static void solo_close(struct solo *solo)
{
    if (solo->call) {
        if (solo->filter->def->cancel)
            solo->filter->def->cancel(solo->call, CANCEL_SHUTDOWN);
        call_close(solo->call);
    }
    slot_close_streams(&solo->slot, LIFE_WORKER);
    alarm_stop(&solo->alarm);
    task_forget(&solo->task);
    free(solo);
}

void filter_set_stop(struct filter_set *set)
{
    while (set->solos) {
        struct solo *solo = set->solos;
        set->solos = solo->next;
        solo_close(solo);
    }
    for (size_t i = 0; i < set->conf->nfilters; i++) {
        const struct filter *f = set->conf->filters[i];
        if (!set->memory[i])
            continue;
        if (f->def->stop) {
            struct slot slot = {0};
            struct filter_call *call = call_open(set, NULL, f, &slot, FILTER_START);
            f->def->stop(call);
            call_close(call);
            slot_close_streams(&slot, LIFE_WORKER);
        }
        free(set->memory[i]);
        set->memory[i] = NULL;
    }
    set_close_streams(set);
    free(set->breakers);
    set->breakers = NULL;
}
