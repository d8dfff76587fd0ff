/* stream.c - creates channels, reads and writes them without TLS. Closing is in linger.c, TLS in stream_tls.c, connecting in dial.c.
 *
 * Reading is stopped late, because a stop and a start cost two epoll_ctl: when `in` is full, alloc_cb returns no buffer, and only when that
 * happens a second time, after the owner could have run, reading stops. Octets stay in the outgoing pipe until the kernel has taken them; at
 * most one uv_write is pending. The owner's task is woken, never called. Input is acknowledged with the octets of our reply; when the input
 * was incomplete and there is no reply, the acknowledgement is sent by itself (stream.partial).
 */
#include "net/channel.h"
#include "base/fault.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

static _Thread_local size_t streams;

size_t stream_count(void)
{
    return streams;
}

enum failure channel_why(int status)
{
    switch (status) {
    case UV_ECONNREFUSED:
    case UV_ENOENT:
    case UV_EACCES:
    case UV_EPERM: return FAILURE_REFUSED;
    case UV_ECONNRESET:
    case UV_EPIPE:
    case UV_ECONNABORTED:
    case UV_ENOTCONN: return FAILURE_RESET;
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL:
    case UV_EAFNOSUPPORT: return FAILURE_UNREACHABLE;
    case UV_ETIMEDOUT:
    case UV_EAI_AGAIN: return FAILURE_TIMEOUT;
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_ADDRFAMILY: return FAILURE_NXDOMAIN;
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOBUFS:
    case UV_ENOMEM: return FAILURE_LIMIT;
    default: return FAILURE_CLOSED;
    }
}

static void flush_now(struct task *);
static void fail(struct channel *, int status); /* the stream is dead; status: the error of libuv */

struct channel *channel_new(struct loop *l, struct task *task)
{
    struct channel *c = must_alloc(sizeof *c);
    c->magic = CHANNEL_MAGIC;
    c->loop = l;
    c->s.task = task;
    c->s.in.mark = c->s.out.mark = PIPE_MARK;
    task_start(&c->flush, l, flush_now);
    streams++;
    return c;
}

void channel_free(struct channel *c)
{
    must(!c->handle_open);
    if (c->pins)
        return;
    dial_drop(c);
    leave_stop(c);
    end_free(c);
    pipe_clear(&c->s.in);
    pipe_clear(&c->s.out);
    arena_reset(&c->arena);
    c->magic = 0;
    streams--;
    free(c);
}

static void closed(uv_handle_t *handle)
{
    struct channel *c = handle->data;
    c->handle_open = false;
    channel_free(c);
}

void channel_gone(struct channel *c)
{
    if (c->leave == GONE)
        return;
    c->leave = GONE;
    c->s.task = NULL;
    task_forget(&c->flush);
    leave_stop(c);
    if (!c->handle_open)
        channel_free(c);
    else if (!uv_is_closing(&c->u.handle))
        uv_close(&c->u.handle, closed);
}

void channel_wake(struct channel *c)
{
    if (c->s.task)
        task_wake(c->s.task);
}

void channel_die(struct channel *c, enum failure why, struct str text)
{
    if (c->s.dead)
        return;
    c->s.dead = true;
    c->s.why = why;
    c->s.why_text = arena_str(&c->arena, text);
    channel_read_stop(c);
    channel_wake(c);
}

/* ---- reading */

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct channel *c = handle->data;
    struct block *b = loop_read_block(c->loop);
    bool full = c->leave == STAYS && (pipe_is_full(&c->s.in) || (c->end && pipe_is_full(&c->end->in)));
    *buf = full ? uv_buf_init(NULL, 0) : uv_buf_init(b->octets, b->size);
}

static void note_end(struct channel *c)
{
    c->wire_ended = true;
    c->reading = false; /* libuv has stopped by itself */
    if (c->leave != STAYS) {
        leave_read(c, LINGER_MOST);
    } else if (c->end) {
        c->end->wire_ended = true;
        end_pump(c);
    } else {
        c->s.ended = c->s.in.ended = true;
        channel_wake(c);
    }
}

