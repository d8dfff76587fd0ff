/* world.h - what clients, backends, MTAs, filters and their world share: letters, who they are, how likely faults are.
 *
 * A letter is a message as a client means it, and what filters made of it. Clients fill it in, filters write down each
 * edit that the gateway took, backends compare with it what they are told; it lives as long as the world. One world is
 * one seed. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H
#include "net.h"
#include "milter/worker.h"
#include "smtp/worker.h"

enum { RCPTS_MOST = 5, ADDED_MOST = 4, EDITS_MOST = 24, FILTERS_MOST = 4 };
enum {
    PATIENCE = 900000,
    PATIENCE_HEALED = 300000,
    PATIENCE_CALM = 30000
}; /* milliseconds; the first is longer than all clocks of the gateway together, the second than those of one command */
/* The listener's route: senders of cN.test with N odd, or rcpts of z.test, go to OTHER. */
enum routing { ROUTING_NONE, ROUTING_BY_SENDER, ROUTING_BY_RCPT };
enum place {
    PLACE_MAIN,
    PLACE_OTHER,
    PLACE_JAIL,
    PLACES,
    PLACE_NONE = PLACES
}; /* backends; routes lead to OTHER, quarantine to JAIL */
enum {
    PORT_SERVICE = 2600,
    SERVICE_ANSWER = 14
};                                           /* what filters dial, and how many octets a question or an answer has */
enum { SERVERS_MOST = 2, PORT_MAIN = 2500 }; /* place p, server i: PORT_MAIN + 10 p + i */

struct edit { /* of fields, in the order of time */
    enum { EDIT_TOP, EDIT_BOTTOM, EDIT_SET, EDIT_REMOVE } how;
    char name[16], value[40];
};
struct body_edit { /* one filter's */
    bool used, replaced;
    struct octets saw, out, late; /* what it saw, what it let through, what it said instead at the end */
};

struct letter {
    unsigned number;
    struct sim_client *client;
    struct octets content; /* decoded: what a backend must take, octet by octet, if no filter edits it */
    bool bare;             /* it holds a bare CR or LF: nobody may take it, unless it is binary */
    bool binary;
    unsigned nrcpts;
    uint32_t told;      /* rcpts whose 2yz the client has read, a bit each */
    uint64_t end_at;    /* octets of the client up to its end; 0: not said, or not whole */
    char address[48];   /* whom the backend is to be told of */
    bool forwarded;     /* by XFORWARD of the client, for this letter only */
    bool authenticated; /* its client has been told 235 before */
    /* by filters */
    bool refused;               /* in whole; and rcpts, a bit each */
    uint32_t refused_rcpts;
    bool discarded;             /* a 2yz needs no backend, and no backend may take it */
    bool quarantined;           /* only the JAIL may take it */
    bool routed_late;           /* for all rcpts, whatever was said of each */
    uint32_t left_out, renamed; /* rcpts: discarded or dropped; rewritten. A bit each */
    unsigned sender;            /* 0: as the client said */
    bool sender_first;          /* changed before the route was asked for it */
    uint32_t elsewhere;         /* rcpts of z.test */
    unsigned nadded;
    uint32_t added_must, added_dropped;
    enum place route, routes[RCPTS_MOST]; /* of the transaction, of a rcpt; NONE: unsaid */
    struct edit edits[EDITS_MOST];
    unsigned nedits;
    struct body_edit bodies[FILTERS_MOST];
    /* at backends */
    unsigned ends, taken;     /* ends of mail data that backends heard of it; those they said yes to */
    uint32_t accepted, added; /* of the transaction in which it was taken */
};

struct place_is { /* what the servers of a place offer */
    bool pipeline, chunk, binary, auth, xforward, xclient;
    bool down[SERVERS_MOST];
};

