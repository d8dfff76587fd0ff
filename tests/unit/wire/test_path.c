/* test_path.c - paths in, paths out (RFC 5321 4.1.2, 4.1.3, RFC 6531 3.3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/path.h"

/* "address|local|domain|what is behind|printed", or the reply. */
static void check_as(enum syntax syntax, enum path_kind kind, struct str text, const char *expected)
{
    struct arena arena = {0};
    struct path p;
    struct str rest = text;
    int reply = path_parse(&rest, kind, syntax, &arena, &p);
    const char *said = reply == REPLY_PATH_TOO_LONG                                 ? "too long"
                       : reply == REPLY_SENDER_SYNTAX || reply == REPLY_RCPT_SYNTAX ? "syntax"
                       : reply                                                      ? "other"
                                                                                    : NULL;
    if (!said) {
        said = arena_print(&arena, "%s|%s|%s|%.*s|%s", p.address.at, p.local.at, p.domain.at, STR_ARGS(rest),
                           path_print(&p, &arena).at)
                   .at;
        assert_int_equal(p.null, p.address.len == 0);
        assert_int_equal(p.utf8, !str_is_ascii(text));
        /* What we say is read back as the same. */
        struct path again;
        struct str printed = path_print(&p, &arena);
        assert_int_equal(path_parse(&printed, kind, p.null || p.domain.len ? SYNTAX_STRICT : syntax, &arena, &again),
                         0);
        assert_true(str_equal(again.address, p.address) && str_equal(again.local, p.local));
        /* So is what filters see. */
        if (p.null || p.domain.len || syntax == SYNTAX_STRICT)
            assert_int_equal(path_from_address(p.address, kind, &arena, &again), 0);
        assert_true(str_equal(again.address, p.address) && str_equal(again.domain, p.domain));
    }
    assert_string_equal(said, expected);
    arena_reset(&arena);
}

static void check(enum path_kind kind, struct str text, const char *expected)
{
    check_as(SYNTAX_STRICT, kind, text, expected);
}

/* What the strict reader refuses, and the lenient one reads so. */
static void check_loose(const char *text, const char *expected)
{
    check(PATH_FORWARD, str_of(text), "syntax");
    check_as(SYNTAX_LENIENT, PATH_FORWARD, str_of(text), expected);
    check_as(SYNTAX_LENIENT, PATH_REVERSE, str_of(text), expected);
}

static void what_the_world_says_is_brought_into_form(void **unused)
{
    check_loose("a@B.example", "a@b.example|a|b.example||<a@B.example>");
    check_loose("  a@b.example NOTIFY=NEVER", "a@b.example|a|b.example| NOTIFY=NEVER|<a@b.example>");
    check_loose("< a @ b.example > X=1", "a@b.example|a|b.example| X=1|<a@b.example>");
    check_loose("\t<a\t@\tb.example\t>\tX=1", "a@b.example|a|b.example|\tX=1|<a@b.example>");
    check_loose("<do..como@b.example>", "do..como@b.example|do..como|b.example||<\"do..como\"@b.example>");
    check_loose("<.a@b.example>", ".a@b.example|.a|b.example||<\".a\"@b.example>");
    check_loose("<a.@b.example>", "a.@b.example|a.|b.example||<\"a.\"@b.example>");
    check_loose("<a@b.example.>", "a@b.example|a|b.example||<a@b.example>");
    check_loose("<a:b@c.example>", "a:b@c.example|a:b|c.example||<\"a:b\"@c.example>");
    check_loose("<a.\"b\".c@d.example>", "a.b.c@d.example|a.b.c|d.example||<a.b.c@d.example>");
    check_loose("\"a b\"@c.example", "a b@c.example|a b|c.example||<\"a b\"@c.example>");
    check_loose("<@x.example,@y:.a@c.example>", ".a@c.example|.a|c.example||<\".a\"@c.example>");
    check_loose("<root>", "root|root|||<root>");
    check_loose("Root", "root|Root|||<Root>");
    check_loose("<Some Name <a@b.example>>", "a@b.example|a|b.example||<a@b.example>");
    check_loose("<\"N., \\\" <x@y>\" M. < a@b.example > >", "a@b.example|a|b.example||<a@b.example>");
    check_as(SYNTAX_LENIENT, PATH_REVERSE, STR("<  >"), "||||<>");
    check_as(SYNTAX_LENIENT, PATH_REVERSE, STR("<postmaster>"), "postmaster|postmaster|||<postmaster>");
}

