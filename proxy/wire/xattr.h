/* xattr.h - parses the attributes of XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README): NAME=VALUE with values in xtext. Pure. */
#ifndef WIRE_XATTR_H
#define WIRE_XATTR_H
#include "wire/extension.h"

struct xattrs {
    uint32_t given;      /* bits of enum xattr: the attributes in the command */
    uint32_t known;      /* of those, the ones whose value was not [UNAVAILABLE] or [TEMPUNAVAIL] */
    bool name_temporary; /* NAME=[TEMPUNAVAIL]: the look-up of the name failed temporarily */
    struct str name, reverse_name, ip, helo, login, target_ip, ident; /* decoded, in the arena; "" if not known */
    uint16_t port, target_port;
    bool esmtp;          /* PROTO=ESMTP */
    bool local;          /* SOURCE=LOCAL */
};
/* Parses the text after the verb. `allowed`: bits of the attributes that our reply to EHLO announced; any other attribute, a repeated one
 * and a malformed value are refused. Returns 0 on success, else the name of the reply, for whose "%s" *word is the text, in the arena. */
int xattrs_parse(struct str, uint32_t allowed, struct arena *, struct xattrs *, struct str *word);
struct str xattrs_text(uint32_t bits, struct arena *); /* " NAME ADDR ...", for a reply to EHLO */
#endif
