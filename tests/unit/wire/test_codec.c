/* test_codec.c - base64 and encoded words (RFC 2045 6.8, RFC 2047). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/codec.h"
#include <time.h>

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

static void check(const char *in, const char *expected)
{
    struct str out = words_decode(str_of(in), &arena);
    struct str want = str_of(expected);
    if (!str_equal(out, want))
        print_error("gave \"%.*s\"\n", STR_ARGS(out));
    assert_true(str_equal(out, want));
}

static void encoded_words_become_utf8(void **unused)
{
    check("plain", "plain");
    check("=?utf-8?B?w6k=?=", "\xc3\xa9");
    check("=?UTF-8*en?q?a_=C3=a9=3F?= x", "a \xc3\xa9? x");
    check("=?iso-8859-1?Q?=E9=80?=", "\xc3\xa9\xc2\x80");
    check("=?windows-1252?Q?=80=93?=", "\xe2\x82\xac\xe2\x80\x9c");
    check("=?ISO-8859-15?Q?=A4=E9?=", "\xe2\x82\xac\xc3\xa9");
    check("=?us-ascii?Q?a=E9?=", "a?");
    check("<=?utf-8?q?x?=>", "<x>");
    check("=?utf-8?q?\?=", "");
    check("=?utf-8?q?=zz=4?=", "=zz=4");
}

static void white_space_between_encoded_words_goes(void **unused)
{
    check("a =?utf-8?q?b?= \t =?utf-8?q?c?= d", "a bc d");
    check("=?utf-8?q?b?= x =?utf-8?q?c?=", "b x c");
    check("=?utf-8?q?b?==?utf-8?q?c?=  ", "bc  ");
    check("=?utf-8?q?b?= =?koi8-r?q?c?= =?utf-8?q?d?=", "b =?koi8-r?q?c?= d");
    check("=?utf-8?q?b?= =?utf-8?b?!?=", "b =?utf-8?b?!?=");
}

static void characters_cut_between_words_are_joined(void **unused)
{
    check("=?utf-8?q?a=C3?= =?utf-8?q?=A9b?=", "a\xc3\xa9"
                                               "b");
    check("=?utf-8?q?a=C3?= x", "a? x");
    check("=?utf-8?q?=A9=E2=82?=", "???");
}

static void what_is_no_encoded_word_stays(void **unused)
{
    static const char *const same[] = {"=?",
                                       "=?utf-8?",
                                       "=?utf-8?q?",
                                       "=?utf-8?q?x",
                                       "=?utf-8?q?x?",
                                       "=?utf-8?x?x?=",
                                       "=?utf-8?q?a b?=",
                                       "=?utf-8?\?x?=",
                                       "=?x-unknown?q?x?=",
                                       "=?utf-8?q?a?b?=",
                                       "=?utf-8?b?@?=",
                                       "=?=?=?=",
                                       "==?"};
    for (size_t i = 0; i < countof(same); i++)
        check(same[i], same[i]);
}

static void a_text_full_of_beginnings_takes_no_long_time(void **unused)
{
    static const char *const parts[] = {"=?", "=?a?q?", "=?utf-8?q?x", "=?utf-8?b?x?= "};
    for (size_t i = 0; i < countof(parts); i++) {
        size_t len = strlen(parts[i]), n = 0;
        static char text[1 << 20];
        for (; n + len <= sizeof text; n += len)
            memcpy(text + n, parts[i], len);
        clock_t begun = clock();
        words_decode((struct str){text, n}, &arena);
        assert_true((clock() - begun) / CLOCKS_PER_SEC < 5);
    }
}

static void words_are_encoded_and_read_again(void **unused)
{
    static const char *const texts[] = {
        "\xc3\xa9",
        "Gr\xc3\xbc\xc3\x9f"
        "e",
        "=?utf-8?q?x?=",
        "a\nb",
        "\xff\xfe",
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac",
    };
    assert_string_equal(words_encode(STR("plain text"), &arena).at, "plain text");
    for (size_t i = 0; i < countof(texts); i++)
        for (size_t pad = 0; pad < 50; pad++) {
            struct str in =
                arena_print(&arena, "%.*s%s", (int)pad, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", texts[i]);
            struct str out = words_encode(in, &arena), rest = out;
            assert_true(str_is_ascii(out));
            for (struct str word = str_word(&rest); word.at; word = str_word(&rest)) {
                assert_true(word.len <= 75);
                if (str_is_utf8(in))
                    assert_true(str_is_utf8(words_decode(word, &arena)));
            }
            if (str_is_utf8(in))
                assert_true(str_equal(words_decode(out, &arena), in));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(base64_goes_there_and_back, reset),
        cmocka_unit_test_teardown(base64_passes_over_white_space_and_refuses_the_rest, reset),
        cmocka_unit_test_teardown(encoded_words_become_utf8, reset),
        cmocka_unit_test_teardown(white_space_between_encoded_words_goes, reset),
        cmocka_unit_test_teardown(characters_cut_between_words_are_joined, reset),
        cmocka_unit_test_teardown(what_is_no_encoded_word_stays, reset),
        cmocka_unit_test_teardown(a_text_full_of_beginnings_takes_no_long_time, reset),
        cmocka_unit_test_teardown(words_are_encoded_and_read_again, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
