/* sending.c - content leaves for the backend: when and how, and the one end of mail data.
 *
 * DATA is the rule: stuffed, streaming. BDAT (RFC 3030) carries what is binary, in chunks as it comes, and what is held whole
 * and is small, in one chunk and one write: that saves the round trip of DATA. A chunk enters the backend's out pipe whole or
 * not at all, so that the conversation may go on with RSET whatever becomes of the content. Our end of mail data is said in
 * delivery_release and nowhere else. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"

enum { ONE_CHUNK = 262144, CHUNKS_OWED = 8, SILENCE = 5000 };

enum guard delivery_guard(const struct backend *b)
{
    return b->can.has & EXT_8BITMIME ? GUARD_NUL : GUARD_EIGHTH_BIT;
}

/* A chunk that is full is said, while the backend owes few replies to others. It is answered: nobody waits for that. */
static bool say_chunk(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct backend *b = d->backend;
    pipe_compact(&t->packed); /* few octets of large blocks are no chunk yet */
    if (!pipe_is_full(&t->packed) || t->chunks_owed >= (b->can.has & EXT_PIPELINING ? CHUNKS_OWED : 1))
        return false;
    pipe_print(&b->stream->out, "BDAT %zu\r\n", t->packed.octets);
    pipe_move(&t->packed, &b->stream->out, t->packed.octets);
    backend_owe(b, EXPECT_CHUNK, d->visit->message->serial);
    t->chunks_owed++;
    return true;
}

bool delivery_take(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct flow *f = &m->flow;
    if (t->data != DATA_OPEN || content_is_dropped(m) || !flow_head_is_done(f) || !d->backend || !d->backend->stream)
        return false;
    if (pipe_is_full(&d->backend->stream->out))
        return false;
    bool moved = t->chunked && say_chunk(d);
    if (pipe_is_full(&t->packed))
        return moved;
    return outgoing_take(d->visit, &t->outgoing, t->chunked ? &t->packed : &d->backend->stream->out) || moved;
}

enum leave delivery_way_out(const struct delivery *d)
{
    const struct transfer *t = &d->transfer;
    if (t->data < DATA_ASKED)
        return LEAVE_ENVELOPE;
    bool whole = t->chunked && t->data == DATA_OPEN && d->backend && d->backend->stream &&
                 pipe_is_empty(&d->backend->stream->out);
    return whole ? LEAVE_ENVELOPE : LEAVE_CONTENT;
}

/* Whether the content goes by BDAT: it must, when it is binary; it had better, when it is all here and leaves in one write. */
static bool is_for_chunks(const struct delivery *d)
{
    struct message *m = d->visit->message;
    const struct flow *f = &m->flow;
    const struct backend *b = d->backend;
    if (b->step != BACKEND_READY || b->count || !(b->can.has & EXT_CHUNKING))
        return false;
    if (m->params.body == BODY_BINARYMIME)
        return true;
    if (m->headers.first && m->headers.first->mbox) /* Postfix knows mbox lines behind DATA only */
        return false;
    uint64_t body = m->data_when == WHEN_AT_VERDICT ? spool_octets(f->spool) : f->filtered.octets;
    /* Who has been silent for long may be gone: DATA asks without losing anything, the last chunk would leave us uncertain. */
    bool fresh = loop_now(d->generation->worker->mail.loop) - b->heard < SILENCE;
    return flow_is_judged(f) && fresh && m->headers.octets + body <= ONE_CHUNK;
}

static void open_chunks(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct flow *f = &d->visit->message->flow;
    bool binary = d->visit->message->params.body == BODY_BINARYMIME;
    t->chunked = true;
    t->packed.mark = flow_is_judged(f) && !binary ? 0 : PIPE_MARK;
    t->data = DATA_OPEN;
    /* Whoever takes binary content drops nothing. Others hear no more by BDAT than they would by DATA, whichever it happens to be. */
    bool safe = d->backend->can.has & EXT_BINARYMIME;
    outgoing_start(&t->outgoing, binary ? FRAMING_BINARY : FRAMING_CHUNKS, safe ? GUARD_NONE : delivery_guard(d->backend));
}

/* Time has come: says DATA, or refuses the content where that cannot be. */
static void open_now(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (message_is_empty(m)) {
        m->verdict_why = STR("no recipient is left");
        flow_discard(d->visit);
        return;
    }
    if (t->anew_failure.code) {
        flow_refuse(d->visit, BY_BACKEND, &t->anew_failure);
    } else if (t->data_reply.code >= 400) {
        flow_refuse(d->visit, BY_BACKEND, &t->data_reply);
    } else if (!envelope_is_pending(d)) {
        if (t->anew_failure.code)
            flow_refuse(d->visit, BY_BACKEND, &t->anew_failure);
        else if (!d->backend)
            flow_refuse_named(d->visit, REPLY_BACKEND_LOST);
        else if (is_for_chunks(d))
            open_chunks(d);
        else if (m->params.body != BODY_BINARYMIME) /* which never goes by DATA: it waits until the backend is ready */
            envelope_data(d);
    }
}

