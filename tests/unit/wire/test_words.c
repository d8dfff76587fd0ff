/* test_words.c - encoded words read and written (RFC 2047), with the charsets of base/charset.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/charset.h"
#include "wire/words.h"
#include <limits.h>
#include <time.h>

static struct arena arena;

static int reset(void **unused)
{
    arena_reset(&arena);
    return 0;
}

static void same(struct str out, struct str want)
{
    if (!str_equal(out, want))
        print_error("gave \"%.*s\", not \"%.*s\"\n", STR_ARGS(out), STR_ARGS(want));
    assert_true(str_equal(out, want));
}

static void reads(const char *in, const char *expected)
{
    same(words_decode(str_of(in), charset_decode, &arena), str_of(expected));
}

#define BAD "\xef\xbf\xbd"

static void encoded_words_become_utf8(void **unused)
{
    reads("plain", "plain");
    reads("=?utf-8?B?w6k=?=", "\xc3\xa9");
    reads("=?UTF-8*en?q?a_=C3=a9=3F?= x", "a \xc3\xa9? x");
    reads("=?iso-8859-1?Q?=E9=80?=", "\xc3\xa9\xe2\x82\xac"); /* as windows-1252 */
    reads("=?windows1251?Q?=E9?= =?win-1251?Q?=E9?= =?x-cp1251?Q?=E9?= =?CP-1251?Q?=E9?=", "\xd0\xb9\xd0\xb9\xd0\xb9\xd0\xb9");
    reads("=?x-euc-jp?B?xvzL3A==?=", "\xe6\x97\xa5\xe6\x9c\xac");
    reads("=?gb_2312-80?B?1tDOxA==?= =?x-big5?B?pKSk5Q==?=", "\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe6\x96\x87");
    reads("=?unicode-1-1-utf-7?Q?+AOk-?= =?utf8mb4?q?=C3=A9?=", "\xc3\xa9\xc3\xa9");
    reads("=?windows-1252?Q?=80=93?=", "\xe2\x82\xac\xe2\x80\x9c");
    reads("=?ISO-8859-15?Q?=A4=E9?=", "\xe2\x82\xac\xc3\xa9");
    reads("=?koi8-r?B?8NLJ18XU?=", "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82");
    reads("=?gb2312?B?xOO6ww==?=", "\xe4\xbd\xa0\xe5\xa5\xbd");
    reads("=?iso-2022-jp?B?GyRCJDMbKEI=?=", "\xe3\x81\x93");
    reads("=?utf-16be?B?AHcAaQ==?=", "wi");
    reads("=?us-ascii?Q?a=E9?=", "a" BAD);
    reads("<=?utf-8?q?x?=>", "<x>");
    reads("=?utf-8?q?\?=", "");
    reads("=?utf-8?q?=zz=4?=", "=zz=4");
}

static void names_that_mail_uses_are_known(void **unused)
{
    static const char *const names[] = {
        "utf8",        "utf_8",  "unicode-1-1-utf-8", "x-gbk", "ks_c_5601-1987", "x-sjis", "cp-850",
        "x-mac-roman", "latin1", "iso-8859-8-i",      "ascii", "CP1251",         "big5",   "euc-kr",
        "tis-620"};
    struct str out;
    for (size_t i = 0; i < countof(names); i++) {
        assert_true(charset_decode(STR("a"), str_of(names[i]), &arena, &out));
        same(out, STR("a"));
    }
    static const char *const unknown[] = {"", "x-garden", "utf-8//IGNORE", "a b",
                                          "0123456789012345678901234567890123456789a"};
    for (int again = 0; again < 2; again++)
        for (size_t i = 0; i < countof(unknown); i++)
            assert_false(charset_decode(STR("a"), str_of(unknown[i]), &arena, &out));
    for (size_t i = 0; i < 100; i++) { /* more than are kept */
        struct str name = arena_print(&arena, "iso-8859-%zu", i % 20 + 1);
        bool known = i % 20 + 1 <= 16 && i % 20 + 1 != 12;
        assert_int_equal(charset_decode(STR("\xff"), name, &arena, &out), known);
    }
}

