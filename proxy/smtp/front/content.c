/* content.c - the front while mail data flows: CONTENT up to the client's strict end or the end of a chunk, VERDICT up to the reply to it.
 *
 * Promise 1 lives here: the client hears 250 only after the backend's 250, a client that has left gets no end of mail data
 * said in its name, and after tx->end_by none is said at all. */
#include "smtp/front/content.h"
#include "smtp/front/session.h"

enum { PAUSE_MOST = 120000 }; /* milliseconds: a client gives up after three minutes (RFC 5321 4.5.3.2.5) at the earliest */

void content_begin(struct session *s, enum state state)
{
    uint64_t now = loop_now(s->worker->mail.loop);
    s->state = state;
    session_go(s, STEP_CONTENT);
    s->tx->message.data_at_us = loop_micros(s->worker->mail.loop);
    s->client_by = now + s->listen->timeouts.data;
    s->rate_from = now;
    s->rate_octets = 0;
    bool binary = s->tx->message.params.body == BODY_BINARYMIME;
    decoder_start(&s->tx->decoder, state != STATE_CHUNKS ? FRAMING_DOTS : binary ? FRAMING_BINARY : FRAMING_CHUNKS,
                  s->listen->bare);
    flow_start(&s->visit);
}

static enum next leave(struct session *s)
{
    s->tx->message.left = true;
    if (s->tx->message.fate != MESSAGE_RELEASED)
        transaction_reset(s, END_ABORTED);
    return session_end(s, s->stream->dead ? WHY_RESET : WHY_LEFT, NULL);
}

/* Over a limit amid content: told at once, for the rest would cost more than the connection. */
static void cut_off(struct session *s, enum close_why why, const struct reply *r)
{
    struct reply said = reply_keep(&s->tx->message.arena, r);
    s->tx->message.refused_by = BY_LIMIT;
    s->tx->message.end_reply = said;
    session_end(s, why, &said);
    transaction_reset(s, transaction_end_of(&said));
}

bool content_is_far_over(const struct session *s, uint64_t octets)
{
    uint64_t most = s->listen->visit.limits.size;
    return most && octets > FAR_OVER && octets / 10 > most;
}

struct reply content_too_big(const struct session *s, struct arena *arena)
{
    return reply_print(arena, REPLY_TOO_BIG, arena_print(arena, "%llu", (unsigned long long)s->listen->visit.limits.size).at);
}

bool content_is_fast(struct session *s, uint64_t octets)
{
    uint64_t now = loop_now(s->worker->mail.loop);
    if (now - s->rate_from < RATE_WINDOW)
        return true;
    if (octets - s->rate_octets < s->listen->visit.limits.min_rate * (RATE_WINDOW / 1000))
        return false;
    s->rate_from = now;
    s->rate_octets = octets;
    return true;
}

/* While we wait for the client, and only then, its clock runs: silence, and too few octets in a window (slowloris). */
bool content_is_slow(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    uint64_t now = loop_now(s->worker->mail.loop), octets = tx->decoder.wire;
    bool ours = !content_is_dropped(&tx->message) && (tx->paused_at || pipe_is_full(&f->content) || s->visit.run.call ||
                              delivery_is_full(&s->delivery));
    bool was_ours = tx->stalled;
    tx->stalled = ours;
    if (ours || was_ours) { /* nobody woke us while it lasted: the clocks begin when it is over */
        s->client_by = now + s->listen->timeouts.data;
        s->rate_from = now;
        s->rate_octets = octets;
        return false;
    }
    if (content_is_fast(s, octets))
        return false;
    struct reply r = reply_named(REPLY_TOO_SLOW);
    cut_off(s, WHY_TOO_SLOW, &r);
    return true;
}

void content_refuse_size(struct session *s)
{
    struct reply r = content_too_big(s, &s->tx->message.arena);
    flow_refuse(&s->visit, BY_LIMIT, &r);
}

/* ---- decoding ------------------------------------------------------------------------------------------------------ */

/* Above 125 % of limits.memory only the oldest transaction with unread content reads on, so that one finishes and frees its
 * memory. A transaction that has been paused for min(timeouts.data, PAUSE_MOST) is refused (452), which frees its share. */
static bool must_pause(struct session *s)
{
    struct transaction *tx = s->tx;
    uint64_t most = s->listen->visit.limits.memory, now = loop_now(s->worker->mail.loop);
    bool pause = !content_is_dropped(&tx->message) && block_total() + arena_total() > most + most / 4 && !pipe_is_empty(&s->stream->in) &&
                 worker_oldest_content(s->worker) < tx->message.started_us;
    if (!pause) {
        tx->paused_at = 0;
    } else if (!tx->paused_at) {
        tx->paused_at = now;
    } else if (now - tx->paused_at >= min_u64(s->listen->timeouts.data, PAUSE_MOST)) {
        flow_refuse_named(&s->visit, REPLY_MEMORY);
        tx->paused_at = 0;
    }
    return tx->paused_at;
}

static bool decode(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    if (flow_is_taken(f))
        return false;
    if (must_pause(s))
        return false;
    bool moved = decoder_step(&tx->decoder, &s->stream->in, content_is_dropped(&tx->message) ? NULL : &f->content, FLOW_OCTETS);
    uint64_t most = s->listen->visit.limits.size;
    tx->message.octets = tx->decoder.octets;
    if (tx->decoder.saw_bare && s->listen->bare == BARE_REJECT && !content_is_dropped(&tx->message))
        flow_refuse_named(&s->visit, REPLY_BARE_LF);
    if (most && tx->decoder.octets > most && !content_is_dropped(&tx->message))
        content_refuse_size(s);
    if (tx->decoder.ended) {
        f->content.ended = true;
        tx->message.data_done_us = loop_micros(s->worker->mail.loop);
    }
    return moved;
}

