/* content.c - decodes and encodes mail data: RFC 5321 4.5.2 (transparency), 2.3.8 and 4.1.1.4 (only CRLF.CRLF ends mail data), RFC 3030 2
 * and 3 (chunks: text and binary).
 *
 * Decoder and encoder are state machines that handle single octets only at CR, LF and dots that begin a line; plain() skips all others.
 * The octets in between are a run, which is passed on by reference when it is long and copied when it is short, so that a body of dots
 * does not cost a span per line. The state stands for the octets that are held back at the end of the input (a CR, a dot, a dot and its
 * CR). NUL and octets above 127 are ordinary octets, except for the guard of the encoder. */
#include "wire/content.h"
#ifdef __SSE2__
#include <immintrin.h>
#endif

enum {
    FRESH,       /* at the beginning of a line; the line end before it was CRLF (or there was none) */
    FRESH_BARE,  /* the same behind a bare LF (BARE_NORMALIZE only) */
    WITHIN,      /* within a line */
    CR,          /* a CR is held back; it was not behind a lone dot */
    DOT,         /* the dot that begins a line was taken */
    DOT_BARE,    /* the same behind a bare LF */
    DOT_CR,      /* a lone dot and a CR were taken */
    DOT_BARE_CR, /* the same behind a bare LF */
};

/* The current line as the guarded receiver reads it, which drops NULs and, depending on the guard, clears the eighth bit. */
enum {
    BEGUN,    /* empty, after a CRLF: a dot that comes now will be stuffed */
    NOTHING,  /* empty to the receiver, after NULs or after octets that it reads as a line end: a dot will not be stuffed */
    LONE_DOT, /* a dot that was not stuffed, possibly with NULs */
    MORE,
};

/* Runs shorter than this are copied: that is cheaper than a span, and each span keeps a whole block alive. */
enum { RUN_SHORT = 4096 };

/* ---- the scanner ----------------------------------------------------------------------------------------------------
 */

/* How many octets of at[0..len) decoder and encoder may pass on unchanged: every CR is followed by LF, every LF preceded by CR, and no LF
 * followed by a dot. The last of them is never a CR. The caller has checked that at[0] is neither LF nor a dot that begins a line. */
static size_t plain_tail(const char *at, size_t len, size_t n, uint64_t *lines)
{
    if (n && at[n - 1] == '\r') { /* the vector code has checked that the next octet is its LF */
        n--;
        --*lines;
    }
    while (n < len && at[n] != '\n') {
        if (at[n] != '\r') {
            n++;
            continue;
        }
        if (len - n < 2 || at[n + 1] != '\n' || (len - n > 2 && at[n + 2] == '.'))
            break;
        n += 2;
        ++*lines;
    }
    return n;
}

#ifdef __SSE2__
/* Checks one condition for 16 octets and the two after them: an octet is CR if and only if the next one is LF, and then the one after that
 * is no dot. Takes three loads at offsets 0, 1 and 2 and three comparisons. Octets of the result are 0 where the condition holds. */
static inline __m128i odd(const char *at, __m128i *returns)
{
    __m128i cr = _mm_cmpeq_epi8(_mm_loadu_si128((const void *)at), _mm_set1_epi8('\r'));
    __m128i lf = _mm_cmpeq_epi8(_mm_loadu_si128((const void *)(at + 1)), _mm_set1_epi8('\n'));
    __m128i dot = _mm_cmpeq_epi8(_mm_loadu_si128((const void *)(at + 2)), _mm_set1_epi8('.'));
    *returns = cr;
    return _mm_or_si128(_mm_xor_si128(cr, lf), _mm_and_si128(cr, dot));
}

