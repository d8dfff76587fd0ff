/* sessions.c - what concerns all sessions of a worker: they are asked to leave, limits are near, and which content is the oldest. */
#include "smtp/front/session.h"

void worker_drain(struct worker *w, uint32_t listen_id, uint64_t by)
{
    if (listen_id == LISTEN_ALL) {
        w->mail.draining = true;
        w->drain_by = by;
    }
    for (struct session *s = w->sessions; s; s = s->next)
        if (listen_id == LISTEN_ALL || s->listen_id == listen_id) {
            s->leave_by = s->leave_by ? min_u64(s->leave_by, by) : by;
            task_wake(&s->task);
        }
}

void worker_set_usage(struct worker *w, unsigned percent)
{
    unsigned from = w->generation->conf->limits.stress;
    bool stressed = from && percent >= (w->stressed ? from - from / 8 : from);
    if (stressed == w->stressed)
        return;
    w->stressed = stressed;
    log_say(LOG_WARNING, stressed ? "worker %u: stress: %u percent of connections, descriptors or memory are in use"
                                  : "worker %u: no stress any more: %u percent are in use",
            w->mail.number, percent);
    for (struct session *s = w->sessions; stressed && s; s = s->next)
        task_wake(&s->task); /* whoever has waited long enough by the shorter clocks is told so */
}

uint64_t worker_oldest_content(struct worker *w)
{
    uint64_t now = loop_now(w->mail.loop);
    if (w->oldest_at_ms == now)
        return w->oldest_us;
    w->oldest_at_ms = now;
    w->oldest_us = UINT64_MAX;
    for (const struct session *s = w->sessions; s; s = s->next)
        if (s->tx && s->step == STEP_CONTENT && !pipe_is_empty(&s->stream->in))
            w->oldest_us = min_u64(w->oldest_us, s->tx->message.started_us);
    return w->oldest_us;
}
