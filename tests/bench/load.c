/* load.c - one thread that keeps N SMTP conversations busy against 127.0.0.1 and says how it went, as one line of JSON.
 *   load -c CONNECTIONS -m MESSAGES [-d MESSAGES_PER_CONNECTION] [-l OCTETS] [-p] PORT
 * -p pipelines MAIL, RCPT and DATA. Closed loop, no TLS (idle and TLS figures come from bench.py). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum step { BANNER, EHLO, MAIL, RCPT, DATA, CONTENT, QUIT };
struct talk {
    int fd;
    enum step step;
    int owed;                 /* replies until the next step */
    long messages;
    const char *out;
    size_t left;
    char line[1024];
    size_t len;
    double began;
};

static int port, concurrent = 1, pipelined;
static long total = 1, per_connection = 1, octets = 4096, started, done, errors;
static char *content;
static size_t content_len;
static double *latency;
static int poll_fd, alive;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void arm(struct talk *t)
{
    struct epoll_event e = {.events = EPOLLIN | (t->left ? EPOLLOUT : 0), .data.ptr = t};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, t->fd, &e);
}

static void push(struct talk *t)
{
    while (t->left) {
        ssize_t n = send(t->fd, t->out, t->left, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        t->out += n;
        t->left -= (size_t)n;
    }
    static struct talk *waiting; /* nothing to change for the others */
    if (t->left || waiting == t)
        arm(t), waiting = t->left ? t : NULL;
}

static void say(struct talk *t, enum step step, int owed, const char *text, size_t len)
{
    t->step = step;
    t->owed = owed;
    t->out = text;
    t->left = len;
    push(t);
}

static int dial(struct talk *t)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (started >= total)
        return 0;
    memset(t, 0, sizeof *t);
    t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(t->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
        close(t->fd);
        errors++;
        return 0;
    }
    t->step = BANNER;
    t->owed = 1;
    t->began = now();
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = t};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, t->fd, &e);
    started++;
    return 1;
}

static void next_message(struct talk *t)
{
    static const char mail[] = "MAIL FROM:<bench@example.org>\r\n";
    static const char all[] = "MAIL FROM:<bench@example.org>\r\nRCPT TO:<user@example.net>\r\nDATA\r\n";
    if (pipelined)
        say(t, DATA, 3, all, sizeof all - 1);
    else
        say(t, MAIL, 1, mail, sizeof mail - 1);
}

static void go_on(struct talk *t)
{
    switch (t->step) {
    case BANNER: say(t, EHLO, 1, "EHLO bench.example.org\r\n", 24); break;
    case EHLO: next_message(t); break;
    case MAIL: say(t, RCPT, 1, "RCPT TO:<user@example.net>\r\n", 28); break;
    case RCPT: say(t, DATA, 1, "DATA\r\n", 6); break;
    case DATA: say(t, CONTENT, 1, content, content_len); break;
    case CONTENT:
        latency[done++] = now() - t->began;
        if (++t->messages < per_connection && started < total) {
            started++;
            t->began = now();
            next_message(t);
        } else {
            say(t, QUIT, 1, "QUIT\r\n", 6);
        }
        break;
    case QUIT: break;
    }
}

/* False: this conversation has ended. */
static int take(struct talk *t)
{
    ssize_t n = recv(t->fd, t->line + t->len, sizeof t->line - 1 - t->len, 0);
    if (n < 0 && errno == EAGAIN)
        return 1;
    if (n <= 0) {
        errors += t->step != QUIT;
        return 0;
    }
    t->len += (size_t)n;
    t->line[t->len] = 0;
    char *line = t->line, *end;
    while ((end = strchr(line, '\n'))) {
        int last = end - line < 4 || line[3] != '-';
        int bad = line[0] != '2' && line[0] != '3';
        line = end + 1;
        if (bad) {
            errors++;
            return 0;
        }
        if (last && --t->owed == 0) {
            if (t->step == QUIT)
                return 0;
            go_on(t);
        }
    }
    t->len = strlen(line);
    memmove(t->line, line, t->len + 1);
    return 1;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void make_content(void)
{
    static const char head[] = "From: bench@example.org\r\nTo: user@example.net\r\nSubject: bench\r\nMessage-ID: <1@bench>\r\n\r\n";
    static const char line[] = "The quick brown fox jumps over the lazy dog, and nobody knows any more why.\r\n";
    content = malloc((size_t)octets + sizeof head + sizeof line + 8);
    content_len = sizeof head - 1;
    memcpy(content, head, content_len);
    while (content_len < (size_t)octets) {
        memcpy(content + content_len, line, sizeof line - 1);
        content_len += sizeof line - 1;
    }
    memcpy(content + content_len, ".\r\n", 3);
    content_len += 3;
}

int main(int argc, char **argv)
{
    int o;
    while ((o = getopt(argc, argv, "c:m:d:l:p")) != -1)
        switch (o) {
        case 'c': concurrent = atoi(optarg); break;
        case 'm': total = atol(optarg); break;
        case 'd': per_connection = atol(optarg); break;
        case 'l': octets = atol(optarg); break;
        case 'p': pipelined = 1; break;
        default: return 2;
        }
    if (optind >= argc)
        return 2;
    port = atoi(argv[optind]);
    make_content();
    latency = calloc((size_t)total + 1, sizeof *latency);
    poll_fd = epoll_create1(0);
    struct talk *talks = calloc((size_t)concurrent, sizeof *talks);
    double began = now();
    for (int i = 0; i < concurrent; i++)
        alive += dial(&talks[i]);
    while (alive) {
        struct epoll_event events[64];
        int n = epoll_wait(poll_fd, events, 64, 20000);
        if (n == 0)
            break;
        for (int i = 0; i < n; i++) {
            struct talk *t = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                push(t);
            if ((events[i].events & ~(unsigned)EPOLLOUT) && !take(t)) {
                close(t->fd);
                alive += dial(t) - 1;
            }
        }
    }
    double wall = now() - began;
    qsort(latency, (size_t)done, sizeof *latency, compare);
    printf("{\"messages\":%ld,\"errors\":%ld,\"wall\":%.4f,\"rate\":%.0f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", done, errors, wall,
           (double)done / wall, done ? latency[done / 2] * 1e3 : 0, done ? latency[done * 99 / 100] * 1e3 : 0);
    return errors || done < total;
}
