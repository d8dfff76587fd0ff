/* test_codec.c - base64 (RFC 2045 6.8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/codec.h"

static struct arena arena;

static int reset(void **unused)
{
    arena_reset(&arena);
    return 0;
}

static void base64_goes_there_and_back(void **unused)
{
    unsigned char octets[300];
    for (size_t i = 0; i < sizeof octets; i++)
        octets[i] = (unsigned char)(i * 7);
    for (size_t len = 0; len <= sizeof octets; len++) {
        struct str in = {(char *)octets, len}, back;
        assert_true(base64_decode(base64_encode(in, &arena), &arena, &back));
        assert_true(str_equal(in, back));
    }
    assert_string_equal(base64_encode(STR("a"), &arena).at, "YQ==");
    assert_string_equal(base64_encode(STR("ab?"), &arena).at, "YWI/");
}

static void base64_passes_over_white_space_and_refuses_the_rest(void **unused)
{
    struct str out;
    assert_true(base64_decode(STR(" Y\r\nQ =\t=\r\n"), &arena, &out));
    assert_string_equal(out.at, "a");
    assert_true(base64_decode(STR("YWI"), &arena, &out)); /* missing padding */
    assert_string_equal(out.at, "ab");
    assert_true(base64_decode(STR(""), &arena, &out));
    static const char *const bad[] = {
        "Y", "YQ=", "YQ===", "YQ==YQ==", "Y-Q=", "=", "YWJj=", "YWJjZ", "YQ==x", "Y\x01Q="};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(base64_decode(str_of(bad[i]), &arena, &out));
}

static void base64_of_mail_is_read_as_readers_read_it(void **unused)
{
    static const char *const cases[][2] = {{"YWI", "ab"},      {"YQ==YWI=", "aab"}, {"Y!W-I.", "ab"},
                                           {"YWJjZ", "abc"},   {"=YWI=", "ab"},     {"", ""},
                                           {"YW I=\r\n", "ab"}};
    struct str out;
    for (size_t i = 0; i < countof(cases); i++) {
        assert_true(base64_decode_any(str_of(cases[i][0]), &arena, &out));
        assert_string_equal(out.at, cases[i][1]);
    }
    assert_false(base64_decode_any(STR("!"), &arena, &out));
    assert_false(base64_decode_any(STR("=="), &arena, &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(base64_goes_there_and_back, reset),
        cmocka_unit_test_teardown(base64_passes_over_white_space_and_refuses_the_rest, reset),
        cmocka_unit_test_teardown(base64_of_mail_is_read_as_readers_read_it, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
