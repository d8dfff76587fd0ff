/* memory.h - inside the memory store: its shards, and what a key holds: a value, a sliding window, a bucket, or marks of what
 * was seen.
 *
 * For memory.c, entry.c, handover.c and overlay.c alone. Entries are touched under the lock of their shard. Times are seconds, as store_now
 * is given them. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H
#include "base/str.h"
#include <pthread.h>
#include <stdio.h>

enum { KEY_MOST = 1024, TEXT_MOST = 65536 };
enum { RING = 9, MARKS_MOST = 4096 };

/* A sliding window: 8 whole sub-windows, and one that is leaving it. */
struct store_ring {
    double width; /* seconds of one sub-window */
    int64_t turn; /* which sub-window `counts[turn % RING]` is: time / width, rounded down */
    double counts[RING];
};
void ring_move(struct store_ring *, double now, double window);       /* empties what has left the window */
double ring_count(const struct store_ring *, double now);
void ring_add(struct store_ring *, double);
double ring_wait(const struct store_ring *, double now, double excess); /* seconds until so much has left */

/* A set of hashes in the order they were last seen. */
struct store_mark { uint64_t a, b; };
struct store_marks {
    uint32_t count, room, first, last; /* index + 1 in nodes; first: seen longest ago */
    struct mark_node { struct store_mark mark; double seen; uint32_t before, behind; } *nodes;
    uint32_t *slots; /* 2 * room of them: index + 1 */
};
bool marks_has(const struct store_marks *, struct store_mark);
void marks_add(struct store_marks *, struct store_mark, double now); /* or seen again. Who adds bounds them */
bool marks_remove(struct store_marks *, struct store_mark);
void marks_forget(struct store_marks *, double before);        /* all not seen since */

enum entry_kind { ENTRY_VALUE, ENTRY_RATE, ENTRY_BUCKET, ENTRY_DISTINCT, ENTRY_SET };
struct store_entry {
    struct store_entry *next; /* in its slot */
    uint64_t hash;
    double expires;
    uint32_t at, octets; /* at: in the heap */
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
    struct store_entry **heap; /* by expires: the nearest first */
    size_t heap_room;
    uint64_t octets, most;
};
struct store_overlay;
struct store {
    uint32_t refs;
    size_t nshards;
    uint64_t seed[2];
    struct store_overlay *overlay; /* NULL: nothing is below */
    struct store_shard shards[];
};
struct store_shard *shard_of(struct store *, struct str key, uint64_t *hash);
/* Puts it there, empty. The key is not there yet. */
struct store_entry *entry_add(struct store_shard *, uint64_t hash, struct str key, enum entry_kind, double expires);
/* After a change: its size, its place in the heap, and room made at the cost of those nearest to their end. */
void entry_changed(struct store_shard *, struct store_entry *, double expires);
/* overlay.c: the key is about to be asked or written for the first time: what is below stands here. No lock is held. */
void overlay_look(struct store_overlay *, struct store *, struct str key, double now);
void overlay_free(struct store_overlay *);
/* handover.c: one key's image; with key "" the seed alone, of a store that holds nothing. False: malformed, or of other seeds. */
bool overlay_take(struct store *, struct str key, FILE *from);
#endif
