/* pool.h - the idle connections to one backend in one worker, the queue for a connection, and what the backend's servers can. */
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
    struct backend *check; /* a health check under way; NULL: none */
    bool first_check;      /* that check began before anything was known of this backend */
    int64_t turn;          /* of server_choose */
};

/* One per generation and backend_conf. */
struct pool {
    struct worker *worker;
    struct generation *generation;
    const struct backend_conf *conf;
    struct pooled_server *servers; /* [conf->nservers] */
    struct backend *resetting;     /* list: RSET was said */
    struct backend *queue;         /* list: QUEUED, the one that waits longest first */
    uint32_t nidle;
    struct capabilities can;       /* of all servers that are up; as of `version` */
    unsigned version;
    bool known;                    /* some server has said what it can: `can` holds */
    bool open;                     /* its servers are checked */
    bool checked;                  /* each has answered or failed once, or that took too long */
    uint64_t first_checks_by;      /* loop_now: no EHLO waits for the first checks longer than that */
    struct task task;
    struct alarm alarm;
    struct task **waiting;         /* sessions whose EHLO waits for the first checks */
    size_t nwaiting, waiting_room;
};
struct pool *pool_of(struct generation *, const struct backend_conf *); /* made at first use, owned by the generation */
void pool_close(struct pool **);
/* An idle connection that is still good, or a fresh dial, or one that is QUEUED until another is given back; one that is BROKEN
 * already when no server is up. fresh: never an idle one. Never NULL. */
struct backend *pool_take(struct pool *, struct delivery *, bool fresh);
/* Gives it back, nulls. clean: it is IDLE at once; else when RSET is answered. One that cannot be kept (pool = 0, bound, 421) is closed. */
void pool_leave(struct backend **, bool clean);
/* delivery->backend broke before it was READY, so it has heard nothing: true when another server is dialled in its place. Each
 * server is tried once, and none after twice timeouts.connect has passed since the first. */
bool pool_again(struct delivery *);
bool pool_has_other(struct pool *, const struct delivery *, const struct pooled_server *); /* another server could be tried in its place */
void pool_freed(struct pool *);   /* a connection has closed: the first of the queue may dial */
void pool_idle(struct backend *); /* READY, and no delivery holds it: kept if there is room for it, else closed with QUIT */
void pool_unqueue(struct backend *); /* it waits no longer */
void pool_unuse(struct backend *);   /* no session holds it: server_unuse, once */

/* health.c: what its servers can, and whether they are up. */
void pool_open(struct pool *);                /* its servers are checked from now on, each by one worker at a time */
void health_turn(struct pool *);
void health_give_up(struct pooled_server *);            /* drops a check under way: another worker may check instead */
uint64_t health_clock(const struct pool *);     /* loop_now of its next turn; 0: none is due */
bool pool_wait(struct pool *, struct task *); /* true: the task is woken when each server has been checked once. False: that is so already */
void pool_forget(struct pool *, struct task *); /* the task waits no longer */
const struct capabilities *pool_can(struct pool *); /* what the servers that are up have in common; if none is, all known ones. Until the next call */

#endif
