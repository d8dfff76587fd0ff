/* maillog.h - what the log says of mail: lines per transaction, refused recipient, session, failed AUTH. */
#ifndef MAIL_MAILLOG_H
#define MAIL_MAILLOG_H
#include "base/str.h"
struct session;
struct reply;
void journal_transaction(struct session *);
struct rcpt;
void journal_rcpt(struct session *, const struct rcpt *); /* that it was refused: when it is told so; 100 lines a transaction, then a count */
void journal_lmtp(struct session *, struct str address, const struct reply *); /* what one recipient got at the end */
void journal_auth(struct session *, const struct reply *); /* AUTH failed: who, how, what it heard */
void journal_session(struct session *);
#endif
