/* test_authres.c - Authentication-Results as tokens (RFC 8601 2.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/authres.h"
#include <time.h>

static struct arena arena;

static int reset(void **unused)
{
    arena_reset(&arena);
    return 0;
}

/* "id: method=result[name=value]..." ; "-": no id */
static void reads(const char *value, const char *expected)
{
    struct authres walk;
    struct authres_result r;
    struct authres_property p;
    struct str id, out = STR("-");
    if (authres_start(&walk, str_of(value), &arena, &id)) {
        out = arena_print(&arena, "%.*s:", STR_ARGS(id));
        while (authres_next(&walk, &r)) {
            out = arena_print(&arena, "%.*s %.*s=%.*s", STR_ARGS(out), STR_ARGS(r.method), STR_ARGS(r.result));
            while (authres_property(&r, &arena, &p))
                out = arena_print(&arena, "%.*s[%.*s=%.*s]", STR_ARGS(out), STR_ARGS(p.name), STR_ARGS(p.value));
        }
    }
    if (!str_equal(out, str_of(expected)))
        print_error("%s: gave \"%.*s\", not \"%s\"\n", value, STR_ARGS(out), expected);
    assert_true(str_equal(out, str_of(expected)));
}

static void results_are_read(void **unused)
{
    reads("mx; spf=pass smtp.mailfrom=a@b; dkim=Fail reason=\"bad; (sig)\" header.d=c",
          "mx: spf=pass[smtp.mailfrom=a@b] dkim=fail[reason=bad; (sig)][header.d=c]");
    reads("(c) \"m x\" 1 (d); none", "m x:");
    reads("MX ; DKIM / 1 = Pass (x)", "MX: dkim=pass");
    reads("mx; dkim/1=pass header.i = @x", "mx: dkim=pass[header.i=@x]");
    reads("mx", "mx:");
    reads("mx;;; spf=none;", "mx: spf=none");
}

static void nothing_quoted_or_commented_is_a_result(void **unused)
{
    reads("mx; spf=pass smtp.mailfrom=\"x; dkim=pass; y\"@evil", "mx: spf=pass[smtp.mailfrom=x; dkim=pass; y@evil]");
    reads("mx; spf=none (of \"a; dkim=pass (b\"@evil) x=y", "mx: spf=none");
    reads("mx; spf=pass (x; dkim=pass)", "mx: spf=pass");
    reads("mx; spf=pass x=\"a\\\"; dkim=pass; \\\"\"@y", "mx: spf=pass[x=a\"; dkim=pass; \"@y]");
    reads("mx; spf=pass x=\"a; dkim=pass", "mx: spf=pass[x=a; dkim=pass]");
    reads("mx; spf=fail (a; dkim=pass", "mx: spf=fail");
    reads("mx (c; dkim=pass) ; spf=pass", "mx: spf=pass");
}

static void what_is_broken(void **unused)
{
    reads("spf=pass", "-");
    reads("", "-");
    reads(";;", "-");
    reads("(mx", "-");
    reads("mx x; spf=pass", "-");
    reads("mx; spf=; dkim; =x; a=b (", "mx: a=b");
    reads("mx; a=b = = c d=e", "mx: a=b[d=e]");
}

static void time_and_memory_are_linear(void **unused)
{
    static const char *const parts[] = {"a=b ", "; a=b", "\"", "(", "()", "\\", "a ", "="};
    static char text[1 << 18];
    for (size_t i = 0; i < countof(parts); i++) {
        size_t len = strlen(parts[i]), n = 6;
        memcpy(text, "mx;a=b", 6);
        for (; n + len <= sizeof text; n += len)
            memcpy(text + n, parts[i], len);
        struct authres walk;
        struct authres_result r;
        struct authres_property p;
        struct str id;
        clock_t begun = clock();
        if (authres_start(&walk, (struct str){text, n}, &arena, &id))
            while (authres_next(&walk, &r))
                while (authres_property(&r, &arena, &p))
                    ;
        assert_true((clock() - begun) / CLOCKS_PER_SEC < 3);
        assert_true(arena.held < 20 * sizeof text);
        arena_reset(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(results_are_read, reset),
        cmocka_unit_test_teardown(nothing_quoted_or_commented_is_a_result, reset),
        cmocka_unit_test_teardown(what_is_broken, reset),
        cmocka_unit_test_teardown(time_and_memory_are_linear, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
