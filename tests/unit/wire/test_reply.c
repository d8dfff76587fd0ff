/* test_reply.c - replies taken, written and made from text (RFC 5321 4.2, RFC 3463). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "split.h"
#include "wire/command.h"
#include "wire/reply.h"

struct taker {
    struct arena arena;
    bool over;
};

/* Takes replies until there is no whole one; tells each, and how it ended. */
static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct reply r;
    enum reply_took took = REPLY_MORE;
    while (!t->over && (took = reply_take(in, &t->arena, &r)) == REPLY_TAKEN) {
        pipe_print(out, "{%u %u.%u.%u ", r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2]);
        pipe_put(out, r.text);
        pipe_put(out, STR("}"));
    }
    if (!t->over && took == REPLY_BAD) {
        pipe_put(out, STR("BAD"));
        t->over = true;
    }
    if (last && !t->over)
        pipe_print(out, "MORE %zu", in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static const struct split_stage taker = {sizeof(struct taker), NULL, feed, stop, NULL};

static void reply_take_gives_code_enhanced_and_text(void **unused)
{
    split_everywhere(&taker, STR("250 2.1.0 Ok\r\n"), STR("{250 2.1.0 Ok}MORE 0"));
    split_everywhere(&taker, STR("250\r\n250 \r\n250-\r\n250\r\n"),
                     STR("{250 0.0.0 }{250 0.0.0 }{250 0.0.0 \n}MORE 0"));
    split_everywhere(&taker, STR("250-mx.example.org\r\n250-SIZE 10\r\n250 DSN\r\n354 go"),
                     STR("{250 0.0.0 mx.example.org\nSIZE 10\nDSN}MORE 6"));
    split_everywhere(&taker, STR("550-5.7.1 one\r\n550 5.7.1 two\r\n"), STR("{550 5.7.1 one\ntwo}MORE 0"));
    split_everywhere(&taker, STR("550 5.7.26\r\n"), STR("{550 5.7.26 }MORE 0"));
}

static void reply_take_leaves_what_only_looks_enhanced(void **unused)
{
    split_everywhere(&taker, STR("550 4.7.1 class\r\n"), STR("{550 0.0.0 4.7.1 class}MORE 0"));
    split_everywhere(&taker, STR("550 5.1.2.3 listed\r\n"), STR("{550 0.0.0 5.1.2.3 listed}MORE 0"));
    split_everywhere(&taker, STR("550 5.7 x\r\n"), STR("{550 0.0.0 5.7 x}MORE 0"));
    split_everywhere(&taker, STR("550 5.1234.1 x\r\n"), STR("{550 0.0.0 5.1234.1 x}MORE 0"));
    split_everywhere(&taker, STR("354 3.0.0 go\r\n"), STR("{354 0.0.0 3.0.0 go}MORE 0"));
    split_everywhere(&taker, STR("250-2.0.0\r\n250 2.0.0x\r\n"), STR("{250 2.0.0 \n2.0.0x}MORE 0"));
}

static void reply_take_cleans_control_octets(void **unused)
{
    split_everywhere(&taker, STR("250 a\0b\x1b[1m\tc\x7f\xc3\xa9\xff\r\n"),
                     STR("{250 0.0.0 a?b?[1m\tc?\xc3\xa9\xff}MORE 0"));
}

static void reply_take_refuses_nonsense(void **unused)
{
    static const char *const bad[] = {
        "SSH-2.0",       "25x",          "199 x\r\n",    "600 x\r\n", "150 x\r\n",
        "250x\r\n",      "250 a\nb\r\n", "250 a\rb\r\n", "250\n",     "250-a\r\n251 b\r\n",
        "250-a\r\n\r\n", "\r\n",         " 250 x\r\n",   "250\rx",    "+OK",
    };
    for (size_t i = 0; i < countof(bad); i++)
        split_everywhere(&taker, str_of(bad[i]), STR("BAD"));
    split_everywhere(&taker, STR("250-a\r\n25"), STR("MORE 9"));
}

static void reply_take_knows_bad_at_the_first_octet_that_shows_it(void **unused)
{
    struct pipe in = {0};
    struct arena arena = {0};
    struct reply r;
    pipe_put(&in, STR("2"));
    assert_int_equal(reply_take(&in, &arena, &r), REPLY_MORE);
    pipe_put(&in, STR("x"));
    assert_int_equal(reply_take(&in, &arena, &r), REPLY_BAD);
    pipe_clear(&in);
    arena_reset(&arena);
}

static void reply_take_bounds_octets_and_lines(void **unused)
{
    for (size_t len = REPLY_OCTETS - 2; len <= REPLY_OCTETS + 2; len++) {
        struct pipe in = {0};
        struct arena arena = {0};
        struct reply r;
        char text[REPLY_OCTETS + 8];
        memset(text, 'a', sizeof text);
        memcpy(text, "250 ", 4);
        memcpy(text + len - 2, "\r\n", 2);
        pipe_put(&in, (struct str){text, len});
        assert_int_equal(reply_take(&in, &arena, &r), len <= REPLY_OCTETS ? REPLY_TAKEN : REPLY_BAD);
        pipe_clear(&in);
        for (size_t i = 0; i < REPLY_OCTETS - 1; i++)
            pipe_put(&in, i < 4 ? str_part(STR("250 "), i, i + 1) : STR("a"));
        assert_int_equal(reply_take(&in, &arena, &r), REPLY_MORE);
        pipe_put(&in, STR("a"));
        assert_int_equal(reply_take(&in, &arena, &r), REPLY_BAD);
        pipe_clear(&in);
        arena_reset(&arena);
    }
    for (int lines = REPLY_LINES - 1; lines <= REPLY_LINES + 1; lines++) {
        struct pipe in = {0};
        struct arena arena = {0};
        struct reply r;
        for (int i = 1; i < lines; i++)
            pipe_put(&in, STR("250-a\r\n"));
        pipe_put(&in, STR("250 a\r\n"));
        assert_int_equal(reply_take(&in, &arena, &r), lines <= REPLY_LINES ? REPLY_TAKEN : REPLY_BAD);
        pipe_clear(&in);
        arena_reset(&arena);
    }
}

static void an_unfinished_reply_does_not_keep_its_pipe_full(void **unused)
{
    struct pipe in = {.mark = PIPE_MARK};
    struct arena arena = {0};
    struct reply r;
    struct block *b = block_take(BLOCK_READ);
    memset(b->octets, 'a', b->size);
    memcpy(b->octets + b->size - 6, "250 Ok", 6);
    b->used = b->size;
    pipe_view(&in, b, b->octets, b->size);
    block_drop(b);
    pipe_drop(&in, in.octets - 6);
    assert_true(pipe_is_full(&in));
    assert_int_equal(reply_take(&in, &arena, &r), REPLY_MORE);
    assert_false(pipe_is_full(&in));
    pipe_put(&in, STR("\r\n"));
    assert_int_equal(reply_take(&in, &arena, &r), REPLY_TAKEN);
    assert_true(str_equal(r.text, STR("Ok")));
    assert_true(pipe_is_empty(&in));
    arena_reset(&arena);
}

static void check_put(struct reply r, bool enhanced, struct str expected)
{
    struct pipe out = {0};
    struct arena arena = {0};
    reply_put(&r, &out, enhanced);
    struct str said = pipe_flat(&out, out.octets, &arena);
    if (!str_equal(said, expected))
        print_error("said \"%.*s\"\n", STR_ARGS(said));
    assert_true(str_equal(said, expected));
    pipe_clear(&out);
    arena_reset(&arena);
}

static void reply_put_writes_lines(void **unused)
{
    check_put(reply_named(REPLY_OK), true, STR("250 2.0.0 Ok\r\n"));
    check_put(reply_named(REPLY_OK), false, STR("250 Ok\r\n"));
    check_put(reply_named(REPLY_START_INPUT), true, STR("354 End data with <CR><LF>.<CR><LF>\r\n"));
    check_put((struct reply){550, {5, 7, 1}, STR("a\n\nb")}, true, STR("550-5.7.1 a\r\n550-5.7.1 \r\n550 5.7.1 b\r\n"));
    check_put((struct reply){250, {0}, STR("")}, true, STR("250 \r\n"));
    check_put((struct reply){250, {0}, STR_NONE}, true, STR("250 \r\n"));
}

static void reply_put_lets_no_line_end_through(void **unused)
{
    check_put((struct reply){550, {0}, STR("a\r250 b\0c\x7f\td")}, true, STR("550 a?250 b?c?\td\r\n"));
}

static void reply_put_cuts_long_lines_between_characters(void **unused)
{
    struct pipe out = {0}, in = {0};
    struct arena arena = {0};
    struct reply r = {.code = 250, .enhanced = {2, 0, 0}};
    char text[1501];
    text[0] = 'a';
    for (size_t i = 1; i < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    r.text = (struct str){text, sizeof text};
    reply_put(&r, &out, true);
    pipe_move(&out, &in, out.octets);
    struct reply back;
    assert_int_equal(reply_take(&in, &arena, &back), REPLY_TAKEN);
    struct str rest = back.text;
    size_t total = 0, lines = 0;
    while (rest.at) {
        struct str line = str_cut(&rest, '\n');
        assert_true(line.len <= 500);
        assert_true(str_is_utf8(line));
        total += line.len;
        lines++;
    }
    assert_int_equal(total, sizeof text);
    assert_int_equal(lines, 4);
    arena_reset(&arena);
    pipe_clear(&in);
}

static void every_sentence_is_sound(void **unused)
{
    for (enum reply_name name = 0; name < REPLY_COUNT; name++) {
        struct reply r = reply_named(name);
        assert_in_range(r.code, 200, 599);
        assert_true(r.enhanced[0] == 0 || r.enhanced[0] == reply_class(&r));
        assert_true(r.enhanced[0] != 0 || name == REPLY_BANNER || name == REPLY_START_INPUT);
        assert_true(str_is_ascii(r.text) && r.text.len < 200);
    }
}

static bool is_for_all(enum verb verb)
{
    return verb != VERB_EXPN && verb != VERB_ETRN && verb != VERB_XCLIENT && verb != VERB_XFORWARD;
}

static void help_lists_each_verb_that_is_served_to_all(void **unused)
{
    for (enum verb verb = VERB_NONE + 1; verb < VERB_COUNT; verb++) {
        struct str rest = reply_named(REPLY_HELP).text, word;
        bool listed = false;
        while ((word = str_word(&rest)).len)
            listed |= str_equal(word, str_of(verb_name(verb)));
        if (listed != is_for_all(verb))
            fail_msg("HELP and %s", verb_name(verb));
    }
}

static void reply_print_fills_in_and_cleans(void **unused)
{
    struct arena arena = {0};
    struct reply r = reply_print(&arena, REPLY_PARAM_UNKNOWN, "X\r\n250 y");
    assert_true(str_equal(r.text, STR("Parameter not recognized: X??250 y")));
    assert_int_equal(r.code, 555);
    arena_reset(&arena);
}

static void check_text(struct str text, unsigned class, const char *expected)
{
    struct arena arena = {0};
    struct reply r, otherwise = {class == 4 ? 451 : class == 5 ? 550 : 250, {class, 7, 9}, STR("default")};
    const char *said = "refused";
    if (reply_from_text(text, class, otherwise, &arena, &r))
        said = arena_print(&arena, "%u %u.%u.%u %.*s", r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2],
                           STR_ARGS(r.text))
                   .at;
    assert_string_equal(said, expected);
    arena_reset(&arena);
}

static void reply_from_text_reads_what_is_given(void **unused)
{
    check_text(STR("554 5.7.1 no"), 5, "554 5.7.1 no");
    check_text(STR("554 no"), 5, "554 5.7.9 no");
    check_text(STR("5.7.1 no"), 5, "550 5.7.1 no");
    check_text(STR("no"), 5, "550 5.7.9 no");
    check_text(STR(""), 5, "550 5.7.9 default");
    check_text(STR_NONE, 4, "451 4.7.9 default");
    check_text(STR("450 4.2.0"), 4, "450 4.2.0 default");
    check_text(STR("450 4.2.0 a\r\nb\n\n"), 4, "450 4.2.0 a\nb");
    check_text(STR("450\n4.2.0 a"), 4, "450 4.2.0 a");
}

static void reply_from_text_rejects_mismatched_classes(void **unused)
{
    check_text(STR("554 no"), 4, "refused");
    check_text(STR("250 yes"), 5, "refused");
    check_text(STR("354 go"), 5, "refused");
    check_text(STR("554 4.7.1 no"), 5, "refused");
    check_text(STR("4.7.1 no"), 5, "refused");
    check_text(STR("999 no"), 5, "refused");
    check_text(STR("1000 recipients"), 5, "550 5.7.9 1000 recipients");
    check_text(STR("5.7.1.1 is listed"), 4, "451 4.7.9 5.7.1.1 is listed");
}

static void reply_from_text_drops_control_octets_and_bounds(void **unused)
{
    check_text(STR("550 5.7.1 a\r250 b\0\x1b"
                   "c\td"),
               5, "550 5.7.1 a250 bc\td");
    struct arena arena = {0};
    struct reply r;
    char text[30000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 1000 == 999 ? '\n' : 'a';
    assert_true(reply_from_text((struct str){text, sizeof text}, 5, reply_named(REPLY_FILTER_REJECT), &arena, &r));
    assert_int_equal(r.text.len, 20 * 400 + 19);
    arena_reset(&arena);
}

static void what_stands_in_front_of_a_text_is_found(void **unused)
{
    static const struct {
        const char *text;
        int code; /* -1: none */
        unsigned class, detail;
        size_t enhanced_at, octets;
    } fronts[] = {
        {"550 5.7.1 no", 550, 5, 1, 4, 10}, {"550 no", 550, 0, 0, 4, 4},   {"5.7.12 no", -1, 5, 12, 0, 7}, {"no", -1, 0, 0, 0, 0},
        {"", -1, 0, 0, 0, 0},               {"550", 550, 0, 0, 3, 3},      {"5.7.1", -1, 5, 1, 0, 5},      {"000 x", 0, 0, 0, 4, 4},
        {"550\t5.7.1 no", 550, 5, 1, 4, 10}, {"550\n no", 550, 0, 0, 5, 5}, {"5500 no", -1, 0, 0, 0, 0},    {"55", -1, 0, 0, 0, 0},
        {"5.7 no", -1, 0, 0, 0, 0},         {"3.7.1 no", -1, 0, 0, 0, 0},  {"5.7.1x", -1, 0, 0, 0, 0},     {"451 4.7.1\nno", 451, 4, 1, 4, 10},
        {"550-5.7.1", -1, 0, 0, 0, 0},      {"450  4.1.8  no", 450, 4, 8, 5, 12},
    };
    for (size_t i = 0; i < countof(fronts); i++) {
        struct reply_front f = reply_front(str_of(fronts[i].text));
        assert_int_equal(f.has_code ? f.code : -1, fronts[i].code);
        assert_int_equal(f.enhanced[0], fronts[i].class);
        assert_int_equal(f.enhanced[2], fronts[i].detail);
        assert_int_equal(f.octets, fronts[i].octets);
        if (fronts[i].class)
            assert_int_equal(f.enhanced_at, fronts[i].enhanced_at);
    }
}

static void reply_complete_fits_the_code(void **unused)
{
    for (unsigned code = 200; code < 600; code++) {
        struct reply r = {.code = (uint16_t)code, .text = STR("x")};
        reply_complete(&r);
        assert_int_equal(r.enhanced[0], code / 100 == 3 ? 0 : code / 100);
    }
    struct reply kept = {.code = 550, .enhanced = {5, 1, 1}, .text = STR("x")};
    reply_complete(&kept);
    assert_int_equal(kept.enhanced[2], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reply_take_gives_code_enhanced_and_text),
        cmocka_unit_test(reply_take_leaves_what_only_looks_enhanced),
        cmocka_unit_test(reply_take_cleans_control_octets),
        cmocka_unit_test(reply_take_refuses_nonsense),
        cmocka_unit_test(reply_take_knows_bad_at_the_first_octet_that_shows_it),
        cmocka_unit_test(reply_take_bounds_octets_and_lines),
        cmocka_unit_test(an_unfinished_reply_does_not_keep_its_pipe_full),
        cmocka_unit_test(reply_put_writes_lines),
        cmocka_unit_test(reply_put_lets_no_line_end_through),
        cmocka_unit_test(reply_put_cuts_long_lines_between_characters),
        cmocka_unit_test(every_sentence_is_sound),
        cmocka_unit_test(help_lists_each_verb_that_is_served_to_all),
        cmocka_unit_test(reply_print_fills_in_and_cleans),
        cmocka_unit_test(reply_from_text_reads_what_is_given),
        cmocka_unit_test(reply_from_text_rejects_mismatched_classes),
        cmocka_unit_test(reply_from_text_drops_control_octets_and_bounds),
        cmocka_unit_test(what_stands_in_front_of_a_text_is_found),
        cmocka_unit_test(reply_complete_fits_the_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
