/* world.h - what clients, backends and their world share: letters, who they are, how likely faults are.
 *
 * A letter is a message as a client means it. Clients fill it in, backends compare with it what they are told; it lives as
 * long as the world. One world is one seed. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H
#include "net.h"
#include "relay/worker.h"

enum { RCPTS_MOST = 5, PATIENCE = 900000 }; /* PATIENCE: milliseconds; longer than all clocks of the gateway together */

struct letter {
    unsigned number;
    struct client *client;
    struct octets content;       /* decoded: what a backend must take, octet by octet */
    bool bare;                   /* it holds a bare CR or LF: nobody may take it */
    bool discarded;              /* a filter said so: a 2yz needs no backend, and no backend may take it */
    unsigned nrcpts;
    uint32_t told;               /* rcpts whose 2yz the client has read, a bit each */
    uint32_t accepted;           /* those of the transaction in which it was taken */
    uint64_t end_at;             /* octets of the client up to its end; 0: not said, or not whole */
    unsigned ends, taken;        /* ends of mail data that backends heard of it; those they said yes to */
};

struct world {
    uint64_t seed;
    struct worker worker;
    struct conf *conf;
    struct client *clients;
    unsigned nclients, left;     /* left: those that are still to end */
    struct letter **letters;
    unsigned nletters, letters_room;
    unsigned faults;             /* of backends, in percent of replies */
    unsigned leaving;            /* of clients, in thousandths of what they do */
    struct backend_peer *backends;
    struct event reload, drain, watch;
    bool servers_chunk, servers_pipeline;
    unsigned long acknowledged;  /* ends of mail data whose 2yz a client has read */
};

struct letter *letter_new(struct world *, struct client *);
struct letter *letter_numbered(struct world *, unsigned number); /* NULL: there is none */
/* Runs one seed to its end. False: a promise was broken (sim_violated). */
bool world_run(uint64_t seed, unsigned clients, bool trace, unsigned long *sessions, unsigned long *acknowledged);
extern uint64_t world_seed; /* the one that runs */
extern struct world *world_played;

/* client.c */
struct client;
struct client *clients_new(struct world *, unsigned n);
void clients_free(struct world *);
uint64_t client_delivered(const struct client *);
unsigned client_number(const struct client *);

/* filters.c: none, or up to three in the only chain. */
void filters_fill(struct conf *);

/* backend.c */
enum dialled backend_dialled(void *world, struct wire *);
#endif
