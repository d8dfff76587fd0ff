/* test_content.c - the decoder and the encoder against plain models of them, at every split (RFC 5321 4.5.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "split.h"
#include "wire/content.h"

/* ---- models: whole buffers, one thing at a time ---------------------------------------------------------------------
 */

struct model {
    char content[4096];
    size_t len, end; /* end: octets of the input up to and with the end of mail data; 0: there is none */
    bool bare;
};

/* The end is the first CRLF.CRLF, DATA's own CRLF counted. */
static size_t find_the_end(struct str in)
{
    if (str_starts(in, STR(".\r\n")))
        return 3;
    size_t at = str_find(in, STR("\r\n.\r\n"));
    return at == in.len ? 0 : at + 5;
}

static bool has_bare(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\r' && i + 1 < s.len && s.at[i + 1] != '\n')
            return true;
        if (s.at[i] == '\n' && (i == 0 || s.at[i - 1] != '\r'))
            return true;
    }
    return false;
}

static void model_reject(struct str in, struct model *m)
{
    *m = (struct model){.end = find_the_end(in)};
    struct str s = str_part(in, 0, m->end);
    m->bare = has_bare(s);
    for (size_t i = 0; i + 3 < s.len; i++) { /* without the end */
        bool first = i == 0 || (i >= 2 && s.at[i - 1] == '\n' && s.at[i - 2] == '\r');
        if (!(first && s.at[i] == '.'))
            m->content[m->len++] = s.at[i];
    }
}

static void model_normalize(struct str in, struct model *m)
{
    *m = (struct model){0};
    bool before = true;
    for (size_t i = 0; i < in.len;) {
        const char *lf = memchr(in.at + i, '\n', in.len - i);
        if (!lf)
            return;
        size_t to = (size_t)(lf - in.at), len = to - i;
        bool strict = len && in.at[to - 1] == '\r';
        len -= strict;
        const char *line = in.at + i;
        i = to + 1;
        m->end = i;
        if (len == 1 && line[0] == '.') {
            if (strict && before)
                break;
        } else {
            for (size_t k = len && line[0] == '.' ? 1 : 0; k < len; k++)
                m->content[m->len++] = line[k] == '\r' ? ' ' : line[k];
            memcpy(m->content + m->len, "\r\n", 2);
            m->len += 2;
        }
        before = strict;
    }
    m->bare = has_bare(str_part(in, 0, m->end));
}

/* ---- the stages, as split.h wants them ------------------------------------------------------------------------------
 */

static void start_decoder(void *stage, const void *how)
{
    decoder_start(stage, FRAMING_DOTS, *(const enum bare *)how);
}

static void tell_decoder(const struct decoder *d, struct pipe *in, struct pipe *out)
{
    pipe_print(out, "|%d%d %zu %llu %llu", d->ended, d->saw_bare, in->octets, (unsigned long long)d->octets,
               (unsigned long long)d->wire);
}

static void feed_decoder(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    while (decoder_step(stage, in, out, 65536)) {
    }
    if (last)
        tell_decoder(stage, in, out);
}

static void feed_decoder_by_three(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    while (decoder_step(stage, in, out, 3)) {
    }
    if (last)
        tell_decoder(stage, in, out);
}

static void expect(char *text, struct str in, const struct model *m, size_t *len)
{
    memcpy(text, m->content, m->len);
    *len = m->len + (size_t)sprintf(text + m->len, "|1%d %zu %zu %zu", m->bare, in.len - m->end, m->len, m->end);
}

