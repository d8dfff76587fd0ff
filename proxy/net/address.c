/* address.c - converts addresses between text and sockaddr. Does no look-ups: a domain name is kept as text (family 0). */
#include "net/address.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

bool address_is_both(struct str s)
{
    s = str_trim(s);
    return s.len > 1 && s.at[0] == ':';
}

static bool is_name(struct str s)
{
    if (!s.len || s.len > 253)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!char_is_alnum(s.at[i]) && s.at[i] != '-' && s.at[i] != '.' && s.at[i] != '_')
            return false;
    return s.at[0] != '.' && s.at[0] != '-';
}

static void set_text(struct address *a, struct arena *arena)
{
    char room[DECIMAL_ROOM];
    struct str ip = a->name.ss_family ? address_ip(a, arena) : a->host, port = str_decimal(room, a->port);
    if (a->name.ss_family == AF_UNIX)
        a->text = arena_join(arena, 2, (struct str[]){STR("unix:"), a->host});
    else if (a->name.ss_family == AF_INET6)
        a->text = arena_join(arena, 4, (struct str[]){STR("inet6:["), ip, STR("]:"), port});
    else
        a->text = arena_join(arena, 4, (struct str[]){STR("inet:"), ip, STR(":"), port});
}

static bool parse_unix(struct str path, struct arena *arena, struct address *a, const char **why)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->name;
    if (!path.len || path.at[0] != '/') {
        a->formless = true;
        *why = "expected an absolute path behind unix:";
        return false;
    }
    if (path.len >= sizeof un->sun_path || str_has_control(path)) {
        *why = "the path of a socket has at most 107 octets, none of them a control character";
        return false;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.at, path.len);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    a->host = arena_str(arena, path);
    set_text(a, arena);
    return true;
}

static void set_v6(struct address *a, const struct in6_addr *ip)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->name;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(a->port);
    in6->sin6_addr = *ip;
    a->len = sizeof *in6;
}

static bool parse_host(struct str host, bool v6, struct arena *arena, struct address *a, const char **why)
{
    a->host = arena_str(arena, host);
    struct in_addr ip4;
    struct in6_addr ip6;
    if (v6 && inet_pton(AF_INET6, a->host.at, &ip6) == 1) {
        set_v6(a, &ip6);
    } else if (!v6 && inet_pton(AF_INET, a->host.at, &ip4) == 1) {
        struct sockaddr_in *in = (struct sockaddr_in *)&a->name;
        in->sin_family = AF_INET;
        in->sin_port = htons(a->port);
        in->sin_addr = ip4;
        a->len = sizeof *in;
    } else if (!is_name(host) || (v6 && str_find(host, STR(".")) == host.len && host.len < 2)) {
        a->formless = true;
        *why = v6 ? "expected an IPv6 address in brackets" : "expected a host name or an IPv4 address";
        return false;
    } else if (!v6 && char_is_digit(host.at[host.len - 1]) && a->host.at[strspn(a->host.at, "0123456789.")] == 0) {
        *why = "this is no IPv4 address"; /* 1.2.3.456 is not looked up */
        return false;
    }
    if (a->name.ss_family) {
        set_text(a, arena);
    } else {
        const char *format = v6 ? "inet6:[%.*s]:%u" : "inet:%.*s:%u";
        a->text = arena_print(arena, format, STR_ARGS(host), a->port);
    }
    return true;
}

