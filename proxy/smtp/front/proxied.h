/* proxied.h - who the client is, when a peer that is trusted says so: a PROXY header before all else, XCLIENT for what follows,
 * XFORWARD for one transaction (Postfix XCLIENT_README, XFORWARD_README). What is claimed takes the place of what was seen: for
 * filters, for the log and towards the backend. */
#ifndef SMTP_FRONT_PROXIED_H
#define SMTP_FRONT_PROXIED_H
#include "smtp/front/session.h"
#include "wire/xattr.h"

void proxied_trust(struct session *);                   /* whether the peer, as it stands now, may claim later */
bool proxied_is_due(const struct session *);            /* a PROXY header comes first on this connection */
enum next proxied_preface(struct session *);              /* STEP_PROXY: takes it */
uint32_t proxied_attributes(const struct session *, bool forward); /* bits of enum xattr that the peer may use; 0: none, not announced */
enum next proxied_xclient(struct session *);          /* the line in hand: the session begins anew, with a greeting, or a refusal is told */
struct reply proxied_xforward(struct session *);
void proxied_restore(struct session *);                 /* the transaction is over: the client is the connected one again */
void proxied_free(struct session *);
#endif
