/* auth.h - AUTH, relayed (RFC 4954): what a session keeps of it, from the first AUTH or XCLIENT LOGIN on. */
#ifndef SMTP_FRONT_AUTH_H
#define SMTP_FRONT_AUTH_H
#include "wire/reply.h"

struct session;

struct auth {
    char user[256], method[24];  /* of the exchange; user "": the mechanism tells none */
    bool by_backend;             /* on a connection of this session, which cannot be had again */
    uint8_t at;                  /* auth.c's own */
    unsigned turn;               /* responses so far */
    uint32_t failures;
    struct reply reply;          /* of the backend; code 0: not yet */
    struct arena arena;          /* that reply's */
    struct pipe words;           /* to be said when the backend is ready. Secret */
};
void auth_apply(struct session *, const struct reply *);
void auth_free(struct session *);
bool auth_is_under_way(const struct session *); /* amid an exchange: what the backend hears next it takes for a response */
struct backend;
bool auth_holds(const struct session *, const struct backend *); /* it is the connection on which it authenticated; not when it is parked */
/* The connection on which it authenticated is gone, and no other one can be told who it is. */
bool session_auth_is_lost(struct session *);
void auth_told(struct session *, struct str user); /* by XCLIENT; "": nobody */
#endif
