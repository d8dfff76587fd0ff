/* test_command.c - lines off the pipe at every split, verbs, HELO arguments (RFC 5321 2.3.8, 4.1.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "split.h"
#include "wire/command.h"
#include <time.h>

static const struct how {
    size_t most;
    bool bare_lf;
} strict = {8, false}, normalize = {8, true};

struct taker {
    struct line_reader reader;
    struct arena arena;
    const struct how *how;
};

static void start(void *stage, const void *how)
{
    ((struct taker *)stage)->how = how;
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct str line;
    enum line_took took;
    while ((took = line_take(&t->reader, in, t->how->most, t->how->bare_lf, &t->arena, &line)) != LINE_MORE) {
        if (took == LINE_TOO_LONG) {
            pipe_put(out, STR("{long}"));
            continue;
        }
        pipe_put(out, took == LINE_BAD ? STR("{bad}") : STR("["));
        if (took == LINE_TAKEN) {
            pipe_put(out, line);
            pipe_put(out, STR("]"));
        }
    }
    if (last)
        pipe_print(out, "%s", t->reader.skipping ? "skipping" : in->octets ? "more" : "");
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static void lines_end_with_crlf_and_nothing_else(void **unused)
{
    struct split_stage s = {sizeof(struct taker), start, feed, stop, &strict};
    split_everywhere(&s, STR("NOOP\r\n\r\nQUIT\r\nra"), STR("[NOOP][][QUIT]more"));
    split_everywhere(&s, STR("a\nb\r\nc\rd\r\ne\0\r\nf\r\r\n\n\r\nok\r\n"), STR("{bad}{bad}{bad}{bad}{bad}[ok]"));
    split_everywhere(&s, STR("12345678\r\n123456789\r\nok\r\n"), STR("[12345678]{long}[ok]"));
    split_everywhere(&s, STR("1234567890123\n\r\n\r\r\nok\r\n"), STR("{long}{bad}[ok]"));
    split_everywhere(&s, STR("12345678901234567890\r"), STR("skipping"));
    split_everywhere(&s, STR("1234567\n\n\n\n\n\n\rx\r\nok\r\n"), STR("{long}[ok]"));
    split_everywhere(&s, STR("12345678\r"), STR("more"));
    split_everywhere(&s, STR("12345678\rx\r\nok\r\n"), STR("{long}[ok]"));
}

static void normalized_lines_end_with_lf_too(void **unused)
{
    struct split_stage s = {sizeof(struct taker), start, feed, stop, &normalize};
    split_everywhere(&s, STR("a\nb\r\n\nc\rd\n123456789\nok\n"), STR("[a][b][]{bad}{long}[ok]"));
    split_everywhere(&s, STR("a\r\r\n"), STR("{bad}"));
}

static void an_endless_line_costs_neither_memory_nor_time(void **unused)
{
    struct line_reader r = {0};
    struct pipe in = {0};
    struct arena arena = {0};
    struct str line;
    clock_t begun = clock();
    for (int i = 0; i < 10 << 20; i++) {
        pipe_put(&in, i % 7 ? STR("a") : STR("\n"));
        assert_int_equal(line_take(&r, &in, 2048, false, &arena, &line), LINE_MORE);
        assert_true(in.octets <= 2050);
    }
    assert_true((clock() - begun) / CLOCKS_PER_SEC < 30);
    pipe_put(&in, STR("\r\nQUIT\r\n"));
    assert_int_equal(line_take(&r, &in, 2048, false, &arena, &line), LINE_TOO_LONG);
    assert_int_equal(line_take(&r, &in, 2048, false, &arena, &line), LINE_TAKEN);
    assert_true(str_equal(line, STR("QUIT")));
    assert_true(arena.held < 4096);
    arena_reset(&arena);
}

static void half_a_line_does_not_keep_its_pipe_full(void **unused)
{
    struct line_reader r = {0};
    struct pipe in = {.mark = PIPE_MARK};
    struct arena arena = {0};
    struct str line;
    struct block *b = block_take(BLOCK_READ);
    while (b->used + 6 <= b->size) {
        memcpy(b->octets + b->used, "NOOP\r\n", 6);
        b->used += 6;
    }
    pipe_view(&in, b, b->octets, b->used - 2);
    block_drop(b);
    while (line_take(&r, &in, 2048, false, &arena, &line) == LINE_TAKEN)
        arena_reset(&arena);
    assert_int_equal(in.octets, 4);
    assert_false(pipe_is_full(&in));
    pipe_put(&in, STR("\r\n"));
    assert_int_equal(line_take(&r, &in, 2048, false, &arena, &line), LINE_TAKEN);
    assert_true(str_equal(line, STR("NOOP")));
    arena_reset(&arena);
}

static void check(struct str line, enum verb verb, struct str rest)
{
    struct command c;
    command_parse(line, SYNTAX_STRICT, &c);
    assert_int_equal(c.verb, verb);
    assert_true(str_equal(c.rest, rest));
}

static void verbs_are_words_in_any_case(void **unused)
{
    check(STR("MAIL FROM:<x>"), VERB_MAIL, STR("FROM:<x>"));
    check(STR("mAiL  from:<x> SIZE=1  "), VERB_MAIL, STR("from:<x> SIZE=1"));
    check(STR("rcpt to:<x>"), VERB_RCPT, STR("to:<x>"));
    check(STR("QUIT"), VERB_QUIT, STR(""));
    check(STR("QUIT \t"), VERB_QUIT, STR(""));
    check(STR("QUITX"), VERB_NONE, STR(""));
    check(STR("MAIL\tFROM:<x>"), VERB_NONE, STR(""));
    check(STR(" QUIT"), VERB_NONE, STR("QUIT"));
    check(STR(""), VERB_NONE, STR(""));
    check(STR("DATA:"), VERB_NONE, STR(""));
    for (enum verb v = VERB_NONE + 1; v < VERB_COUNT; v++)
        check(str_of(verb_name(v)), v, STR(""));
    assert_string_equal(verb_name(VERB_NONE), "unknown");
}

static void http_clients_are_recognized(void **unused)
{
    assert_true(command_is_http(STR("GET / HTTP/1.1")));
    assert_true(command_is_http(STR("POST /x HTTP/1.0")));
    assert_true(command_is_http(STR("PRI * HTTP/2.0")));
    assert_true(command_is_http(STR("Host: example.org")));
    assert_true(command_is_http(STR("CONNECT mx:25 HTTP/1.1")));
    assert_false(command_is_http(STR("MAIL FROM:<x@y>")));
    assert_false(command_is_http(STR("MAIL FROM: <x@y>")));
    assert_false(command_is_http(STR("EHLO x")));
    assert_false(command_is_http(STR("HELP GET")));
    assert_false(command_is_http(STR("")));
}

static void check_helo(const char *text, const char *to_the_letter, const char *as_meant)
{
    struct arena arena = {0};
    struct str name;
    assert_string_equal(helo_take(str_of(text), SYNTAX_STRICT, &arena, &name) ? name.at : "bad", to_the_letter);
    assert_string_equal(helo_take(str_of(text), SYNTAX_LENIENT, &arena, &name) ? name.at : "bad", as_meant);
    arena_reset(&arena);
}

static void helo_arguments_are_taken_as_said_or_as_meant(void **unused)
{
    check_helo("mx.example.org", "mx.example.org", "mx.example.org");
    check_helo("two  \t words", "bad", "two words");
    check_helo("<x>", "bad", "<x>");
    check_helo("[192.0.2.1", "[192.0.2.1", "[192.0.2.1");
    check_helo("a\x01\x7f", "bad", "a??");
    check_helo("m\xc3\xbc", "m\xc3\xbc", "m\xc3\xbc");
    check_helo("m\xfc", "bad", "bad");
    check_helo("", "bad", "bad");
}

static void tabs_are_blanks_to_the_lenient_reader(void **unused)
{
    struct command c;
    command_parse(STR(" \tnoop\tx y\t"), SYNTAX_LENIENT, &c);
    assert_int_equal(c.verb, VERB_NOOP);
    assert_true(str_equal(c.rest, STR("x y")));
    command_parse(STR("noop\tx"), SYNTAX_STRICT, &c);
    assert_int_equal(c.verb, VERB_NONE);
    command_parse(STR(" noop"), SYNTAX_STRICT, &c);
    assert_int_equal(c.verb, VERB_NONE);
    command_parse(STR(" \t "), SYNTAX_LENIENT, &c);
    assert_int_equal(c.verb, VERB_NONE);
}

static void helo_arguments_are_judged_leniently(void **unused)
{
    char longest[256];
    memset(longest, 'a', sizeof longest);
    assert_true(helo_is_valid(STR("mx_1.example.org")));
    assert_true(helo_is_valid(STR("[192.0.2.1]")));
    assert_true(helo_is_valid(STR("[IPv6:::1]")));
    assert_true(helo_is_valid(STR("b\xc3\xbc"
                                  "cher.example")));
    assert_true(helo_is_valid((struct str){longest, 255}));
    assert_false(helo_is_valid((struct str){longest, 256}));
    assert_false(helo_is_valid(STR("")));
    assert_false(helo_is_valid(STR("a b")));
    assert_false(helo_is_valid(STR("<a>")));
    assert_false(helo_is_valid(STR("a\tb")));
    assert_false(helo_is_valid(STR("a\x7f")));
    assert_false(helo_is_valid(STR("a\xff")));
}

static void bdat_counts_octets_or_is_none(void **unused)
{
    uint64_t n;
    bool last;
    assert_true(bdat_parse(STR("0"), &n, &last) && n == 0 && !last);
    assert_true(bdat_parse(STR("86 LAST"), &n, &last) && n == 86 && last);
    assert_true(bdat_parse(STR("0086  last"), &n, &last) && n == 86 && last);
    assert_true(bdat_parse(STR("18446744073709551615"), &n, &last) && n == UINT64_MAX && !last);
    static const char *const bad[] = {"",        "LAST",
                                      "x",       "-1",
                                      "+1",      "1.5",
                                      "1 FIRST", "1 LAST LAST",
                                      "1LAST",   "0x10",
                                      "10,LAST", "1 LASTING",
                                      "1 LAS",   "18446744073709551616"};
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(bdat_parse(str_of(bad[i]), &n, &last));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_crlf_and_nothing_else),
        cmocka_unit_test(normalized_lines_end_with_lf_too),
        cmocka_unit_test(an_endless_line_costs_neither_memory_nor_time),
        cmocka_unit_test(half_a_line_does_not_keep_its_pipe_full),
        cmocka_unit_test(verbs_are_words_in_any_case),
        cmocka_unit_test(http_clients_are_recognized),
        cmocka_unit_test(helo_arguments_are_taken_as_said_or_as_meant),
        cmocka_unit_test(tabs_are_blanks_to_the_lenient_reader),
        cmocka_unit_test(helo_arguments_are_judged_leniently),
        cmocka_unit_test(bdat_counts_octets_or_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