static void opening_charsets_is_bounded(void **unused)
{
    static const char *const names[] = {"iso-8859-2",  "iso-8859-3",  "iso-8859-4", "iso-8859-5",  "iso-8859-6",
                                        "iso-8859-7",  "iso-8859-8",  "iso-8859-9", "iso-8859-10", "iso-8859-13",
                                        "iso-8859-14", "iso-8859-15", "koi8-r",     "koi8-u",      "big5",
                                        "euc-jp",      "cp1250",      "cp1251",     "cp1253",      "cp1254"};
    size_t known = 0;
    struct str out;
    charset_allow(30);
    for (size_t i = 0; i < 20 * countof(names); i++) /* more of them than are kept, again and again */
        known += charset_decode(STR("a"), str_of(names[i % countof(names)]), &arena, &out);
    assert_in_range(known, 30, 30 + countof(names) * 16);
    assert_true(known < 20 * countof(names));
    charset_allow(1);
    assert_true(charset_decode(STR("a"), STR("tis-620"), &arena, &out));
    assert_true(charset_decode(STR("a"), STR("TIS-620"), &arena, &out)); /* kept */
    assert_false(charset_decode(STR("a"), STR("gbk"), &arena, &out));
    assert_true(charset_decode(STR("a"), STR("utf-8"), &arena, &out));
    charset_allow(UINT_MAX);
}

static void white_space_between_encoded_words_goes(void **unused)
{
    reads("a =?utf-8?q?b?= \t =?utf-8?q?c?= d", "a bc d");
    reads("=?utf-8?q?b?= x =?utf-8?q?c?=", "b x c");
    reads("=?utf-8?q?b?==?utf-8?q?c?=  ", "bc");
    reads("=?utf-8?q?b?= =?koi8-r?q?c?= =?utf-8?q?d?=", "bcd");
    reads("=?utf-8?q?b?= =?x-garden?q?c?= =?utf-8?q?d?=", "b =?x-garden?q?c?= d");
    reads("=?utf-8?q?b?= =?utf-8?b?!?=", "b =?utf-8?b?!?=");
    reads("=?utf-8?q?b?= = =?utf-8?q?c?=", "b = c");
}

static void characters_cut_between_words_are_joined(void **unused)
{
    reads("=?utf-8?q?a=C3?= =?utf-8?q?=A9b?=", "a\xc3\xa9"
                                               "b");
    reads("=?utf-8?b?w6nD?=\t=?utf-8*x?b?qQ==?=", "\xc3\xa9\xc3\xa9");
    reads("=?gb2312?B?xA==?= =?GB2312?B?4w==?=", "\xe4\xbd\xa0");
    reads("=?utf-8?q?=E6=97?= =?iso-8859-1?q?=A5?=", BAD "\xc2\xa5"); /* not across charsets */
}

static void what_is_no_encoded_word_stays(void **unused)
{
    static const char *const same_as_it_came[] = {
        "=?utf-8?x?abc?=", "=?utf-8?q?abc", "=??q?abc?=",          "=?utf-8?bb?abc?=", "=?",    "?=",
        "a = b",           "=?utf-8?q",     "=?x-garden?b?YQ==?=", "=?=?=?=?",         "= =? ="};
    for (size_t i = 0; i < countof(same_as_it_came); i++)
        reads(same_as_it_came[i], same_as_it_came[i]);
    reads("=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=", "=?utf-8?q?x?="); /* decoded once */
    reads("=?utf-8?q?abc =?utf-8?q?=C3=A4?=", "=?utf-8?q?abc \xc3\xa4");
    reads("=?utf-8?q?what?\?=", "what?");
    reads("=?utf-8?q?a b?= c", "a b c");
}

