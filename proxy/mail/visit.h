/* visit.h - hooks over the row of filters: who is called, in which order, and what comes of the verdict.
 * One call at a time; while a call is suspended its stage takes no content. */
#ifndef MAIL_VISIT_H
#define MAIL_VISIT_H
#include "mail/client.h"
#include "mail/filter_set.h"
#include "mail/message.h"
#include "wire/reply.h"

struct outlet;
struct filter_call;
struct trace;

struct slot { /* one filter's life in one session */
    void *session_memory, *transaction_memory;
    bool called, called_tx;      /* in this session, in this transaction: it is owed DISCONNECT, RESET */
    bool skip, skip_tx;          /* it said SKIP: no more calls in this session, in this transaction */
    size_t added;                /* octets to the header section, in this transaction */
    uint64_t waited_us;          /* that its calls were suspended: since the session began, or the last transaction ended */
    bool edited;                 /* in this transaction: when it fails from now on, on_error = "continue" is DEFER */
    unsigned lessen, lessen_tx;  /* stages taken away (bits set: not called) */
    unsigned flags_less, flags_less_tx; /* the same of flags */
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

enum data_when chain_data_when(const struct chain *);
const char *chain_data_when_name(const struct chain *); /* for check --explain */
bool chain_has(const struct chain *, enum filter_stage);
bool chain_is_binary_safe(const struct chain *); /* each filter that sees content declares FILTER_BINARY_SAFE */
uint16_t chain_passes(const struct chain *);
uint16_t chain_pass_end(const struct chain *, uint16_t pass); /* index behind the last filter of the pass */

struct subject { /* of the question: what is not yet known of the client or the message */
    struct str helo;  /* the name that EHLO or HELO says */
    bool ehlo;        /* it is EHLO */
    uint32_t rcpt;    /* the recipient in hand */
};

/* One client's stay with one chain. A front embeds it. */
struct visit {
    uint64_t serial;                /* never used twice in its worker */
    char id[16];                    /* in the log, stable for the life of the visit */
    struct filter_set *filters;
    const struct visit_conf *conf;
    struct client *client;          /* who sends: for one message XFORWARD points it at another client */
    struct outlet *outlet;          /* where messages go */
    struct message *message;         /* NULL between messages */
    struct task *task;              /* the owner's: woken when a suspended call may go on */
    struct arena *life, *scratch;   /* scratch: reset by the owner before the next question */
    struct slot *slots;             /* per filter of the chain; made at the first hook */
    struct run run;
    struct subject subject;
    struct note *notes;
    bool passed;                    /* PASS before MAIL: no filter sees this client any more */
    bool esmtp;                     /* the dialogue is: EHLO was said */
    uint32_t messages, errors;
    int64_t started_wall_us;        /* since 1970 */
    struct trace *trace;            /* the listener (mail/trace.h); NULL: none */
};

/* Looks up the client's name, once, when a backend is to be told it. visit_has_looked_up: true when the state is final. */
static inline void visit_look_up(struct visit *v)
{
    rdns_start(v->client, v->filters->dns, v->task);
}
static inline bool visit_has_looked_up(struct visit *v)
{
    return rdns_is_done(v->client, v->filters->dns, v->task);
}
/* Gives it its id: twelve letters, unique on this machine. Its serial and started_wall are there. */
void visit_name(struct visit *);
/* Whether a filter is still to be called at a stage of this message or visit, as things stand now. */
bool visit_wants(struct visit *, enum filter_stage);
/* Begins a stage over the whole chain. Then call visit_turn, again whenever v->task is woken, until it returns true: v->run.verdict is the
 * outcome. False: a filter waits. */
void visit_ask(struct visit *, enum filter_stage, struct subject);
void visit_run(struct visit *, enum filter_stage, uint16_t first, uint16_t end); /* the same over some filters: for the flow */
bool visit_turn(struct visit *);
void visit_note(struct visit *); /* keeps in the message, for the log, which filter decided, at which stage and why */
void visit_stop(struct visit *, enum filter_cancel); /* ends the stage without a verdict: a suspended call hears cancel */
uint64_t visit_clock(const struct visit *);          /* loop_now of the call's next deadline; 0: none */
/* Stages that cannot wait. REPLY may reword *reply: a 2yz stays one, a refusal a refusal. */
void visit_reply(struct visit *, enum filter_stage of, struct reply *, uint32_t rcpt);
void visit_reset(struct visit *);        /* the message is over: filters hear RESET */
void visit_forget_waits(struct visit *); /* the line of the message has told them */
/* received.c: the trace field (RFC 5321 4.4). */
void received_add(struct visit *);     /* our Received field, on top, hidden from filters */
bool received_is_loop(struct visit *); /* more Received fields than limits.hops, or more of our own than limits.loops */
/* Octets that a message may grow by here: our Received field, and what filters do to the header section. 0: it goes on as it came. */
uint64_t visit_adds(const struct visit_conf *);
void visit_end(struct visit *);          /* filters hear DISCONNECT */
/* Another client speaks on this connection (XCLIENT): filters hear DISCONNECT, then the visit begins anew. */
void visit_again(struct visit *);
#endif
