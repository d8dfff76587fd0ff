/* fuzz_path.c - paths of MAIL and RCPT, and addresses of filters. Claims: what was parsed, also by the lenient
 * reader, and printed parses again to the same, strictly where it has a domain; what is printed has no control octets,
 * and no octet behind its end; domains are lower case. */
#include "fuzz.h"
#include "wire/path.h"

static void check(const struct path *p, enum path_kind kind, struct arena *arena)
{
    struct path again;
    struct pipe out = {0};
    struct str text = path_print(p, arena), rest = text;
    must(p->raw.at && p->address.at && p->local.at && p->domain.at);
    must(p->local.len <= PATH_LOCAL_MOST && p->domain.len <= PATH_DOMAIN_MOST && p->null == !p->local.len);
    must(!p->local.at[p->local.len] && !p->domain.at[p->domain.len] && !p->address.at[p->address.len]);
    for (size_t i = 0; i < text.len; i++)
        must((unsigned char)text.at[i] >= ' ' && text.at[i] != 127);
    for (size_t i = 0; i < p->domain.len; i++)
        must(p->domain.at[i] == char_lower(p->domain.at[i]));
    /* A name without a domain has no form in RFC 5321, but for Postmaster. */
    bool strict = p->null || p->domain.len || (kind == PATH_FORWARD && str_equal(p->address, STR("postmaster")));
    path_put(p, &out);
    fuzz_same(pipe_flat(&out, out.octets, arena), text);
    must(path_parse(&rest, kind, strict ? SYNTAX_STRICT : SYNTAX_LENIENT, arena, &again) == 0 && !rest.len);
    fuzz_same(again.address, p->address);
    fuzz_same(again.local, p->local);
    fuzz_same(again.domain, p->domain);
    fuzz_same(path_print(&again, arena), text);
    must(again.null == p->null && (p->utf8 || !again.utf8));
    pipe_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n);
    struct arena arena = {0};
    struct path p;
    uint8_t flags = fuzz_octet(&input);
    enum path_kind kind = flags & 1 ? PATH_FORWARD : PATH_REVERSE;
    enum syntax syntax = flags & 2 ? SYNTAX_LENIENT : SYNTAX_STRICT;
    struct str rest = input;
    if (path_parse(&rest, kind, syntax, &arena, &p) == 0) {
        must(rest.len < input.len && rest.at + rest.len == input.at + input.len);
        must(!rest.len || rest.at[0] == ' ' || (syntax == SYNTAX_LENIENT && rest.at[0] == '\t'));
        check(&p, kind, &arena);
    } else {
        must(rest.at == input.at && rest.len == input.len);
    }
    if (path_from_address(input, kind, &arena, &p) == 0)
        check(&p, kind, &arena);
    arena_reset(&arena);
    return 0;
}
