/* backend.h - the inside of a backend's connection: what it was told, what it is about to say. backend.c says, hear.c
 * hears. */
#ifndef SIM_BACKEND_H
#define SIM_BACKEND_H
#include "world.h"

enum mode { COMMANDS, CONTENT, CHUNK, RESPONSE };
enum fate { FATE_SAYS, FATE_HANGS, FATE_GOES_BEFORE, FATE_GOES_AMID, FATE_GOES_BEHIND };

struct backend_peer {
    struct backend_peer *next, **link;
    struct world *world;
    struct wire *wire;
    enum place place;
    enum mode mode;
    enum fate fate;
    struct event talk, idle;
    bool helo_only, may_proxy, leaves, lmtp;
    bool unasked;               /* it has refused amid content */
    bool odd; /* what it says is neither yes nor no */
    struct place_is can;
    unsigned faults;
    char reply[2000]; /* that is due */
    /* the connection */
    char proxied[48], xclient[48], forwarded[48]; /* whom PROXY, XCLIENT, XFORWARD told of; "": nobody */
    unsigned user;                                /* the client that is authenticated here; 0: none */
    unsigned asks;                                /* AUTH LOGIN: responses so far; PLAIN: 9 */
    /* the transaction */
    unsigned letter, session; /* of MAIL; letters and clients begin at 1 */
    unsigned sender;          /* as in struct letter */
    bool has_mail;
    uint32_t accepted, renamed, added;
    unsigned order[RCPTS_MOST + ADDED_MOST], norder; /* in which they were accepted; added ones from RCPTS_MOST on */
    struct octets chunks;                            /* of BDAT so far */
    size_t chunk;
    bool last, chunk_bad;
};

void peer_hear(struct backend_peer *);
/* What it would say, before fate has its turn. True: it does say yes, as far as it is concerned. */
bool peer_answer(struct backend_peer *, bool may_refuse, const char *mark, const char *format, ...) PRINTF_LIKE(4, 5);
#endif
