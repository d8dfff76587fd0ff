/* sessionlog.h - the lines of a session (docs/log.md). */
#ifndef SMTP_FRONT_SESSIONLOG_H
#define SMTP_FRONT_SESSIONLOG_H
#include "smtp/front/session.h"

void sessionlog_auth(struct session *, const struct reply *); /* an exchange is over */
void sessionlog_end(struct session *);
#endif
