/* pipe.h - octets on their way: a row of spans that view refcounted blocks. Octets are read once, viewed, written once.
 *
 * Backpressure is a full pipe: a stage takes nothing while pipe_is_full(out). `held` charges the memory of the blocks that a
 * pipe pins, not the octets it shows, so that one-octet reads cannot pin gigabytes. A view of fewer than PIPE_SHORT octets is
 * copied into the tail instead. Blocks and spans come from freelists of the thread and never leave it. */
#ifndef BASE_PIPE_H
#define BASE_PIPE_H
#include "base/arena.h"
#include <sys/uio.h>

enum { PIPE_SHORT = 256, BLOCK_READ = 65536, PIPE_MARK = 65536 };

struct block {
    struct block *next; /* in the freelist */
    uint32_t refs, size, used;
    uint32_t kind; /* which freelist; none: beyond them */
    char octets[];
};

/* A block with one reference and room for at least `size` octets; sizes are rounded up to 512, 4 KiB, 16 KiB, 64 KiB less
 * the header. Larger: exactly that. */
struct block *block_take(size_t size);
void block_drop(struct block *);
size_t block_total(void);  /* octets of all blocks in use in this thread */
void block_forget(void);   /* frees this thread's freelists, at its end */

struct span {
    struct span *next;
    struct block *block; /* NULL: constant memory */
    const char *at;
    size_t len;
};

struct pipe {
    struct span *first, *last;
    size_t octets; /* that are in it */
    size_t held;   /* memory of the blocks it pins */
    size_t mark;   /* full when held >= mark; 0: never */
    bool ended;    /* nothing will be put any more */
};

static inline bool pipe_is_full(const struct pipe *p)
{
    return p->mark && p->held >= p->mark;
}
static inline bool pipe_is_empty(const struct pipe *p)
{
    return p->octets == 0;
}
void pipe_copy(struct pipe *, const void *, size_t);                  /* into blocks of its own */
void pipe_constant(struct pipe *, struct str);                        /* views memory that outlives every pipe */
void pipe_view(struct pipe *, struct block *, const char *, size_t);  /* shares the block (or copies, when short) */
static inline void pipe_put(struct pipe *p, struct str s)
{
    pipe_copy(p, s.at, s.len);
}
void pipe_print(struct pipe *, const char *format, ...) PRINTF_LIKE(2, 3);
void pipe_move(struct pipe *from, struct pipe *to, size_t octets);    /* the first octets; by view where that pays */
void pipe_drop(struct pipe *, size_t octets);
void pipe_clear(struct pipe *);                                       /* drops all; mark and ended stay */
/* When it is full though it shows little: copies what is left together and lets the large blocks go. For a stage that needs
 * more octets before it can take any: the view of one octet pins a block, and would keep the pipe full for good. */
void pipe_compact(struct pipe *);
/* Copies `n` octets from `offset` on to `into`; they must be there. Consumes nothing. */
void pipe_peek(const struct pipe *, size_t offset, void *into, size_t n);
/* The first n octets as one str: a view if they lie together, else a copy in the arena. Consumes nothing. */
struct str pipe_flat(const struct pipe *, size_t n, struct arena *);
/* The offset of the first `octet` at or behind `from`; pipe->octets when there is none. */
size_t pipe_find(const struct pipe *, size_t from, char octet);
int pipe_iov(const struct pipe *, struct iovec *, int most); /* the first spans; returns how many */
#endif
