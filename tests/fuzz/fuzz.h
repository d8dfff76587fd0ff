/* fuzz.h - what the fuzz targets share: the input taken apart, and a stage that must give the same however its input is
 * cut.
 *
 * An input begins with a few octets that say how (flags, a seed for the cuts); the rest is what a peer would send. All
 * choices come from the input, so that a finding replays. A claim that does not hold is a must(), which aborts. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H
#include "base/pipe.h"
/* split.h asks for two words of cmocka; here is what they mean. */
#define print_error(...) fprintf(stderr, __VA_ARGS__)
#define fail()           abort()
#include "tests/unit/split.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n);

/* The next octet of the input; 0 when there is none. */
static inline uint8_t fuzz_octet(struct str *input)
{
    uint8_t octet = input->len ? (uint8_t)input->at[0] : 0;
    *input = str_part(*input, 1, input->len);
    return octet;
}

static inline struct str fuzz_input(const uint8_t *octets, size_t n)
{
    return (struct str){n ? (const char *)octets : "", n};
}

/* The next of a row of numbers that `state` stands for (a linear congruence: what it is like hardly matters). */
static inline uint32_t fuzz_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A piece of at most `left` octets: mostly a few, now and then many. */
static inline size_t fuzz_piece(uint32_t *state, size_t left)
{
    uint32_t n = fuzz_next(state);
    return min_size(left, 1 + (n & 3 ? n / 4 % 7 : n / 4 % 600));
}

/* Puts all of `s` in pieces, some as spans of their own. */
static inline void fuzz_put(struct pipe *to, struct str s, uint32_t seed)
{
    while (s.len) {
        size_t n = fuzz_piece(&seed, s.len);
        split_put(to, str_part(s, 0, n), fuzz_next(&seed) & 1);
        s = str_part(s, n, s.len);
    }
}

/* The stage, fed whole, an octet at a time, and in pieces as the seed says, gives one and the same. */
static inline void fuzz_same_however_cut(const struct split_stage *s, struct str input, uint32_t seed)
{
    struct pipe in = {0}, out = {0};
    struct arena arena = {0};
    void *stage = must_alloc(s->size);
    if (s->start)
        s->start(stage, s->how);
    pipe_put(&in, input);
    in.ended = true;
    s->feed(stage, &in, &out, true);
    struct str expected = pipe_flat(&out, out.octets, &arena);
    size_t *cuts = must_alloc((input.len + 1) * sizeof *cuts), n = 0;
    for (size_t at = 1; at < input.len; at++)
        cuts[n++] = at;
    split_run(s, input, cuts, n, seed & 1, false, expected);
    n = 0;
    for (size_t at = 0; (at += fuzz_piece(&seed, input.len - at)) < input.len;)
        cuts[n++] = at;
    split_run(s, input, cuts, n, fuzz_next(&seed) & 1, fuzz_next(&seed) & 1, expected);
    free(cuts);
    pipe_clear(&in);
    pipe_clear(&out);
    arena_reset(&arena);
    if (s->stop)
        s->stop(stage);
    free(stage);
}

static inline void fuzz_same(struct str a, struct str b)
{
    if (str_equal(a, b) && !a.at == !b.at)
        return;
    print_error("one    \"%.*s\"\nother  \"%.*s\"\n", STR_ARGS(a), STR_ARGS(b));
    fail();
}
#endif
