/* breaker.c - circuit breakers: over half of at least 20 calls within 30 s failed for what they waited for, then 10 s of rest. */
#include "mail/filter_set.h"
#include "base/log.h"

enum { CALLS_LEAST = 20, WINDOW_MS = 30000, REST_MS = 10000 };
struct breaker { uint32_t calls, errors; uint64_t from, open_until; };

bool breaker_is_open(struct filter_set *set, const struct filter *f)
{
    return set->breakers && loop_now(set->worker->loop) < set->breakers[f->index].open_until;
}

void breaker_count(struct filter_set *set, const struct filter *f, bool failed)
{
    if (!failed && !set->breakers)
        return;
    if (!set->breakers)
        set->breakers = must_alloc(max_size(set->conf->nfilters, 1) * sizeof *set->breakers);
    struct breaker *b = &set->breakers[f->index];
    uint64_t now = loop_now(set->worker->loop);
    if (now - b->from > WINDOW_MS)
        *b = (struct breaker){.from = now};
    b->calls++;
    b->errors += failed;
    if (b->calls >= CALLS_LEAST && b->errors * 2 > b->calls) {
        b->open_until = now + REST_MS;
        b->calls = b->errors = 0;
        log_say(LOG_ERROR, "filter %.*s: what it waits for keeps failing, it is not run for %d s", STR_ARGS(f->name),
                REST_MS / 1000);
    }
}
