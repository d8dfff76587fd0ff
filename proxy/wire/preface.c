/* preface.c - the PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt, 2020/03/05, sections 2.1 and 2.2).
 *
 * A header is recognized by its first octets and taken only when it is complete, so it may come octet by octet. Unused TLVs are skipped; a
 * TLV that is longer than the header makes the header bad. */
#include "wire/preface.h"
#include "wire/ip.h"
#include <arpa/inet.h>

static const char signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { V2_HEAD = 16, TLV_HEAD = 3, SSL_HEAD = 5 };
enum { TLV_AUTHORITY = 0x02, TLV_SSL = 0x20, SUB_VERSION = 0x21, SUB_CN = 0x22, SUB_CIPHER = 0x23 };
enum { CLIENT_SSL = 1, CLIENT_CERT = 2 }; /* a certificate was shown on this connection */

static void claim_nothing(struct preface *p)
{
    const struct str none = STR("");
    *p = (struct preface){.local = true,
                          .source = none,
                          .target = none,
                          .tls_version = none,
                          .tls_cipher = none,
                          .tls_subject = none,
                          .authority = none};
}

/* ---- version 1 --------------------------------------------------------------------------------------------------- */

static bool take_ip(struct str *rest, int family, struct arena *arena, struct str *ip)
{
    struct str word = str_cut(rest, ' ');
    char octets[16];
    if (!word.len || memchr(word.at, 0, word.len) || inet_pton(family, arena_str(arena, word).at, octets) != 1)
        return false;
    *ip = ip_text(family, octets, arena);
    return true;
}

static bool take_port(struct str *rest, uint16_t *port)
{
    uint64_t n;
    struct str word = str_cut(rest, ' ');
    if (!word.at || !str_number(word, &n) || n > 65535 || (word.len > 1 && word.at[0] == '0'))
        return false;
    *port = (uint16_t)n;
    return true;
}

static enum preface_took take_v1(struct pipe *in, struct arena *arena, struct preface *p)
{
    size_t lf = pipe_find(in, 0, '\n');
    if (lf >= in->octets)
        return in->octets < PREFACE_V1_MOST ? PREFACE_MORE : PREFACE_BAD;
    char line[PREFACE_V1_MOST];
    if (lf + 1 > sizeof line)
        return PREFACE_BAD;
    pipe_peek(in, 0, line, lf + 1);
    if (lf < 1 || line[lf - 1] != '\r')
        return PREFACE_BAD;
    struct str rest = {line, lf - 1}, family;
    str_cut(&rest, ' ');
    family = str_cut(&rest, ' ');
    if (!family.at)
        return PREFACE_BAD;
    if (!str_equal(family, STR("UNKNOWN"))) { /* behind UNKNOWN, whatever stands there is to be ignored */
        int number = str_equal(family, STR("TCP4")) ? AF_INET : str_equal(family, STR("TCP6")) ? AF_INET6 : 0;
        if (!number || !take_ip(&rest, number, arena, &p->source) || !take_ip(&rest, number, arena, &p->target) ||
            !take_port(&rest, &p->source_port) || !take_port(&rest, &p->target_port) || rest.at)
            return PREFACE_BAD;
        p->local = false;
    }
    pipe_drop(in, lf + 1);
    return PREFACE_TAKEN;
}

/* ---- version 2 --------------------------------------------------------------------------------------------------- */

