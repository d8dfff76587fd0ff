/* test_zone.c - a zone asked: names, wildcards, aliases, and what is to happen to a question. Records of all types and
 * the mistakes in a file are in tests/try/test_world.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "try/zone.h"

static struct zone zone;
static struct arena arena;
static struct filter_value value;
static unsigned delay;

static void read_zone(const char *text)
{
    uint32_t line;
    zone_free(&zone);
    const char *fault = zone_read(&zone, str_of(text), &line);
    if (fault)
        fail_msg("line %u: %s", line, fault);
}

static enum failure ask(const char *type, const char *name)
{
    arena_reset(&arena);
    value = (struct filter_value){.type = VALUE_NONE};
    return zone.source.answer(&zone.source, type, str_of(name), &arena, &value, &delay);
}

static void is(const char *type, const char *name, const char *first, size_t n, int64_t ttl)
{
    assert_int_equal(ask(type, name), FAILURE_NONE);
    const struct filter_value *list = value_get(&value, STR("list"));
    assert_int_equal(list->count, n);
    assert_true(str_equal(list->items[0].text, str_of(first)));
    assert_int_equal(value_get(&value, STR("ttl"))->integer, ttl);
    assert_int_equal(value_get(&value, STR("authentic"))->type, VALUE_BOOL);
}

static void an_empty_zone_knows_nobody(void **state)
{
    read_zone("{\"zone\": {}}");
    assert_int_equal(ask("a", "a.test"), FAILURE_NXDOMAIN);
    read_zone("{\"zone\": {}, \"more\": 1}");
}

static void names_are_found_in_any_case_and_joined(void **state)
{
    read_zone("{\"zone\": {\"A.test\": [[\"A\", \"192.0.2.1\", 60]], \"a.TEST.\": [[\"A\", \"192.0.2.2\"]], "
              "\"b.a.test\": []}}");
    is("a", "a.test", "192.0.2.1", 2, 60);
    is("A", "A.Test.", "192.0.2.1", 2, 60);
    assert_int_equal(ask("mx", "a.test"), FAILURE_NODATA);
    assert_int_equal(ask("a", "b.a.test"), FAILURE_NODATA);
    assert_int_equal(ask("a", "test"), FAILURE_NODATA); /* others are below it */
    assert_int_equal(ask("a", "c.a.test"), FAILURE_NXDOMAIN);
}

static void a_wildcard_ends_where_a_name_is(void **state)
{
    read_zone("{\"zone\": {\"*.w.test\": [[\"TXT\", \"x\"]], \"b.w.test\": [[\"A\", \"192.0.2.1\"]], \"x.c.w.test\": "
              "[], \"*\": [[\"TXT\", \"all\"]]}}");
    is("txt", "a.w.test", "x", 1, 300);
    is("txt", "a.a.w.test", "x", 1, 300);
    assert_int_equal(ask("txt", "b.w.test"), FAILURE_NODATA);
    assert_int_equal(ask("txt", "a.b.w.test"), FAILURE_NXDOMAIN);
    assert_int_equal(ask("txt", "a.c.w.test"), FAILURE_NXDOMAIN);
    assert_int_equal(ask("txt", "c.w.test"), FAILURE_NODATA);
}

static void aliases_are_followed_eight_times(void **state)
{
    read_zone("{\"zone\": {\"c1\": [[\"CNAME\", \"c2\", 9]], \"c2\": [[\"CNAME\", \"C3.\"]], \"c3\": [[\"CNAME\", "
              "\"c4\"]], \"c4\": [[\"CNAME\", \"c5\"]],"
              "\"c5\": [[\"CNAME\", \"c6\"]], \"c6\": [[\"CNAME\", \"c7\"]], \"c7\": [[\"CNAME\", \"c8\"]], \"c8\": "
              "[[\"CNAME\", \"end\"]],"
              "\"c0\": [[\"CNAME\", \"c1\"]], \"end\": [[\"A\", \"192.0.2.1\"]], \"lost\": [[\"CNAME\", \"gone\"]]}}");
    is("a", "c1", "192.0.2.1", 1, 9);
    is("cname", "c1", "c2", 1, 9);
    is("cname", "c2", "c3", 1, 300);
    assert_int_equal(ask("a", "c0"), FAILURE_SERVFAIL);
    assert_int_equal(ask("a", "lost"), FAILURE_NXDOMAIN);
    assert_int_equal(ask("mx", "c8"), FAILURE_NODATA);
}

static void what_happens_to_a_question(void **state)
{
    read_zone("{\"zone\": {\"t\": [[\"TIMEOUT\", \"*\"], [\"A\", \"192.0.2.1\"]], \"s\": [[\"SERVFAIL\", \"A\"], "
              "[\"A\", \"192.0.2.1\"], [\"TXT\", \"x\"]],"
              "\"d\": [[\"DELAY\", [\"*\", 20]], [\"DELAY\", [\"A\", 30]], [\"A\", \"192.0.2.1\"]], \"g\": "
              "[[\"GARBAGE\", \"*\"], [\"A\", \"192.0.2.1\"]],"
              "\"c\": [[\"TRUNC\", \"*\"], [\"A\", \"192.0.2.1\"]], \"both\": [[\"NXDOMAIN\", \"*\"], [\"TIMEOUT\", "
              "\"*\"]]}}");
    is("a", "t", "192.0.2.1", 1, 300); /* "*" is for the types of which there is no record */
    assert_int_equal(ask("mx", "t"), FAILURE_TIMEOUT);
    assert_int_equal(delay, DNS_NEVER);
    assert_int_equal(ask("a", "s"), FAILURE_SERVFAIL);
    is("txt", "s", "x", 1, 300);
    is("a", "d", "192.0.2.1", 1, 300);
    assert_int_equal(delay, 30);
    assert_int_equal(ask("mx", "d"), FAILURE_NODATA);
    assert_int_equal(delay, 20);
    assert_int_equal(ask("a", "g"), FAILURE_TIMEOUT);
    is("a", "c", "192.0.2.1", 1, 300);
    assert_int_equal(ask("a", "both"), FAILURE_TIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_zone_knows_nobody),      cmocka_unit_test(names_are_found_in_any_case_and_joined),
        cmocka_unit_test(a_wildcard_ends_where_a_name_is), cmocka_unit_test(aliases_are_followed_eight_times),
        cmocka_unit_test(what_happens_to_a_question),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zone_free(&zone);
    arena_reset(&arena);
    return failed;
}
