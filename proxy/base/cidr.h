/* cidr.h - IP addresses and networks: one spelling for one address, whatever it was written like. */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H
#include "base/arena.h"

struct cidr { uint8_t octets[16]; uint8_t bits; bool v6; }; /* bits of 128 for v6, of 32 for v4 */
bool cidr_parse(struct str, struct cidr *, const char **why); /* "192.0.2.0/24", "192.0.2.1"; host bits set: refused */
bool cidr_has(const struct cidr *, struct str ip);
/* The network of an IP: v4bits of IPv4, v6bits of IPv6, "192.0.2.0/24". */
struct str cidr_network(struct str ip, unsigned v4bits, unsigned v6bits, struct arena *);
/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; ::ffff:192.0.2.1 is that IPv4 address. All bits count. */
bool cidr_of_ip(struct str, struct cidr *);
void cidr_mask(struct cidr *, unsigned bits); /* the first so many bits count, the others are 0 */
#endif
