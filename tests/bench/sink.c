/* sink.c - one thread that takes mail and forgets it, with CHUNKING, which smtp-sink has not.
 *   sink PORT
 * At SIGTERM it says what came as one line of JSON: messages, and TCP segments of both directions as the kernel counted them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ROOM = 262144, TALKS = 4096 };
struct talk { int fd, content, last; long left; size_t len; char in[ROOM], out[4096]; size_t said; };
static struct talk *talks[TALKS];
static long messages, segments_in, segments_out;
static volatile sig_atomic_t over;

static void end(int sig)
{
    (void)sig;
    over = 1;
}

static void count(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0) {
        segments_in += info.tcpi_segs_in;
        segments_out += info.tcpi_segs_out;
    }
}

static void say(struct talk *t, const char *text)
{
    size_t n = strlen(text);
    memcpy(t->out + t->said, text, n);
    t->said += n;
}

static int command(struct talk *t, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4))
        say(t, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 BINARYMIME\r\n");
    else if (!strncasecmp(line, "DATA", 4))
        t->content = 1, say(t, "354 go\r\n");
    else if (!strncasecmp(line, "BDAT", 4))
        t->content = 2, t->left = atol(line + 5), t->last = strstr(line, "LAST") != NULL;
    else if (!strncasecmp(line, "QUIT", 4))
        return say(t, "221 bye\r\n"), 0;
    else
        say(t, "250 ok\r\n");
    return 1;
}

/* Takes what is there; 0: it said QUIT. */
static int take(struct talk *t)
{
    size_t at = 0;
    int go = 1;
    while (go && t->said < sizeof t->out - 200) {
        if (t->content == 2) {
            size_t n = t->len - at < (size_t)t->left ? t->len - at : (size_t)t->left;
            at += n;
            t->left -= (long)n;
            if (t->left)
                break;
            t->content = 0;
            messages += t->last;
            say(t, "250 2.0.0 ok\r\n");
        } else if (t->content == 1) {
            char *dot = memmem(t->in + at, t->len - at, "\r\n.\r\n", 5);
            if (!dot) {
                at = t->len - at > 4 ? t->len - 4 : at;
                break;
            }
            at = (size_t)(dot - t->in) + 5;
            t->content = 0;
            messages++;
            say(t, "250 2.0.0 ok\r\n");
        } else {
            char *lf = memchr(t->in + at, '\n', t->len - at);
            if (!lf)
                break;
            *lf = 0;
            go = command(t, t->in + at);
            at = (size_t)(lf - t->in) + 1;
        }
    }
    memmove(t->in, t->in + at, t->len - at);
    t->len -= at;
    if (t->said && send(t->fd, t->out, t->said, MSG_NOSIGNAL) < 0)
        return 0;
    t->said = 0;
    return go;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    signal(SIGTERM, end);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), poll_fd = epoll_create1(0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 1000))
        return perror("sink"), 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[64];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &e);
    while (!over) {
        int n = epoll_wait(poll_fd, events, 64, 1000);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                if ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 || fd >= TALKS)
                    return 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                talks[fd] = calloc(1, sizeof **talks);
                talks[fd]->fd = fd;
                e = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
                if (send(fd, "220 sink\r\n", 10, MSG_NOSIGNAL) != 10)
                    return 1;
                continue;
            }
            struct talk *t = talks[fd];
            ssize_t got = recv(fd, t->in + t->len, ROOM - t->len, 0);
            t->len += got > 0 ? (size_t)got : 0;
            if (got <= 0 || !take(t)) {
                count(fd);
                close(fd);
                free(t);
                talks[fd] = NULL;
            }
        }
    }
    for (int fd = 0; fd < TALKS; fd++)
        if (talks[fd])
            count(fd);
    printf("{\"messages\":%ld,\"segments_in\":%ld,\"segments_out\":%ld}\n", messages, segments_in, segments_out);
    return 0;
}
