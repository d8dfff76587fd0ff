/* test_spool.c - held content: the same octets from memory and from a file, as often as they are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "mail/spool.h"

static char octet_at(size_t i)
{
    return (char)(i * 7 + i / 251);
}

/* Puts n octets in pieces of `piece`. */
static struct spool *spool_with(size_t memory, size_t n, size_t piece)
{
    struct spool *s = spool_open(memory, 0);
    struct pipe in = {0};
    for (size_t at = 0; at < n; at += piece) {
        char text[4096];
        size_t len = min_size(piece, n - at);
        for (size_t i = 0; i < len; i++)
            text[i] = octet_at(at + i);
        pipe_copy(&in, text, len);
        assert_true(spool_put(s, &in));
        assert_true(pipe_is_empty(&in));
    }
    assert_int_equal(spool_octets(s), n);
    return s;
}

static void expect_all(struct spool *s, size_t n, size_t mark)
{
    struct pipe out = {.mark = mark};
    size_t at = 0;
    for (bool end = false; !end;) {
        end = spool_take(s, &out);
        assert_false(spool_failed(s));
        while (!pipe_is_empty(&out)) {
            for (size_t i = 0; i < out.first->len; i++)
                if (out.first->at[i] != octet_at(at + i))
                    fail_msg("octet %zu differs", at + i);
            at += out.first->len;
            pipe_drop(&out, out.first->len);
        }
    }
    assert_int_equal(at, n);
}

static void spool_gives_back_what_it_took_from_memory_and_from_a_file(void **state)
{
    static const size_t sizes[] = {0, 1, 255, 256, 5000, 70000, 300000};
    static const size_t memories[] = {0, 20000, 1 << 20};
    for (size_t i = 0; i < countof(sizes); i++)
        for (size_t m = 0; m < countof(memories); m++) {
            struct spool *s = spool_with(memories[m], sizes[i], 1000);
            expect_all(s, sizes[i], 0);
            spool_rewind(s);
            expect_all(s, sizes[i], 4096);
            spool_close(&s);
            assert_null(s);
        }
}

static void spool_is_read_at_any_place_and_that_moves_no_reader(void **state)
{
    for (int file = 0; file < 2; file++) {
        struct spool *s = spool_with(file ? 0 : 1 << 20, 50000, 777);
        char text[600];
        assert_int_equal(spool_read(s, 12345, text, sizeof text), sizeof text);
        for (size_t i = 0; i < sizeof text; i++)
            assert_int_equal(text[i], octet_at(12345 + i));
        assert_int_equal(spool_read(s, 49990, text, sizeof text), 10);
        assert_int_equal(spool_read(s, 50000, text, sizeof text), 0);
        expect_all(s, 50000, 0);
        spool_close(&s);
    }
}

static void spool_reader_goes_on_where_more_was_put(void **state)
{
    struct spool *s = spool_open(1 << 20, 0);
    struct pipe in = {0}, out = {0};
    pipe_put(&in, STR("one"));
    assert_true(spool_put(s, &in));
    assert_true(spool_take(s, &out));
    pipe_put(&in, STR("two"));
    assert_true(spool_put(s, &in));
    assert_true(spool_take(s, &out));
    char text[6];
    pipe_peek(&out, 0, text, 6);
    assert_memory_equal(text, "onetwo", 6);
    pipe_clear(&out);
    spool_close(&s);
}

static void spool_says_so_when_there_is_no_place_to_write(void **state)
{
    setenv("TMPDIR", "/nonexistent", 1);
    struct spool *s = spool_open(0, 0);
    struct pipe in = {0};
    pipe_put(&in, STR("more than nothing"));
    assert_false(spool_put(s, &in));
    assert_true(spool_failed(s));
    pipe_clear(&in);
    spool_close(&s);
    unsetenv("TMPDIR");
}

static void all_spools_together_hold_no_more_than_the_ceiling(void **state)
{
    struct pipe in = {0};
    struct spool *a = spool_with(1 << 20, 5000, 1000), *b = spool_with(0, 3000, 1000), *c = spool_open(1 << 20, 10000);
    assert_int_equal(spool_total(), 8000);
    pipe_copy(&in, (char[2000]){0}, 2000);
    assert_true(spool_put(c, &in));
    pipe_copy(&in, "x", 1);
    assert_false(spool_put(c, &in));
    assert_true(spool_failed(c) && spool_is_over(c));
    assert_int_equal(spool_total(), 10000);
    spool_close(&a);
    assert_false(spool_put(c, &in)); /* what has failed stays so: an octet is missing in it */
    spool_close(&c);
    c = spool_open(1 << 20, 10000);
    assert_true(spool_put(c, &in));
    assert_false(spool_is_over(c));
    assert_int_equal(spool_total(), 3001);
    spool_close(&b);
    spool_close(&c);
    assert_int_equal(spool_total(), 0);
    pipe_clear(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spool_gives_back_what_it_took_from_memory_and_from_a_file),
        cmocka_unit_test(all_spools_together_hold_no_more_than_the_ceiling),
        cmocka_unit_test(spool_is_read_at_any_place_and_that_moves_no_reader),
        cmocka_unit_test(spool_reader_goes_on_where_more_was_put),
        cmocka_unit_test(spool_says_so_when_there_is_no_place_to_write),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    block_forget();
    return bad;
}
