/* idn.c - the canonical form of domains, by libidn2. */
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

/* NULL: not a valid label, or the mapping leaves nothing of it (a zero width space). Non-transitional processing (UTS 46 4), as in
 * browsers and Postfix; a label that fails because of joiners is tried again without them, since the backend may remove them. */
static uint8_t *to_ascii(const char *domain)
{
    uint8_t *ascii = NULL;
    if (idn2_lookup_u8((const uint8_t *)domain, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK ||
        idn2_lookup_u8((const uint8_t *)domain, &ascii, IDN2_NFC_INPUT | IDN2_TRANSITIONAL) == IDN2_OK) {
        if (*ascii)
            return ascii;
        idn2_free(ascii);
    }
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

/* Length in octets of the full stop at the head of s, in any of the forms of UTS 46 4; 0: there is none. */
static size_t dot_length(struct str s)
{
    static const char *const dots[] = {".", "\xe3\x80\x82", "\xef\xbc\x8e", "\xef\xbd\xa1"};
    for (size_t i = 0; i < countof(dots); i++)
        if (str_starts(s, str_of(dots[i])))
            return strlen(dots[i]);
    return 0;
}

/* Each label is folded by itself, so that an invalid label does not prevent the folding of the others: "_x.bücher.example" still
 * matches the key ".bücher.example". */
static struct str fold_labels(struct str domain, char room[IDN_ROOM])
{
    char label[IDN_ROOM];
    size_t n = 0;
    while (domain.len) {
        size_t len = 0, dot;
        while (len < domain.len && !dot_length(str_part(domain, len, domain.len)))
            len++;
        memcpy(label, domain.at, len);
        label[len] = 0;
        uint8_t *ascii = str_is_ascii((struct str){label, len}) ? NULL : to_ascii(label);
        for (size_t i = 0; !ascii && i < len; i++)
            label[i] = char_lower(label[i]);
        dot = dot_length(str_part(domain, len, domain.len));
        struct str said = str_of(ascii ? (const char *)ascii : label);
        size_t take = min_size(said.len, IDN_ROOM - 1 - n);
        memcpy(room + n, said.at, take);
        n += take;
        idn2_free(ascii);
        if (dot && n < IDN_ROOM - 1)
            room[n++] = '.';
        domain = str_part(domain, len + dot, domain.len);
    }
    return (struct str){room, n};
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
        return fold_labels(domain, room);
    int n = snprintf(room, IDN_ROOM, "%s%s", dot ? "." : "", (const char *)ascii);
    idn2_free(ascii);
    return (struct str){room, min_size((size_t)n, IDN_ROOM - 1)};
}

struct str idn_fold_address(struct str address, char room[IDN_ROOM])
{
    char domain_room[IDN_ROOM];
    size_t at = address.len;
    if (str_is_ascii(address) && !(address.len && memchr(address.at, '[', address.len)))
        return lower(address, room); /* the usual case: no U-label and no address literal */
    while (at > 0 && address.at[at - 1] != '@')
        at--;
    struct str local = lower(str_part(address, 0, at), room), domain = idn_fold(str_part(address, at, address.len), domain_room);
    size_t n = min_size(domain.len, IDN_ROOM - local.len);
    memcpy(room + local.len, domain.at, n);
    return (struct str){room, local.len + n};
}
