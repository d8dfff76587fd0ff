/* call.h - the inside of a filter call: what filters/filter.h shows as opaque. call.c, edits.c and facts.c implement the
 * contract, waits.c its waits. */
#ifndef MAIL_CALL_H
#define MAIL_CALL_H
#include "mail/visit.h"
#include "mail/message.h"
#include "base/log.h"
#include "store/store.h"

enum { CALL_MAGIC = 0xF11CA11u, OPS_MOST = 64 };
struct op;
struct filter_call {
    unsigned magic;
    struct filter_set *set;
    struct mail_worker *worker;  /* the set's */
    struct visit *visit;         /* NULL: START, TICK */
    struct message *message;
    const struct filter *filter;
    struct slot *slot;
    enum filter_stage stage;
    struct task *task;           /* woken when an op is done: the session's, or the solo call's own */
    struct arena arena;          /* LIFE_CALL */
    void *memory;                /* of LIFE_CALL, as the filter declared it; NULL: not asked for yet */
    struct op *ops; unsigned nops;
    uint64_t deadline, started;  /* loop_now; loop_micros */
    uint64_t suspended_at;       /* loop_micros; 0: it is not */
    bool service_failed;         /* a service it waited for failed (a dial, an answer, a store): only this counts for the circuit breaker */
    uint32_t rcpt;               /* at RCPT, and at REPLY to RCPT: the recipient's index in the message */
    const struct reply *replied; /* at REPLY: the reply; else NULL */
    enum filter_stage replied_to; /* MAIL, RCPT or MESSAGE */
    unsigned tick;               /* at TICK: the id given to filter_every */
    struct verdict verdict;      /* what filter_reject ... kept */
    struct str edit_error;       /* why the last refused edit was refused; "" or NONE: none was */
    enum filter_refused refused; /* what kind of refusal it is */
    struct headers *headers;     /* the message's; NULL where there are none */
    bool emitted;                /* filter_emit has been called */
    uint32_t number;             /* in the trace, from 1; 0: there is no trace */
    uint64_t ran, waited;        /* microseconds on the thread, and suspended */
    uint64_t emitted_octets;
    bool undeclared;             /* it emitted where it had not declared to: its verdict is ERROR */
};

/* Opens a call of one hook; call_close ends it. visit NULL: START, TICK. slot NULL: no session. Never NULL. */
struct filter_call *call_open(struct filter_set *, struct visit *, const struct filter *, struct slot *, enum filter_stage);
void call_close(struct filter_call *); /* open ops are cancelled, memory goes */
void call_forget(void); /* at the end of a thread: frees the closed calls it keeps for reuse */
/* Gives the event of the next completed op to the filter's resume; *verdict is what it returns. False: no op is complete. */
bool call_resume(struct filter_call *, enum filter_verdict *);
void call_trace_open(struct filter_call *, const char *result); /* tells the trace each op that has not ended, with this result */
bool call_has_ops(const struct filter_call *);
bool call_waits_for_service(const struct filter_call *); /* an op is open that another program ends */
uint64_t call_clock(const struct filter_call *); /* loop_now of the next deadline among its ops; UINT64_MAX: none has one */
/* Close the streams that filters dialled: those of a slot that die with `life`, the idle ones of a set. */
void slot_close_streams(struct slot *, enum filter_life);
void set_close_streams(struct filter_set *);
/* facts.c */
struct str reply_queue_id(const struct reply *); /* of the reply to the end of mail data: "... queued as ID" */
struct str note_of(const struct visit *, struct str name); /* the message's, else the session's; NONE: there is none */
struct filter_text fact_of_text(struct str); /* the same octets, as filter.h calls them */
#endif
