/* address.h - where to listen and where to dial: "inet:HOST:PORT", "inet6:[HOST]:PORT", "unix:/PATH"; "HOST:PORT" is short
 * for inet:, "[HOST]:PORT" for inet6:, ":PORT" for [::] and 0.0.0.0 both. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H
#include "base/arena.h"
#include <sys/socket.h>

struct address {
    struct sockaddr_storage name; /* family 0: the host is a name, to be looked up at each dial */
    socklen_t len;
    uint16_t port;                /* 0 for unix */
    struct str host;              /* as written (name, number, or path) */
    struct str text;              /* "inet:192.0.2.1:25", "inet6:[2001:db8::1]:25", "unix:/run/x" */
    bool formless;                /* no address: and it has none of the forms of one, which *why tells */
};
/* False: *why says what was expected. For ":PORT" gives the IPv6 wildcard; address_is_both then tells to listen on both. */
bool address_parse(struct str, struct arena *, struct address *, const char **why);
bool address_is_both(struct str);
struct address address_of(const struct sockaddr *, socklen_t, struct arena *); /* v4-mapped IPv6 becomes IPv4 */
struct str address_ip(const struct address *, struct arena *); /* "192.0.2.1", "2001:db8::1"; "" for unix */
#endif
