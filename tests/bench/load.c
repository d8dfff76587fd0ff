/* load.c - one thread that keeps N SMTP conversations busy against 127.0.0.1 and says how it went, as one line of JSON.
 *   load -c CONNECTIONS -m MESSAGES [-d MESSAGES_PER_CONNECTION] [-l OCTETS] [-n RCPTS] [-f FIELDS] [-p] [-s | -i] [-r]
 * PORT -p pipelines MAIL, RCPT and DATA; -n so many RCPT a message; -f so many fields more in its header section. -s
 * STARTTLS, -i TLS from the first octet (no certificate is verified); -r resumes sessions. Closed loop. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum step { BANNER, EHLO, STARTTLS, MAIL, RCPT, DATA, CONTENT, QUIT };
struct talk {
    int fd;
    SSL *ssl;            /* NULL: the words are plain (as yet) */
    SSL_SESSION *ticket; /* the newest that this client was given; outlives its connections */
    enum step step;
    int shaking;          /* TLS is being agreed on */
    int armed;            /* EPOLLOUT is asked for */
    long owed;            /* replies until the next step */
    long messages, asked; /* asked: RCPT of this message */
    const char *out;
    size_t left;
    char line[1024];
    size_t len;
    double began;
};

static int port, concurrent = 1, pipelined, resumes;
static enum { PLAIN, UPGRADES, IMPLICIT } tls;
static long total = 1, per_connection = 1, octets = 4096, rcpts = 1, fields, started, done, errors, shaken, resumed;
static char *content, *envelope;
static size_t content_len, envelope_len;
static SSL_CTX *context;
static double *latency;
static int poll_fd, alive;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void arm(struct talk *t, int writes)
{
    if (t->armed == writes)
        return;
    t->armed = writes;
    struct epoll_event e = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = t};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, t->fd, &e);
}

static void push(struct talk *t)
{
    while (t->left) {
        size_t n = t->left < 65536 || !t->ssl ? t->left : 65536;
        ssize_t went = t->ssl ? SSL_write(t->ssl, t->out, (int)n) : send(t->fd, t->out, n, MSG_NOSIGNAL);
        if (went <= 0)
            break;
        t->out += went;
        t->left -= (size_t)went;
    }
    arm(t, t->left > 0);
}

static ssize_t get(struct talk *t)
{
    size_t room = sizeof t->line - 1 - t->len;
    if (!t->ssl)
        return recv(t->fd, t->line + t->len, room, 0);
    ssize_t n = SSL_read(t->ssl, t->line + t->len, (int)room);
    if (n <= 0 && SSL_get_error(t->ssl, (int)n) == SSL_ERROR_WANT_READ)
        errno = EAGAIN, n = -1;
    else if (n <= 0)
        n = 0;
    return n;
}

/* False: it failed. */
static int shake(struct talk *t)
{
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        t->shaking = 0;
        shaken++;
        resumed += SSL_session_reused(t->ssl);
        arm(t, 0);
        return 1;
    }
    int why = SSL_get_error(t->ssl, r);
    arm(t, why == SSL_ERROR_WANT_WRITE);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

static void begin_tls(struct talk *t)
{
    t->ssl = SSL_new(context);
    SSL_set_fd(t->ssl, t->fd);
    SSL_set_connect_state(t->ssl);
    SSL_set_app_data(t->ssl, t);
    if (resumes && t->ticket)
        SSL_set_session(t->ssl, t->ticket);
    t->shaking = 1;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    struct talk *t = SSL_get_app_data(ssl);
    SSL_SESSION_free(t->ticket);
    t->ticket = session;
    return 1; /* it is ours now */
}

static void say(struct talk *t, enum step step, long owed, const char *text, size_t len)
{
    t->step = step;
    t->owed = owed;
    t->out = text;
    t->left = len;
    push(t);
}

static int dial(struct talk *t)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (started >= total)
        return 0;
    *t = (struct talk){.ticket = t->ticket};
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
    if (tls == IMPLICIT) {
        begin_tls(t);
        arm(t, 1);
    }
    started++;
    return 1;
}

static void next_message(struct talk *t)
{
    static const char mail[] = "MAIL FROM:<bench@example.org>\r\n";
    t->asked = 0;
    if (pipelined)
        say(t, DATA, rcpts + 2, envelope, envelope_len);
    else
        say(t, MAIL, 1, mail, sizeof mail - 1);
}