/* Makes the kernel send a delayed acknowledgement now; later ones may be delayed again. */
static void acknowledge(struct channel *c)
{
    int fd, one = 1;
    c->fresh = false;
    if (!c->local && uv_fileno(&c->u.handle, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

/* Octets came from the wire. */
static void take(struct channel *c, struct str octets, bool whole_block)
{
    c->s.read_octets += octets.len;
    c->fresh = octets.len < SHORT_READ;
    if (c->end) {
        uint64_t before = c->s.written_octets;
        c->end->window = octets;
        end_pump(c);
        if (c->fresh && c->s.tls == STREAM_HANDSHAKE && c->s.written_octets == before && pipe_is_empty(&c->end->out))
            acknowledge(c);     /* the handshake message is incomplete */
        if (c->end->window.len) /* not all was decrypted: no room, or the handshake has not begun */
            pipe_copy(&c->end->in, c->end->window.at, c->end->window.len);
        c->end->window = STR_NONE;
        return;
    }
    if (whole_block)
        loop_give_read(c->loop, &c->s.in, octets.len);
    else
        pipe_copy(&c->s.in, octets.at, octets.len);
    channel_wake(c);
}

static void heard(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    struct channel *c = uv->data;
    if (n == 0)
        return;
    if (n == UV_ENOBUFS) {
        if (c->starved)
            channel_read_stop(c);
        c->starved = true;
        return;
    }
    c->starved = false;
    if (fault_strikes(FAULT_READ))
        n = UV_ECONNRESET;
    if (n == UV_EOF)
        note_end(c);
    else if (n < 0)
        fail(c, (int)n);
    else if (c->leave != STAYS)
        leave_read(c, (size_t)n);
    else
        take(c, (struct str){buf->base, (size_t)n}, true);
}

void channel_read_start(struct channel *c)
{
    if (c->reading || c->wire_ended || c->broken || c->leave == GONE || !c->handle_open)
        return;
    c->starved = false;
    c->reading = uv_read_start(&c->u.uv, give_room, heard) == 0;
}

void channel_read_stop(struct channel *c)
{
    if (c->reading)
        uv_read_stop(&c->u.uv);
    c->reading = false;
}

/* ---- failures */

/* After a reset, reads octets that came before it: the peer may have sent a 421 with the reason. */
static void last_words(struct channel *c)
{
    int fd;
    if (!c->s.connected || c->wire_ended || uv_fileno(&c->u.handle, &fd) < 0)
        return;
    char words[4096];
    for (int i = 0; i < 16 && !pipe_is_full(&c->s.in); i++) {
        ssize_t n = recv(fd, words, sizeof words, MSG_DONTWAIT);
        if (n <= 0)
            return;
        take(c, (struct str){words, (size_t)n}, false);
    }
}

static void fail(struct channel *c, int status)
{
    if (c->broken || c->leave == GONE)
        return;
    c->broken = true;
    if (c->leave != STAYS) {
        channel_gone(c);
        return;
    }
    last_words(c);
    channel_die(c, channel_why(status), str_of(uv_strerror(status)));
}

/* ---- writing */

static void wrote(struct channel *c, size_t n)
{
    c->s.written_octets += n;
    pipe_drop(channel_wire(c), n);
}

static void written(uv_write_t *request, int status)
{
    struct channel *c = request->data;
    size_t n = c->in_flight;
    free(request);
    c->in_flight = 0;
    if (c->leave == GONE || c->broken)
        return;
    if (status < 0) {
        fail(c, status);
        return;
    }
    c->choked |= pipe_is_full(&c->s.out);
    wrote(c, n);
    channel_progress(c);
}

static void write_rest(struct channel *c)
{
    uv_buf_t spans[SEND_SPANS];
    int n = pipe_iov(channel_wire(c), (struct iovec *)spans, SEND_SPANS);
    uv_write_t *request = must_alloc(sizeof *request);
    request->data = c;
    for (int i = 0; i < n; i++)
        c->in_flight += spans[i].len;
    int r = fault_strikes(FAULT_WRITE) ? UV_ENOMEM : uv_write(request, &c->u.uv, spans, (unsigned)n, written);
    if (r == 0)
        return;
    c->in_flight = 0;
    free(request);
    fail(c, r);
}

void channel_send(struct channel *c)
{
    struct pipe *p = channel_wire(c);
    while (p->octets && !c->in_flight && c->s.connected && !c->broken) {
        uv_buf_t spans[SEND_SPANS];
        int n = pipe_iov(p, (struct iovec *)spans, SEND_SPANS);
        int r = fault_strikes(FAULT_WRITE) ? UV_EPIPE : uv_try_write(&c->u.uv, spans, (unsigned)n);
        if (r < 0 && r != UV_EAGAIN) {
            fail(c, r);
            return;
        }
        size_t asked = 0;
        for (int i = 0; i < n; i++)
            asked += spans[i].len;
        if (r > 0)
            wrote(c, (size_t)r);
        if (r < 0 || (size_t)r < asked) {
            write_rest(c);
            return;
        }
    }
}

/* Sends as much as possible. With TLS, each iteration encrypts octets of `out` while there is room for records. */
static void send_all(struct channel *c)
{
    channel_send(c);
    while (c->end && !c->broken && !c->s.dead) {
        size_t before = c->s.out.octets + c->end->in.octets;
        end_pump(c);
        channel_send(c);
        if (c->in_flight || before == c->s.out.octets + c->end->in.octets)
            return;
    }
}

/* Resumes reading if it was stopped for lack of room, and there is room now. */
static void resume(struct channel *c)
{
    if (c->s.dead || pipe_is_full(&c->s.in) || (c->end && pipe_is_full(&c->end->in)))
        return;
    c->starved = false;
    channel_read_start(c);
}

void channel_progress(struct channel *c)
{
    c->choked |= pipe_is_full(&c->s.out);
    send_all(c);
    if (c->leave != STAYS) {
        leave_progress(c);
        return;
    }
    if ((c->choked && !pipe_is_full(&c->s.out)) || (c->s.stuck && pipe_is_empty(&c->s.out)))
        channel_wake(c);
    c->choked = pipe_is_full(&c->s.out);
    c->s.stuck = !pipe_is_empty(&c->s.out);
    if (c->end)
        resume(c);
}

void stream_flush(struct stream *s)
{
    struct channel *c = channel_of(s);
    if (s->dead && !c->in_flight) /* libuv still reads octets that are in flight */
        pipe_clear(&s->out);
    if (s->dead || !s->connected)
        return;
    uint64_t before = s->written_octets;
    if (s->out.octets || c->end)
        channel_progress(c);
    if (c->fresh && s->partial && s->written_octets == before && !c->in_flight)
        acknowledge(c);
    c->fresh = false;
    resume(c);
}

static void flush_now(struct task *t)
{
    struct channel *c = holder_of(t, struct channel, flush);
    bool stuck = c->s.stuck;
    stream_flush(&c->s);
    if (c->s.stuck && !stuck)
        channel_wake(c);
}

void stream_flush_soon(struct stream *s)
{
    task_wake(&channel_of(s)->flush);
}

/* ---- creating streams */

void channel_ready(struct channel *c)
{
    c->s.connected = true;
    channel_read_start(c);
    channel_wake(c);
    channel_progress(c);
}

struct stream *stream_open(struct loop *l, int fd, struct task *task)
{
    struct channel *c = channel_new(l, task);
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    name.ss_family = AF_UNSPEC;
    int r = getsockname(fd, (struct sockaddr *)&name, &len) == 0 && !fault_strikes(FAULT_DIAL) ? 0 : UV_EBADF;
    c->local = name.ss_family == AF_UNIX;
    if (r == 0)
        r = c->local ? uv_pipe_init(loop_uv(l), &c->u.pipe, 0) : uv_tcp_init(loop_uv(l), &c->u.tcp);
    if (r == 0) {
        c->handle_open = true;
        c->u.handle.data = c;
        r = c->local ? uv_pipe_open(&c->u.pipe, fd) : uv_tcp_open(&c->u.tcp, fd);
    }
    if (r == 0) {
        if (!c->local)
            uv_tcp_nodelay(&c->u.tcp, 1);
        channel_ready(c);
        return &c->s;
    }
    if (fd >= 0)
        close(fd);
    c->broken = true;
    channel_die(c, channel_why(r), str_of(uv_strerror(r)));
    return &c->s;
}

/* ---- queries of the owner */

bool stream_in_is_empty(const struct stream *s)
{
    return pipe_is_empty(&s->in) && end_is_empty(channel_of(s));
}

bool stream_has_unread(struct stream *s)
{
    struct channel *c = channel_of(s);
    int fd, n = 0;
    return c->handle_open && uv_fileno(&c->u.handle, &fd) == 0 && ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

static struct address name_of(const struct stream *s, struct arena *arena,
                              int (*ask)(int, struct sockaddr *restrict, socklen_t *restrict))
{
    const struct channel *c = channel_of(s);
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    int fd;
    if (!c->handle_open || uv_fileno(&c->u.handle, &fd) < 0 || ask(fd, (struct sockaddr *)&name, &len) < 0)
        return (struct address){.host = STR(""), .text = STR("")};
    return address_of((struct sockaddr *)&name, len, arena);
}

static int ask_peer(int fd, struct sockaddr *restrict name, socklen_t *restrict len)
{
    return getpeername(fd, name, len);
}

static int ask_local(int fd, struct sockaddr *restrict name, socklen_t *restrict len)
{
    return getsockname(fd, name, len);
}

struct address stream_peer(const struct stream *s, struct arena *arena)
{
    return name_of(s, arena, ask_peer);
}

struct address stream_local(const struct stream *s, struct arena *arena)
{
    return name_of(s, arena, ask_local);
}
