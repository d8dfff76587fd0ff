/* test_words.c - the grammars of the command line of sluice try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "try/words.h"

static struct arena arena;

static void an_address_may_have_a_port(void **state)
{
    static const struct {
        const char *text, *ip;
        unsigned port;
    } good[] = {
        {"192.0.2.1", "192.0.2.1", 7},
        {"192.0.2.1:4711", "192.0.2.1", 4711},
        {"2001:DB8::1", "2001:db8::1", 7},
        {"[2001:db8::1]:99", "2001:db8::1", 99},
        {"[2001:db8::1]", "2001:db8::1", 7},
        {"[192.0.2.1]:1", "192.0.2.1", 1},
        {"[::ffff:192.0.2.1]:5", "192.0.2.1", 5},
    };
    static const char *const bad[] = {"",
                                      "x",
                                      "192.0.2",
                                      "192.0.2.1:",
                                      "192.0.2.1:0",
                                      "192.0.2.1:65536",
                                      "192.0.2.1:x",
                                      "[2001:db8::1",
                                      "[2001:db8::1]x",
                                      "[]",
                                      "2001:db8:::1",
                                      "192.0.2.1 ",
                                      "::ffff:192.0.2.1:5:6:7:8:9"};
    for (size_t i = 0; i < countof(good); i++) {
        struct str ip;
        uint16_t port = 7;
        assert_true(words_client(str_of(good[i].text), &arena, &ip, &port));
        assert_string_equal(ip.at, good[i].ip);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < countof(bad); i++) {
        struct str ip;
        uint16_t port = 7;
        assert_false(words_client(str_of(bad[i]), &arena, &ip, &port));
    }
}

static void a_user_may_have_a_method(void **state)
{
    struct str user, method;
    assert_true(words_auth(STR("joe"), &arena, &user, &method));
    assert_string_equal(user.at, "joe");
    assert_string_equal(method.at, "PLAIN");
    assert_true(words_auth(STR("a:b:LOGIN"), &arena, &user, &method));
    assert_string_equal(user.at, "a:b");
    assert_string_equal(method.at, "LOGIN");
    assert_true(words_auth(STR(""), &arena, &user, &method)); /* a mechanism that tells no name */
    assert_false(words_auth(STR("joe:"), &arena, &user, &method));
    assert_false(words_auth(STR("j\noe"), &arena, &user, &method));
}

static void a_version_of_tls_in_any_spelling(void **state)
{
    struct str v;
    assert_true(words_tls(STR("1.3"), &arena, &v) && str_equal(v, STR("TLSv1.3")));
    assert_true(words_tls(STR("TLSv1.2"), &arena, &v) && str_equal(v, STR("TLSv1.2")));
    assert_true(words_tls(STR("v1.0"), &arena, &v) && str_equal(v, STR("TLSv1")));
    assert_false(words_tls(STR("2"), &arena, &v) || words_tls(STR(""), &arena, &v) ||
                 words_tls(STR("TLSv"), &arena, &v));
}

static void a_reply_has_a_stage_and_a_code(void **state)
{
    struct try_who who = {0};
    assert_true(words_reply(STR("rcpt=550 5.1.1 no = no"), &arena, &who));
    assert_int_equal(who.rcpt_reply.code, 550);
    assert_int_equal(who.rcpt_reply.enhanced[1], 1);
    assert_true(str_equal(who.rcpt_reply.text, STR("no = no")));
    assert_true(words_reply(STR("message=250 queued as A1"), &arena, &who) &&
                words_reply(STR("mail=451 x"), &arena, &who));
    static const char *const bad[] = {"",           "rcpt",       "rcpt=",  "rcpt=no",         "rcpt=354 go",
                                      "data=250 x", "rcpt=999 x", "=250 x", "rcpt=550 4.1.1 x"};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(words_reply(str_of(bad[i]), &arena, &who));
}

