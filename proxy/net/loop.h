/* loop.h - one thread's loop: tasks that are ready, alarms, work on other threads, posts from them. The only clock.
 *
 * Nothing calls back into the middle: a callback of the kernel stores its result, wakes a task, leaves. Tasks are run from
 * one place (uv_prepare: after poll, timers and pending, before sleep), each once a round; a wake during a task's own run means
 * one more run; after 8 rounds a uv_idle keeps the poll at 0 until nothing is ready. */
#ifndef NET_LOOP_H
#define NET_LOOP_H
#include "base/pipe.h"

struct loop;
struct loop *loop_open(void);
void loop_run(struct loop *);   /* until loop_stop; SIGPIPE must be ignored by then */
void loop_stop(struct loop *);  /* from its own thread */
void loop_close(struct loop *); /* all streams, listeners, alarms must be gone or closing; runs out what is closing */

uint64_t loop_now(const struct loop *);    /* monotonic milliseconds, of this round; never 0 */
uint64_t loop_micros(const struct loop *); /* monotonic microseconds, read anew */
int64_t loop_wall(const struct loop *);    /* microseconds since 1970, read anew */
/* From here on its wall clock is at `wall` and goes on from there, or stands still: for who tries a message at another time. */
void loop_set_wall(struct loop *, int64_t wall, bool stands);

struct task {
    struct task *next;
    void (*run)(struct task *); /* may free the task's holder, but only if it was taken out by task_forget first or is running */
    struct loop *loop;
    bool queued;
};
void task_start(struct task *, struct loop *, void (*run)(struct task *));
void task_wake(struct task *);   /* from the loop's own thread */
void task_forget(struct task *); /* takes it off the ready list; call before freeing its holder */

/* An alarm wakes its task. Lazy: moving it later touches nothing but the field; only an earlier one moves in the heap. It may
 * ring early (the task looks at the clock) but never later than 100 ms after `at` (10 ms when due within 1 s). All alarms of
 * a loop share one timerfd on a poll handle, because an armed libuv timer costs microseconds per round trip. */
struct alarm {
    uint64_t at;      /* wanted, loop_now milliseconds; 0: none */
    uint64_t armed;   /* private: where it stands in the heap */
    uint32_t index;   /* private: in the heap, + 1; 0: not in it */
    struct task *task;
};
void alarm_set(struct alarm *, struct task *, uint64_t at); /* at 0: none */
void alarm_stop(struct alarm *);                            /* takes it out of the heap; call before freeing its holder */

/* run(data) on a pool thread, then done(data) on the loop. Cannot be called off. */
void loop_work(struct loop *, void (*run)(void *), void (*done)(void *), void *data);
/* From any thread: run(data) on the loop, soon. */
void loop_post(struct loop *, void (*run)(void *), void *data);
/* run(data) before the loop sleeps, each round. */
void loop_before_sleep(struct loop *, void (*run)(void *), void *data);
#endif