static size_t plain_sse2(const char *at, size_t len, uint64_t *lines)
{
    const __m128i zero = _mm_setzero_si128();
    __m128i total = zero;
    size_t n = 0;
    for (; len - n >= 64 + 2; n += 64) {
        __m128i a, b, c, d;
        __m128i first = _mm_or_si128(odd(at + n, &a), odd(at + n + 16, &b));
        __m128i second = _mm_or_si128(odd(at + n + 32, &c), odd(at + n + 48, &d));
        if (UNLIKELY(_mm_movemask_epi8(_mm_or_si128(first, second))))
            break;
        __m128i four = _mm_add_epi8(_mm_add_epi8(a, b), _mm_add_epi8(c, d)); /* minus the number of CRs, by column */
        total = _mm_add_epi64(total, _mm_sad_epu8(_mm_sub_epi8(zero, four), zero));
    }
    uint64_t sums[2];
    _mm_storeu_si128((void *)sums, total);
    *lines += sums[0] + sums[1];
    for (; len - n >= 16 + 2; n += 16) {
        __m128i cr;
        unsigned strange = (unsigned)_mm_movemask_epi8(odd(at + n, &cr));
        unsigned returns = (unsigned)_mm_movemask_epi8(cr);
        unsigned good = strange ? (unsigned)__builtin_ctz(strange) : 16;
        *lines += (uint64_t)__builtin_popcount(returns & ((1u << good) - 1));
        if (strange) {
            n += good;
            if (n && at[n - 1] == '\r') { /* at[n] is its LF, and stop before this CRLF */
                n--;
                --*lines;
            }
            return n;
        }
    }
    return plain_tail(at, len, n, lines);
}

/* The same condition for 32 octets at a time with AVX2, 128 per iteration. It leaves the place where it fails, and the rest, to the SSE2
 * version. */
__attribute__((target("avx2"))) static size_t plain_avx2(const char *at, size_t len, uint64_t *lines)
{
    const __m256i zero = _mm256_setzero_si256(), r = _mm256_set1_epi8('\r'), l = _mm256_set1_epi8('\n'),
                  d = _mm256_set1_epi8('.');
    __m256i total = zero;
    size_t n = 0;
    for (; len - n >= 128 + 2; n += 128) {
        __m256i strange = zero, returns = zero;
        for (size_t i = 0; i < 128; i += 32) {
            __m256i cr = _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(at + n + i)), r);
            __m256i lf = _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(at + n + i + 1)), l);
            __m256i dot = _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(at + n + i + 2)), d);
            strange = _mm256_or_si256(strange, _mm256_or_si256(_mm256_xor_si256(cr, lf), _mm256_and_si256(cr, dot)));
            returns = _mm256_sub_epi8(returns, cr);
        }
        if (UNLIKELY(!_mm256_testz_si256(strange, strange)))
            break;
        total = _mm256_add_epi64(total, _mm256_sad_epu8(returns, zero));
    }
    uint64_t sums[4];
    _mm256_storeu_si256((void *)sums, total);
    *lines += sums[0] + sums[1] + sums[2] + sums[3];
    /* at[n] is no dot that begins a line, as the check two octets before has shown. If it is the LF after a CR that was counted, go back
     * to the CR. */
    if (n && at[n] == '\n') {
        n--;
        --*lines;
    }
    return n;
}

static size_t plain(const char *at, size_t len, uint64_t *lines)
{
    size_t n = len >= 256 && __builtin_cpu_supports("avx2") ? plain_avx2(at, len, lines) : 0;
    return n + plain_sse2(at + n, len - n, lines);
}
#else
static size_t plain(const char *at, size_t len, uint64_t *lines)
{
    return plain_tail(at, len, 0, lines);
}
#endif

/* ---- runs -----------------------------------------------------------------------------------------------------------
 */

struct content_run {
    struct pipe *out;
    struct block *block;
    const char *from; /* the first octet that was not given yet */
    uint64_t *octets; /* counts the octets passed on */
};

