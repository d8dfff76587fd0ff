/* fuzz_extension.c - what EHLO answers say. Claims: what two peers can in common neither has more than either, nor
 * depends on who is named first; what we would say of it, parsed again, is the same; xtext is valid once put. */
#include "fuzz.h"
#include "wire/extension.h"

static struct str said(struct capabilities c, struct arena *arena)
{
    struct str text = capabilities_text(c, arena);
    for (size_t i = 0; i < text.len; i++)
        must(text.at[i] == '\n' || (text.at[i] >= ' ' && text.at[i] < 127));
    return text;
}

static void again(struct capabilities c, struct arena *arena)
{
    struct capabilities back;
    struct str text = said(c, arena);
    must(strlen(c.auth) < sizeof c.auth && strlen(c.priority) < sizeof c.priority);
    capabilities_parse(arena_print(arena, "x\n%s", text.at), &back);
    fuzz_same(said(back, arena), text);
    fuzz_same(said(capabilities_common(c, c), arena), text);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str rest = fuzz_input(octets, n), first = str_cut(&rest, 0);
    struct arena arena = {0};
    struct capabilities a, b;
    struct pipe out = {0};
    capabilities_parse(first, &a);
    capabilities_parse(rest, &b);
    again(a, &arena);
    again(b, &arena);
    struct capabilities both = capabilities_common(a, b);
    must(!(both.has & ~(a.has & b.has)) && !(both.xclient & ~(a.xclient & b.xclient)));
    again(both, &arena);
    fuzz_same(said(both, &arena), said(capabilities_common(b, a), &arena));
    xtext_put(first, &out);
    must(xtext_is_valid(pipe_flat(&out, out.octets, &arena)));
    xtext_is_valid(first);
    date_is_valid(first);
    pipe_clear(&out);
    arena_reset(&arena);
    return 0;
}
