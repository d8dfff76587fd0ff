/* Servers: rise and fall, claims of looks, limits, what a reload finds again, and the choice among several. */
#include "smtp/back/server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct server_conf place(const char *text)
{
    return (struct server_conf){.address = {.text = str_of(text)}, .weight = 1};
}

static struct backend_conf backend(void)
{
    return (struct backend_conf){.hop.name = STR("b"), .tls_name = STR(""), .helo = STR(""), .health = 30000, .rise = 2, .fall = 3};
}

static void it_falls_after_so_many_failures_in_a_row_and_rises_after_so_many_looks(void **state)
{
    struct backend_conf b = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    struct server *s = server_hold(&b, &at, 4);
    assert_true(s->up);
    server_failed(s, &b, "refused", 1000);
    server_failed(s, &b, "refused", 1000);
    server_succeeded(s, &b, NULL, 1000);
    server_failed(s, &b, "refused", 1000);
    server_failed(s, &b, "refused", 1000);
    assert_true(s->up);
    unsigned before = servers_version();
    server_failed(s, &b, "refused", 1000);
    assert_false(s->up);
    assert_int_not_equal(servers_version(), before);
    server_succeeded(s, &b, NULL, 2000);
    assert_false(s->up);
    server_failed(s, &b, "refused", 2000);
    server_succeeded(s, &b, NULL, 2000);
    assert_false(s->up);
    server_succeeded(s, &b, NULL, 3000);
    assert_true(s->up);
    server_drop(&s);
    servers_forget();
}

static void without_looks_it_never_falls(void **state)
{
    struct backend_conf b = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    b.health = 0;
    struct server *s = server_hold(&b, &at, 4);
    for (int i = 0; i < 10; i++)
        server_failed(s, &b, "refused", 1000);
    assert_true(s->up);
    server_drop(&s);
    servers_forget();
}

static void a_look_is_claimed_by_one_and_the_faster_the_worse_it_is(void **state)
{
    struct backend_conf b = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    struct server *s = server_hold(&b, &at, 4);
    assert_true(server_claim_check(s, 1000, 61000));
    assert_false(server_claim_check(s, 1000, 61000));
    server_check_soon(s, 1000); /* one is under way */
    assert_false(server_claim_check(s, 2500, 61000));
    server_succeeded(s, &b, NULL, 2000);
    assert_false(server_claim_check(s, 31999, 90000));
    assert_true(server_claim_check(s, 32000, 90000));
    server_failed(s, &b, "refused", 33000); /* is it falling? */
    assert_false(server_claim_check(s, 33999, 90000));
    assert_true(server_claim_check(s, 34000, 90000));
    server_failed(s, &b, "refused", 34000);
    server_failed(s, &b, "refused", 35000); /* it is down */
    assert_false(server_claim_check(s, 39999, 90000));
    server_check_soon(s, 35500); /* somebody wants it */
    assert_true(server_claim_check(s, 36500, 90000));
    server_drop(&s);
    servers_forget();
}

static void what_it_can_is_kept_over_a_reload_and_news_are_told(void **state)
{
    struct backend_conf b = backend(), other = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    struct capabilities can = {.has = EXT_PIPELINING | EXT_SIZE, .size = 1000}, got;
    struct server *s = server_hold(&b, &at, 4);
    assert_false(server_is_known(s, &got));
    unsigned before = servers_version();
    server_succeeded(s, &b, &can, 1000);
    assert_int_not_equal(servers_version(), before);
    before = servers_version();
    server_succeeded(s, &b, &can, 1000);
    server_succeeded(s, &b, NULL, 1000);
    assert_int_equal(servers_version(), before);
    server_drop(&s);
    s = server_hold(&b, &at, 4);
    assert_true(server_is_known(s, &got) && got.has == can.has && got.size == 1000);
    other.identity = IDENTITY_PROXY; /* another conversation: another server */
    struct server *t = server_hold(&other, &at, 4);
    assert_ptr_not_equal(s, t);
    assert_false(server_is_known(t, &got));
    server_drop(&t);
    server_drop(&s);
    servers_forget();
}

static void servers_that_nobody_holds_are_forgotten_when_there_are_many(void **state)
{
    struct backend_conf b = backend();
    struct capabilities can = {.has = EXT_SIZE}, got;
    for (int i = 0; i < 1000; i++) {
        char text[64];
        snprintf(text, sizeof text, "inet:10.0.%d.%d:25", i / 250, i % 250);
        struct server_conf at = place(text);
        struct server *s = server_hold(&b, &at, 4);
        server_succeeded(s, &b, &can, 1000);
        server_drop(&s);
    }
    struct server_conf first = place("inet:10.0.0.0:25"), last = place("inet:10.0.3.249:25");
    struct server *s = server_hold(&b, &last, 4), *t = server_hold(&b, &first, 4);
    assert_true(server_is_known(s, &got));
    assert_false(server_is_known(t, &got));
    server_drop(&s);
    server_drop(&t);
    servers_forget();
}

static void *come_and_go(void *data)
{
    struct server *s = data;
    for (int i = 0; i < 50000; i++)
        if (server_enter(s, 3)) {
            assert_in_range(atomic_load(&s->connections), 1, 3);
            server_leave(s);
        }
    return NULL;
}

