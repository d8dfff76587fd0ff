/* Patterns: groups, names, octets, and that no pattern holds a thread for long. */
#include "base/pattern.h"
#include <pthread.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
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

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned asked;
static double until;
static bool stop_at(void)
{
    asked++;
    return seconds(CLOCK_THREAD_CPUTIME_ID) >= until;
}

/* Steps that PCRE2 does not count: possessive repetition from each place, a look ahead at each place of one match. */
static void what_pcre2_does_not_count_is_stopped_too(void **state)
{
    static const char *const evil[] = {"(?:\\w|-)*+[:;]", "(*NO_JIT)(?:\\w|-)*+[:;]", "(?>\\w+)[:;]", "^(?:(?=\\w*+)\\w)*+[xy]",
                                       "(*UTF)(?:\\w|-)*+[:;]", "(*UTF)(*NO_JIT)(?>\\w+)[:;]", "(?:a|b)*[cd]", "(?=(?:a?){20}[cd])"};
    size_t n = 400000;
    char *subject = must_alloc(n);
    memset(subject, 'a', n);
    for (size_t i = 0; i < countof(evil); i++) {
        struct pattern *p = good(evil[i]);
        double began = seconds(CLOCK_THREAD_CPUTIME_ID);
        until = began + 0.1;
        asked = 0;
        assert_int_not_equal(pattern_match_until(p, (struct str){subject, n}, 0, NULL, stop_at), PATTERN_YES);
        double took = seconds(CLOCK_THREAD_CPUTIME_ID) - began;
        if (took > 1)
            fail_msg("%s: %.3f s", evil[i], took);
        assert_true(asked > 0 || i > 5); /* the others may run out of the JIT's stack at once */
        pattern_close(p);
    }
    struct pattern *p = good(evil[0]); /* nobody watches: given up by itself */
    double began = seconds(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(pattern_match(p, (struct str){subject, n}, 0, NULL), PATTERN_LIMIT);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - began < 3);
    pattern_close(p);
    free(subject);
}

static void what_needs_the_beginning_of_a_search_is_refused(void **state)
{
    static const char *const bad[] = {"a(*SKIP)(*F)|b", "a(*COMMIT)b", "a|\\Gb", "(*SKIP:x)a", "(?<=\\Ga)b"};
    char error[256];
    for (size_t i = 0; i < countof(bad); i++)
        assert_null(pattern_open(str_of(bad[i]), error, sizeof error));
    assert_non_null(strstr(error, "\\G"));
    pattern_close(good("\\Ga|\\Gb"));
    pattern_close(good("a\\\\G"));
    pattern_close(good("a(*PRUNE)b(*THEN)c|(*F)"));
}

static const char *const plain[] = {
    "needle", "^needle", "needle$", "(?m)^needle", "(?m)needle$", "(?<=x)needle", "(?<!x)needle", "x?needle", "\\bneedle\\b",
    "(n)(e)(x)?(e)dle", "(?i)NEEDLE", ".*needle", "(?s).*needle", "(?s).needle.", "[^a]+", "n\\Keedle", "(?=needle)", "\\z", "\\Z", "$",
    "(?m)$", "(*PRUNE)n+e(*THEN)e", "(.)(.)\\2\\1", "(?|(n)|(x))e", "needle|\\xff", "\\A.", "\\Gneedle", "(*UTF)\\x{e4}", "(*UTF).needle",
    "(*UTF)[^a]", "(*UTF)(?<=\\x{e4})n", "(*UTF)\\X", "(*UTF)\\P{L}+", "(*UTF)", "(*UTF)$", "(*UTF)(*NO_JIT)[^a]+", "(*NO_JIT)(?<=x)needle",
    "(*NO_JIT)needle$", "(*NO_JIT)(?m)^.*needle", "a*needle", "(?:a|x)*+n", "(*CRLF)(?m)^needle", "\\R", "(?<w>a{3}x)", "\\w+?(x)",
    "(*ANYCRLF)(?m)^.", "(*NO_START_OPT)needle", "(*UTF)(?i)\\x{c4}"};

/* The same pattern by PCRE2 itself, in one call without limits of ours. */
static int by_pcre2(pcre2_code *code, pcre2_match_data *data, struct str s, size_t from)
{
    return pcre2_match(code, (PCRE2_SPTR)s.at, s.len, from, 0, data, NULL);
}

static struct pattern *compare(const char *text, struct str s, const size_t *starts, size_t nstarts)
{
    int number;
    size_t offset;
    struct pattern *p = good(text);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, strstr(text, "(*UTF)") ? PCRE2_MATCH_INVALID_UTF : 0,
                                     &number, &offset, NULL);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    pcre2_match_data *data = pcre2_match_data_create(PATTERN_GROUPS, NULL);
    for (size_t i = 0; i < nstarts; i++) {
        struct pattern_match m;
        int rc = by_pcre2(code, data, s, starts[i]);
        enum pattern_took took = pattern_match(p, s, starts[i], &m);
        if (took != (rc >= 0 ? PATTERN_YES : PATTERN_NO))
            fail_msg("%s from %zu: %d, not %d", text, starts[i], took, rc);
        PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
        for (int g = 0; g < rc; g++)
            if (m.group[g].set != (at[2 * g] != PCRE2_UNSET) ||
                (m.group[g].set && (m.group[g].from != at[2 * g] || m.group[g].to != at[2 * g + 1])))
                fail_msg("%s from %zu: group %d %zu %zu, not %zu %zu", text, starts[i], g, m.group[g].from, m.group[g].to,
                         at[2 * g], at[2 * g + 1]);
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return p;
}

/* All matches, as a script's gmatch walks, by us and by PCRE2. */
static void walk(const char *text, struct str s, size_t most)
{
    size_t from = 0;
    for (size_t n = 0; n < most && from <= s.len; n++) {
        struct pattern_match m;
        struct pattern *p = compare(text, s, &from, 1);
        enum pattern_took took = pattern_match(p, s, from, &m);
        pattern_close(p);
        if (took != PATTERN_YES)
            return;
        from = m.group[0].to > m.group[0].from ? m.group[0].to : m.group[0].to + 1;
    }
}

static void windows_find_what_one_search_finds(void **state)
{
    static const size_t lengths[] = {0, 1, 2047, 2048, 2049, 5000, 40000};
    static const char *const pieces[] = {"a", "x", "needle", "\n", "\r\n", "\xc3\xa4", "\xa4", "\xff", "xneedle", "\xe2\x82\xac", " ", "aaax"};
    srandom(7);
    for (size_t round = 0; round < 4 * countof(lengths); round++) {
        size_t len = lengths[round % countof(lengths)];
        unsigned sparse = round / countof(lengths) & 1 ? 300 : 1;
        char *octets = must_alloc(len + 16);
        for (size_t at = 0; at < len;) {
            const char *piece = random() % sparse ? "a" : pieces[(size_t)random() % countof(pieces)];
            memcpy(octets + at, piece, strlen(piece));
            at += strlen(piece);
        }
        struct str s = {octets, len};
        size_t starts[] = {0, 0, len / 2, len};
        starts[1] = len ? (size_t)random() % len : 0;
        for (size_t i = 0; i < countof(plain); i++) {
            pattern_close(compare(plain[i], s, starts, countof(starts)));
            walk(plain[i], s, 10);
        }
        free(octets);
    }
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
        cmocka_unit_test(what_pcre2_does_not_count_is_stopped_too),
        cmocka_unit_test(what_needs_the_beginning_of_a_search_is_refused),
        cmocka_unit_test(windows_find_what_one_search_finds),
        cmocka_unit_test(one_pattern_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