bool address_parse(struct str s, struct arena *arena, struct address *a, const char **why)
{
    *a = (struct address){0};
    s = str_trim(s);
    if (str_starts_nocase(s, STR("unix:")))
        return parse_unix(str_part(s, 5, s.len), arena, a, why);
    bool v4_said = false, v6_said = false;
    if (str_starts_nocase(s, STR("inet6:")))
        v6_said = true, s = str_part(s, 6, s.len);
    else if (str_starts_nocase(s, STR("inet:")))
        v4_said = true, s = str_part(s, 5, s.len);
    bool brackets = s.len && s.at[0] == '[';
    size_t colon = s.len;
    while (colon && s.at[colon - 1] != ':')
        colon--;
    uint64_t port;
    bool number = colon && str_number(str_part(s, colon, s.len), &port);
    if (number && port > 65535) {
        *why = "a port is at most 65535";
        return false;
    }
    if (!number && colon && is_name(str_part(s, colon, s.len)) && !char_is_digit(s.at[colon])) {
        *why = "a port is a number";
        return false;
    }
    if (!number && !colon && (str_number(s, &port) || is_name(s))) {
        *why = str_number(s, &port) ? "a port alone is written with a colon, like :25" : "a port is missing: HOST:PORT";
        return false;
    }
    if (!number) {
        a->formless = true;
        *why = "expected inet:HOST:PORT, inet6:[HOST]:PORT, unix:/PATH, HOST:PORT, [HOST]:PORT or :PORT";
        return false;
    }
    a->port = (uint16_t)port;
    struct str host = str_part(s, 0, colon - 1);
    if (!host.len)
        return v4_said ? parse_host(STR("0.0.0.0"), false, arena, a, why) : parse_host(STR("::"), true, arena, a, why);
    if (brackets) {
        if (v4_said || host.len < 3 || host.at[host.len - 1] != ']') {
            a->formless = !v4_said;
            *why = v4_said ? "inet: takes no brackets; for IPv6 write inet6:[HOST]:PORT" : "expected [HOST]:PORT";
            return false;
        }
        host = str_part(host, 1, host.len - 1);
    } else if (str_find(host, STR(":[")) < host.len) {
        *why = "only inet:, inet6: and unix: may stand in front";
        return false;
    } else if (str_find(host, STR(":")) < host.len) {
        *why = "an IPv6 address stands in brackets: [HOST]:PORT";
        return false;
    }
    /* "[mail.example.org]:25" and "[192.0.2.1]:25", which in Postfix mean "no MX look-up". There is no MX look-up here. */
    bool literal = brackets && str_find(host, STR(":")) < host.len;
    return parse_host(host, literal || v6_said, arena, a, why);
}

struct address address_of(const struct sockaddr *from, socklen_t len, struct arena *arena)
{
    struct address a = {0};
    if (len < (socklen_t)sizeof(sa_family_t) || len > (socklen_t)sizeof a.name)
        return a;
    memcpy(&a.name, from, len);
    a.len = len;
    struct sockaddr_in6 in6;
    if (from->sa_family == AF_INET6 && len >= (socklen_t)sizeof in6) {
        memcpy(&in6, from, sizeof in6);
        a.port = ntohs(in6.sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6.sin6_port};
            memcpy(&in.sin_addr, in6.sin6_addr.s6_addr + 12, 4);
            memset(&a.name, 0, sizeof a.name);
            memcpy(&a.name, &in, sizeof in);
            a.len = sizeof in;
        }
    } else if (from->sa_family == AF_INET) {
        a.port = ntohs(((struct sockaddr_in *)&a.name)->sin_port);
    } else if (from->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&a.name;
        size_t room = len - min_size(len, offsetof(struct sockaddr_un, sun_path));
        a.host = arena_str(arena, (struct str){un->sun_path, strnlen(un->sun_path, room)});
    }
    if (a.name.ss_family != AF_UNIX)
        a.host = address_ip(&a, arena);
    set_text(&a, arena);
    return a;
}

/* Called twice for every connection, so it does not use inet_ntop, which calls sprintf. */
static struct str ip4(const struct in_addr *ip, struct arena *arena)
{
    const uint8_t *octets = (const uint8_t *)ip;
    char text[INET_ADDRSTRLEN], room[DECIMAL_ROOM];
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        struct str digits = str_decimal(room, octets[i]);
        if (i)
            text[n++] = '.';
        memcpy(text + n, digits.at, digits.len);
        n += digits.len;
    }
    return arena_str(arena, (struct str){text, n});
}

struct str address_ip(const struct address *a, struct arena *arena)
{
    char text[INET6_ADDRSTRLEN];
    if (a->name.ss_family == AF_INET)
        return ip4(&((const struct sockaddr_in *)&a->name)->sin_addr, arena);
    const void *ip = a->name.ss_family == AF_INET6 ? &((const struct sockaddr_in6 *)&a->name)->sin6_addr : NULL;
    if (!ip || !inet_ntop(AF_INET6, ip, text, sizeof text))
        return STR("");
    return arena_str(arena, str_of(text));
}
