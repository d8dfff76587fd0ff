/* test_loop.c - tasks, alarms, posts, work. */
#include "world.h"

static unsigned order[4096], norder;

struct job {
    struct task task;
    unsigned number, runs, again;
    struct task *wakes;
};

static void run_job(struct task *t)
{
    struct job *j = holder_of(t, struct job, task);
    j->runs++;
    if (norder < countof(order))
        order[norder++] = j->number;
    if (j->again && j->again--)
        task_wake(t);
    if (j->wakes)
        task_wake(j->wakes);
}

static void a_task_woken_twice_runs_once(void **state)
{
    struct job j = {0};
    task_start(&j.task, W.loop, run_job);
    task_wake(&j.task);
    task_wake(&j.task);
    FOR_MS(20);
    assert_int_equal(j.runs, 1);
}

static void a_wake_in_its_own_run_means_one_more(void **state)
{
    struct job j = {.again = 3};
    task_start(&j.task, W.loop, run_job);
    task_wake(&j.task);
    UNTIL(j.runs == 4);
    FOR_MS(20);
    assert_int_equal(j.runs, 4);
}

static void a_busy_task_starves_no_socket(void **state)
{
    struct job j = {.again = 100000000};
    task_start(&j.task, W.loop, run_job);
    task_wake(&j.task);
    int fds[2];
    tcp_pair(fds);
    struct stream *s = stream_open(W.loop, fds[0], &W.task);
    assert_int_equal(write(fds[1], "x", 1), 1);
    UNTIL(s->in.octets == 1);
    unsigned before = j.runs;
    uv_run(loop_uv(W.loop), UV_RUN_ONCE);
    assert_int_equal(j.runs - before, 8);
    task_forget(&j.task);
    stream_close(&s, CLOSE_ABORT);
    close(fds[1]);
}

static void tasks_run_in_the_order_they_were_woken_and_forgotten_ones_do_not(void **state)
{
    struct job j[5] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    norder = 0;
    for (int i = 0; i < 5; i++) {
        task_start(&j[i].task, W.loop, run_job);
        task_wake(&j[i].task);
    }
    task_forget(&j[0].task);
    task_forget(&j[2].task);
    task_forget(&j[4].task);
    FOR_MS(20);
    assert_int_equal(norder, 2);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 3);
}

struct ringer {
    struct task task;
    struct alarm alarm;
    uint64_t rang;
    unsigned rings;
};

static void rang(struct task *t)
{
    struct ringer *r = holder_of(t, struct ringer, task);
    r->rang = millis();
    r->rings++;
}

static void alarms_ring_in_order_never_early_and_soon_after(void **state)
{
    enum { N = 200 };
    static struct ringer r[N];
    memset(r, 0, sizeof r);
    uint64_t now = loop_now(W.loop);
    for (unsigned i = 0; i < N; i++) {
        task_start(&r[i].task, W.loop, rang);
        alarm_set(&r[i].alarm, &r[i].task, now + 20 + (i * 7919) % 400);
    }
    for (unsigned i = 0; i < N; i += 10)
        alarm_stop(&r[i].alarm);
    FOR_MS(520);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(r[i].rings, i % 10 ? 1 : 0);
        if (!(i % 10))
            continue;
        uint64_t at = now + 20 + (i * 7919) % 400;
        assert_true(r[i].rang >= at - 1);
        assert_true(r[i].rang <= at + 60); /* 10 by promise; the rest is for a busy machine */
    }
}

static void an_alarm_moved_later_rings_once_and_later(void **state)
{
    struct ringer r = {0};
    task_start(&r.task, W.loop, rang);
    uint64_t now = loop_now(W.loop);
    alarm_set(&r.alarm, &r.task, now + 20);
    uint64_t armed = r.alarm.armed;
    alarm_set(&r.alarm, &r.task, now + 150);
    assert_int_equal(r.alarm.armed, armed); /* lazy: the heap was not touched */
    UNTIL(r.rings);
    assert_true(r.rang >= now + 149);
    FOR_MS(50);
    assert_int_equal(r.rings, 1);
}

static void an_alarm_moved_earlier_or_set_to_none_obeys(void **state)
{
    struct ringer a = {0}, b = {0};
    task_start(&a.task, W.loop, rang);
    task_start(&b.task, W.loop, rang);
    uint64_t now = loop_now(W.loop);
    alarm_set(&a.alarm, &a.task, now + 60000);
    alarm_set(&b.alarm, &b.task, now + 30);
    alarm_set(&a.alarm, &a.task, now + 40);
    alarm_set(&b.alarm, &b.task, 0);
    UNTIL(a.rings);
    assert_true(a.rang < now + 1000);
    FOR_MS(30);
    assert_int_equal(b.rings, 0);
    alarm_stop(&b.alarm);
}

