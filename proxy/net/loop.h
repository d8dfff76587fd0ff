/* loop.h - the event loop of a thread: tasks, alarms, work on pool threads, calls posted by other threads, and the clock.
 *
 * A callback of libuv only stores its result and wakes a task. Tasks run from one place (uv_prepare: after polling and before sleeping),
 * each at most once a round; a task that is woken while it runs runs once more. After 8 rounds without a poll, sockets are polled
 * without waiting before more tasks run. */
#ifndef NET_LOOP_H
#define NET_LOOP_H
#include "base/pipe.h"

struct loop;
struct loop *loop_open(void);
void loop_run(struct loop *);   /* until loop_stop; SIGPIPE must be ignored by then */
void loop_stop(struct loop *);  /* from its own thread */
void loop_close(struct loop *); /* streams, listeners and alarms must be closed or closing; runs until their closing has ended */

uint64_t loop_now(const struct loop *);    /* monotonic milliseconds, read once a round; never 0 */
uint64_t loop_micros(const struct loop *); /* monotonic microseconds, read by each call */
int64_t loop_wall(const struct loop *);    /* microseconds since 1970, read by each call */
/* Sets the wall clock of this loop, in microseconds since 1970; it runs on from there, or stands still (stands): for `sluice try --now`. */
void loop_set_wall(struct loop *, int64_t wall, bool stands);

struct task {
    struct task *next;
    void (*run)(struct task *); /* may free the struct that contains the task, after task_forget if the task was woken again */
    struct loop *loop;
    bool queued;
};
void task_start(struct task *, struct loop *, void (*run)(struct task *));
void task_wake(struct task *);   /* from the loop's own thread */
void task_forget(struct task *); /* takes it off the ready list; to be called before the struct that contains it is freed */

/* An alarm wakes its task at a time. Setting it to a later time only stores the time; only an earlier time moves it in the heap. It may
 * wake the task too early, so the task compares the clock, but never later than 100 ms after `at` (10 ms when due within 1 s). All alarms
 * of a loop share one timerfd on a poll handle, because an armed libuv timer costs microseconds per round trip. */
struct alarm {
    uint64_t at;      /* as loop_now, in milliseconds; 0: not set */
    uint64_t armed;   /* private: the time by which it is sorted in the heap */
    uint32_t index;   /* private: its index in the heap, plus 1; 0: not in it */
    struct task *task;
};
void alarm_set(struct alarm *, struct task *, uint64_t at); /* at 0: no alarm */
void alarm_stop(struct alarm *);                            /* to be called before the struct that contains it is freed */

/* Calls run(data) on a pool thread, then done(data) on the loop. Cannot be cancelled. */
void loop_work(struct loop *, void (*run)(void *), void (*done)(void *), void *data);
/* To be called from any thread: calls run(data) on the loop's thread, soon. */
void loop_post(struct loop *, void (*run)(void *), void *data);
/* Registers run(data), called each round before the loop sleeps. */
void loop_before_sleep(struct loop *, void (*run)(void *), void *data);
#endif
