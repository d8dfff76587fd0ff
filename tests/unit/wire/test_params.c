/* test_params.c - parameters of MAIL and RCPT (RFC 1870, 3461, 6152, 6531), extensions of EHLO, xtext. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/params.h"

static const struct capabilities all = {.has = EXT_SIZE | EXT_8BITMIME | EXT_SMTPUTF8 | EXT_DSN};

static const char *name_of(int reply)
{
    return reply == 0                     ? "fine"
           : reply == REPLY_PARAM_BAD     ? "bad"
           : reply == REPLY_PARAM_TWICE   ? "twice"
           : reply == REPLY_PARAM_VALUE   ? "value"
           : reply == REPLY_PARAM_UNKNOWN ? "unknown"
                                          : "other";
}

static void check_mail(const char *text, struct capabilities can, const char *expected)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    assert_string_equal(name_of(params_parse_mail(str_of(text), SYNTAX_STRICT, can, &arena, &p, &word)), expected);
    arena_reset(&arena);
}

static void check_rcpt(const char *text, const char *expected)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    assert_string_equal(name_of(params_parse_rcpt(str_of(text), SYNTAX_STRICT, all, &arena, &p, &word)), expected);
    arena_reset(&arena);
}

static void mail_parameters_are_read(void **unused)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    assert_int_equal(params_parse_mail(STR("  size=1000  Body=8bitMIME SMTPUTF8 ret=hdrs ENVID=a+2Bb "), SYNTAX_STRICT,
                                       all, &arena, &p, &word),
                     0);
    assert_true(str_equal(p.text, STR("size=1000 Body=8bitMIME SMTPUTF8 ret=hdrs ENVID=a+2Bb")));
    assert_int_equal(p.size, 1000);
    assert_int_equal(p.body, BODY_8BITMIME);
    assert_true(p.smtputf8);
    assert_true(str_equal(p.ret, STR("HDRS")));
    assert_true(str_equal(p.envid, STR("a+2Bb")));
    assert_int_equal(params_parse_mail(STR(""), SYNTAX_STRICT, all, &arena, &p, &word), 0);
    assert_true(p.text.at && p.text.len == 0 && !p.ret.at && !p.envid.at && p.body == BODY_UNSAID);
    assert_int_equal(params_parse_mail(STR("SIZE=99999999999999999999"), SYNTAX_STRICT, all, &arena, &p, &word), 0);
    assert_true(p.size == UINT64_MAX);
    arena_reset(&arena);
}

static void mail_parameters_are_judged(void **unused)
{
    static const char *const bad[] = {
        "SIZE",           "SIZE=", "SIZE=1x",    "SIZE=-1",   "SIZE=999999999999999999999",
        "BODY",           "BODY=", "SMTPUTF8=1", "SMTPUTF8=", "RET=",
        "RET=ALL",        "RET",   "ENVID=",     "ENVID=a+b", "ENVID=a=b",
        "ENVID=a+2b",     "=1",    "-A=1",       "A_B=1",     "\xff",
        "ENVID=\xc3\xa9",
    };
    for (size_t i = 0; i < countof(bad); i++)
        check_mail(bad[i], all, "bad");
    check_mail("BODY=9BIT", all, "value");
    check_mail("BODY=BINARYMIME", all, "value");
    check_mail("SIZE=1 size=2", all, "twice");
    check_mail("NOTIFY=NEVER", all, "unknown");
    check_mail("X-Y=1", all, "unknown");
    check_mail("AUTH=<>", all, "unknown");
    check_mail("AUTH=<>", (struct capabilities){.has = EXT_AUTH}, "fine");
    static const char *const offered[] = {"SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "ENVID=x"};
    for (size_t i = 0; i < countof(offered); i++) {
        check_mail(offered[i], all, "fine");
        check_mail(offered[i], (struct capabilities){0}, "unknown");
    }
}

/* What the strict reader refuses, and the text that the lenient one makes of it; or its reply. */
static void check_loose(bool rcpt, const char *text, const char *expected)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    int reply = rcpt ? params_parse_rcpt(str_of(text), SYNTAX_STRICT, all, &arena, &p, &word)
                     : params_parse_mail(str_of(text), SYNTAX_STRICT, all, &arena, &p, &word);
    assert_string_not_equal(name_of(reply), "fine");
    reply = rcpt ? params_parse_rcpt(str_of(text), SYNTAX_LENIENT, all, &arena, &p, &word)
                 : params_parse_mail(str_of(text), SYNTAX_LENIENT, all, &arena, &p, &word);
    assert_string_equal(reply ? name_of(reply) : p.text.at, expected);
    arena_reset(&arena);
}

