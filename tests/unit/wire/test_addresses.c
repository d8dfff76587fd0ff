/* test_addresses.c - addresses of header fields, broken ones too. What real mail has stands in
 * tests/lua/odd_headers.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/addresses.h"
#include <time.h>

static struct arena arena;

static int reset(void **unused)
{
    arena_reset(&arena);
    return 0;
}

/* Addresses as "name|local|domain", joined by a space. */
static void reads(const char *value, const char *expected)
{
    struct addresses walk;
    struct mailbox m;
    struct str out = STR("");
    addresses_start(&walk, str_of(value), &arena);
    while (addresses_next(&walk, &m))
        out = arena_print(&arena, "%.*s%s%.*s|%.*s|%.*s", STR_ARGS(out), out.len ? " " : "", STR_ARGS(m.name),
                          STR_ARGS(m.local), STR_ARGS(m.domain));
    if (!str_equal(out, str_of(expected)))
        print_error("%s: gave \"%.*s\", not \"%s\"\n", value, STR_ARGS(out), expected);
    assert_true(str_equal(out, str_of(expected)));
}

static void mailboxes_and_groups(void **unused)
{
    reads("", "");
    reads("a@B.Example", "|a|b.example");
    reads("Rose Bush <a@b>, \"X, Y\" <c@d>", "Rose Bush|a|b X, Y|c|d");
    reads("G: a@b, H <c@d>;, e@f", "|a|b H|c|d |e|f");
    reads("Undisclosed recipients:;", "");
    reads("<>", "||");
    reads("<@one,@two:a@b>", "|a|b");
    reads("(c) a (d) @ (e) b . (f) c", "|a|b.c");
    reads("a@[192.0.2.1], b@[IPv6:2001:db8::1], <c@[IPv6:::1]>", "|a|[192.0.2.1] |b|[ipv6:2001:db8::1] |c|[ipv6:::1]");
    reads("a@b.", "|a|b");
    reads("\"a b\"@c, \"a@b\"@c, \"a\\\"b\"@c", "|a b|c |a@b|c |a\"b|c");
}

static void what_others_have_misread(void **unused)
{
    reads("\"'X, Y' via Z\" <spam@lists.example>", "'X, Y' via Z|spam|lists.example");
    reads("\"bogus@domain.example\" <real@domain.example>", "bogus@domain.example|real|domain.example");
    reads("\"a, b; c: <d@e>\" (f, g@h) <i@j.example>", "a, b; c: <d@e>|i|j.example");
    reads("\"foo \\\"bar\\\" quux\" <foo@quux.example>", "foo \"bar\" quux|foo|quux.example");
    reads("boss@one.example(boss@one.example\x01@two.example", "|boss|one.example");
    reads("< a@b >, <\ta @ b>", "|a|b |a|b");
    reads("< <a@b>>", "|a|b");
    reads("<(c) @one:a@b>", "|a|b");
    reads("a@b <>, <> c@d", "a@b|| || |c|d");
}

static void what_is_broken(void **unused)
{
    reads("A <a@b", "A|a|b");
    reads("A <a@b, B <c@d>", "A|a|b B|c|d");
    reads("<<a@b>>", "|a|b");
    reads("<a@b> <c@d>", "|a|b |c|d");
    reads("\"A <a@b>, B <c@d>", "\"A|a|b B|c|d");
    reads("a@b (oops, c@d", "|a|b");
    reads("(oops a@b", "");
    reads("a@b c@d", "|a|b |c|d");
    reads("Rose a@b", "|a|b");
    reads("rose", "|rose|");
    reads("a@b>", "|a|b");
    reads("<a@b> oops, x", "|a|b |x|");
    reads("a@b@c", "|a@b|c");
    reads("a@", "|a|");
    reads("@b", "||b");
    reads(",;,", "");
    reads("a\xff@b", "|a\xef\xbf\xbd|b");
    reads("a@b\\", "|a|b\\");
    reads("\"\\\"\\\"\\\" a@b", "|a|b");
}

static void time_is_linear(void **unused)
{
    static const char *const parts[] = {"<",    "\"", "\\\"", "(",   ")",  ":", ",",   "a@b ", "a@b,",
                                        "<a@b", "[",  "@",    "(\"", "\\", " ", "@[:", "a "};
    static char text[1 << 18];
    for (size_t i = 0; i <= countof(parts); i++) {
        size_t len = i < countof(parts) ? strlen(parts[i]) : sizeof text, n = 0;
        memset(text, ' ', sizeof text / 2);
        memset(text + sizeof text / 2, ':', sizeof text / 2);
        text[0] = '<'; /* many colons behind much white space: the last round */
        for (; n + len <= sizeof text; n += len)
            if (i < countof(parts))
                memcpy(text + n, parts[i], len);
        struct addresses walk;
        struct mailbox m;
        clock_t begun = clock();
        addresses_start(&walk, (struct str){text, n}, &arena);
        for (int k = 0; k < ADDRESSES_MOST && addresses_next(&walk, &m); k++)
            assert_true(str_is_utf8(m.address) && str_is_utf8(m.domain));
        assert_true((clock() - begun) / CLOCKS_PER_SEC < 3);
        assert_true(arena.held < 60 * sizeof text);
        arena_reset(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(mailboxes_and_groups, reset),
        cmocka_unit_test_teardown(what_others_have_misread, reset),
        cmocka_unit_test_teardown(what_is_broken, reset),
        cmocka_unit_test_teardown(time_is_linear, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
