/* Who is connected: totals, per client, forgetting, many threads. */
#include "smtp/worker.h"
#include "smtp/front/connections.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void each_client_has_its_own_count(void **state)
{
    struct connections *c = connections_open();
    assert_int_equal(connections_enter(c, STR("192.0.2.1"), 10, 2), CONNECTIONS_WELCOME);
    assert_int_equal(connections_enter(c, STR("192.0.2.1"), 10, 2), CONNECTIONS_WELCOME);
    assert_int_equal(connections_enter(c, STR("192.0.2.1"), 10, 2), CONNECTIONS_TOO_MANY);
    assert_int_equal(connections_enter(c, STR("2001:db8::1"), 10, 2), CONNECTIONS_WELCOME);
    connections_leave(c, STR("192.0.2.1"));
    assert_int_equal(connections_enter(c, STR("192.0.2.1"), 10, 2), CONNECTIONS_WELCOME);
    connections_close(c);
}

static void total_is_bounded_and_zero_is_no_limit(void **state)
{
    struct connections *c = connections_open();
    for (int i = 0; i < 5; i++)
        assert_int_equal(connections_enter(c, STR(""), 5, 0), CONNECTIONS_WELCOME); /* a unix socket */
    assert_int_equal(connections_enter(c, STR("192.0.2.9"), 5, 0), CONNECTIONS_FULL);
    connections_leave(c, STR(""));
    assert_int_equal(connections_enter(c, STR("192.0.2.9"), 5, 0), CONNECTIONS_WELCOME);
    connections_close(c);
}

static void many_clients_are_found_again(void **state)
{
    struct connections *c = connections_open();
    char ip[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) {
            snprintf(ip, sizeof ip, "10.0.%d.%d", i / 256, i % 256);
            assert_int_equal(connections_enter(c, str_of(ip), 0, 1), CONNECTIONS_WELCOME);
            assert_int_equal(connections_enter(c, str_of(ip), 0, 1), CONNECTIONS_TOO_MANY);
        }
        for (int i = 0; i < 5000; i++) {
            snprintf(ip, sizeof ip, "10.0.%d.%d", i / 256, i % 256);
            connections_leave(c, str_of(ip));
        }
    }
    connections_close(c);
}

static void *come_and_go(void *c)
{
    for (int i = 0; i < 20000; i++) {
        char ip[32];
        snprintf(ip, sizeof ip, "10.0.0.%d", i % 7);
        if (connections_enter(c, str_of(ip), 20, 3) == CONNECTIONS_WELCOME)
            connections_leave(c, str_of(ip));
    }
    return NULL;
}

static void all_workers_may_use_it(void **state)
{
    struct connections *c = connections_open();
    pthread_t threads[4];
    for (size_t i = 0; i < countof(threads); i++)
        pthread_create(&threads[i], NULL, come_and_go, c);
    for (size_t i = 0; i < countof(threads); i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 20; i++)
        assert_int_equal(connections_enter(c, STR("10.0.0.1"), 20, 0), CONNECTIONS_WELCOME);
    connections_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_client_has_its_own_count),
        cmocka_unit_test(total_is_bounded_and_zero_is_no_limit),
        cmocka_unit_test(many_clients_are_found_again),
        cmocka_unit_test(all_workers_may_use_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
