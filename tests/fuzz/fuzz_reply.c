/* fuzz_reply.c - replies of a backend, and of filters. Claims: reply_take finds the same replies, and the same end of
 * them, however its input is cut; what it took, put and taken again, is the same; a reply made of a filter's words is
 * of the class asked for, has no control octets, and survives the wire. */
#include "fuzz.h"
#include "wire/reply.h"

struct taker {
    struct arena arena;
    bool bad;
};

static void check_clean(const struct reply *r)
{
    must(r->code >= 200 && r->code <= 599);
    for (size_t i = 0; i < r->text.len; i++)
        must((unsigned char)r->text.at[i] >= ' ' || r->text.at[i] == '\t' || r->text.at[i] == '\n');
}

/* Put and taken again: as long as it fits, and no line had to be cut. */
static void round_trip(struct reply r, struct arena *arena)
{
    struct pipe wire = {0};
    size_t lines = 1, longest = 0, line = 0;
    check_clean(&r);
    for (size_t i = 0; i < r.text.len; i++) {
        line = r.text.at[i] == '\n' ? 0 : line + 1;
        lines += r.text.at[i] == '\n';
        longest = max_size(longest, line);
    }
    reply_put(&r, &wire, true);
    struct reply again;
    if (wire.octets <= REPLY_OCTETS && lines <= REPLY_LINES && longest <= 500) {
        must(reply_take(&wire, arena, &again) == REPLY_TAKEN && !wire.octets);
        must(again.code == r.code && memcmp(again.enhanced, r.enhanced, sizeof r.enhanced) == 0);
        must(str_equal(again.text, r.text));
    }
    pipe_clear(&wire);
}

/* What was taken, by a reader that only knows what a line is: all of one code, "-" behind it but on the last, and CRLF.
 */
static void check_octets(struct str taken, unsigned code)
{
    must(taken.len <= REPLY_OCTETS);
    while (taken.len) {
        size_t end = str_find(taken, STR("\r\n"));
        struct str line = str_part(taken, 0, end);
        taken = str_part(taken, end + 2, taken.len);
        must(line.len >= 3 && !memchr(line.at, '\r', line.len) && !memchr(line.at, '\n', line.len));
        must((unsigned)(line.at[0] - '0') * 100 + (unsigned)(line.at[1] - '0') * 10 + (unsigned)(line.at[2] - '0') ==
             code);
        must(taken.len ? line.at[3] == '-' : line.len == 3 || line.at[3] == ' ');
    }
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct reply r;
    enum reply_took took = REPLY_TAKEN;
    while (!t->bad && took == REPLY_TAKEN) {
        char before[REPLY_OCTETS];
        size_t there = in->octets;
        pipe_peek(in, 0, before, min_size(there, REPLY_OCTETS));
        took = reply_take(in, &t->arena, &r);
        t->bad = took == REPLY_BAD;
        if (took != REPLY_TAKEN)
            break;
        check_octets((struct str){before, there - in->octets}, r.code);
        pipe_print(out, "%u %u.%u.%u ", r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2]);
        pipe_put(out, r.text);
        pipe_put(out, STR("|"));
        round_trip(r, &t->arena);
    }
    if (!last)
        return;
    pipe_put(out, t->bad ? STR("bad ") : STR("more "));
    pipe_move(in, out, in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static const struct split_stage stage = {sizeof(struct taker), NULL, feed, stop, NULL};
    static const enum reply_name others[] = {REPLY_OK, REPLY_SENDER_SYNTAX, REPLY_PATH_TOO_LONG};
    struct str input = fuzz_input(octets, n);
    uint8_t flags = fuzz_octet(&input);
    fuzz_same_however_cut(&stage, input, flags);

    struct arena arena = {0};
    struct reply made;
    unsigned class = (unsigned[]){2, 4, 5}[flags % 3];
    if (reply_from_text(input, class, reply_named(others[flags / 4 % 3]), &arena, &made)) {
        must(reply_class(&made) == class && made.enhanced[0] == class);
        round_trip(made, &arena);
        made.enhanced[0] = 0;
        reply_complete(&made);
        must(made.enhanced[0] == class);
    }
    arena_reset(&arena);
    return 0;
}
