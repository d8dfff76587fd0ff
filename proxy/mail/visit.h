/* visit.h - hooks over the row of filters: who is called, in which order, and what comes of the verdict (DESIGN 9; engine.md
 * A15, A16; contract.md 2). One call at a time; a suspended one is a stage that takes nothing. */
#ifndef MAIL_VISIT_H
#define MAIL_VISIT_H
#include "mail/model.h"
#include "mail/flow.h"
#include "wire/reply.h"

struct session;
struct filter_call;

struct slot { /* one filter's life in one session */
    void *session_memory, *transaction_memory;
    bool called, called_tx;      /* for DISCONNECT, RESET */
    bool skip, skip_tx;
    size_t added;                /* octets to the header section, in this transaction */
    uint64_t waited;             /* microseconds that its calls were suspended: since the session began, or the last transaction ended */
    bool edited;                 /* in this transaction: from now on it fails closed */
    unsigned lessen, lessen_tx;  /* stages taken away (bits set: not called) */
    unsigned flags_less, flags_less_tx;
    struct filter_stream *streams; /* dialled, of session or transaction life */
};

struct verdict {
    enum filter_verdict kind;    /* CONTINUE, or one of REJECT DEFER DROP DISCARD QUARANTINE (REWORD for reply hooks) */
    struct reply reply;          /* of REJECT, DEFER, DROP, REWORD; in the transaction's (else line's) arena */
    const struct filter *by;
    struct str why;
};
struct run { /* one stage on its way over the chain */
    enum filter_stage stage;
    uint16_t at, end;
    bool active;
    struct filter_call *call;    /* suspended */
    struct verdict verdict;
};

enum say chain_say(const struct chain *);
const char *chain_say_name(const struct chain *); /* for check --explain */
bool chain_has(const struct chain *, enum filter_stage);
bool chain_is_binary_safe(const struct chain *); /* whoever sees content may see BINARYMIME */
uint16_t chain_passes(const struct chain *);
uint16_t chain_pass_end(const struct chain *, uint16_t pass); /* index behind the last filter of the pass */

/* Starts a stage over filters [first, end); then chain_turn until it says true: s->run.verdict is the outcome. */
void chain_start(struct session *, enum filter_stage, uint16_t first, uint16_t end);
bool chain_turn(struct session *);
void chain_note(struct session *); /* in the transaction, for the log: who decided, where and why */
void chain_stop(struct session *, enum filter_cancel); /* cancels the call at hand */
uint64_t chain_clock(const struct session *);          /* deadline of the call at hand; 0: none */
/* Stages that cannot wait. REPLY may reword *reply: a 2yz stays one, a refusal a refusal. */
void chain_reply(struct session *, enum filter_stage of, struct reply *, uint32_t rcpt);
void chain_reset(struct session *);
void chain_forget_waits(struct session *); /* the line of the transaction has told them */
void chain_disconnect(struct session *);
void chain_again(struct session *); /* another client speaks on this connection: filters hear DISCONNECT and begin anew */
struct slot *chain_slot(struct session *, const struct filter *);
#endif