/* DROP at a content stage: the refusal is told at once. */
static bool has_dropped(struct session *s)
{
    if (!s->tx->message.drop)
        return false;
    session_end(s, WHY_FILTER, &s->tx->message.refusal);
    return true;
}

enum next content_run(struct session *s)
{
    struct transaction *tx = s->tx;
    for (int i = 0; i < FLOW_TURNS; i++) {
        bool moved = flow_turn(&s->visit);
        if (has_dropped(s))
            return NEXT_END;
        moved |= decode(s);
        if (!flow_is_taken(&tx->message.flow)) /* else it is judged first: what is held whole may go by BDAT */
            moved |= delivery_open(&s->delivery);
        if (!moved)
            return NEXT_MORE;
    }
    task_wake(&s->task); /* others want to run too */
    return NEXT_MORE;
}

/* ---- DATA ---------------------------------------------------------------------------------------------------------- */

enum next content_turn(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    uint64_t wire = tx->decoder.wire;
    if (content_run(s) == NEXT_END)
        return NEXT_MORE;
    if (flow_is_taken(f)) {
        session_go(s, STEP_VERDICT);
        return NEXT_MORE;
    }
    if (chunk_is_whole(&tx->decoder))
        return chunk_end(s);
    if (tx->decoder.wire != wire)
        s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.data;
    if (s->stream->dead || (s->stream->ended && pipe_is_empty(&s->stream->in)))
        return leave(s);
    if (content_is_dropped(&tx->message) && content_is_far_over(s, tx->decoder.wire)) {
        struct reply r = content_too_big(s, &tx->message.arena);
        cut_off(s, WHY_OVERSIZE, &r);
        return NEXT_MORE;
    }
    if (content_is_slow(s))
        return NEXT_MORE;
    return NEXT_WAIT;
}

/* ---- verdict -------------------------------------------------------------------------------------------------------- */

static enum next finish(struct session *s, enum transaction_end end, const struct reply *r)
{
    struct transaction *tx = s->tx;
    struct reply said = reply_keep(&s->line, r);
    if (tx->message.end == END_NONE)
        tx->message.end = end;
    if (!tx->refusal_told)
        tx->message.end_reply = reply_keep(&tx->message.arena, r);
    s->junk = 0;
    bool gone = s->stream->dead;
    if (!gone)
        session_reply(s, &said);
    transaction_reset(s, end);
    if (gone)
        return session_end(s, WHY_RESET, NULL);
    s->state = s->said_hello ? STATE_READY : STATE_HELLO;
    session_go(s, STEP_LINE);
    return NEXT_MORE;
}

static enum next tell_discarded(struct session *s)
{
    struct reply r = reply_named(REPLY_OK);
    return finish(s, END_DISCARDED, &r);
}

static void set_clocks(struct session *s)
{
    struct transaction *tx = s->tx;
    if (tx->message.end_at_ms)
        return;
    tx->message.end_at_ms = loop_now(s->worker->mail.loop);
    tx->message.end_by_ms = tx->message.end_at_ms + s->listen->timeouts.end_by;
    s->client_by = 0;
}

enum next verdict_turn(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    set_clocks(s);
    if (tx->message.fate == MESSAGE_RELEASED) {
        if (!tx->message.end_reply.code)
            return NEXT_WAIT;
        tx->message.backend_us = loop_micros(s->worker->mail.loop) - s->delivery.transfer.release_at_us;
        return finish(s, tx->message.quarantined && reply_class(&tx->message.end_reply) == 2 ? END_QUARANTINED : transaction_end_of(&tx->message.end_reply),
                      &tx->message.end_reply);
    }
    if (!content_is_dropped(&tx->message) && loop_now(s->worker->mail.loop) >= tx->message.end_by_ms) {
        struct reply r = reply_named(REPLY_BACKEND_SLOW);
        visit_stop(&s->visit, CANCEL_TIMEOUT);
        flow_refuse(&s->visit, BY_BACKEND, &r);
    }
    if (!content_is_dropped(&tx->message) && s->stream->dead)
        return leave(s);
    if (!content_is_dropped(&tx->message))
        flow_judge(&s->visit);
    if (has_dropped(s))
        return NEXT_MORE;
    if (delivery_open(&s->delivery))
        return NEXT_MORE;
    if (!content_is_dropped(&tx->message) && flow_is_judged(f) && delivery_is_open(&s->delivery) && delivery_send(&s->delivery)) {
        if (session_client_left(s))
            return leave(s);
        delivery_release(&s->delivery);
        return NEXT_WAIT;
    }
    if (!content_is_dropped(&tx->message)) {
        if (delivery_is_open(&s->delivery))
            flow_run(&s->visit);
        if (has_dropped(s))
            return NEXT_MORE;
        if (!content_is_dropped(&tx->message))
            return NEXT_WAIT;
    }
    if (tx->message.fate == MESSAGE_DISCARDED)
        return tell_discarded(s);
    struct reply again = reply_print(&s->line, REPLY_SEQUENCE, "the content was refused");
    enum transaction_end end = tx->message.accepted || tx->message.discarded ? transaction_end_of(&tx->message.refusal) : END_ABORTED;
    return finish(s, end, tx->refusal_told ? &again : &tx->message.refusal);
}
