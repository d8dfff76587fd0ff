/* defs.c - how a bug ends the process, and allocation that never returns NULL. */
#include "base/defs.h"
#include <poll.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

void (*must_transcript)(void);

_Noreturn void must_failed(const char *claim, const char *file, int line, const char *function)
{
    char text[512];
    struct pollfd one = {.fd = 2, .events = POLLOUT}; /* do not block in the abort when stderr is a full pipe */
    int n = snprintf(text, sizeof text, "sluice: bug: %s, at %s:%d in %s\n", claim, file, line, function);
    if (poll(&one, 1, 1000) == 1 && write(2, text, min_size((size_t)n, sizeof text - 1)) < 0)
        abort();
    if (must_transcript)
        must_transcript();
    abort();
}

void *must_alloc(size_t octets)
{
    void *p = calloc(1, octets ? octets : 1);
    must(p != NULL);
    return p;
}

void *must_alloc_lines(size_t octets)
{
    octets = (octets + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *p = aligned_alloc(CACHE_LINE, max_size(octets, CACHE_LINE));
    must(p != NULL);
    return memset(p, 0, octets);
}

void *must_grow(void *old, size_t octets)
{
    void *p = realloc(old, octets ? octets : 1);
    must(p != NULL);
    return p;
}

void alloc_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
