/* arena.c - chunks in a list, each twice the one before it up to 64 KiB. */
#include "base/arena.h"
#include <stdarg.h>
#include <stdalign.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used; /* of the octets behind this header */
    alignas(max_align_t) char octets[];
};

enum { CHUNK_FIRST = 512, CHUNK_MOST = 65536 };
static _Thread_local size_t total;

static struct arena_chunk *grow(struct arena *a, size_t need)
{
    size_t size = a->chunk ? min_size(a->chunk->size * 2, CHUNK_MOST) : a->first ? a->first : CHUNK_FIRST;
    size = max_size(size, need);
    struct arena_chunk *c = malloc(sizeof *c + size);
    must(c != NULL);
    c->next = a->chunk;
    c->size = size;
    c->used = 0;
    a->chunk = c;
    a->held += size + sizeof *c;
    total += size + sizeof *c;
    return c;
}

char *arena_space(struct arena *a, size_t octets)
{
    struct arena_chunk *c = a->chunk;
    if (!c || c->size - c->used < octets)
        c = grow(a, octets);
    char *p = c->octets + c->used;
    c->used += octets;
    return p;
}

void *arena_alloc(struct arena *a, size_t octets)
{
    struct arena_chunk *c = a->chunk;
    if (c)
        c->used = min_size((c->used + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1), c->size);
    char *p = arena_space(a, octets);
    return memset(p, 0, octets);
}

struct str arena_str(struct arena *a, struct str s)
{
    if (!s.at)
        return STR_NONE;
    char *p = arena_space(a, s.len + 1);
    if (s.len)
        memcpy(p, s.at, s.len);
    p[s.len] = 0;
    return (struct str){p, s.len};
}

struct str arena_join(struct arena *a, size_t n, const struct str *pieces)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += pieces[i].len;
    char *p = arena_space(a, len + 1), *at = p;
    for (size_t i = 0; i < n; at += pieces[i++].len)
        memcpy(at, pieces[i].len ? pieces[i].at : "", pieces[i].len);
    *at = 0;
    return (struct str){p, len};
}

struct str arena_lower(struct arena *a, struct str s)
{
    struct str copy = arena_str(a, s);
    for (size_t i = 0; i < copy.len; i++)
        ((char *)copy.at)[i] = char_lower(copy.at[i]);
    return copy;
}

struct str arena_vprint(struct arena *a, const char *format, va_list args)
{
    char small[512];
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(small, sizeof small, format, args);
    must(n >= 0);
    char *p = arena_space(a, (size_t)n + 1);
    if ((size_t)n < sizeof small)
        memcpy(p, small, (size_t)n + 1);
    else
        vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
    return (struct str){p, (size_t)n};
}

struct str arena_print(struct arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct str s = arena_vprint(a, format, args);
    va_end(args);
    return s;
}

void arena_reset(struct arena *a)
{
    for (struct arena_chunk *c = a->chunk, *next; c; c = next) {
        next = c->next;
        total -= c->size + sizeof *c;
        free(c);
    }
    a->chunk = NULL;
    a->held = 0;
}

size_t arena_total(void)
{
    return total;
}
