/* client.h - the inside of a client: its plan of lines and contents, and what is due to it. plan.c makes the plan,
 * client.c says it and hears. */
#ifndef SIM_CLIENT_H
#define SIM_CLIENT_H
#include "world.h"

enum kind { GREET, HELLO, MAIL, RCPT, DATA, CHUNK, END, RSET, NOOP, VRFY, NONSENSE, QUIT, AUTH, XCLIENT, XFORWARD };
extern const char *const kinds[];

struct item {
    struct octets text;
    size_t said;
    enum kind kind;
    struct letter *letter;
    unsigned rcpt;
    bool waits; /* for all replies that are due */
};
struct due {
    enum kind kind;
    struct letter *letter;
    unsigned rcpt;
};
struct sim_client {
    struct world *world;
    unsigned number;
    struct wire *wire;
    struct event act, dog;
    uint64_t delivered, sent, preface; /* octets */
    uint64_t arrived, looked; /* looked: delivered, when its patience was last at an end */
    struct item *plan;
    unsigned at, planned;
    struct due due[64];
    unsigned ndue;
    unsigned messages;            /* still to be sent */
    char address[48], claims[48]; /* whom the gateway has to take it for; who it says it is, if that is granted */
    enum identity identities[PLACES];
    enum routing routing;
    bool esmtp, pipelining, chunking, binary, may_auth, may_xclient, may_xforward; /* as EHLO said */
    bool hello, bye, silent, half, over, quit, authenticated;
};

void plan_free(struct sim_client *);
void plan_next(struct sim_client *);
void plan_give_up(struct sim_client *);                         /* what is not begun is not said any more */
void plan_response(struct sim_client *, const char *challenge); /* to a 334 */
void plan_preface(struct sim_client *, struct octets *);        /* a PROXY header */
#endif
