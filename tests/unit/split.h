/* split.h - the house's favourite test: a stage is fed the same octets cut at every place, and must give the same
 * output.
 *
 * split_everywhere runs the stage over the input whole, cut in two at every position, cut in three at many pairs of
 * positions, and one octet at a time. Each piece is fed both copied behind what was left and, once more, in a block of
 * its own, so that borders of spans are met too. A stage puts what it found out (flags, counts) behind its output when
 * `last` is set: then that is compared as well. Include it behind cmocka.h. */
#ifndef TESTS_SPLIT_H
#define TESTS_SPLIT_H
#include "base/pipe.h"

struct split_stage {
    size_t size;                                                             /* of the stage's state, zeroed */
    void (*start)(void *stage, const void *how);                             /* NULL: zeroes are a start */
    void (*feed)(void *stage, struct pipe *in, struct pipe *out, bool last); /* what is left in `in` comes again */
    void (*stop)(void *stage);                                               /* NULL: nothing to free */
    const void *how;
};

/* A piece as a span that no neighbour is copied into: a view of a block of its own, when it can be one. */
static inline void split_put(struct pipe *in, struct str piece, bool apart)
{
    if (!apart || !piece.len) {
        pipe_put(in, piece);
        return;
    }
    struct block *b = block_take(piece.len + PIPE_SHORT);
    memcpy(b->octets, piece.at, piece.len);
    b->used = b->size; /* full: nothing is copied behind */
    pipe_view(in, b, b->octets, piece.len + PIPE_SHORT);
    block_drop(b);
    /* pipe_view copies what is short; so it was made long, and is cut here to what it shows. */
    in->last->len -= PIPE_SHORT;
    in->octets -= PIPE_SHORT;
}

static inline void split_run(const struct split_stage *s, struct str input, const size_t *cuts, size_t ncuts,
                             bool apart, bool at_once, struct str expected)
{
    struct pipe in = {0}, out = {0};
    void *stage = must_alloc(s->size);
    if (s->start)
        s->start(stage, s->how);
    size_t from = 0;
    for (size_t i = 0; i <= ncuts; i++) {
        size_t to = i < ncuts ? cuts[i] : input.len;
        bool last = i == ncuts;
        split_put(&in, str_part(input, from, to), apart);
        in.ended = last;
        if (last || !at_once)
            s->feed(stage, &in, &out, last);
        from = to;
    }
    struct arena arena = {0};
    struct str given = pipe_flat(&out, out.octets, &arena);
    if (!str_equal(given, expected)) {
        print_error("cut at %zu, %zu of %zu (%zu cuts, apart %d, at once %d)\n", ncuts ? cuts[0] : 0,
                    ncuts > 1 ? cuts[1] : 0, input.len, ncuts, apart, at_once);
        print_error("expected \"%.*s\"\ngiven    \"%.*s\"\n", STR_ARGS(expected), STR_ARGS(given));
        fail();
    }
    arena_reset(&arena);
    pipe_clear(&in);
    pipe_clear(&out);
    if (s->stop)
        s->stop(stage);
    free(stage);
}

static inline void split_everywhere(const struct split_stage *s, struct str input, struct str expected)
{
    size_t *all = must_alloc((input.len + 1) * sizeof *all);
    for (size_t i = 0; i < input.len; i++)
        all[i] = i;
    for (int way = 0; way < 3; way++) {
        bool apart = way > 0, at_once = way == 2;
        split_run(s, input, NULL, 0, apart, at_once, expected);
        if (input.len > 1)
            split_run(s, input, all + 1, input.len - 1, apart, at_once, expected);
        for (size_t cut = 1; cut < input.len; cut++)
            split_run(s, input, &cut, 1, apart, at_once, expected);
        /* Pairs: all of them on short inputs, else near each other and a sample of the rest. */
        size_t stride = input.len < 48 ? 1 : input.len / 24;
        for (size_t a = 1; a < input.len; a++)
            for (size_t b = a + 1; b < input.len; b += b < a + 4 ? 1 : stride)
                split_run(s, input, (size_t[]){a, b}, 2, apart, at_once, expected);
    }
    free(all);
}
#endif