static void check_decoder(struct str in, bool everywhere)
{
    static char text[8192];
    for (enum bare bare = BARE_REJECT; bare <= BARE_NORMALIZE; bare++) {
        struct model m;
        size_t len;
        (bare == BARE_REJECT ? model_reject : model_normalize)(in, &m);
        assert_int_equal(m.end, find_the_end(in)); /* both ways of treating bare ends see the one end */
        assert_true(m.end > 0);
        expect(text, in, &m, &len);
        struct split_stage s = {sizeof(struct decoder), start_decoder, feed_decoder, NULL, &bare};
        if (everywhere)
            split_everywhere(&s, in, (struct str){text, len});
        else
            split_run(&s, in, NULL, 0, false, false, (struct str){text, len});
        s.feed = feed_decoder_by_three;
        split_run(&s, in, NULL, 0, true, false, (struct str){text, len});
    }
}

/* ---- claims ---------------------------------------------------------------------------------------------------------
 */

static void decoder_gives_content_and_leaves_what_is_behind(void **unused)
{
    check_decoder(STR("Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"), true);
    check_decoder(STR(".\r\n"), true);
    check_decoder(STR(".\r\n.\r\n"), true);
    check_decoder(STR("\r\n.\r\nMAIL"), true);
    check_decoder(STR("..\r\n...\r\n.x\r\n. \r\n.\r\n"), true);
    check_decoder(STR("a\0b\r\n\0.\r\n.\0\r\n.\r\n"), true);
}

static void decoder_ends_only_at_crlf_dot_crlf(void **unused)
{
    static const char *const ends[] = {"\r\n",   "\n",     "\r",   "\r\r\n", "\n\r", "\r\0\n",
                                       "\0\r\n", "\r\n\0", "\n\n", "\r\r",   " \r\n"};
    static const size_t lens[] = {2, 1, 1, 3, 2, 3, 3, 3, 2, 2, 3};
    for (size_t a = 0; a < countof(ends); a++)
        for (size_t b = 0; b < countof(ends); b++) {
            char text[128];
            size_t n = 0;
            n += (size_t)sprintf(text, "body");
            memcpy(text + n, ends[a], lens[a]);
            n += lens[a];
            text[n++] = '.';
            memcpy(text + n, ends[b], lens[b]);
            n += lens[b];
            n += (size_t)sprintf(text + n, "MAIL FROM:<smuggled@x>\r\n.\r\nrest");
            struct str in = {text, n};
            bool strict = lens[a] >= 2 && memcmp(ends[a] + lens[a] - 2, "\r\n", 2) == 0 && lens[b] >= 2 &&
                          memcmp(ends[b], "\r\n", 2) == 0;
            struct str rest = str_part(in, find_the_end(in), in.len);
            assert_int_equal(str_starts(rest, STR("rest")), !strict);
            check_decoder(in, true);
        }
}

static void decoder_agrees_with_its_model_on_any_octets(void **unused)
{
    uint64_t seed = 42;
    for (int round = 0; round < 60000; round++) {
        char text[200];
        size_t n = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t len = (seed >> 33) % 150;
        /* Mostly ends and dots; some rounds with long plain runs, so that the fast scanner is in it. */
        unsigned plain = (unsigned)(seed >> 20) % 3 * 40 + 5;
        while (n < len) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned pick = (unsigned)(seed >> 40) % (plain + 8);
            static const char *const parts[] = {"\r\n", "\r\n", "\n", "\r", ".", ".", "\r\n.", ".\r\n"};
            n += (size_t)sprintf(text + n, "%s", pick < 8 ? parts[pick] : "a");
        }
        n += (size_t)sprintf(text + n, "\r\n.\r\nNEXT");
        check_decoder((struct str){text, n}, round % 400 == 0);
    }
}

static void decoder_normalizes_bare_ends(void **unused)
{
    enum bare bare = BARE_NORMALIZE;
    struct split_stage s = {sizeof(struct decoder), start_decoder, feed_decoder, NULL, &bare};
    split_everywhere(&s, STR("a\nb\rc\n.\r\n..d\n.\ne\r\n.\r\n"), STR("a\r\nb c\r\n.d\r\ne\r\n|11 0 15 21"));
    split_everywhere(&s, STR("\n.\r\n.\r\nX"), STR("\r\n|11 1 2 7"));
}