static void text_is_utf8_without_controls(void **unused)
{
    reads("a\x01\x02"
          "b",
          "a b");
    reads("a\t\tb \x7f", "a b");
    reads("=?utf-8?q?Invoice=0D=0ABcc:_x?=", "Invoice Bcc: x");
    reads("=?utf-8?q?a=C2=85b?=", "a b");
    reads("=?utf-8?q?=00?=", "");
    reads("Gr\xfc\xdf"
          "e",
          "Gr" BAD BAD "e");
    reads("\xc0\xaf \xed\xa0\x80 \xf5 \xe2\x82", BAD BAD " " BAD BAD BAD " " BAD " " BAD);
    reads("\xe2\x80\xae", "\xe2\x80\xae"); /* format characters are text */
    same(words_decode((struct str){"a\0b", 3}, charset_decode, &arena), STR("a b"));
    same(words_clean((struct str){" a\0\xff", 4}, &arena), STR(" a " BAD));
}

static void a_text_full_of_beginnings_takes_no_long_time(void **unused)
{
    static const char *const parts[] = {
        "=?", "=?a?q?", "=?utf-8?q?x",    "=?utf-8?b?x?= ", "=?utf-8?q?x?", "=?x-no?q?x?= ",
        "=",  "\xff",   "=?big5?q?=ff?= "};
    static char text[1 << 19];
    for (size_t i = 0; i < countof(parts); i++) {
        size_t len = strlen(parts[i]), n = 0;
        for (; n + len <= sizeof text; n += len)
            memcpy(text + n, parts[i], len);
        clock_t begun = clock();
        struct str out = words_decode((struct str){text, n}, charset_decode, &arena);
        assert_true(str_is_utf8(out));
        words_encode((struct str){text, n}, (struct words_beside){0}, charset_decode, &arena);
        words_encode_addresses((struct str){text, n}, charset_decode, &arena);
        assert_true((clock() - begun) / CLOCKS_PER_SEC < 5);
        assert_true(arena.held < 200 * sizeof text);
        arena_reset(&arena);
    }
}

static void writes(const char *text, const char *expected)
{
    same(words_encode(str_of(text), (struct words_beside){0}, charset_decode, &arena), str_of(expected));
}

static void only_what_must_be_is_encoded(void **unused)
{
    writes("plain text", "plain text");
    writes("Re: Gr\xc3\xbc\xc3\x9f"
           "e x",
           "Re: =?UTF-8?B?R3LDvMOfZQ==?= x");
    writes("\xc3\xa4 \xc3\xb6", "=?UTF-8?B?w6Qgw7Y=?="); /* the space between them is inside */
    writes("a\r\nBcc: b", "a  Bcc: b");
    writes("a\xc2\x85"
           "b",
           "a  b");
    writes(" outer  ", "outer");
    writes("Gr\xfc\xdf"
           "e \xc3\xa4",
           "Gr\xfc\xdf"
           "e =?UTF-8?B?w6Q=?=");                                /* no label on what is no UTF-8 */
    writes("=?utf-8?q?x?=", "=?UTF-8?B?PT91dGYtOD9xP3g/PQ==?="); /* would be read: it is text */
    writes("=?x-garden?q?x?= y", "=?x-garden?q?x?= y");          /* would not */
    writes("=?x-garden?q?x?= \xc3\xa4", "=?x-garden?q?x?= =?UTF-8?B?w6Q=?=");
    writes("=?utf-8?q?x \xc3\xa4", "=?UTF-8?B?PT91dGYtOD9xP3ggw6Q=?="); /* unfinished, and then a word */
    writes("", "");
}

static void beside_a_word_the_white_space_goes_inside(void **unused)
{
    same(words_encode(STR("\xc3\x84"), (struct words_beside){.word_after = true}, charset_decode, &arena),
         STR("=?UTF-8?B?w4Qg?="));
    same(words_encode(STR("\xc3\x84"), (struct words_beside){.word_before = true}, charset_decode, &arena),
         STR("=?UTF-8?B?IMOE?="));
    same(words_encode(STR("\xc3\x84 x"), (struct words_beside){.word_after = true}, charset_decode, &arena),
         STR("=?UTF-8?B?w4Q=?= x"));
}