/* Passes on the octets from..to and continues at `next`. */
static void give(struct content_run *r, const char *to, const char *next)
{
    size_t len = (size_t)(to - r->from);
    const char *from = r->from;
    r->from = next;
    if (!len)
        return;
    if (r->octets)
        *r->octets += len;
    if (!r->out)
        return;
    const struct span *last = r->out->last;
    bool goes_on = last && last->block == r->block && last->at + last->len == from;
    if (!r->block)
        pipe_constant(r->out, (struct str){from, len});
    else if (len < RUN_SHORT && !goes_on)
        pipe_copy(r->out, from, len);
    else
        pipe_view(r->out, r->block, from, len);
}

static void insert(struct content_run *r, struct str octets)
{
    if (r->octets)
        *r->octets += octets.len;
    if (r->out)
        pipe_put(r->out, octets);
}

/* Whether the conditions for calling plain() here hold. */
static inline bool is_quiet(uint8_t at, char octet)
{
    return at <= WITHIN && octet != '\n' && (octet != '.' || at == WITHIN);
}

/* ---- decoder --------------------------------------------------------------------------------------------------------
 */

void decoder_start(struct decoder *d, enum framing framing, enum bare bare)
{
    /* DATA's own CRLF counts: ".CRLF" at once is empty mail data. In a chunk no octet is special for where it stands.
     */
    uint8_t begin = framing == FRAMING_DOTS ? FRESH : WITHIN;
    *d = (struct decoder){.framing = framing, .bare = bare, .at = begin, .begin = begin};
}

void decoder_chunk(struct decoder *d, uint64_t octets, bool last)
{
    must(d->framing != FRAMING_DOTS && !d->left && !d->last);
    d->left = octets;
    d->last = last;
}

/* Handles a bare CR at p, or one that was held back (p NULL). */
static void bare_return(struct decoder *d, struct content_run *r, const char *p)
{
    d->saw_bare = true;
    d->at = WITHIN;
    if (p && d->bare == BARE_REJECT)
        return; /* it stays unchanged in its run */
    if (p)
        give(r, p, p + 1);
    insert(r, d->bare == BARE_REJECT ? STR("\r") : STR(" "));
}

static void bare_feed(struct decoder *d, struct content_run *r, const char *p)
{
    d->saw_bare = true;
    d->at = WITHIN; /* under BARE_REJECT it begins no line: what follows is neither unstuffed nor an end */
    if (d->bare == BARE_REJECT)
        return;
    give(r, p, p + 1);
    insert(r, STR("\r\n"));
    d->lines++;
    d->at = d->begin == FRESH ? FRESH_BARE : WITHIN;
}

/* Handles the octet at p when nothing is held back. Returns how many octets it has handled. */
static size_t take_open(struct decoder *d, struct content_run *r, const char *p, const char *end)
{
    if (*p == '.' && d->at != WITHIN) { /* RFC 5321 4.5.2: the first octet of a line, when a dot, is deleted */
        give(r, p, p + 1);
        d->at = d->at == FRESH ? DOT : DOT_BARE;
    } else if (*p == '\n') {
        bare_feed(d, r, p);
    } else if (*p != '\r') {
        d->at = WITHIN;
    } else if (end - p < 2) {
        give(r, p, p + 1);
        d->at = CR;
    } else if (p[1] == '\n') {
        d->lines++;
        d->at = d->begin;
        return 2;
    } else {
        bare_return(d, r, p);
    }
    return 1;
}

