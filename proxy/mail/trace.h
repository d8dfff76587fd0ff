/* trace.h - what the filters of a visit do, told as it happens to a listener (`sluice try`). Without one, each place that would tell
 * something costs a test for NULL. */
#ifndef MAIL_TRACE_H
#define MAIL_TRACE_H
#include "mail/call.h"

enum trace_kind { TRACE_CALL, TRACE_WAIT, TRACE_EDIT, TRACE_NOTE, TRACE_LOG };
enum edit_kind { EDIT_FIELD_ADD, EDIT_FIELD_SET, EDIT_FIELD_REMOVE, EDIT_FIELD_RENAME, EDIT_BODY, EDIT_FROM, EDIT_RCPT_ADD, EDIT_RCPT_SET,
                 EDIT_RCPT_REMOVE, EDIT_ROUTE };

struct trace_event {
    enum trace_kind kind;
    uint32_t call;               /* its number, from 1. A call is told when it ends, behind its waits, edits and notes */
    enum filter_stage stage;
    const struct filter *filter;
    uint32_t rcpt;               /* at RCPT, and at REPLY to RCPT: the recipient's index in the message */
    union {
        struct {
            enum filter_verdict said;
            bool over;           /* the stage ends with it */
            bool service;        /* it failed because a service it waited for did */
            struct reply reply;  /* code 0: none */
            struct str why;
            uint64_t run, waited; /* microseconds on the thread, and suspended */
        } verdict;
        struct { const char *op; struct str what; uint64_t took; const char *result; } wait; /* microseconds; result NULL: it went well */
        struct {
            enum edit_kind kind;
            struct str name;     /* of a field */
            uint32_t index;      /* of a field: among those of its name; of a recipient: in the envelope, from 0 */
            struct str before, after; /* NONE: there is none. A field's raw octets, an address */
            uint64_t octets_before, octets_after; /* BODY */
            bool applied;        /* false: the filter only watches */
        } edit;
        struct { struct str name, value; } note;
        struct { enum filter_level level; struct str text; } log;
    };
};
struct trace {
    void (*take)(struct trace *, const struct trace_event *); /* texts live until it returns */
    uint32_t calls;              /* numbers given so far */
};

static inline bool call_is_traced(const struct filter_call *call)
{
    return call->visit && call->visit->trace;
}
/* To be called only when the call is traced. */
void trace_call(const struct filter_call *, enum filter_verdict said, bool over, const struct reply *);
void trace_wait(const struct filter_call *, const char *op, struct str what, uint64_t took, const char *result);
void trace_field(const struct filter_call *, enum edit_kind, const struct field *, struct str before, struct str after);
void trace_envelope(const struct filter_call *, enum edit_kind, uint32_t rcpt, struct str before, struct str after);
void trace_body(const struct filter_call *, uint64_t before, uint64_t after);
void trace_note(const struct filter_call *, struct str name, struct str value);
void trace_log(const struct filter_call *, enum filter_level, struct str text);
#endif
