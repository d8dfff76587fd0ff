/* zone.h - DNS records out of a JSON text, which answer in place of a resolver.
 *
 * {"zone": {"name": [RECORD, ...]}}, a RECORD [TYPE, VALUE] or [TYPE, VALUE, TTL]: A AAAA TXT SPF MX PTR CNAME NS SOA SRV TLSA RAW, or what
 * happens to a question: TIMEOUT SERVFAIL REFUSED FORMERR NXDOMAIN DELAY TRUNC WRONGID GARBAGE NOTCP. docs/try.md tells each. */
#ifndef TRY_ZONE_H
#define TRY_ZONE_H
#include "base/arena.h"
#include "net/dns.h"

struct zone {
    struct dns_source source; /* the first member: for dns_open_source */
    struct arena arena;
    struct zone_name { struct str name; struct zone_record *records; } *names; size_t nnames; /* sorted by octets; lower case, no last dot */
    struct str *above; size_t nabove; /* names that have others below them, sorted */
};
/* Nothing of `text` is needed afterwards. NULL: it is read; else what is wrong at *line, in the zone's arena. To be freed either way. */
const char *zone_read(struct zone *, struct str text, uint32_t *line);
void zone_free(struct zone *);
#endif
