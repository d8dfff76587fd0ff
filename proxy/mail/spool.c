/* spool.c - memory first, then an unlinked file written and read by the loop thread: the page cache takes it, and what a full
 * disk or a bad one does to it is a value, not an event. Reading never consumes: passes and filter_content read it again. */
#include "mail/spool.h"
#include "base/fault.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

struct spool {
    struct pipe memory;   /* all of it, while fd < 0 */
    size_t most;
    uint64_t ceiling, charged; /* charged: its part of what all hold */
    int fd;
    uint64_t octets, at;  /* written; where the reader stands */
    const struct span *span; /* reader's place in memory: the span, and the octet of the spool it begins at */
    uint64_t span_at;
    bool failed, over;
};

static _Atomic uint64_t held; /* by all workers: the disk they fill is one */

struct spool *spool_open(size_t memory, uint64_t ceiling)
{
    struct spool *s = must_alloc(sizeof *s);
    s->ceiling = ceiling;
    s->most = memory;
    s->fd = -1;
    return s;
}

void spool_close(struct spool **spool)
{
    struct spool *s = *spool;
    if (!s)
        return;
    pipe_clear(&s->memory);
    if (s->fd >= 0)
        close(s->fd);
    atomic_fetch_sub_explicit(&held, s->charged, memory_order_relaxed);
    free(s);
    *spool = NULL;
}

static int open_unlinked(void)
{
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder)
        folder = "/var/tmp";
    if (fault_strikes(FAULT_FILE))
        return -1;
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/sluice-XXXXXX", folder) >= (int)sizeof path)
        return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

/* Moves all of the pipe to the end of the file. */
static bool write_out(struct spool *s, struct pipe *in)
{
    while (!pipe_is_empty(in)) {
        struct iovec iov[64];
        int n = pipe_iov(in, iov, 64);
        ssize_t done = fault_strikes(FAULT_FILE) ? -1 : pwritev(s->fd, iov, n, (off_t)s->octets);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        pipe_drop(in, (size_t)done);
        s->octets += (uint64_t)done;
    }
    return true;
}

/* Charged before it is taken: two workers at once may both be refused, but never both let over. */
static bool charge(struct spool *s, uint64_t octets)
{
    uint64_t all = atomic_fetch_add_explicit(&held, octets, memory_order_relaxed) + octets;
    if (s->ceiling && all > s->ceiling) {
        atomic_fetch_sub_explicit(&held, octets, memory_order_relaxed);
        s->failed = s->over = true;
        return false;
    }
    s->charged += octets;
    return true;
}

bool spool_put(struct spool *s, struct pipe *in)
{
    if (s->failed || !charge(s, in->octets))
        return false;
    if (s->fd < 0 && s->memory.held + in->held <= s->most) {
        s->octets += in->octets;
        pipe_move(in, &s->memory, in->octets);
        return true;
    }
    if (s->fd < 0) {
        s->fd = open_unlinked();
        s->octets = 0;
        s->span = NULL;
        if (s->fd < 0 || !write_out(s, &s->memory))
            return s->failed = true, false;
    }
    if (!write_out(s, in))
        return s->failed = true, false;
    return true;
}

uint64_t spool_octets(const struct spool *s)
{
    return s->octets;
}

void spool_rewind(struct spool *s)
{
    s->at = s->span_at = 0;
    s->span = NULL;
}

bool spool_failed(const struct spool *s)
{
    return s->failed;
}

bool spool_is_over(const struct spool *s)
{
    return s->over;
}

uint64_t spool_total(void)
{
    return atomic_load_explicit(&held, memory_order_relaxed);
}

static bool take_from_file(struct spool *s, struct pipe *out)
{
    while (s->at < s->octets && !pipe_is_full(out)) {
        struct block *b = block_take(BLOCK_READ);
        size_t want = (size_t)min_u64(b->size, s->octets - s->at);
        ssize_t n = fault_strikes(FAULT_FILE) ? -1 : pread(s->fd, b->octets, want, (off_t)s->at);
        if (n <= 0) {
            block_drop(b);
            if (n < 0 && errno == EINTR)
                continue;
            s->failed = true;
            return false;
        }
        b->used = (uint32_t)n;
        pipe_view(out, b, b->octets, (size_t)n);
        block_drop(b);
        s->at += (uint64_t)n;
    }
    return s->at >= s->octets;
}

bool spool_take(struct spool *s, struct pipe *out)
{
    if (s->fd >= 0)
        return take_from_file(s, out);
    if (!s->span) {
        s->span = s->memory.first;
        s->span_at = 0;
    }
    while (s->span && s->at < s->octets && !pipe_is_full(out)) {
        size_t skip = (size_t)(s->at - s->span_at);
        if (s->span->len > skip) {
            pipe_view(out, s->span->block, s->span->at + skip, s->span->len - skip);
            s->at = s->span_at + s->span->len;
        }
        if (s->span->next) {
            s->span_at += s->span->len;
            s->span = s->span->next;
        }
    }
    return s->at >= s->octets;
}

size_t spool_read(struct spool *s, uint64_t offset, char *into, size_t n)
{
    if (offset >= s->octets)
        return 0;
    n = (size_t)min_u64(n, s->octets - offset);
    if (s->fd < 0) {
        pipe_peek(&s->memory, (size_t)offset, into, n);
        return n;
    }
    size_t done = 0;
    while (done < n) {
        ssize_t got = fault_strikes(FAULT_FILE) ? -1 : pread(s->fd, into + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            s->failed = true;
            break;
        }
        done += (size_t)got;
    }
    return done;
}
