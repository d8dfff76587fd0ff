/* address.h - addresses to listen at and to connect to: "inet:HOST:PORT", "inet6:[HOST]:PORT", "unix:/PATH"; "HOST:PORT" is short
 * for inet:, "[HOST]:PORT" for inet6:, ":PORT" for both [::] and 0.0.0.0. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H
#include "base/arena.h"
#include <sys/socket.h>

struct address {
    struct sockaddr_storage name; /* family 0: the host is a domain name, looked up for each connection */
    socklen_t len;
    uint16_t port;                /* 0 for unix */
    struct str host;              /* as written (name, number, or path) */
    struct str text;              /* "inet:192.0.2.1:25", "inet6:[2001:db8::1]:25", "unix:/run/x" */
    bool formless;                /* set when address_parse fails because the text has none of these forms */
};
/* Texts are in the arena. False: *why is a constant sentence that says what was expected. ":PORT" gives the IPv6 wildcard; for a text for
 * which address_is_both is true, the caller listens on 0.0.0.0 too. */
bool address_parse(struct str, struct arena *, struct address *, const char **why);
bool address_is_both(struct str); /* it is ":PORT" */
struct address address_of(const struct sockaddr *, socklen_t, struct arena *); /* an IPv4-mapped IPv6 address becomes IPv4 */
struct str address_ip(const struct address *, struct arena *); /* "192.0.2.1", "2001:db8::1"; "" for a unix socket */
#endif
