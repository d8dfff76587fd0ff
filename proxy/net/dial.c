/* dial.c - connects a channel to an address: looks up a domain name, then tries one address after the other.
 *
 * Owns the memory that is needed for connecting only, and frees it when the channel is connected. A failure shows in a later round. There is
 * no deadline for the whole attempt, which the owner limits by an alarm; each address but the last is given up after DIAL_STEP_MS. */
#include "net/channel.h"
#include "base/fault.h"
#include <netdb.h>
#include <sys/un.h>

enum dial_step { LOOK, LOOKING, TRY, CONNECTING, CLOSING };

struct dial {
    uv_connect_t connect;
    uv_getaddrinfo_t lookup;
    struct channel *channel;
    struct addrinfo *found, *next;
    struct sockaddr_storage name;
    char host[256];
    uint16_t port;
    bool only_v6;
    enum dial_step step;
    int status; /* of the last attempt */
    struct task turn;
    struct alarm alarm;
};

static void tried(struct channel *c, int status);

static void fail(struct channel *c, int status)
{
    struct dial *d = c->dial;
    alarm_stop(&d->alarm);
    d->step = CLOSING; /* nothing more is tried */
    char text[400];
    snprintf(text, sizeof text, "connecting%s%s: %s", d->host[0] ? " to " : "", d->host, uv_strerror(status));
    c->broken = true;
    channel_die(c, channel_why(status), str_of(text));
}

static void connected(uv_connect_t *request, int status)
{
    struct channel *c = request->data;
    if (c->leave == GONE || status == UV_ECANCELED)
        return;
    if (status < 0) {
        tried(c, status);
        return;
    }
    dial_drop(c);
    if (!c->local)
        uv_tcp_nodelay(&c->u.tcp, 1);
    channel_ready(c);
}

static void attempt(struct channel *c)
{
    struct dial *d = c->dial;
    const struct sockaddr *to = d->next ? d->next->ai_addr : (struct sockaddr *)&d->name;
    int r;
    d->step = CONNECTING;
    d->connect.data = c;
    c->local = to->sa_family == AF_UNIX;
    if (c->local) {
        r = uv_pipe_init(loop_uv(c->loop), &c->u.pipe, 0);
        must(r == 0);
    } else {
        r = uv_tcp_init(loop_uv(c->loop), &c->u.tcp);
        must(r == 0);
    }
    c->handle_open = true;
    c->u.handle.data = c;
    if (fault_strikes(FAULT_DIAL))
        r = UV_EMFILE;
    else if (c->local)
        uv_pipe_connect(&d->connect, &c->u.pipe, ((const struct sockaddr_un *)to)->sun_path, connected);
    else
        r = uv_tcp_connect(&d->connect, &c->u.tcp, to, connected);
    if (r < 0)
        tried(c, r);
    else if (d->next && d->next->ai_next)
        alarm_set(&d->alarm, &d->turn, loop_now(c->loop) + DIAL_STEP_MS);
}

static void closed(uv_handle_t *handle)
{
    struct channel *c = handle->data;
    c->handle_open = false;
    if (c->leave == GONE) {
        channel_free(c);
        return;
    }
    c->dial->step = TRY;
    task_wake(&c->dial->turn);
}

/* This address did not answer: the next one, or the end. */
static void tried(struct channel *c, int status)
{
    struct dial *d = c->dial;
    alarm_set(&d->alarm, &d->turn, 0);
    d->status = status;
    if (!d->next || !d->next->ai_next) {
        fail(c, status);
        return;
    }
    d->next = d->next->ai_next;
    d->step = CLOSING;
    uv_close(&c->u.handle, closed);
}

static void looked(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct channel *c = request->data;
    c->pins--;
    if (c->leave == GONE) {
        uv_freeaddrinfo(found);
        channel_free(c);
        return;
    }
    struct dial *d = c->dial;
    if (status < 0 || !found) {
        uv_freeaddrinfo(found);
        fail(c, status < 0 ? status : UV_EAI_NONAME);
        return;
    }
    d->found = d->next = found;
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        if (a->ai_family == AF_INET)
            ((struct sockaddr_in *)a->ai_addr)->sin_port = htons(d->port);
        else if (a->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)a->ai_addr)->sin6_port = htons(d->port);
    }
    d->step = TRY;
    task_wake(&d->turn);
}

static void look(struct channel *c)
{
    struct dial *d = c->dial;
    struct addrinfo hints = {.ai_family = d->only_v6 ? AF_INET6 : AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    d->step = LOOKING;
    d->lookup.data = c;
    int r = fault_strikes(FAULT_DIAL) ? UV_ENOMEM
                                      : uv_getaddrinfo(loop_uv(c->loop), &d->lookup, looked, d->host, NULL, &hints);
    if (r < 0)
        fail(c, r);
    else
        c->pins++;
}

static void turn(struct task *t)
{
    struct dial *d = holder_of(t, struct dial, turn);
    struct channel *c = d->channel;
    if (d->step == LOOK)
        look(c);
    else if (d->step == TRY)
        attempt(c);
    else if (d->step == CONNECTING && d->alarm.at && loop_now(c->loop) >= d->alarm.at)
        tried(c, UV_ETIMEDOUT);
}

struct stream *stream_dial(struct loop *l, const struct address *a, struct task *task)
{
    struct channel *c = channel_new(l, task);
    struct dial *d = c->dial = must_alloc(sizeof *d);
    d->channel = c;
    d->port = a->port;
    d->name = a->name;
    d->only_v6 = str_starts(a->text, STR("inet6:"));
    snprintf(d->host, sizeof d->host, "%.*s", STR_ARGS(a->host));
    d->step = a->name.ss_family ? TRY : LOOK;
    task_start(&d->turn, l, turn);
    task_wake(&d->turn);
    return &c->s;
}

void dial_drop(struct channel *c)
{
    struct dial *d = c->dial;
    if (!d || c->pins)
        return;
    alarm_stop(&d->alarm);
    task_forget(&d->turn);
    uv_freeaddrinfo(d->found);
    free(d);
    c->dial = NULL;
}
