/* fuzz_content.c - mail data in and out. Claims: the decoder gives the same however its input is cut and its output
 * drained; of DATA it gives what a naive reader of RFC 5321 4.5.2 gives, and ends where that ends; normalized content
 * has whole line ends only; what the encoder writes has no bare CR or LF and its one CRLF.CRLF at its end, and decodes
 * to what was put in. */
#include "fuzz.h"
#include "wire/content.h"

struct how {
    enum framing framing;
    enum bare bare;
    uint32_t seed; /* of the chunks' sizes */
    size_t octets; /* of all chunks */
};
struct taker {
    struct how how;
    struct decoder d;
    uint32_t cuts;
    size_t left; /* octets that no chunk was told for yet */
};

static void start(void *stage, const void *how)
{
    static uint32_t
        run; /* what a step takes and leaves must not matter, so it is another each time; its order replays */
    struct taker *t = stage;
    t->how = *(const struct how *)how;
    t->left = t->how.octets;
    t->cuts = run++;
    decoder_start(&t->d, t->how.framing, t->how.bare);
}

static bool begin_chunk(struct taker *t)
{
    if (t->how.framing == FRAMING_DOTS || t->d.left)
        return true;
    if (t->d.last)
        return false;
    size_t n = fuzz_piece(&t->how.seed, t->left);
    t->left -= n;
    decoder_chunk(&t->d, n, !t->left);
    return true;
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct pipe narrow = {.mark = fuzz_next(&t->cuts) & 1}; /* a mark of 1: full with whatever is in it */
    bool took = true;
    while (took && !t->d.ended && begin_chunk(t)) {
        took = decoder_step(&t->d, in, &narrow, fuzz_next(&t->cuts) & 1 ? SIZE_MAX : fuzz_piece(&t->cuts, SIZE_MAX));
        pipe_move(&narrow, out, narrow.octets);
    }
    if (!last)
        return;
    pipe_print(out, "|ended %d bare %d octets %llu wire %llu lines %llu|", t->d.ended, t->d.saw_bare,
               (unsigned long long)t->d.octets, (unsigned long long)t->d.wire, (unsigned long long)t->d.lines);
    pipe_move(in, out, in->octets);
}

/* Whether no CR is without its LF and no LF without its CR; a CR at the very end may be `held`. */
static bool is_whole(struct str s, bool held)
{
    for (size_t i = 0; i < s.len; i++) {
        bool cr = i && s.at[i - 1] == '\r';
        if (cr != (s.at[i] == '\n'))
            return false;
    }
    return held || !s.len || s.at[s.len - 1] != '\r';
}

/* RFC 5321 4.5.2 in the plainest way, behind DATA's own CRLF. Returns whether the end was there, and how much was read.
 */
static bool read_naively(struct str s, struct arena *arena, struct str *content, size_t *taken)
{
    char *to = arena_space(arena, s.len + 1);
    size_t n = 0, i = 0;
    bool ended = false;
    for (; i < s.len && !ended; i++) {
        bool fresh = i == 0 || (i > 1 && s.at[i - 2] == '\r' && s.at[i - 1] == '\n');
        bool dot = fresh && s.at[i] == '.';
        if (dot && s.len - i > 2 && s.at[i + 1] == '\r' && s.at[i + 2] == '\n') {
            ended = true;
            i += 2;
        } else if (!dot && (s.at[i] != '\r' || i + 1 < s.len)) { /* the last CR is held back */
            to[n++] = s.at[i];
        }
    }
    *taken = i;
    *content = (struct str){to, n};
    return ended;
}