static void sink_finds_the_same_end(void **unused)
{
    struct pipe in = {0};
    struct decoder d;
    decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
    for (int i = 0; i < 10000; i++)
        pipe_put(&in, STR("line\n.\r\n..x\r\n"));
    pipe_put(&in, STR(".\r\nRSET"));
    while (decoder_step(&d, &in, NULL, 1000)) {
    }
    assert_true(d.ended && d.saw_bare);
    assert_int_equal(in.octets, 4);
    assert_false(decoder_step(&d, &in, NULL, 1000));
    pipe_clear(&in);
}

static struct block *make_block(struct str line)
{
    struct block *b = block_take(BLOCK_READ);
    while (b->used + line.len <= b->size) {
        memcpy(b->octets + b->used, line.at, line.len);
        b->used += (uint32_t)line.len;
    }
    return b;
}

static size_t count_spans(const struct pipe *p)
{
    size_t n = 0;
    for (const struct span *s = p->first; s; s = s->next)
        n++;
    return n;
}

static void plain_blocks_pass_both_stages_as_one_view(void **unused)
{
    struct block *b = make_block(STR("0123456789.0123456789. 0123456789 . 0123456789\r\n"));
    struct pipe in = {0}, mid = {0}, out = {0};
    struct decoder d;
    struct encoder e;
    decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
    encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
    pipe_view(&in, b, b->octets, b->used);
    assert_true(decoder_step(&d, &in, &mid, SIZE_MAX));
    assert_int_equal(d.lines, b->used / 48);
    assert_true(encoder_step(&e, &mid, &out, SIZE_MAX));
    assert_int_equal(count_spans(&out), 1);
    assert_ptr_equal(out.first->at, b->octets);
    assert_int_equal(out.first->len, b->used);
    pipe_clear(&out);
    block_drop(b);
}

static void bodies_of_dots_make_few_spans(void **unused)
{
    static const char *const lines[] = {"..\r\n", ".\n", "..aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
                                        "\r", "\n"};
    for (size_t i = 0; i < countof(lines); i++)
        for (enum bare bare = BARE_REJECT; bare <= BARE_NORMALIZE; bare++) {
            struct block *b = make_block(str_of(lines[i]));
            struct pipe in = {0}, mid = {0}, out = {0};
            struct decoder d;
            struct encoder e;
            decoder_start(&d, FRAMING_DOTS, bare);
            encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
            pipe_view(&in, b, b->octets, b->used);
            decoder_step(&d, &in, &mid, SIZE_MAX);
            assert_true(count_spans(&mid) <= 16);
            encoder_step(&e, &mid, &out, SIZE_MAX);
            assert_true(count_spans(&out) <= 16);
            pipe_clear(&mid);
            pipe_clear(&out);
            block_drop(b);
        }
}

static void lines_are_counted_wherever_they_are_cut(void **unused)
{
    char text[400];
    for (size_t width = 0; width < 90; width++) {
        size_t n = 0, lines = 0;
        for (; n + width + 2 < sizeof text; lines++) {
            memset(text + n, 'a', width);
            memcpy(text + n + width, "\r\n", 2);
            n += width + 2;
        }
        for (size_t cut = 1; cut < n; cut++) {
            struct pipe in = {0}, out = {0};
            struct decoder d;
            decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
            pipe_put(&in, (struct str){text, cut});
            decoder_step(&d, &in, &out, SIZE_MAX);
            pipe_put(&in, (struct str){text + cut, n - cut});
            decoder_step(&d, &in, &out, SIZE_MAX);
            assert_int_equal(d.lines, lines);
            assert_int_equal(d.octets, n);
            pipe_clear(&out);
        }
    }
}

