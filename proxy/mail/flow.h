/* flow.h - the content of one transaction on its way: from the front's decoder through head, chain and spool to the outlet.
 *
 * Stages take what they can and put what fits; they are run tail to head. When a backend
 * hears DATA is decided by message->data_when (smtp/back/sending.c). */
#ifndef MAIL_FLOW_H
#define MAIL_FLOW_H
#include "mail/spool.h"
#include "wire/reply.h"
#include "wire/content.h"
#include "wire/header.h"

struct visit;

/* Who refused a recipient, or the message. ROUTE: the listener's table leads nowhere; LIMIT: a limit of ours; SYNTAX: the command. */
enum author { BY_BACKEND, BY_FILTER, BY_ROUTE, BY_LIMIT, BY_SYNTAX };

/* When DATA is said to the backend, computed per chain at load. */
enum data_when { WHEN_AT_DATA, WHEN_AFTER_HEADERS, WHEN_AT_BOUND, WHEN_AT_VERDICT };
/* Where content stands; a later pass begins again at HEADERS. BODY_DONE: the last chunk of the pass at hand has been through its filters.
 * JUDGED: all message hooks of all passes are done. */
enum flow_at { FLOW_NONE, FLOW_HEAD, FLOW_HEADERS, FLOW_BODY, FLOW_BODY_DONE, FLOW_MESSAGE, FLOW_JUDGED };

struct segment {             /* filters [first, end) of the chain; the last of them may rewrite */
    uint16_t first, end;
    struct pipe *in, *out;
    bool finished;           /* its last chunk has been through */
    bool rewrites;           /* its last filter may */
    bool pending_cr;         /* a trailing CR is kept until the next octet is known: then CRLF goes out, or the CR is dropped */
};

struct flow {
    enum flow_at at;
    bool edits_body;         /* a filter of the pass at hand may emit */
    bool emitted;            /* a filter has: the body is not that of the client any more */
    uint16_t pass, passes;
    struct pipe content;     /* the front decodes into it; of a later pass: the body, fed from the spool */
    struct pipe filtered;    /* behind the last body filter */
    bool pending_cr;         /* as segment.pending_cr, for what a message hook emits */
    struct pipe chunk;       /* what body hooks are called with */
    bool chunk_last, chunk_replaced;
    uint64_t chunk_offset;   /* of the chunk in the body, in octets */
    struct str chunk_octets; /* the chunk as one piece */
    struct segment *in_hand; /* its filters are being called with the chunk; NULL: there is no chunk */
    uint16_t nsegments;
    struct segment *segments;
    struct pipe *between;    /* pipes behind the rewriters, nsegments - 1 */
    struct spool *spool;     /* WHEN_AT_VERDICT: the body as it stands */
    struct spool *next_spool; /* the body as the pass at hand, or a message hook, leaves it */
    struct str message_id;   /* for the log, of the header section as it came; NONE: no such field */
};

enum { FLOW_OCTETS = 16 * BLOCK_READ }; /* the most that a stage takes at a time */
enum { FLOW_TURNS = 17 };               /* in a turn of its owner: what is decoded in one gets through in the next */
/* The front decodes into flow.content; content.ended is its to set. */
void flow_start(struct visit *);
static inline bool flow_has_begun(const struct flow *f)
{
    return f->at != FLOW_NONE;
}
static inline bool flow_is_taken(const struct flow *f) /* the client's end of mail data has been decoded */
{
    return f->pass || f->content.ended;
}
static inline bool flow_head_is_done(const struct flow *f) /* in the pass at hand: its headers hooks have been called */
{
    return f->at >= FLOW_BODY;
}
static inline bool flow_is_judged(const struct flow *f)
{
    return f->at == FLOW_JUDGED;
}
/* The only way content is refused: the first reply is kept, what comes is dropped up to the strict end, the outlet abandons it. */
void flow_refuse(struct visit *, enum author, const struct reply *);
void flow_discard(struct visit *); /* content is dropped and the outlet abandons it, as above, but the client is to hear 250 */
void flow_refuse_named(struct visit *, enum reply_name);     /* flow_refuse by BY_LIMIT */
void flow_refuse_held(struct visit *, const struct spool *); /* 452 and a line of the log: this spool takes no more (spool_failed) */
/* Moves content, at most 16 blocks a call, tail to head: to the outlet, through the filters. True: call again. Look at message->drop. */
bool flow_turn(struct visit *);
/* Turns until nothing moves any more. False: its share of the turn is spent, it goes on in another. */
bool flow_run(struct visit *);
void flow_free(struct flow *);
/* Behind the client's end of mail data: runs message hooks and passes. True: the content is judged. False: a hook waits, content still
 * moves, or it was refused or discarded. */
bool flow_judge(struct visit *);
bool flow_has_room(const struct flow *); /* for what the filter whose call is open emits */
/* A filter's octets for the chunk in hand, or (MESSAGE) for the whole body; line ends are mended. false: the pipe is full. */
bool flow_emit(struct visit *, struct str);
#endif
