/* idn.h - the canonical form of a domain, used as a key. "xn--bcher-kva.example", "bücher.example" and "BÜCHER.example" are one name in
 * DNS, and so are spellings with full-width or decomposed letters or with joiners (RFC 5890 2.3.2.1, UTS 46): all give the same key.
 * Address literals too: "[IPv6:2001:DB8:0::1]" becomes "[ipv6:2001:db8::1]", "[IPv6:::ffff:192.0.2.1]" becomes "[192.0.2.1]". */
#ifndef BASE_IDN_H
#define BASE_IDN_H
#include "base/str.h"

enum { IDN_ROOM = 1024 };
/* The domain in lower case, with A-labels for its U-labels. A leading dot is kept (".example.org" in tables). A label that IDNA
 * refuses, and a domain whose result does not fit, is only converted to lower case. The result stands in `room`; it is cut after
 * IDN_ROOM octets. */
struct str idn_fold(struct str domain, char room[IDN_ROOM]);
/* The same for an address: the part behind the last '@' is folded as a domain, the local part is converted to lower case. Without '@'
 * the whole text is a domain. */
struct str idn_fold_address(struct str address, char room[IDN_ROOM]);
#endif
