/* transaction.h - one envelope and its content, from MAIL that passed CHECK to transaction_reset (engine.md A5).
 *
 * The rcpts are the queue of replies: `told` of them have left, in order. Debts of the backend name (serial, index). */
#ifndef SMTP_FRONT_TRANSACTION_H
#define SMTP_FRONT_TRANSACTION_H
#include "mail/flow.h"
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
    bool routed;            /* a filter said where it goes */
    enum author { BY_BACKEND, BY_FILTER, BY_ROUTE, BY_LIMIT, BY_SYNTAX } by; /* of a refusal */
    const struct filter *filter; /* BY_FILTER: which, and why */
    struct str why;
};
/* Recipients that filters added: no reply of the client's is owed for them. */
struct added { struct added *next; struct path path; struct params params; struct str by; bool must, said, accepted, dropped; };

struct queued_field { struct queued_field *next; bool top; struct str name, value; }; /* added before the headers stage */

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
    struct queued_field *queued;
    struct reply mail_reply;    /* the backend's, of MAIL; code 0: not yet */
    struct reply backend_failed; /* the backend cannot be had: what every further RCPT hears */
    struct reply failed;        /* the envelope could not be said anew: what DATA or the end hears */
    struct reply refusal;       /* of the content: told at its strict end */
    struct reply data_reply;    /* of the backend; code 0: not yet */
    struct reply chunk_refused; /* by the backend, when all had been said: what its last reply means */
    struct reply data_refused;  /* what DATA heard last, when that was a refusal, for the log */
    struct reply end_reply;     /* what the client heard at the end, for the log */
    const struct backend_conf *route; /* where it goes */
    const struct backend_conf *home;  /* where rcpts go of whom neither the listener's route nor a filter says more */
    struct lmtp *lmtp;          /* what it said for each rcpt; NULL: it speaks SMTP */
    bool routed;            /* by a filter's word: the listener's route is not asked */
    bool unroutable;        /* the listener's route leads this sender nowhere */
    struct headers headers;
    struct flow flow;
    enum say say;
    bool sink;              /* content is read and dropped up to its strict end */
    bool discard, quarantined, passed;
    bool refusal_told;      /* at the end of the chunk of BDAT in which it was refused */
    bool limited;           /* refused by a limit of ours: no word of the backend */
    bool asked;             /* MAIL was said to the backend at hand */
    bool answered;          /* and it has answered something of it */
    bool need_anew;         /* the envelope at the backend is not (any more) the one we have: say it anew before DATA */
    bool anew_spent;        /* once per transaction after a loss */
    bool saying_again;      /* the next words are the envelope anew */
    uint32_t discarded;     /* rcpts left out by filters: they count as accepted for the client */
    uint32_t losses;
    bool left;              /* client left amid content */
    uint32_t again_owed;    /* debts of an envelope said anew */
    uint32_t again_next;    /* the rcpt to be said anew next */
    uint64_t end_at;        /* loop_now of the client's end of mail data; 0: not yet */
    uint64_t end_by;        /* after it ours is not said any more */
    /* for the log */
    struct str verdict_by, verdict_stage, verdict_why;
    enum transaction_end end;
    double score;
    struct note *notes;
    uint32_t refused;       /* refused recipients; the first 100 have a log line each */
    uint64_t started, data_at, data_done, backend_micros, release_at;
    uint64_t filter_run, filter_waited; /* microseconds */
    struct str queue_id, backend_server;
    uint32_t edits;
};
enum { TRANSACTION_MAGIC = 0x7A5AC7u };

struct note { struct note *next; bool session; struct str name, value; char *space; size_t room; };

struct transaction *transaction_start(struct session *, struct arena *); /* takes over what is in the arena */
/* The one end of a transaction: filters hear RESET, the line is logged, the backend is left, the arena goes. */
void transaction_reset(struct session *, enum transaction_end);
struct rcpt *transaction_rcpt(struct transaction *); /* a new one, HELD */
bool transaction_is_settled(const struct transaction *);
/* Refuses the content: the reply is kept (the first one), what comes is dropped up to the strict end. */
void transaction_refuse(struct session *, const struct reply *);
void transaction_told(struct transaction *); /* of its refusal, before the end of content */
enum transaction_end transaction_end_of(const struct reply *);
struct reply reply_keep(struct arena *, const struct reply *);
#endif
