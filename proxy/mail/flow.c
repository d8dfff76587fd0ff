/* flow.c - the stages of content, run tail to head: first make room, then fill (DESIGN 8; engine.md A2, A13 to A15).
 *
 * Owns the pipes from the decoder up to the spool; what follows is delivery.c's. A pass is a run
 * of the whole content through the filters behind a late editor: pass 0 takes what the client sends, a later one what the
 * spool holds. */
#include "mail/flow.h"
#include "smtp/back/backend.h"
#include "smtp/front/content.h"
#include "smtp/back/envelope.h"
#include "smtp/front/session.h"

enum { CHUNK_LEAST = 4096, CHUNK_GATHER = 16384, TURNS = 17 };
enum { PAUSE_MOST = 120000 }; /* milliseconds: a client gives up after three minutes (RFC 5321 4.5.3.2.5) at the earliest */

static const struct chain *chain_of(const struct session *s)
{
    return s->listen->visit.chain;
}

static uint16_t pass_first(const struct session *s)
{
    uint16_t pass = s->tx->message.flow.pass;
    return pass ? chain_pass_end(chain_of(s), (uint16_t)(pass - 1)) : 0;
}

static uint16_t pass_end(const struct session *s)
{
    return chain_pass_end(chain_of(s), s->tx->message.flow.pass);
}

static bool hooks_body(const struct filter *f)
{
    return f->stages & (1u << FILTER_BODY);
}

static bool rewrites(const struct filter *f)
{
    return hooks_body(f) && (f->flags & FILTER_EDITS_BODY) && !f->observe;
}

/* Cuts the filters of the pass behind each rewriter; without body hooks there are no segments and content moves as it is. */
static void build_segments(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    const struct chain *chain = chain_of(s);
    uint16_t first = pass_first(s), end = pass_end(s), rewriters = 0;
    bool hooked = false;
    for (uint16_t i = first; i < end; i++) {
        hooked |= hooks_body(chain->filters[i]);
        rewriters += rewrites(chain->filters[i]);
    }
    f->nsegments = 0;
    f->edits_body = rewriters > 0;
    if (!hooked)
        return;
    f->segments = arena_alloc(&s->tx->message.arena, (rewriters + 1u) * sizeof *f->segments);
    f->between = arena_alloc(&s->tx->message.arena, (rewriters + 1u) * sizeof *f->between);
    struct pipe *in = &f->content;
    uint16_t from = first;
    for (uint16_t i = first; i < end; i++) {
        bool cut = rewrites(chain->filters[i]);
        if (!cut && i + 1 < end)
            continue;
        struct segment *seg = &f->segments[f->nsegments++];
        struct pipe *out = i + 1 == end ? &f->filtered : &f->between[f->nsegments - 1];
        out->mark = out == &f->filtered ? out->mark : PIPE_MARK;
        *seg = (struct segment){.first = from, .end = (uint16_t)(i + 1), .in = in, .out = out, .rewrites = cut};
        in = out;
        from = (uint16_t)(i + 1);
    }
}

void flow_start(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    bool binary = tx->message.params.body == BODY_BINARYMIME;
    decoder_start(&f->decoder, s->state != STATE_CHUNKS ? FRAMING_DOTS : binary ? FRAMING_BINARY : FRAMING_CHUNKS,
                  s->listen->bare);
    if (f->data != DATA_OPEN)
        encoder_start(&f->encoder, FRAMING_DOTS, GUARD_NUL); /* anew, for whom it is, when that one has said 354 */
    f->content.mark = f->outgoing.mark = PIPE_MARK;
    f->filtered.mark = tx->message.say == SAY_AT_BOUND ? max_size(s->listen->visit.limits.hold_memory, PIPE_MARK) : PIPE_MARK;
    f->passes = chain_passes(chain_of(s));
    if (tx->message.say == SAY_AT_VERDICT)
        f->spool = spool_open(s->listen->visit.limits.hold_memory, s->listen->visit.limits.held);
    build_segments(s);
}

