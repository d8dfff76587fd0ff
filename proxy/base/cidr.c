/* cidr.c - IP addresses and networks, of either version (RFC 4632, RFC 4291 2.2, 2.3). */
#include "base/cidr.h"
#include <arpa/inet.h>

bool cidr_of_ip(struct str s, struct cidr *ip)
{
    char text[64];
    if (s.len > 2 && s.at[0] == '[' && s.at[s.len - 1] == ']')
        s = str_part(s, 1, s.len - 1);
    if (s.len == 0 || s.len >= sizeof text)
        return false;
    memcpy(text, s.at, s.len);
    text[s.len] = 0;
    *ip = (struct cidr){.bits = 32};
    if (inet_pton(AF_INET, text, ip->octets) == 1)
        return true;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint8_t six[16];
    if (inet_pton(AF_INET6, text, six) != 1)
        return false;
    if (memcmp(six, mapped, sizeof mapped) == 0) { /* one and the same client */
        memcpy(ip->octets, six + 12, 4);
        return true;
    }
    *ip = (struct cidr){.bits = 128, .v6 = true};
    memcpy(ip->octets, six, 16);
    return true;
}

void cidr_mask(struct cidr *c, unsigned bits)
{
    unsigned whole = bits / 8, total = c->v6 ? 16 : 4;
    if (whole < total) {
        c->octets[whole] &= (uint8_t)(0xff00 >> (bits % 8));
        memset(c->octets + whole + 1, 0, total - whole - 1);
    }
    c->bits = (uint8_t)bits;
}

bool cidr_parse(struct str s, struct cidr *c, const char **why)
{
    static _Thread_local char text[160];
    struct str rest = s, ip = str_cut(&rest, '/');
    *why = "expected an address like \"192.0.2.1\" or a network like \"192.0.2.0/24\"";
    if (!cidr_of_ip(ip, c))
        return false;
    if (!rest.at)
        return true;
    uint64_t bits;
    bool mapped = !c->v6 && memchr(ip.at, ':', ip.len); /* ::ffff:192.0.2.0/120 */
    if (!str_number(rest, &bits) || bits > (mapped || c->v6 ? 128u : 32u) || (mapped && bits < 96)) {
        *why = c->v6 ? "the prefix length must be 0 to 128" : "the prefix length must be 0 to 32";
        return false;
    }
    struct cidr net = *c;
    cidr_mask(&net, (unsigned)(mapped ? bits - 96 : bits));
    if (memcmp(net.octets, c->octets, sizeof net.octets)) {
        char right[64];
        inet_ntop(c->v6 ? AF_INET6 : AF_INET, net.octets, right, sizeof right);
        snprintf(text, sizeof text, "there are bits set behind the prefix length; did you mean \"%s/%u\"?", right,
                 net.bits);
        *why = text;
        return false;
    }
    *c = net;
    return true;
}

bool cidr_has(const struct cidr *c, struct str ip)
{
    struct cidr at;
    if (!cidr_of_ip(ip, &at) || at.v6 != c->v6)
        return false;
    cidr_mask(&at, c->bits);
    return memcmp(at.octets, c->octets, 16) == 0;
}

struct str cidr_network(struct str ip, unsigned v4bits, unsigned v6bits, struct arena *arena)
{
    struct cidr c;
    char text[64];
    if (!cidr_of_ip(ip, &c))
        return STR_NONE;
    unsigned bits = c.v6 ? v6bits : v4bits, most = c.v6 ? 128 : 32;
    cidr_mask(&c, bits < most ? bits : most);
    inet_ntop(c.v6 ? AF_INET6 : AF_INET, c.octets, text, sizeof text);
    return arena_print(arena, "%s/%u", text, c.bits);
}
