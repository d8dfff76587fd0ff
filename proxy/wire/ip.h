/* ip.h - one spelling for one address, whoever tells it: tables, limits and the log know a client by its text. Pure. */
#ifndef WIRE_IP_H
#define WIRE_IP_H
#include "base/arena.h"

/* AF_INET: 4 octets, AF_INET6: 16, network order. "192.0.2.1", "2001:db8::1"; ::ffff:192.0.2.1 is 192.0.2.1, for so it is told by
 * peers that listen for both at one socket (RFC 4291 2.5.5.2). */
struct str ip_text(int family, const char *octets, struct arena *);
#endif
