/* transaction.h - one envelope and its content, from MAIL that passed CHECK to transaction_reset (engine.md A5).
 *
 * The rcpts are the queue of replies: `told` of them have left, in order. Debts of the backend name (serial, index). */
#ifndef SMTP_FRONT_TRANSACTION_H
#define SMTP_FRONT_TRANSACTION_H
#include "mail/message.h"

struct session;

struct transaction {
    struct message message; /* the first member */
    unsigned magic;
    uint32_t told;          /* rcpts before this index have been told, or are owed no reply */
    uint32_t told_named;    /* of those the client named, so many have been told */
    uint32_t commands;
    struct reply mail_reply;    /* the backend's, of MAIL; code 0: not yet */
    struct reply backend_failed; /* the backend cannot be had: what every further RCPT hears */
    struct reply failed;        /* the envelope could not be said anew: what DATA or the end hears */
    struct reply data_reply;    /* of the backend; code 0: not yet */
    struct reply chunk_refused; /* by the backend, when all had been said: what its last reply means */
    const struct backend_conf *route; /* where it goes */
    const struct backend_conf *default_route; /* for recipients that neither the listener's table nor a filter routes */
    struct lmtp *lmtp;          /* what it said for each rcpt; NULL: it speaks SMTP */
    bool routed;            /* by a filter's word: the listener's route is not asked */
    bool unroutable;        /* the listener's route leads this sender nowhere */
    bool refusal_told;      /* at the end of the chunk of BDAT in which it was refused */
    bool asked;             /* MAIL was said to the backend at hand */
    bool answered;          /* and it has answered something of it */
    bool need_anew;         /* the envelope at the backend is not (any more) the one we have: say it anew before DATA */
    bool anew_spent;        /* once per transaction after a loss */
    bool saying_again;      /* the next words are the envelope anew */
    uint32_t losses;
    uint32_t again_owed;    /* debts of an envelope said anew */
    uint32_t again_next;    /* the rcpt to be said anew next */
    uint64_t release_at;    /* loop_micros: our end was said */
    struct decoder decoder; /* of the content that the client sends */
    bool stalled;           /* the client waits for us: a pipe is full, or a filter has not answered */
    bool paused;            /* the worker's memory is short: nothing is read for now */
    uint64_t paused_at;     /* since when; 0: it is not */
    struct str queue_id, backend_server;
};
enum { TRANSACTION_MAGIC = 0x7A5AC7u };

struct transaction *transaction_start(struct session *, struct arena *); /* takes over what is in the arena */
/* The one end of a transaction: filters hear RESET, the line is logged, the backend is left, the arena goes. */
void transaction_reset(struct session *, enum transaction_end);
static inline struct transaction *transaction_of(struct message *m)
{
    return (struct transaction *)m; /* its first member */
}
bool transaction_is_settled(const struct transaction *);
void transaction_told(struct transaction *); /* of its refusal, before the end of content */
#endif