static void only_what_a_client_decides_is_a_fact(void **state)
{
    struct try_who who = {0};
    assert_true(words_fact(STR("tls.sni=mx.test"), &arena, &who) && words_fact(STR("tls.bits=128"), &arena, &who));
    assert_true(words_fact(STR("tls.verified=1"), &arena, &who) && words_fact(STR("tls.subject="), &arena, &who));
    assert_string_equal(who.tls_facts.sni.at, "mx.test");
    assert_int_equal(who.tls_facts.bits, 128);
    assert_true(who.tls_facts.verified);
    static const char *const bad[] = {
        "", "tls.sni", "tls.bits=x", "tls.verified=2", "client.ip=1", "score=5", "tls.bits=99999999999999999999"};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(words_fact(str_of(bad[i]), &arena, &who));
}

static void a_time_is_read(void **state)
{
    int64_t at;
    assert_true(words_time(STR("2026-01-05T12:00:00Z"), &at) && at == 1767614400000000);
    assert_true(words_time(STR("1767614400"), &at) && at == 1767614400000000);
    assert_true(words_time(STR("2026-01-05T12:00:00.25Z"), &at) && at == 1767614400250000);
    assert_true(words_time(STR("2026-01-05T13:30:00+01:30"), &at) && at == 1767614400000000);
    assert_true(words_time(STR("2026-01-05T10:30:00-01:30"), &at) && at == 1767614400000000);
    assert_true(words_time(STR("0"), &at) && at == 0);
    static const char *const bad[] = {"",
                                      "now",
                                      "2026-01-05",
                                      "2026-01-05T12:00:00",
                                      "2026-01-05T12:00:00+1",
                                      "2026-01-05T12:00:00Zx",
                                      "2026-01-05T12:00:00+01:30x",
                                      "-5",
                                      "99999999999999999999"};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(words_time(str_of(bad[i]), &at));
}

static void what_is_expected_is_a_verdict_or_a_code(void **state)
{
    struct trial t = {.fate = REFUSED, .reply = {.code = 554}};
    assert_true(words_expect(STR("reject")) && words_expect(STR("5xx")) && words_expect(STR("451")) &&
                words_expect(STR("error")));
    assert_false(words_expect(STR("")) || words_expect(STR("refuse")) || words_expect(STR("6xx")) ||
                 words_expect(STR("099")) || words_expect(STR("5x")));
    assert_true(words_is_expected(STR("reject"), &t) && words_is_expected(STR("5XX"), &t) &&
                words_is_expected(STR("554"), &t));
    assert_false(words_is_expected(STR("drop"), &t) || words_is_expected(STR("4xx"), &t) ||
                 words_is_expected(STR("550"), &t));
}

static bool is_number(const char *text)
{
    uint64_t n;
    return str_number(str_of(text), &n);
}

static void a_filter_is_written_with_its_options(void **state)
{
    const char *const options[] = {"n=7", "t=say \"x\"\\\n", "empty="};
    struct str text = words_filter(&arena, STR("a\"b.lua"), 3, options, is_number);
    assert_string_equal(text.at, "filter \"a\\034b.lua\" {\n[\"n\"] = 7\n,\n[\"t\"] = \"say "
                                 "\\034x\\034\\092\\010\"\n,\n[\"empty\"] = \"\"\n,\n}");
    const char *const nameless[] = {"=7"}, *const valueless[] = {"n"}, *const odd[] = {"a]=1"};
    assert_null(words_filter(&arena, STR("x"), 1, nameless, is_number).at);
    assert_null(words_filter(&arena, STR("x"), 1, valueless, is_number).at);
    assert_null(words_filter(&arena, STR("x"), 1, odd, is_number).at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_may_have_a_port),
        cmocka_unit_test(a_user_may_have_a_method),
        cmocka_unit_test(a_version_of_tls_in_any_spelling),
        cmocka_unit_test(a_reply_has_a_stage_and_a_code),
        cmocka_unit_test(only_what_a_client_decides_is_a_fact),
        cmocka_unit_test(a_time_is_read),
        cmocka_unit_test(what_is_expected_is_a_verdict_or_a_code),
        cmocka_unit_test(a_filter_is_written_with_its_options),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_reset(&arena);
    block_forget();
    return failed;
}
