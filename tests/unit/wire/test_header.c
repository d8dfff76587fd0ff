/* test_header.c - the header section at every split, edits, and sending it octet-exact (RFC 5322 2.2, 4.5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "split.h"
#include "wire/header.h"
#include <time.h>

struct taker {
    struct arena arena;
    struct headers h;
    bool over;
};
static const size_t plenty = 1 << 20;

static void start(void *stage, const void *how)
{
    struct taker *t = stage;
    headers_start(&t->h, &t->arena);
}

/* Tells "name=value;" of each field, how the section ended, and what was left. */
static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    headers_step(&t->h, in, plenty);
    if (!last)
        return;
    for (struct field *f = headers_next(&t->h, NULL, STR_NONE); f; f = headers_next(&t->h, f, STR_NONE)) {
        pipe_put(out, f->name);
        pipe_put(out, STR("="));
        pipe_put(out, f->value);
        pipe_put(out, STR(";"));
    }
    pipe_print(out, "%s%s%s %zu|", t->h.done ? "done" : "more", t->h.separator ? " separator" : "",
               t->h.body ? " body" : "", t->h.octets);
    pipe_move(in, out, in->octets);
}

/* The same, but tells what is sent: it must be the input. */
static void feed_through(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    headers_step(&t->h, in, plenty);
    if (!last)
        return;
    assert_true(t->h.done);
    struct headers_sender s = {0};
    while (!headers_send(&t->h, &s, out)) {
    }
    pipe_move(in, out, in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static const struct split_stage taker = {sizeof(struct taker), start, feed, stop, NULL};
static const struct split_stage through = {sizeof(struct taker), start, feed_through, stop, NULL};

static void check(struct str in, struct str expected)
{
    split_everywhere(&taker, in, expected);
    split_everywhere(&through, in, in); /* nobody edited: nobody sees a difference */
}

static void sections_are_taken_field_by_field(void **unused)
{
    check(STR("A: 1\r\nB:2\r\n\r\nbody"), STR("A= 1;B=2;done separator 13|body"));
    check(STR("A: 1\r\n  more\r\n\tyet\r\nB:\r\n\r\n"), STR("A= 1\r\n  more\r\n\tyet;B=;done separator 26|"));
    check(STR("A \t: 1\r\n\r\n"), STR("A= 1;done separator 10|"));
    check(STR("\r\nbody"), STR("done separator 2|body"));
    check(STR("A: 1\r\n \r\n\r\nx"), STR("A= 1\r\n ;done separator 11|x"));
    check(STR("A: a:b\0c\xff\r\n\r\n"), STR("A= a:b\0c\xff;done separator 13|"));
}

static void sections_without_separator_end_at_what_is_no_field(void **unused)
{
    check(STR("A: 1\r\nno field\r\n"), STR("A= 1;done body 6|no field\r\n"));
    check(STR("A: 1\r\nFrom x@y Mon\r\nB: 1\r\n"), STR("A= 1;done body 6|From x@y Mon\r\nB: 1\r\n"));
    check(STR(" A: 1\r\n"), STR("done body 0| A: 1\r\n"));
    check(STR(": x\r\n"), STR("done body 0|: x\r\n"));
    check(STR("A\xc3\xa9: x\r\n"), STR("done body 0|A\xc3\xa9: x\r\n"));
    check(STR("A: 1\r\n\rB"), STR("A= 1;done body 6|\rB"));
    check(STR("A: 1\r\n\r"), STR("A= 1;done body 6|\r"));
    check(STR("A: 1\r\nB"), STR("A= 1;done body 6|B"));
    check(STR(""), STR("done 0|"));
    check(STR("A: 1\r\n"), STR("A= 1;done 6|"));
    check(STR("A: 1"), STR("A= 1;done 4|"));
    check(STR("A: 1\r"), STR("A= 1\r;done 5|"));
    check(STR("A: 1\r\n B"), STR("A= 1\r\n B;done 8|"));
}

static void mbox_lines_are_no_fields_and_end_nothing(void **unused)
{
    check(STR("From x@y Mon 1:2\r\nA: 1\r\n\r\nbody"), STR("A= 1;done separator 26|body"));
    check(STR(">From x\r\n>>From y\r\nFrom z\r\nA: 1\r\n\r\n"), STR("A= 1;done separator 35|"));
    check(STR("From : x\r\nFrom: y\r\n"), STR("From= y;done 19|"));
    check(STR("From\t: x\r\n>From: y\r\n"), STR("From= x;>From= y;done 20|"));
    check(STR("From x\r\n folded\r\nA: 1\r\n"), STR("done body 8| folded\r\nA: 1\r\n"));
    check(STR("From x\r\nno field\r\n"), STR("done body 8|no field\r\n"));
    check(STR("From x\r\n\r\nbody"), STR("done separator 10|body"));
    check(STR("From x"), STR("done 6|"));
    check(STR("From"), STR("done body 0|From"));
    check(STR(">>>"), STR("done body 0|>>>"));
}

static void mbox_lines_stay_in_front_of_what_is_added(void **unused)
{
    struct arena arena = {0};
    struct headers h;
    struct headers_sender s = {0};
    struct pipe in = {.ended = true}, out = {0};
    pipe_put(&in, STR("From x@y Mon\r\n>From z\r\nGo: away\r\nFrom : a@b\r\n no more\r\n\r\n"));
    headers_start(&h, &arena);
    assert_int_equal(headers_step(&h, &in, plenty), HEADERS_DONE);
    assert_int_equal(h.count, 2);
    assert_null(headers_field(&h, 1));
    headers_remove(&h, headers_next(&h, NULL, STR("Go"))); /* "From :" would be one of them now */
    assert_true(headers_add(&h, NULL, true, STR("Received"), STR("us")) != NULL);
    headers_remove(&h, headers_next(&h, NULL, STR("Received")));
    assert_true(headers_add(&h, NULL, true, STR("X"), STR("1")) != NULL);
    while (!headers_send(&h, &s, &out)) {
    }
    struct str sent = pipe_flat(&out, out.octets, &arena);
    assert_true(str_equal(sent, STR("From x@y Mon\r\n>From z\r\nX: 1\r\nFrom: a@b\r\n no more\r\n\r\n")));
    pipe_clear(&in);
    pipe_clear(&out);
    arena_reset(&arena);
}

static void a_bare_line_feed_ends_no_line(void **unused)
{
    check(STR("A: 1\nB: 2\r\n\n\r\n\r\n"), STR("A= 1\nB: 2;done body 11|\n\r\n\r\n"));
    check(STR("A: 1\n\n\r\n\r\nx"), STR("A= 1\n\n;done separator 10|x"));
}

static void names_are_bounded(void **unused)
{
    char text[1100];
    for (size_t len = 996; len <= 998; len++) {
        memset(text, 'a', len);
        memcpy(text + len, ": x\r\n\r\n", 7);
        struct taker t = {0};
        struct pipe in = {0};
        start(&t, NULL);
        pipe_put(&in, (struct str){text, len + 7});
        assert_int_equal(headers_step(&t.h, &in, plenty), HEADERS_DONE);
        assert_int_equal(t.h.separator, len <= 997);
        pipe_clear(&in);
        stop(&t);
    }
}

static void too_big_is_told_in_time(void **unused)
{
    struct taker t = {0};
    struct pipe in = {0};
    start(&t, NULL);
    pipe_put(&in, STR("A: "));
    enum headers_took took = HEADERS_MORE;
    size_t put = 3;
    for (; took == HEADERS_MORE; put++) {
        pipe_put(&in, STR("a"));
        took = headers_step(&t.h, &in, 1000);
    }
    assert_int_equal(took, HEADERS_TOO_BIG);
    assert_in_range(put, 1000, 1002);
    pipe_clear(&in);
    stop(&t);
}

static void many_fields_and_long_ones_take_no_long_time(void **unused)
{
    struct taker many = {0}, big = {0};
    struct pipe in = {0}, out = {0};
    clock_t begun = clock();
    start(&many, NULL);
    for (int i = 0; i < 100000; i++) {
        pipe_put(&in, STR("a: b\r\n"));
        headers_step(&many.h, &in, SIZE_MAX);
    }
    pipe_put(&in, STR("\r\n"));
    assert_int_equal(headers_step(&many.h, &in, SIZE_MAX), HEADERS_DONE);
    assert_int_equal(many.h.count, 100000);
    for (uint32_t i = 1; i <= 100000; i += 2) {
        headers_remove(&many.h, headers_field(&many.h, i));
        assert_non_null(headers_add(&many.h, headers_field(&many.h, i + 1), false, STR("c"), STR("d")));
    }
    assert_int_equal(many.h.count, 100000);
    struct headers_sender s = {0};
    while (!headers_send(&many.h, &s, &out)) {
    }
    assert_int_equal(out.octets, 600002);
    pipe_clear(&out);
    start(&big, NULL);
    pipe_put(&in, STR("a: "));
    for (int i = 0; i < 10 << 20; i++) {
        pipe_put(&in, STR("b"));
        headers_step(&big.h, &in, SIZE_MAX);
    }
    assert_true(pipe_is_empty(&in)); /* a line does not wait in the pipe for its end */
    pipe_put(&in, STR("\r\n\r\n"));
    assert_int_equal(headers_step(&big.h, &in, SIZE_MAX), HEADERS_DONE);
    assert_int_equal(big.h.first->raw.len, (10 << 20) + 5);
    assert_true((clock() - begun) / CLOCKS_PER_SEC < 30);
    stop(&many);
    stop(&big);
}

static void an_undecided_line_does_not_keep_its_pipe_full(void **unused)
{
    struct taker t = {0};
    struct pipe in = {.mark = PIPE_MARK};
    struct block *b = block_take(BLOCK_READ);
    b->used = b->size;
    memcpy(b->octets + b->size - 4, "Subj", 4);
    pipe_view(&in, b, b->octets, b->size);
    block_drop(b);
    pipe_drop(&in, b->size - 4);
    start(&t, NULL);
    assert_true(pipe_is_full(&in));
    assert_int_equal(headers_step(&t.h, &in, plenty), HEADERS_MORE);
    assert_false(pipe_is_full(&in));
    pipe_put(&in, STR("ect: x\r\n\r\n"));
    assert_int_equal(headers_step(&t.h, &in, plenty), HEADERS_DONE);
    assert_true(str_equal(t.h.first->name, STR("Subject")));
    stop(&t);
}

/* ---- edits ----------------------------------------------------------------------------------------------------------
 */

static struct taker section; /* one at a time */

static struct headers *take(struct str text, struct pipe *rest)
{
    section = (struct taker){0};
    start(&section, NULL);
    pipe_put(rest, text);
    rest->ended = true;
    assert_int_equal(headers_step(&section.h, rest, plenty), HEADERS_DONE);
    return &section.h;
}

/* What is sent, the rest of the content behind it; then all is freed. */
static void sends(struct headers *h, struct pipe *rest, struct str expected)
{
    struct pipe out = {0};
    struct headers_sender s = {0};
    while (!headers_send(h, &s, &out)) {
    }
    assert_true(headers_send(h, &s, &out)); /* and not twice */
    pipe_move(rest, &out, rest->octets);
    struct str said = pipe_flat(&out, out.octets, h->arena);
    if (!str_equal(said, expected))
        print_error("sent \"%.*s\"\n", STR_ARGS(said));
    assert_true(str_equal(said, expected));
    pipe_clear(&out);
    stop(&section);
}

static void edits_touch_their_own_field_only(void **unused)
{
    struct pipe rest = {0};
    struct headers *h = take(STR("A :1\r\nB:  2\r\n 3\r\na:4\r\n\r\nbody"), &rest);
    assert_false(h->changed);
    struct field *a = headers_next(h, NULL, STR("a")), *a2 = headers_next(h, a, STR("A"));
    assert_int_equal(a->handle, 1);
    assert_int_equal(a2->handle, 3);
    assert_null(headers_next(h, a2, STR("a")));
    assert_ptr_equal(headers_back(h, NULL, STR("A")), a2);
    assert_true(headers_set(h, a2, STR("new")));
    assert_true(headers_rename(h, a, STR("X")));
    assert_non_null(headers_add(h, NULL, true, STR("Top"), STR("t")));
    assert_non_null(headers_add(h, NULL, false, STR("Bottom"), STR("b")));
    assert_non_null(headers_add(h, a2, false, STR("Mid"), STR("\tm")));
    assert_true(h->changed && a2->edited);
    sends(h, &rest, STR("Top: t\r\nX:1\r\nB:  2\r\n 3\r\nMid:\tm\r\na: new\r\nBottom: b\r\n\r\nbody"));
}

static void handles_are_never_used_again(void **unused)
{
    struct pipe rest = {0};
    struct headers *h = take(STR("A:1\r\nB:2\r\n\r\n"), &rest);
    struct field *a = headers_field(h, 1);
    headers_remove(h, a);
    headers_remove(h, a);
    assert_int_equal(h->count, 1);
    assert_null(headers_field(h, 1));
    assert_null(headers_field(h, 0));
    assert_null(headers_field(h, 3));
    assert_int_equal(headers_add(h, NULL, true, STR("A"), STR("3"))->handle, 3);
    assert_false(headers_set(h, a, STR("x")));
    assert_false(headers_rename(h, a, STR("x")));
    assert_null(headers_add(h, a, false, STR("x"), STR("x")));
    assert_ptr_equal(headers_next(h, a, STR_NONE), headers_field(h, 2)); /* a walk may go on from it */
    sends(h, &rest, STR("A: 3\r\nB:2\r\n\r\n"));
}

static void hidden_fields_are_sent_but_not_seen(void **unused)
{
    struct pipe rest = {0};
    struct headers *h = take(STR("A:1\r\n\r\n"), &rest);
    headers_hide(h, headers_add(h, NULL, true, STR("Received"), STR("us")));
    assert_int_equal(h->count, 1);
    assert_null(headers_next(h, NULL, STR("Received")));
    assert_int_equal(headers_next(h, NULL, STR_NONE)->handle, 1);
    assert_null(headers_back(h, headers_field(h, 1), STR_NONE));
    assert_non_null(headers_add(h, NULL, true, STR("Top"), STR("t")));
    sends(h, &rest, STR("Top: t\r\nReceived: us\r\nA:1\r\n\r\n"));
}

static void values_cannot_break_out_of_their_field(void **unused)
{
    static const struct {
        struct str value, sent;
    } all[] = {
        {{"a\nb", 3}, {"X: a\r\n\tb\r\n", 10}},
        {{"a\r\nb", 4}, {"X: a\r\n\tb\r\n", 10}},
        {{"a\r\n b", 5}, {"X: a\r\n b\r\n", 10}},
        {{"a\rb", 3}, {"X: ab\r\n", 7}},
        {{"a\r\n\r\nb", 6}, {"X: a\r\n\tb\r\n", 10}},
        {{"a\n\n\nb", 5}, {"X: a\r\n\tb\r\n", 10}},
        {{"a\r\n", 3}, {"X: a\r\n", 6}},
        {{"a\n\r\r\n", 5}, {"X: a\r\n", 6}},
        {{"\r\nb", 3}, {"X: \r\n\tb\r\n", 9}},
        {{"", 0}, {"X: \r\n", 5}},
        {{"\n", 1}, {"X: \r\n", 5}},
        {{" v", 2}, {"X: v\r\n", 6}},
        {{"\xc3\xa9\x01", 3}, {"X: \xc3\xa9\x01\r\n", 8}},
    };
    for (size_t i = 0; i < countof(all); i++) {
        struct pipe rest = {0};
        struct headers *h = take(STR(""), &rest);
        assert_non_null(headers_add(h, NULL, false, STR("X"), all[i].value));
        sends(h, &rest, all[i].sent);
    }
    struct pipe rest = {0};
    struct headers *h = take(STR("A:1\r\n\r\n"), &rest);
    char *big = calloc(1, (1 << 20) + 1);
    memset(big, 'a', (1 << 20) + 1);
    static const char *const names[] = {"", "A B", "A:", "A\r\nB", "\xc3\xa9", "A\t"};
    for (size_t i = 0; i < countof(names); i++) {
        assert_null(headers_add(h, NULL, false, str_of(names[i]), STR("x")));
        assert_false(headers_rename(h, headers_field(h, 1), str_of(names[i])));
    }
    assert_null(headers_add(h, NULL, false, STR("X"), STR("a\0b")));
    assert_false(headers_set(h, headers_field(h, 1), STR("a\0b")));
    assert_null(headers_add(h, NULL, false, STR("X"), (struct str){big, (1 << 20) + 1}));
    assert_false(h->changed);
    assert_non_null(headers_add(h, NULL, false, STR("X"), (struct str){big, 1 << 20}));
    headers_remove(h, headers_field(h, 2));
    sends(h, &rest, STR("A:1\r\n\r\n"));
    free(big);
}

static void added_fields_are_kept_apart_from_a_body_without_separator(void **unused)
{
    struct pipe rest = {0};
    struct headers *h = take(STR(" body"), &rest);
    assert_non_null(headers_add(h, NULL, true, STR("X"), STR("1")));
    sends(h, &rest, STR("X: 1\r\n\r\n body"));
    h = take(STR("A:1\r\nbody"), &rest);
    assert_true(headers_set(h, headers_field(h, 1), STR("2")));
    sends(h, &rest, STR("A: 2\r\nbody")); /* nothing added: nothing more than the edit */
    h = take(STR("A:1"), &rest);
    assert_non_null(headers_add(h, NULL, false, STR("X"), STR("1")));
    sends(h, &rest, STR("A:1\r\nX: 1\r\n"));
}

static void sending_heeds_the_mark_within_a_field(void **unused)
{
    struct pipe rest = {0}, out = {.mark = PIPE_MARK}, all = {0};
    static char text[600000];
    memset(text, 'a', sizeof text);
    text[1] = ':';
    memcpy(text + sizeof text - 4, "\r\n\r\n", 4);
    struct headers *h = take((struct str){text, sizeof text}, &rest);
    struct headers_sender s = {0};
    for (bool done = false; !done;) {
        done = headers_send(h, &s, &out);
        assert_true(out.held <= (size_t)3 * PIPE_MARK);
        pipe_move(&out, &all, out.octets);
    }
    assert_true(str_equal(pipe_flat(&all, all.octets, h->arena), (struct str){text, sizeof text}));
    pipe_clear(&all);
    stop(&section);
}

static void unfolding_takes_line_ends_before_white_space_only(void **unused)
{
    struct arena arena = {0};
    assert_true(str_equal(header_unfold(STR(" a\r\n b\r\n\tc \t"), &arena), STR("a b\tc")));
    assert_true(str_equal(header_unfold(STR(" a "), &arena), STR("a")));
    assert_true(str_equal(header_unfold(STR(""), &arena), STR("")));
    assert_true(str_equal(header_unfold(STR_NONE, &arena), STR("")));
    assert_true(str_equal(header_unfold(STR("\r\n a\r\nb"), &arena), STR("a\r\nb")));
    arena_reset(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_are_taken_field_by_field),
        cmocka_unit_test(sections_without_separator_end_at_what_is_no_field),
        cmocka_unit_test(mbox_lines_are_no_fields_and_end_nothing),
        cmocka_unit_test(mbox_lines_stay_in_front_of_what_is_added),
        cmocka_unit_test(a_bare_line_feed_ends_no_line),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(too_big_is_told_in_time),
        cmocka_unit_test(many_fields_and_long_ones_take_no_long_time),
        cmocka_unit_test(an_undecided_line_does_not_keep_its_pipe_full),
        cmocka_unit_test(edits_touch_their_own_field_only),
        cmocka_unit_test(handles_are_never_used_again),
        cmocka_unit_test(hidden_fields_are_sent_but_not_seen),
        cmocka_unit_test(values_cannot_break_out_of_their_field),
        cmocka_unit_test(added_fields_are_kept_apart_from_a_body_without_separator),
        cmocka_unit_test(sending_heeds_the_mark_within_a_field),
        cmocka_unit_test(unfolding_takes_line_ends_before_white_space_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
