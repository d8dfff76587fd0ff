/* content.c - the fields and the body that an MTA says, into the flow (mail/flow.h): the same octets that a client
 * would have sent. */
#include "milter/milter.h"
#include "base/log.h"

static struct flow *flow_of(struct milter *m)
{
    return &m->message.flow;
}

static void begin(struct milter *m)
{
    if (flow_has_begun(flow_of(m)))
        return;
    m->message.data_at_us = loop_micros(m->worker->mail->loop);
    if (m->message.fate == MESSAGE_FLOWS && milter_nobody_is_left(&m->message)) /* and no filter sees content that goes nowhere */
        m->message.fate = MESSAGE_DISCARDED;
    flow_start(&m->visit);
    m->said_body.mark = 4 * PIPE_MARK; /* the body is said anew from it, a packet of MILTER_DATA_MOST at a time */
}

static void put(struct milter *m, struct str octets)
{
    m->message.octets += octets.len;
    if (!content_is_dropped(&m->message))
        pipe_copy(&flow_of(m)->content, octets.at, octets.len);
}

/* ---- memory ---- */

bool milter_memory_is_short(const struct milter *m)
{
    uint64_t most = m->conf.limits.memory;
    return block_total() + arena_total() > most + most / 4;
}

static bool is_content(const struct milter_packet *p)
{
    return p->kind == 'L' || ((p->kind == 'B' || p->kind == 'E') && p->rest.len);
}

/* When the oldest message began whose MTA has more to say of it. */
static uint64_t oldest_content(const struct milter_worker *w)
{
    uint64_t oldest = UINT64_MAX;
    for (const struct milter *m = w->first; m; m = m->next)
        if (m->visit.message && !m->closing && !pipe_is_empty(&m->stream->in))
            oldest = min_u64(oldest, m->message.started_us);
    return oldest;
}

/* While memory is short only the oldest message with unread content goes on, so that one finishes and frees what it
 * has. Whoever has waited as long as an MTA waits for an answer is put off, and gives back what it holds. */
bool milter_must_pause(struct milter *m, const struct milter_packet *p)
{
    uint64_t now = loop_now(m->worker->mail->loop);
    bool pause = is_content(p) && m->visit.message && m->message.fate == MESSAGE_FLOWS && milter_memory_is_short(m) &&
                 oldest_content(m->worker) < m->message.started_us;
    if (!pause) {
        m->paused_at = 0;
    } else if (!m->paused_at) {
        m->paused_at = now;
    } else if (now - m->paused_at >= m->listen->timeouts.command) {
        flow_refuse_named(&m->visit, REPLY_MEMORY);
        flow_free(flow_of(m));
        m->paused_at = 0;
    }
    return m->paused_at;
}

/* ---- content ---- */

/* In the order of packets, as many of them as there are fields: no other way leads into the header section. */
void milter_field(struct milter *m, const struct milter_packet *p)
{
    bool leadspc = m->agreed.protocol & MILTER_HDR_LEADSPC;
    const struct str pieces[] = {p->name, STR(":"), milter_value_in(p->value, leadspc, &m->scratch), STR("\r\n")};
    begin(m);
    m->fields++;
    for (size_t i = 0; i < countof(pieces); i++) {
        put(m, pieces[i]);
        m->head_octets += pieces[i].len;
    }
    milter_head_is_done(m);
}

void milter_end_head(struct milter *m)
{
    begin(m);
    if (m->head_ended)
        return;
    m->head_ended = true;
    m->head_octets += 2;
    put(m, STR("\r\n"));
}

void milter_body(struct milter *m, struct str octets)
{
    milter_end_head(m);
    put(m, octets);
}

void milter_content_end(struct milter *m)
{
    struct loop *loop = m->worker->mail->loop;
    struct flow *f = flow_of(m);
    milter_end_head(m);
    f->content.ended = true;
    m->message.data_done_us = loop_micros(loop);
    m->message.end_at_ms = loop_now(loop);
    m->message.end_by_ms = m->message.end_at_ms + m->listen->timeouts.end_by;
}

/* ---- the filters' side ---- */

/* The fields as mail sees them must be the packets that came: edits name them by their places. */
static void look_at_head(struct milter *m)
{
    const struct headers *h = &m->message.headers;
    if (m->was || flow_of(m)->at == FLOW_HEAD || content_is_dropped(&m->message))
        return;
    if (!h->separator || h->octets != m->head_octets || h->handles < m->fields) {
        log_say(LOG_ERROR, "%s.%u: the header section has other fields than the MTA sent", m->visit.id,
                m->message.number);
        flow_refuse_named(&m->visit, REPLY_FILTER_FAILED);
        return;
    }
    milter_keep_fields(m);
}

bool milter_head_is_done(struct milter *m)
{
    int turns = 0;
    bool moved = true;
    while (moved && !content_is_dropped(&m->message) && !flow_head_is_done(flow_of(m)) && turns++ < FLOW_TURNS) {
        moved = flow_turn(&m->visit);
        look_at_head(m);
    }
    if (turns > FLOW_TURNS)
        task_wake(&m->task); /* others want to run too */
    return content_is_dropped(&m->message) || flow_head_is_done(flow_of(m));
}

bool milter_body_is_taken(struct milter *m)
{
    if (!milter_head_is_done(m))
        return false;
    if (!content_is_dropped(&m->message))
        flow_run(&m->visit);
    return content_is_dropped(&m->message) || !pipe_is_full(&flow_of(m)->content);
}

/* Content held here is read by somebody in the end, whoever that is. */
bool milter_wants_body(struct milter *m)
{
    return m->message.data_when == WHEN_AT_VERDICT || visit_wants(&m->visit, FILTER_BODY) ||
           visit_wants(&m->visit, FILTER_PART) || visit_wants(&m->visit, FILTER_MESSAGE);
}

bool milter_is_judged(struct milter *m)
{
    return (milter_head_is_done(m) && !content_is_dropped(&m->message) && flow_judge(&m->visit)) ||
           content_is_dropped(&m->message);
}
