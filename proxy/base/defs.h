/* defs.h - standard headers, assertions, checked allocation and small arithmetic functions for all of the source.
 *
 * must(claim) aborts with file and line when the claim is false, in release builds too: a bug ends the process before it corrupts
 * mail. It is for bugs only, never for what a peer, a configuration or a limit can cause. never(why) marks unreachable code. */
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
/* Called by must_failed before abort(), to print the last events of the thread; NULL: none. One for the process. */
extern void (*must_transcript)(void);

/* Allocation that aborts when the system has no memory; the caller frees with free(). */
void *must_alloc(size_t octets);        /* zeroed */
void *must_grow(void *, size_t octets); /* as realloc; what is added is not zeroed */
/* As must_alloc, and the block shares no cache line with another: for data that one thread writes often. */
enum { CACHE_LINE = 64 };
void *must_alloc_lines(size_t octets);
/* Returns freed memory to the system, pages between used ones included, where the allocator can (malloc_trim). Takes milliseconds for
 * a hundred MiB and blocks other allocations meanwhile: call it rarely, after many sessions have ended. */
void alloc_give_back(void);

/* CLOCK_MONOTONIC in milliseconds, read by each call. Code that runs on a loop calls loop_now instead. */
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
