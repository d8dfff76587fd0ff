/* Patterns: groups, names, octets, and that no pattern holds a thread for long. */
#include "base/pattern.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <cmocka.h>

static struct pattern *good(const char *text)
{
    char error[256] = "";
    struct pattern *p = pattern_open(str_of(text), error, sizeof error);
    if (!p)
        print_error("%s\n", error);
    assert_non_null(p);
    return p;
}

static void groups_say_where(void **state)
{
    struct pattern *p = good("(?i)(a+)(x)?(b+)");
    struct pattern_match m;
    assert_int_equal(pattern_match(p, STR("--AAbb"), 0, &m), PATTERN_YES);
    assert_int_equal(m.count, 4);
    assert_true(m.group[0].from == 2 && m.group[0].to == 6);
    assert_true(m.group[1].from == 2 && m.group[1].to == 4 && m.group[1].set);
    assert_false(m.group[2].set);
    assert_int_equal(pattern_match(p, STR("--AAbb"), 4, &m), PATTERN_NO);
    assert_int_equal(pattern_match(p, STR("ab"), 9, &m), PATTERN_NO);
    assert_int_equal(pattern_match(p, STR("ab"), 0, NULL), PATTERN_YES);
    pattern_close(p);
}

static void mistakes_say_their_offset(void **state)
{
    char error[256];
    assert_null(pattern_open(STR("ab(c"), error, sizeof error));
    assert_non_null(strstr(error, "offset 4"));
    assert_null(pattern_open(STR("a\\Cb"), error, sizeof error));
}

static void subjects_are_octets(void **state)
{
    struct pattern *p = good("^\\xff.b$");
    char text[] = {(char)0xff, 0, 'b'};
    assert_int_equal(pattern_match(p, (struct str){text, 3}, 0, NULL), PATTERN_YES);
    pattern_close(p);
    p = good("^$");
    assert_int_equal(pattern_match(p, STR_NONE, 0, NULL), PATTERN_YES);
    pattern_close(p);
}

static void utf_is_asked_for_and_survives_bad_octets(void **state)
{
    struct pattern *p = good("(*UTF)^.$");
    assert_int_equal(pattern_match(p, STR("\xc3\xa4"), 0, NULL), PATTERN_YES);
    pattern_close(p);
    p = good("(*UTF)b");
    assert_int_equal(pattern_match(p, STR("\xff\xfe b"), 0, NULL), PATTERN_YES);
    assert_int_equal(pattern_match(p, STR("\xff\xfe"), 0, NULL), PATTERN_NO);
    pattern_close(p);
}

static void names_are_known(void **state)
{
    struct pattern *p = good("(?<user>\\w+)@(?<host>\\w+)");
    const char *names[4];
    int numbers[4];
    assert_int_equal(pattern_names(p, names, numbers, 4), 2);
    assert_string_equal(names[0], "host");
    assert_int_equal(numbers[0], 2);
    assert_int_equal(pattern_name(p, STR("user")), 1);
    assert_int_equal(pattern_name(p, STR("none")), -1);
    assert_int_equal(pattern_names(p, names, numbers, 1), 1);
    pattern_close(p);
    p = good("x");
    assert_int_equal(pattern_names(p, names, numbers, 4), 0);
    assert_int_equal(pattern_name(p, STR("x")), -1);
    pattern_close(p);
}

static void more_groups_than_kept_still_match(void **state)
{
    char text[256] = "";
    for (int i = 0; i < 50; i++)
        strcat(text, "(.)");
    struct pattern *p = good(text);
    struct pattern_match m;
    char subject[51];
    memset(subject, 'x', 50);
    assert_int_equal(pattern_match(p, (struct str){subject, 50}, 0, &m), PATTERN_YES);
    assert_int_equal(m.count, PATTERN_GROUPS);
    assert_true(m.group[0].to == 50);
    pattern_close(p);
}

static void runaway_patterns_give_up_soon(void **state)
{
    static const char *const evil[] = {"^(a+)+$", "(*NO_JIT)^(a+)+$", "^(?:a|a)*b\\1?$|^((a*)*)*c$", "(x+x+)+y",
                                       "(*NO_JIT)^(?:.|\\n)*?(?:.|\\n)*?(?:.|\\n)*?(?:.|\\n)*?z$"};
    char subject[20001];
    memset(subject, 'a', 20000);
    for (size_t i = 0; i < countof(evil); i++) {
        char error[256];
        struct pattern *p = pattern_open(str_of(evil[i]), error, sizeof error);
        if (!p)
            continue;
        if (i == 3)
            memset(subject, 'x', 20000);
        subject[19999] = '!';
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        assert_int_not_equal(pattern_match(p, (struct str){subject, 20000}, 0, NULL), PATTERN_YES);
        clock_gettime(CLOCK_MONOTONIC, &to);
        assert_true((double)(to.tv_sec - from.tv_sec) < 5);
        pattern_close(p);
    }
}

static void recursion_gives_up_and_does_not_crash(void **state)
{
    struct pattern *p = good("^(\\((?1)*\\)|x)+$"), *q = good("(*NO_JIT)^(\\((?1)*\\)|x)+$");
    size_t n = 1000000;
    char *deep = must_alloc(n);
    memset(deep, '(', n);
    assert_int_not_equal(pattern_match(p, (struct str){deep, n}, 0, NULL), PATTERN_YES);
    assert_int_not_equal(pattern_match(q, (struct str){deep, n}, 0, NULL), PATTERN_YES);
    free(deep);
    pattern_close(p);
    pattern_close(q);
}

static void *match_often(void *p)
{
    for (int i = 0; i < 2000; i++)
        assert_int_equal(pattern_match(p, STR("needle in hay"), 0, NULL), PATTERN_YES);
    return NULL;
}

static void one_pattern_serves_many_threads(void **state)
{
    struct pattern *p = good("in\\s+hay");
    pthread_t threads[4];
    for (size_t i = 0; i < countof(threads); i++)
        pthread_create(&threads[i], NULL, match_often, p);
    for (size_t i = 0; i < countof(threads); i++)
        pthread_join(threads[i], NULL);
    pattern_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_say_where),
        cmocka_unit_test(mistakes_say_their_offset),
        cmocka_unit_test(subjects_are_octets),
        cmocka_unit_test(utf_is_asked_for_and_survives_bad_octets),
        cmocka_unit_test(names_are_known),
        cmocka_unit_test(more_groups_than_kept_still_match),
        cmocka_unit_test(runaway_patterns_give_up_soon),
        cmocka_unit_test(recursion_gives_up_and_does_not_crash),
        cmocka_unit_test(one_pattern_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