static void text_goes_there_and_back(void **unused)
{
    static const char *const pieces[] = {
        "\xc3\xa9", "a",  " ", "  ", "=?utf-8?q?x?=", "=?x-no?q?x?=", "\xe2\x82\xac\xf0\x9f\x8c\xb9",
        "=?",       "?=", "(", "\""};
    uint32_t dice = 7;
    for (int i = 0; i < 3000; i++) {
        char text[400];
        size_t n = 0;
        for (int k = 0; k < 30; k++) {
            const char *piece = pieces[((dice = dice * 1664525u + 1013904223u) >> 8) % countof(pieces)];
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", piece);
        }
        struct str in = str_trim((struct str){text, n}),
                   out = words_encode(in, (struct words_beside){0}, charset_decode, &arena), rest = out;
        assert_true(str_is_ascii(out));
        for (struct str word = str_word(&rest); word.at; word = str_word(&rest))
            assert_true(!str_starts(word, STR("=?UTF-8?B?")) || word.len <= 75);
        same(words_decode(out, charset_decode, &arena), in);
        arena_reset(&arena);
    }
}

static void lists(const char *text, const char *expected)
{
    same(words_encode_addresses(str_of(text), charset_decode, &arena), str_of(expected));
}

static void in_fields_of_addresses_only_names_are_encoded(void **unused)
{
    lists("a@example.org, B <b@example.net>", "a@example.org, B <b@example.net>");
    lists("J\xc3\xbcrgen <j@example.org>", "=?UTF-8?B?SsO8cmdlbg==?= <j@example.org>");
    lists("\"M\xc3\xbcller, Hans\" <j@example.org>", "=?UTF-8?B?TcO8bGxlciwgSGFucw==?= <j@example.org>");
    lists("J\xc3\xbcrgen<j@example.org>,b@c", "=?UTF-8?B?SsO8cmdlbg==?= <j@example.org>,b@c");
    lists("\xc3\xa4 \xc3\xb6 <j@x>", "=?UTF-8?B?w6Qgw7Y=?= <j@x>");
    lists("\"\xc3\xa4\" \xc3\xb6 <j@x>", "=?UTF-8?B?w6Q=?= =?UTF-8?B?IMO2?= <j@x>");
    lists("j@x (\xc3\xa4 b)", "j@x (=?UTF-8?B?w6Q=?= b)");
    lists("r\xc3\xb6s@example.org, \"\xc3\xb6\"@x", "r\xc3\xb6s@example.org, \"\xc3\xb6\"@x"); /* SMTPUTF8 */
    lists("R\xf6se <a@example.org>", "R\xf6se <a@example.org>");
    lists("\"\xc3\xa4 <a@x>", "\" =?UTF-8?B?w6Q=?= <a@x>");
    lists("Freunde: \xc3\xa4 <a@x>, b@y;", "Freunde: =?UTF-8?B?w6Q=?= <a@x>, b@y;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(encoded_words_become_utf8, reset),
        cmocka_unit_test_teardown(names_that_mail_uses_are_known, reset),
        cmocka_unit_test_teardown(opening_charsets_is_bounded, reset),
        cmocka_unit_test_teardown(white_space_between_encoded_words_goes, reset),
        cmocka_unit_test_teardown(characters_cut_between_words_are_joined, reset),
        cmocka_unit_test_teardown(what_is_no_encoded_word_stays, reset),
        cmocka_unit_test_teardown(text_is_utf8_without_controls, reset),
        cmocka_unit_test_teardown(a_text_full_of_beginnings_takes_no_long_time, reset),
        cmocka_unit_test_teardown(only_what_must_be_is_encoded, reset),
        cmocka_unit_test_teardown(beside_a_word_the_white_space_goes_inside, reset),
        cmocka_unit_test_teardown(text_goes_there_and_back, reset),
        cmocka_unit_test_teardown(in_fields_of_addresses_only_names_are_encoded, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
