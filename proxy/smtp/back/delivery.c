/* delivery.c - the tail of the flow: when and how content leaves for the backend, and the one end of mail data (DESIGN 8; engine.md
 * A2, A8, A20).
 *
 * DATA is the rule: stuffed, streaming. BDAT (RFC 3030) carries what is binary, in chunks as it comes, and what is held whole
 * and is small, in one chunk and one write: that saves the round trip of DATA. A chunk enters the backend's out pipe whole or
 * not at all, so that the conversation may go on with RSET whatever becomes of the content. Our end of mail data is said in
 * delivery_release and nowhere else. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/front/session.h"

enum { ONE_CHUNK = 262144, CHUNKS_OWED = 8, SILENCE = 5000 };

enum guard delivery_guard(const struct backend *b)
{
    return b->can.has & EXT_8BITMIME ? GUARD_NUL : GUARD_EIGHTH_BIT;
}

static void refuse_bad(struct session *s)
{
    const struct flow *f = &s->tx->message.flow;
    if (!f->encoder.hidden)
        log_say(LOG_ERROR, "%s.%u: content with a bare CR or LF reached the encoder", s->visit.id, s->tx->message.number);
    flow_refuse_named(&s->visit, f->encoder.hidden ? REPLY_HIDDEN_END : REPLY_FILTER_FAILED);
}

static bool encode(struct session *s, struct pipe *from)
{
    struct flow *f = &s->tx->message.flow;
    bool moved = encoder_step(&f->encoder, from, f->chunked ? &f->packed : &s->backend->stream->out, FLOW_OCTETS);
    if (f->encoder.bad)
        refuse_bad(s);
    return moved;
}

/* A chunk that is full is said, while the backend owes few replies to others. It is answered: nobody waits for that. */
static bool say_chunk(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    struct backend *b = s->backend;
    pipe_compact(&f->packed); /* few octets of large blocks are no chunk yet */
    if (!pipe_is_full(&f->packed) || f->chunks_owed >= (b->can.has & EXT_PIPELINING ? CHUNKS_OWED : 1))
        return false;
    pipe_print(&b->stream->out, "BDAT %zu\r\n", f->packed.octets);
    pipe_move(&f->packed, &b->stream->out, f->packed.octets);
    backend_owe(b, DEBT_CHUNK, s->tx->message.serial);
    f->chunks_owed++;
    return true;
}

/* Fields first, at most a block a step, then the body from the chain or, judged, from the spool. */
bool delivery_take(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    if (f->data != DATA_OPEN || tx->message.sink || f->head != HEAD_DONE || !s->backend || !s->backend->stream)
        return false;
    if (pipe_is_full(&s->backend->stream->out))
        return false;
    bool moved = f->chunked && say_chunk(s);
    if (pipe_is_full(&f->packed))
        return moved;
    if (!f->sender.done) {
        if (!f->sender.begun) {
            /* Field edits of a headers hook are known now; later ones only where the content was held (AT_VERDICT). */
            must(tx->message.say != SAY_AT_VERDICT || f->judged);
        }
        headers_send(&tx->message.headers, &f->sender, &f->outgoing);
        moved = true;
    }
    if (!pipe_is_empty(&f->outgoing))
        moved |= encode(s, &f->outgoing);
    if (tx->message.sink || !f->sender.done || !pipe_is_empty(&f->outgoing))
        return moved;
    if (tx->message.say == SAY_AT_VERDICT) {
        size_t before = f->outgoing.octets;
        spool_take(f->spool, &f->outgoing);
        moved |= f->outgoing.octets != before;
        if (spool_failed(f->spool))
            flow_refuse_held(&s->visit, f->spool);
        else if (!pipe_is_empty(&f->outgoing))
            moved |= encode(s, &f->outgoing);
    } else if (!pipe_is_empty(&f->filtered)) {
        moved |= encode(s, &f->filtered);
    }
    return moved;
}

enum leave delivery_way_out(const struct session *s)
{
    const struct flow *f = &s->tx->message.flow;
    if (f->data < DATA_ASKED)
        return LEAVE_ENVELOPE;
    bool whole = f->chunked && f->data == DATA_OPEN && s->backend && s->backend->stream &&
                 pipe_is_empty(&s->backend->stream->out);
    return whole ? LEAVE_ENVELOPE : LEAVE_CONTENT;
}

