/* No mail data of ours has an end inside, to whatever receiver: one that drops NULs, takes a bare CR or LF for a line
 * end and, where the eighth bit is guarded against, strips that. What has no such end passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/content.h"

static uint32_t dice = 1;

static uint32_t cast(uint32_t below)
{
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % below;
}

/* What is left to a receiver: octets without NUL, line ends as LF. */
static size_t receive(const char *at, size_t len, bool strips, char *to)
{
    size_t n = 0;
    bool cr = false;
    for (size_t i = 0; i < len; i++) {
        char c = strips ? (char)(at[i] & 0x7f) : at[i];
        if (!c)
            continue;
        if (c == '\n' && cr) {
            cr = false;
            continue;
        }
        cr = c == '\r';
        to[n++] = c == '\r' ? '\n' : c;
    }
    return n;
}

/* Whether a line of a lone dot is in it. */
static bool ends_within(const char *at, size_t len, bool strips)
{
    char seen[4096];
    size_t n = receive(at, len, strips, seen);
    for (size_t i = 0; i + 1 < n; i++)
        if ((i == 0 || seen[i - 1] == '\n') && seen[i] == '.' && seen[i + 1] == '\n')
            return true;
    return false;
}

/* Encodes it cut at random. False: refused. What was given of it is in `out`, its end included when it was not. */
static bool encode(const char *at, size_t len, enum guard guard, char *out, size_t *n)
{
    struct pipe in = {0}, to = {0};
    struct encoder e;
    encoder_start(&e, FRAMING_DOTS, guard);
    for (size_t from = 0; from < len && !e.bad;) {
        size_t part = 1 + cast((uint32_t)(len - from));
        struct block *b = block_take(part);
        memcpy(b->octets, at + from, part);
        b->used = (uint32_t)part;
        pipe_view(&in, b, b->octets, part);
        block_drop(b);
        while (encoder_step(&e, &in, &to, 1 + cast(40)))
            ;
        from += part;
    }
    bool good = !e.bad && encoder_may_end(&e);
    assert_true(good || e.hidden);
    if (good)
        encoder_end(&e, &to);
    *n = to.octets;
    pipe_peek(&to, 0, out, to.octets);
    pipe_clear(&in);
    pipe_clear(&to);
    return good;
}

/* Lines out of what matters, each line end whole. */
static size_t write_content(char *to)
{
    static const char octets[] = {0, '.', 'a', 0, '.', (char)0x8d, (char)0x8a, (char)0xae, (char)0x80, '.'};
    size_t n = 0;
    for (uint32_t i = 1 + cast(12); i; i--) {
        if (cast(3)) {
            to[n++] = octets[cast(cast(2) ? 5 : sizeof octets)];
        } else {
            to[n++] = '\r';
            to[n++] = '\n';
        }
    }
    return n;
}

static void nothing_of_ours_has_an_end_inside(void **state)
{
    unsigned passed = 0, refused = 0;
    for (unsigned i = 0; i < 300000; i++) {
        char content[64], out[256];
        size_t len = write_content(content), n;
        enum guard guard = cast(2) ? GUARD_NUL : GUARD_EIGHTH_BIT;
        bool strips = guard == GUARD_EIGHTH_BIT;
        if (encode(content, len, guard, out, &n)) {
            passed++;
            n -= 3; /* its one end */
            assert_memory_equal(out + n, ".\r\n", 3);
        } else {
            refused++;
        }
        assert_false(ends_within(out, n, strips));
    }
    assert_true(passed > 10000 && refused > 10000);
}

/* Only what would be an end is refused: content that gives none, with its line end, to such a receiver always passes.
 */
static void what_hides_no_end_passes(void **state)
{
    for (unsigned i = 0; i < 300000; i++) {
        char content[64], plain[256], out[256];
        size_t len = write_content(content), n, m;
        enum guard guard = cast(2) ? GUARD_NUL : GUARD_EIGHTH_BIT;
        assert_true(encode(content, len, GUARD_NONE, plain, &m));
        bool hides = ends_within(plain, m - 3, guard == GUARD_EIGHTH_BIT);
        assert_int_equal(encode(content, len, guard, out, &n), !hides);
        if (!hides) {
            assert_int_equal(n, m);
            assert_memory_equal(out, plain, n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_of_ours_has_an_end_inside),
                                       cmocka_unit_test(what_hides_no_end_passes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