static void what_could_mean_two_things_stays_refused(void **unused)
{
    static const char *const bad[] = {
        "",
        " ",
        "<",
        ">",
        "<a@b",
        "a@b>",
        "<<a@b>>",
        "< <a@b>>",
        "<x@y <a@b>>",
        "<x, y <a@b>>",
        "<x: <a@b>>",
        "<x (y) <a@b>>",
        "<x\\ <a@b>>",
        "<x <a@b>",
        "<x <a@b> y>",
        "<x <>>",
        "<x <@y:a@b>>",
        "<x <a b@c>>",
        "<x <y <a@b>>>",
        "<x <a@b> <c@d>>",
        "<a@b>,<c@d>",
        "<a@b>x",
        "<a@b,c@d>",
        "<a@b@c>",
        "<a@@b>",
        "<a(x)@b>",
        "<a@b(x)>",
        "(x)<a@b>",
        "<a b@c>",
        "<a\\@b@c>",
        "<a\\ b@c>",
        "<a@b..>",
        "<a@b..c>",
        "<a@.b>",
        "<a@>",
        "<@b>",
        "<@>",
        "<@x:>",
        "<@x:root>",
        "< @x:a@b>",
        "<a!b>",
        "<a%b>",
        "<\"a@b\">",
        "<\"a\">",
        "<a.>",
        "<..>",
        "<\"\"@b>",
        "<\"a\"b@c>",
        "<a\"b\"@c>",
        "<\"a@b>",
        "[a@b]",
        "<a;b@c>",
        "<a,b@c>",
        "<a\x01@b>",
        "<a\x7f@b>",
        "<\"a\tb\"@c>",
        "<a\xff@b>",
        "<a@b .c>",
    };
    for (size_t i = 0; i < countof(bad); i++) {
        check_as(SYNTAX_LENIENT, PATH_REVERSE, str_of(bad[i]), "syntax");
        check_as(SYNTAX_LENIENT, PATH_FORWARD, str_of(bad[i]), "syntax");
    }
    check_as(SYNTAX_LENIENT, PATH_FORWARD, STR("< >"), "syntax");
    check_as(SYNTAX_LENIENT, PATH_FORWARD, STR("<a\0b@c>"), "syntax");
}

static void paths_are_read(void **unused)
{
    check(PATH_REVERSE, STR("<a@b.example>"), "a@b.example|a|b.example||<a@b.example>");
    check(PATH_FORWARD, STR("<A.b+c@EXAMPLE.Org> NOTIFY=NEVER"),
          "A.b+c@example.org|A.b+c|example.org| NOTIFY=NEVER|<A.b+c@EXAMPLE.Org>");
    check(PATH_FORWARD, STR("<a!#$%&'*/=?^_`{|}~-@x_y.z>"),
          "a!#$%&'*/=?^_`{|}~-@x_y.z|a!#$%&'*/=?^_`{|}~-|x_y.z||<a!#$%&'*/=?^_`{|}~-@x_y.z>");
    check(PATH_REVERSE, STR("<> SIZE=1"), "||| SIZE=1|<>");
    check(PATH_FORWARD, STR("<PostMaster>"), "postmaster|PostMaster|||<PostMaster>");
    check(PATH_FORWARD, STR("<@a,@b.c:d@e>"), "d@e|d|e||<d@e>");
    check(PATH_FORWARD, STR("<x@localhost>"), "x@localhost|x|localhost||<x@localhost>");
}

static void quoted_local_parts_are_unquoted_and_quoted_again(void **unused)
{
    check(PATH_REVERSE, STR("<\"a b\"@c>"), "a b@c|a b|c||<\"a b\"@c>");
    check(PATH_REVERSE, STR("<\"a\\\"\\\\>@\"@c>"), "a\"\\>@@c|a\"\\>@|c||<\"a\\\"\\\\>@\"@c>");
    check(PATH_REVERSE, STR("<\"plain\"@c>"), "plain@c|plain|c||<\"plain\"@c>");
    check(PATH_REVERSE, STR("<\"a..b\"@c>"), "a..b@c|a..b|c||<\"a..b\"@c>");
    check(PATH_REVERSE, STR("<\"postmaster\"@c>"), "postmaster@c|postmaster|c||<\"postmaster\"@c>");
}

