/* fuzz_preface.c - headers of the PROXY protocol. Claims: the same is found however the input is cut; texts have no
 * control octets; what was taken, written as v1 or v2 and taken again, is the same, or is told as local when it cannot
 * be said. */
#include "fuzz.h"
#include "wire/preface.h"

struct taker {
    struct arena arena;
    struct preface p;
    enum preface_took took;
};

static void check_clean(struct str s)
{
    must(s.at && s.len <= 255 && str_is_utf8(s));
    for (size_t i = 0; i < s.len; i++)
        must((unsigned char)s.at[i] >= ' ' && s.at[i] != 127);
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    if (t->took == PREFACE_MORE)
        t->took = preface_take(in, &t->arena, &t->p);
    if (!last)
        return;
    const struct preface *p = &t->p;
    pipe_print(out, "%d|", t->took);
    if (t->took == PREFACE_TAKEN) {
        const struct str texts[] = {p->source, p->target, p->tls_version, p->tls_cipher, p->tls_subject, p->authority};
        pipe_print(out, "%d %u %u %d %d", p->local, p->source_port, p->target_port, p->tls, p->verified);
        for (size_t i = 0; i < countof(texts); i++) {
            check_clean(texts[i]);
            pipe_put(out, STR(" "));
            pipe_put(out, texts[i]);
        }
    }
    pipe_move(in, out, in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static bool is_six(struct str ip)
{
    return ip.len && memchr(ip.at, ':', ip.len);
}

static void round_trip(const struct preface *p, bool v2, struct arena *arena)
{
    struct pipe wire = {0};
    struct preface q;
    v2 ? preface_put_v2(p, &wire) : preface_put_v1(p, &wire);
    must(v2 ? wire.octets <= PREFACE_MOST : wire.octets <= PREFACE_V1_MOST);
    must(preface_take(&wire, arena, &q) == PREFACE_TAKEN && !wire.octets);
    bool can_be_said = !p->local && p->source.len && is_six(p->source) == is_six(p->target);
    must(q.local == !can_be_said);
    if (q.local)
        return;
    fuzz_same(q.source, p->source);
    fuzz_same(q.target, p->target);
    must(q.source_port == p->source_port && q.target_port == p->target_port);
    if (!v2)
        return;
    fuzz_same(q.authority, p->authority);
    must(q.tls == p->tls && q.verified == p->verified);
    if (!p->tls)
        return;
    fuzz_same(q.tls_version, p->tls_version);
    fuzz_same(q.tls_cipher, p->tls_cipher);
    fuzz_same(q.tls_subject, p->tls_subject);
}

/* A v2 header that was taken, by its lengths only: its TLVs fill it, and that of TLS has its five octets. */
static void check_tlvs(struct str header)
{
    static const size_t addresses[] = {[1] = 12, [2] = 36, [3] = 216};
    if (header.len < 16 || header.at[0] != '\r' || header.at[12] != 0x21 || (header.at[13] & 0xF0) == 0)
        return; /* v1, LOCAL, or AF_UNSPEC, whose rest is passed over */
    size_t family = (size_t)(unsigned char)header.at[13] >> 4;
    must(family < countof(addresses) && header.len >= 16 + addresses[family]);
    struct str rest = str_part(header, 16 + addresses[family], header.len);
    while (rest.len) {
        must(rest.len >= 3);
        size_t len = (size_t)(unsigned char)rest.at[1] << 8 | (unsigned char)rest.at[2];
        must(rest.len >= 3 + len && (rest.at[0] != 0x20 || len >= 5));
        rest = str_part(rest, 3 + len, rest.len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static const struct split_stage stage = {sizeof(struct taker), NULL, feed, stop, NULL};
    struct str input = fuzz_input(octets, n);
    uint8_t seed = fuzz_octet(&input);
    fuzz_same_however_cut(&stage, input, seed);
    struct arena arena = {0};
    struct pipe in = {0};
    struct preface p;
    pipe_put(&in, input);
    if (preface_take(&in, &arena, &p) == PREFACE_TAKEN) {
        check_tlvs(str_part(input, 0, input.len - in.octets));
        round_trip(&p, false, &arena);
        round_trip(&p, true, &arena);
    }
    pipe_clear(&in);
    arena_reset(&arena);
    return 0;
}
