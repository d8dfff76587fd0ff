/* maillog.h - the log lines of a message (docs/log.md). */
#ifndef MAIL_MAILLOG_H
#define MAIL_MAILLOG_H
#include "mail/visit.h"

void maillog_message(struct visit *); /* at its end: one line, whatever became of it */
void maillog_rcpt(struct visit *, const struct rcpt *); /* refused: a line each for the first 100 of a message, more are counted */
void maillog_lmtp(struct visit *, struct str address, const struct reply *); /* what an LMTP server said for one recipient */
void maillog_client(const struct visit *); /* the keys of who sends, amid a line */
#endif
