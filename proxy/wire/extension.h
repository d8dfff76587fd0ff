/* extension.h - the extensions in a reply to EHLO: parsed, intersected, written (RFC 5321 4.1.1.1), and xtext (RFC 3461 4). Pure. An
 * extension whose argument is malformed counts as not offered. */
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
    uint64_t size;             /* SIZE in octets; 0: no fixed limit (RFC 1870 3) */
    uint32_t mail_max, rcpt_max, rcpt_domain_max; /* LIMITS (RFC 9422); 0: not given */
    uint32_t deliver_by;       /* DELIVERBY (RFC 2852): minimum by-time in seconds; 0: not given */
    uint64_t hold_most;        /* FUTURERELEASE (RFC 4865): longest interval in seconds, and latest date-time */
    char hold_until[32];
    char priority[24];         /* MT-PRIORITY (RFC 6710): the profile; "": not given */
    char auth[192];            /* AUTH mechanisms in upper case, separated by one SP; those that do not fit are left out */
};
/* Parses the text of a positive reply to EHLO, whose first line is the domain. Unknown keywords are ignored. */
void capabilities_parse(struct str text, struct capabilities *);
/* The extensions that both have. Of two limits the stricter one (0: no limit); the MT-PRIORITY profile only where both are equal. */
struct capabilities capabilities_common(struct capabilities, struct capabilities);
/* The lines after the domain in our reply to EHLO, e.g. "PIPELINING\nSIZE 10240000\n8BITMIME". Without XCLIENT, XFORWARD and AUTH, which
 * depend on the session. */
struct str capabilities_text(struct capabilities, struct arena *);
bool date_is_valid(struct str); /* has the form of a date-time of RFC 3339, as RFC 4865 restricts it */
/* xtext (RFC 3461 4): in XCLIENT, XFORWARD, ENVID, ORCPT. */
void xtext_put(struct str, struct pipe *out); /* appends the text encoded */
bool xtext_is_valid(struct str);
/* Corrects text that is not xtext but unambiguous: hexadecimal digits in lower case, a raw "=", raw UTF-8. *right: as xtext, in the
 * arena. False: a "+" without two hexadecimal digits, a control octet, or invalid UTF-8. */
bool xtext_repair(struct str, struct arena *, struct str *right);
#endif