static void go_on(struct talk *t)
{
    switch (t->step) {
    case BANNER: say(t, EHLO, 1, "EHLO bench.example.org\r\n", 24); break;
    case EHLO:
        if (tls == UPGRADES && !t->ssl)
            say(t, STARTTLS, 1, "STARTTLS\r\n", 10);
        else
            next_message(t);
        break;
    case STARTTLS: break;
    case MAIL:
    case RCPT:
        if (t->asked++ < rcpts)
            say(t, RCPT, 1, "RCPT TO:<user@example.net>\r\n", 28);
        else
            say(t, DATA, 1, "DATA\r\n", 6);
        break;
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
    if (t->shaking) {
        if (!shake(t))
            return errors++, 0;
        if (!t->shaking && tls == UPGRADES)
            say(t, EHLO, 1, "EHLO bench.example.org\r\n", 24);
        return 1;
    }
    ssize_t n = get(t);
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
            if (t->step == STARTTLS) {
                begin_tls(t);
                t->len = 0;
                return take(t);
            }
            go_on(t);
        }
    }
    t->len = strlen(line);
    memmove(t->line, line, t->len + 1);
    return t->ssl && SSL_pending(t->ssl) ? take(t) : 1;
}

static void hang_up(struct talk *t)
{
    if (t->ssl) {
        SSL_shutdown(t->ssl);
        SSL_free(t->ssl);
        ERR_clear_error();
    }
    close(t->fd);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void make_content(void)
{
    static const char head[] =
        "From: bench@example.org\r\nTo: user@example.net\r\nSubject: bench\r\nMessage-ID: <1@bench>\r\n\r\n";
    static const char line[] = "The quick brown fox jumps over the lazy dog, and nobody knows any more why.\r\n";
    content = malloc((size_t)octets + (size_t)fields * 40 + sizeof head + sizeof line + 8);
    for (long i = 0; i < fields; i++)
        content_len += (size_t)sprintf(content + content_len, "X-Field-%ld: value of it\r\n", i);
    memcpy(content + content_len, head, sizeof head - 1);
    content_len += sizeof head - 1;
    while (content_len < (size_t)octets) {
        memcpy(content + content_len, line, sizeof line - 1);
        content_len += sizeof line - 1;
    }
    memcpy(content + content_len, ".\r\n", 3);
    content_len += 3;
    envelope = malloc(64 + (size_t)rcpts * 28);
    envelope_len = (size_t)sprintf(envelope, "MAIL FROM:<bench@example.org>\r\n");
    for (long i = 0; i < rcpts; i++)
        envelope_len += (size_t)sprintf(envelope + envelope_len, "RCPT TO:<user@example.net>\r\n");
    envelope_len += (size_t)sprintf(envelope + envelope_len, "DATA\r\n");
}

static void make_context(void)
{
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_ticket);
}

int main(int argc, char **argv)
{
    int o;
    while ((o = getopt(argc, argv, "c:m:d:l:n:f:psir")) != -1)
        switch (o) {
        case 'c': concurrent = atoi(optarg); break;
        case 'm': total = atol(optarg); break;
        case 'd': per_connection = atol(optarg); break;
        case 'l': octets = atol(optarg); break;
        case 'n': rcpts = atol(optarg); break;
        case 'f': fields = atol(optarg); break;
        case 'p': pipelined = 1; break;
        case 's': tls = UPGRADES; break;
        case 'i': tls = IMPLICIT; break;
        case 'r': resumes = 1; break;
        default: return 2;
        }
    if (optind >= argc)
        return 2;
    port = atoi(argv[optind]);
    signal(SIGPIPE, SIG_IGN);
    make_content();
    make_context();
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
            if ((events[i].events & EPOLLOUT) && !t->shaking)
                push(t);
            if (((events[i].events & ~(unsigned)EPOLLOUT) || t->shaking) && !take(t)) {
                hang_up(t);
                alive += dial(t) - 1;
            }
        }
    }
    double wall = now() - began;
    qsort(latency, (size_t)done, sizeof *latency, compare);
    printf("{\"messages\":%ld,\"errors\":%ld,\"wall\":%.4f,\"rate\":%.0f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"handshakes\":%ld,"
           "\"resumed\":%ld}\n",
           done, errors, wall, (double)done / wall, done ? latency[done / 2] * 1e3 : 0,
           done ? latency[done * 99 / 100] * 1e3 : 0, shaken, resumed);
    return errors || done < total;
}
