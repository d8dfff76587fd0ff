/* ip.h - the canonical text of an IP address, by which tables, limits and the log identify a client. Pure. */
#ifndef WIRE_IP_H
#define WIRE_IP_H
#include "base/arena.h"

/* `octets` in network order: 4 for AF_INET, 16 for AF_INET6. Gives "192.0.2.1" or "2001:db8::1", in the arena. ::ffff:192.0.2.1 gives
 * 192.0.2.1: it is how a socket that listens for both families reports an IPv4 client (RFC 4291 2.5.5.2). */
struct str ip_text(int family, const char *octets, struct arena *);
#endif
