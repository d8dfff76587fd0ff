/* mta_still.c - liveness of milter connections, as still.c has it for sessions: whenever nothing is under way each of
 * them is woken; whoever does anything then could have gone on, and slept. */
#include "mta_still.h"
#include "milter/milter.h"
#include "net.h"

enum { CONNECTIONS_MOST = 16 };

struct seen {
    const struct milter *milter;
    uint64_t sum;
};
static struct seen before[CONNECTIONS_MOST];
static size_t nbefore;
static bool asked;

static uint64_t mix(uint64_t sum, uint64_t n)
{
    return (sum ^ n) * 0x100000001b3u;
}

static uint64_t sum_of(const struct milter *m)
{
    const struct stream *s = m->stream;
    uint64_t sum = mix(mix(mix(0xcbf29ce484222325u, m->place), (unsigned char)m->busy), m->packets);
    sum = mix(mix(mix(mix(sum, s->in.octets), s->out.octets), s->written_octets), net_reads(s));
    sum = mix(mix(mix(sum, m->visit.serial), m->edit), m->paused_at != 0);
    if (!m->visit.message)
        return sum;
    const struct flow *f = &m->message.flow;
    sum = mix(mix(mix(mix(sum, m->message.serial), m->message.fate), f->at), f->pass);
    return mix(mix(mix(sum, f->content.octets), f->filtered.octets), m->message.octets);
}

static bool may_be_asked(const struct milter *m)
{
    return !m->paused_at && net_is_sound(m->stream) && (!m->alarm.at || m->alarm.at > sim_now());
}

static bool ask(const struct milter_worker *w)
{
    nbefore = 0;
    for (struct milter *m = w->first; m && nbefore < CONNECTIONS_MOST; m = m->next)
        if (may_be_asked(m)) {
            before[nbefore++] = (struct seen){m, sum_of(m)};
            task_wake(&m->task);
        }
    return nbefore > 0;
}

static void compare(const struct milter_worker *w)
{
    for (size_t i = 0; i < nbefore; i++) {
        const struct milter *m = w->first;
        while (m && m != before[i].milter)
            m = m->next;
        if (!m)
            sim_violation("a milter connection slept though it could end: a wake-up was lost");
        else if (sum_of(m) != before[i].sum)
            sim_violation("a milter connection slept at '%c' though it could go on: a wake-up was lost",
                          m->busy ? m->busy : '-');
    }
}

bool mta_still_look(void *data)
{
    const struct milter_worker *w = data;
    if (asked)
        compare(w);
    asked = !asked && ask(w);
    return asked;
}

void mta_still_begin(void)
{
    asked = false;
}
