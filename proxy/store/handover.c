/* handover.c - writes and reads the content of a memory store, for the process that replaces this one at an upgrade.
 *
 * The stream has a head with the name of the format and the seed of the hashes (members of sets are stored as hashes), a record for each
 * key, and an end. A process that does not know the format starts with an empty store. While it writes, it locks one shard at a time. */
#include "store/memory.h"
#include "store/store.h"
#include <math.h>

static const char format[16] = "sluice store 2\n";
enum { END = 255 };

struct store_record { /* written as it stands in memory; it has no padding */
    double expires;
    uint32_t kind, key, body, reserved;
};

static void put(FILE *to, const void *octets, size_t len)
{
    fwrite(octets, 1, len, to); /* errors are not checked: the reader notices that the end is missing */
}

static bool get(FILE *from, void *octets, size_t len)
{
    return fread(octets, 1, len, from) == len;
}

/* ---- out ---- */

struct value_record {
    double number, when;
    int64_t integer;
    uint32_t is_text, is_whole;
};
struct mark_record {
    struct store_mark mark;
    double seen;
};

static size_t body_of(const struct store_entry *e)
{
    switch (e->kind) {
    case ENTRY_VALUE:
    case ENTRY_BUCKET: return sizeof(struct value_record) + (e->text ? e->text_len : 0);
    case ENTRY_RATE: return sizeof e->ring;
    default: return e->marks.count * sizeof(struct mark_record);
    }
}

static void put_entry(const struct store_entry *e, FILE *to)
{
    struct store_record r = {.expires = e->expires, .kind = e->kind, .key = e->key_len, .body = (uint32_t)body_of(e)};
    put(to, &r, sizeof r);
    put(to, e->key, e->key_len);
    if (e->kind == ENTRY_RATE) {
        put(to, &e->ring, sizeof e->ring);
    } else if (e->kind == ENTRY_VALUE || e->kind == ENTRY_BUCKET) {
        struct value_record v = {.number = e->number, .when = e->when, .integer = e->integer};
        v.is_text = e->text != NULL;
        v.is_whole = e->is_whole;
        put(to, &v, sizeof v);
        put(to, e->text ? e->text : "", e->text ? e->text_len : 0);
    } else {
        for (uint32_t at = e->marks.first; at; at = e->marks.nodes[at - 1].behind) {
            struct mark_record m = {e->marks.nodes[at - 1].mark, e->marks.nodes[at - 1].seen};
            put(to, &m, sizeof m);
        }
    }
}

static void put_head(const struct store *s, FILE *to)
{
    put(to, format, sizeof format);
    put(to, s->seed, sizeof s->seed);
}

void store_memory_image(struct store *s, struct str key, FILE *to)
{
    uint64_t hash;
    put_head(s, to);
    if (key.len && key.len <= KEY_MOST) {
        struct store_shard *d = shard_of(s, key, &hash);
        pthread_mutex_lock(&d->lock);
        const struct store_entry *e = d->slots[hash & d->mask];
        while (e && !(e->hash == hash && e->key_len == key.len && memcmp(e->key, key.at, key.len) == 0))
            e = e->next;
        if (e)
            put_entry(e, to);
        pthread_mutex_unlock(&d->lock);
    }
    put(to, &(struct store_record){.kind = END}, sizeof(struct store_record));
}

void store_memory_pass(struct store *s, FILE *to)
{
    put_head(s, to);
    for (size_t i = 0; i < s->nshards; i++) {
        struct store_shard *d = &s->shards[i];
        pthread_mutex_lock(&d->lock);
        for (size_t k = 0; k < d->count; k++)
            put_entry(d->heap[k], to);
        pthread_mutex_unlock(&d->lock);
    }
    put(to, &(struct store_record){.kind = END}, sizeof(struct store_record));
}

/* ---- in ---- */

