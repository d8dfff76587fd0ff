/* test_origin.c - who sent a message, by its own fields; a text compared with another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "try/diff.h"
#include "try/origin.h"
#include "base/pipe.h"
#include "try/source.h"
#include <stdlib.h>

static struct arena arena;

static void the_envelope_is_found(void **state)
{
    struct origin o;
    origin_find(&o, STR("Return-Path: <>\r\nFrom: A <a@x.test>\r\nTo: \"B, C\" <b@x.test>, d@x.test\r\n\r\n"), &arena);
    assert_true(o.from.at && o.from.len == 0);
    assert_string_equal(o.to.at, "b@x.test");
    origin_find(&o, STR("From: a@x.test\r\nTo: b@x.test\r\nX-Original-To: c@x.test\r\nDelivered-To: d@x.test\r\n\r\n"),
                &arena);
    assert_string_equal(o.from.at, "a@x.test");
    assert_string_equal(o.to.at, "d@x.test");
    origin_find(&o, STR("no message at all"), &arena);
    assert_null(o.from.at);
    assert_null(o.to.at);
    origin_find(&o, STR(""), &arena);
    assert_null(o.to.at);
}

static void the_topmost_public_hop_is_the_client(void **state)
{
    static const char first[] =
        "Received: from a (a.test [10.0.0.1])\r\n by b; Mon, 5 Jan 2026 10:00:00 +0000\r\n"
        "Received: from helo.test (rdns.test [192.0.2.7]) by b with SMTP\r\n; Mon, 5 Jan 2026 12:00:00 +0000\r\n",
                      rest[] = "Received: from z ([IPv6:2001:db8::1]) by y; never\r\nFrom: a@x.test\r\n\r\n";
    struct origin o;
    char all[600];
    snprintf(all, sizeof all, "%s%s", first, rest);
    origin_find(&o, str_of(all), &arena);
    assert_string_equal(o.ip.at, "192.0.2.7");
    assert_string_equal(o.helo.at, "helo.test");
    origin_find(&o, str_of(rest), &arena);
    assert_string_equal(o.ip.at, "2001:db8::1");
    assert_null(o.rdns.at);
    assert_false(o.has_date);
    origin_find(&o, STR("Received: from a ([300.1.1.1]) by b\r\nReceived: [\r\n\r\n"), &arena);
    assert_null(o.ip.at);
    assert_int_equal(o.cut, 0);
}

static void private_addresses_are_told_apart(void **state)
{
    static const char
        *const open[] = {"192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"},
               *const shut[] = {"",          "x",           "10.1.1.1",   "172.16.0.1", "172.31.255.255", "192.168.1.1",
                                "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0",    "224.0.0.1",      "::1",
                                "fd00::1",   "fe80::1"};
    for (size_t i = 0; i < countof(open); i++)
        assert_true(ip_is_public(str_of(open[i])));
    for (size_t i = 0; i < countof(shut); i++)
        assert_false(ip_is_public(str_of(shut[i])));
}

static void lines(const char *from, bool unquote, const char *to)
{
    char *memory = NULL;
    struct str got = source_lines(str_of(from), unquote, &memory);
    assert_true(str_equal(got, str_of(to)));
    free(memory);
}

static void line_ends_are_mended_where_there_is_none(void **state)
{
    lines("a\nb\n", false, "a\r\nb\r\n");
    lines("a\r\nb\nc", false, "a\r\nb\nc");
    lines("", false, "");
    lines("\n", false, "\r\n");
    lines(">From a\n>>From b\n>from c\nFrom d\n>", true, "From a\r\n>From b\r\n>from c\r\nFrom d\r\n>");
}

static const char *differ(const char *a, size_t na, const char *b, size_t nb, unsigned most)
{
    static char *text;
    size_t n;
    free(text);
    text = NULL;
    FILE *to = open_memstream(&text, &n);
    diff_put(to, (struct str){a, na}, (struct str){b, nb}, &(struct diff_style){.indent = "", .most = most});
    fclose(to);
    return text;
}
#define DIFF(a, b, most) differ(a, sizeof(a) - 1, b, sizeof(b) - 1, most)

static void what_differs_is_shown(void **state)
{
    assert_string_equal(DIFF("a\r\nb\r\nc\r\n", "a\r\nx\r\nc\r\n", 0), "- b\\r\\n\n+ x\\r\\n\n");
    assert_string_equal(DIFF("a\nb\nc\nd\n", "b\nc\nz\n", 0), "- a\\n\n- d\\n\n+ z\\n\n");
    assert_string_equal(DIFF("same\n", "same\n", 0), "");
    assert_string_equal(DIFF("", "new", 0), "+ new\n");
    assert_string_equal(DIFF("1\n2\n3\n", "", 2), "- 1\\n\n- 2\\n\n... 1 more lines; --diff shows them\n");
    assert_string_equal(DIFF("0123456789abcdef\0same part, so it", "0123456789abcdeX\0same part, so it", 0),
                        "- 0123456789abcdef\n+ 0123456789abcdeX\n");
    assert_string_equal(DIFF("\x1b[31m\\\xff\n", "", 0), "- \\x1b[31m\\x5c\\xff\\n\n");
    differ("", 0, "", 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_envelope_is_found),
        cmocka_unit_test(the_topmost_public_hop_is_the_client),
        cmocka_unit_test(private_addresses_are_told_apart),
        cmocka_unit_test(line_ends_are_mended_where_there_is_none),
        cmocka_unit_test(what_differs_is_shown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_reset(&arena);
    block_forget();
    return failed;
}
