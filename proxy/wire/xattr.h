/* xattr.h - what XCLIENT and XFORWARD say of a client (Postfix XCLIENT_README, XFORWARD_README): name=value with values in xtext.
 * Pure. */
#ifndef WIRE_XATTR_H
#define WIRE_XATTR_H
#include "wire/extension.h"

struct xattrs {
    uint32_t given;      /* bits of enum xattr: what stood in the command */
    uint32_t known;      /* of those, the ones that were not [UNAVAILABLE] or [TEMPUNAVAIL] */
    bool name_temporary; /* NAME=[TEMPUNAVAIL]: a name may be had later */
    struct str name, reverse_name, ip, helo, login, target_ip, ident; /* decoded; "" when not known */
    uint16_t port, target_port;
    bool esmtp;          /* PROTO=ESMTP */
    bool local;          /* SOURCE=LOCAL */
};
/* Parses what stands behind the verb. `allowed`: the attributes that were announced; any other, one twice, or a value that is
 * malformed is refused. Returns 0 when fine, else the name of the reply; *word is what it speaks of, in the arena. */
int xattrs_parse(struct str, uint32_t allowed, struct arena *, struct xattrs *, struct str *word);
struct str xattrs_text(uint32_t bits, struct arena *); /* " NAME ADDR ...": what an EHLO announces */
#endif
