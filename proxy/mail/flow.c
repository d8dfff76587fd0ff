/* flow.c - the stages of content, run tail to head: first make room, then fill.
 *
 * Owns the pipes from the decoder up to the spool; what follows is delivery.c's. A pass is a run
 * of the whole content through the filters behind a late editor: pass 0 takes what the client sends, a later one what the
 * spool holds. */
#include "mail/visit.h"
#include "mail/outlet.h"
#include "base/log.h"

enum { CHUNK_LEAST = 4096, CHUNK_GATHER = 16384 };

static const struct chain *chain_of(const struct visit *v)
{
    return v->conf->chain;
}

static uint16_t pass_first(const struct visit *v)
{
    uint16_t pass = v->message->flow.pass;
    return pass ? chain_pass_end(chain_of(v), (uint16_t)(pass - 1)) : 0;
}

static uint16_t pass_end(const struct visit *v)
{
    return chain_pass_end(chain_of(v), v->message->flow.pass);
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
static void build_segments(struct visit *v)
{
    struct flow *f = &v->message->flow;
    const struct chain *chain = chain_of(v);
    uint16_t first = pass_first(v), end = pass_end(v), rewriters = 0;
    bool hooked = false;
    for (uint16_t i = first; i < end; i++) {
        hooked |= hooks_body(chain->filters[i]);
        rewriters += rewrites(chain->filters[i]);
    }
    f->nsegments = 0;
    f->edits_body = rewriters > 0;
    if (!hooked)
        return;
    f->segments = arena_alloc(&v->message->arena, (rewriters + 1u) * sizeof *f->segments);
    f->between = arena_alloc(&v->message->arena, (rewriters + 1u) * sizeof *f->between);
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

void flow_start(struct visit *v)
{
    struct message *m = v->message;
    struct flow *f = &m->flow;
    f->at = FLOW_HEAD;
    f->content.mark = PIPE_MARK;
    f->filtered.mark = m->data_when == WHEN_AT_BOUND ? max_size(v->conf->limits.hold_memory, PIPE_MARK) : PIPE_MARK;
    f->passes = chain_passes(chain_of(v));
    if (m->data_when == WHEN_AT_VERDICT)
        f->spool = spool_open(v->conf->limits.hold_memory, v->conf->limits.held);
    build_segments(v);
}

void flow_free(struct flow *f)
{
    pipe_clear(&f->content);
    pipe_clear(&f->filtered);
    pipe_clear(&f->chunk);
    for (uint16_t i = 0; f->between && i < f->nsegments; i++)
        pipe_clear(&f->between[i]);
    spool_close(&f->spool);
    spool_close(&f->next_spool);
}

void flow_discard(struct visit *v)
{
    v->message->fate = MESSAGE_DISCARDED;
    v->outlet->ops->abandon(v->outlet);
}

void flow_refuse(struct visit *v, enum author by, const struct reply *r)
{
    struct message *m = v->message;
    if (m->fate == MESSAGE_RELEASED)
        return;
    visit_stop(v, CANCEL_CLIENT_GONE); /* nobody waits any more for the filter that is suspended */
    message_refuse(m, by, r);
    v->outlet->ops->abandon(v->outlet);
}

void flow_refuse_named(struct visit *v, enum reply_name name)
{
    struct reply r = reply_named(name);
    flow_refuse(v, BY_LIMIT, &r);
}

/* ---- head ------------------------------------------------------------------------------------------------ */

/* What the head tells the log and the loop check: before any filter may change it. */
static void look_at_head(struct visit *v)
{
    struct message *m = v->message;
    const struct field *id = headers_next(&m->headers, NULL, STR("Message-ID"));
    if (id)
        m->flow.message_id = str_trim(header_unfold(id->value, &m->arena));
    if (received_is_loop(v))
        flow_refuse_named(v, REPLY_HOPS);
}

/* What filters added at mail, rcpt and data. */
static void add_queued(struct visit *v)
{
    struct message *m = v->message;
    for (struct queued_field *q = m->queued; q; q = q->next)
        if (!headers_add(&m->headers, NULL, q->top, q->name, q->value))
            log_say(LOG_ERROR, "%s.%u: bad field %.*s added by a filter", v->id, m->number, STR_ARGS(q->name));
}

static bool take_head(struct visit *v)
{
    struct message *m = v->message;
    struct flow *f = &m->flow;
    size_t before = f->content.octets;
    switch (headers_step(&m->headers, &f->content, v->conf->limits.header_size)) {
    case HEADERS_TOO_BIG: flow_refuse_named(v, REPLY_HEADER_TOO_BIG); return true;
    case HEADERS_MORE: return f->content.octets != before;
    case HEADERS_DONE: break;
    }
    look_at_head(v);
    if (v->conf->received)
        received_add(v);
    add_queued(v);
    f->at = FLOW_HEADERS;
    visit_run(v, FILTER_HEADERS, 0, pass_end(v));
    return true;
}

/* ---- verdicts ------------------------------------------------------------------------------------------------------- */

static void judge_content(struct visit *v)
{
    struct message *m = v->message;
    const struct verdict *verdict = &v->run.verdict;
    if (verdict->kind == VERDICT_CONTINUE)
        return;
    visit_note(v);
    switch (verdict->kind) {
    case VERDICT_DROP: m->drop = true; /* fall through */
    case VERDICT_REJECT:
    case VERDICT_DEFER: flow_refuse(v, BY_FILTER, &verdict->reply); break;
    case VERDICT_DISCARD:
        flow_discard(v);
        break;
    case VERDICT_QUARANTINE:
        if (v->outlet->ops->quarantine(v->outlet, chain_of(v)->quarantine))
            m->quarantined = true;
        else /* half of it is elsewhere: undeclared and late */
            flow_refuse_named(v, REPLY_FILTER_FAILED);
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
static void pass_chunk(struct visit *v, struct segment *seg)
{
    struct flow *f = &v->message->flow;
    size_t n = f->chunk_octets.len;
    if (seg->pending_cr && n && f->chunk_octets.at[0] == '\n')
        pipe_put(seg->out, STR("\r"));
    if (n) {
        bool waits = f->chunk_octets.at[n - 1] == '\r' && !f->chunk_last;
        seg->pending_cr = waits && seg->rewrites && v->message->params.body != BODY_BINARYMIME;
    }
    pipe_move(&f->chunk, seg->out, n - (n && seg->pending_cr));
    pipe_clear(&f->chunk);
}

static void finish_chunk(struct visit *v)
{
    struct flow *f = &v->message->flow;
    struct segment *seg = f->in_hand;
    f->in_hand = NULL;
    judge_content(v);
    if (content_is_dropped(v->message)) {
        pipe_clear(&f->chunk);
        return;
    }
    if (f->chunk_replaced)
        pipe_clear(&f->chunk);
    else
        pass_chunk(v, seg);
    if (seg == f->segments)
        f->chunk_offset += f->chunk_octets.len;
    if (f->chunk_last) {
        seg->finished = seg->out->ended = true;
        if (seg + 1 == f->segments + f->nsegments)
            f->at = FLOW_BODY_DONE;
    }
}

static bool filter_body(struct visit *v)
{
    struct flow *f = &v->message->flow;
    if (f->in_hand) {
        const struct pipe *out = f->in_hand->out;
        size_t before = out->octets;
        if (!visit_turn(v)) /* it may have said something, and wait for the room that is made by passing that on */
            return out->octets != before;
        finish_chunk(v);
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
        f->in_hand = seg;
        visit_run(v, FILTER_BODY, seg->first, seg->end);
        if (visit_turn(v))
            finish_chunk(v);
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
        f->filtered.ended = true;
        f->at = FLOW_BODY_DONE;
        return true;
    }
    return n > 0;
}

/* What a rewriter says to other body filters is taken whole, however much it is: they have their turn when its call is over, and no
 * sooner, so waiting for room would be waiting for itself. */
bool flow_has_room(const struct flow *f)
{
    if (!f->in_hand)
        return true;
    const struct pipe *out = f->in_hand->out;
    return out != &f->filtered || !pipe_is_full(out);
}

bool flow_emit(struct visit *v, struct str octets)
{
    struct flow *f = &v->message->flow;
    struct pipe *out;
    f->emitted = true;
    bool *pending_cr = f->at == FLOW_MESSAGE ? &f->pending_cr : &f->in_hand->pending_cr;
    if (f->at == FLOW_MESSAGE) {
        if (!f->next_spool)
            f->next_spool = spool_open(v->conf->limits.hold_memory, v->conf->limits.held);
        out = &f->chunk;
    } else {
        f->chunk_replaced = true;
        out = f->in_hand->out;
    }
    if (v->message->params.body == BODY_BINARYMIME) { /* whose content has no lines, and leaves by BDAT */
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
    if (f->at != FLOW_MESSAGE)
        return flow_has_room(f);
    spool_put(f->next_spool, out);
    return true;
}

/* The spool at hand holds no more. */
void flow_refuse_held(struct visit *v, const struct spool *spool)
{
    if (spool_is_over(spool))
        log_rare(LOG_WARNING, "held", "%llu octets of content are held, and more than limits.held (%llu) are not taken",
                 (unsigned long long)spool_total(), (unsigned long long)v->conf->limits.held);
    else
        log_rare(LOG_ERROR, "spool", "held content cannot be written: the folder for temporary files is full or absent");
    flow_refuse_named(v, REPLY_MEMORY);
}

/* ---- spool ----------------------------------------------------------------------------------------------------------- */

static bool hold(struct visit *v)
{
    struct flow *f = &v->message->flow;
    if (v->message->data_when != WHEN_AT_VERDICT || pipe_is_empty(&f->filtered))
        return false;
    if (f->pass && !f->edits_body) {
        pipe_clear(&f->filtered);
        return true;
    }
    if (!spool_put(f->pass ? f->next_spool : f->spool, &f->filtered)) {
        flow_refuse_held(v, f->pass ? f->next_spool : f->spool);
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

static bool head_and_body(struct visit *v)
{
    struct flow *f = &v->message->flow;
    switch (f->at) {
    case FLOW_HEAD: return take_head(v);
    case FLOW_HEADERS:
        if (!visit_turn(v))
            return false;
        judge_content(v);
        f->at = FLOW_BODY;
        return true;
    case FLOW_BODY: return f->nsegments ? filter_body(v) : pass_body(f);
    default: return false;
    }
}

bool flow_turn(struct visit *v)
{
    struct message *m = v->message;
    bool moved = false;
    if (!content_is_dropped(m))
        moved |= v->outlet->ops->take(v->outlet);
    if (!content_is_dropped(m))
        moved |= hold(v);
    if (!content_is_dropped(m))
        moved |= head_and_body(v);
    if (!content_is_dropped(m) && m->flow.at < FLOW_BODY_DONE)
        moved |= feed(&m->flow);
    return moved;
}

bool flow_run(struct visit *v)
{
    for (int i = 0; i < FLOW_TURNS; i++)
        if (!flow_turn(v) || v->message->drop)
            return true;
    task_wake(v->task); /* others want to run too */
    return false;
}

/* ---- after the client's end ------------------------------------------------------------------------------------------ */

static void begin_pass(struct visit *v)
{
    struct flow *f = &v->message->flow;
    pipe_clear(&f->content);
    pipe_clear(&f->filtered);
    f->content.ended = f->filtered.ended = false;
    f->chunk_offset = 0;
    spool_rewind(f->spool);
    build_segments(v);
    if (f->edits_body)
        f->next_spool = spool_open(v->conf->limits.hold_memory, v->conf->limits.held);
    f->at = FLOW_HEADERS;
    visit_run(v, FILTER_HEADERS, pass_first(v), pass_end(v));
}

static void swap_spools(struct flow *f)
{
    if (!f->next_spool)
        return;
    spool_close(&f->spool);
    f->spool = f->next_spool;
    f->next_spool = NULL;
}

bool flow_judge(struct visit *v)
{
    struct message *m = v->message;
    struct flow *f = &m->flow;
    while (!flow_is_judged(f) && !content_is_dropped(m)) {
        if (f->at != FLOW_MESSAGE) {
            if (!flow_run(v) || f->at < FLOW_BODY_DONE || content_is_dropped(m))
                return false;
            if (m->data_when == WHEN_AT_VERDICT) {
                must(pipe_is_empty(&f->filtered));
                if (f->pass)
                    swap_spools(f);
            }
            f->at = FLOW_MESSAGE;
            visit_run(v, FILTER_MESSAGE, pass_first(v), pass_end(v));
        }
        if (!visit_turn(v))
            return false;
        judge_content(v);
        if (content_is_dropped(m))
            return false;
        swap_spools(f);
        if (f->spool && spool_failed(f->spool))
            flow_refuse_held(v, f->spool);
        else if (++f->pass < f->passes)
            begin_pass(v);
        else
            f->at = FLOW_JUDGED;
        if (flow_is_judged(f) && f->spool)
            spool_rewind(f->spool); /* once: from here on delivery_take reads it, in as many turns as the backend needs */
    }
    return flow_is_judged(f);
}