static void stages_take_nothing_while_out_is_full(void **unused)
{
    struct pipe in = {0}, out = {.mark = PIPE_MARK};
    struct decoder d;
    struct encoder e;
    decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
    encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
    for (int i = 0; i < 100000; i++)
        pipe_put(&in, STR("0123456789\r\n"));
    while (decoder_step(&d, &in, &out, 16384)) {
    }
    assert_true(pipe_is_full(&out));
    assert_true(out.held < (size_t)3 * PIPE_MARK);
    assert_false(encoder_step(&e, &in, &out, 16384));
    assert_int_equal(d.wire, out.octets);
    pipe_clear(&in);
    pipe_clear(&out);
}

/* ---- encoder --------------------------------------------------------------------------------------------------------
 */

static void feed_encoder(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct encoder *e = stage;
    while (encoder_step(e, in, out, 65536)) {
    }
    if (last && e->bad)
        pipe_put(out, STR("|bad"));
    else if (last)
        encoder_end(e, out);
}

static void start_encoder(void *stage, const void *how)
{
    encoder_start(stage, FRAMING_DOTS, GUARD_NONE);
}

static const struct split_stage encoder_stage = {sizeof(struct encoder), start_encoder, feed_encoder, NULL, NULL};

static void encoder_stuffs_and_ends(void **unused)
{
    const struct split_stage *s = &encoder_stage;
    split_everywhere(s, STR(""), STR(".\r\n"));
    split_everywhere(s, STR("."), STR("..\r\n.\r\n"));
    split_everywhere(s, STR(".\r\n.\r\n"), STR("..\r\n..\r\n.\r\n"));
    split_everywhere(s, STR("a.b\r\n..c\r\n\r\n.d. .\r\n"), STR("a.b\r\n...c\r\n\r\n..d. .\r\n.\r\n"));
    split_everywhere(s, STR("no end"), STR("no end\r\n.\r\n"));
    split_everywhere(s, STR("half an end\r"), STR("half an end\r\n.\r\n"));
    split_everywhere(s, STR("NUL\0.\r\n\0.\r\n"), STR("NUL\0.\r\n\0.\r\n.\r\n"));
}

static void encoder_stops_at_the_first_bare_end(void **unused)
{
    const struct split_stage *s = &encoder_stage;
    split_everywhere(s, STR("a\r\n.b\nc"), STR("a\r\n..b|bad"));
    split_everywhere(s, STR("\n.\r\n"), STR("|bad"));
    split_everywhere(s, STR("a\n\n"), STR("a|bad"));
    split_everywhere(s, STR("a\r\n\n.\r\n"), STR("a\r\n|bad"));
    split_everywhere(s, STR("a\rb"), STR("a|bad"));
    split_everywhere(s, STR("a\r\r\n"), STR("a|bad"));
    split_everywhere(s, STR("0123456789012345678901234567890123456789012345678901234567890123456789\r.\r\n"),
                     STR("0123456789012345678901234567890123456789012345678901234567890123456789|bad"));
}

static void what_was_encoded_is_decoded_to_the_same(void **unused)
{
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        char text[800];
        size_t n = 0;
        while (n < 600) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned pick = (unsigned)(seed >> 40) % 40;
            n += (size_t)sprintf(text + n, "%s", pick < 6 ? "\r\n" : pick < 12 ? "." : "abc");
        }
        n += (size_t)sprintf(text + n, "\r\n");
        struct pipe in = {0}, wire = {0}, out = {0};
        struct encoder e;
        struct decoder d;
        struct arena arena = {0};
        encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
        decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
        pipe_put(&in, (struct str){text, n});
        while (encoder_step(&e, &in, &wire, (size_t)(seed >> 50) + 1)) {
        }
        encoder_end(&e, &wire);
        struct str said = pipe_flat(&wire, wire.octets, &arena);
        assert_int_equal(find_the_end(said), said.len); /* nothing but the end looks like the end */
        assert_false(has_bare(said));
        while (decoder_step(&d, &wire, &out, (size_t)(seed >> 48) + 1)) {
        }
        assert_true(d.ended && !d.saw_bare);
        assert_true(str_equal(pipe_flat(&out, out.octets, &arena), (struct str){text, n}));
        arena_reset(&arena);
        pipe_clear(&out);
    }
}

