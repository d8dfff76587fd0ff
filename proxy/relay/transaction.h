/* transaction.h - one envelope and its content, from MAIL that passed CHECK to transaction_reset (engine.md A5).
 *
 * The rcpts are the queue of replies: `told` of them have left, in order. Debts of the backend name (serial, index). */
#ifndef RELAY_TRANSACTION_H
#define RELAY_TRANSACTION_H
#include "relay/flow.h"
#include "wire/params.h"
#include "wire/path.h"

struct session;

enum rcpt_fate { FATE_HELD, FATE_PASSED, FATE_ASKED, FATE_ACCEPTED, FATE_REFUSED };
struct rcpt {
    struct path path;
    struct params params;
    struct reply reply;     /* code 0: not yet final */
    enum rcpt_fate fate;
    bool discarded;         /* 250, and left out of the envelope */
    bool dropped;           /* by a filter, after it was accepted */
    bool rewritten;         /* set_rcpt after it was asked: the envelope must be said anew */
    bool hooked;            /* the reply hook has run */
};
/* Recipients that filters added: no reply of the client's is owed for them. */
struct added { struct added *next; struct path path; struct params params; struct str by; bool must, said, accepted, dropped; };

enum transaction_end { END_NONE, END_FORWARDED, END_REJECTED, END_DEFERRED, END_DISCARDED, END_QUARANTINED, END_ABORTED,
                       END_UNCERTAIN };
const char *transaction_end_name(enum transaction_end);

struct transaction {
    unsigned magic;
    uint32_t number;        /* in the session, from 1 */
    uint64_t serial;
    struct arena arena;
    struct path reverse_path;
    struct params params;
    struct rcpt *rcpts;
    uint32_t nrcpts, room, told, accepted, commands;
    struct added *added;
    struct reply mail_reply;    /* the backend's, of MAIL; code 0: not yet */
    struct reply backend_failed; /* the backend cannot be had: what every further RCPT hears */
    struct reply failed;        /* the envelope could not be said anew: what DATA or the end hears */
    struct reply refusal;       /* of the content: told at its strict end */
    struct reply data_reply;    /* of the backend; code 0: not yet */
    struct reply end_reply;     /* what the client heard at the end, for the log */
    const struct backend_conf *route; /* where it goes */
    struct headers headers;
    struct flow flow;
    enum say say;
    bool sink;              /* content is read and dropped up to its strict end */
    bool discard, quarantined, passed;
    bool asked;             /* MAIL was said to the backend at hand */
    bool answered;          /* and it has answered something of it */
    bool need_anew, anew_spent, envelope_changed;
    bool data_joined;
    bool left;              /* client left amid content */
    uint32_t again_owed;    /* debts of an envelope said anew */
    uint64_t end_at;        /* loop_now of the client's end of mail data; 0: not yet */
    uint64_t end_by;        /* after it ours is not said any more */
    /* for the log */
    struct str verdict_by, verdict_stage, verdict_why;
    enum transaction_end end;
    double score;
    struct note *notes;
    uint64_t started, filter_micros, data_at, data_done, backend_micros, release_at;
    struct str queue_id, backend_server;
    uint32_t edits;
};
enum { TRANSACTION_MAGIC = 0x7A5AC7u };

struct note { struct note *next; bool session; struct str name, value; };

struct transaction *transaction_start(struct session *);
/* The one end of a transaction: filters hear RESET, the line is logged, the backend is left, the arena goes. */
void transaction_reset(struct session *, enum transaction_end);
struct rcpt *transaction_rcpt(struct transaction *); /* a new one, HELD */
bool transaction_is_settled(const struct transaction *);
/* Refuses the content: the reply is kept (the first one), what comes is dropped up to the strict end. */
void transaction_refuse(struct session *, const struct reply *);
struct reply reply_keep(struct arena *, const struct reply *);

/* envelope.c: the back. */
void envelope_settle(struct session *);     /* takes backend replies, applies each, tells rcpts */
void envelope_ask(struct session *, uint32_t rcpt); /* a rcpt has passed its filters: MAIL first if unsaid */
void envelope_data(struct session *);       /* says DATA */
/* Says MAIL and every accepted rcpt again, in one write, on a clean connection to tx->route. */
void envelope_anew(struct session *);
void envelope_add(struct session *);        /* says RCPT for added ones only; the envelope at hand stands */
bool envelope_is_pending(const struct transaction *); /* anew or additions needed before DATA */
enum leave { LEAVE_CLEAN, LEAVE_ENVELOPE, LEAVE_CONTENT };
void envelope_leave(struct session *, enum leave); /* the backend goes to the pool, is washed, or closed */
uint64_t envelope_clock(const struct session *);
#endif