static void its_connections_are_counted_over_all_threads(void **state)
{
    struct backend_conf b = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    struct server *s = server_hold(&b, &at, 4);
    pthread_t threads[4];
    for (size_t i = 0; i < countof(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, s), 0);
    for (size_t i = 0; i < countof(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s->connections, 0);
    for (int i = 0; i < 100; i++)
        assert_true(server_enter(s, 0));
    assert_false(server_enter(s, 100));
    for (int i = 0; i < 100; i++)
        server_leave(s);
    server_drop(&s);
    servers_forget();
}

static struct server *busy;

static void *hold_and_let_go(void *data)
{
    unsigned worker = *(unsigned *)data;
    for (int i = 0; i < 50000; i++) {
        server_use(busy, worker);
        server_use(busy, worker);
        server_unuse(busy, worker);
        if (i % 2)
            server_unuse(busy, worker);
    }
    return NULL;
}

static void who_holds_them_is_counted_by_each_worker_for_itself_on_lines_of_its_own(void **state)
{
    struct backend_conf b = backend();
    struct server_conf at = place("inet:192.0.2.1:25");
    pthread_t threads[4];
    unsigned numbers[4];
    busy = server_hold(&b, &at, 4);
    for (unsigned i = 0; i < countof(threads); i++) {
        numbers[i] = i;
        assert_int_equal((uintptr_t)&busy->tallies[i] % CACHE_LINE, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, hold_and_let_go, &numbers[i]), 0);
    }
    for (size_t i = 0; i < countof(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(server_in_use(busy), 4 * 25000);
    struct server *again = server_hold(&b, &at, 4); /* after a reload: the same numbers */
    for (unsigned i = 0; i < 25000; i++)
        server_unuse(again, 2);
    assert_int_equal(server_in_use(busy), 3 * 25000);
    server_drop(&again);
    server_drop(&busy);
    servers_forget();
}

/* ---- the choice */

enum { N = 3 };
static int64_t turns[N];

static void three(struct candidate c[N], uint32_t a, uint32_t b, uint32_t third)
{
    const uint32_t weights[N] = {a, b, third};
    memset(turns, 0, sizeof turns);
    for (int i = 0; i < N; i++)
        c[i] = (struct candidate){.usable = true, .up = true, .weight = weights[i], .turn = &turns[i]};
}

static void round_robin_goes_by_weight_and_spreads_evenly(void **state)
{
    struct candidate c[N];
    char order[15] = "";
    three(c, 5, 1, 1);
    for (int i = 0; i < 14; i++)
        order[i] = (char)('a' + server_choose(c, N, BALANCE_ROUND_ROBIN));
    assert_string_equal(order, "aabacaaaabacaa");
}

static void least_connections_goes_by_weight_and_ties_by_turns(void **state)
{
    struct candidate c[N];
    unsigned got[N] = {0};
    three(c, 1, 1, 1);
    for (int i = 0; i < 6; i++)
        got[server_choose(c, N, BALANCE_LEAST_CONNECTIONS)]++;
    assert_true(got[0] == 2 && got[1] == 2 && got[2] == 2);
    three(c, 1, 2, 4);
    memset(got, 0, sizeof got);
    for (int i = 0; i < 70; i++) { /* nobody leaves */
        int chosen = server_choose(c, N, BALANCE_LEAST_CONNECTIONS);
        c[chosen].in_use++;
        got[chosen]++;
    }
    assert_true(got[0] == 10 && got[1] == 20 && got[2] == 40);
    three(c, 1, 1, 1);
    c[0].in_use = 2;
    c[1].in_use = 1;
    c[2].in_use = 3;
    assert_int_equal(server_choose(c, N, BALANCE_LEAST_CONNECTIONS), 1);
}

static void who_is_down_or_full_is_passed_over(void **state)
{
    struct candidate c[N];
    three(c, 1, 1, 1);
    c[0].up = false;
    c[1].usable = false;
    for (int i = 0; i < 4; i++)
        assert_int_equal(server_choose(c, N, i % 2 ? BALANCE_ROUND_ROBIN : BALANCE_LEAST_CONNECTIONS), 2);
    c[2].up = false;
    assert_int_equal(server_choose(c, N, BALANCE_ROUND_ROBIN), -1);
    assert_int_equal(server_choose(c, 0, BALANCE_ROUND_ROBIN), -1);
}

static void a_backup_is_taken_only_when_all_others_are_down(void **state)
{
    struct candidate c[N];
    three(c, 1, 1, 1);
    c[0].backup = true;
    for (int i = 0; i < 10; i++)
        assert_int_not_equal(server_choose(c, N, BALANCE_ROUND_ROBIN), 0);
    c[1].usable = c[2].usable = false; /* full is not down */
    assert_int_equal(server_choose(c, N, BALANCE_LEAST_CONNECTIONS), -1);
    c[1].up = false;
    assert_int_equal(server_choose(c, N, BALANCE_LEAST_CONNECTIONS), -1);
    c[2].up = false;
    assert_int_equal(server_choose(c, N, BALANCE_LEAST_CONNECTIONS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_falls_after_so_many_failures_in_a_row_and_rises_after_so_many_looks),
        cmocka_unit_test(without_looks_it_never_falls),
        cmocka_unit_test(a_look_is_claimed_by_one_and_the_faster_the_worse_it_is),
        cmocka_unit_test(what_it_can_is_kept_over_a_reload_and_news_are_told),
        cmocka_unit_test(servers_that_nobody_holds_are_forgotten_when_there_are_many),
        cmocka_unit_test(its_connections_are_counted_over_all_threads),
        cmocka_unit_test(who_holds_them_is_counted_by_each_worker_for_itself_on_lines_of_its_own),
        cmocka_unit_test(round_robin_goes_by_weight_and_spreads_evenly),
        cmocka_unit_test(least_connections_goes_by_weight_and_ties_by_turns),
        cmocka_unit_test(who_is_down_or_full_is_passed_over),
        cmocka_unit_test(a_backup_is_taken_only_when_all_others_are_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
