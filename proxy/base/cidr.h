/* cidr.h - IP addresses and networks (RFC 4632, RFC 4291), in one canonical form for all spellings of an address. */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H
#include "base/arena.h"

struct cidr { uint8_t octets[16]; uint8_t bits; bool v6; }; /* network order; bits: prefix length, up to 32 for IPv4, 128 for IPv6 */
/* "192.0.2.0/24", "192.0.2.1". False: not a network, or host bits are set; *why is a constant sentence. */
bool cidr_parse(struct str, struct cidr *, const char **why);
bool cidr_has(const struct cidr *, struct str ip); /* false also when `ip` is no address, or of the other family */
/* The network that an IP address is in, as text ("192.0.2.0/24"), with a prefix of v4bits or v6bits. */
struct str cidr_network(struct str ip, unsigned v4bits, unsigned v6bits, struct arena *);
/* One address: "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; ::ffff:192.0.2.1 becomes the IPv4 address. `bits` becomes 32 or 128.
 * False: not an address. */
bool cidr_of_ip(struct str, struct cidr *);
void cidr_mask(struct cidr *, unsigned bits); /* sets the prefix length and clears the bits behind it */
#endif
