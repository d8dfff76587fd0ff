/* identity.c - the client's identity as attributes and as a PROXY header. The one place that reads it off the session.
 *
 * Values are xtext (RFC 3461 4), each at most 255 octets before that; names come from rdns.c and are host names or one of
 * its bracketed words. */
#include "smtp/back/identity.h"
#include "smtp/front/proxied.h"
#include "wire/preface.h"

enum { LINE_MOST = 512 }; /* CRLF included: what both READMEs promise to take */

static const struct attribute {
    uint32_t bit;
    const char *name;
    bool last; /* of two XCLIENT lines: in the second */
} attributes[] = {
    {XATTR_NAME, "NAME", false},         {XATTR_REVERSE_NAME, "REVERSE_NAME", false}, /* behind NAME, which sets it too */
    {XATTR_ADDR, "ADDR", true},          {XATTR_PORT, "PORT", false},
    {XATTR_PROTO, "PROTO", true},        {XATTR_HELO, "HELO", true},
    {XATTR_LOGIN, "LOGIN", true},
    {XATTR_DESTADDR, "DESTADDR", false}, {XATTR_DESTPORT, "DESTPORT", false},
    {XATTR_IDENT, "IDENT", false},       {XATTR_SOURCE, "SOURCE", false},
};

static struct str in_xtext(struct str s, struct arena *arena)
{
    struct pipe p = {0};
    xtext_put(s, &p);
    struct str text = arena_str(arena, pipe_flat(&p, p.octets, arena));
    pipe_clear(&p);
    return text;
}

static struct str ip_value(struct str ip, struct arena *arena)
{
    if (!ip.len)
        return STR_NONE;
    return arena_print(arena, "%s%.*s", memchr(ip.at, ':', ip.len) ? "IPV6:" : "", STR_ARGS(ip));
}

static struct str port_value(uint16_t port, struct arena *arena)
{
    return port ? arena_print(arena, "%u", port) : STR_NONE;
}

/* STR_NONE: not known. */
static struct str value_of(const struct session *s, uint32_t bit, struct arena *arena)
{
    switch (bit) {
    case XATTR_NAME: return str_of(rdns_xclient(&s->visit.client->rdns));
    case XATTR_REVERSE_NAME: return str_of(rdns_xclient_reverse(&s->visit.client->rdns));
    case XATTR_ADDR: return ip_value(s->visit.client->ip, arena);
    case XATTR_PORT: return port_value(s->visit.client->port, arena);
    case XATTR_PROTO: return str_of(claim_protocol(s));
    case XATTR_HELO: return s->visit.client->helo[0] ? in_xtext(str_of(s->visit.client->helo), arena) : STR_NONE;
    case XATTR_DESTADDR: return ip_value(s->visit.client->local_ip, arena);
    case XATTR_DESTPORT: return port_value(s->visit.client->local_port, arena);
    case XATTR_LOGIN: return session_is_authenticated(s) ? in_xtext(str_of(s->visit.client->user), arena) : STR_NONE;
    case XATTR_IDENT:
        if (claim_ident(s).len)
            return in_xtext(claim_ident(s), arena);
        return arena_print(arena, "%s.%u", s->visit.id, s->tx ? s->tx->message.number : 0);
    case XATTR_SOURCE: {
        bool local = claim_is_local(s) || (!s->visit.client->ip.len && s->over_unix);
        return local ? STR("LOCAL") : STR("REMOTE");
    }
    default: return STR_NONE;
    }
}

bool identity_put_xclient(const struct session *s, uint32_t can, unsigned part, struct pipe *out)
{
    struct arena arena = {0};
    struct str values[countof(attributes)];
    size_t both = sizeof "XCLIENT\r\n" - 1;
    bool early = false;
    for (size_t i = 0; i < countof(attributes); i++) {
        const struct attribute *a = &attributes[i];
        values[i] = can & a->bit ? value_of(s, a->bit, &arena) : STR_NONE;
        if (!values[i].at && (can & a->bit) == XATTR_ADDR) /* a client without one must not be taken for us */
            values[i] = STR("[UNAVAILABLE]");
        both += values[i].at ? strlen(a->name) + 2 + values[i].len : 0;
        early |= values[i].at && !a->last;
    }
    bool two = both > LINE_MOST && early;
    pipe_put(out, STR("XCLIENT"));
    for (size_t i = 0; i < countof(attributes); i++)
        if (values[i].at && (!two || attributes[i].last == part))
            pipe_print(out, " %s=%.*s", attributes[i].name, STR_ARGS(values[i]));
    pipe_put(out, STR("\r\n"));
    arena_reset(&arena);
    return two && part == 0;
}

bool identity_put_xforward(const struct session *s, uint32_t can, uint32_t *said, struct pipe *out)
{
    struct arena arena = {0};
    size_t length = sizeof "XFORWARD\r\n" - 1;
    bool any = false;
    for (size_t i = 0; i < countof(attributes); i++) {
        const struct attribute *a = &attributes[i];
        if (!(can & ~*said & a->bit))
            continue;
        struct str value = value_of(s, a->bit, &arena);
        if (!value.at || value.at[0] == '[') /* [TEMPUNAVAIL] is XCLIENT's own */
            value = STR("[UNAVAILABLE]");
        size_t more = 1 + strlen(a->name) + 1 + value.len;
        if (any && length + more > LINE_MOST)
            break;
        pipe_print(out, "%s %s=%.*s", any ? "" : "XFORWARD", a->name, STR_ARGS(value));
        length += more;
        any = true;
        *said |= a->bit;
    }
    if (any)
        pipe_put(out, STR("\r\n"));
    arena_reset(&arena);
    return any;
}

void identity_put_preface(const struct session *s, bool v1, struct pipe *out)
{
    struct arena arena = {0};
    struct preface p = {.local = !s || !s->visit.client->ip.len};
    if (!p.local) {
        struct str local = s->visit.client->local_ip;
        bool v6 = memchr(s->visit.client->ip.at, ':', s->visit.client->ip.len), same = local.len && v6 == (memchr(local.at, ':', local.len) != NULL);
        p.source = s->visit.client->ip;
        p.source_port = s->visit.client->port;
        p.target = same ? local : STR("");
        p.target_port = s->visit.client->local_port;
        p.tls = s->visit.client->tls.version;
        p.verified = s->visit.client->tls.verified;
        p.tls_subject = s->visit.client->tls.common_name;
        p.tls_version = str_of(s->visit.client->tls.version);
        p.tls_cipher = str_of(s->visit.client->tls.cipher);
        p.authority = s->visit.client->tls.sni;
    }
    if (v1)
        preface_put_v1(&p, out);
    else
        preface_put_v2(&p, out);
    arena_reset(&arena);
}
