/* maildir.c - the embedded backend: a small SMTP server on a thread and loop of its own that delivers to a Maildir, with fsync
 * of file and folder before its 250. For demos and quarantine. To the gateway it is a backend like any other, at the far end
 * of a socket pair: nothing else knows the difference.
 *
 * It has every extension that delivery at once and without a further hop fulfils, so that quarantine takes whatever came.
 * Files keep CRLF as it was on the wire, behind a Return-Path field (RFC 5321 4.4). Messages are named as Maildir demands
 * (time, process and a counter, host); a message shows in new/ only when it is whole. */
#include "base/fault.h"
#include "net/stream.h"
#include "smtp/back/backend.h"
#include "wire/command.h"
#include "wire/content.h"
#include "wire/path.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum box_state { BOX_IDLE, BOX_MAIL, BOX_RCPT, BOX_DATA, BOX_CHUNKS };
struct box { /* one connection */
    struct box *next, **at; /* among all */
    struct task task;
    struct stream *stream;
    struct line_reader reader;
    struct arena arena;
    char folder[512];
    enum box_state state;
    struct decoder decoder;
    struct pipe body;
    char from[1100];
    char name[128];
    int fd;
    bool failed, quit;
    unsigned rcpts;
};

static struct {
    pthread_mutex_t lock;
    pthread_t thread;
    struct loop *loop;
    struct box *boxes;
    bool started;
    unsigned serial;
} maildir = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void box_say(struct box *b, const char *line)
{
    pipe_put(&b->stream->out, str_of(line));
    pipe_put(&b->stream->out, STR("\r\n"));
}

static bool make_folders(const char *folder)
{
    static const char *const parts[] = {"", "/tmp", "/new", "/cur"};
    char path[600];
    for (size_t i = 0; i < countof(parts); i++) {
        snprintf(path, sizeof path, "%s%s", folder, parts[i]);
        if (fault_strikes(FAULT_FILE) || (mkdir(path, 0700) && errno != EEXIST))
            return false;
    }
    return true;
}

