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
    void *memory;
    struct op *ops; unsigned nops;
    uint64_t deadline, started;  /* loop_now; loop_micros */
    uint64_t suspended_at;       /* loop_micros; 0: it is not */
    bool service_failed;         /* what it waited for: a dial, an answer, a store. Only this counts for the circuit breaker */
    uint32_t rcpt;               /* RCPT, REPLY to RCPT */
    const struct reply *replied; /* REPLY */
    enum filter_stage replied_to;
    unsigned tick;
    struct verdict verdict;      /* what filter_reject ... kept */
    struct str refusal;          /* of the last edit that was refused */
    enum filter_refused refused; /* what kind of refusal it is */
    struct headers *headers;
    bool emitted;
    uint32_t number;             /* in the trace, from 1; 0: nobody listens */
    uint64_t ran, waited;        /* microseconds on the thread, and suspended */
    uint64_t emitted_octets;
    bool undeclared;             /* it emitted where it had not declared to: its verdict is ERROR */
};

struct filter_call *call_open(struct filter_set *, struct visit *, const struct filter *, struct slot *, enum filter_stage);
void call_close(struct filter_call *); /* open ops are cancelled, memory goes */
void call_forget(void); /* frees this thread's spare ones, at its end */
/* The next completed op's event given to resume; false: none is complete. */
bool call_resume(struct filter_call *, enum filter_verdict *);
void call_trace_open(struct filter_call *, const char *result); /* tells the ops that have not ended */
bool call_has_ops(const struct filter_call *);
bool call_waits_for_service(const struct filter_call *); /* an op is open whose end is the work of another program */
uint64_t call_clock(const struct filter_call *);
/* Streams that a filter dialled and that outlive the call. */
void slot_close_streams(struct slot *, enum filter_life);
void set_close_streams(struct filter_set *);
/* facts.c */
struct str reply_queue_id(const struct reply *); /* of the reply to the end of mail data: "... queued as ID" */
struct str note_of(const struct visit *, struct str name);
struct filter_text fact_of_text(struct str);
#endif
