/* clock.c - the dice, the virtual clock's row of events, the trace and its hash, and plain octets.
 *
 * One world at a time: all of it is static, and sim_begin makes it new. Nothing here depends on addresses, on real time
 * or on what ran before, so that a seed always gives the same trace. */
#include "clock.h"
#include <stdarg.h>

static struct {
    uint64_t dice, now, hash;
    bool trace;
    char violation[512];
    const char *how;
    struct event **row; /* a heap by (at, order) */
    uint32_t n, room;
} sim;

uint64_t sim_features = UINT64_MAX;

void sim_begin(uint64_t seed, bool trace)
{
    must(sim.n == 0);
    sim.dice = seed * 0x9e3779b97f4a7c15u + 1;
    sim.now = 3600000;
    sim.hash = 0xcbf29ce484222325u;
    sim.trace = trace;
    sim.violation[0] = 0;
}

uint64_t sim_random(uint64_t below) /* splitmix64 */
{
    uint64_t z = (sim.dice += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return below ? z % below : 0;
}

uint64_t sim_lesser(uint64_t below, uint64_t other)
{
    uint64_t one = sim_random(below), two = sim_random(other);
    return one < two ? one : two;
}

bool sim_chance(unsigned percent)
{
    return sim_random(100) < percent;
}

bool sim_may(enum feature f, unsigned percent)
{
    bool yes = sim_chance(percent);
    return yes && (sim_features >> f & 1);
}

uint64_t sim_now(void)
{
    return sim.now;
}

uint64_t sim_hash(void)
{
    return sim.hash;
}

bool sim_is_shown(void)
{
    return sim.trace;
}

void sim_trace(const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    size_t len = min_size((size_t)n, sizeof line - 1);
    for (size_t i = 0; i < len; i++)
        sim.hash = (sim.hash ^ (unsigned char)line[i]) * 0x100000001b3u;
    sim.hash = (sim.hash ^ sim.now) * 0x100000001b3u;
    if (sim.trace)
        printf("%10.3f %s\n", (double)(sim.now - 3600000) / 1000, line);
}

void sim_violation(const char *format, ...)
{
    if (sim.violation[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(sim.violation, sizeof sim.violation, format, args);
    va_end(args);
    sim.how = format;
    sim_trace("VIOLATION %s", sim.violation);
}

const char *sim_violated(void)
{
    return sim.violation[0] ? sim.violation : NULL;
}

const char *sim_violated_how(void)
{
    return sim.how;
}

/* ---- events */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void stand(uint32_t i, struct event *e)
{
    sim.row[i] = e;
    e->index = i + 1;
}

static void sift(uint32_t i, struct event *e)
{
    for (; i && is_before(e, sim.row[(i - 1) / 2]); i = (i - 1) / 2)
        stand(i, sim.row[(i - 1) / 2]);
    for (uint32_t child; (child = 2 * i + 1) < sim.n; i = child) {
        if (child + 1 < sim.n && is_before(sim.row[child + 1], sim.row[child]))
            child++;
        if (is_before(e, sim.row[child]))
            break;
        stand(i, sim.row[child]);
    }
    stand(i, e);
}

void event_stop(struct event *e)
{
    if (!e->index)
        return;
    uint32_t i = e->index - 1;
    e->index = 0;
    struct event *moved = sim.row[--sim.n];
    if (moved != e)
        sift(i, moved);
    if (!sim.n) {
        free(sim.row);
        sim.row = NULL;
        sim.room = 0;
    }
}

void event_set(struct event *e, uint64_t in, void (*run)(struct event *))
{
    event_stop(e);
    if (sim.n == sim.room) {
        sim.room = sim.room ? sim.room * 2 : 64;
        sim.row = must_grow(sim.row, sim.room * sizeof(struct event *));
    }
    e->at = sim.now + in;
    e->order = sim_random(UINT64_MAX); /* who is first of those at one moment */
    e->run = run;
    sim.n++;
    sim.row[sim.n - 1] = e;
    sift(sim.n - 1, e);
}

uint64_t event_next(void)
{
    return sim.n ? sim.row[0]->at : 0;
}

void event_run(void)
{
    struct event *e = sim.row[0];
    if (e->at > sim.now)
        sim.now = e->at;
    event_stop(e);
    e->run(e);
}

void clock_move(uint64_t to)
{
    if (to > sim.now)
        sim.now = to;
}

/* ---- octets */

void octets_put(struct octets *o, const void *at, size_t n)
{
    if (o->gone + o->len + n > o->room) {
        char *whole = o->at ? o->at - o->gone : NULL;
        if (o->gone > o->len) {
            memmove(whole, o->at, o->len);
            o->gone = 0;
        }
        if (o->gone + o->len + n > o->room) {
            o->room = (o->gone + o->len + n) * 2;
            whole = must_grow(whole, o->room);
        }
        o->at = whole + o->gone;
    }
    if (n)
        memcpy(o->at + o->len, at, n);
    o->len += n;
}

void octets_copy(struct octets *o, size_t from, size_t n)
{
    char *copy = must_alloc(n);
    memcpy(copy, o->at + from, n);
    octets_put(o, copy, n);
    free(copy);
}

void octets_drop(struct octets *o, size_t n)
{
    if (!n)
        return;
    o->len -= n;
    o->at += n;
    o->gone += n;
}

void octets_free(struct octets *o)
{
    free(o->at ? o->at - o->gone : NULL);
    *o = (struct octets){0};
}

size_t octets_line(const struct octets *o, size_t from)
{
    if (!o->len)
        return 0;
    const char *at = o->at + from, *end = o->at + o->len;
    while (end - at > 1 && (at = memchr(at + 1, '\n', (size_t)(end - at) - 1)) != NULL)
        if (at[-1] == '\r')
            return (size_t)(at - o->at) + 1;
    return 0;
}

/* ---- OpenSSL's, for filters that ask for random octets */

int RAND_bytes(unsigned char *into, int n);
int RAND_bytes(unsigned char *into, int n)
{
    for (int i = 0; i < n; i++)
        into[i] = (unsigned char)sim_random(256);
    return 1;
}
