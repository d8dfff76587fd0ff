/* worker.h - one thread as relay sees it: its loop, resolver, pools and sessions. proxy/worker.c starts and ends it. */
#ifndef RELAY_WORKER_H
#define RELAY_WORKER_H
#include "net/dns.h"
#include "net/loop.h"
#include "net/stream.h"
#include "relay/conf.h"

struct session;
struct pool;
struct filter_health;
struct solo;
struct filter_stream;

/* Shared by all workers: who is connected. One lock, taken at accept and close only. */
struct census;
struct census *census_open(void);
void census_close(struct census *);
enum census_says { CENSUS_WELCOME, CENSUS_FULL, CENSUS_TOO_MANY }; /* TOO_MANY: from this client address */
enum census_says census_enter(struct census *, struct str ip, uint32_t total, uint32_t per_client);
void census_leave(struct census *, struct str ip);

struct worker {
    unsigned number;
    struct loop *loop;
    struct dns *dns;
    struct conf *conf;               /* of new sessions */
    struct census *census;
    struct session *sessions;        /* all, newest first */
    uint32_t nsessions;
    struct pool **pools;             /* [backend_conf.index]; made at first use */
    void **filter_memory;            /* [filter.index]: worker memory, at first use */
    struct filter_health *health;    /* [filter.index]: the circuit breakers */
    struct solo *solos;              /* calls without a session: START, TICK */
    struct filter_stream *streams;   /* of worker life: idle ones that filters dialled */
    bool draining;
    uint64_t drain_by;               /* loop_now: then sessions are told 421 wherever they may */
    uint64_t serial;                 /* of sessions and transactions, never used twice */
};
/* relay's part: pools probe their backends (EHLO answers to intersect with), filters hear START, ticks begin. */
void worker_open(struct worker *);
void worker_drain(struct worker *, uint64_t by); /* sessions hear 421 at their next command boundary */
/* True while a session has said its end of mail data and waits for the reply: no drain may end it there (its own clock does,
 * timeouts.end). */
bool worker_owes_a_reply(const struct worker *);
void worker_close(struct worker *);              /* all sessions gone: pools and filter memory too */
/* A client came. Says the banner after the connect hook. */
void session_start(struct worker *, const struct listen_conf *, struct stream *);
#endif