/* Whether the content goes by BDAT: it must, when it is binary; it had better, when it is all here and leaves in one write. */
static bool is_for_chunks(const struct session *s)
{
    const struct transaction *tx = s->tx;
    const struct flow *f = &tx->message.flow;
    const struct backend *b = s->backend;
    if (b->step != BACKEND_READY || b->count || !(b->can.has & EXT_CHUNKING))
        return false;
    if (tx->message.params.body == BODY_BINARYMIME)
        return true;
    if (tx->message.headers.first && tx->message.headers.first->mbox) /* Postfix knows mbox lines behind DATA only */
        return false;
    uint64_t body = tx->message.say == SAY_AT_VERDICT ? spool_octets(f->spool) : f->filtered.octets;
    /* Who has been silent for long may be gone: DATA asks without losing anything, the last chunk would leave us uncertain. */
    bool fresh = loop_now(s->worker->mail.loop) - b->heard < SILENCE;
    return f->judged && fresh && tx->message.headers.octets + body <= ONE_CHUNK;
}

static void open_chunks(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    bool binary = s->tx->message.params.body == BODY_BINARYMIME;
    f->chunked = true;
    f->packed.mark = f->judged && !binary ? 0 : PIPE_MARK;
    f->data = DATA_OPEN;
    /* Whoever takes binary content drops nothing. Others hear no more by BDAT than they would by DATA, whichever it happens to be. */
    bool safe = s->backend->can.has & EXT_BINARYMIME;
    encoder_start(&f->encoder, binary ? FRAMING_BINARY : FRAMING_CHUNKS, safe ? GUARD_NONE : delivery_guard(s->backend));
}

/* Time has come: says DATA, or refuses the content where that cannot be. */
static void open_now(struct session *s)
{
    struct transaction *tx = s->tx;
    if (envelope_is_empty(tx)) {
        tx->message.discard = tx->message.sink = true;
        tx->message.verdict_why = STR("no recipient is left");
        envelope_leave(s, LEAVE_ENVELOPE);
        return;
    }
    if (tx->failed.code) {
        flow_refuse(&s->visit, &tx->failed);
    } else if (tx->data_reply.code >= 400) {
        flow_refuse(&s->visit, &tx->data_reply);
    } else if (!envelope_is_pending(s)) {
        if (tx->failed.code)
            flow_refuse(&s->visit, &tx->failed);
        else if (!s->backend)
            flow_refuse_named(&s->visit, REPLY_BACKEND_LOST);
        else if (is_for_chunks(s))
            open_chunks(s);
        else if (tx->message.params.body != BODY_BINARYMIME) /* which never goes by DATA: it waits until the backend is ready */
            envelope_data(s);
    }
}

bool delivery_open(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    if (f->data != DATA_UNSAID || tx->message.sink || f->head != HEAD_DONE)
        return false;
    bool time = f->judged || tx->message.say <= SAY_AFTER_HEADERS || (tx->message.say == SAY_AT_BOUND && pipe_is_full(&f->filtered));
    if (!time)
        return false;
    open_now(s);
    return tx->message.sink || f->data == DATA_OPEN;
}

bool delivery_send(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    must(f->judged);
    while (delivery_take(s))
        ;
    if (tx->message.sink || f->data != DATA_OPEN || !f->sender.done || !pipe_is_empty(&f->outgoing))
        return false;
    if (f->chunks_owed && !(s->backend->can.has & EXT_PIPELINING))
        return false;
    bool all = tx->message.say == SAY_AT_VERDICT ? spool_take(f->spool, &f->outgoing) && pipe_is_empty(&f->outgoing)
                                         : f->filtered.ended && pipe_is_empty(&f->filtered);
    if (all && !encoder_may_end(&f->encoder)) {
        refuse_bad(s);
        return false;
    }
    return all;
}

void delivery_release(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    must(f->data == DATA_OPEN && f->taken && f->judged && !tx->message.sink && !f->encoder.bad);
    must(!envelope_is_empty(tx));
    struct pipe *out = &s->backend->stream->out;
    encoder_end(&f->encoder, f->chunked ? &f->packed : out);
    if (f->chunked) {
        pipe_print(out, "BDAT %zu LAST\r\n", f->packed.octets);
        pipe_move(&f->packed, out, f->packed.octets);
    }
    f->data = DATA_ENDED;
    tx->release_at = loop_micros(s->worker->mail.loop);
    backend_owe(s->backend, DEBT_END, tx->message.serial);
    uint64_t most = tx->message.end_at + s->listen->timeouts.end_reply;
    s->backend->deadline = most;
}
