/* test_pipe.c - spans, blocks, what a pipe is charged for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/pipe.h"

static struct arena arena;

static int clean(void **unused)
{
    arena_reset(&arena);
    assert_int_equal(block_total(), 0);
    return 0;
}

static void shows(struct pipe *p, struct str expected)
{
    assert_int_equal(p->octets, expected.len);
    assert_true(str_equal(pipe_flat(p, p->octets, &arena), expected));
}

static struct block *filled(size_t size, char octet)
{
    struct block *b = block_take(size);
    memset(b->octets, octet, b->size);
    b->used = b->size;
    return b;
}

static void copies_share_blocks(void **unused)
{
    struct pipe p = {0};
    for (int i = 0; i < 100; i++)
        pipe_put(&p, STR("abc"));
    assert_int_equal(p.octets, 300);
    assert_ptr_equal(p.first, p.last);
    assert_true(p.held < 1024);
    pipe_drop(&p, 298);
    shows(&p, STR("bc"));
    pipe_put(&p, STR("d"));
    shows(&p, STR("bcd"));
    pipe_clear(&p);
    assert_int_equal(p.held, 0);
}

static void views_share_octets_and_neighbours_join(void **unused)
{
    struct pipe p = {0};
    struct block *b = filled(4000, 'a');
    pipe_view(&p, b, b->octets, 300);
    pipe_view(&p, b, b->octets + 300, 1);
    assert_ptr_equal(p.first, p.last);
    pipe_view(&p, b, b->octets + 302, 300);
    assert_ptr_not_equal(p.first, p.last);
    assert_true(p.held < 2 * (b->size + sizeof *b)); /* one block, charged once */
    pipe_view(&p, b, b->octets, 10);                 /* short: copied */
    assert_ptr_not_equal(p.last->block, b);
    block_drop(b);
    pipe_clear(&p);
    assert_int_equal(p.held, 0);
}

static void a_viewed_block_is_not_written_to(void **unused)
{
    struct pipe p = {0}, other = {0};
    char text[400];
    memset(text, 'x', sizeof text);
    pipe_copy(&p, text, sizeof text);
    pipe_view(&other, p.last->block, p.last->at, 400);
    pipe_put(&p, STR("more"));
    pipe_put(&other, STR("else"));
    assert_memory_equal(pipe_flat(&p, 404, &arena).at + 400, "more", 4);
    assert_memory_equal(pipe_flat(&other, 404, &arena).at + 400, "else", 4);
    pipe_clear(&p);
    pipe_clear(&other);
}

static void a_pipe_is_charged_for_what_it_pins(void **unused)
{
    struct pipe p = {.mark = PIPE_MARK};
    struct block *b = filled(BLOCK_READ, 'a');
    pipe_view(&p, b, b->octets, b->size);
    block_drop(b);
    assert_true(pipe_is_full(&p));
    pipe_drop(&p, b->size - 1);
    assert_true(pipe_is_full(&p));
    pipe_compact(&p);
    assert_false(pipe_is_full(&p));
    shows(&p, STR("a"));
    assert_true(block_total() < 1024);
    pipe_clear(&p);
    assert_int_equal(p.held, 0);
}

static void compact_leaves_a_pipe_that_shows_much(void **unused)
{
    struct pipe p = {.mark = PIPE_MARK, .ended = true};
    struct block *b = filled(BLOCK_READ, 'a');
    pipe_view(&p, b, b->octets, b->size);
    pipe_compact(&p);
    assert_ptr_equal(p.first->block, b);
    assert_true(p.ended && p.mark == PIPE_MARK);
    block_drop(b);
    pipe_clear(&p);
}

static void moving_keeps_order_and_octets(void **unused)
{
    struct pipe from = {0}, to = {0};
    struct block *b = filled(1000, 'b');
    static const char constant[600] = {'c'};
    pipe_put(&from, STR("start"));
    pipe_view(&from, b, b->octets, 500);
    pipe_constant(&from, (struct str){constant, sizeof constant});
    block_drop(b);
    size_t all = from.octets;
    char before[2000], after[2000];
    pipe_peek(&from, 0, before, all);
    for (size_t n = 1; from.octets; n = n * 3 % 700 + 1)
        pipe_move(&from, &to, min_size(n, from.octets));
    assert_int_equal(to.octets, all);
    pipe_peek(&to, 0, after, all);
    assert_memory_equal(before, after, all);
    assert_int_equal(from.held, 0);
    pipe_clear(&to);
}

static void octets_are_found_and_peeked_over_borders(void **unused)
{
    struct pipe p = {0};
    struct block *b = filled(1000, 'b');
    pipe_put(&p, STR("ab\n"));
    pipe_view(&p, b, b->octets, 400);
    pipe_put(&p, STR("\nz"));
    block_drop(b);
    assert_int_equal(pipe_find(&p, 0, '\n'), 2);
    assert_int_equal(pipe_find(&p, 2, '\n'), 2);
    assert_int_equal(pipe_find(&p, 3, '\n'), 403);
    assert_int_equal(pipe_find(&p, 404, '\n'), p.octets);
    assert_int_equal(pipe_find(&p, 9999, '\n'), p.octets);
    char peeked[4];
    pipe_peek(&p, 401, peeked, 4);
    assert_memory_equal(peeked, "bb\nz", 4);
    struct iovec iov[8];
    assert_int_equal(pipe_iov(&p, iov, 8), 3);
    assert_int_equal(pipe_iov(&p, iov, 2), 2);
    pipe_clear(&p);
}

static void blocks_of_every_size_have_room(void **unused)
{
    static const size_t sizes[] = {0,     1,     487,   488,   489,   4000,  4096,  16000,
                                   16384, 65000, 65512, 65535, 65536, 65537, 300000};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < countof(sizes); i++) {
            struct block *b = block_take(sizes[i]);
            assert_true(b->size >= sizes[i]);
            assert_int_equal(b->used, 0);
            memset(b->octets, 1, b->size);
            block_drop(b);
        }
    block_forget();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(copies_share_blocks, clean),
        cmocka_unit_test_teardown(views_share_octets_and_neighbours_join, clean),
        cmocka_unit_test_teardown(a_viewed_block_is_not_written_to, clean),
        cmocka_unit_test_teardown(a_pipe_is_charged_for_what_it_pins, clean),
        cmocka_unit_test_teardown(compact_leaves_a_pipe_that_shows_much, clean),
        cmocka_unit_test_teardown(moving_keeps_order_and_octets, clean),
        cmocka_unit_test_teardown(octets_are_found_and_peeked_over_borders, clean),
        cmocka_unit_test_teardown(blocks_of_every_size_have_room, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