static void what_the_world_says_is_brought_into_form(void **unused)
{
    check_loose(false, "ENVID=a+3db", "ENVID=a+3Db");
    check_loose(false, "ENVID=a=b", "ENVID=a+3Db");
    check_loose(false, "envid=+c3+bc ret=hdrs", "RET=HDRS ENVID=+C3+BC");
    check_loose(false, "ENVID=\xc3\xbc", "ENVID=+C3+BC");
    check_loose(false, "SIZE=1 SIZE=2", "SIZE=2");
    check_loose(false, "BODY=7BIT body=8bitmime", "BODY=8BITMIME");
    check_loose(false, "SMTPUTF8 SMTPUTF8", "SMTPUTF8");
    check_loose(false, "AUTH=<>", "");
    check_loose(false, "SIZE=1 AUTH=<>", "SIZE=1");
    check_loose(false, "AUTH=", "");
    check_loose(false, "AUTH=<> AUTH=a", "");
    check_loose(false, "AUTH=a AUTH=<>", "twice");
    check_loose(true, "NOTIFY=SUCCESS,", "NOTIFY=SUCCESS");
    check_loose(true, "NOTIFY=,Success,,DELAY", "NOTIFY=Success,DELAY");
    check_loose(true, "ORCPT=rfc822;a+2bb@c", "ORCPT=rfc822;a+2Bb@c");
    check_loose(true, "ORCPT=rfc822;a=b@c", "ORCPT=rfc822;a+3Db@c");
    check_loose(true, "ORCPT=rfc822;\xc3\xbc@c", "ORCPT=rfc822;+C3+BC@c");
    check_loose(true, "ORCPT=rfc_822;a", "ORCPT=rfc_822;a");
    check_loose(true, "\tNOTIFY=NEVER\tORCPT=rfc822;a", "NOTIFY=NEVER ORCPT=rfc822;a");
    static const char *const bad[] = {
        "ENVID=a+", "ENVID=a+x",    "ENVID=", "RET=FULL RET=HDRS", "ENVID=a ENVID=a", "ENVID=\xfc",
        "SIZE=-1",  "SIZE=1 SIZE=", "RET="};
    for (size_t i = 0; i < countof(bad); i++)
        check_loose(false, bad[i], strchr(bad[i], ' ') && bad[i][0] != 'S' ? "twice" : "bad");
    check_loose(true, "NOTIFY=,", "bad");
    check_loose(true, "NOTIFY=NEVER,,DELAY", "bad");
    check_loose(true, "NOTIFY=DELAY NOTIFY=DELAY", "twice");
    check_loose(false, "FOO\xfc=1", "bad");
}

static void rcpt_parameters_are_judged(void **unused)
{
    check_rcpt("NOTIFY=SUCCESS,failure,Delay ORCPT=rfc822;a+2Bb@c", "fine");
    check_rcpt("notify=never", "fine");
    check_rcpt("ORCPT=utf-8;\xc3\xa9@b", "fine");
    static const char *const bad[] = {"NOTIFY",
                                      "NOTIFY=",
                                      "NOTIFY=NEVER,DELAY",
                                      "NOTIFY=DELAY,",
                                      "NOTIFY=,",
                                      "NOTIFY=X",
                                      "ORCPT=",
                                      "ORCPT=a@b",
                                      "ORCPT=;a@b",
                                      "ORCPT=rfc822;a+b",
                                      "ORCPT=rfc822;\xc3\xa9@b",
                                      "ORCPT=utf-8;\xff"};
    for (size_t i = 0; i < countof(bad); i++)
        check_rcpt(bad[i], "bad");
    check_rcpt("SIZE=1", "unknown");
    check_rcpt("ORCPT=rfc822;a ORCPT=rfc822;b", "twice");
}

static void a_long_orcpt_is_taken_while_its_line_stays_one_that_postfix_reads(void **unused)
{
    char text[1400] = "ORCPT=rfc822;";
    struct arena arena = {0};
    struct params p;
    struct str word;
    for (size_t n = strlen(text), i = 0; i < 1300; i++)
        text[n + i] = 'a';
    static const struct {
        size_t len;
        enum syntax syntax;
        const char *expected;
    } rows[] = {{500, SYNTAX_STRICT, "fine"}, {501, SYNTAX_STRICT, "bad"}, {1200, SYNTAX_LENIENT, "fine"}, {1201, SYNTAX_LENIENT, "bad"}};
    for (size_t i = 0; i < countof(rows); i++) {
        struct str s = {text, strlen("ORCPT=") + rows[i].len};
        assert_string_equal(name_of(params_parse_rcpt(s, rows[i].syntax, all, &arena, &p, &word)), rows[i].expected);
    }
    memset(text + strlen("ORCPT=rfc822;"), '\xfc', 600); /* three octets each as xtext */
    assert_string_equal(name_of(params_parse_rcpt((struct str){text, 600}, SYNTAX_LENIENT, all, &arena, &p, &word)), "bad");
    arena_reset(&arena);
}