void flow_free(struct flow *f)
{
    pipe_clear(&f->content);
    pipe_clear(&f->filtered);
    pipe_clear(&f->chunk);
    pipe_clear(&f->outgoing);
    pipe_clear(&f->packed);
    for (uint16_t i = 0; f->between && i < f->nsegments; i++)
        pipe_clear(&f->between[i]);
    spool_close(&f->spool);
    spool_close(&f->next_spool);
}

void flow_refuse(struct session *s, enum reply_name name)
{
    struct reply r = reply_named(name);
    s->tx->message.limited |= !s->tx->message.sink;
    transaction_refuse(s, &r);
}

void flow_refuse_size(struct session *s)
{
    struct transaction *tx = s->tx;
    struct reply r = content_too_big(s, &tx->message.arena);
    tx->message.limited = true;
    transaction_refuse(s, &r);
}

/* ---- decoder and head ------------------------------------------------------------------------------------------------ */

/* Over 1.25 times the worker's memory nobody's content is read on but the oldest transaction's that has some to be read, so that
 * somebody finishes and gives back what it holds (engine.md A19). Who has waited long for that gives back what it holds itself. */
static bool must_pause(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    uint64_t most = s->listen->visit.limits.memory, now = loop_now(s->worker->mail.loop);
    bool pause = !s->tx->message.sink && block_total() + arena_total() > most + most / 4 && !pipe_is_empty(&s->stream->in) &&
                 worker_oldest_content(s->worker) < s->tx->message.started;
    if (!pause) {
        f->paused_at = 0;
    } else if (!f->paused_at) {
        f->paused_at = now;
    } else if (now - f->paused_at >= min_u64(s->listen->timeouts.data, PAUSE_MOST)) {
        flow_refuse(s, REPLY_MEMORY);
        pause = false;
    }
    return pause;
}

static bool decode(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    if (f->taken || f->pass)
        return false;
    f->paused = must_pause(s);
    if (f->paused)
        return false;
    bool moved = decoder_step(&f->decoder, &s->stream->in, tx->message.sink ? NULL : &f->content, FLOW_OCTETS);
    uint64_t most = s->listen->visit.limits.size;
    if (f->decoder.saw_bare && s->listen->bare == BARE_REJECT && !tx->message.sink)
        flow_refuse(s, REPLY_BARE_LF);
    if (most && f->decoder.octets > most && !tx->message.sink)
        flow_refuse_size(s);
    if (f->decoder.ended) {
        f->taken = f->content.ended = true;
        tx->message.data_done = loop_micros(s->worker->mail.loop);
    }
    return moved;
}

/* What the head tells the log and the loop check: before any filter may change it. */
static void look_at_head(struct session *s)
{
    struct transaction *tx = s->tx;
    const struct field *id = headers_next(&tx->message.headers, NULL, STR("Message-ID"));
    if (id)
        tx->message.flow.message_id = str_trim(header_unfold(id->value, &tx->message.arena));
    if (received_is_loop(s))
        flow_refuse(s, REPLY_HOPS);
}

/* What filters added at mail, rcpt and data. */
static void add_queued(struct session *s)
{
    struct transaction *tx = s->tx;
    for (struct queued_field *q = tx->message.queued; q; q = q->next)
        if (!headers_add(&tx->message.headers, NULL, q->top, q->name, q->value))
            log_say(LOG_ERROR, "%s.%u: bad field %.*s added by a filter", s->visit.id, tx->message.number, STR_ARGS(q->name));
}

static bool take_head(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    size_t before = f->content.octets;
    switch (headers_step(&tx->message.headers, &f->content, s->listen->visit.limits.header_size)) {
    case HEADERS_TOO_BIG: flow_refuse(s, REPLY_HEADER_TOO_BIG); return true;
    case HEADERS_MORE: return f->content.octets != before;
    case HEADERS_DONE: break;
    }
    look_at_head(s);
    if (s->listen->visit.received)
        received_add(s);
    add_queued(s);
    f->head = HEAD_HOOK;
    visit_run(&s->visit, FILTER_HEADERS, 0, pass_end(s));
    return true;
}

