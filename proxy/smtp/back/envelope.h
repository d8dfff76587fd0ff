/* envelope.h - what the files of a delivery share: the envelope at the backend, what a reply means, how a connection is left.
 * The front sees delivery.h only. */
#ifndef SMTP_BACK_ENVELOPE_H
#define SMTP_BACK_ENVELOPE_H
#include "smtp/back/delivery.h"
#include "wire/content.h"

/* envelope.c */
bool envelope_is_said_anew(const struct transfer *); /* that is under way */
bool envelope_mail_is_refused(const struct transfer *); /* by the backend */
/* Before DATA: true while the envelope has to be said anew, or additions are still owed an answer. Starts what is needed. */
bool envelope_is_pending(struct delivery *);
void envelope_data(struct delivery *);      /* DATA is to be said: DATA_WANTED */
enum leave { LEAVE_CLEAN, LEAVE_ENVELOPE, LEAVE_CONTENT }; /* a backend: to the pool, reset by RSET, or closed */
void envelope_leave(struct delivery *, enum leave);
void envelope_refuse_waiting(struct delivery *, const struct reply *); /* what ASKED rcpts, and PASSED ones that nobody can be asked about, hear */
void envelope_forget_asked(struct delivery *);   /* what was asked on the connection that is left is asked again on the next one */
/* The connection that was logged in as this user is lost, and this message would need it. */
bool envelope_is_forgotten(const struct delivery *);

/* loss.c: delivery.backend is BROKEN. */
void envelope_lost(struct delivery *);

/* replies.c: replies of the backend. */
struct expected;
/* A refusal as the client hears it; ours where the words of the backend would mislead. */
struct reply replies_refusal(struct delivery *, const struct reply *);
void replies_apply(struct delivery *, const struct expected *, const struct reply *);
/* A reply although nothing is owed. Amid content a refusal is told to the client at its end of mail data, as said; anything else is
 * nonsense. Either way this content goes nowhere any more. */
void replies_unasked(struct delivery *, const struct reply *);

/* sending.c */
enum guard delivery_guard(const struct backend *); /* what content by DATA must not hide from it */
bool delivery_take(struct delivery *);      /* encodes what is there for the backend, if it may have it. True: something moved */
enum leave delivery_way_out(const struct delivery *); /* how the backend is left by content that goes nowhere any more */

/* outlet.c */
extern const struct outlet_ops delivery_outlet;

/* login.c */
bool login_holds(const struct delivery *, const struct backend *); /* it is the connection on which the client authenticated; not when it is parked */
#endif
