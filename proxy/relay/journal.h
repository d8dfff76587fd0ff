/* journal.h - one line per transaction, one per session without any: what a postmaster greps for. */
#ifndef RELAY_JOURNAL_H
#define RELAY_JOURNAL_H
#include "base/str.h"
struct session;
struct reply;
void journal_transaction(struct session *);
void journal_rcpt(struct session *, struct str address, const struct reply *); /* LMTP: what one recipient got at the end */
void journal_auth(struct session *, const struct reply *); /* AUTH failed: who, how, what it heard */
void journal_session(struct session *);
#endif