/* ---- verdicts ------------------------------------------------------------------------------------------------------- */

static void judge_content(struct session *s)
{
    struct transaction *tx = s->tx;
    struct verdict *v = &s->visit.run.verdict;
    if (v->kind == VERDICT_CONTINUE)
        return;
    visit_note(&s->visit);
    switch (v->kind) {
    case VERDICT_REJECT:
    case VERDICT_DEFER: transaction_refuse(s, &v->reply); break;
    case VERDICT_DISCARD:
        tx->message.discard = tx->message.sink = true;
        envelope_leave(s, flow_way_out(s));
        tx->message.flow.data = DATA_UNSAID;
        break;
    case VERDICT_QUARANTINE:
        if (tx->message.flow.data >= DATA_ASKED) { /* half of it is elsewhere: undeclared and late (engine.md A16) */
            flow_refuse(s, REPLY_FILTER_FAILED);
            break;
        }
        tx->message.quarantined = true;
        if (&tx->route->hop != chain_of(s)->quarantine) {
            tx->route = backend_of(chain_of(s)->quarantine);
            tx->need_anew = true;
        }
        break;
    case VERDICT_DROP:
        transaction_refuse(s, &v->reply);
        session_end(s, WHY_FILTER, &v->reply);
        break;
    default: never("a verdict that content does not know");
    }
}

/* ---- body through the chain ------------------------------------------------------------------------------------------ */

static void take_chunk(struct flow *f, struct segment *seg)
{
    struct pipe *in = seg->in;
    size_t n = 0;
    if (in->first && in->first->len >= CHUNK_LEAST) {
        n = min_size(in->first->len, BLOCK_READ);
        pipe_move(in, &f->chunk, n);
    } else if (in->octets) {
        n = min_size(in->octets, CHUNK_GATHER);
        struct block *b = block_take(n);
        pipe_peek(in, 0, b->octets, n);
        b->used = (uint32_t)n;
        pipe_view(&f->chunk, b, b->octets, n);
        block_drop(b);
        pipe_drop(in, n);
    }
    f->chunk_last = in->ended && pipe_is_empty(in);
    f->chunk_octets = n ? (struct str){f->chunk.first->at, f->chunk.first->len} : STR("");
    must(f->chunk_octets.len == n);
    f->chunk_replaced = false;
}

/* A chunk that no filter replaced. A CR at its end waits for what comes next, if that may be a filter's own words. */
static void pass_chunk(struct session *s, struct segment *seg)
{
    struct flow *f = &s->tx->message.flow;
    size_t n = f->chunk_octets.len;
    if (seg->pending_cr && n && f->chunk_octets.at[0] == '\n')
        pipe_put(seg->out, STR("\r"));
    if (n) {
        bool waits = f->chunk_octets.at[n - 1] == '\r' && !f->chunk_last;
        seg->pending_cr = waits && seg->rewrites && s->tx->message.params.body != BODY_BINARYMIME;
    }
    pipe_move(&f->chunk, seg->out, n - (n && seg->pending_cr));
    pipe_clear(&f->chunk);
}

static void finish_chunk(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    struct segment *seg = &f->segments[f->at_segment];
    f->chunk_busy = false;
    judge_content(s);
    if (s->state == STATE_CLOSING || s->tx->message.sink) {
        pipe_clear(&f->chunk);
        return;
    }
    if (f->chunk_replaced)
        pipe_clear(&f->chunk);
    else
        pass_chunk(s, seg);
    if (f->at_segment == 0)
        f->chunk_offset += f->chunk_octets.len;
    if (f->chunk_last) {
        seg->finished = seg->out->ended = true;
        f->body_done = f->at_segment + 1 == f->nsegments;
    }
}

