/* test_json.c - what is written is JSON, whatever the octets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/json.h"
#include <math.h>

static struct arena arena;
static struct pipe out;

static void is(const char *expected)
{
    struct str got = pipe_flat(&out, out.octets, &arena);
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.at, expected, got.len);
    pipe_clear(&out);
}

static struct json start(void)
{
    return (struct json){.out = &out, .arena = &arena};
}

static void values_and_what_stands_between_them(void **state)
{
    struct json j = start();
    json_open(&j, NULL, '{');
    json_integer(&j, "n", -7);
    json_open(&j, "list", '[');
    json_text(&j, NULL, STR("a"));
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_null(&j, NULL);
    json_close(&j, ']');
    json_bool(&j, "b", true);
    json_text(&j, "none", STR_NONE);
    json_close(&j, '}');
    is("{\"n\":-7,\"list\":[\"a\",{},null],\"b\":true,\"none\":null}");
}

static void octets_are_escaped(void **state)
{
    struct json j = start();
    json_text(&j, NULL, (struct str){"\"\\\n\r\t\0\x1f\x7f/\xc3\xa9", 11});
    is("\"\\\"\\\\\\n\\r\\t\\u0000\\u001f\\u007f/\xc3\xa9\"");
    j = start();
    json_text(&j, NULL, STR("a\xff"));
    is("{\"b64\":\"Yf8=\"}");
    j = start();
    json_open(&j, NULL, '{');
    json_named(&j, STR("k\xff\""), STR("v"));
    json_close(&j, '}');
    is("{\"k\\ufffd\\\"\":\"v\"}");
}

static void numbers_have_no_more_digits_than_they_need(void **state)
{
    static const struct {
        uint64_t micros;
        const char *text;
    } times[] = {{0, "0"}, {1, "0.000001"}, {42000, "0.042"}, {1000000, "1"}, {10500000, "10.5"}};
    for (size_t i = 0; i < countof(times); i++) {
        struct json j = start();
        json_seconds(&j, NULL, times[i].micros);
        is(times[i].text);
    }
    struct json j = start();
    json_real(&j, NULL, 2.5);
    is("2.5");
    j = start();
    json_real(&j, NULL, INFINITY);
    is("null");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_what_stands_between_them),
        cmocka_unit_test(octets_are_escaped),
        cmocka_unit_test(numbers_have_no_more_digits_than_they_need),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_reset(&arena);
    block_forget();
    return failed;
}
