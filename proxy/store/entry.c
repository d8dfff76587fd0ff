/* entry.c - the contents of an entry of the memory store: the ring of a sliding window, and sets of hashes (marks). */
#include "store/memory.h"
#include <math.h>

/* ---- ring ---- */

void ring_move(struct store_ring *r, double now, double window)
{
    double width = window / (RING - 1);
    if (r->width != width) { /* the length of the window has changed: counts the old total in the current sub-window */
        double sum = 0;
        for (int i = 0; i < RING; i++)
            sum += r->counts[i];
        *r = (struct store_ring){.width = width, .turn = (int64_t)floor(now / width)};
        r->counts[r->turn % RING] = sum;
        return;
    }
    int64_t turn = (int64_t)floor(now / width);
    if (turn <= r->turn) /* the clock may have been set back */
        return;
    int64_t steps = turn - r->turn < RING ? turn - r->turn : RING;
    for (int64_t i = 1; i <= steps; i++)
        r->counts[(turn - steps + i) % RING] = 0;
    r->turn = turn;
}

/* The part of the current sub-window that has elapsed, 0 to 1; the same part of the oldest one is outside of the window. */
static double gone(const struct store_ring *r, double now)
{
    double part = now / r->width - (double)r->turn;
    return part < 0 ? 0 : part > 1 ? 1 : part;
}

double ring_count(const struct store_ring *r, double now)
{
    double sum = r->counts[(r->turn + 1) % RING] * (1 - gone(r, now));
    for (int i = 2; i <= RING; i++)
        sum += r->counts[(r->turn + i) % RING];
    return sum;
}

void ring_add(struct store_ring *r, double n)
{
    r->counts[r->turn % RING] += n;
}

double ring_wait(const struct store_ring *r, double now, double excess)
{
    double wait = 0, part = 1 - gone(r, now);
    for (int i = 1; i <= RING; i++, part = 1) {
        double count = r->counts[(r->turn + i) % RING];
        if (count > 0 && excess <= count * part)
            return wait + excess / count * r->width;
        excess -= count * part;
        wait += part * r->width;
    }
    return wait;
}

/* ---- marks ---- */

static size_t slot_of(const struct store_marks *m, struct store_mark mark)
{
    size_t mask = (size_t)m->room * 2 - 1, at = mark.a & mask;
    while (m->slots[at]) {
        const struct store_mark *there = &m->nodes[m->slots[at] - 1].mark;
        if (there->a == mark.a && there->b == mark.b)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

bool marks_has(const struct store_marks *m, struct store_mark mark)
{
    return m->room && m->slots[slot_of(m, mark)];
}

static void unlink_node(struct store_marks *m, struct mark_node *n)
{
    *(n->before ? &m->nodes[n->before - 1].behind : &m->first) = n->behind;
    *(n->behind ? &m->nodes[n->behind - 1].before : &m->last) = n->before;
}

static void link_last(struct store_marks *m, uint32_t number)
{
    struct mark_node *n = &m->nodes[number - 1];
    n->before = m->last;
    n->behind = 0;
    *(m->last ? &m->nodes[m->last - 1].behind : &m->first) = number;
    m->last = number;
}

/* Removes a slot of the hash table and moves the following ones of the same run up, so that no search stops at a gap. */
static void slot_clear(struct store_marks *m, size_t at)
{
    size_t mask = (size_t)m->room * 2 - 1;
    m->slots[at] = 0;
    for (size_t i = (at + 1) & mask; m->slots[i]; i = (i + 1) & mask) {
        uint32_t number = m->slots[i];
        m->slots[i] = 0;
        m->slots[slot_of(m, m->nodes[number - 1].mark)] = number;
    }
}

/* Removes a node and moves the last node of the array into its place. */
bool marks_remove(struct store_marks *m, struct store_mark mark)
{
    if (!marks_has(m, mark))
        return false;
    size_t at = slot_of(m, mark);
    uint32_t number = m->slots[at], end = m->count;
    unlink_node(m, &m->nodes[number - 1]);
    slot_clear(m, at);
    if (number != end) {
        struct mark_node *from = &m->nodes[end - 1];
        m->slots[slot_of(m, from->mark)] = number;
        *(from->before ? &m->nodes[from->before - 1].behind : &m->first) = number;
        *(from->behind ? &m->nodes[from->behind - 1].before : &m->last) = number;
        m->nodes[number - 1] = *from;
    }
    m->count--;
    return true;
}

static void grow(struct store_marks *m)
{
    m->room = m->room ? m->room * 2 : 8;
    m->nodes = must_grow(m->nodes, m->room * sizeof *m->nodes);
    free(m->slots);
    m->slots = must_alloc((size_t)m->room * 2 * sizeof *m->slots);
    for (uint32_t i = 0; i < m->count; i++)
        m->slots[slot_of(m, m->nodes[i].mark)] = i + 1;
}

void marks_add(struct store_marks *m, struct store_mark mark, double now)
{
    if (marks_has(m, mark)) {
        uint32_t number = m->slots[slot_of(m, mark)];
        m->nodes[number - 1].seen = now;
        unlink_node(m, &m->nodes[number - 1]);
        link_last(m, number);
        return;
    }
    if (m->count == m->room)
        grow(m);
    uint32_t number = ++m->count;
    m->nodes[number - 1] = (struct mark_node){.mark = mark, .seen = now};
    m->slots[slot_of(m, mark)] = number;
    link_last(m, number);
}

void marks_forget(struct store_marks *m, double before)
{
    while (m->first && m->nodes[m->first - 1].seen <= before)
        marks_remove(m, m->nodes[m->first - 1].mark);
}

/* ---- entries ---- */

uint64_t entry_octets(const struct store_entry *e)
{
    uint64_t octets = sizeof *e + e->key_len + 2 * sizeof(void *);
    if (e->kind == ENTRY_VALUE && e->text)
        octets += e->text_len + 1;
    if (e->kind == ENTRY_DISTINCT || e->kind == ENTRY_SET)
        octets += e->marks.room * (sizeof *e->marks.nodes + 2 * sizeof *e->marks.slots);
    return octets;
}

void entry_free(struct store_entry *e)
{
    if (e->kind == ENTRY_VALUE)
        free(e->text);
    if (e->kind == ENTRY_DISTINCT || e->kind == ENTRY_SET) {
        free(e->marks.nodes);
        free(e->marks.slots);
    }
    free(e);
}
