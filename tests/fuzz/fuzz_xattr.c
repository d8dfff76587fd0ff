/* fuzz_xattr.c - what XCLIENT and XFORWARD say. Claims: only what was allowed is given, only what was given is known;
 * texts have no control octets and at most 255 of others; what was understood, written in xtext and parsed again, is
 * the same. */
#include "fuzz.h"
#include "wire/xattr.h"

static void put(struct pipe *out, const struct xattrs *x, uint32_t bit, const char *name, struct str value)
{
    if (!(x->known & bit)) {
        must(!value.len);
        return;
    }
    must(value.len && value.len <= 255);
    for (size_t i = 0; i < value.len; i++)
        must((unsigned char)value.at[i] >= ' ' && value.at[i] != 127);
    pipe_print(out, " %s=", name);
    xtext_put(value, out);
}

static struct str printed(const struct xattrs *x, struct pipe *out, struct arena *arena)
{
    char room[DECIMAL_ROOM], more[DECIMAL_ROOM];
    const struct str none = STR("");
    put(out, x, XATTR_NAME, "NAME", x->name);
    put(out, x, XATTR_REVERSE_NAME, "REVERSE_NAME", x->reverse_name);
    put(out, x, XATTR_ADDR, "ADDR", x->ip);
    put(out, x, XATTR_HELO, "HELO", x->helo);
    put(out, x, XATTR_LOGIN, "LOGIN", x->login);
    put(out, x, XATTR_DESTADDR, "DESTADDR", x->target_ip);
    put(out, x, XATTR_IDENT, "IDENT", x->ident);
    put(out, x, XATTR_PORT, "PORT", x->known & XATTR_PORT ? str_decimal(room, x->port) : none);
    put(out, x, XATTR_DESTPORT, "DESTPORT", x->known & XATTR_DESTPORT ? str_decimal(more, x->target_port) : none);
    if (x->known & XATTR_PROTO)
        put(out, x, XATTR_PROTO, "PROTO", x->esmtp ? STR("ESMTP") : STR("SMTP"));
    if (x->known & XATTR_SOURCE)
        put(out, x, XATTR_SOURCE, "SOURCE", x->local ? STR("LOCAL") : STR("REMOTE"));
    return pipe_flat(out, out->octets, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n), word = STR_NONE;
    struct arena arena = {0};
    struct pipe once = {0}, twice = {0};
    struct xattrs x, y;
    uint32_t allowed = fuzz_octet(&input);
    allowed |= (uint32_t)fuzz_octet(&input) << 8;
    int reply = xattrs_parse(input, allowed, &arena, &x, &word);
    must((reply == 0 || reply == REPLY_PARAM_BAD) && word.at);
    if (!reply) {
        size_t words = 0;
        for (struct str rest = input; str_word(&rest).at;)
            words++;
        must((size_t)__builtin_popcount(x.given) == words); /* nothing twice, nothing passed over */
        must(x.given && !(x.given & ~allowed) && !(x.known & ~x.given));
        struct str text = printed(&x, &once, &arena);
        if (x.known) {
            must(xattrs_parse(text, x.known, &arena, &y, &word) == 0 && y.known == x.known);
            fuzz_same(printed(&y, &twice, &arena), text);
        }
    }
    pipe_clear(&once);
    pipe_clear(&twice);
    arena_reset(&arena);
    return 0;
}