bool delivery_open(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct flow *f = &m->flow;
    if (t->data != DATA_UNSAID || content_is_dropped(m) || !flow_head_is_done(f))
        return false;
    bool time = flow_is_judged(f) || m->data_when <= WHEN_AFTER_HEADERS || (m->data_when == WHEN_AT_BOUND && pipe_is_full(&f->filtered));
    if (!time)
        return false;
    open_now(d);
    return content_is_dropped(m) || t->data == DATA_OPEN;
}

bool delivery_send(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct flow *f = &m->flow;
    must(flow_is_judged(f));
    while (delivery_take(d))
        ;
    if (content_is_dropped(m) || t->data != DATA_OPEN || (t->chunks_owed && !(d->backend->can.has & EXT_PIPELINING)))
        return false;
    return outgoing_has_all(d->visit, &t->outgoing);
}

void delivery_release(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct flow *f = &m->flow;
    must(t->data == DATA_OPEN && flow_is_taken(f) && flow_is_judged(f) && !content_is_dropped(m) && !t->outgoing.encoder.bad);
    must(!message_is_empty(m));
    if (!pipe_is_empty(&d->backend->stream->in) && !t->chunks_owed) { /* half a reply before our end: it is none to it */
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "it spoke unasked");
        return;
    }
    struct pipe *out = &d->backend->stream->out;
    encoder_end(&t->outgoing.encoder, t->chunked ? &t->packed : out);
    if (t->chunked) {
        pipe_print(out, "BDAT %zu LAST\r\n", t->packed.octets);
        pipe_move(&t->packed, out, t->packed.octets);
    }
    t->data = DATA_ENDED;
    m->fate = MESSAGE_RELEASED;
    t->release_at_us = loop_micros(d->generation->worker->mail.loop);
    backend_owe(d->backend, EXPECT_END, m->serial);
    uint64_t most = m->end_at_ms + d->listen->timeouts.end_reply;
    d->backend->deadline = most;
}

bool delivery_is_open(const struct delivery *d)
{
    return d->transfer.data == DATA_OPEN;
}

bool delivery_is_full(const struct delivery *d)
{
    return pipe_is_full(&d->transfer.packed) || (d->backend && d->backend->stream && pipe_is_full(&d->backend->stream->out));
}

/* ---- DATA, before content has begun -------------------------------------------------------------------------------- */

bool delivery_join_data(struct delivery *d)
{
    const struct message *m = d->visit->message;
    const struct transfer *t = &d->transfer;
    if (m->fate == MESSAGE_DISCARDED || m->discarded || m->nrcpts > m->named || t->stale || envelope_is_said_anew(t) || t->anew_failure.code || !d->backend)
        return false;
    if (d->backend->step >= BACKEND_READY && !(d->backend->can.has & EXT_PIPELINING))
        return false;
    envelope_data(d);
    return true;
}

static enum delivery_says refused(struct delivery *d, struct reply *r, struct reply why)
{
    struct transfer *t = &d->transfer;
    *r = why;
    t->data_reply = (struct reply){0};
    if (t->data == DATA_WANTED)
        t->data = DATA_UNSAID;
    return DELIVERY_REFUSED;
}

/* DATA had joined a group of which no RCPT was accepted: never a dot. */
static enum delivery_says nobody_is_left(struct delivery *d, struct reply *r, bool waiting)
{
    struct transfer *t = &d->transfer;
    if (waiting && d->backend)
        return DELIVERY_WAITS;
    if (t->data == DATA_OPEN) {
        envelope_leave(d, LEAVE_CONTENT);
        t->envelope = ENVELOPE_UNSAID;
    }
    t->data = DATA_UNSAID;
    return refused(d, r, reply_named(REPLY_NO_RCPTS));
}

enum delivery_says delivery_data(struct delivery *d, struct reply *r)
{
    struct transfer *t = &d->transfer;
    bool waiting = t->data == DATA_ASKED || t->data == DATA_WANTED;
    if (delivery_is_refused(d))
        return nobody_is_left(d, r, waiting);
    if (t->anew_failure.code)
        return refused(d, r, t->anew_failure);
    if (t->data == DATA_OPEN) {
        *r = t->data_reply;
        return DELIVERY_GO;
    }
    if (t->data_reply.code)
        return refused(d, r, t->data_reply);
    if (waiting)
        return d->backend ? DELIVERY_WAITS : refused(d, r, reply_named(REPLY_BACKEND_LOST));
    if (envelope_is_pending(d))
        return DELIVERY_WAITS;
    if (t->anew_failure.code)
        return refused(d, r, t->anew_failure);
    if (!d->backend)
        return refused(d, r, reply_named(REPLY_BACKEND_LOST));
    envelope_data(d);
    return DELIVERY_WAITS;
}
