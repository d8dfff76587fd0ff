/* extension.h - what an EHLO says: parsed, intersected, written (RFC 5321 4.1.1.1). Pure. An extension whose argument is malformed
 * is not there. */
#ifndef WIRE_EXTENSION_H
#define WIRE_EXTENSION_H
#include "wire/reply.h"

enum extension { /* bits */
    EXT_PIPELINING = 1, EXT_SIZE = 2, EXT_8BITMIME = 4, EXT_SMTPUTF8 = 8, EXT_DSN = 16, EXT_ENHANCED = 32, EXT_STARTTLS = 64,
    EXT_CHUNKING = 128, EXT_BINARYMIME = 256, EXT_XCLIENT = 512, EXT_XFORWARD = 1024, EXT_AUTH = 2048,
    EXT_REQUIRETLS = 4096, EXT_LIMITS = 8192, EXT_MT_PRIORITY = 16384, EXT_DELIVERBY = 32768, EXT_FUTURERELEASE = 65536
};
enum xattr { /* attributes of XCLIENT and XFORWARD */
    XATTR_NAME = 1, XATTR_ADDR = 2, XATTR_PORT = 4, XATTR_PROTO = 8, XATTR_HELO = 16, XATTR_LOGIN = 32, XATTR_REVERSE_NAME = 64,
    XATTR_DESTADDR = 128, XATTR_DESTPORT = 256, XATTR_SOURCE = 512, XATTR_IDENT = 1024
};
struct capabilities {
    uint32_t has;              /* bits of enum extension */
    uint32_t xclient, xforward; /* bits of enum xattr */
    uint64_t size;             /* SIZE: 0 is "no fixed limit" */
    uint32_t mail_max, rcpt_max, rcpt_domain_max; /* LIMITS (RFC 9422); 0: unsaid */
    uint32_t deliver_by;       /* DELIVERBY (RFC 2852): the least by-time, in seconds; 0: unsaid */
    uint64_t hold_most;        /* FUTURERELEASE (RFC 4865): the longest interval, in seconds, and the last date-time */
    char hold_until[32];
    char priority[24];         /* MT-PRIORITY (RFC 6710): the profile; "": unsaid */
    char auth[192];            /* mechanisms, upper case, one SP between them; what does not fit is left out */
};
/* From the text of a positive EHLO reply; its first line is the domain. Unknown keywords are passed over. */
void capabilities_parse(struct str text, struct capabilities *);
/* What both can. Of limits the stricter, 0 being none; a profile only where both say the same. */
struct capabilities capabilities_common(struct capabilities, struct capabilities);
/* The lines behind the domain in our EHLO answer, e.g. "PIPELINING\nSIZE 10240000\n8BITMIME". XCLIENT etc. are never said. */
struct str capabilities_text(struct capabilities, struct arena *);
bool date_is_valid(struct str); /* RFC 3339 date-time as RFC 4865 has it, by its shape */
/* xtext (RFC 3461 4): XCLIENT, XFORWARD, ENVID, ORCPT. */
void xtext_put(struct str, struct pipe *out);
bool xtext_is_valid(struct str);
/* What is not xtext but can mean one thing only: hexadecimal digits in lower case, a raw "=", raw UTF-8. *right: as xtext, in the
 * arena. False: a "+" without two digits, or an octet that no text has. */
bool xtext_repair(struct str, struct arena *, struct str *right);
#endif
