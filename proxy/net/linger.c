/* linger.c - closes a stream, at once or after its last octets have been delivered.
 *
 * Closing a socket that has unread input sends a reset, after which the peer may lose octets that it has not read yet, such as our 421 or
 * 554 (RFC 1122 4.2.2.13). Therefore: send the rest, close_notify and FIN, then read and drop a limited amount of input. The owner of the
 * stream does not take part in this. */
#include "net/channel.h"
#include <netinet/in.h>
#include <netinet/tcp.h>

static void ring(struct task *t)
{
    struct channel_leaving *v = holder_of(t, struct channel_leaving, turn);
    if (v->alarm.at && loop_now(v->channel->loop) >= v->alarm.at)
        channel_gone(v->channel);
    else
        alarm_set(&v->alarm, &v->turn, v->alarm.at);
}

static void begin(struct channel *c)
{
    struct channel_leaving *v = must_alloc(sizeof *v), **head = (struct channel_leaving **)loop_leaving(c->loop);
    v->channel = c;
    v->next = *head;
    v->link = head;
    if (v->next)
        v->next->link = &v->next;
    *head = v;
    task_start(&v->turn, c->loop, ring);
    alarm_set(&v->alarm, &v->turn, loop_now(c->loop) + DRAIN_MS);
    c->leaving = v;
    c->leave = DRAINING;
}

void leave_stop(struct channel *c)
{
    struct channel_leaving *v = c->leaving;
    if (!v)
        return;
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    alarm_stop(&v->alarm);
    task_forget(&v->turn);
    free(v);
    c->leaving = NULL;
}

/* All has been sent: sends FIN, and waits LINGER_MS for the peer's FIN. */
static void linger(struct channel *c)
{
    int fd;
    if (c->wire_ended || c->leaving->dropped >= LINGER_MOST || uv_fileno(&c->u.handle, &fd) < 0) {
        channel_gone(c);
        return;
    }
    c->leave = LINGERING;
    shutdown(fd, SHUT_WR);
    alarm_set(&c->leaving->alarm, &c->leaving->turn, loop_now(c->loop) + LINGER_MS);
    channel_read_start(c);
    if (!c->reading)
        channel_gone(c);
}

void leave_progress(struct channel *c)
{
    if (c->leave != DRAINING || c->in_flight)
        return;
    if (channel_is_tls(c)) {
        if (pipe_is_empty(&c->s.out) || c->s.dead)
            end_shut(c);
        channel_send(c);
    }
    if (c->leave != DRAINING || c->in_flight) /* the state may have changed while sending */
        return;
    if (pipe_is_empty(channel_wire(c)))
        linger(c);
}

void leave_read(struct channel *c, size_t n)
{
    struct channel_leaving *v = c->leaving;
    v->dropped += n;
    if (!c->wire_ended && v->dropped < LINGER_MOST)
        return;
    if (c->leave == LINGERING)
        channel_gone(c);
    else
        channel_read_stop(c); /* not before the rest has been sent */
}

void leave_hurry(struct loop *l)
{
    struct channel_leaving **head = (struct channel_leaving **)loop_leaving(l);
    while (*head)
        channel_gone((*head)->channel);
}

/* Sends 221 and FIN in one segment. Only when there is no unread input, since close() would then send a reset. */
static bool leave_at_once(struct channel *c)
{
    int fd, one = 1, zero = 0;
    if (c->end || c->in_flight || !pipe_is_empty(&c->s.in) || uv_fileno(&c->u.handle, &fd) < 0)
        return false;
    if (!c->wire_ended && stream_has_unread(&c->s))
        return false;
    bool cork = !c->local && c->s.out.octets;
    if (cork)
        setsockopt(fd, IPPROTO_TCP, TCP_CORK, &one, sizeof one);
    uv_buf_t spans[SEND_SPANS];
    int n = pipe_iov(&c->s.out, (struct iovec *)spans, SEND_SPANS);
    int r = n ? uv_try_write(&c->u.uv, spans, (unsigned)n) : 0;
    if (r > 0) {
        c->s.written_octets += (size_t)r;
        pipe_drop(&c->s.out, (size_t)r);
    }
    if (pipe_is_empty(&c->s.out) || (r < 0 && r != UV_EAGAIN)) {
        channel_gone(c);
        return true;
    }
    if (cork)
        setsockopt(fd, IPPROTO_TCP, TCP_CORK, &zero, sizeof zero); /* a corked rest would wait 200 ms */
    return false;
}

void stream_close(struct stream **owner, enum stream_close how)
{
    struct stream *s = *owner;
    *owner = NULL;
    if (!s)
        return;
    struct channel *c = channel_of(s);
    s->task = NULL;
    /* A dead stream whose socket works has failed in TLS: still send the alert that is in the records, but no plain octets. */
    if (how == CLOSE_ABORT || !s->connected || c->broken) {
        channel_gone(c);
        return;
    }
    if (how == CLOSE_GRACEFUL && leave_at_once(c))
        return;
    pipe_clear(&s->in);
    if (c->end) {
        pipe_clear(&c->end->in);
        if (s->dead || s->tls == STREAM_HANDSHAKE)
            pipe_clear(&s->out);
    }
    begin(c);
    channel_read_start(c); /* reads and drops input, so that a peer that writes before it reads does not block our sending */
    channel_progress(c);
}
