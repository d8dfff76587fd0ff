/* backend.h - one connection to the next hop: its own steps, what it owes us, what is still to be said.
 *
 * What is said before READY, or to a peer without PIPELINING, waits inside and leaves in order; the front never asks which. */
#ifndef SMTP_BACK_BACKEND_H
#define SMTP_BACK_BACKEND_H
#include "smtp/back/delivery.h"
#include "smtp/back/pool.h"
#include "smtp/worker.h"
#include "wire/extension.h"

/* Up to READY the handshake. QUEUED: there is no connection yet, one must end first. NAMING: the client's name is looked up for XCLIENT. RESET:
 * RSET was said, nobody holds it. IDLE: in the pool. BROKEN: of no use any more, see failure. */
enum backend_step { BACKEND_QUEUED, BACKEND_DIAL, BACKEND_BANNER, BACKEND_EHLO, BACKEND_HELO, BACKEND_STARTTLS, BACKEND_TLS, BACKEND_NAMING,
                    BACKEND_XCLIENT, BACKEND_READY, BACKEND_RESET, BACKEND_IDLE, BACKEND_BROKEN };
/* Which command a reply answers. END: the end of mail data (also BDAT LAST). AGAIN: the envelope said anew. ADDED: a recipient that a filter
 * added. */
enum expect { EXPECT_RSET, EXPECT_XFORWARD, EXPECT_MAIL, EXPECT_RCPT, EXPECT_DATA, EXPECT_CHUNK, EXPECT_END, EXPECT_MAIL_AGAIN, EXPECT_RCPT_AGAIN,
                 EXPECT_RCPT_ADDED, EXPECT_AUTH };
/* what: enum expect. length: octets of the command, while it is unsaid. rcpt: of RCPT, its index. serial: of the message; 0: none. */
struct expected { uint8_t what; uint16_t length; uint32_t rcpt; uint64_t serial; };
enum { EXPECTED_MOST = 128, BACKEND_MAGIC = 0xBACE0Du };

struct pooled_server;
struct backend {
    unsigned magic;
    enum backend_step step;
    struct worker *worker;
    struct pool *pool;
    const struct backend_conf *conf;
    struct pooled_server *at;    /* which server; NULL while QUEUED, or when there was none to dial */
    struct task task;
    struct alarm alarm;
    struct stream *stream;       /* NULL while QUEUED and when BROKEN */
    struct capabilities can;
    struct delivery *delivery;   /* the one that holds it; NULL while RESET or IDLE, and in a health check */
    struct backend *next, *prev; /* in a list of the pool */
    struct expected asked[EXPECTED_MOST];
    uint8_t first, count, sent;  /* `asked` is a ring: count replies are owed; the first `sent` commands have left */
    struct pipe unsaid;          /* commands that have not left */
    uint64_t deadline;           /* of the step, or of the head of asked; 0: none */
    uint64_t written_mark;       /* octets of the stream that had been taken when the deadline of content was set */
    uint64_t born, idle_since;
    uint64_t heard;              /* loop_now of its last reply */
    uint32_t uses;
    uint8_t xclient_parts;       /* of XCLIENT, said so far */
    bool xclient_more;           /* another line of it is to follow */
    bool entered, in_use;        /* server_enter, and server_use, are to be undone */
    bool pooled;                 /* came from the pool for the transaction at hand */
    bool bound;                  /* the server was told this client's identity: it serves no other session */
    bool said_xclient, helo_only, slow;
    uint64_t hurry_by;           /* a health check, or another server is left: its steps up to READY have until then; 0: their own time */
    bool was_ready;              /* it has been READY once */
    bool blameless;              /* it broke before READY because it refused the client or had no room: its server is not counted as failing */
    bool closing;                /* it said 421 */
    enum reply_name failure;     /* BROKEN: the reply that clients hear */
    struct reply refusal;        /* the server refused this client before READY: the client hears it in these words; code 0: none */
    struct str broke;            /* BROKEN: why, for the log */
    struct arena arena;          /* of the handshake */
};

/* Dials this server; delivery NULL: for a health check. Never NULL: what cannot be dialled is BROKEN. */
struct backend *backend_dial(struct pool *, struct pooled_server *, struct delivery *);
struct backend *backend_new(struct pool *, struct delivery *); /* without a server: the caller queues it, or breaks it */
void backend_step_to(struct backend *, enum backend_step, uint64_t timeout); /* milliseconds; 0: no deadline */
void backend_close(struct backend **); /* with QUIT where one may be said, else as backend_abort. Frees it, nulls; NULL is fine */
void backend_abort(struct backend **); /* at once, without QUIT */
/* Text of a command goes into backend_words, then backend_say records what is owed for it. */
struct pipe *backend_words(struct backend *);
void backend_say(struct backend *, enum expect, uint64_t serial, uint32_t rcpt);
/* What was written to the stream without words of ours (the end of mail data) is owed a reply too. */
void backend_owe(struct backend *, enum expect, uint64_t serial);
/* Its own steps up to READY; call it first in each turn. */
void backend_turn(struct backend *);
/* A complete reply to the head of what it owes. NONE: not yet. UNASKED: a reply although nothing is owed. BROKEN: see failure. */
enum backend_took { TOOK_NONE, TOOK_REPLY, TOOK_UNASKED, TOOK_BROKEN };
enum backend_took backend_reply(struct backend *, struct arena *, struct expected *, struct reply *);
void backend_flush(struct backend *);
void backend_break(struct backend *, enum reply_name why, const char *log); /* BROKEN: the connection is closed; why: see failure */
uint64_t backend_timeout(const struct backend *, enum expect); /* milliseconds that a reply to it is awaited */

/* maildir.c: the embedded backend. A connected descriptor to it, or -1. */
int maildir_dial(const struct backend_conf *);
void maildir_stop(void); /* after all workers have ended */
#endif
