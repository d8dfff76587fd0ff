/* idn.c - domains to one spelling, by libidn2. */
#include "base/idn.h"
#include "base/cidr.h"
#include <arpa/inet.h>
#include <idn2.h>

static struct str lower(struct str s, char room[IDN_ROOM])
{
    size_t n = min_size(s.len, IDN_ROOM);
    for (size_t i = 0; i < n; i++)
        room[i] = char_lower(s.at[i]);
    return (struct str){room, n};
}

/* Non-transitional as browsers and Postfix do (UTS 46 4); a name that fails so for its joiners is tried without them, for an MTA behind us
 * may do that. NULL: it is no name. */
static uint8_t *to_ascii(const char *domain)
{
    uint8_t *ascii = NULL;
    if (idn2_lookup_u8((const uint8_t *)domain, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK ||
        idn2_lookup_u8((const uint8_t *)domain, &ascii, IDN2_NFC_INPUT | IDN2_TRANSITIONAL) == IDN2_OK)
        return ascii;
    return NULL;
}

/* "[IPv6:...]" of RFC 5321 4.1.3. False: it is none. */
static bool put_literal(struct str domain, char room[IDN_ROOM])
{
    struct cidr ip;
    char text[INET6_ADDRSTRLEN];
    if (!str_starts_nocase(domain, STR("[IPv6:")) || domain.at[domain.len - 1] != ']' ||
        !cidr_of_ip(str_part(domain, 6, domain.len - 1), &ip))
        return false;
    inet_ntop(ip.v6 ? AF_INET6 : AF_INET, ip.octets, text, sizeof text);
    snprintf(room, IDN_ROOM, ip.v6 ? "[ipv6:%s]" : "[%s]", text);
    return true;
}

struct str idn_fold(struct str domain, char room[IDN_ROOM])
{
    char text[IDN_ROOM];
    if (put_literal(domain, room))
        return str_of(room);
    size_t dot = domain.len && domain.at[0] == '.';
    if (str_is_ascii(domain) || domain.len >= sizeof text || memchr(domain.at, 0, domain.len))
        return lower(domain, room);
    memcpy(text, domain.at + dot, domain.len - dot);
    text[domain.len - dot] = 0;
    uint8_t *ascii = to_ascii(text);
    if (!ascii)
        return lower(domain, room);
    int n = snprintf(room, IDN_ROOM, "%s%s", dot ? "." : "", (const char *)ascii);
    idn2_free(ascii);
    return (struct str){room, min_size((size_t)n, IDN_ROOM - 1)};
}

struct str idn_fold_address(struct str address, char room[IDN_ROOM])
{
    char domain_room[IDN_ROOM];
    size_t at = address.len;
    bool plain = address.len <= IDN_ROOM; /* no U-label, no address literal: most are */
    for (size_t i = 0; i < address.len && plain; i++) {
        plain = (unsigned char)address.at[i] < 128 && address.at[i] != '[';
        room[i] = char_lower(address.at[i]);
    }
    if (plain)
        return (struct str){room, address.len};
    while (at > 0 && address.at[at - 1] != '@')
        at--;
    struct str local = lower(str_part(address, 0, at), room), domain = idn_fold(str_part(address, at, address.len), domain_room);
    size_t n = min_size(domain.len, IDN_ROOM - local.len);
    memcpy(room + local.len, domain.at, n);
    return (struct str){room, local.len + n};
}