/* A model next to the heap: after any series of moves the earliest is at the front, indexes are right. */
static void the_heap_survives_any_series_of_moves(void **state)
{
    enum { N = 300 };
    static struct ringer r[N];
    memset(r, 0, sizeof r);
    for (unsigned i = 0; i < N; i++)
        task_start(&r[i].task, W.loop, rang);
    srand(7);
    uint64_t now = loop_now(W.loop);
    for (int n = 0; n < 20000; n++) {
        struct ringer *x = &r[rand() % N];
        if (rand() % 4 == 0)
            alarm_stop(&x->alarm);
        else
            alarm_set(&x->alarm, &x->task, now + 1 + (uint64_t)(rand() % 200));
    }
    unsigned set = 0, rings = 0;
    for (unsigned i = 0; i < N; i++)
        set += r[i].alarm.index != 0;
    FOR_MS(350);
    for (unsigned i = 0; i < N; i++) {
        rings += r[i].rings;
        assert_int_equal(r[i].alarm.index, 0);
    }
    assert_int_equal(rings, set);
}

static _Atomic unsigned posted;
static void count_post(void *data)
{
    posted += (unsigned)(uintptr_t)data;
}
static void *post_many(void *loop)
{
    for (int i = 0; i < 1000; i++)
        loop_post(loop, count_post, (void *)1);
    return NULL;
}

static void posts_of_many_threads_all_arrive(void **state)
{
    pthread_t threads[4];
    posted = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, post_many, W.loop);
    UNTIL(posted == 4000);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static pthread_t worked_by;
static bool work_done;
static void work(void *data)
{
    worked_by = pthread_self();
}
static void done(void *data)
{
    assert_ptr_equal(data, &work_done);
    work_done = true;
}

static void work_runs_elsewhere_and_is_done_here(void **state)
{
    work_done = false;
    loop_work(W.loop, work, done, &work_done);
    assert_false(work_done);
    UNTIL(work_done);
    assert_false(pthread_equal(worked_by, pthread_self()));
}

static void closing_waits_for_work(void **state)
{
    struct loop *l = loop_open();
    work_done = false;
    loop_work(l, work, done, &work_done);
    loop_close(l);
    assert_true(work_done);
}

static unsigned sleeps;
static void stop(struct task *t)
{
    loop_stop(t->loop);
}

static void wake_it(void *task)
{
    task_wake(task);
}

static void nap(void *data)
{
    usleep(30000);
}

static void it_closes_though_work_that_was_under_way_has_it_stop(void **state)
{
    struct loop *l = loop_open();
    struct task t;
    task_start(&t, l, stop);
    loop_work(l, nap, wake_it, &t);
    loop_close(l);
}

static void about_to_sleep(void *loop)
{
    if (++sleeps == 5)
        loop_stop(loop);
}

static void the_hook_runs_before_each_sleep_and_stop_ends_the_run(void **state)
{
    sleeps = 0;
    struct job j = {.again = 100};
    task_start(&j.task, W.loop, run_job);
    task_wake(&j.task);
    loop_before_sleep(W.loop, about_to_sleep, W.loop);
    loop_run(W.loop);
    assert_int_equal(sleeps, 5);
    task_forget(&j.task);
}

static void *live(void *data)
{
    struct loop *l = loop_open();
    struct task task;
    struct alarm alarm = {0};
    task_start(&task, l, stop);
    alarm_set(&alarm, &task, loop_now(l) + 20);
    loop_run(l);
    loop_close(l);
    block_forget();
    return NULL;
}

static void many_loops_live_in_many_threads(void **state)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, live, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(a_task_woken_twice_runs_once),
        CLAIM(a_wake_in_its_own_run_means_one_more),
        CLAIM(a_busy_task_starves_no_socket),
        CLAIM(tasks_run_in_the_order_they_were_woken_and_forgotten_ones_do_not),
        CLAIM(alarms_ring_in_order_never_early_and_soon_after),
        CLAIM(an_alarm_moved_later_rings_once_and_later),
        CLAIM(an_alarm_moved_earlier_or_set_to_none_obeys),
        CLAIM(the_heap_survives_any_series_of_moves),
        CLAIM(posts_of_many_threads_all_arrive),
        CLAIM(work_runs_elsewhere_and_is_done_here),
        CLAIM(closing_waits_for_work),
        CLAIM(it_closes_though_work_that_was_under_way_has_it_stop),
        CLAIM(the_hook_runs_before_each_sleep_and_stop_ends_the_run),
        CLAIM(many_loops_live_in_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
