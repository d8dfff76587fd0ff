/* linger.c - how a stream goes: at once, or with its last octets delivered.
 *
 * Closing a socket that holds unread octets sends a reset, and a reset eats what the peer has not read yet, our 421 or
 * 554 among it (RFC 1122 4.2.2.13). So: the rest, close_notify, FIN, then a bounded reading and dropping. Nobody above
 * hears of it. */
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

/* Nothing is left to send: FIN, and two seconds for the peer's own. */
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
    if (c->leave != DRAINING || c->in_flight) /* sending may have ended it */
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
        channel_read_stop(c); /* the rest is still to be sent */
}

void leave_hurry(struct loop *l)
{
    struct channel_leaving **head = (struct channel_leaving **)loop_leaving(l);
    while (*head)
        channel_gone((*head)->channel);
}

/* 221 and FIN in one segment. Only when nothing can be unread: else the close would be a reset. */
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
    /* Dead with a sound socket is a failed TLS: the alert in the records deserves to arrive, no plain octet does. */
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
    channel_read_start(c); /* what comes now is dropped: a peer that writes before it reads must not hold us */
    channel_progress(c);
}
