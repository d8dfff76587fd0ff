/* test_str.c - octets with a length; arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"

static void cuts_leave_what_is_behind(void **unused)
{
    struct str rest = STR("a,,b");
    assert_true(str_equal(str_cut(&rest, ','), STR("a")));
    assert_true(str_equal(str_cut(&rest, ','), STR("")));
    assert_true(str_equal(str_cut(&rest, ','), STR("b")));
    assert_null(rest.at);
    assert_null(str_cut(&rest, ',').at);
    rest = STR("a,");
    str_cut(&rest, ',');
    assert_true(rest.at && rest.len == 0); /* an empty last part is a part */
    struct str words = STR("  a b  ");
    assert_true(str_equal(str_word(&words), STR("a")));
    assert_true(str_equal(str_word(&words), STR("b")));
    assert_null(str_word(&words).at);
}

static void parts_are_clamped(void **unused)
{
    assert_true(str_equal(str_part(STR("abc"), 1, 99), STR("bc")));
    assert_int_equal(str_part(STR("abc"), 5, 99).len, 0);
    assert_int_equal(str_part(STR("abc"), 2, 1).len, 0);
    assert_int_equal(str_find(STR("abc"), STR("c")), 2);
    assert_int_equal(str_find(STR("abc"), STR("x")), 3);
    assert_int_equal(str_find(STR_NONE, STR("x")), 0);
}

static void case_is_folded_in_ascii_only(void **unused)
{
    assert_true(str_equal_nocase(STR("aBc@["), STR("AbC@[")));
    assert_false(str_equal_nocase(STR("["), STR("{")));
    assert_false(str_equal_nocase(STR("\xe9"), STR("\xc9")));
    assert_true(str_starts_nocase(STR("FROM:<"), STR("from:")));
    assert_true(str_ends_nocase(STR("a.EXAMPLE"), STR(".example")));
    assert_false(str_starts(STR("a"), STR("ab")));
}

static void numbers_do_not_overflow(void **unused)
{
    uint64_t n;
    assert_true(str_number(STR("18446744073709551615"), &n) && n == UINT64_MAX);
    assert_false(str_number(STR("18446744073709551616"), &n));
    assert_false(str_number(STR(""), &n));
    assert_false(str_number(STR("-1"), &n));
    assert_false(str_number(STR("1 "), &n));
}

static void utf8_is_well_formed_or_refused(void **unused)
{
    static const char *const good[] = {
        "", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2"
                                      "a",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xe2\x82"
                                      "a",
                                      "\xf0\x9f\x98"};
    for (size_t i = 0; i < countof(good); i++)
        assert_true(str_is_utf8(str_of(good[i])));
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(str_is_utf8(str_of(bad[i])));
    assert_true(str_is_ascii(STR("\x7f")) && !str_is_ascii(STR("\x80")));
    for (size_t len = 1; len < 20; len++)
        for (size_t at = 0; at < len; at++) {
            char text[20];
            memset(text, 0x7f, sizeof text);
            assert_true(str_is_ascii((struct str){text, len}));
            text[at] = (char)0x80;
            assert_false(str_is_ascii((struct str){text, len}));
        }
}

static void arenas_align_zero_and_count(void **unused)
{
    struct arena a = {0};
    size_t before = arena_total();
    for (size_t n = 0; n < 3000; n++) {
        memset(arena_space(&a, n % 7), 0xFF, n % 7);
        char *p = arena_alloc(&a, n);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xFF, n);
    }
    assert_int_equal(arena_total() - before, a.held);
    arena_reset(&a);
    assert_int_equal(arena_total(), before);
    struct str copy = arena_str(&a, STR("a\0b"));
    assert_memory_equal(copy.at, "a\0b", 4);
    assert_null(arena_str(&a, STR_NONE).at);
    char text[2000];
    memset(text, 'x', sizeof text);
    assert_int_equal(arena_print(&a, "%.*s!", (int)sizeof text, text).len, 2001);
    assert_string_equal(arena_lower(&a, STR("A\xc9z")).at, "a\xc9z");
    arena_reset(&a);
}

static void control_octets_are_found_at_any_place(void **unused)
{
    char text[40];
    for (int octet = 0; octet < 256; octet++)
        for (size_t len = 1; len <= sizeof text; len++)
            for (size_t at = 0; at < len; at++) {
                memset(text, octet % 2 ? '~' : 0x80, len);
                text[at] = (char)octet;
                assert_int_equal(str_has_control((struct str){text, len}), octet < ' ' || octet == 127);
            }
    assert_false(str_has_control(STR("")));
}

/* Each octet, each length and the seed count, wherever they stand: keys that differ in one of them have other slots. */
static void texts_that_differ_have_other_hashes(void **state)
{
    enum { SLOTS = 1 << 16 };
    static uint8_t taken[SLOTS];
    char text[40] = {0};
    unsigned n = 0, met = 0;
    for (size_t len = 0; len < sizeof text; len++)
        for (size_t at = 0; at <= len; at++)
            for (int bit = 0; bit < (at < len ? 8 : 1); bit++) {
                uint64_t seed = at < len ? 1 : 2;
                if (at < len)
                    text[at] ^= (char)(1 << bit);
                uint64_t h = str_hash((struct str){text, len}, seed);
                assert_int_equal(h, str_hash((struct str){text, len}, seed));
                if (at < len)
                    text[at] ^= (char)(1 << bit);
                met += taken[h % SLOTS];
                taken[h % SLOTS] = 1;
                n++;
            }
    /* n texts in so many slots by chance: n * n / (2 * SLOTS) meet, 300 of 6,280 */
    assert_true(met < n * n / (2 * SLOTS) * 5 / 4);
}

/* A difference in one word and another one in the next do not cancel each other whatever the seed is. */
static void no_two_texts_meet_under_all_seeds(void **state)
{
    char a[16] = {0}, b[16] = {0};
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 64; j++) {
            memset(b, 0, sizeof b);
            b[i / 8] ^= (char)(1 << i % 8);
            b[8 + j / 8] ^= (char)(1 << j % 8);
            for (uint64_t seed = 1; seed < 4; seed++)
                assert_int_not_equal(str_hash((struct str){a, 16}, seed * 0x9E3779B97F4A7C15u),
                                     str_hash((struct str){b, 16}, seed * 0x9E3779B97F4A7C15u));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_leave_what_is_behind),      cmocka_unit_test(parts_are_clamped),
        cmocka_unit_test(case_is_folded_in_ascii_only),   cmocka_unit_test(numbers_do_not_overflow),
        cmocka_unit_test(utf8_is_well_formed_or_refused), cmocka_unit_test(arenas_align_zero_and_count),
        cmocka_unit_test(control_octets_are_found_at_any_place),
        cmocka_unit_test(texts_that_differ_have_other_hashes),
        cmocka_unit_test(no_two_texts_meet_under_all_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