/* Text of lines, here and there something that is to be seen to: what is passed over in wide steps and what octet by
 * octet must come to the same, wherever a happening lies within a step. */
static size_t rare_happenings(char *text, size_t size, uint64_t *seed, bool bare)
{
    static const char *const odd[] = {"\r\n.", "\r\n..", "\r\n\r\n", ".\r\n",  "\r",
                                      "\n",    "\r\r\n", "\n.\r\n",  "\r\n.\n"};
    unsigned kinds = bare ? countof(odd) : 4;
    size_t n = 0;
    while (n + 8 < size) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        unsigned what = (unsigned)(*seed >> 40) % 4000;
        const char *piece = what < kinds ? odd[what] : what < 200 ? "\r\n" : "x";
        size_t len = strlen(piece);
        memcpy(text + n, piece, len);
        n += len;
    }
    return n;
}

static void wide_steps_see_what_single_octets_see(void **unused)
{
    static char text[3000];
    uint64_t seed = 7;
    for (int i = 0; i < 3000; i++) {
        size_t n = rare_happenings(text, 200 + (size_t)(i * 7 % 2700), &seed, i % 2);
        struct pipe in = {0}, whole = {0}, single = {0}, stuffed = {0}, stuffed_single = {0};
        struct arena arena = {0};
        struct decoder d, e;
        struct encoder wide, narrow;
        decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
        decoder_start(&e, FRAMING_DOTS, BARE_REJECT);
        pipe_put(&in, (struct str){text, n});
        while (decoder_step(&d, &in, &whole, SIZE_MAX)) {
        }
        pipe_clear(&in);
        pipe_put(&in, (struct str){text, n});
        while (decoder_step(&e, &in, &single, 1)) {
        }
        assert_true(d.octets == e.octets && d.lines == e.lines && d.saw_bare == e.saw_bare && d.ended == e.ended &&
                    d.at == e.at);
        assert_true(str_equal(pipe_flat(&whole, whole.octets, &arena), pipe_flat(&single, single.octets, &arena)));
        encoder_start(&wide, FRAMING_DOTS, GUARD_NONE);
        encoder_start(&narrow, FRAMING_DOTS, GUARD_NONE);
        while (encoder_step(&wide, &whole, &stuffed, SIZE_MAX)) {
        }
        while (encoder_step(&narrow, &single, &stuffed_single, 1)) {
        }
        assert_int_equal(wide.bad, narrow.bad);
        assert_true(str_equal(pipe_flat(&stuffed, stuffed.octets, &arena),
                              pipe_flat(&stuffed_single, stuffed_single.octets, &arena)));
        pipe_clear(&in);
        pipe_clear(&whole);
        pipe_clear(&single);
        pipe_clear(&stuffed);
        pipe_clear(&stuffed_single);
        arena_reset(&arena);
    }
}

static void a_line_end_on_the_border_of_a_wide_step_is_one(void **unused)
{
    for (size_t at = 100; at < 400; at++)
        for (size_t behind = 2; behind < 40; behind++) {
            struct pipe in = {0}, out = {0}, wire = {0};
            struct block *b = block_take(1024);
            struct decoder d;
            struct encoder e;
            memset(b->octets, 'x', 1024);
            memcpy(b->octets + at, "\r\n", 2);
            b->used = b->size;
            pipe_view(&in, b, b->octets, at + behind);
            block_drop(b);
            decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
            encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
            while (decoder_step(&d, &in, &out, SIZE_MAX)) {
            }
            assert_true(!d.saw_bare && d.lines == 1 && d.octets == at + behind);
            while (encoder_step(&e, &out, &wire, SIZE_MAX)) {
            }
            assert_true(!e.bad && wire.octets == at + behind);
            pipe_clear(&wire);
        }
}

