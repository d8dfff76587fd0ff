/* memory.c - the store in memory: keys are distributed over shards by their hash, and each shard has a lock, so that workers rarely wait
 * for each other.
 *
 * A shard has a hash table of fixed size and a heap ordered by expiry. Each operation removes a few expired entries; when the shard is over
 * its limit, those that expire first are evicted. No operation visits all keys.
 *
 * rate: a ring of 8 sub-windows and the part of a ninth that is still inside the window, whose counts are assumed to be evenly distributed:
 * the error is less than the count of one eighth of the window. Refused attempts are not counted.
 * bucket: `limit` tokens, refilled evenly over `window`.
 * distinct: stores when each value was last seen, at most 4096 for a key (fewer in a store below 1 MiB); one more gives FAILURE_LIMIT.
 * incr: the ttl begins with the first increment.
 * set_add: at most 4096 members; the whole set expires by the ttl given last.
 * Values of distinct and set are stored as a seeded hash of 128 bits. A key has one kind; an operation of another kind gives
 * FAILURE_WRONGTYPE. */
#include "store/store.h"
#include "store/memory.h"
#include <math.h>
#include <sys/random.h>

enum { SHARDS_MOST = 64, SHARD_LEAST = 1 << 20, RECLAIM = 4 };

static const char *const op_names[STORE_OPS] = {"get",     "set",      "add",    "incr",     "del",
                                                "ttl",     "rate",     "bucket", "distinct", "set_add",
                                                "set_has", "set_size", "set_del"};

bool store_op_named(const char *name, enum store_op *op)
{
    for (size_t i = 0; i < STORE_OPS; i++)
        if (*name == *op_names[i] && strcmp(name, op_names[i]) == 0) {
            *op = (enum store_op)i;
            return true;
        }
    return false;
}