static bool filter_body(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    if (f->chunk_busy) {
        const struct pipe *out = f->segments[f->at_segment].out;
        size_t before = out->octets;
        if (!visit_turn(&s->visit)) /* it may have said something, and wait for the room that is made by passing that on */
            return out->octets != before;
        finish_chunk(s);
        return true;
    }
    for (int j = f->nsegments - 1; j >= 0; j--) {
        struct segment *seg = &f->segments[j];
        if (seg->finished || pipe_is_full(seg->out))
            continue;
        if (seg->in->octets < CHUNK_LEAST && !seg->in->ended) {
            pipe_compact(seg->in); /* few octets of large blocks must not look like a full pipe */
            continue;
        }
        take_chunk(f, seg);
        f->at_segment = (uint16_t)j;
        f->chunk_busy = true;
        visit_run(&s->visit, FILTER_BODY, seg->first, seg->end);
        if (visit_turn(&s->visit))
            finish_chunk(s);
        return true;
    }
    return false;
}

static bool pass_body(struct flow *f)
{
    size_t n = 0;
    while (!pipe_is_empty(&f->content) && !pipe_is_full(&f->filtered)) {
        size_t part = f->content.first->len;
        pipe_move(&f->content, &f->filtered, part);
        n += part;
    }
    if (f->content.ended && pipe_is_empty(&f->content)) {
        f->filtered.ended = f->body_done = true;
        return true;
    }
    return n > 0;
}

/* What a rewriter says to other body filters is taken whole, however much it is: they have their turn when its call is over, and no
 * sooner, so waiting for room would be waiting for itself. */
bool flow_has_room(const struct flow *f)
{
    if (!f->nsegments || !f->chunk_busy)
        return true;
    const struct pipe *out = f->segments[f->at_segment].out;
    return out != &f->filtered || !pipe_is_full(out);
}

bool flow_emit(struct session *s, struct str octets)
{
    struct flow *f = &s->tx->message.flow;
    struct pipe *out;
    bool *pending_cr = f->judging ? &f->pending_cr : &f->segments[f->at_segment].pending_cr;
    if (f->judging) {
        if (!f->next_spool)
            f->next_spool = spool_open(s->listen->visit.limits.hold_memory, s->listen->visit.limits.held);
        out = &f->chunk;
    } else {
        f->chunk_replaced = true;
        out = f->segments[f->at_segment].out;
    }
    if (s->tx->message.params.body == BODY_BINARYMIME) { /* whose content has no lines, and leaves by BDAT */
        pipe_copy(out, octets.at, octets.len);
        octets.len = 0;
    }
    /* Line ends are mended here, so that nothing a filter says can be taken for the end of mail data (promise 3). */
    for (size_t at = 0; at < octets.len;) {
        size_t run = at;
        while (run < octets.len && octets.at[run] != '\r' && octets.at[run] != '\n')
            run++;
        if (run > at) {
            *pending_cr = false;
            pipe_copy(out, octets.at + at, run - at);
        }
        if (run < octets.len && octets.at[run] == '\n')
            pipe_copy(out, "\r\n", 2);
        *pending_cr = run < octets.len && octets.at[run] == '\r';
        at = run + 1;
    }
    if (!f->judging)
        return flow_has_room(f);
    spool_put(f->next_spool, out);
    return true;
}

/* The spool at hand holds no more. */
void flow_refuse_held(struct session *s, const struct spool *spool)
{
    if (spool_is_over(spool))
        log_rare(LOG_WARNING, "held", "%llu octets of content are held, and more than limits.held (%llu) are not taken",
                 (unsigned long long)spool_total(), (unsigned long long)s->listen->visit.limits.held);
    else
        log_rare(LOG_ERROR, "spool", "held content cannot be written: the folder for temporary files is full or absent");
    flow_refuse(s, REPLY_MEMORY);
}

/* ---- spool ----------------------------------------------------------------------------------------------------------- */

