/* arena.h - memory that is freed all at once: that of a line, of a transaction, of a session. No allocation is freed singly.
 *
 * An arena owns its chunks; arena_reset frees all of them. A zeroed struct arena is a valid, empty one. No function here returns
 * NULL or fails: the process aborts when the system has no memory, and input that can grow is limited, with a reply, before it is
 * stored. Not thread safe: an arena belongs to one thread. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/str.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunk; /* newest first */
    uint32_t first;            /* size of the first chunk in octets; 0: 512 */
    size_t held;               /* octets of all chunks, used or not: this is what memory limits count */
};

void *arena_alloc(struct arena *, size_t octets); /* aligned for any type, zeroed */
char *arena_space(struct arena *, size_t octets); /* not aligned, not zeroed */
struct str arena_str(struct arena *, struct str); /* a copy, NUL-terminated (len does not count the NUL); STR_NONE gives STR_NONE */
struct str arena_join(struct arena *, size_t n, const struct str *pieces); /* the pieces concatenated, NUL-terminated */
struct str arena_print(struct arena *, const char *format, ...) PRINTF_LIKE(2, 3);
struct str arena_vprint(struct arena *, const char *format, __builtin_va_list);
struct str arena_lower(struct arena *, struct str); /* a copy with ASCII letters in lower case */
void arena_reset(struct arena *);                   /* frees every chunk; the arena can be used again */
size_t arena_total(void);                           /* sum of `held` of all arenas of this thread, in octets */
#endif
