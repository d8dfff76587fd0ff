/* worker.h - one thread as mail and smtp see it: its loop, resolver, pools and sessions. proxy/process/worker.c starts and ends it. */
#ifndef SMTP_WORKER_H
#define SMTP_WORKER_H
#include "net/dns.h"
#include "net/loop.h"
#include "net/stream.h"
#include "mail/filter_set.h"
#include "smtp/model.h"

struct connections;
struct session;
struct pool;

/* One configuration as one worker runs it, from the switch to it until its last session has ended. It holds one reference to the conf;
 * its sessions are counted without atomics. What filters call worker memory lives and dies with it. */
struct generation {
    struct filter_set filters;       /* its users: sessions, and work that filters began on other threads */
    struct worker *worker;
    struct smtp_conf *conf;
    struct generation *older;        /* those whose sessions have not all ended */
    struct pool **pools;             /* [backend_conf.index]; made at first use */
    struct task task;                /* ends it */
    bool closed;
};
struct generation *generation_enter(struct generation *);
void generation_leave(struct generation *); /* the last one of an old generation: it ends, in a turn of its own */

struct worker {
    struct mail_worker mail;         /* mail.draining: no new session begins */
    struct generation *generation;   /* that of new sessions */
    struct connections *connections;
    struct session *sessions;        /* all, newest first */
    uint32_t nsessions;
    size_t descriptors;              /* streams it may have open: a dial beyond that is queued; 0: any number */
    uint64_t oldest_us, oldest_at_ms; /* worker_oldest_content as it was at that loop_now */
    uint64_t drain_by;               /* loop_now: sessions leave wherever they are from then on; 0: no drain */
    bool stressed;                   /* limits are near: clients are given less time and fewer mistakes */
};
/* New sessions begin under this configuration from now on, those there are end under theirs. Pools probe their backends (EHLO
 * answers to intersect with), filters hear START, ticks begin. */
void worker_switch(struct worker *, struct smtp_conf *);
/* Sessions are asked to leave: 421 at the next command boundary without a transaction, and from `by` (loop_now) on wherever
 * that may be said. LISTEN_ALL: all of them, and no pool keeps anything from now on; else those that came in at this address. */
enum { LISTEN_ALL = 0 };
void worker_drain(struct worker *, uint32_t listen_id, uint64_t by);
/* How much of what is allowed is in use, the scarcest of it, in percent: from limits.stress on the worker is stressed, and until it
 * has fallen an eighth below. */
void worker_set_usage(struct worker *, unsigned percent);
/* When the oldest of the transactions began that have content to be read (loop_micros); UINT64_MAX: none has. As of this millisecond. */
uint64_t worker_oldest_content(struct worker *);
void worker_close(struct worker *);              /* when all sessions have ended: frees pools and filter memory */
void worker_forget(struct worker *);             /* when the loop has closed: drops the configurations */
/* A client came; listen_id: the number that the caller gives a bound address. Says the banner after the connect hook. */
void session_start(struct worker *, const struct listen_conf *, uint32_t listen_id, struct stream *);
#endif