/* ---- chunks ---------------------------------------------------------------------------------------------------------
 */

struct chunks { /* how the content is cut into chunks, and what is behind it */
    enum framing framing;
    enum bare bare;
    size_t sizes[8];
    unsigned count;
};
struct chunk_stage {
    struct decoder d;
    const struct chunks *how;
    unsigned next;
};

static void start_chunks(void *stage, const void *how)
{
    struct chunk_stage *c = stage;
    c->how = how;
    decoder_start(&c->d, c->how->framing, c->how->bare);
}

static void feed_chunks(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct chunk_stage *c = stage;
    do {
        if (!c->d.left && !c->d.last && c->next < c->how->count) {
            decoder_chunk(&c->d, c->how->sizes[c->next], c->next + 1 == c->how->count);
            c->next++;
        }
    } while (decoder_step(&c->d, in, out, 65536) || (!c->d.left && !c->d.last));
    if (last)
        tell_decoder(&c->d, in, out);
}

static void check_chunks(struct chunks how, struct str in, const char *expected)
{
    struct split_stage s = {sizeof(struct chunk_stage), start_chunks, feed_chunks, NULL, &how};
    split_everywhere(&s, in, str_of(expected));
}

static void chunks_are_counted_and_nothing_in_them_ends_or_is_unstuffed(void **unused)
{
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {13}, 1}, STR("a: b\r\n\r\n.\r\n.cQUIT\r\n"),
                 "a: b\r\n\r\n.\r\n.c|10 6 13 13");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {7, 0, 1, 2}, 4}, STR("..x\r\n.\r\n..NOOP"),
                 "..x\r\n.\r\n..|10 4 10 10");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {0}, 1}, STR("QUIT\r\n"), "|10 6 0 0");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {3, 0}, 2}, STR("x\r\nQUIT"), "x\r\n|10 4 3 3");
}

static void bare_ends_in_chunks_are_found_across_their_borders(void **unused)
{
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {2, 3}, 2}, STR("a\r\nbc!"), "a\r\nbc|10 1 5 5");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {2, 3}, 2}, STR("a\rxbc!"), "a\rxbc|11 1 5 5");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {1, 2}, 2}, STR("a\r\r!"), "a\r\r|11 1 3 3");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_REJECT, {4}, 1}, STR("a\nb\r!"), "a\nb\r|11 1 4 4");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_NORMALIZE, {4, 4}, 2}, STR("a\n.\r\nb\rc!"),
                 "a\r\n.\r\nb c|11 1 9 8");
    check_chunks((struct chunks){FRAMING_CHUNKS, BARE_NORMALIZE, {3, 2}, 2}, STR("a\r\r\n\r!"), "a \r\n |11 1 5 5");
}

static void binary_chunks_pass_as_they_are(void **unused)
{
    struct chunks how = {FRAMING_BINARY, BARE_REJECT, {4, 5}, 2};
    struct split_stage s = {sizeof(struct chunk_stage), start_chunks, feed_chunks, NULL, &how};
    split_everywhere(&s, STR("a\n\r.\0\r\n.\r!"), STR("a\n\r.\0\r\n.\r|10 1 9 9"));
}

static void start_chunk_encoder(void *stage, const void *how)
{
    encoder_start(stage, *(const enum framing *)how, GUARD_NONE);
}

static void content_of_chunks_leaves_unstuffed_and_checked(void **unused)
{
    enum framing text = FRAMING_CHUNKS, binary = FRAMING_BINARY;
    struct split_stage s = {sizeof(struct encoder), start_chunk_encoder, feed_encoder, NULL, &text};
    split_everywhere(&s, STR(".\r\n.a\r\n..\r\nend"), STR(".\r\n.a\r\n..\r\nend"));
    split_everywhere(&s, STR("end\r"), STR("end\r\n"));
    split_everywhere(&s, STR(""), STR(""));
    split_everywhere(&s, STR("a\nb"), STR("a|bad"));
    split_everywhere(&s, STR("a\rb"), STR("a|bad"));
    s.how = &binary;
    split_everywhere(&s, STR(".\r\n.a\n\r\0\r"), STR(".\r\n.a\n\r\0\r"));
}