static void address_literals_are_checked(void **unused)
{
    check(PATH_FORWARD, STR("<a@[192.0.2.1]>"), "a@[192.0.2.1]|a|[192.0.2.1]||<a@[192.0.2.1]>");
    check(PATH_FORWARD, STR("<a@[IPv6:::1]>"), "a@[ipv6:::1]|a|[ipv6:::1]||<a@[IPv6:::1]>");
    check(PATH_FORWARD, STR("<a@[IPv6:2001:DB8:0:0::25]>"),
          "a@[ipv6:2001:db8::25]|a|[ipv6:2001:db8::25]||<a@[IPv6:2001:DB8:0:0::25]>");
    check(PATH_FORWARD, STR("<a@[IPv6:::ffff:192.0.2.1]>"), "a@[192.0.2.1]|a|[192.0.2.1]||<a@[IPv6:::ffff:192.0.2.1]>");
    check(PATH_FORWARD, STR("<a@[x-tag:content!]>"), "a@[x-tag:content!]|a|[x-tag:content!]||<a@[x-tag:content!]>");
    static const char *const bad[] = {
        "<a@[192.0.2.256]>", "<a@[192.0.2]>",    "<a@[IPv6:1.2.3.4]>", "<a@[IPv6:::g]>", "<a@[]>",
        "<a@[::1]>",         "<a@[x-:y]>",       "<a@[x:]>",           "<a@[x:y z]>",    "<a@[x:y[]>",
        "<a@[192.0.2.1>",    "<a@[192.0.2.1]x>", "<a@x[192.0.2.1]>",
    };
    for (size_t i = 0; i < countof(bad); i++)
        check(PATH_FORWARD, str_of(bad[i]), "syntax");
}

static void utf8_paths_are_marked(void **unused)
{
    check(PATH_REVERSE, STR("<\xc3\xa9@b\xc3\xbc.example>"),
          "\xc3\xa9@b\xc3\xbc.example|\xc3\xa9|b\xc3\xbc.example||<\xc3\xa9@b\xc3\xbc.example>");
    check(PATH_REVERSE, STR("<\"\xc3\xa9 a\"@b>"), "\xc3\xa9 a@b|\xc3\xa9 a|b||<\"\xc3\xa9 a\"@b>");
    check(PATH_REVERSE, STR("<\xe9@b>"), "syntax");
    check(PATH_REVERSE, STR("<a@b\xff.c>"), "syntax");
    check(PATH_REVERSE, STR("<\"\\\xc3\xa9\"@b>"), "syntax");
}

static void malformed_paths_are_refused(void **unused)
{
    static const char *const bad[] = {
        "",
        "<",
        ">",
        "a@b",
        "<a@b",
        "<a>",
        "<a@>",
        "<@b>",
        "<a@@b>",
        "<a@b@c>",
        "<a b@c>",
        "< a@b>",
        "<a@b >",
        "<a@b>x",
        "<<a@b>>",
        "< <a@b>>",
        "<x@y <a@b>>",
        "<x, y <a@b>>",
        "<x: <a@b>>",
        "<x (y) <a@b>>",
        "<x\\ <a@b>>",
        "<x <a@b>",
        "<x <a@b> y>",
        "<x <>>",
        "<x <@y:a@b>>",
        "<x <a b@c>>",
        "<x <y <a@b>>>",
        "<x <a@b> <c@d>>",
        "<a..b@c>",
        "<.a@c>",
        "<a.@c>",
        "<a@b.>",
        "<a@.b>",
        "<a@b..c>",
        "<a@-b>",
        "<a@b->",
        "<a@b c>",
        "<\"\"@c>",
        "<\"a@c>",
        "<\"a\"b@c>",
        "<\"a\tb\"@c>",
        "<a\"b\"@c>",
        "<a@b,c>",
        "<a@b;c>",
        "<(x)a@b>",
        "<a:b@c>",
        "<@a>",
        "<@a:>",
        "<@a:b>",
        "<@a,b:c@d>",
        "<@a@b:c@d>",
        "<:a@b>",
        "<\"\\",
        "<\"\\\"",
        "<a@b\\>",
        "<a@b!c>",
        "<@a:postmaster>",
        "<postmaster@>",
        "<\"postmaster\">",
    };
    for (size_t i = 0; i < countof(bad); i++) {
        check(PATH_REVERSE, str_of(bad[i]), "syntax");
        check(PATH_FORWARD, str_of(bad[i]), "syntax");
    }
    check(PATH_FORWARD, STR("<>"), "syntax");
    check(PATH_REVERSE, STR("<postmaster>"), "syntax");
    check(PATH_REVERSE, STR("<@a:>"), "syntax");
    check(PATH_REVERSE, STR("<a\0b@c>"), "syntax");
    check(PATH_REVERSE, STR("<\"a\0b\"@c>"), "syntax");
}