struct store *store_memory_open(uint64_t octets)
{
    size_t n = (size_t)min_u64(octets / SHARD_LEAST, SHARDS_MOST);
    n = n ? n : 1;
    struct store *s = must_alloc(sizeof *s + n * sizeof s->shards[0]);
    s->refs = 1;
    s->nshards = n;
    if (getrandom(s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed)
        s->seed[0] = (uint64_t)(uintptr_t)s;
    for (size_t i = 0; i < n; i++) {
        struct store_shard *d = &s->shards[i];
        size_t slots = 64;
        d->most = octets / n;
        while (slots < d->most / 256 && slots < 1 << 20)
            slots *= 2;
        d->slots =
            must_alloc(slots * sizeof(struct store_entry *)); /* allocated in full size at the start, so that no operation has to rehash */
        d->mask = slots - 1;
        pthread_mutex_init(&d->lock, NULL);
    }
    return s;
}

void store_memory_bound(struct store *s, uint64_t octets)
{
    for (size_t i = 0; i < s->nshards; i++) {
        pthread_mutex_lock(&s->shards[i].lock);
        /* If the shard is over the new limit, the next write evicts entries. */
        __atomic_store_n(&s->shards[i].most, octets / s->nshards, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&s->shards[i].lock);
    }
}

struct store *store_hold(struct store *s)
{
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

/* ---- entries of a shard ---- */

static void stand(struct store_shard *d, size_t i, struct store_entry *e)
{
    d->heap[i] = e;
    e->at = (uint32_t)i;
}

static void heap_settle(struct store_shard *d, size_t i)
{
    struct store_entry *e = d->heap[i];
    for (; i && d->heap[(i - 1) / 2]->expires > e->expires; i = (i - 1) / 2)
        stand(d, i, d->heap[(i - 1) / 2]);
    for (size_t child; (child = 2 * i + 1) < d->count; i = child) {
        if (child + 1 < d->count && d->heap[child + 1]->expires < d->heap[child]->expires)
            child++;
        if (d->heap[child]->expires >= e->expires)
            break;
        stand(d, i, d->heap[child]);
    }
    stand(d, i, e);
}

static void entry_remove(struct store_shard *d, struct store_entry *e)
{
    struct store_entry **at = &d->slots[e->hash & d->mask];
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    size_t i = e->at;
    struct store_entry *last = d->heap[--d->count];
    if (last != e) {
        stand(d, i, last);
        heap_settle(d, i);
    }
    d->octets -= e->octets;
    entry_free(e);
}

struct store_shard *shard_of(struct store *s, struct str key, uint64_t *hash)
{
    *hash = str_hash(key, s->seed[0]);
    return &s->shards[(*hash >> 40) % s->nshards];
}

static void reclaim(struct store_shard *d, double now)
{
    for (int i = 0; i < RECLAIM && d->count && d->heap[0]->expires <= now; i++)
        entry_remove(d, d->heap[0]);
}

static struct store_entry *entry_find(struct store_shard *d, uint64_t hash, struct str key, double now)
{
    struct store_entry *e = d->slots[hash & d->mask];
    while (e && !(e->hash == hash && e->key_len == key.len && memcmp(e->key, key.at, key.len) == 0))
        e = e->next;
    if (e && e->expires <= now) {
        entry_remove(d, e);
        return NULL;
    }
    return e;
}

struct store_entry *entry_add(struct store_shard *d, uint64_t hash, struct str key, enum entry_kind kind,
                              double expires)
{
    struct store_entry *e = must_alloc(sizeof *e + key.len);
    e->kind = kind;
    e->hash = hash;
    e->expires = expires;
    e->key_len = (uint16_t)key.len;
    memcpy(e->key, key.at, key.len);
    e->octets = (uint32_t)(sizeof *e + key.len + 2 * sizeof(struct store_entry *));
    d->octets += e->octets;
    e->next = d->slots[hash & d->mask];
    d->slots[hash & d->mask] = e;
    if (d->count == d->heap_room)
        d->heap = must_grow(d->heap, (d->heap_room = d->heap_room ? d->heap_room * 2 : 64) * sizeof *d->heap);
    stand(d, d->count, e);
    heap_settle(d, d->count++);
    return e;
}

void entry_changed(struct store_shard *d, struct store_entry *e, double expires)
{
    uint64_t octets = entry_octets(e);
    d->octets = d->octets - e->octets + octets;
    e->octets = (uint32_t)octets;
    e->expires = expires;
    heap_settle(d, e->at);
    while (d->octets > d->most && d->count > 1) {
        struct store_entry *victim = d->heap[0];
        if (victim == e) /* do not evict the entry just written but the one that expires next */
            victim = d->count > 2 && d->heap[2]->expires < d->heap[1]->expires ? d->heap[2] : d->heap[1];
        entry_remove(d, victim);
    }
}

void store_drop(struct store *s)
{
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < s->nshards; i++) {
        struct store_shard *d = &s->shards[i];
        for (size_t k = 0; k < d->count; k++)
            entry_free(d->heap[k]);
        free(d->heap);
        free(d->slots);
        pthread_mutex_destroy(&d->lock);
    }
    overlay_free(s->overlay);
    free(s);
}

/* ---- operations ---- */

static enum failure refuse(const struct store_request *r, uint64_t room)
{
    bool keeps = r->op == STORE_SET || r->op == STORE_ADD || r->op == STORE_INCR || r->op == STORE_SET_ADD;
    bool windowed = r->op == STORE_RATE || r->op == STORE_BUCKET || r->op == STORE_DISTINCT;
    if ((unsigned)r->op >= STORE_OPS || !r->key.len || !isfinite(r->n) || (r->n < 0 && r->op != STORE_INCR))
        return FAILURE_BAD;
    if (keeps && !(r->ttl > 0 && r->ttl < 1e11))
        return FAILURE_BAD;
    if (windowed && !(r->window > 0 && r->window < 1e11))
        return FAILURE_BAD;
    if ((r->op == STORE_RATE || r->op == STORE_BUCKET) && !(r->limit > 0 && isfinite(r->limit)))
        return FAILURE_BAD;
    if (r->key.len > KEY_MOST || r->value.len > TEXT_MOST ||
        r->key.len + r->value.len + sizeof(struct store_entry) > room / 2)
        return FAILURE_LIMIT;
    return FAILURE_NONE;
}

static enum entry_kind kind_of(enum store_op op)
{
    switch (op) {
    case STORE_RATE: return ENTRY_RATE;
    case STORE_BUCKET: return ENTRY_BUCKET;
    case STORE_DISTINCT: return ENTRY_DISTINCT;
    case STORE_SET_ADD:
    case STORE_SET_HAS:
    case STORE_SET_SIZE:
    case STORE_SET_DEL: return ENTRY_SET;
    default: return ENTRY_VALUE;
    }
}

struct store_asked { /* one operation under its shard's lock */
    struct store *store;
    struct store_shard *shard;
    const struct store_request *r;
    double now;
    uint64_t hash;
    struct arena *arena;
    struct filter_value *answer;
};

static void set_value(struct store_entry *e, const struct store_request *r)
{
    free(e->text);
    e->text = NULL;
    e->integer = r->integer;
    e->number = (double)r->integer;
    e->is_whole = true;
    if (!r->value_is_integer) {
        e->text = must_alloc(r->value.len + 1);
        e->text_len = (uint32_t)r->value.len;
        memcpy(e->text, r->value.len ? r->value.at : "", r->value.len);
    }
}

static enum failure keep_value(const struct store_asked *q, struct store_entry *e)
{
    bool there = e != NULL;
    double expires = q->now + q->r->ttl;
    *q->answer = value_bool(q->r->op == STORE_ADD ? !there : there);
    if (q->r->op == STORE_ADD && there)
        return FAILURE_NONE;
    if (!e)
        e = entry_add(q->shard, q->hash, q->r->key, ENTRY_VALUE, expires);
    set_value(e, q->r);
    entry_changed(q->shard, e, expires);
    return FAILURE_NONE;
}

static enum failure increase(const struct store_asked *q, struct store_entry *e)
{
    double by = q->r->n != 0 ? q->r->n : 1;
    if (e && e->text)
        return FAILURE_WRONGTYPE;
    if (!e) {
        e = entry_add(q->shard, q->hash, q->r->key, ENTRY_VALUE, q->now + q->r->ttl);
        e->is_whole = true;
    }
    if (e->is_whole && by == floor(by) && fabs(by) < 9e15 &&
        !__builtin_add_overflow(e->integer, (int64_t)by, &e->integer)) {
        e->number = (double)e->integer;
    } else {
        e->is_whole = false;
        e->number += by;
    }
    *q->answer = e->is_whole ? value_integer(e->integer) : value_number(e->number);
    entry_changed(q->shard, e, e->expires);
    return FAILURE_NONE;
}

static enum failure look(const struct store_asked *q, struct store_entry *e)
{
    if (e && e->text)
        *q->answer = value_text(arena_str(q->arena, (struct str){e->text, e->text_len}));
    else if (e)
        *q->answer = e->is_whole ? value_integer(e->integer) : value_number(e->number);
    return FAILURE_NONE;
}

static void put(const struct store_asked *q, const char *key, struct filter_value v)
{
    value_put(q->arena, q->answer, str_of(key), v);
}

static enum failure rate(const struct store_asked *q, struct store_entry *e)
{
    double cost = q->r->n != 0 ? q->r->n : 1, limit = q->r->limit, retry = 0;
    if (!e)
        e = entry_add(q->shard, q->hash, q->r->key, ENTRY_RATE, q->now + q->r->window);
    ring_move(&e->ring, q->now, q->r->window);
    double count = ring_count(&e->ring, q->now);
    bool ok = count + cost <= limit + 1e-9;
    if (ok) {
        ring_add(&e->ring, cost);
        count += cost;
    } else {
        retry = fmax(1, ceil(ring_wait(&e->ring, q->now, count + cost - limit) - 1e-6));
    }
    *q->answer = (struct filter_value){.type = VALUE_MAP};
    put(q, "ok", value_bool(ok));
    put(q, "count", value_number(count));
    put(q, "remaining", value_number(fmax(0, floor(limit - count + 1e-9))));
    put(q, "retry_after", value_integer((int64_t)retry));
    put(q, "limit", value_number(limit));
    /* The count includes a part of a ninth sub-window, so the entry must live for nine. A refused attempt must not prolong it. */
    entry_changed(q->shard, e, ok ? q->now + q->r->window * 9 / 8 : fmax(e->expires, q->now + 1));
    return FAILURE_NONE;
}

static enum failure bucket(const struct store_asked *q, struct store_entry *e)
{
    double cost = q->r->n != 0 ? q->r->n : 1, limit = q->r->limit, speed = limit / q->r->window;
    if (!e) {
        e = entry_add(q->shard, q->hash, q->r->key, ENTRY_BUCKET, q->now + q->r->window);
        e->number = limit;
        e->when = q->now;
    }
    if (q->now > e->when) {
        e->number = e->number + (q->now - e->when) * speed;
        e->when = q->now;
    }
    e->number = fmin(limit, e->number);
    bool ok = e->number + 1e-9 >= cost;
    if (ok)
        e->number -= cost;
    *q->answer = (struct filter_value){.type = VALUE_MAP};
    put(q, "ok", value_bool(ok));
    put(q, "wait", value_number(ok ? 0 : (cost - e->number) / speed));
    put(q, "level", value_number(e->number));
    entry_changed(q->shard, e, q->now + fmax(1, (limit - e->number) / speed)); /* by then the bucket is full again, which is the same as no entry */
    return FAILURE_NONE;
}

/* Limits a key to a quarter of its shard. */
static uint32_t marks_most(const struct store_shard *d)
{
    uint32_t most = MARKS_MOST;
    while (most > 64 && most * (sizeof(struct mark_node) + 2 * sizeof(uint32_t)) > d->most / 4)
        most /= 2;
    return most;
}

static enum failure members(const struct store_asked *q, struct store_entry *e)
{
    const struct store_request *r = q->r;
    struct store_mark mark = {str_hash(r->value, q->store->seed[0]), str_hash(r->value, q->store->seed[1])};
    bool adds = r->op == STORE_SET_ADD || r->op == STORE_DISTINCT;
    if (r->op == STORE_SET_SIZE) {
        *q->answer = value_integer(e ? e->marks.count : 0);
        return FAILURE_NONE;
    }
    if (!adds) {
        bool there = e && (r->op == STORE_SET_HAS ? marks_has(&e->marks, mark) : marks_remove(&e->marks, mark));
        *q->answer = value_bool(there);
        return FAILURE_NONE;
    }
    double expires = q->now + (r->op == STORE_DISTINCT ? r->window : r->ttl);
    if (!e)
        e = entry_add(q->shard, q->hash, r->key, kind_of(r->op), expires);
    if (r->op == STORE_DISTINCT)
        marks_forget(&e->marks, q->now - r->window);
    bool there = marks_has(&e->marks, mark);
    if (!there && e->marks.count >= marks_most(q->shard))
        return FAILURE_LIMIT; /* does not evict the oldest value, since a limit above the maximum could then never be reached */
    marks_add(&e->marks, mark, q->now);
    *q->answer = r->op == STORE_DISTINCT ? value_integer(e->marks.count) : value_bool(!there);
    entry_changed(q->shard, e, fmax(e->expires, expires));
    return FAILURE_NONE;
}

static enum failure act(const struct store_asked *q)
{
    struct store_entry *e = entry_find(q->shard, q->hash, q->r->key, q->now);
    if (q->r->op == STORE_DEL) {
        *q->answer = value_bool(e != NULL);
        if (e)
            entry_remove(q->shard, e);
        return FAILURE_NONE;
    }
    if (q->r->op == STORE_TTL) {
        if (e)
            *q->answer = value_number(e->expires - q->now);
        return FAILURE_NONE;
    }
    if (e && e->kind != kind_of(q->r->op) && q->r->op != STORE_SET) /* set replaces whatever there was */
        return FAILURE_WRONGTYPE;
    if (e && e->kind != ENTRY_VALUE && q->r->op == STORE_SET) {
        entry_remove(q->shard, e);
        enum failure error = keep_value(q, NULL);
        *q->answer = value_bool(true);
        return error;
    }
    switch (q->r->op) {
    case STORE_GET: return look(q, e);
    case STORE_SET:
    case STORE_ADD: return keep_value(q, e);
    case STORE_INCR: return increase(q, e);
    case STORE_RATE: return rate(q, e);
    case STORE_BUCKET: return bucket(q, e);
    default: return members(q, e);
    }
}

enum failure store_now(struct store *s, const struct store_request *r, double now, struct arena *arena,
                      struct filter_value *answer)
{
    *answer = (struct filter_value){.type = VALUE_NONE};
    enum failure error = refuse(r, __atomic_load_n(&s->shards[0].most, __ATOMIC_RELAXED));
    if (error)
        return error;
    if (s->overlay)
        overlay_look(s->overlay, s, r->key, now);
    struct store_asked q = {.store = s, .r = r, .now = now, .arena = arena, .answer = answer};
    q.shard = shard_of(s, r->key, &q.hash);
    pthread_mutex_lock(&q.shard->lock);
    reclaim(q.shard, now);
    error = act(&q);
    pthread_mutex_unlock(&q.shard->lock);
    return error;
}
