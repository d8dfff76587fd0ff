/* pipe.c - blocks, spans and pipes. */
#include "base/pipe.h"
#include <stdarg.h>

enum { CLASSES = 4, KEEP_SPANS = 4096 };
/* A full 64 KiB read wants exactly BLOCK_READ octets: the largest class counts its payload, not its header. */
static const uint32_t class_room[CLASSES] = {512 - sizeof(struct block), 4096 - sizeof(struct block),
                                             16384 - sizeof(struct block), BLOCK_READ};
static const uint32_t class_keep[CLASSES] = {1024, 256, 256, 32}; /* free blocks a thread keeps of each */

static _Thread_local struct {
    struct block *free[CLASSES];
    uint32_t kept[CLASSES];
    struct span *spans;
    uint32_t spans_kept;
    size_t total;
} bank;

struct block *block_take(size_t size)
{
    uint32_t kind = 0;
    while (kind < CLASSES && class_room[kind] < size)
        kind++;
    struct block *b = kind < CLASSES ? bank.free[kind] : NULL;
    if (b) {
        bank.free[kind] = b->next;
        bank.kept[kind]--;
    } else {
        size = kind < CLASSES ? class_room[kind] : size;
        b = malloc(sizeof *b + size);
        must(b != NULL);
        b->size = (uint32_t)size;
        b->kind = kind;
    }
    b->next = NULL;
    b->refs = 1;
    b->used = 0;
    bank.total += b->size + sizeof *b;
    return b;
}

void block_drop(struct block *b)
{
    if (!b || --b->refs)
        return;
    bank.total -= b->size + sizeof *b;
    if (b->kind >= CLASSES || bank.kept[b->kind] >= class_keep[b->kind]) {
        free(b);
        return;
    }
    b->next = bank.free[b->kind];
    bank.free[b->kind] = b;
    bank.kept[b->kind]++;
}

size_t block_total(void)
{
    return bank.total;
}

void block_forget(void)
{
    for (int c = 0; c < CLASSES; c++)
        while (bank.free[c]) {
            struct block *b = bank.free[c];
            bank.free[c] = b->next;
            free(b);
        }
    while (bank.spans) {
        struct span *s = bank.spans;
        bank.spans = s->next;
        free(s);
    }
    memset(bank.kept, 0, sizeof bank.kept);
    bank.spans_kept = 0;
}

static struct span *span_take(void)
{
    struct span *s = bank.spans;
    if (!s)
        return must_alloc(sizeof *s);
    bank.spans = s->next;
    bank.spans_kept--;
    return s;
}

static void span_free(struct span *s)
{
    if (bank.spans_kept >= KEEP_SPANS) {
        free(s);
        return;
    }
    s->next = bank.spans;
    bank.spans = s;
    bank.spans_kept++;
}

static size_t charge(const struct block *b)
{
    return sizeof(struct span) + (b ? b->size + sizeof *b : 0);
}

/* Takes over the caller's reference. Adjacent spans of the same block count its memory once in `held`. */
static void append(struct pipe *p, struct block *b, const char *at, size_t len)
{
    struct span *s = span_take();
    *s = (struct span){NULL, b, at, len};
    p->held += b && p->last && p->last->block == b ? sizeof *s : charge(b);
    if (p->last)
        p->last->next = s;
    else
        p->first = s;
    p->last = s;
    p->octets += len;
}

static void remove_first(struct pipe *p)
{
    struct span *s = p->first;
    p->first = s->next;
    if (!p->first)
        p->last = NULL;
    p->held -= s->block && p->first && p->first->block == s->block ? sizeof *s : charge(s->block);
    block_drop(s->block);
    span_free(s);
}

/* How many of `len` octets fit into the last block, if no other pipe shares it. */
static size_t fill_tail(struct pipe *p, const char *at, size_t len)
{
    struct span *s = p->last;
    struct block *b = s ? s->block : NULL;
    if (!b || b->refs != 1 || s->at + s->len != b->octets + b->used)
        return 0;
    size_t n = min_size(len, b->size - b->used);
    memcpy(b->octets + b->used, at, n);
    b->used += (uint32_t)n;
    s->len += n;
    p->octets += n;
    return n;
}

