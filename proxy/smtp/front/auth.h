/* auth.h - AUTH, relayed (RFC 4954): what a session keeps of it, from the first AUTH or XCLIENT LOGIN on. */
#ifndef SMTP_FRONT_AUTH_H
#define SMTP_FRONT_AUTH_H
#include "wire/reply.h"

struct session;

struct auth {
    char user[256], method[24];  /* of the exchange; user "": the mechanism tells none */
    uint8_t at;                  /* auth.c's own */
    unsigned turn;               /* responses so far */
    uint32_t failures;
    struct reply reply;          /* of the backend; code 0: not yet */
    struct arena arena;          /* that reply's */
    struct pipe words;           /* to be said when the backend is ready. Secret */
};
struct delivery;
void auth_apply(struct delivery *, const struct reply *); /* delivery.login_said */
void auth_free(struct session *);
void auth_told(struct session *, struct str user); /* by XCLIENT; "": nobody */
#endif
