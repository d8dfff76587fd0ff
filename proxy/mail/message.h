/* message.h - one envelope, its fields, its content, what became of it: from a MAIL without a mistake to the end of the transaction. */
#ifndef MAIL_MESSAGE_H
#define MAIL_MESSAGE_H
#include "mail/flow.h"
#include "wire/params.h"
#include "wire/path.h"

enum rcpt_fate {
    FATE_HELD,      /* its rcpt hooks are being called */
    FATE_PASSED,    /* they let it pass; an added recipient: not said to the next hop yet */
    FATE_ASKED,     /* RCPT was said to the next hop, which has not answered */
    FATE_ACCEPTED,
    FATE_REFUSED,   /* never of an added recipient: that is DROPPED, or, needed or alone, stays ASKED while the message fails */
    FATE_DISCARDED, /* 250 by us, no next hop hears of it; while its rcpt hooks are being called, without a reply yet */
    FATE_DROPPED,   /* a filter left it out after it was accepted; or it was added, may be missing, and was refused */
};
struct rcpt {
    struct path path;
    struct params params;
    struct reply reply;     /* code 0: not yet final */
    enum rcpt_fate fate;
    struct str added_by;    /* the filter that added it: no reply is owed to the client. STR_NONE: the client named it */
    bool needed;            /* added, and without it the message is not forwarded */
    bool routed;            /* a filter said where it goes */
    enum author by;         /* REFUSED: who refused it */
    const struct filter *filter; /* BY_FILTER: which filter */
    struct str why;         /* what that filter says of it in the log; NONE: nothing */
};

struct queued_field { struct queued_field *next; bool top; struct str name, value; }; /* added before the headers stage */

/* What becomes of the message. RELEASED: our end of mail data has been said, only the next hop's word counts. */
enum message_fate { MESSAGE_FLOWS, MESSAGE_REFUSED, MESSAGE_DISCARDED, MESSAGE_RELEASED };

enum transaction_end { END_NONE, END_FORWARDED, END_REJECTED, END_DEFERRED, END_DISCARDED, END_QUARANTINED, END_ABORTED,
                       END_UNCERTAIN };
const char *transaction_end_name(enum transaction_end);
enum transaction_end transaction_end_of(const struct reply *); /* from the reply to the end of mail data, or from a refusal before it */

/* What filters set as fact "note.NAME". space, room: the memory that the value is written to. value NONE: it was removed. */
struct note { struct note *next; bool session; struct str name, value; char *space; size_t room; };

enum { RCPTS_ADDED_MOST = 64 }; /* recipients that filters may add to one message */
struct message {
    uint64_t serial;            /* never used twice in its worker */
    uint32_t number;            /* in the visit, from 1 */
    struct arena arena;
    struct path from;           /* the reverse-path */
    struct params params;
    struct rcpt *rcpts;         /* named by the client and added by filters, in the order they came. An index stays valid, a pointer does not */
    uint32_t nrcpts, room;
    uint32_t named;             /* of the nrcpts, those that the client named */
    uint32_t accepted;          /* of the named, those that the next hop accepted */
    uint32_t discarded;         /* of the named, those that filters left out: for the client they count as accepted */
    struct headers headers;
    struct queued_field *queued;
    struct flow flow;
    enum data_when data_when;
    struct note *notes;
    double score;
    bool passed;                /* a filter said PASS: no later filter sees this message */
    bool drop;                  /* a filter said DROP: the front says the refusal at once and closes */
    bool left;                  /* the client left amid content */
    uint64_t octets;            /* of content decoded so far: the front sets it */
    enum message_fate fate;
    enum author refused_by;     /* who refused it, in part (some recipients) or whole */
    bool quarantined;
    struct reply refusal;       /* fate REFUSED: the first refusal; the client hears it at its end of mail data */
    uint64_t end_at_ms;           /* loop_now of the client's end of mail data; 0: not yet */
    uint64_t end_by_ms;           /* from then on our end of mail data is not said any more; 0: no end has come */
    /* for the log */
    struct str verdict_by, verdict_stage, verdict_why;
    enum transaction_end end;
    struct reply end_reply;     /* what the client heard at the end */
    struct str queue_id;        /* of the next hop, where it is known without its reply (a milter's MTA); NONE: read from end_reply */
    struct reply data_refused;  /* the last reply to DATA, if it was a refusal; code 0: none */
    uint32_t refused;           /* refused recipients; the first 100 have a log line each */
    uint64_t started_us, data_at_us, data_done_us; /* loop_micros */
    uint64_t filter_run_us, filter_waited_us, backend_us;
    uint32_t edits;             /* that filters made */
};

struct rcpt *message_rcpt(struct message *); /* appends a recipient, zeroed. The pointer is good until the next one */
static inline bool rcpt_is_added(const struct rcpt *r)
{
    return r->added_by.at;
}
/* It is in the envelope that the next hop is to have: accepted, or added and not left out. */
static inline bool rcpt_stands(const struct rcpt *r)
{
    return rcpt_is_added(r) ? r->fate != FATE_DROPPED : r->fate == FATE_ACCEPTED;
}
/* Content is read and dropped up to its strict end. */
static inline bool content_is_dropped(const struct message *m)
{
    return (m->fate == MESSAGE_REFUSED || m->fate == MESSAGE_DISCARDED) && flow_has_begun(&m->flow);
}
void message_refuse(struct message *, enum author, const struct reply *); /* keeps the first refusal only. Amid content use flow_refuse */
bool message_is_empty(const struct message *); /* no recipient is left that the next hop should have */
struct reply reply_keep(struct arena *, const struct reply *); /* a copy with its text in the arena */
#endif
