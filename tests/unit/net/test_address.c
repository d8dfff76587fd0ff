/* test_address.c - addresses as words. */
#include "world.h"

static void each_form_gives_its_canonical_text(void **state)
{
    static const struct {
        const char *from, *text;
        int family;
    } cases[] = {
        {"inet:192.0.2.1:25", "inet:192.0.2.1:25", AF_INET},
        {"192.0.2.1:25", "inet:192.0.2.1:25", AF_INET},
        {"inet6:[2001:DB8::1]:25", "inet6:[2001:db8::1]:25", AF_INET6},
        {"[::1]:2525", "inet6:[::1]:2525", AF_INET6},
        {"[mx.example.org]:25", "inet:mx.example.org:25", 0},
        {"[192.0.2.1]:25", "inet:192.0.2.1:25", AF_INET},
        {":25", "inet6:[::]:25", AF_INET6},
        {"inet::25", "inet:0.0.0.0:25", AF_INET},
        {" unix:/run/x ", "unix:/run/x", AF_UNIX},
        {"inet:mx.example.org:25", "inet:mx.example.org:25", 0},
        {"localhost:10025", "inet:localhost:10025", 0},
        {"inet6:[mx.example.org]:25", "inet6:[mx.example.org]:25", 0},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        struct address a;
        const char *why = "";
        if (!address_parse(str_of(cases[i].from), &W.arena, &a, &why))
            fail_msg("%s: %s", cases[i].from, why);
        assert_str(a.text, cases[i].text);
        assert_int_equal(a.name.ss_family, cases[i].family);
    }
}

static void what_is_no_address_is_refused_with_a_reason(void **state)
{
    static const char *const cases[] = {"",         "25",          "inet:",  "host",          "host:",
                                        "host:x",   "host:65536",  "::1:25", "inet:[::1]:25", "[::1]",
                                        "[:25",     "inet6:[x:25", "unix:",  "unix:rel",      "1.2.3.456:25",
                                        "1.2.3:25", "a b:25",      "-x:25",  "[1::2::3]:25",  "host:-1"};
    for (size_t i = 0; i < countof(cases); i++) {
        struct address a;
        const char *why = NULL;
        if (address_parse(str_of(cases[i]), &W.arena, &a, &why))
            fail_msg("%s was taken", cases[i]);
        assert_non_null(why);
    }
    char path[200] = "unix:/";
    memset(path + 6, 'x', 110);
    struct address a;
    const char *why;
    assert_false(address_parse(str_of(path), &W.arena, &a, &why));
}

static void only_a_bare_port_means_both(void **state)
{
    assert_true(address_is_both(STR(":25")));
    assert_false(address_is_both(STR("[::]:25")));
    assert_false(address_is_both(STR("inet::25")));
}

static void a_mapped_v4_is_v4(void **state)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(25)};
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr);
    struct address a = address_of((struct sockaddr *)&in6, sizeof in6, &W.arena);
    assert_int_equal(a.name.ss_family, AF_INET);
    assert_str(a.text, "inet:192.0.2.7:25");
    assert_str(address_ip(&a, &W.arena), "192.0.2.7");
}

static void a_unix_address_has_a_path_and_no_ip(void **state)
{
    struct address a;
    const char *why;
    assert_true(address_parse(STR("unix:/run/x"), &W.arena, &a, &why));
    struct address b = address_of((struct sockaddr *)&a.name, a.len, &W.arena);
    assert_str(b.host, "/run/x");
    assert_str(b.text, "unix:/run/x");
    assert_str(address_ip(&b, &W.arena), "");
    sa_family_t nameless = AF_UNIX;
    b = address_of((struct sockaddr *)&nameless, sizeof nameless, &W.arena);
    assert_str(b.text, "unix:");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(each_form_gives_its_canonical_text),  CLAIM(what_is_no_address_is_refused_with_a_reason),
        CLAIM(only_a_bare_port_means_both),         CLAIM(a_mapped_v4_is_v4),
        CLAIM(a_unix_address_has_a_path_and_no_ip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
