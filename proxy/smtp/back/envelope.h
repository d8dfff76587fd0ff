/* envelope.h - what the files of a delivery share: the envelope at the backend, what a reply means, how a connection is left.
 * The front sees delivery.h only. */
#ifndef SMTP_BACK_ENVELOPE_H
#define SMTP_BACK_ENVELOPE_H
#include "smtp/back/delivery.h"
#include "wire/content.h"

/* envelope.c */
bool envelope_is_said_anew(const struct transfer *); /* the envelope is being said anew */
bool envelope_mail_is_refused(const struct transfer *); /* by the backend */
/* Before DATA: true while the envelope has to be said anew, or the backend has not answered recipients that filters added. Starts saying
 * what is needed. */
bool envelope_is_pending(struct delivery *);
void envelope_data(struct delivery *);      /* sets DATA_WANTED */
/* What a connection has heard when it is left. CLEAN: nothing that is open, it goes to the pool. ENVELOPE: RSET first. CONTENT: it is closed. */
enum leave { LEAVE_CLEAN, LEAVE_ENVELOPE, LEAVE_CONTENT };
void envelope_leave(struct delivery *, enum leave);
void envelope_refuse_waiting(struct delivery *, const struct reply *); /* to each ASKED or PASSED rcpt that the client named */
void envelope_forget_asked(struct delivery *);   /* the connection is left: its ASKED rcpts become PASSED, and are asked on the next one */
/* This message needs the connection that was logged in as its client, and that is lost. */
bool envelope_is_forgotten(const struct delivery *);

/* loss.c: delivery.backend is BROKEN. */
void envelope_lost(struct delivery *);

/* replies.c: replies of the backend. */
struct expected;
/* A refusal of the backend as the client hears it: in the backend's words, or in ours where those would mislead. */
struct reply replies_refusal(struct delivery *, const struct reply *);
void replies_apply(struct delivery *, const struct expected *, const struct reply *);
/* A reply although nothing is owed. Amid content a refusal is told to the client at its end of mail data, as said; anything else is
 * nonsense. Either way this content goes nowhere any more. */
void replies_unasked(struct delivery *, const struct reply *);

/* sending.c */
enum guard delivery_guard(const struct backend *); /* which hidden ends of mail data to guard content by DATA against */
bool delivery_take(struct delivery *);      /* outlet_ops.take: encodes what there is, if DATA is OPEN. True: something moved */
enum leave delivery_way_out(const struct delivery *); /* how to leave the backend when content is refused or discarded */

/* outlet.c */
extern const struct outlet_ops delivery_outlet;

/* login.c */
bool login_holds(const struct delivery *, const struct backend *); /* the client authenticated on this connection, and it is not parked */
#endif
