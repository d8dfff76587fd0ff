/* memory.h - what a key of the memory store holds: a value, a sliding window, a bucket, or marks of what was seen.
 *
 * Used by memory.c alone, under the lock of a shard. Times are seconds, as store_now is given them. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H
#include "base/str.h"

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
/* Or seen again. `most` of them there: the one seen longest ago goes. */
void marks_add(struct marks *, struct mark, double now, uint32_t most);
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
#endif
