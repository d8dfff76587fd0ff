/* proxied.h - who the client is, when a peer that is trusted says so: a PROXY header before all else, XCLIENT for what follows,
 * XFORWARD for one transaction (Postfix XCLIENT_README, XFORWARD_README). What is claimed takes the place of what was seen: for
 * filters, for the log and towards the backend. */
#ifndef SMTP_FRONT_PROXIED_H
#define SMTP_FRONT_PROXIED_H
#include "smtp/front/session.h"
#include "wire/xattr.h"

void proxied_trust(struct session *);                   /* decides whether the peer, by the address it has now, may say XCLIENT and XFORWARD */
bool proxied_is_due(const struct session *);            /* a PROXY header comes first on this connection */
enum next proxied_preface(struct session *);              /* STEP_PROXY: reads the header, then session_begin; a bad one ends the session */
/* Bits of enum xattr that the peer may say, of XFORWARD if `forward`, else of XCLIENT; 0: none, and the command is not announced. */
uint32_t proxied_attributes(const struct session *, bool forward);
enum next proxied_xclient(struct session *);          /* the line in hand: the session begins anew, with a greeting, or a refusal is told */
struct reply proxied_xforward(struct session *);      /* the line in hand: takes its attributes, returns the answer */
void proxied_restore(struct session *);                 /* the transaction is over: the client is the connected one again */
void proxied_free(struct session *);
#endif
