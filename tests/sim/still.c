/* still.c - a wake-up that was lost is seen at once, not when some clock hides it.
 *
 * Whenever no task is ready, all that has happened has been seen to, so a turn that nobody asked for must change
 * nothing. Each session gets one such turn. A session that then moves octets, says something or begins to read had
 * slept although it could go on: its wake-up was lost. Left alone are sessions whose peer is gone without their knowing
 * (what they flush goes nowhere), those that look by a clock of their own (short of memory), and those whose clock is
 * about to ring. */
#include "world.h"
#include "smtp/back/backend.h"
#include "smtp/front/session.h"

enum { SESSIONS_MOST = 16 };

struct seen {
    const struct session *session;
    enum step step;
    uint64_t sum;
};
static struct seen before[SESSIONS_MOST];
static size_t nbefore;
static bool asked;

static uint64_t mix(uint64_t sum, uint64_t n)
{
    return (sum ^ n) * 0x100000001b3u;
}

static uint64_t sum_of_stream(uint64_t sum, const struct stream *s)
{
    if (!s)
        return mix(sum, 1);
    sum = mix(mix(sum, s->in.octets), s->out.octets);
    return mix(mix(sum, s->written_octets), net_reads(s));
}

static uint64_t sum_of_transaction(uint64_t sum, const struct transaction *tx, const struct transfer *t)
{
    const struct flow *f = &tx->message.flow;
    sum = mix(mix(mix(sum, tx->message.serial), tx->message.named), tx->told_named);
    sum = mix(mix(mix(sum, content_is_dropped(&tx->message)), t->data), f->at);
    sum = mix(mix(mix(sum, flow_is_taken(f)), flow_is_judged(f)), f->pass);
    sum = mix(mix(sum, tx->decoder.wire), t->outgoing.encoder.octets);
    return mix(mix(mix(sum, f->content.octets), f->filtered.octets), t->packed.octets);
}

static uint64_t sum_of(const struct session *s)
{
    const struct backend *b = s->delivery.backend;
    uint64_t sum = mix(mix(mix(0xcbf29ce484222325u, s->state), s->step), s->why);
    sum = sum_of_stream(sum, s->stream);
    if (s->tx)
        sum = sum_of_transaction(sum, s->tx, &s->delivery.transfer);
    if (b)
        sum = sum_of_stream(mix(mix(mix(sum, b->step), b->count), b->unsaid.octets), b->stream);
    return mix(sum, b != NULL);
}

static void show(const char *when, const struct session *s)
{
    const struct backend *b = s->delivery.backend;
    const struct flow *f = s->tx ? &s->tx->message.flow : NULL;
    sim_trace("%s: alarm %llu state %d step %d, client in %zu out %zu reads %d%s", when,
              s->alarm.at ? (unsigned long long)(s->alarm.at - sim_now()) : 0ull, s->state, s->step,
              s->stream->in.octets, s->stream->out.octets, net_reads(s->stream),
              s->visit.run.active ? ", a filter is at work" : "");
    if (f)
        sim_trace("  wire %llu content %zu filtered %zu encoded %llu packed %zu data %d head %d sink %d taken %d "
                  "judged %d pass %d",
                  (unsigned long long)s->tx->decoder.wire, f->content.octets, f->filtered.octets,
                  (unsigned long long)s->delivery.transfer.outgoing.encoder.octets, s->delivery.transfer.packed.octets, s->delivery.transfer.data, f->at, content_is_dropped(&s->tx->message), flow_is_taken(f),
                  flow_is_judged(f), f->pass);
    if (b)
        sim_trace("  backend step %d owes %u unsaid %zu in %zu out %zu", b->step, b->count, b->unsaid.octets,
                  b->stream ? b->stream->in.octets : 0, b->stream ? b->stream->out.octets : 0);
}

static bool may_be_asked(const struct session *s)
{
    bool looks = (s->tx && s->tx->paused_at) || s->waits_for_probe; /* the latter by the pool's clock */
    bool sound = net_is_sound(s->stream) && (!s->delivery.backend || !s->delivery.backend->stream || net_is_sound(s->delivery.backend->stream));
    return !looks && sound && (!s->alarm.at || s->alarm.at > sim_now());
}

static bool ask(struct world *w)
{
    nbefore = 0;
    for (struct session *s = w->worker.sessions; s && nbefore < SESSIONS_MOST; s = s->next) {
        if (!may_be_asked(s))
            continue;
        if (sim_is_shown())
            show("asked", s);
        before[nbefore++] = (struct seen){s, s->step, sum_of(s)};
        task_wake(&s->task);
    }
    return nbefore > 0;
}

static void compare(struct world *w)
{
    for (size_t i = 0; i < nbefore; i++) {
        const struct session *s = w->worker.sessions;
        while (s && s != before[i].session)
            s = s->next;
        if (!s)
            sim_violation("a session slept at step %u though it could end: a wake-up was lost", before[i].step);
        else if (sum_of(s) != before[i].sum && (show("went on", s), true))
            sim_violation("a session slept at step %u though it could go on: a wake-up was lost", before[i].step);
    }
}

bool still_look(void *data)
{
    struct world *w = data;
    if (asked)
        compare(w);
    asked = !asked && ask(w);
    return asked;
}

void still_begin(void)
{
    asked = false;
}