/* Handles the octet at p when something is held back; r->from is p. Returns 0 when the octet must be handled again in the new state. */
static size_t take_held(struct decoder *d, struct content_run *r, const char *p)
{
    bool bare_before = d->at == DOT_BARE || d->at == DOT_BARE_CR;
    if (d->at == CR && *p == '\n') {
        insert(r, STR("\r")); /* its LF begins the run */
        d->lines++;
        d->at = d->begin;
        return 1;
    }
    if ((d->at == DOT || d->at == DOT_BARE) && *p == '\r') {
        r->from = p + 1;
        d->at = bare_before ? DOT_BARE_CR : DOT_CR;
        return 1;
    }
    if ((d->at == DOT || d->at == DOT_BARE) && *p == '\n' && d->bare == BARE_NORMALIZE) {
        r->from = p + 1; /* a lone dot with a bare line end: neither an end nor content */
        d->saw_bare = true;
        d->at = FRESH_BARE;
        return 1;
    }
    if (d->at == DOT_CR && *p == '\n') { /* RFC 5321 4.1.1.4: the one end */
        r->from = p + 1;
        d->ended = true;
        return 1;
    }
    if (d->at == DOT_BARE_CR && *p == '\n') { /* its own line end is CRLF, the one before was not: dropped */
        r->from = p + 1;
        d->at = FRESH;
        return 1;
    }
    if (d->at == DOT || d->at == DOT_BARE)
        d->at = WITHIN;
    else
        bare_return(d, r, NULL);
    return 0;
}

static size_t decode(struct decoder *d, const struct span *s, size_t len, struct pipe *out)
{
    struct content_run r = {out, s->block, s->at, &d->octets};
    const char *p = s->at, *end = p + len;
    while (p < end && !d->ended) {
        size_t n = is_quiet(d->at, *p) ? plain(p, (size_t)(end - p), &d->lines) : 0;
        if (n) {
            p += n;
            d->at = p[-1] == '\n' ? d->begin : WITHIN;
        } else {
            p += d->at <= WITHIN ? take_open(d, &r, p, end) : take_held(d, &r, p);
        }
    }
    give(&r, p, p);
    return (size_t)(p - s->at);
}

/* The current chunk has been taken completely. A CR at the end of the last chunk is bare. */
static void end_chunk(struct decoder *d, struct pipe *out)
{
    if (!d->last)
        return;
    struct content_run r = {out, NULL, NULL, &d->octets};
    if (d->at == CR)
        bare_return(d, &r, NULL);
    d->ended = true;
}

static bool chunk_step(struct decoder *d, struct pipe *in, struct pipe *out, size_t most)
{
    size_t taken = 0;
    while (in->first && taken < most && d->left && !(out && pipe_is_full(out))) {
        size_t n = (size_t)min_u64(min_size(in->first->len, most - taken), d->left);
        if (d->framing == FRAMING_CHUNKS) {
            n = decode(d, in->first, n, out);
            pipe_drop(in, n);
        } else {
            d->octets += n;
            if (out)
                pipe_move(in, out, n);
            else
                pipe_drop(in, n);
        }
        d->left -= n;
        taken += n;
    }
    d->wire += taken;
    bool ended = d->ended;
    if (!d->left)
        end_chunk(d, out);
    return taken > 0 || d->ended != ended;
}

bool decoder_step(struct decoder *d, struct pipe *in, struct pipe *out, size_t most)
{
    if (d->framing != FRAMING_DOTS)
        return chunk_step(d, in, out, most);
    size_t taken = 0;
    while (in->first && taken < most && !d->ended && !(out && pipe_is_full(out))) {
        size_t n = decode(d, in->first, min_size(in->first->len, most - taken), out);
        pipe_drop(in, n);
        taken += n;
    }
    d->wire += taken;
    return taken > 0;
}

/* ---- encoder --------------------------------------------------------------------------------------------------------
 */

void encoder_start(struct encoder *e, enum framing framing, enum guard guard)
{
    *e = (struct encoder){.framing = framing, .at = FRESH, .guard = guard, .line = BEGUN};
}

/* The offset of the first octet that the guarded receiver reads as another octet, or drops; `len`: none. */
static size_t find_odd(enum guard guard, const char *at, size_t len)
{
    if (guard == GUARD_NUL) {
        const char *found = memchr(at, 0, len);
        return found ? (size_t)(found - at) : len;
    }
    size_t n = 0;
    while (n < len && (signed char)at[n] > 0)
        n++;
    return n;
}

