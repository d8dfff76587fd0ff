/* xattr.c - parses the attributes of XCLIENT and XFORWARD. Decoded values have at most 255 octets, as in Postfix; control octets are refused,
 * since the values are used in facts, log lines and commands to the backend. */
#include "wire/xattr.h"
#include "wire/command.h"
#include "wire/ip.h"
#include <arpa/inet.h>

enum { VALUE_MOST = 255 };

typedef bool value_reader(struct xattrs *, struct str value, struct arena *);

static bool read_name(struct xattrs *x, struct str v, struct arena *arena)
{
    x->name = v;
    return helo_is_valid(v);
}

static bool read_reverse_name(struct xattrs *x, struct str v, struct arena *arena)
{
    x->reverse_name = v;
    return helo_is_valid(v);
}

/* "192.0.2.1", "IPV6:2001:db8::1"; the prefix in any case, and plain IPv6 too, which some proxies send. */
static bool read_ip(struct str v, struct arena *arena, struct str *ip)
{
    char octets[16];
    bool prefixed = str_starts_nocase(v, STR("IPV6:"));
    struct str plain = arena_str(arena, prefixed ? str_part(v, 5, v.len) : v);
    int family = inet_pton(AF_INET, plain.at, octets) == 1 && !prefixed ? AF_INET
                 : inet_pton(AF_INET6, plain.at, octets) == 1           ? AF_INET6
                                                                        : 0;
    if (!family)
        return false;
    *ip = ip_text(family, octets, arena);
    return true;
}

static bool read_addr(struct xattrs *x, struct str v, struct arena *arena)
{
    return read_ip(v, arena, &x->ip);
}

static bool read_destaddr(struct xattrs *x, struct str v, struct arena *arena)
{
    return read_ip(v, arena, &x->target_ip);
}

static bool read_number(struct str v, uint16_t *port)
{
    uint64_t n;
    if (!str_number(v, &n) || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool read_port(struct xattrs *x, struct str v, struct arena *arena)
{
    return read_number(v, &x->port);
}

static bool read_destport(struct xattrs *x, struct str v, struct arena *arena)
{
    return read_number(v, &x->target_port);
}

static bool read_proto(struct xattrs *x, struct str v, struct arena *arena)
{
    x->esmtp = str_equal_nocase(v, STR("ESMTP"));
    return x->esmtp || str_equal_nocase(v, STR("SMTP"));
}

static bool read_helo(struct xattrs *x, struct str v, struct arena *arena)
{
    x->helo = v;
    return helo_is_valid(v);
}

static bool read_login(struct xattrs *x, struct str v, struct arena *arena)
{
    x->login = v;
    return true;
}

static bool read_source(struct xattrs *x, struct str v, struct arena *arena)
{
    x->local = str_equal_nocase(v, STR("LOCAL"));
    return x->local || str_equal_nocase(v, STR("REMOTE"));
}

static bool read_ident(struct xattrs *x, struct str v, struct arena *arena)
{
    x->ident = v;
    return true;
}

static const struct known_xattr {
    const char *name;
    uint32_t bit;
    value_reader *read;
} known[] = {
    {"NAME", XATTR_NAME, read_name},       {"REVERSE_NAME", XATTR_REVERSE_NAME, read_reverse_name},
    {"ADDR", XATTR_ADDR, read_addr},       {"PORT", XATTR_PORT, read_port},
    {"PROTO", XATTR_PROTO, read_proto},    {"HELO", XATTR_HELO, read_helo},
    {"LOGIN", XATTR_LOGIN, read_login},    {"DESTADDR", XATTR_DESTADDR, read_destaddr},
    {"SOURCE", XATTR_SOURCE, read_source}, {"DESTPORT", XATTR_DESTPORT, read_destport},
    {"IDENT", XATTR_IDENT, read_ident},
};

/* xtext, but lenient as Postfix is: "=" may stand for itself. STR_NONE: malformed, too long, or with control octets in
 * it. */
static struct str decode(struct str v, struct arena *arena)
{
    char *to = arena_space(arena, v.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        int octet = (unsigned char)v.at[i];
        if (octet == '+') {
            int high = i + 2 < v.len ? char_hex(v.at[i + 1]) : -1, low = high < 0 ? -1 : char_hex(v.at[i + 2]);
            if (low < 0)
                return STR_NONE;
            octet = high << 4 | low;
            i += 2;
        }
        if (octet < ' ' || octet == 127)
            return STR_NONE;
        to[n++] = (char)octet;
    }
    to[n] = 0;
    return n <= VALUE_MOST ? (struct str){to, n} : STR_NONE;
}

static bool take(struct xattrs *x, const struct known_xattr *k, struct str raw, struct arena *arena)
{
    struct str v = decode(raw, arena);
    bool temporary = v.at && str_equal_nocase(v, STR("[TEMPUNAVAIL]"));
    x->given |= k->bit;
    if (!v.at)
        return false;
    if (temporary || str_equal_nocase(v, STR("[UNAVAILABLE]"))) {
        x->name_temporary |= temporary && k->bit == XATTR_NAME;
        return true;
    }
    x->known |= k->bit;
    return v.len && k->read(x, v, arena);
}

int xattrs_parse(struct str s, uint32_t allowed, struct arena *arena, struct xattrs *x, struct str *word)
{
    const struct str none = STR("");
    *x = (struct xattrs){
        .name = none, .reverse_name = none, .ip = none, .helo = none, .login = none, .target_ip = none, .ident = none};
    for (struct str one = str_word(&s); one.at; one = str_word(&s)) {
        struct str value = one, name = str_cut(&value, '=');
        const struct known_xattr *k = known;
        while (k < known + countof(known) && !(str_equal_nocase(name, str_of(k->name)) && (k->bit & allowed)))
            k++;
        *word = arena_str(arena, str_part(name, 0, 64));
        if (k == known + countof(known) || !value.at || (x->given & k->bit) || !take(x, k, value, arena))
            return REPLY_PARAM_BAD;
    }
    *word = STR("list");
    return x->given ? 0 : REPLY_PARAM_BAD;
}

struct str xattrs_text(uint32_t bits, struct arena *arena)
{
    struct str text = STR("");
    for (size_t i = 0; i < countof(known); i++)
        if (known[i].bit & bits)
            text = arena_print(arena, "%.*s %s", STR_ARGS(text), known[i].name);
    return text;
}
