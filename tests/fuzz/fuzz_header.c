/* fuzz_header.c - the header section. Claims: the same fields and the same end are found however the input is cut;
 * fields that nobody edited leave as the very octets that came; after any edits, what is sent is read again as the same
 * fields with the same values before the same body: whatever a filter wrote, no second field and no end of the section
 * came of it. */
#include "fuzz.h"
#include "wire/header.h"

struct taker {
    struct arena arena;
    struct headers h;
    enum headers_took took;
    size_t most;
};

static void start(void *stage, const void *how)
{
    struct taker *t = stage;
    t->most = *(const size_t *)how;
    headers_start(&t->h, &t->arena);
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    if (t->took == HEADERS_MORE)
        t->took = headers_step(&t->h, in, t->most);
    if (!last)
        return;
    must(t->took != HEADERS_MORE);
    pipe_print(out, "%d|", t->took);
    if (t->took != HEADERS_DONE)
        return;
    struct headers_sender s = {0};
    for (struct field *f = headers_next(&t->h, NULL, STR_NONE); f; f = headers_next(&t->h, f, STR_NONE)) {
        pipe_put(out, f->name);
        pipe_put(out, STR("="));
        pipe_put(out, f->value);
        pipe_put(out, STR(";"));
    }
    pipe_print(out, "%u %d %d %zu|", t->h.count, t->h.separator, t->h.body, t->h.octets);
    while (!headers_send(&t->h, &s, out)) {
    }
    pipe_move(in, out, in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

/* The names and values of all fields, and what is behind them. */
static struct str listed(const struct headers *h, struct arena *arena)
{
    struct pipe out = {0};
    for (struct field *f = headers_next(h, NULL, STR_NONE); f; f = headers_next(h, f, STR_NONE)) {
        pipe_put(&out, f->name);
        pipe_put(&out, STR(":"));
        pipe_put(&out, f->value);
        pipe_put(&out, STR("\n\n"));
    }
    struct str flat = pipe_flat(&out, out.octets, arena), text = arena_str(arena, flat.len ? flat : STR(""));
    pipe_clear(&out);
    return text;
}

static void edit(struct headers *h, struct str edits)
{
    while (edits.len) {
        uint8_t what = fuzz_octet(&edits), which = fuzz_octet(&edits);
        struct str value = str_part(edits, 0, what >> 3), name = str_cut(&value, ':');
        edits = str_part(edits, what >> 3, edits.len);
        struct field *f = headers_field(h, which & 15);
        if (!value.at)
            value = STR("");
        if ((what & 7) < 3)
            headers_add(h, what & 1 ? f : NULL, what & 2, name, value);
        else if (f && (what & 7) < 5)
            headers_set(h, f, value);
        else if (f && (what & 7) == 5)
            headers_rename(h, f, name);
        else if (f)
            headers_remove(h, f);
    }
}

static void check_edits(struct str edits, struct str content)
{
    struct arena arena = {0};
    struct pipe in = {.ended = true}, sent = {.ended = true};
    struct headers h, g;
    struct headers_sender s = {0};
    pipe_constant(&in, content);
    headers_start(&h, &arena);
    must(headers_step(&h, &in, SIZE_MAX) == HEADERS_DONE);
    edit(&h, edits);
    while (!headers_send(&h, &s, &sent)) {
    }
    struct str flat = pipe_flat(&sent, sent.octets, &arena);
    struct str text = arena_str(&arena, flat.len ? flat : STR(""));
    if (!h.changed)
        must(str_equal(text, str_part(content, 0, content.len - in.octets)));
    struct str body = pipe_flat(&in, in.octets, &arena);
    body = arena_str(&arena, body.len ? body : STR(""));
    pipe_put(&sent, body);
    headers_start(&g, &arena);
    must(headers_step(&g, &sent, SIZE_MAX) == HEADERS_DONE);
    fuzz_same(listed(&g, &arena), listed(&h, &arena));
    must(sent.octets == body.len && g.count == h.count);
    for (struct field *f = headers_next(&h, NULL, STR_NONE); f; f = headers_next(&h, f, STR_NONE))
        header_unfold(f->value, &arena);
    pipe_clear(&in);
    pipe_clear(&sent);
    arena_reset(&arena);
}

/* The input: a flag, a seed, then edits up to the first "\nA" (without it: none), the content. */
int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n), edits = STR("");
    uint8_t flags = fuzz_octet(&input), seed = fuzz_octet(&input);
    size_t most = flags & 1 ? 16 + flags / 4 : 1 << 20;
    if (flags & 2) {
        size_t end = min_size(str_find(input, STR("\nA")) + 1, input.len);
        edits = str_part(input, 0, end);
        input = str_part(input, end, input.len);
    }
    struct split_stage stage = {sizeof(struct taker), start, feed, stop, &most};
    fuzz_same_however_cut(&stage, input, seed);
    check_edits(edits, input);
    return 0;
}
