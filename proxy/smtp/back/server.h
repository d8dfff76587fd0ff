/* server.h - what is known of one server of a backend: up or down, what its last EHLO said, who is connected to it.
 *
 * One for the whole process, shared by all workers and all generations of the configuration: it is found by its address and by
 * how we speak to it, so a reload forgets nothing. Counters are atomic; what an EHLO said and the streaks of checks stand behind
 * one lock that is taken when a connection becomes ready or fails, never by a command or an octet. Knows no conversation.
 *
 * Cache lines are kept apart by who writes them: what every message reads is written only when something changes, what dials
 * write stands elsewhere, and what every message writes is the worker's own. */
#ifndef SMTP_BACK_SERVER_H
#define SMTP_BACK_SERVER_H
#include "smtp/model.h"
#include "wire/extension.h"
#include <pthread.h>
#include <stdatomic.h>

struct server {
    struct server *next;           /* in the register */
    char *key;
    uint32_t holders;              /* under the register's lock */
    unsigned workers;              /* length of tallies; never changes */
    atomic_uint wanted;            /* sessions of all workers that wait for a connection */
    atomic_bool up;                /* true until it has failed `fall` times in a row */
    atomic_bool checked;           /* it has answered or failed once */
    alignas(CACHE_LINE) atomic_uint connections; /* open, of all workers, idle ones too; not those whose QUIT is under way */
    _Atomic uint64_t next_check;   /* loop_now */
    pthread_mutex_t lock;          /* of what follows */
    uint32_t good, bad;            /* in a row */
    bool known;
    struct capabilities can;       /* of the last EHLO; copied as it is */
    char why[160];                 /* of its last failure; "": it has not failed since it was ready */
    struct tally { alignas(CACHE_LINE) atomic_uint in_use; } tallies[]; /* of the connections, by worker: held by a session */
};

/* The server of this place, made when it is not known yet. Each hold needs its drop. workers: how many run; the same each time. */
struct server *server_hold(const struct backend_conf *, const struct server_conf *, unsigned workers);
void server_drop(struct server **);
void servers_forget(void); /* at the end of the process: nobody holds any */
/* A number that is another one whenever some server has gone up or down, was first checked, or can other things than before. */
unsigned servers_version(void);

/* The server greeted us well. `can`: what its EHLO said, or NULL when it was said to a client that PROXY or XCLIENT had named, and is not
 * for all.
 * `now`: loop_now; decides when it is checked next. Logged when the server comes back. */
void server_succeeded(struct server *, const struct backend_conf *, const struct capabilities *can, uint64_t now);
/* The server refused, did not answer or spoke nonsense before it was ready. Logged when this takes it down. */
void server_failed(struct server *, const struct backend_conf *, const char *why, uint64_t now);
/* True for one caller of all when a check is due: it has until `by` to say how it went, then others may. */
bool server_claim_check(struct server *, uint64_t now, uint64_t by);
void server_check_soon(struct server *, uint64_t now); /* a session wants this server, and it is down */
void server_why(struct server *, char *text, size_t room); /* why its last dial or check failed; "": it did not */
bool server_is_known(struct server *, struct capabilities *can); /* true: an EHLO has been answered, and *can is what it said */

/* Before a dial: false when `most` (0: any number) connections are there already. Each true needs its leave. */
bool server_enter(struct server *, uint32_t most);
void server_leave(struct server *);
/* A session of this worker holds a connection (use), holds it no longer (unuse); called in that worker's thread. server_in_use: of all
 * workers. */
void server_use(struct server *, unsigned worker);
void server_unuse(struct server *, unsigned worker);
unsigned server_in_use(const struct server *);

/* Which of several is next. */
struct candidate {
    bool usable;      /* may be taken at all: not tried before, not full */
    bool up, backup;
    uint32_t weight, in_use;
    int64_t *turn;    /* private to server_choose; kept by the caller, 0 at first */
};
/* Its index, or -1: none is usable and up. Backups only when no other is up (usable or not). LEAST_CONNECTIONS: the fewest in
 * use for its weight, those that are equal by turns; ROUND_ROBIN: by turns, as often as its weight says, spread evenly. */
int server_choose(const struct candidate *, size_t n, enum balance);
#endif
