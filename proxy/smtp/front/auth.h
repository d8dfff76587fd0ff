/* auth.h - AUTH (RFC 4954), relayed to the backend: what a session keeps of an exchange. Made at the first AUTH or XCLIENT LOGIN, freed by
 * auth_free. */
#ifndef SMTP_FRONT_AUTH_H
#define SMTP_FRONT_AUTH_H
#include "wire/reply.h"

struct session;

struct auth {
    char user[256], method[24];  /* of the exchange; user "": the mechanism tells no name */
    uint8_t at;                  /* where the exchange stands; private to auth.c */
    unsigned turn;               /* responses so far */
    uint32_t failures;           /* of the session */
    struct reply reply;          /* of the backend; code 0: not yet */
    struct arena arena;          /* holds the text of reply */
    struct pipe words;           /* lines for the backend, until it is ready to hear them. Secret: never logged */
};
struct delivery;
void auth_apply(struct delivery *, const struct reply *); /* as delivery.login_said: the backend's answer to a line of AUTH */
void auth_free(struct session *);
void auth_told(struct session *, struct str user); /* XCLIENT LOGIN: this user has authenticated; "": nobody has */
#endif