/* Content through the encoder and back. */
static void round_trip(struct str content, uint32_t seed)
{
    struct pipe in = {0}, wire = {.mark = 1}, out = {0}, back = {0};
    struct arena arena = {0};
    struct encoder e;
    encoder_start(&e, FRAMING_DOTS, GUARD_NONE);
    fuzz_put(&in, content, seed);
    while (encoder_step(&e, &in, &wire, fuzz_piece(&seed, SIZE_MAX)))
        pipe_move(&wire, &out, wire.octets);
    must(e.bad == !is_whole(content, true));
    if (!e.bad)
        encoder_end(&e, &out);
    struct str sent = pipe_flat(&out, out.octets, &arena), end = STR("\r\n.\r\n");
    char *whole = arena_space(&arena, 2 + sent.len);
    memcpy(whole, "\r\n", 2); /* DATA's own line end before it */
    memcpy(whole + 2, sent.at ? sent.at : "", sent.len);
    struct str all = {whole, 2 + sent.len};
    must(is_whole(all, e.bad));
    must(str_find(all, end) == (e.bad ? all.len : all.len - end.len));
    if (!e.bad) {
        struct decoder d;
        decoder_start(&d, FRAMING_DOTS, BARE_REJECT);
        while (decoder_step(&d, &out, &back, SIZE_MAX)) {
        }
        must(d.ended && !d.saw_bare && !out.octets && e.octets == content.len);
        struct str given = pipe_flat(&back, back.octets, &arena);
        bool ends = !content.len || (content.len > 1 && content.at[content.len - 1] == '\n');
        bool held = content.len && content.at[content.len - 1] == '\r';
        must(given.len == content.len + (ends ? 0 : held ? 1 : 2));
        must(str_equal(str_part(given, 0, content.len), content));
    }
    pipe_clear(&in);
    pipe_clear(&out);
    pipe_clear(&back);
    arena_reset(&arena);
}

/* Of chunks nothing is stuffed: content leaves as it is, a CR at its end as a line end; or up to the first bare CR or
 * LF. */
static void through_chunks(struct str content, uint32_t seed)
{
    struct pipe in = {0}, wire = {.mark = 1}, out = {0};
    struct arena arena = {0};
    struct encoder e;
    encoder_start(&e, FRAMING_CHUNKS, GUARD_NONE);
    fuzz_put(&in, content, seed);
    while (encoder_step(&e, &in, &wire, fuzz_piece(&seed, SIZE_MAX)))
        pipe_move(&wire, &out, wire.octets);
    must(e.bad == !is_whole(content, true));
    if (!e.bad)
        encoder_end(&e, &out);
    struct str sent = pipe_flat(&out, out.octets, &arena);
    must(is_whole(sent, e.bad) && str_equal(str_part(content, 0, sent.len), str_part(sent, 0, content.len)));
    must(e.bad || sent.len == content.len + (content.len && content.at[content.len - 1] == '\r'));
    pipe_clear(&in);
    pipe_clear(&out);
    arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n);
    uint8_t flags = fuzz_octet(&input);
    struct how how = {.framing = flags % 3, .bare = flags / 4 & 1, .seed = flags / 8};
    uint32_t seed = fuzz_octet(&input);
    how.octets = input.len;
    struct split_stage stage = {sizeof(struct taker), start, feed, NULL, &how};
    fuzz_same_however_cut(&stage, input, seed);

    struct arena arena = {0};
    struct pipe in = {0}, out = {0};
    struct taker t = {0};
    struct str naive;
    size_t taken;
    start(&t, &how);
    pipe_constant(&in, input); /* in place: a look beyond its end is seen */
    feed(&t, &in, &out, false);
    struct str content = pipe_flat(&out, out.octets, &arena);
    bool ended = read_naively(input, &arena, &naive, &taken);
    if (how.framing == FRAMING_DOTS) /* what else bare line ends may mean, they end nothing */
        must(t.d.ended == ended && t.d.wire == (ended ? taken : input.len));
    if (how.framing == FRAMING_DOTS && how.bare == BARE_REJECT) {
        fuzz_same(str_part(content, 0, content.len), content.len ? naive : content);
        must(content.len == naive.len);
    }
    if (how.framing != FRAMING_DOTS)
        must(t.d.ended && t.d.wire == input.len);
    if (how.framing == FRAMING_BINARY)
        must(str_equal(content, input));
    else if (how.bare == BARE_NORMALIZE || !t.d.saw_bare)
        must(is_whole(content, false));
    must(t.d.octets == content.len);
    round_trip(content.at ? content : STR(""), seed);
    round_trip(input, seed);
    through_chunks(input, seed);
    pipe_clear(&in);
    pipe_clear(&out);
    arena_reset(&arena);
    return 0;
}
