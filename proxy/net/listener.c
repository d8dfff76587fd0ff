/* listener.c - sockets that are bound once and hand out streams.
 *
 * A paused listener does not call uv_accept: libuv then holds one accepted descriptor and asks the kernel for no more,
 * so the rest waits in the kernel's queue. That matters because at EMFILE libuv accepts and closes in silence: the
 * owner has to say that there is no room before, by stream_count. Paused or not, a listener never drops a connection
 * while it lives. */
#include "net/inside.h"
#include "base/fault.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t uv;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    struct loop *loop;
    const struct listener_owner *owner;
    void *data;
    struct task turn; /* takes the held connection when the pause is over */
    int fd;
    bool local, paused, held, closing;
};

static int complain(int fd, const struct address *a, const char *what, int number, char *error, size_t room)
{
    snprintf(error, room, "%.*s: %s: %s", STR_ARGS(a->text), what, strerror(number));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Somebody's left-over file, unless somebody still answers there. */
static void remove_stale(const struct address *a)
{
    struct stat st;
    const char *path = ((const struct sockaddr_un *)&a->name)->sun_path;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&a->name, a->len) < 0 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

int listener_bind(const struct address *a, bool share, char *error, size_t room)
{
    int family = a->name.ss_family, one = 1;
    if (!family)
        return complain(-1, a, "listening takes a number, not a name", EINVAL, error, room);
    int fd = fault_strikes(FAULT_FILE) ? -1 : socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return complain(fd, a, "socket", errno, error, room);
    if (family == AF_UNIX) {
        remove_stale(a);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0)
            return complain(fd, a, "sharing the port", errno, error, room);
        if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0)
            return complain(fd, a, "IPv6 only", errno, error, room);
    }
    if (bind(fd, (const struct sockaddr *)&a->name, a->len) < 0)
        return complain(fd, a, "bind", errno, error, room);
    if (family == AF_UNIX && chmod(((const struct sockaddr_un *)&a->name)->sun_path, 0666) < 0)
        return complain(fd, a, "chmod", errno, error, room);
    /* From here the kernel queues connections: none is refused while the workers start. */
    if (listen(fd, BACKLOG) < 0)
        return complain(fd, a, "listen", errno, error, room);
    return fd;
}

static void take(struct listener *l)
{
    struct channel *c = channel_new(l->loop, NULL);
    c->local = l->local;
    int r = l->local ? uv_pipe_init(loop_uv(l->loop), &c->u.pipe, 0) : uv_tcp_init(loop_uv(l->loop), &c->u.tcp);
    must(r == 0);
    c->handle_open = true;
    c->u.handle.data = c;
    if (uv_accept(&l->u.uv, &c->u.uv) < 0 || fault_strikes(FAULT_ACCEPT)) {
        channel_gone(c);
        return;
    }
    channel_ready(c);
    l->owner->accepted(l->data, &c->s);
}

static bool has_room(struct listener *l)
{
    if (!l->paused && l->owner->has_room && !l->owner->has_room(l->data))
        l->paused = true;
    return !l->paused;
}

static void knock(uv_stream_t *uv, int status)
{
    struct listener *l = uv->data;
    if (status < 0 || l->closing)
        return;
    if (has_room(l))
        take(l);
    else
        l->held = true;
}

static void turn(struct task *t)
{
    struct listener *l = holder_of(t, struct listener, turn);
    if (!l->held || !has_room(l))
        return;
    l->held = false;
    take(l);
}

struct listener *listener_open(struct loop *loop, int fd, const struct listener_owner *owner, void *data)
{
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &len);
    struct listener *l = must_alloc(sizeof *l);
    *l = (struct listener){.loop = loop, .owner = owner, .data = data, .fd = fd, .local = name.ss_family == AF_UNIX};
    if (!l->local) { /* who is accepted inherits it */
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    task_start(&l->turn, loop, turn);
    int r = l->local ? uv_pipe_init(loop_uv(loop), &l->u.pipe, 0) : uv_tcp_init(loop_uv(loop), &l->u.tcp);
    must(r == 0);
    l->u.handle.data = l;
    r = l->local ? uv_pipe_open(&l->u.pipe, fd) : uv_tcp_open(&l->u.tcp, fd);
    must(r == 0);
    r = uv_listen(&l->u.uv, BACKLOG, knock);
    must(r == 0);
    return l;
}

void listener_pause(struct listener *l, bool paused)
{
    l->paused = paused;
    if (!paused && l->held)
        task_wake(&l->turn);
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* What waits in the kernel's queue would be reset with the socket. */
static void take_rest(struct listener *l)
{
    for (unsigned n = 0; n < BACKLOG; n++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct stream *s = stream_open(l->loop, fd, NULL);
        if (s)
            l->owner->accepted(l->data, s);
    }
}

void listener_close(struct listener **at, enum listener_end end)
{
    struct listener *l = *at;
    *at = NULL;
    if (!l)
        return;
    if (end != LISTENER_GONE && l->held) {
        l->held = false;
        take(l);
    }
    if (end == LISTENER_REST)
        take_rest(l);
    l->closing = true;
    task_forget(&l->turn);
    uv_close(&l->u.handle, closed);
}