static void the_keyword_at_fault_is_named(void **unused)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    assert_int_equal(params_parse_mail(STR("SIZE=1 Foo=bar"), SYNTAX_STRICT, all, &arena, &p, &word),
                     REPLY_PARAM_UNKNOWN);
    assert_string_equal(word.at, "Foo");
    arena_reset(&arena);
}

static void backends_hear_only_what_they_offer(void **unused)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    struct pipe out = {0};
    assert_int_equal(
        params_parse_mail(STR("SIZE=5 BODY=8BITMIME SMTPUTF8 RET=full ENVID=x"), SYNTAX_STRICT, all, &arena, &p, &word),
        0);
    params_put_mail(&p, all, 7, &out);
    params_put_mail(&p, (struct capabilities){0}, 7, &out);
    params_put_mail(&p, (struct capabilities){.has = EXT_SIZE}, 0, &out);
    assert_true(str_equal(pipe_flat(&out, out.octets, &arena), STR(" SIZE=7 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x")));
    pipe_clear(&out);
    assert_false(params_need_more(&p, all));
    assert_true(params_need_more(&p, (struct capabilities){.has = all.has & ~(uint32_t)EXT_DSN}));
    assert_true(params_need_more(&p, (struct capabilities){.has = all.has & ~(uint32_t)EXT_SMTPUTF8}));
    assert_true(params_need_more(&p, (struct capabilities){.has = all.has & ~(uint32_t)EXT_8BITMIME}));
    assert_false(params_need_more(&p, (struct capabilities){.has = all.has & ~(uint32_t)EXT_SIZE}));
    assert_int_equal(params_parse_rcpt(STR("orcpt=rfc822;x NOTIFY=NEVER"), SYNTAX_STRICT, all, &arena, &p, &word), 0);
    params_put_rcpt(&p, all, &out);
    params_put_rcpt(&p, (struct capabilities){0}, &out);
    assert_true(str_equal(pipe_flat(&out, out.octets, &arena), STR(" NOTIFY=NEVER ORCPT=rfc822;x")));
    assert_true(params_need_more(&p, (struct capabilities){0}));
    pipe_clear(&out);
    arena_reset(&arena);
}

static void a_utf8_orcpt_is_told_in_ascii_where_smtputf8_is_not(void **unused)
{
    struct arena arena = {0};
    struct params p;
    struct str word;
    struct pipe out = {0};
    struct capabilities dsn = {.has = EXT_DSN};
    assert_int_equal(params_parse_rcpt(STR("ORCPT=utf-8;a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80@b"), SYNTAX_STRICT, all,
                                       &arena, &p, &word),
                     0);
    params_put_rcpt(&p, all, &out);
    params_put_rcpt(&p, dsn, &out);
    assert_true(str_equal(
        pipe_flat(&out, out.octets, &arena),
        STR(" ORCPT=utf-8;a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80@b ORCPT=utf-8;a\\x{E9}\\x{20AC}\\x{1F600}@b")));
    pipe_clear(&out);
    arena_reset(&arena);
}

