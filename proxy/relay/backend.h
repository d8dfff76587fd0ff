/* backend.h - one connection to the next hop: its own steps, what it owes us, what is still to be said (engine.md A11, C).
 *
 * What is said before READY, or to a peer without PIPELINING, waits inside and leaves in order; the front never asks which. */
#ifndef RELAY_BACKEND_H
#define RELAY_BACKEND_H
#include "relay/worker.h"
#include "wire/extension.h"

enum backend_step { BACKEND_DIAL, BACKEND_BANNER, BACKEND_EHLO, BACKEND_HELO, BACKEND_STARTTLS, BACKEND_TLS, BACKEND_NAMING, BACKEND_XCLIENT,
                    BACKEND_READY, BACKEND_WASH, BACKEND_IDLE, BACKEND_BROKEN };
enum debt_what { DEBT_RSET, DEBT_MAIL, DEBT_RCPT, DEBT_DATA, DEBT_CHUNK, DEBT_END, DEBT_MAIL_AGAIN, DEBT_RCPT_AGAIN,
                 DEBT_RCPT_ADDED, DEBT_AUTH };
struct debt { uint8_t what; uint16_t length; uint32_t rcpt; uint64_t serial; };
enum { DEBTS = 128, UNTOLD_MOST = 64, BACKEND_MAGIC = 0xBACE0Du };

struct backend {
    unsigned magic;
    enum backend_step step;
    struct worker *worker;
    struct pool *pool;
    const struct backend_conf *conf;
    struct task task;
    struct alarm alarm;
    struct stream *stream;
    struct capabilities can;
    struct session *session;     /* none while WASH or IDLE, or probing */
    struct backend *next, *prev; /* in the pool */
    struct debt asked[DEBTS];
    uint8_t first, count, sent;  /* count owed; the first `sent` of them have left */
    struct pipe unsaid;
    uint64_t deadline;           /* of the step, or of the head of asked; 0: none */
    uint64_t written_mark;       /* octets of the stream that had been taken when the deadline of content was set */
    uint64_t born, idle_since;
    uint32_t uses;
    bool pooled;                 /* came from the pool for the transaction at hand */
    bool bound;                  /* by identity, to its session */
    bool said_xclient, helo_only, slow;
    bool was_ready;              /* it has been READY once */
    bool closing;                /* it said 421 */
    struct reply failure;        /* BROKEN: what a client hears of it */
    struct arena arena;          /* of the handshake */
};

/* One per generation and backend_conf: idle connections, and what the last EHLO said. */
struct pool {
    struct worker *worker;
    struct generation *generation;
    const struct backend_conf *conf;
    struct backend *idle;
    struct backend *washing;
    uint32_t nidle;
    struct backend *probe;
    struct capabilities can;
    bool known;                  /* can is worth something */
    bool probed;                 /* the first probe has ended, one way or the other */
    struct task task;
    struct alarm alarm;
    struct task **waiting;       /* sessions whose EHLO waits for the first probe */
    size_t nwaiting, waiting_room;
};
struct pool *pool_of(struct generation *, const struct backend_conf *);
void pool_open(struct pool *);      /* probes */
void pool_take_over(struct pool *, const struct pool *old); /* what is known of the same backend: no session need wait again */
void pool_close(struct pool **);
bool pool_wait(struct pool *, struct task *); /* false: no need to wait, the first probe has ended */
void pool_forget(struct pool *, struct task *);
/* An idle connection that is still good, or a fresh dial. fresh: never an idle one. */
struct backend *pool_take(struct pool *, struct session *, bool fresh);
void pool_leave(struct backend **, bool clean); /* clean: to IDLE; else washed by RSET */

struct backend *backend_dial(struct pool *, struct session *);
void backend_close(struct backend **); /* with QUIT where one may be said; never amid content: transactions leave first */
void backend_abort(struct backend **);
/* Text of a command goes into backend_words, then backend_say records what is owed for it. */
struct pipe *backend_words(struct backend *);
void backend_say(struct backend *, enum debt_what, uint64_t serial, uint32_t rcpt);
/* What was written to the stream without words of ours (the end of mail data) is owed a reply too. */
void backend_owe(struct backend *, enum debt_what, uint64_t serial);
/* Its own steps up to READY; call it first in each turn. */
void backend_turn(struct backend *);
/* A complete reply to the head of what it owes. NONE: not yet. UNASKED: a reply although nothing is owed. BROKEN: see failure. */
enum backend_took { TOOK_NONE, TOOK_REPLY, TOOK_UNASKED, TOOK_BROKEN };
enum backend_took backend_reply(struct backend *, struct arena *, struct debt *, struct reply *);
void backend_flush(struct backend *);
void backend_break(struct backend *, enum reply_name why, const char *log);
uint64_t backend_timeout(const struct backend *, enum debt_what);

/* maildir.c: the embedded backend. A connected descriptor to it, or -1. */
int maildir_dial(const struct backend_conf *);
void maildir_stop(void); /* after all workers have ended */
#endif
