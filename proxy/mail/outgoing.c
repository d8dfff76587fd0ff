/* outgoing.c - fields first, then the body; each step takes what its pipe has room for. */
#include "mail/outgoing.h"
#include "base/log.h"

void outgoing_start(struct outgoing *o, enum framing framing, enum guard guard)
{
    outgoing_clear(o);
    encoder_start(&o->encoder, framing, guard);
}

void outgoing_clear(struct outgoing *o)
{
    pipe_clear(&o->unencoded);
    *o = (struct outgoing){.unencoded.mark = PIPE_MARK};
}

static void refuse_bad(struct visit *v, const struct outgoing *o)
{
    if (!o->encoder.hidden)
        log_say(LOG_ERROR, "%s.%u: content with a bare CR or LF reached the encoder", v->id, v->message->number);
    flow_refuse_named(v, o->encoder.hidden ? REPLY_HIDDEN_END : REPLY_FILTER_FAILED);
}

static bool encode(struct visit *v, struct outgoing *o, struct pipe *from, struct pipe *to)
{
    bool moved = encoder_step(&o->encoder, from, to, FLOW_OCTETS);
    if (o->encoder.bad)
        refuse_bad(v, o);
    return moved;
}

static bool take_held(struct visit *v, struct outgoing *o, struct pipe *to)
{
    struct spool *spool = v->message->flow.spool;
    size_t before = o->unencoded.octets;
    spool_take(spool, &o->unencoded);
    bool moved = o->unencoded.octets != before;
    if (spool_failed(spool))
        flow_refuse_held(v, spool);
    else if (!pipe_is_empty(&o->unencoded))
        moved |= encode(v, o, &o->unencoded, to);
    return moved;
}

bool outgoing_take(struct visit *v, struct outgoing *o, struct pipe *to)
{
    struct message *m = v->message;
    struct flow *f = &m->flow;
    bool moved = false;
    if (!o->fields.done) {
        /* Field edits of a headers hook are known now; later ones only where the content was held (AT_VERDICT). */
        must(o->fields.begun || m->data_when != WHEN_AT_VERDICT || flow_is_judged(f));
        headers_send(&m->headers, &o->fields, &o->unencoded);
        moved = true;
    }
    if (!pipe_is_empty(&o->unencoded))
        moved |= encode(v, o, &o->unencoded, to);
    if (content_is_dropped(m) || !o->fields.done || !pipe_is_empty(&o->unencoded))
        return moved;
    if (m->data_when == WHEN_AT_VERDICT ? spool_octets(f->spool) > 0 : !pipe_is_empty(&f->filtered))
        headers_part(&m->headers, &o->fields, &o->unencoded);
    if (!pipe_is_empty(&o->unencoded))
        return encode(v, o, &o->unencoded, to) || moved;
    if (m->data_when == WHEN_AT_VERDICT)
        moved |= take_held(v, o, to);
    else if (!pipe_is_empty(&f->filtered))
        moved |= encode(v, o, &f->filtered, to);
    return moved;
}

bool outgoing_has_all(struct visit *v, struct outgoing *o)
{
    struct message *m = v->message;
    struct flow *f = &m->flow;
    if (content_is_dropped(m) || !o->fields.done || !pipe_is_empty(&o->unencoded))
        return false;
    bool all = m->data_when == WHEN_AT_VERDICT ? spool_take(f->spool, &o->unencoded) && pipe_is_empty(&o->unencoded)
                                         : f->filtered.ended && pipe_is_empty(&f->filtered);
    if (all && !encoder_may_end(&o->encoder)) {
        refuse_bad(v, o);
        return false;
    }
    return all;
}
