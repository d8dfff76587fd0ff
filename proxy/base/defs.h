/* defs.h - what every floor needs: must() and never(), the magic on types that travel as void *, a few arithmetic words.
 *
 * must() is always on: a bug aborts with its place, it never corrupts mail. Peers, policy and limits are never must(). */
#ifndef BASE_DEFS_H
#define BASE_DEFS_H
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define countof(a) (sizeof(a) / sizeof *(a))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* The struct that holds `member`, from a pointer to the member. */
#define holder_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define must(claim)                                                                                                    \
    do {                                                                                                               \
        if (UNLIKELY(!(claim)))                                                                                        \
            must_failed(#claim, __FILE__, __LINE__, __func__);                                                         \
    } while (0)
#define never(why) must_failed(why, __FILE__, __LINE__, __func__)

_Noreturn void must_failed(const char *claim, const char *file, int line, const char *function);
/* Called by must_failed before abort(): prints what the thread did last. One per process. */
extern void (*must_transcript)(void);

/* Allocation that aborts when memory is gone: whatever can grow is bounded where it comes in. */
void *must_alloc(size_t octets); /* zeroed */
void *must_grow(void *, size_t octets);
/* Zeroed, and no octet of its cache lines is anybody else's: for what one thread writes while others read what lies beside it. */
enum { CACHE_LINE = 64 };
void *must_alloc_lines(size_t octets);
/* What has been freed goes back to the system, pages between what is still used too, where the allocator can do that. Takes
 * milliseconds for a hundred MiB, and holds up whoever allocates meanwhile: after a crowd has left, not often. */
void alloc_give_back(void);

/* CLOCK_MONOTONIC in milliseconds, read anew; who has a loop asks loop_now. */
static inline uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}
static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
#endif