static void check_length(size_t local, size_t label, size_t labels, const char *expected)
{
    char text[4096] = "<";
    size_t n = 1;
    memset(text + n, 'a', local);
    n += local;
    text[n++] = '@';
    for (size_t i = 0; i < labels; i++) {
        if (i)
            text[n++] = '.';
        memset(text + n, 'b', label);
        n += label;
    }
    text[n++] = '>';
    struct arena arena = {0};
    struct path p;
    struct str rest = {text, n};
    int reply = path_parse(&rest, PATH_REVERSE, SYNTAX_STRICT, &arena, &p);
    assert_string_equal(reply == 0 ? "fine" : reply == REPLY_PATH_TOO_LONG ? "too long" : "syntax", expected);
    arena_reset(&arena);
}

static void lengths_are_bounded(void **unused)
{
    check_length(64, 3, 1, "fine");
    check_length(PATH_LOCAL_MOST, 63, 1, "fine");
    check_length(PATH_LOCAL_MOST + 1, 63, 1, "too long");
    check_length(1, 64, 1, "syntax");
    check_length(1, 1, 128, "fine");
    check_length(1, 1, 129, "too long");
}

static void a_long_route_is_too_long(void **unused)
{
    char text[2048] = "<@a";
    size_t n = 3;
    while (n < PATH_MOST)
        n += (size_t)sprintf(text + n, ",@b");
    n += (size_t)sprintf(text + n, ":c@d>");
    check(PATH_REVERSE, (struct str){text, n}, "too long");
}

static void addresses_of_filters_are_read_as_meant(void **unused)
{
    static const struct {
        struct str address;
        const char *printed;
    } good[] = {
        {{"john doe@Example.org", 20}, "<\"john doe\"@Example.org>"},
        {{"\"john doe\"@example.org", 22}, "<\"john doe\"@example.org>"},
        {{"a@b@c", 5}, "<\"a@b\"@c>"},
        {{"a@b", 3}, "<a@b>"},
        {{"Postmaster", 10}, "<Postmaster>"},
    };
    static const char *const bad[] = {"",      "a",    "a@",      "@b",     "<a@b>", "a\r\nRCPT TO:<x>@b",
                                      "a@b c", "a@b>", "a\x7f@b", "\xff@b", "a@b@"};
    struct arena arena = {0};
    struct path p;
    for (size_t i = 0; i < countof(good); i++) {
        assert_int_equal(path_from_address(good[i].address, PATH_FORWARD, &arena, &p), 0);
        assert_string_equal(path_print(&p, &arena).at, good[i].printed);
        assert_int_equal(p.raw.len + 2, strlen(good[i].printed));
    }
    for (size_t i = 0; i < countof(bad); i++)
        assert_int_not_equal(path_from_address(str_of(bad[i]), PATH_FORWARD, &arena, &p), 0);
    assert_int_equal(path_from_address(STR(""), PATH_REVERSE, &arena, &p), 0);
    assert_true(p.null);
    struct pipe out = {0};
    path_put(&p, &out);
    assert_true(str_equal(pipe_flat(&out, out.octets, &arena), STR("<>")));
    pipe_clear(&out);
    char text[3000];
    memset(text, 'a', sizeof text);
    assert_int_equal(path_from_address((struct str){text, sizeof text}, PATH_FORWARD, &arena, &p), REPLY_PATH_TOO_LONG);
    memcpy(text + 300, "@b", 2);
    assert_int_equal(path_from_address((struct str){text, 302}, PATH_FORWARD, &arena, &p), REPLY_PATH_TOO_LONG);
    text[3] = ' ';
    assert_int_equal(path_from_address((struct str){text, 302}, PATH_FORWARD, &arena, &p), REPLY_PATH_TOO_LONG);
    arena_reset(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_read),
        cmocka_unit_test(what_the_world_says_is_brought_into_form),
        cmocka_unit_test(what_could_mean_two_things_stays_refused),
        cmocka_unit_test(quoted_local_parts_are_unquoted_and_quoted_again),
        cmocka_unit_test(address_literals_are_checked),
        cmocka_unit_test(utf8_paths_are_marked),
        cmocka_unit_test(malformed_paths_are_refused),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(a_long_route_is_too_long),
        cmocka_unit_test(addresses_of_filters_are_read_as_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