static unsigned number16(const char *at)
{
    return (unsigned)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

/* The next TLV of *rest, or false: there is none (*rest is empty then), or it is malformed. */
static bool next_tlv(struct str *rest, uint8_t *type, struct str *value)
{
    if (rest->len < TLV_HEAD)
        return false;
    size_t len = number16(rest->at + 1);
    if (rest->len - TLV_HEAD < len)
        return false;
    *type = (uint8_t)rest->at[0];
    *value = str_part(*rest, TLV_HEAD, TLV_HEAD + len);
    *rest = str_part(*rest, TLV_HEAD + len, rest->len);
    return true;
}

/* The text of a TLV, for facts and the log; "" unless it is printable. */
static struct str text_of(struct str value, struct arena *arena)
{
    return value.len <= 255 && !str_has_control(value) && str_is_utf8(value) ? arena_str(arena, value) : STR("");
}

static bool take_ssl(struct str value, struct arena *arena, struct preface *p)
{
    uint8_t type;
    struct str sub;
    if (value.len < SSL_HEAD)
        return false;
    p->tls = value.at[0] & CLIENT_SSL;
    bool verify_failed = value.at[1] | value.at[2] | value.at[3] | value.at[4];
    value = str_part(value, SSL_HEAD, value.len);
    while (next_tlv(&value, &type, &sub)) {
        if (type == SUB_VERSION)
            p->tls_version = text_of(sub, arena);
        else if (type == SUB_CN)
            p->tls_subject = text_of(sub, arena);
        else if (type == SUB_CIPHER)
            p->tls_cipher = text_of(sub, arena);
    }
    p->verified = p->tls && p->tls_subject.len && !verify_failed;
    return value.len == 0;
}

static bool take_tlvs(struct str rest, struct arena *arena, struct preface *p)
{
    uint8_t type;
    struct str value;
    while (next_tlv(&rest, &type, &value)) {
        if (type == TLV_SSL && !take_ssl(value, arena, p))
            return false;
        if (type == TLV_AUTHORITY)
            p->authority = text_of(value, arena);
    }
    return rest.len == 0;
}

static bool take_addresses(struct str *rest, unsigned family, struct arena *arena, struct preface *p)
{
    if (family == 1 || family == 2) {
        int number = family == 1 ? AF_INET : AF_INET6;
        size_t len = family == 1 ? 4 : 16;
        if (rest->len < 2 * len + 4)
            return false;
        p->source = ip_text(number, rest->at, arena);
        p->target = ip_text(number, rest->at + len, arena);
        p->source_port = (uint16_t)number16(rest->at + 2 * len);
        p->target_port = (uint16_t)number16(rest->at + 2 * len + 2);
        *rest = str_part(*rest, 2 * len + 4, rest->len);
        p->local = false;
    } else if (family == 3) { /* two paths of 108 octets: a local client of the proxy, without an address */
        if (rest->len < 216)
            return false;
        *rest = str_part(*rest, 216, rest->len);
        p->local = false;
    } else {
        *rest = str_part(*rest, rest->len, rest->len); /* AF_UNSPEC: "should ignore address information" */
    }
    return family <= 3;
}

static enum preface_took take_v2(struct pipe *in, struct arena *arena, struct preface *p)
{
    char head[V2_HEAD];
    if (in->octets < V2_HEAD)
        return PREFACE_MORE;
    pipe_peek(in, 0, head, V2_HEAD);
    size_t len = number16(head + 14);
    unsigned version = (unsigned char)head[12] >> 4, command = head[12] & 15, family = (unsigned char)head[13] >> 4;
    if (version != 2 || command > 1 || V2_HEAD + len > PREFACE_MOST)
        return PREFACE_BAD;
    if (in->octets < V2_HEAD + len)
        return PREFACE_MORE;
    char octets[PREFACE_MOST];
    pipe_peek(in, 0, octets, V2_HEAD + len);
    pipe_drop(in, V2_HEAD + len);
    struct str rest = {octets + V2_HEAD, len};
    if (command == 0) /* LOCAL: a health check of the proxy; what follows is to be skipped */
        return PREFACE_TAKEN;
    if (!take_addresses(&rest, family, arena, p) || !take_tlvs(rest, arena, p))
        return PREFACE_BAD;
    return PREFACE_TAKEN;
}

enum preface_took preface_take(struct pipe *in, struct arena *arena, struct preface *p)
{
    char first[sizeof signature];
    size_t n = min_size(in->octets, sizeof first);
    claim_nothing(p);
    pipe_peek(in, 0, first, n);
    if (n && memcmp(first, signature, n) == 0)
        return n == sizeof signature ? take_v2(in, arena, p) : PREFACE_MORE;
    if (memcmp(first, "PROXY ", min_size(n, 6)) == 0)
        return n >= 6 ? take_v1(in, arena, p) : PREFACE_MORE;
    return PREFACE_BAD;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

/* AF_INET, AF_INET6, or 0: an address that the header cannot express. */
static int octets_of(const struct preface *p, char source[16], char target[16])
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    if (p->local || !p->source.len || p->source.len >= sizeof from || p->target.len >= sizeof to)
        return 0;
    snprintf(from, sizeof from, "%.*s", STR_ARGS(p->source));
    snprintf(to, sizeof to, "%.*s", STR_ARGS(p->target));
    int family = strchr(from, ':') ? AF_INET6 : AF_INET;
    memset(target, 0, 16);
    if (inet_pton(family, from, source) != 1 || (p->target.len && inet_pton(family, to, target) != 1))
        return 0;
    return family;
}

void preface_put_v1(const struct preface *p, struct pipe *out)
{
    char source[16], target[16], text[INET6_ADDRSTRLEN];
    int family = octets_of(p, source, target);
    if (!family) {
        pipe_put(out, STR("PROXY UNKNOWN\r\n"));
        return;
    }
    inet_ntop(family, source, text, sizeof text);
    pipe_print(out, "PROXY %s %s", family == AF_INET ? "TCP4" : "TCP6", text);
    inet_ntop(family, target, text, sizeof text);
    pipe_print(out, " %s %u %u\r\n", text, p->source_port, p->target_port);
}

static void put16(struct pipe *out, size_t n)
{
    pipe_copy(out, (char[]){(char)(n >> 8), (char)n}, 2);
}

/* Texts longer than any name or cipher are left out. */
static void put_tlv(struct pipe *out, uint8_t type, struct str value)
{
    if (!value.len || value.len > 255)
        return;
    pipe_copy(out, &type, 1);
    put16(out, value.len);
    pipe_put(out, value);
}

static void put_ssl(const struct preface *p, struct pipe *out)
{
    struct pipe subs = {0};
    put_tlv(&subs, SUB_VERSION, p->tls_version);
    put_tlv(&subs, SUB_CIPHER, p->tls_cipher);
    put_tlv(&subs, SUB_CN, p->tls_subject);
    char head[SSL_HEAD] = {CLIENT_SSL, 0, 0, 0, p->verified ? 0 : 1};
    if (p->tls_subject.len)
        head[0] |= CLIENT_CERT;
    pipe_copy(out, (char[]){TLV_SSL}, 1);
    put16(out, SSL_HEAD + subs.octets);
    pipe_copy(out, head, SSL_HEAD);
    pipe_move(&subs, out, subs.octets);
}

void preface_put_v2(const struct preface *p, struct pipe *out)
{
    char source[16], target[16];
    int family = octets_of(p, source, target);
    pipe_copy(out, signature, sizeof signature);
    if (!family) {
        pipe_copy(out, (char[]){0x20, 0, 0, 0}, 4);
        return;
    }
    struct pipe tlvs = {0};
    size_t len = family == AF_INET ? 4 : 16;
    put_tlv(&tlvs, TLV_AUTHORITY, p->authority);
    if (p->tls)
        put_ssl(p, &tlvs);
    pipe_copy(out, (char[]){0x21, family == AF_INET ? 0x11 : 0x21}, 2);
    put16(out, 2 * len + 4 + tlvs.octets);
    pipe_copy(out, source, len);
    pipe_copy(out, target, len);
    put16(out, p->source_port);
    put16(out, p->target_port);
    pipe_move(&tlvs, out, tlvs.octets);
}