void pipe_copy(struct pipe *p, const void *octets, size_t len)
{
    const char *at = octets;
    size_t n = len ? fill_tail(p, at, len) : 0;
    for (at += n, len -= n; len; at += n, len -= n) {
        /* Block sizes grow in steps: a pipe with few octets costs 512 octets, a stream of many needs few blocks. */
        size_t want = max_size(len, p->octets < 256 ? 1 : p->octets < 3072 ? 4000 : 16000);
        struct block *b = block_take(min_size(want, 16384 - sizeof *b));
        n = min_size(len, b->size);
        memcpy(b->octets, at, n);
        b->used = (uint32_t)n;
        append(p, b, b->octets, n);
    }
}

void pipe_constant(struct pipe *p, struct str s)
{
    if (s.len < PIPE_SHORT)
        pipe_copy(p, s.at, s.len);
    else
        append(p, NULL, s.at, s.len);
}

void pipe_view(struct pipe *p, struct block *b, const char *at, size_t len)
{
    if (!len)
        return;
    struct span *s = p->last;
    if (s && b && s->block == b && s->at + s->len == at) {
        s->len += len;
        p->octets += len;
        return;
    }
    if (len < PIPE_SHORT || !b) {
        pipe_copy(p, at, len);
        return;
    }
    b->refs++;
    append(p, b, at, len);
}

void pipe_print(struct pipe *p, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    must(n >= 0 && (size_t)n < sizeof text);
    pipe_copy(p, text, (size_t)n);
}

void pipe_move(struct pipe *from, struct pipe *to, size_t octets)
{
    must(octets <= from->octets);
    while (octets) {
        struct span *s = from->first;
        size_t n = min_size(octets, s->len);
        if (s->block)
            pipe_view(to, s->block, s->at, n);
        else
            pipe_constant(to, (struct str){s->at, n});
        pipe_drop(from, n);
        octets -= n;
    }
}

void pipe_drop(struct pipe *p, size_t octets)
{
    must(octets <= p->octets);
    p->octets -= octets;
    while (octets) {
        struct span *s = p->first;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): octets of a pipe have spans */
        if (octets < s->len) {
            s->at += octets;
            s->len -= octets;
            return;
        }
        octets -= s->len;
        remove_first(p);
    }
}

void pipe_clear(struct pipe *p)
{
    pipe_drop(p, p->octets);
}

void pipe_compact(struct pipe *p)
{
    if (!pipe_is_full(p) || p->octets > p->held / 4)
        return;
    struct pipe small = {0};
    for (const struct span *s = p->first; s; s = s->next)
        pipe_copy(&small, s->at, s->len);
    pipe_clear(p);
    p->first = small.first;
    p->last = small.last;
    p->octets = small.octets;
    p->held = small.held;
}

void pipe_peek(const struct pipe *p, size_t offset, void *into, size_t n)
{
    must(offset + n <= p->octets);
    char *to = into;
    for (const struct span *s = p->first; n; s = s->next) {
        if (offset >= s->len) {
            offset -= s->len;
            continue;
        }
        size_t part = min_size(n, s->len - offset);
        memcpy(to, s->at + offset, part);
        to += part;
        n -= part;
        offset = 0;
    }
}

struct str pipe_flat(const struct pipe *p, size_t n, struct arena *arena)
{
    must(n <= p->octets);
    if (!n)
        return STR("");
    if (p->first->len >= n)
        return (struct str){p->first->at, n};
    char *copy = arena_space(arena, n);
    pipe_peek(p, 0, copy, n);
    return (struct str){copy, n};
}

size_t pipe_find(const struct pipe *p, size_t from, char octet)
{
    size_t at = 0;
    for (const struct span *s = p->first; s; at += s->len, s = s->next) {
        if (from >= at + s->len)
            continue;
        size_t skip = from > at ? from - at : 0;
        const char *found = memchr(s->at + skip, octet, s->len - skip);
        if (found)
            return at + (size_t)(found - s->at);
    }
    return p->octets;
}

int pipe_iov(const struct pipe *p, struct iovec *iov, int most)
{
    int n = 0;
    for (const struct span *s = p->first; s && n < most; s = s->next)
        iov[n++] = (struct iovec){(void *)s->at, s->len};
    return n;
}