static bool is_sound(const struct store_record *r)
{
    size_t body = r->body;
    if (!r->key || r->key > KEY_MOST || !isfinite(r->expires))
        return false;
    switch (r->kind) {
    case ENTRY_VALUE: return body >= sizeof(struct value_record) && body <= sizeof(struct value_record) + TEXT_MOST;
    case ENTRY_BUCKET: return body == sizeof(struct value_record);
    case ENTRY_RATE: return body == sizeof(struct store_ring);
    case ENTRY_DISTINCT:
    case ENTRY_SET: return body % sizeof(struct mark_record) == 0 && body <= MARKS_MOST * sizeof(struct mark_record);
    default: return false;
    }
}

static bool get_value(struct store_entry *e, const struct store_record *r, FILE *from)
{
    struct value_record v;
    if (!get(from, &v, sizeof v) || !isfinite(v.number) || !isfinite(v.when))
        return false;
    size_t len = r->body - sizeof v;
    e->number = v.number;
    e->when = v.when;
    e->integer = v.integer;
    e->is_whole = v.is_whole;
    if (!v.is_text)
        return len == 0;
    e->text = must_alloc(len + 1);
    e->text_len = (uint32_t)len;
    return get(from, e->text, len);
}

static bool get_ring(struct store_entry *e, FILE *from)
{
    struct store_ring ring;
    bool good = get(from, &ring, sizeof ring) && ring.width > 0 && isfinite(ring.width) && ring.turn >= 0 && ring.turn < INT64_MAX / 2;
    for (int i = 0; good && i < RING; i++)
        good = isfinite(ring.counts[i]);
    if (good)
        e->ring = ring;
    return good;
}

static bool get_marks(struct store_entry *e, const struct store_record *r, FILE *from)
{
    struct mark_record m;
    for (size_t n = r->body / sizeof m; n; n--) {
        if (!get(from, &m, sizeof m) || !isfinite(m.seen))
            return false;
        if (e->marks.count < MARKS_MOST)
            marks_add(&e->marks, m.mark, m.seen);
    }
    return true;
}

/* A truncated record gives an empty entry, since its content is incomplete. */
static bool get_entry(struct store *s, const struct store_record *r, FILE *from)
{
    char key[KEY_MOST];
    uint64_t hash;
    if (!is_sound(r) || !get(from, key, r->key))
        return false;
    struct str name = {key, r->key};
    struct store_shard *d = shard_of(s, name, &hash);
    struct store_entry *e = entry_add(d, hash, name, (enum entry_kind)r->kind, r->expires);
    bool good = r->kind == ENTRY_RATE                                ? get_ring(e, from)
                : r->kind == ENTRY_VALUE || r->kind == ENTRY_BUCKET ? get_value(e, r, from)
                                                                    : get_marks(e, r, from);
    entry_changed(d, e, good ? r->expires : 0);
    return good;
}

static bool get_head(FILE *from, uint64_t seed[2])
{
    char head[sizeof format];
    return get(from, head, sizeof head) && memcmp(head, format, sizeof head) == 0 && get(from, seed, 2 * sizeof *seed);
}

bool overlay_take(struct store *s, struct str key, FILE *from)
{
    uint64_t seed[2];
    struct store_record r;
    if (!get_head(from, seed))
        return false;
    if (!key.len)
        memcpy(s->seed, seed, sizeof seed);
    else if (memcmp(s->seed, seed, sizeof seed) != 0) /* the process was replaced in the meantime, and its hashes have another seed */
        return false;
    return get(from, &r, sizeof r) && (r.kind == END || (r.key == key.len && get_entry(s, &r, from)));
}

bool store_memory_take(struct store *s, FILE *from)
{
    struct store_record r;
    if (!get_head(from, s->seed))
        return false;
    while (get(from, &r, sizeof r)) {
        if (r.kind == END)
            return true;
        if (!get_entry(s, &r, from))
            return false;
    }
    return false;
}
