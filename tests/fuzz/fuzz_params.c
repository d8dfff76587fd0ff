/* fuzz_params.c - parameters of MAIL and RCPT. Claims: what is accepted, also by the lenient reader, needs nothing
 * that was not offered; put to a backend that can as much and parsed again, strictly, or its text parsed again, it is
 * the same; a backend that can less is told no more than it can. */
#include "fuzz.h"
#include "wire/params.h"

typedef int parser(struct str, enum syntax, struct capabilities, struct arena *, struct params *, struct str *);

static struct str put(bool rcpt, const struct params *p, struct capabilities can, struct arena *arena)
{
    struct pipe out = {0};
    rcpt ? params_put_rcpt(p, can, &out) : params_put_mail(p, can, p->size, &out);
    struct str flat = pipe_flat(&out, out.octets, arena), text = arena_str(arena, flat.len ? flat : STR(""));
    pipe_clear(&out);
    return text;
}

static void same(const struct params *p, const struct params *q)
{
    must(p->size == q->size && p->body == q->body && p->smtputf8 == q->smtputf8 && p->requiretls == q->requiretls);
    const struct str a[] = {p->by, p->priority, p->hold, p->ret, p->envid, p->auth, p->notify, p->orcpt};
    const struct str b[] = {q->by, q->priority, q->hold, q->ret, q->envid, q->auth, q->notify, q->orcpt};
    for (size_t i = 0; i < countof(a); i++)
        fuzz_same(a[i], b[i]);
}

/* What has no strict form but the one it came in: a long ENVID or ORCPT, an underscore in the type of ORCPT. */
static enum syntax again(const struct params *p)
{
    size_t type = str_find(p->orcpt, STR(";"));
    return p->envid.len > 100 || p->orcpt.len > 500 || str_find(p->orcpt, STR("_")) < type ? SYNTAX_LENIENT : SYNTAX_STRICT;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n), word = STR_NONE;
    struct arena arena = {0};
    struct capabilities can = {0}, less = {0};
    struct params p, q;
    for (int i = 0; i < 3; i++)
        can.has |= (uint32_t)fuzz_octet(&input) << 8 * i;
    uint8_t flags = fuzz_octet(&input);
    bool rcpt = flags & 1;
    enum syntax syntax = flags & 4 ? SYNTAX_LENIENT : SYNTAX_STRICT;
    can.hold_most = flags & 2 ? 3600 : 0;
    less.has = can.has & (can.has >> (flags >> 4));
    less.hold_most = can.hold_most;
    parser *parse = rcpt ? params_parse_rcpt : params_parse_mail;
    int reply = parse(input, syntax, can, &arena, &p, &word);
    must(!reply || (word.at && word.len <= 64));
    if (!reply) {
        must(!params_need_more(&p, can) && (p.text.len <= input.len || syntax == SYNTAX_LENIENT));
        must(parse(put(rcpt, &p, can, &arena), again(&p), can, &arena, &q, &word) == 0);
        same(&p, &q);
        must(parse(p.text, again(&p), can, &arena, &q, &word) == 0);
        same(&p, &q);
        fuzz_same(p.text, q.text);
        if (!(less.has & EXT_BINARYMIME) || (less.has & EXT_8BITMIME)) /* the one is a value of the other's */
            must(parse(put(rcpt, &p, less, &arena), again(&p), less, &arena, &q, &word) == 0);
    }
    arena_reset(&arena);
    return 0;
}
