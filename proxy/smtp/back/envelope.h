/* envelope.h - the back: what the backend is told of a transaction, and what its replies mean (engine.md B, A11, A12). */
#ifndef SMTP_BACK_ENVELOPE_H
#define SMTP_BACK_ENVELOPE_H
#include "smtp/back/delivery.h"
#include "smtp/front/transaction.h"

void envelope_settle(struct session *);     /* takes backend replies, applies each, tells rcpts */
void envelope_tell(struct session *);       /* the replies of rcpts that are final leave, in order */
void envelope_ask(struct session *, uint32_t rcpt); /* a rcpt has passed its filters */
void envelope_data(struct session *);       /* DATA is to be said: DATA_WANTED */
/* Before DATA: true while the envelope has to be said anew, or additions are still owed an answer. Starts what is needed. */
bool envelope_is_pending(struct session *);
bool envelope_is_said_anew(const struct transaction *); /* that is under way */
bool envelope_mail_is_refused(const struct transaction *); /* by the backend */
bool envelope_is_refused(const struct transaction *); /* MAIL is, or every rcpt told so far: there can be no content */
bool envelope_is_empty(const struct transaction *); /* no rcpt is left that the backend should have */
void envelope_leave(struct session *, enum leave); /* the backend goes to the pool, is washed, or closed */

/* replies.c: replies of the backend. */
struct debt;
/* A refusal as the client hears it; ours where the words of the backend would mislead. */
struct reply debt_relayed(struct session *, const struct reply *);
void debt_apply(struct session *, const struct debt *, const struct reply *);
/* A reply although nothing is owed. Amid content a refusal is told at the end as said, anything else is nonsense (engine.md
 * A21 h): either way this content goes nowhere any more. */
void debt_unasked(struct session *, const struct reply *);
#endif