struct world {
    uint64_t seed;
    bool calm;   /* nothing goes wrong: every reply must be a yes, and soon */
    bool heavy;  /* its letters are larger than all pipes together */
    bool healed; /* nothing goes wrong any more, and every wait is one of the gateway's clocks at most */
    bool looks;  /* each time that nothing is under way, whether somebody sleeps who could go on */
    struct worker worker;
    bool milter; /* MTAs ask us as a milter, in the place of clients and backends */
    struct milter_worker milters;
    struct milter_conf *milter_conf; /* of the configuration at hand, and in its arena */
    struct mta *mtas; /* nclients of them */
    bool drained;     /* whoever is served may be asked to leave from now on */
    uint64_t *gone;   /* for each DISCONNECT: of which filter and visit (filters.c) */
    size_t ngone, gone_room;
    struct smtp_conf *conf;
    struct sim_client *clients;
    unsigned nclients, left; /* left: those that are still to end */
    unsigned letters_each;   /* most of a client */
    struct letter **letters;
    unsigned nletters, letters_room;
    unsigned faults;   /* of backends, in percent of replies */
    unsigned leaving;  /* of clients, in thousandths of what they do */
    unsigned breaking; /* of wires, in thousandths of pieces */
    struct place_is places[PLACES];
    struct backend_peer *backends;
    struct service_peer *services;
    unsigned questions; /* that filters have asked them */
    struct event reload, drain, watch, outage, strain, heal;
    unsigned long acknowledged; /* ends of mail data whose 2yz a client has read */
};
extern struct world *world_played;

/* Runs one seed to its end. False: a promise was broken (sim_violated). */
struct wishes { /* 0: by the dice */
    uint64_t seed;
    unsigned clients, letters;
    bool trace;
    bool milter; /* the front that MTAs ask */
};
bool world_run(const struct wishes *, unsigned long *sessions, unsigned long *acknowledged);

/* letter.c */
struct letter *letter_new(struct world *, struct sim_client *);
struct letter *letter_numbered(struct world *, unsigned number); /* NULL: there is none */
void letters_free(struct world *);
void letter_write(struct letter *); /* content out of the dice */
void letter_edit(struct letter *, int how, const char *name, const char *value);
void letter_body(const struct letter *, struct octets *to); /* as it stands behind all filters that have seen it */
void letter_check(const struct letter *, const struct octets *heard); /* what a backend took at an end of mail data */
enum place letter_place(const struct letter *,
                        uint32_t accepted); /* where it has to go; NONE: added ones only, they go with whom they went */
bool letter_needs_nobody(const struct letter *); /* all whom it was for were left out */

/* conf.c */
struct smtp_conf *conf_new(struct world *, unsigned generation);

/* client.c, plan.c */
struct sim_client;
struct sim_client *clients_new(struct world *, unsigned n);
void clients_heal(struct world *); /* nothing goes wrong any more: they are less patient */
void clients_free(struct world *);
uint64_t client_delivered(const struct sim_client *);
unsigned client_number(const struct sim_client *);
enum routing client_routing(const struct sim_client *);
enum identity client_identity(const struct sim_client *, enum place); /* of the configuration its session has */

/* mta.c, mta_conf.c */
void mtas_new(struct world *, unsigned n);
void mtas_heal(struct world *);
void mtas_free(struct world *);
void mta_conf_fill(struct world *, struct smtp_conf *); /* the milter listener of a configuration */
void mta_conf_switch(struct world *);              /* the milter front has the configuration at hand */

/* filters.c */
void filters_fill(struct world *, struct smtp_conf *);

/* service.c */
enum dialled service_dialled(struct world *, struct wire *);

/* backend.c */
enum dialled backend_dialled(void *world, struct wire *);
void backends_cut_off(struct world *, unsigned port); /* those of a server that goes down */
void backends_heal(struct world *); /* those that are there answer from now on, but for what hangs already */

/* still.c */
void still_begin(void);
bool still_look(
    void *world); /* when nothing is under way: does anybody sleep who could go on? True: it has woken them */
#endif
