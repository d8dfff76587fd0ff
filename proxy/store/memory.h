/* memory.h - internals of the memory store: its shards, and the entry of a key: a value, a sliding window, a token bucket, or a set of
 * hashes.
 *
 * Included by memory.c, entry.c, handover.c and overlay.c only. Entries are read and changed under the lock of their shard. Times are
 * seconds, on the clock that the caller of store_now passes. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H
#include "base/str.h"
#include <pthread.h>
#include <stdio.h>

enum { KEY_MOST = 1024, TEXT_MOST = 65536 };
enum { RING = 9, MARKS_MOST = 4096 };

/* A sliding window: 8 complete sub-windows, and a ninth that is partly outside of the window. */
struct store_ring {
    double width; /* seconds of one sub-window */
    int64_t turn; /* number of the current sub-window, time / width rounded down; its count is counts[turn % RING] */
    double counts[RING];
};
void ring_move(struct store_ring *, double now, double window);       /* clears the sub-windows that have left the window */
double ring_count(const struct store_ring *, double now);             /* the count within the window */
void ring_add(struct store_ring *, double);                           /* adds to the current sub-window */
double ring_wait(const struct store_ring *, double now, double excess); /* seconds until the count has fallen by `excess` */

/* A set of hashes, in the order in which they were last added. */
struct store_mark { uint64_t a, b; };
struct store_marks {
    uint32_t count, room, first, last; /* first, last: index + 1 in nodes, of the mark added longest ago and latest */
    struct mark_node { struct store_mark mark; double seen; uint32_t before, behind; } *nodes;
    uint32_t *slots; /* 2 * room of them: index + 1 */
};
bool marks_has(const struct store_marks *, struct store_mark);
void marks_add(struct store_marks *, struct store_mark, double now); /* adds it, or updates its time. The caller limits their number */
bool marks_remove(struct store_marks *, struct store_mark);          /* false: it was not in the set */
void marks_forget(struct store_marks *, double before);              /* removes those that were last added before this time */

enum entry_kind { ENTRY_VALUE, ENTRY_RATE, ENTRY_BUCKET, ENTRY_DISTINCT, ENTRY_SET };
struct store_entry {
    struct store_entry *next; /* in its slot */
    uint64_t hash;
    double expires;
    uint32_t at, octets; /* at: its index in the heap */
    enum entry_kind kind;
    union {
        struct { /* VALUE: text, else a number; BUCKET: number is the level, as of `when` */
            char *text;
            uint32_t text_len;
            bool is_whole;
            int64_t integer;
            double number, when;
        };
        struct store_ring ring;
        struct store_marks marks;
    };
    uint16_t key_len;
    char key[];
};
uint64_t entry_octets(const struct store_entry *);
void entry_free(struct store_entry *);

struct store_shard {
    pthread_mutex_t lock;
    struct store_entry **slots;
    size_t mask, count;
    struct store_entry **heap; /* ordered by `expires`, the earliest first */
    size_t heap_room;
    uint64_t octets, most;
};
struct store_overlay;
struct store {
    uint32_t refs;
    size_t nshards;
    uint64_t seed[2];
    struct store_overlay *overlay; /* NULL: it is not laid over another store */
    struct store_shard shards[];
};
struct store_shard *shard_of(struct store *, struct str key, uint64_t *hash);
/* Adds an empty entry for a key that the shard does not have. */
struct store_entry *entry_add(struct store_shard *, uint64_t hash, struct str key, enum entry_kind, double expires);
/* To be called after a change of an entry: updates its size and its place in the heap, and evicts the entries that expire first while the
 * shard is over its limit. */
void entry_changed(struct store_shard *, struct store_entry *, double expires);
/* overlay.c: copies the entry of a key from the store below before the key is read or written for the first time. Call it without a lock. */
void overlay_look(struct store_overlay *, struct store *, struct str key, double now);
void overlay_free(struct store_overlay *);
/* handover.c: reads the image of one key into the store. With key "" it reads only the seed of the hashes, and the store must be empty.
 * False: malformed, or written with another seed. */
bool overlay_take(struct store *, struct str key, FILE *from);
#endif
