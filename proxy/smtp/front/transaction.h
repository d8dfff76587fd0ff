/* transaction.h - one envelope and its content, from a MAIL without a mistake to transaction_reset.
 *
 * The rcpts are the queue of replies: `told` of them have left, in order. */
#ifndef SMTP_FRONT_TRANSACTION_H
#define SMTP_FRONT_TRANSACTION_H
#include "mail/message.h"

struct session;

struct transaction {
    struct message message; /* the first member */
    unsigned magic;
    uint32_t told;          /* rcpts before this index have been told, or are owed no reply */
    uint32_t told_named;    /* of those the client named, so many have been told */
    uint32_t commands;      /* RCPT commands, refused ones too: bounded by limits.rcpt_commands */
    bool refusal_told;      /* the client has heard it, at the end of the BDAT chunk in which the content was refused */
    struct decoder decoder; /* of the content that the client sends */
    bool stalled;           /* the client waits for us: a pipe is full, or a filter has not answered */
    uint64_t paused_at;     /* loop_now: since then the worker's memory is short and nothing is read; 0: it is read */
};
enum { UNTOLD_MOST = 64 };   /* RCPTs without a reply yet, at most: the next line is read when there are fewer */
enum { TRANSACTION_MAGIC = 0x7A5AC7u };

struct transaction *transaction_start(struct session *, struct arena *); /* the transaction becomes s->tx, and takes over what is in the arena */
/* The one end of a transaction: filters hear RESET, the line is logged, the backend is left, the arena goes. */
void transaction_reset(struct session *, enum transaction_end);
static inline struct transaction *transaction_of(struct message *m)
{
    return (struct transaction *)m; /* its first member */
}
bool transaction_is_settled(const struct transaction *); /* every rcpt that the client named has been told */
/* The replies of rcpts that are final leave, in order. */
void transaction_tell(struct session *);
void transaction_told(struct transaction *); /* the client has heard the refusal before its end of content: sets refusal_told */
#endif
