/* idn.h - one spelling for one domain: "xn--bcher-kva.example", "bücher.example", "BÜCHER.example", with letters of full width, decomposed, or
 * with joiners between them, are one name in DNS and must be one key here (RFC 5890 2.3.2.1, UTS 46). So must
 * all spellings of an address literal: "[IPv6:2001:DB8:0::1]" is "[ipv6:2001:db8::1]", "[IPv6:::ffff:192.0.2.1]" is "[192.0.2.1]". */
#ifndef BASE_IDN_H
#define BASE_IDN_H
#include "base/str.h"

enum { IDN_ROOM = 1024 };
/* The domain in lower case, its U-labels as A-labels. A dot in front is kept (".example.org" of tables). A label that
 * cannot be looked up, and a domain that is longer than the room, is only made lower case. The result is in `room`, at most IDN_ROOM octets; longer names are cut. */
struct str idn_fold(struct str domain, char room[IDN_ROOM]);
/* The same for what stands behind the last '@', the rest as it is but in lower case; without '@' all of it is a domain. */
struct str idn_fold_address(struct str address, char room[IDN_ROOM]);
#endif