static void parameters_that_only_pass_on_are_judged_by_their_grammar(void **unused)
{
    static const struct capabilities can = {.has = EXT_REQUIRETLS | EXT_MT_PRIORITY | EXT_DELIVERBY | EXT_FUTURERELEASE,
                                            .hold_most = 86400};
    static const char *const fine[] = {"REQUIRETLS",
                                       "requiretls BY=0;n",
                                       "MT-PRIORITY=0",
                                       "MT-PRIORITY=-9",
                                       "MT-PRIORITY=9",
                                       "BY=120;R",
                                       "BY=+120;rt",
                                       "BY=-999999999;NT",
                                       "BY=0;N",
                                       "HOLDFOR=1",
                                       "HOLDFOR=86400",
                                       "HOLDUNTIL=2026-12-24T18:00:00Z",
                                       "HOLDUNTIL=2026-12-24T18:00:00.25+01:00"};
    static const char *const bad[] = {"REQUIRETLS=",
                                      "REQUIRETLS=1",
                                      "MT-PRIORITY",
                                      "MT-PRIORITY=",
                                      "MT-PRIORITY=10",
                                      "MT-PRIORITY=+1",
                                      "MT-PRIORITY=-0",
                                      "MT-PRIORITY=-",
                                      "MT-PRIORITY=a",
                                      "BY",
                                      "BY=",
                                      "BY=120",
                                      "BY=120;",
                                      "BY=120;X",
                                      "BY=120;RX",
                                      "BY=120;RTT",
                                      "BY=;R",
                                      "BY=0;R",
                                      "BY=-1;R",
                                      "BY=+0;R",
                                      "BY=1234567890;N",
                                      "BY=1.5;N",
                                      "BY=--1;N",
                                      "HOLDFOR",
                                      "HOLDFOR=",
                                      "HOLDFOR=0",
                                      "HOLDFOR=-1",
                                      "HOLDFOR=1234567890",
                                      "HOLDFOR=86401",
                                      "HOLDFOR=1d",
                                      "HOLDUNTIL=",
                                      "HOLDUNTIL=2026-12-24",
                                      "HOLDUNTIL=2026-12-24T18:00:00",
                                      "HOLDUNTIL=2026-12-24t18:00:00Z",
                                      "HOLDUNTIL=2026-12-24T18:00:00.Z",
                                      "HOLDUNTIL=2026-12-24T18:00:00+0100",
                                      "HOLDUNTIL=2026-12-24T18:00:00ZZ"};
    for (size_t i = 0; i < countof(fine); i++) {
        check_mail(fine[i], can, "fine");
        check_mail(fine[i], all, "unknown");
    }
    for (size_t i = 0; i < countof(bad); i++)
        check_mail(bad[i], can, "bad");
    check_mail("HOLDFOR=1 HOLDUNTIL=2026-12-24T18:00:00Z", can, "twice");
    check_mail("BY=1;R BY=1;R", can, "twice");
    check_rcpt("REQUIRETLS", "unknown");

    struct arena arena = {0};
    struct pipe out = {0};
    struct params p;
    struct str word;
    assert_int_equal(
        params_parse_mail(STR("by=60;nt REQUIRETLS MT-Priority=-3 holdfor=60"), SYNTAX_STRICT, can, &arena, &p, &word),
        0);
    params_put_mail(&p, can, 0, &out);
    assert_true(str_equal(pipe_flat(&out, out.octets, &arena), STR(" REQUIRETLS MT-PRIORITY=-3 BY=60;nt HOLDFOR=60")));
    assert_false(params_need_more(&p, can));
    for (uint32_t bit = EXT_REQUIRETLS; bit <= EXT_FUTURERELEASE; bit <<= 1)
        if (can.has & bit)
            assert_true(params_need_more(&p, (struct capabilities){.has = can.has & ~bit}));
    pipe_clear(&out);
    arena_reset(&arena);
}

static void keywords_with_arguments_are_parsed_cut_and_said(void **unused)
{
    struct arena arena = {0};
    struct capabilities a, b, common;
    capabilities_parse(
        STR("x\nLIMITS rcptmax=50 MAILMAX=7 FOO=1 RCPTDOMAINMAX=2 MAILMAX=0\nMT-PRIORITY MIXER\nDELIVERBY 240\n"
            "FUTURERELEASE 604800 2030-01-01T00:00:00Z\nREQUIRETLS"),
        &a);
    assert_string_equal(capabilities_text(a, &arena).at,
                        "REQUIRETLS\nLIMITS MAILMAX=7 RCPTMAX=50 RCPTDOMAINMAX=2\nMT-PRIORITY MIXER\n"
                        "DELIVERBY 240\nFUTURERELEASE 604800 2030-01-01T00:00:00Z");
    capabilities_parse(
        STR("x\nLIMITS RCPTMAX=100\nMT-PRIORITY STANAG4406\nDELIVERBY 3600\nFUTURERELEASE 3600 2029-01-01T00:00:00Z"),
        &b);
    common = capabilities_common(a, b);
    assert_string_equal(capabilities_text(common, &arena).at,
                        "LIMITS MAILMAX=7 RCPTMAX=50 RCPTDOMAINMAX=2\nMT-PRIORITY\nDELIVERBY 3600\n"
                        "FUTURERELEASE 3600 2029-01-01T00:00:00Z");
    assert_string_equal(capabilities_text(capabilities_common(b, a), &arena).at, capabilities_text(common, &arena).at);
    capabilities_parse(STR("x\nLIMITS\nDELIVERBY\nMT-PRIORITY\nREQUIRETLS"), &b);
    assert_string_equal(capabilities_text(b, &arena).at,
                        "REQUIRETLS\nMT-PRIORITY\nDELIVERBY"); /* no limit: nothing to say */
    static const char *const none[] = {"FUTURERELEASE",
                                       "FUTURERELEASE 3600",
                                       "FUTURERELEASE x 2029-01-01T00:00:00Z",
                                       "FUTURERELEASE 3600 tomorrow",
                                       "FUTURERELEASE 0 2029-01-01T00:00:00Z",
                                       "DELIVERBY x",
                                       "DELIVERBY 1234567890",
                                       "MT-PRIORITY a,b",
                                       "MT-PRIORITY 0123456789012345678901234"};
    for (size_t i = 0; i < countof(none); i++) {
        capabilities_parse(arena_print(&arena, "x\n%s", none[i]), &b);
        assert_int_equal(b.has, 0);
    }
    capabilities_parse(STR("x\nLIMITS RCPTMAX=1234567 MAILMAX=-1 RCPTDOMAINMAX="), &b);
    assert_int_equal(b.rcpt_max + b.mail_max + b.rcpt_domain_max, 0);
    arena_reset(&arena);
}

