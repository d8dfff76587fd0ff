/* record.h - what the filters did to one message, kept in the order in which they were called: a listener of mail/trace.h. */
#ifndef TRY_RECORD_H
#define TRY_RECORD_H
#include "mail/trace.h"

struct kept_wait { struct kept_wait *next; const char *op; struct str what; uint64_t took; const char *result; }; /* microseconds; NULL: well */
struct kept_note { struct kept_note *next; struct str name, value; };      /* value NONE: taken away */
struct kept_log { struct kept_log *next; const char *level; struct str text; };
struct kept_edit { /* as in struct trace_event */
    struct kept_edit *next, *of_call; /* all of them in order; those of one call */
    uint32_t n, call, index;
    const struct filter *filter;
    enum edit_kind kind;
    struct str name, before, after;
    uint64_t octets_before, octets_after;
    uint64_t t;                       /* when, as of a call */
    bool applied;
};
struct kept_call {
    struct kept_call *next, *prev;
    uint32_t n, rcpt, place;          /* place: in the chain, from 1 */
    bool ended, over, service;        /* not ended: the visit was over first. over, service: as in trace_event.verdict */
    enum filter_stage stage;
    const struct filter *filter;
    enum filter_verdict said;
    struct reply reply;
    struct str why, at;               /* at: "x.lua:26" of an error; NONE: not known */
    uint64_t run, waited;             /* microseconds */
    double score;                     /* what it added */
    uint64_t t;                       /* when it ended, microseconds since the record began */
    struct kept_wait *waits;
    struct kept_note *notes;
    struct kept_log *logs;
    struct kept_edit *edits;          /* by of_call */
};
struct record {
    struct trace trace;               /* the first member */
    struct arena arena;
    const struct visit *visit;        /* whose filters are heard */
    struct kept_call *first, *last, *decided; /* decided: the last call that ended a stage, by a verdict or by failing; NULL: none */
    struct kept_edit *edits, **edits_end;
    uint32_t nedits;
    double score;
    uint64_t began;                   /* loop_micros */
};
struct services { struct str *names; uint32_t n, room; struct arena arena; }; /* addresses that answered a filter's dial, each once */
void record_services(const struct record *, struct services *); /* adds those of this record; services_free frees all */
void services_free(struct services *);
void record_start(struct record *, const struct visit *, uint64_t now); /* now: loop_micros */
void record_free(struct record *);
const char *stage_name(enum filter_stage);
const char *verdict_name(enum filter_verdict);
const char *edit_name(enum edit_kind);
#endif