static bool write_all(int fd, struct pipe *p)
{
    while (!pipe_is_empty(p)) {
        struct iovec iov[64];
        int n = pipe_iov(p, iov, 64);
        ssize_t done = fault_strikes(FAULT_FILE) ? -1 : writev(fd, iov, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        pipe_drop(p, (size_t)done);
    }
    return true;
}

static void discard_file(struct box *b)
{
    char path[700];
    if (b->fd < 0)
        return;
    close(b->fd);
    b->fd = -1;
    snprintf(path, sizeof path, "%s/tmp/%s", b->folder, b->name);
    unlink(path);
}

static void box_reset(struct box *b)
{
    discard_file(b);
    pipe_clear(&b->body);
    b->state = BOX_IDLE;
    b->rcpts = 0;
    b->failed = false;
}

static bool open_file(struct box *b)
{
    char path[700], host[64] = "localhost";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/' || *c == ':')
            *c = '_';
    snprintf(b->name, sizeof b->name, "%lld.M%ldP%dQ%u.%s", (long long)now.tv_sec, now.tv_nsec / 1000, (int)getpid(),
             ++maildir.serial, host);
    if (!make_folders(b->folder))
        return false;
    snprintf(path, sizeof path, "%s/tmp/%s", b->folder, b->name);
    b->fd = fault_strikes(FAULT_FILE) ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (b->fd < 0)
        return false;
    pipe_print(&b->body, "Return-Path: <%s>\r\n", b->from);
    return true;
}

/* fsync, then the name in new/, then fsync of the folder: only then is it delivered. */
static bool deliver(struct box *b)
{
    char tmp[700], new[700], folder[600];
    snprintf(tmp, sizeof tmp, "%s/tmp/%s", b->folder, b->name);
    snprintf(new, sizeof new, "%s/new/%s", b->folder, b->name);
    snprintf(folder, sizeof folder, "%s/new", b->folder);
    bool good = !fault_strikes(FAULT_FILE) && fsync(b->fd) == 0;
    good = close(b->fd) == 0 && good;
    b->fd = -1;
    if (!good || fault_strikes(FAULT_FILE) || rename(tmp, new)) {
        unlink(tmp);
        return false;
    }
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    good = dir >= 0 && !fault_strikes(FAULT_FILE) && fsync(dir) == 0;
    if (dir >= 0)
        close(dir);
    if (!good) /* it hears 452 and comes again */
        unlink(new);
    return good;
}

static void take_content(struct box *b)
{
    while (decoder_step(&b->decoder, &b->stream->in, &b->body, BLOCK_READ) && !b->decoder.ended) {
        if (b->failed || !write_all(b->fd, &b->body)) {
            b->failed = true;
            pipe_clear(&b->body);
        }
    }
    if (!b->decoder.ended) {
        if (b->decoder.framing != FRAMING_DOTS && !b->decoder.left) {
            b->state = BOX_CHUNKS;
            box_say(b, b->failed ? "452 4.3.1 The mailbox cannot be written" : "250 2.0.0 Ok");
        }
        return;
    }
    char line[256];
    bool good = !b->failed && write_all(b->fd, &b->body) && deliver(b);
    snprintf(line, sizeof line, good ? "250 2.0.0 Ok: queued as %s" : "452 4.3.1 %s: cannot be written", b->name);
    box_say(b, line);
    if (!good)
        log_rare(LOG_ERROR, b->folder, "maildir %s: a message could not be written", b->folder);
    box_reset(b);
}

static void take_mail(struct box *b, struct str rest)
{
    struct path path;
    if (b->state != BOX_IDLE || !str_starts_nocase(rest, STR("FROM:"))) {
        box_say(b, "503 5.5.1 Not now");
        return;
    }
    rest = str_part(rest, 5, rest.len);
    if (path_parse(&rest, PATH_REVERSE, SYNTAX_LENIENT, &b->arena, &path)) {
        box_say(b, "501 5.1.7 Bad address");
        return;
    }
    snprintf(b->from, sizeof b->from, "%.*s", STR_ARGS(path.address));
    b->state = BOX_MAIL;
    box_say(b, "250 2.1.0 Ok");
}

/* The only client there is keeps the order: whatever it says out of it, or cannot be counted, ends the connection. */
static void take_chunk(struct box *b, struct str rest)
{
    uint64_t octets;
    bool last;
    if (!bdat_parse(rest, &octets, &last) || (b->state != BOX_RCPT && b->state != BOX_CHUNKS)) {
        box_say(b, "521 5.5.1 Not now");
        b->quit = true;
        return;
    }
    if (b->state == BOX_RCPT) {
        if (!open_file(b)) {
            log_rare(LOG_ERROR, b->folder, "maildir %s: %s", b->folder, strerror(errno));
            b->failed = true;
        }
        decoder_start(&b->decoder, FRAMING_BINARY, BARE_REJECT);
    }
    b->state = BOX_DATA;
    decoder_chunk(&b->decoder, octets, last);
}

static void take_command(struct box *b, const struct command *c)
{
    switch (c->verb) {
    case VERB_EHLO:
        box_reset(b);
        box_say(b, "250-maildir\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n"
                   "250-BINARYMIME\r\n250-REQUIRETLS\r\n250-MT-PRIORITY\r\n250-DELIVERBY\r\n250 ENHANCEDSTATUSCODES");
        break;
    case VERB_HELO: box_reset(b); box_say(b, "250 maildir"); break;
    case VERB_RSET: box_reset(b); box_say(b, "250 2.0.0 Ok"); break;
    case VERB_NOOP: box_say(b, "250 2.0.0 Ok"); break;
    case VERB_QUIT: box_say(b, "221 2.0.0 Bye"); b->quit = true; break;
    case VERB_MAIL: take_mail(b, c->rest); break;
    case VERB_RCPT:
        if (b->state != BOX_MAIL && b->state != BOX_RCPT) {
            box_say(b, "503 5.5.1 Need MAIL");
            break;
        }
        b->state = BOX_RCPT;
        b->rcpts++;
        box_say(b, "250 2.1.5 Ok");
        break;
    case VERB_DATA:
        if (b->state != BOX_RCPT) {
            box_say(b, "503 5.5.1 Need RCPT");
        } else if (!open_file(b)) {
            log_rare(LOG_ERROR, b->folder, "maildir %s: %s", b->folder, strerror(errno));
            box_say(b, "452 4.3.1 The mailbox cannot be written");
        } else {
            b->state = BOX_DATA;
            decoder_start(&b->decoder, FRAMING_DOTS, BARE_REJECT);
            box_say(b, "354 Go on");
        }
        break;
    case VERB_BDAT: take_chunk(b, c->rest); break;
    default: box_say(b, "502 5.5.1 Not here"); break;
    }
}

static void box_close(struct box *b)
{
    *b->at = b->next;
    if (b->next)
        b->next->at = b->at;
    box_reset(b);
    stream_close(&b->stream, CLOSE_GRACEFUL);
    task_forget(&b->task);
    arena_reset(&b->arena);
    free(b);
}

static void box_turn(struct task *task)
{
    struct box *b = holder_of(task, struct box, task);
    while (!b->quit) {
        if (b->state == BOX_DATA) {
            take_content(b);
            if (b->state == BOX_DATA)
                break;
        }
        struct str line;
        struct command command;
        arena_reset(&b->arena);
        enum line_took took = line_take(&b->reader, &b->stream->in, 4096, false, &b->arena, &line);
        if (took == LINE_MORE)
            break;
        if (took != LINE_TAKEN) {
            box_say(b, "500 5.5.2 Bad line");
            continue;
        }
        command_parse(line, SYNTAX_STRICT, &command);
        take_command(b, &command);
    }
    if (b->quit || b->stream->dead || b->stream->ended) {
        box_close(b);
        return;
    }
    stream_flush(b->stream);
}

struct opening { int fd; char folder[512]; };

static void open_box(void *data)
{
    struct opening *o = data;
    struct box *b = must_alloc(sizeof *b);
    b->fd = -1;
    snprintf(b->folder, sizeof b->folder, "%s", o->folder);
    task_start(&b->task, maildir.loop, box_turn);
    b->stream = stream_open(maildir.loop, o->fd, &b->task);
    free(o);
    if (!b->stream) {
        free(b);
        return;
    }
    b->at = &maildir.boxes;
    b->next = maildir.boxes;
    if (b->next)
        b->next->at = &b->next;
    maildir.boxes = b;
    box_say(b, "220 maildir ESMTP");
    stream_flush(b->stream);
    task_wake(&b->task);
}

static void flush_log(void *data)
{
    log_flush();
}

static void *run(void *data)
{
    loop_before_sleep(maildir.loop, flush_log, NULL);
    loop_run(maildir.loop);
    while (maildir.boxes)
        box_close(maildir.boxes);
    loop_close(maildir.loop);
    block_forget();
    return NULL;
}

int maildir_dial(const struct backend_conf *conf)
{
    int pair[2];
    if (fault_strikes(FAULT_DIAL) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return -1;
    pthread_mutex_lock(&maildir.lock);
    if (!maildir.started) {
        maildir.loop = loop_open();
        maildir.started = pthread_create(&maildir.thread, NULL, run, NULL) == 0;
    }
    bool good = maildir.started;
    pthread_mutex_unlock(&maildir.lock);
    if (!good) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    struct opening *o = must_alloc(sizeof *o);
    o->fd = pair[1];
    snprintf(o->folder, sizeof o->folder, "%.*s", STR_ARGS(conf->address.host));
    loop_post(maildir.loop, open_box, o);
    return pair[0];
}

static void stop(void *data)
{
    loop_stop(maildir.loop);
}

void maildir_stop(void)
{
    pthread_mutex_lock(&maildir.lock);
    if (maildir.started) {
        loop_post(maildir.loop, stop, NULL);
        pthread_join(maildir.thread, NULL);
        maildir.started = false;
    }
    pthread_mutex_unlock(&maildir.lock);
}
