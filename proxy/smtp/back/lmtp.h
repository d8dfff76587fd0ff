/* lmtp.h - a backend that speaks LMTP (RFC 2033): behind the end of mail data it answers once for each rcpt it accepted, in their
 * order, and the client of SMTP hears one reply. */
#ifndef SMTP_BACK_LMTP_H
#define SMTP_BACK_LMTP_H
#include "wire/reply.h"

struct delivery;
struct lmtp; /* of a transaction, in its arena; NULL: its backend speaks SMTP */

void lmtp_begin(struct delivery *);   /* MAIL is said (again): no recipient is accepted so far */
void lmtp_accepted(struct delivery *, uint32_t rcpt); /* the backend accepted this RCPT: one reply more behind the end */
/* The next reply behind the end of mail data. False: more are owed. True: *folded is what the client hears:
 *   all of one class: the first one, as said;
 *   else any 4yz: 4yz, so that no recipient is lost (those that have it get it again when the client comes back);
 *   else 5yz: the text says which recipients were refused, why, and which ones have it.
 * A rcpt that a filter added counts as deferred when it is refused, or, if it may be missing, not at all unless it stands alone.
 * Each reply is logged. */
bool lmtp_end(struct delivery *, const struct reply *, struct reply *folded);
#endif