static bool hold(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    if (s->tx->message.say != SAY_AT_VERDICT || pipe_is_empty(&f->filtered))
        return false;
    if (f->pass && !f->edits_body) {
        pipe_clear(&f->filtered);
        return true;
    }
    if (!spool_put(f->pass ? f->next_spool : f->spool, &f->filtered)) {
        flow_refuse_held(s, f->pass ? f->next_spool : f->spool);
    }
    return true;
}

/* ---- one turn ------------------------------------------------------------------------------------------------------- */

static bool feed(struct flow *f)
{
    if (!f->pass || f->content.ended || pipe_is_full(&f->content))
        return false;
    if (spool_take(f->spool, &f->content))
        f->content.ended = true;
    return true;
}

static bool head_and_body(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    switch (f->head) {
    case HEAD_TAKE: return take_head(s);
    case HEAD_HOOK:
        if (!visit_turn(&s->visit))
            return false;
        judge_content(s);
        f->head = HEAD_DONE;
        return true;
    case HEAD_DONE: break;
    }
    if (f->body_done)
        return false;
    return f->nsegments ? filter_body(s) : pass_body(f);
}

bool flow_turn(struct session *s)
{
    struct transaction *tx = s->tx;
    bool moved = false;
    if (!tx->message.sink)
        moved |= flow_deliver(s);
    if (!tx->message.sink)
        moved |= hold(s);
    if (!tx->message.sink)
        moved |= head_and_body(s);
    if (s->state == STATE_CLOSING)
        return false;
    if (!tx->message.sink && !tx->message.flow.body_done)
        moved |= feed(&tx->message.flow);
    moved |= decode(s);
    return moved;
}

bool flow_run(struct session *s)
{
    for (int i = 0; i < TURNS; i++) {
        bool moved = flow_turn(s);
        if (s->state == STATE_CLOSING)
            return true;
        if (!s->tx->message.flow.taken) /* else it is judged first: what is held whole may go by BDAT */
            moved |= flow_open(s);
        if (!moved)
            return true;
    }
    task_wake(&s->task); /* others want to run too */
    return false;
}

/* ---- after the client's end ------------------------------------------------------------------------------------------ */

static void begin_pass(struct session *s)
{
    struct flow *f = &s->tx->message.flow;
    pipe_clear(&f->content);
    pipe_clear(&f->filtered);
    f->content.ended = f->filtered.ended = f->body_done = false;
    f->chunk_offset = 0;
    spool_rewind(f->spool);
    build_segments(s);
    if (f->edits_body)
        f->next_spool = spool_open(s->listen->visit.limits.hold_memory, s->listen->visit.limits.held);
    f->head = HEAD_HOOK;
    visit_run(&s->visit, FILTER_HEADERS, pass_first(s), pass_end(s));
}

static void swap_spools(struct flow *f)
{
    if (!f->next_spool)
        return;
    spool_close(&f->spool);
    f->spool = f->next_spool;
    f->next_spool = NULL;
}

bool flow_judge(struct session *s)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    while (!f->judged && !tx->message.sink && s->state != STATE_CLOSING) {
        if (!f->judging) {
            if (!flow_run(s) || !f->body_done || tx->message.sink || s->state == STATE_CLOSING)
                return false;
            if (tx->message.say == SAY_AT_VERDICT) {
                must(pipe_is_empty(&f->filtered));
                if (f->pass)
                    swap_spools(f);
            }
            f->judging = true;
            visit_run(&s->visit, FILTER_MESSAGE, pass_first(s), pass_end(s));
        }
        if (!visit_turn(&s->visit))
            return false;
        judge_content(s);
        if (tx->message.sink || s->state == STATE_CLOSING)
            return false;
        swap_spools(f);
        f->judging = false;
        if (f->spool && spool_failed(f->spool))
            flow_refuse_held(s, f->spool);
        else if (++f->pass < f->passes)
            begin_pass(s);
        else
            f->judged = true;
        if (f->judged && f->spool)
            spool_rewind(f->spool); /* once: from here on flow_deliver reads it, in as many turns as the backend needs */
    }
    return f->judged;
}