/* Handles one octet of a line that has octets which the guarded receiver reads differently. */
static void guard_octet(struct encoder *e, char octet)
{
    char c = e->guard == GUARD_EIGHTH_BIT ? (char)(octet & 0x7f) : octet;
    bool ends = c == '\r' || c == '\n';
    if (ends && e->line == LONE_DOT)
        e->bad = e->hidden = true;
    else if (ends)
        e->line = octet == '\n' ? BEGUN : NOTHING;
    else if (c == '.' &&
             (e->line == NOTHING || (e->line == BEGUN && octet != '.'))) /* one behind a real line end is stuffed */
        e->line = LONE_DOT;
    else if (c == 0 && e->line == BEGUN)
        e->line = NOTHING;
    else if (c != 0)
        e->line = MORE;
}

/* Checks octets before they are passed on, so that a hidden end is never sent. */
static void guard(struct encoder *e, const char *at, size_t len)
{
    for (size_t n = 0; n < len && !e->bad;) {
        if (e->line == BEGUN || e->line == MORE) {
            size_t plain = find_odd(e->guard, at + n, len - n);
            if (plain)
                e->line = at[n + plain - 1] == '\n' ? BEGUN : MORE;
            n += plain;
        }
        if (n < len)
            guard_octet(e, at[n++]);
    }
}

static size_t encode(struct encoder *e, const struct span *s, size_t len, struct pipe *out)
{
    struct content_run r = {out, s->block, s->at, NULL};
    const char *p = s->at, *end = p + len;
    uint64_t lines = 0;
    while (p < end && !e->bad) {
        size_t n = is_quiet(e->at, *p) ? plain(p, (size_t)(end - p), &lines) : 0;
        if (n) {
            p += n;
            e->at = p[-1] == '\n' ? FRESH : WITHIN;
        } else if (e->at == CR) {
            if (*p != '\n') {
                e->bad = true;
                break;
            }
            insert(&r, STR("\r"));
            p++;
            e->at = FRESH;
        } else if (*p == '.' && e->at == FRESH) {
            if (e->framing == FRAMING_DOTS)
                give(&r, p + 1,
                     p); /* the one dot is in both runs: stuffed (RFC 5321 4.5.2) without an octet of our own */
            p++;
            e->at = WITHIN;
        } else if (*p == '\r' && end - p < 2) {
            give(&r, p, p + 1);
            p++;
            e->at = CR;
        } else if (*p == '\r' && p[1] == '\n') {
            p += 2;
            e->at = FRESH;
        } else if (*p == '\r' || *p == '\n') {
            e->bad = true;
        } else {
            p++;
            e->at = WITHIN;
        }
    }
    give(&r, p, p);
    return (size_t)(p - s->at);
}

bool encoder_step(struct encoder *e, struct pipe *in, struct pipe *out, size_t most)
{
    size_t taken = 0;
    while (in->first && taken < most && !e->bad && !pipe_is_full(out)) {
        size_t n = min_size(in->first->len, most - taken);
        if (e->guard)
            guard(e, in->first->at, n);
        if (e->bad)
            break;
        if (e->framing == FRAMING_BINARY) {
            pipe_move(in, out, n);
        } else {
            n = encode(e, in->first, n, out);
            pipe_drop(in, n);
        }
        taken += n;
    }
    e->octets += taken;
    return taken > 0;
}

bool encoder_may_end(struct encoder *e)
{
    if (e->line == LONE_DOT)
        e->bad = e->hidden = true;
    return !e->bad;
}

void encoder_end(struct encoder *e, struct pipe *out)
{
    must(!e->bad);
    if (e->framing != FRAMING_DOTS) {
        if (e->at == CR)
            pipe_put(out, STR("\r\n"));
        return;
    }
    if (e->at != FRESH) /* a CR that is still held back leaves as part of this line end, or not at all */
        pipe_put(out, STR("\r\n"));
    pipe_put(out, STR(".\r\n"));
    e->at = FRESH;
}
