/* identity.h - who the client is, in the words that a backend understands: XCLIENT, XFORWARD (Postfix' XCLIENT_README and
 * XFORWARD_README), or the header of the PROXY protocol. Writes words only; backend.c and envelope.c say them. */
#ifndef SMTP_BACK_IDENTITY_H
#define SMTP_BACK_IDENTITY_H
#include "wire/extension.h"

struct visit;

/* XCLIENT with those attributes of `can` that are known: one line, or two where one would be longer than 512 octets. Of two,
 * the second has what the first would reset, and the address: behind an XCLIENT with an address the backend no longer trusts us by our own.
 * part: 0, then 1 if that returned true. Names must be there (rdns_is_done). */
bool identity_put_xclient(const struct visit *, uint32_t can, unsigned part, struct pipe *out);
/* XFORWARD with every attribute of `can`, what is not known as [UNAVAILABLE]: one command of at most 512 octets. *said: which
 * attributes have been, 0 at first. False: nothing was left to say. */
bool identity_put_xforward(const struct visit *, uint32_t can, uint32_t *said, struct pipe *out);
/* The header of the PROXY protocol; visit NULL (a health check) or of a unix socket: UNKNOWN, LOCAL. */
void identity_put_preface(const struct visit *, bool v1, struct pipe *out);
#endif