/* Any octets, cut into any chunks, against the octets as a whole. */
static void chunks_cut_anywhere_are_the_content_as_a_whole(void **unused)
{
    uint64_t seed = 11;
    for (int round = 0; round < 20000; round++) {
        char text[200], told[64], expected[600];
        size_t n = 0, len = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        for (size_t most = (seed >> 40) % sizeof text; n < most; n++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[n] = "\r\n.ab\0"[(seed >> 40) % 6];
        }
        struct pipe in = {0}, out = {0};
        struct decoder d;
        struct arena arena = {0};
        enum bare bare = round % 2 ? BARE_REJECT : BARE_NORMALIZE;
        bool found = n && (text[n - 1] == '\r' || has_bare((struct str){text, n}));
        for (size_t i = 0; i < n; i++) {
            bool cr = text[i] == '\r' && (i + 1 == n || text[i + 1] != '\n'),
                 lf = text[i] == '\n' && (!i || text[i - 1] != '\r');
            if (lf && bare == BARE_NORMALIZE)
                expected[len++] = '\r';
            expected[len++] = cr && bare == BARE_NORMALIZE ? ' ' : text[i];
        }
        decoder_start(&d, FRAMING_CHUNKS, bare);
        pipe_put(&in, (struct str){text, n});
        pipe_put(&in, STR("QUIT"));
        for (size_t left = n; !d.ended;) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t chunk = min_size(left, (seed >> 40) % 20);
            left -= chunk;
            decoder_chunk(&d, chunk, left == 0 && (seed >> 60) % 2);
            while (decoder_step(&d, &in, &out, (size_t)(seed >> 58) + 1)) {
            }
            assert_int_equal(d.left, 0);
        }
        snprintf(told, sizeof told, "%d %zu", d.saw_bare, in.octets);
        assert_string_equal(told, found ? "1 4" : "0 4");
        assert_true(str_equal(pipe_flat(&out, out.octets, &arena), (struct str){expected, len}));
        arena_reset(&arena);
        pipe_clear(&in);
        pipe_clear(&out);
    }
}

static int nothing_is_left(void **unused)
{
    assert_int_equal(block_total(), 0);
    block_forget();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoder_gives_content_and_leaves_what_is_behind),
        cmocka_unit_test(decoder_ends_only_at_crlf_dot_crlf),
        cmocka_unit_test(decoder_agrees_with_its_model_on_any_octets),
        cmocka_unit_test(decoder_normalizes_bare_ends),
        cmocka_unit_test(sink_finds_the_same_end),
        cmocka_unit_test(plain_blocks_pass_both_stages_as_one_view),
        cmocka_unit_test(bodies_of_dots_make_few_spans),
        cmocka_unit_test(lines_are_counted_wherever_they_are_cut),
        cmocka_unit_test(stages_take_nothing_while_out_is_full),
        cmocka_unit_test(encoder_stuffs_and_ends),
        cmocka_unit_test(encoder_stops_at_the_first_bare_end),
        cmocka_unit_test(what_was_encoded_is_decoded_to_the_same),
        cmocka_unit_test(wide_steps_see_what_single_octets_see),
        cmocka_unit_test(a_line_end_on_the_border_of_a_wide_step_is_one),
        cmocka_unit_test(chunks_are_counted_and_nothing_in_them_ends_or_is_unstuffed),
        cmocka_unit_test(bare_ends_in_chunks_are_found_across_their_borders),
        cmocka_unit_test(binary_chunks_pass_as_they_are),
        cmocka_unit_test(content_of_chunks_leaves_unstuffed_and_checked),
        cmocka_unit_test(chunks_cut_anywhere_are_the_content_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
