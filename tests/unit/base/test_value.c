/* test_value.c - value trees, durations and sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/value.h"

static void maps_are_sorted_and_keep_the_last(void **unused)
{
    struct arena a = {0};
    struct filter_value map = {.type = VALUE_MAP};
    static const char *const keys[] = {"m", "a", "z", "ab", "", "m"};
    for (size_t i = 0; i < countof(keys); i++)
        value_put(&a, &map, str_of(keys[i]), value_integer((int64_t)i));
    assert_int_equal(map.count, 5);
    for (size_t i = 1; i < map.count; i++)
        assert_true(strcmp(map.keys[i - 1].at, map.keys[i].at) < 0);
    assert_int_equal(value_get(&map, STR("m"))->integer, 5);
    assert_null(value_get(&map, STR("x")));
    assert_null(value_get(NULL, STR("x")));
    arena_reset(&a);
}

static void lists_grow_in_order(void **unused)
{
    struct arena a = {0};
    struct filter_value list = {.type = VALUE_LIST};
    for (int i = 0; i < 100; i++)
        value_add(&a, &list, value_number(i));
    for (int i = 0; i < 100; i++)
        assert_int_equal(list.items[i].integer, i);
    assert_null(value_get(&list, STR("x")));
    arena_reset(&a);
}

static void durations_and_sizes_are_read(void **unused)
{
    double s;
    uint64_t n;
    assert_true(value_parse_duration(STR("1h30m"), &s) && s == 5400);
    assert_true(value_parse_duration(STR("500ms"), &s) && s > 0.499 && s < 0.501);
    assert_true(value_parse_duration(STR("10"), &s) && s == 10);
    assert_true(value_parse_duration(STR("1.5h"), &s) && s == 5400);
    assert_true(value_parse_size(STR("10M"), &n) && n == 10485760);
    assert_true(value_parse_size(STR("256k"), &n) && n == 262144);
    static const char *const bad[] = {"", "h", "1x", "1h30", "-1", "1 h", ".5s", "1..5", "9999999999999999s"};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(value_parse_duration(str_of(bad[i]), &s));
    assert_false(value_parse_size(STR("99999999999G"), &n));
}

static void numbers_beyond_whole_ones_have_no_whole(void **unused)
{
    assert_int_equal(value_number(1e300).integer, 0);
    assert_int_equal(value_number(__builtin_nan("")).integer, 0);
    assert_int_equal(value_number(-3.7).integer, -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_sorted_and_keep_the_last),
        cmocka_unit_test(lists_grow_in_order),
        cmocka_unit_test(durations_and_sizes_are_read),
        cmocka_unit_test(numbers_beyond_whole_ones_have_no_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