static void ehlo_is_parsed_cut_and_said(void **unused)
{
    struct capabilities backend, common;
    struct arena arena = {0};
    capabilities_parse(STR("SIZE.example SIZE\npipelining\nSIZE 1000\nFOO bar\n8BITMIME\nXCLIENT NAME addr LOGIN FOO\n"
                           "AUTH=PLAIN\nDSN extra\n\nSTARTTLS"),
                       &backend);
    assert_int_equal(backend.has,
                     EXT_PIPELINING | EXT_SIZE | EXT_8BITMIME | EXT_XCLIENT | EXT_AUTH | EXT_DSN | EXT_STARTTLS);
    assert_int_equal(backend.xclient, XATTR_NAME | XATTR_ADDR | XATTR_LOGIN);
    assert_int_equal(backend.size, 1000);
    struct capabilities ours = {.has = EXT_PIPELINING | EXT_SIZE | EXT_8BITMIME | EXT_ENHANCED | EXT_XCLIENT,
                                .size = 0};
    common = capabilities_common(ours, backend);
    assert_string_equal(capabilities_text(common, &arena).at, "PIPELINING\nSIZE 1000\n8BITMIME");
    ours.size = 10;
    assert_int_equal(capabilities_common(ours, backend).size, 10);
    capabilities_parse(STR("x"), &backend);
    assert_int_equal(backend.has, 0);
    capabilities_parse(STR("x\nSIZE"), &backend);
    assert_int_equal(backend.size, 0);
    assert_string_equal(capabilities_text((struct capabilities){0}, &arena).at, "");
    common = (struct capabilities){.has = UINT32_MAX, .size = UINT64_MAX};
    assert_true(str_find(capabilities_text(common, &arena), STR("XCLIENT")) == capabilities_text(common, &arena).len);
    arena_reset(&arena);
}

static void xtext_goes_there_and_back(void **unused)
{
    struct pipe out = {0};
    struct arena arena = {0};
    xtext_put(STR("a b+c=d\r\n\xc3\xa9~"), &out);
    struct str said = pipe_flat(&out, out.octets, &arena);
    assert_true(str_equal(said, STR("a+20b+2Bc+3Dd+0D+0A+C3+A9~")));
    assert_true(xtext_is_valid(said));
    assert_true(xtext_is_valid(STR("")));
    assert_false(xtext_is_valid(STR("+")));
    assert_false(xtext_is_valid(STR("+2")));
    assert_false(xtext_is_valid(STR("+2g")));
    assert_false(xtext_is_valid(STR("+2b")));
    assert_false(xtext_is_valid(STR("a b")));
    assert_false(xtext_is_valid(STR("a=b")));
    pipe_clear(&out);
    arena_reset(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_parameters_are_read),
        cmocka_unit_test(mail_parameters_are_judged),
        cmocka_unit_test(what_the_world_says_is_brought_into_form),
        cmocka_unit_test(rcpt_parameters_are_judged),
        cmocka_unit_test(a_long_orcpt_is_taken_while_its_line_stays_one_that_postfix_reads),
        cmocka_unit_test(the_keyword_at_fault_is_named),
        cmocka_unit_test(backends_hear_only_what_they_offer),
        cmocka_unit_test(parameters_that_only_pass_on_are_judged_by_their_grammar),
        cmocka_unit_test(keywords_with_arguments_are_parsed_cut_and_said),
        cmocka_unit_test(ehlo_is_parsed_cut_and_said),
        cmocka_unit_test(xtext_goes_there_and_back),
        cmocka_unit_test(a_utf8_orcpt_is_told_in_ascii_where_smtputf8_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
