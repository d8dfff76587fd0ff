/* listener.c - listening sockets, and the acceptance of connections.
 *
 * A paused listener keeps the one connection that it has accepted and accepts no more, so that others wait in the kernel's queue. When
 * there is no descriptor for another one, it tries again a little later. It does not use uv_listen, because that accepts and closes
 * connections without notice at EMFILE, and loops for ever when it has lost the spare descriptor that it needs for this. A listener never
 * drops a connection before it is closed. */
#include "net/channel.h"
#include "base/fault.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096, STARVED_MS = 100, ACCEPTS = 64 };

struct listener {
    uv_poll_t poll;
    struct loop *loop;
    const struct listener_owner *owner;
    void *data;
    struct task turn;   /* takes the held connection when the pause is over, and goes on accepting */
    struct alarm alarm; /* set while there was no descriptor */
    int fd, held;       /* held: a connection that was accepted and waits for room; -1: none */
    bool local, paused;
};

static int complain(int fd, const struct address *a, const char *what, int number, char *error, size_t room)
{
    snprintf(error, room, "%.*s: %s: %s", STR_ARGS(a->text), what, strerror(number));
    if (fd >= 0)
        close(fd);
    return -1;
}

static int complain_of_bind(int fd, const struct address *a, int number, char *error, size_t room)
{
    complain(fd, a, "bind", number, error, room);
    size_t len = strlen(error);
    if (number == EACCES && a->name.ss_family != AF_UNIX && a->port < 1024)
        snprintf(error + len, room - len, ": a port below 1024 needs root (and `user`), or CAP_NET_BIND_SERVICE");
    return -1;
}

/* Removes the socket file of a process that has ended; not if a process still answers there. */
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
        return complain_of_bind(fd, a, errno, error, room);
    if (family == AF_UNIX && chmod(((const struct sockaddr_un *)&a->name)->sun_path, 0666) < 0)
        return complain(fd, a, "chmod", errno, error, room);
    /* From here the kernel queues connections: none is refused while the workers start. */
    if (listen(fd, BACKLOG) < 0)
        return complain(fd, a, "listen", errno, error, room);
    return fd;
}

static void take(struct listener *l, int fd)
{
    struct channel *c = channel_new(l->loop, NULL);
    c->local = l->local;
    int r = l->local ? uv_pipe_init(loop_uv(l->loop), &c->u.pipe, 0) : uv_tcp_init(loop_uv(l->loop), &c->u.tcp);
    must(r == 0);
    c->handle_open = true;
    c->u.handle.data = c;
    r = l->local ? uv_pipe_open(&c->u.pipe, fd) : uv_tcp_open(&c->u.tcp, fd);
    must(r == 0); /* it cannot fail for a new socket */
    channel_ready(c);
    l->owner->accepted(l->data, &c->s);
}

static bool has_room(struct listener *l)
{
    if (!l->paused && l->owner->has_room && !l->owner->has_room(l->data))
        l->paused = true;
    return !l->paused;
}

static int accept_one(struct listener *l)
{
    if (!fault_strikes(FAULT_ACCEPT))
        return accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    errno = EMFILE;
    return -1;
}

/* False: there is no room, or no descriptor, and accepting stops for now. */
static bool accept_all(struct listener *l)
{
    for (unsigned n = 0; n < ACCEPTS; n++) {
        int fd = accept_one(l);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            alarm_set(&l->alarm, &l->turn, loop_now(l->loop) + STARVED_MS);
            return false;
        }
        if (!has_room(l)) {
            l->held = fd;
            return false;
        }
        take(l, fd);
    }
    return true;
}

static void knock(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;
    if (!accept_all(l)) /* accept reports errors of the socket */
        uv_poll_stop(poll);
}

static void turn(struct task *t)
{
    struct listener *l = holder_of(t, struct listener, turn);
    int fd = l->held;
    if ((fd >= 0 && !has_room(l)) || (l->alarm.at && loop_now(l->loop) < l->alarm.at))
        return;
    l->held = -1;
    alarm_set(&l->alarm, &l->turn, 0);
    if (fd >= 0)
        take(l, fd);
    uv_poll_start(&l->poll, UV_READABLE, knock);
}

struct listener *listener_open(struct loop *loop, int fd, const struct listener_owner *owner, void *data)
{
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &len);
    struct listener *l = must_alloc(sizeof *l);
    *l = (struct listener){
        .loop = loop, .owner = owner, .data = data, .fd = fd, .held = -1, .local = name.ss_family == AF_UNIX};
    if (!l->local) { /* accepted sockets inherit this option */
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    task_start(&l->turn, loop, turn);
    must(uv_poll_init(loop_uv(loop), &l->poll, fd) == 0);
    l->poll.data = l;
    uv_poll_start(&l->poll, UV_READABLE, knock);
    return l;
}

void listener_pause(struct listener *l, bool paused)
{
    l->paused = paused;
    if (!paused && l->held >= 0)
        task_wake(&l->turn);
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Accepts what waits in the kernel's queue, which would be reset when the socket is closed. */
static void take_rest(struct listener *l)
{
    for (unsigned n = 0; n < BACKLOG; n++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        take(l, fd);
    }
}

void listener_close(struct listener **at, enum listener_end end)
{
    struct listener *l = *at;
    *at = NULL;
    if (!l)
        return;
    int held = l->held;
    l->held = -1;
    if (held >= 0 && end == LISTENER_GONE)
        close(held);
    else if (held >= 0)
        take(l, held);
    if (end == LISTENER_REST)
        take_rest(l);
    alarm_stop(&l->alarm);
    task_forget(&l->turn);
    uv_poll_stop(&l->poll);
    close(l->fd);
    uv_close((uv_handle_t *)&l->poll, closed);
}
