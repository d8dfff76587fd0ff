/* memory.h - inside the memory store: its shards, and what a key holds: a value, a sliding window, a bucket, or marks of what
 * was seen.
 *
 * For memory.c, entry.c and handover.c alone. Entries are touched under the lock of their shard. Times are seconds, as store_now
 * is given them. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H
#include "base/str.h"
#include <pthread.h>

enum { KEY_MOST = 1024, TEXT_MOST = 65536 };
enum { RING = 9, MARKS_MOST = 4096 };

/* A sliding window: 8 whole sub-windows, and one that is leaving it. */
struct ring {
    double width; /* seconds of one sub-window */
    int64_t turn; /* which sub-window `counts[turn % RING]` is: time / width, rounded down */
    double counts[RING];
};
void ring_move(struct ring *, double now, double window);       /* empties what has left the window */
double ring_count(const struct ring *, double now);
void ring_add(struct ring *, double);
double ring_wait(const struct ring *, double now, double excess); /* seconds until so much has left */

/* A set of hashes in the order they were last seen. */
struct mark { uint64_t a, b; };
struct marks {
    uint32_t count, room, first, last; /* index + 1 in nodes; first: seen longest ago */
    struct mark_node { struct mark mark; double seen; uint32_t before, behind; } *nodes;
    uint32_t *slots; /* 2 * room of them: index + 1 */
};
bool marks_has(const struct marks *, struct mark);
void marks_add(struct marks *, struct mark, double now); /* or seen again. Who adds bounds them */
bool marks_remove(struct marks *, struct mark);
void marks_forget(struct marks *, double before);        /* all not seen since */

enum entry_kind { ENTRY_VALUE, ENTRY_RATE, ENTRY_BUCKET, ENTRY_DISTINCT, ENTRY_SET };
struct entry {
    struct entry *next; /* in its slot */
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
        struct ring ring;
        struct marks marks;
    };
    uint16_t key_len;
    char key[];
};
uint64_t entry_octets(const struct entry *);
void entry_free(struct entry *);

struct shard {
    pthread_mutex_t lock;
    struct entry **slots;
    size_t mask, count;
    struct entry **heap; /* by expires: the nearest first */
    size_t heap_room;
    uint64_t octets, most;
};
struct store {
    uint32_t refs;
    size_t nshards;
    uint64_t seed[2];
    struct shard shards[];
};
struct shard *shard_of(struct store *, struct str key, uint64_t *hash);
/* Puts it there, empty. The key is not there yet. */
struct entry *entry_add(struct shard *, uint64_t hash, struct str key, enum entry_kind, double expires);
/* After a change: its size, its place in the heap, and room made at the cost of those nearest to their end. */
void entry_changed(struct shard *, struct entry *, double expires);
#endif
