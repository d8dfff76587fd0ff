/* arena.h - memory that lives and dies together: a line, a transaction, a session. Nothing in it is freed singly.
 *
 * An arena owns its chunks; arena_reset gives all of them back. arena_alloc never returns NULL: what can grow is bounded
 * where it enters, with a reply. Not thread safe: an arena belongs to one worker. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/str.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunk; /* newest first */
    uint32_t first;            /* size of the first chunk in octets; 0: 512 */
    size_t held;               /* octets of all chunks: what a budget counts */
};

void *arena_alloc(struct arena *, size_t octets); /* aligned for anything, zeroed */
char *arena_space(struct arena *, size_t octets); /* not aligned, not zeroed */
struct str arena_str(struct arena *, struct str); /* a copy with a NUL behind it; STR_NONE stays so */
struct str arena_join(struct arena *, size_t n, const struct str *pieces); /* one behind the other, NUL behind the last */
struct str arena_print(struct arena *, const char *format, ...) PRINTF_LIKE(2, 3);
struct str arena_vprint(struct arena *, const char *format, __builtin_va_list);
struct str arena_lower(struct arena *, struct str);
void arena_reset(struct arena *);
size_t arena_total(void); /* octets of all arenas of this thread */
#endif
