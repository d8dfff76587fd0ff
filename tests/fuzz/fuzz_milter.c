/* fuzz_milter.c - packets of the milter protocol, of either side. Claims: the same packets and the same fault however
 * the input is cut; a fault that is found early stays; texts have no NUL and lie within the packet; what was read,
 * written and read again is the same; a reply that was taken unpacks, and packs to what unpacks to the same; a value
 * that comes in ends no header section, and goes out and in again as it was. */
#include "fuzz.h"
#include "wire/milter.h"

static struct milter_reader reader_of(uint8_t how)
{
    return (struct milter_reader){how & 1 ? MILTER_FROM_FILTER : MILTER_FROM_MTA, how & 2 ? MILTER_BODY_MOST : 40,
                                  how & 4 ? MILTER_OTHER_MOST : 60};
}

struct taker {
    struct milter_reader reader;
    struct arena arena;
    bool over;
};

static void start(void *stage, const void *how)
{
    ((struct taker *)stage)->reader = *(const struct milter_reader *)how;
}

static void put_text(struct pipe *out, struct str s)
{
    pipe_print(out, "%s%zu:", s.at ? "" : "none", s.len);
    pipe_put(out, s);
}

static void put_packet(struct pipe *out, const struct milter_packet *p)
{
    pipe_print(out, "{%c %d %u %u %u %u %u", p->kind, p->of, p->port, (unsigned)p->index, (unsigned)p->option.version,
               (unsigned)p->option.actions, (unsigned)p->option.protocol);
    put_text(out, p->name);
    put_text(out, p->value);
    put_text(out, p->rest);
    for (size_t i = 0; i < MILTER_WHERES; i++)
        put_text(out, p->option.lists[i]);
    pipe_put(out, STR("}"));
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct milter_packet p;
    size_t whole = 0;
    enum milter_fault fault = MILTER_GOOD;
    enum milter_took took = MILTER_MORE;
    while (!t->over && (took = milter_read(&t->reader, in, &t->arena, &p, &whole, &fault)) == MILTER_PACKET) {
        must(whole <= in->octets && !fault);
        put_packet(out, &p);
        pipe_drop(in, whole);
    }
    if (!t->over && took == MILTER_MORE)
        must(whole > in->octets && !fault);
    if (took == MILTER_BROKEN) {
        must(fault && fault < MILTER_FAULTS);
        pipe_print(out, "fault %d of %d", fault, p.kind);
        t->over = true;
    }
    if (last && !t->over)
        pipe_print(out, "left %zu", in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static void is_within(struct str s, struct str packet, bool text)
{
    must(!s.at || (s.at >= packet.at && s.at + s.len <= packet.at + packet.len));
    must(!text || !s.len || !memchr(s.at, 0, s.len));
}

static void reply_trip(struct str y, struct arena *arena)
{
    struct str lines[MILTER_LINES], again[MILTER_LINES], packed;
    size_t n, m;
    must(milter_reply_unpack(y, arena, lines, &n) && n);
    for (size_t i = 0; i < n; i++)
        if (lines[i].len > MILTER_LINE_MOST)
            return;
    must(milter_reply_pack(lines, n, arena, &packed) && milter_reply_unpack(packed, arena, again, &m) && m == n);
    for (size_t i = 0; i < n; i++) /* "550" is said as "550 " */
        fuzz_same(again[i], lines[i].len == 3 ? arena_print(arena, "%.3s ", lines[i].at) : lines[i]);
}

static void value_trip(struct str value, struct arena *arena)
{
    for (int leadspc = 0; leadspc < 2; leadspc++) {
        struct str raw = milter_value_in(value, leadspc, arena);
        must(leadspc || raw.at[0] == ' ');
        for (size_t i = 0; i < raw.len; i++) {
            must(raw.at[i] != '\r' || (i + 2 < raw.len && raw.at[i + 1] == '\n'));
            must(raw.at[i] != '\n' || (i && raw.at[i - 1] == '\r' && (raw.at[i + 1] == ' ' || raw.at[i + 1] == '\t')));
        }
        struct str out = milter_value_out(raw, leadspc, arena);
        must(!memchr(out.len ? out.at : "", '\r', out.len));
        fuzz_same(milter_value_in(out, leadspc, arena), raw);
    }
}

static void packet_trip(const struct milter_reader *r, struct str packet, const struct milter_packet *p,
                        struct arena *arena)
{
    struct pipe one = {0}, other = {0};
    struct milter_packet q;
    size_t whole;
    enum milter_fault fault;
    is_within(p->name, packet, true);
    is_within(p->value, packet, true);
    is_within(p->rest, packet, false);
    size_t n = milter_size(p, r->side);
    must(n || packet.len > MILTER_DATA_MOST);
    if (n) {
        char *octets = malloc(n); /* of its very size, so that a write beyond is seen */
        milter_write(p, r->side, octets);
        struct milter_reader again = {r->side, MILTER_DATA_MOST, MILTER_DATA_MOST};
        must(milter_parse(&again, (struct str){octets, n}, &q, &whole, &fault) == MILTER_PACKET && whole == n);
        put_packet(&one, p);
        put_packet(&other, &q);
        fuzz_same(pipe_flat(&one, one.octets, arena), pipe_flat(&other, other.octets, arena));
        free(octets);
    }
    if (p->kind == 'y')
        reply_trip(p->value, arena);
    if (p->kind == 'h' || p->kind == 'L' || p->kind == 'i' || p->kind == 'm')
        value_trip(p->value, arena);
    pipe_clear(&one);
    pipe_clear(&other);
}

/* Each packet; of the first one what each shorter piece gives, too. */
static void walk(const struct milter_reader *r, struct str input, struct arena *arena)
{
    struct milter_packet p;
    size_t whole;
    enum milter_fault fault, early;
    for (bool first = true;; first = false) {
        enum milter_took took = milter_parse(r, input, &p, &whole, &fault);
        for (size_t n = 0; first && n < min_size(input.len, whole); n++) {
            size_t least;
            struct milter_packet q;
            enum milter_took piece = milter_parse(r, str_part(input, 0, n), &q, &least, &early);
            must(piece == MILTER_MORE ? least > n : piece == MILTER_BROKEN && took == piece && early == fault);
        }
        must(milter_fault_print(fault, &p, whole, arena).len);
        if (took != MILTER_PACKET)
            return;
        packet_trip(r, str_part(input, 0, whole), &p, arena);
        input = str_part(input, whole, input.len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n);
    struct milter_reader reader = reader_of(fuzz_octet(&input));
    uint8_t seed = fuzz_octet(&input);
    const struct split_stage stage = {sizeof(struct taker), start, feed, stop, &reader};
    struct arena arena = {0};
    fuzz_same_however_cut(&stage, input, seed);
    walk(&reader, input, &arena);
    value_trip(str_part(input, 0, 4096), &arena);
    arena_reset(&arena);
    return 0;
}
