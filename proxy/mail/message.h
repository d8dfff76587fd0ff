/* message.h - one envelope, its fields, its content, what became of it: from MAIL that passed CHECK to RESET. */
#ifndef MAIL_MESSAGE_H
#define MAIL_MESSAGE_H
#include "mail/flow.h"
#include "wire/params.h"
#include "wire/path.h"

enum rcpt_fate {
    FATE_HELD,      /* its filters are at work */
    FATE_PASSED,    /* by them; an added one: not said to the next hop yet */
    FATE_ASKED,     /* the next hop is */
    FATE_ACCEPTED,
    FATE_REFUSED,   /* an added one is never: it is dropped, or, needed or alone, stays ASKED while the message fails */
    FATE_DISCARDED, /* 250 by us, no next hop hears of it. In its own hooks without a reply yet */
    FATE_DROPPED,   /* left out by a filter after it was accepted; an optional added one: refused, too */
};
struct rcpt {
    struct path path;
    struct params params;
    struct reply reply;     /* code 0: not yet final */
    enum rcpt_fate fate;
    struct str added_by;    /* the filter that added it: no reply is owed to the client. STR_NONE: the client named it */
    bool needed;            /* added, and without it the message is not forwarded */
    bool routed;            /* a filter said where it goes */
    enum author by;         /* of a refusal */
    const struct filter *filter; /* BY_FILTER: which, and why */
    struct str why;
};

struct queued_field { struct queued_field *next; bool top; struct str name, value; }; /* added before the headers stage */

/* What becomes of the message. RELEASED: our end of mail data has been said, only the next hop's word counts. */
enum message_fate { MESSAGE_FLOWS, MESSAGE_REFUSED, MESSAGE_DISCARDED, MESSAGE_RELEASED };

enum transaction_end { END_NONE, END_FORWARDED, END_REJECTED, END_DEFERRED, END_DISCARDED, END_QUARANTINED, END_ABORTED,
                       END_UNCERTAIN };
const char *transaction_end_name(enum transaction_end);
enum transaction_end transaction_end_of(const struct reply *); /* to the end of mail data, or a refusal before it */

struct note { struct note *next; bool session; struct str name, value; char *space; size_t room; };

enum { RCPTS_ADDED_MOST = 64 }; /* recipients that filters may add to one message */
struct message {
    uint64_t serial;            /* never used twice in its worker */
    uint32_t number;            /* in the visit, from 1 */
    struct arena arena;
    struct path from;           /* the reverse-path */
    struct params params;
    struct rcpt *rcpts;         /* named by the client and added by filters, as they came. An index is for ever one's own; keep no pointer */
    uint32_t nrcpts, room;
    uint32_t named;             /* of them by the client; and of these: */
    uint32_t accepted;
    uint32_t discarded;         /* left out by filters: they count as accepted for the client */
    struct headers headers;
    struct queued_field *queued;
    struct flow flow;
    enum data_when data_when;
    struct note *notes;
    double score;
    bool passed;                /* PASS within this message */
    bool drop;                  /* a filter said DROP: the front says the refusal at once and closes */
    bool left;                  /* the client left amid content */
    uint64_t octets;            /* decoded so far: set by whoever decodes */
    enum message_fate fate;
    enum author refused_by;     /* where it is, in part or whole */
    bool quarantined;
    struct reply refusal;       /* REFUSED: the first one stays; told at the strict end of content */
    uint64_t end_at_ms;           /* loop_now of the client's end of mail data; 0: not yet */
    uint64_t end_by_ms;           /* after it ours is not said any more */
    /* for the log */
    struct str verdict_by, verdict_stage, verdict_why;
    enum transaction_end end;
    struct reply end_reply;     /* what the client heard at the end */
    struct str queue_id;        /* of the next hop, where that is known without its reply; at NULL: not */
    struct reply data_refused;  /* what DATA heard last, when that was a refusal */
    uint32_t refused;           /* refused recipients; the first 100 have a log line each */
    uint64_t started_us, data_at_us, data_done_us; /* loop_micros */
    uint64_t filter_run_us, filter_waited_us, backend_us;
    uint32_t edits;
};

struct rcpt *message_rcpt(struct message *); /* a new one, zeroed */
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
    return flow_has_begun(&m->flow) && (m->fate == MESSAGE_REFUSED || m->fate == MESSAGE_DISCARDED);
}
void message_refuse(struct message *, enum author, const struct reply *); /* the first refusal stays. Amid content: flow_refuse */
bool message_is_empty(const struct message *); /* no recipient is left that the next hop should have */
struct reply reply_keep(struct arena *, const struct reply *);
#endif
