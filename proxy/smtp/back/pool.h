/* pool.h - the connections to one backend that a worker keeps, who waits for one, and what its servers can. */
#ifndef SMTP_BACK_POOL_H
#define SMTP_BACK_POOL_H
#include "smtp/back/server.h"
#include "smtp/worker.h"
#include "wire/extension.h"

struct backend;
struct delivery;

/* A server of a backend as one pool sees it. */
struct pooled_server {
    struct server *server;
    const struct server_conf *conf;
    struct backend *idle;  /* the one that was used last stands first */
    struct backend *check; /* under way */
    bool first_check;      /* it began before anything was known of this backend */
    int64_t turn;          /* of server_choose */
};

/* One per generation and backend_conf: idle connections, who waits for one, health checks. */
struct pool {
    struct worker *worker;
    struct generation *generation;
    const struct backend_conf *conf;
    struct pooled_server *servers; /* [conf->nservers] */
    struct backend *resetting;
    struct backend *queue;         /* QUEUED: longest first */
    uint32_t nidle;
    struct capabilities can;       /* of all servers that are up; as of `version` */
    unsigned version;
    bool known;                    /* can is worth something */
    bool open;                     /* its servers are checked */
    bool checked;                  /* each has answered or failed once, or that took too long */
    uint64_t first_checks_by;      /* the first checks: nobody waits for them any longer than that */
    struct task task;
    struct alarm alarm;
    struct task **waiting;         /* sessions whose EHLO waits for the first checks */
    size_t nwaiting, waiting_room;
};
struct pool *pool_of(struct generation *, const struct backend_conf *);
void pool_close(struct pool **);
/* An idle connection that is still good, or a fresh dial, or one that is QUEUED until another is given back; one that is BROKEN
 * already when no server is up. fresh: never an idle one. Never NULL. */
struct backend *pool_take(struct pool *, struct delivery *, bool fresh);
void pool_leave(struct backend **, bool clean); /* clean: to IDLE; else RSET is said, and its answer awaited, first */
/* delivery->backend broke before it was READY, so it has heard nothing: true when another server is dialled in its place. Each
 * server is tried once, and none after twice timeouts.connect has passed since the first. */
bool pool_again(struct delivery *);
bool pool_has_other(struct pool *, const struct delivery *, const struct pooled_server *); /* that could be tried instead */
void pool_freed(struct pool *);   /* a connection has closed: whoever waits for one may dial */
void pool_idle(struct backend *); /* READY and nobody's: kept if there is room for it, else left with QUIT */
void pool_unqueue(struct backend *);
void pool_unuse(struct backend *);

/* health.c: what its servers can, and whether they are up. */
void pool_open(struct pool *);                /* they are checked from now on, each by one worker at a time */
void health_turn(struct pool *);
void health_give_up(struct pooled_server *);            /* another worker may check instead */
uint64_t health_clock(const struct pool *);     /* when it wants its next turn; 0: never */
bool pool_wait(struct pool *, struct task *); /* false: no need to wait, each has been checked once */
void pool_forget(struct pool *, struct task *);
const struct capabilities *pool_can(struct pool *);  /* what each server that is up can; none of them known: nothing */

#endif
