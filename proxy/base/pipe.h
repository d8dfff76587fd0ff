/* pipe.h - a FIFO of octets: a list of spans that point into reference-counted blocks, so that octets pass from stage to stage without
 * being copied.
 *
 * Backpressure: a stage takes no input while pipe_is_full(out). `held` counts the memory of the blocks that a pipe keeps alive, not the
 * octets in it, so that one-octet reads cannot hold gigabytes. Fewer than PIPE_SHORT octets are copied into the last block instead of
 * being referenced. Blocks and spans come from freelists of the thread and never move to another thread. */
#ifndef BASE_PIPE_H
#define BASE_PIPE_H
#include "base/arena.h"
#include <sys/uio.h>

enum { PIPE_SHORT = 256, BLOCK_READ = 65536, PIPE_MARK = 65536 };

struct block {
    struct block *next; /* in the freelist */
    uint32_t refs, size, used;
    uint32_t kind; /* index of its freelist; a block of a size that no freelist has is freed */
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
    size_t octets; /* how many octets are in it */
    size_t held;   /* memory of the blocks it references, in octets */
    size_t mark;   /* full when held >= mark; 0: never full */
    bool ended;    /* no octets will be added any more */
};

static inline bool pipe_is_full(const struct pipe *p)
{
    return p->mark && p->held >= p->mark;
}
static inline bool pipe_is_empty(const struct pipe *p)
{
    return p->octets == 0;
}
void pipe_copy(struct pipe *, const void *, size_t);                  /* appends a copy */
void pipe_constant(struct pipe *, struct str);                        /* appends without a copy; the memory must outlive every pipe */
void pipe_view(struct pipe *, struct block *, const char *, size_t);  /* appends part of a block, by a reference to it (short: by copy) */
static inline void pipe_put(struct pipe *p, struct str s)
{
    pipe_copy(p, s.at, s.len);
}
void pipe_print(struct pipe *, const char *format, ...) PRINTF_LIKE(2, 3);
void pipe_move(struct pipe *from, struct pipe *to, size_t octets);    /* moves the first octets, without a copy unless they are few */
void pipe_drop(struct pipe *, size_t octets);                         /* removes the first octets */
void pipe_clear(struct pipe *);                                       /* removes all; mark and ended stay */
/* For a pipe that is full by `held` but has few octets: copies them together and drops the references to the large blocks. A stage calls
 * it that needs more octets before it can take any: one octet references a whole block, and the pipe would stay full for ever. */
void pipe_compact(struct pipe *);
/* Copies `n` octets from `offset` on to `into`; the pipe must hold them. Removes nothing. */
void pipe_peek(const struct pipe *, size_t offset, void *into, size_t n);
/* The first n octets as one str: a view if they lie in one span, else a copy in the arena. Removes nothing. */
struct str pipe_flat(const struct pipe *, size_t n, struct arena *);
/* The offset of the first `octet` at or behind `from`; pipe->octets when there is none. */
size_t pipe_find(const struct pipe *, size_t from, char octet);
int pipe_iov(const struct pipe *, struct iovec *, int most); /* the first spans, for writev; returns how many */
#endif
