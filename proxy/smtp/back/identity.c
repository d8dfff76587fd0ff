/* identity.c - the client's identity as attributes and as a PROXY header. The one place that reads it off the visit.
 *
 * Values are xtext (RFC 3461 4), each at most 255 octets before that; names come from rdns.c and are host names or one of
 * its bracketed words. */
#include "smtp/back/identity.h"
#include "mail/visit.h"
#include "wire/preface.h"
#include "wire/xattr.h"

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

static struct str protocol_of(const struct visit *v)
{
    bool esmtp = v->client->protocol == PROTOCOL_OF_VISIT ? v->esmtp : v->client->protocol == PROTOCOL_ESMTP;
    return esmtp ? STR("ESMTP") : STR("SMTP");
}

/* STR_NONE: not known. */
static struct str value_of(const struct visit *v, uint32_t bit, struct arena *arena)
{
    switch (bit) {
    case XATTR_NAME: return str_of(rdns_xclient(&v->client->rdns));
    case XATTR_REVERSE_NAME: return str_of(rdns_xclient_reverse(&v->client->rdns));
    case XATTR_ADDR: return ip_value(v->client->ip, arena);
    case XATTR_PORT: return port_value(v->client->port, arena);
    case XATTR_PROTO: return protocol_of(v);
    case XATTR_HELO: return v->client->helo[0] ? in_xtext(str_of(v->client->helo), arena) : STR_NONE;
    case XATTR_DESTADDR: return ip_value(v->client->local_ip, arena);
    case XATTR_DESTPORT: return port_value(v->client->local_port, arena);
    case XATTR_LOGIN: return v->client->authenticated ? in_xtext(str_of(v->client->user), arena) : STR_NONE;
    case XATTR_IDENT:
        if (v->client->ident[0])
            return in_xtext(str_of(v->client->ident), arena);
        return arena_print(arena, "%s.%u", v->id, v->message ? v->message->number : 0);
    case XATTR_SOURCE: return v->client->local || (!v->client->ip.len && v->client->over_unix) ? STR("LOCAL") : STR("REMOTE");
    default: return STR_NONE;
    }
}

bool identity_put_xclient(const struct visit *v, uint32_t can, unsigned part, struct pipe *out)
{
    struct arena arena = {0};
    struct str values[countof(attributes)];
    size_t both = sizeof "XCLIENT\r\n" - 1;
    bool early = false;
    for (size_t i = 0; i < countof(attributes); i++) {
        const struct attribute *a = &attributes[i];
        values[i] = can & a->bit ? value_of(v, a->bit, &arena) : STR_NONE;
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

bool identity_put_xforward(const struct visit *v, uint32_t can, uint32_t *said, struct pipe *out)
{
    struct arena arena = {0};
    size_t length = sizeof "XFORWARD\r\n" - 1;
    bool any = false;
    for (size_t i = 0; i < countof(attributes); i++) {
        const struct attribute *a = &attributes[i];
        if (!(can & ~*said & a->bit))
            continue;
        struct str value = value_of(v, a->bit, &arena);
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

void identity_put_preface(const struct visit *v, bool v1, struct pipe *out)
{
    struct arena arena = {0};
    struct preface p = {.local = !v || !v->client->ip.len};
    if (!p.local) {
        struct str local = v->client->local_ip;
        bool v6 = memchr(v->client->ip.at, ':', v->client->ip.len), same = local.len && v6 == (memchr(local.at, ':', local.len) != NULL);
        p.source = v->client->ip;
        p.source_port = v->client->port;
        p.target = same ? local : STR("");
        p.target_port = v->client->local_port;
        p.tls = v->client->tls.version;
        p.verified = v->client->tls.verified;
        p.tls_subject = v->client->tls.common_name;
        p.tls_version = str_of(v->client->tls.version);
        p.tls_cipher = str_of(v->client->tls.cipher);
        p.authority = v->client->tls.sni;
    }
    if (v1)
        preface_put_v1(&p, out);
    else
        preface_put_v2(&p, out);
    arena_reset(&arena);
}
