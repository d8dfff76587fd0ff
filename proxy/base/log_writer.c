/* log_writer.c - where lines go: a ring for each thread that logs, and one thread that writes them (log.h).
 *
 * Owns the target. Each ring has one producer (the thread that logs) and one consumer (the writing thread), so a line costs a copy and
 * no lock. The writing thread sleeps after each write: under load it makes 20 writes a second, however many lines there are, and other
 * threads rarely have to wake it. Only the writing thread blocks when a pipe is full or a disk hangs. */
#include "base/log_ring.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    RING = 262144,
    NAP = 50,
    LOOK_EVERY = 1,
    SYSLOG_LINE = 17408, /* longer than any line of log.c with its head */
    RETRY = 1
};

struct log_ring {
    _Alignas(CACHE_LINE) atomic_size_t head; /* octets put in so far: written by its thread */
    atomic_bool left;                        /* its thread has ended */
    _Alignas(CACHE_LINE) atomic_size_t tail; /* octets taken out so far: written by the writing thread */
    struct log_ring *next;
    char octets[RING];
};

/* What the writing thread has of its own. */
struct sink {
    enum log_target target;
    char path[200]; /* of the file, or of the socket of syslog */
    int facility;
    int fd;
    bool torn;    /* the last line was written in part */
    dev_t device; /* of the file */
    ino_t inode;
    time_t looked, tried;
};

static struct sink sink = {.fd = 2};
static struct {
    _Atomic(struct log_ring *) rings; /* each thread prepends its ring; only the writing thread removes rings */
    pthread_t thread;
    pthread_key_t key;
    int bell;
    atomic_bool runs, ending, reopen;
    pthread_mutex_t lock; /* protects `next` */
    struct sink next;
    atomic_bool has_next, has_left;          /* has_left: a thread with a ring has ended */
    _Alignas(CACHE_LINE) atomic_bool asleep; /* on a cache line of its own: written often, while workers read the members above */
    atomic_ullong lost;                      /* lines dropped because a ring was full or a write failed */
    unsigned long long told;
} log_thread = {.lock = PTHREAD_MUTEX_INITIALIZER, .bell = -1};
static _Thread_local struct log_ring *own;

/* ---- the target
 * -------------------------------------------------------------------------------------------------------- */

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
}

static int open_syslog(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t len = strlen(path);
    if (len >= sizeof name.sun_path)
        len = sizeof name.sun_path - 1;
    memcpy(name.sun_path, path, len);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    return fd;
}

int log_open(const struct log_settings *s, unsigned user, char *error, size_t room)
{
    char path[sizeof sink.path];
    struct stat st;
    if (s->target == LOG_TO_STDERR)
        return 2;
    if (s->path.len >= sizeof path) {
        snprintf(error, room, "the path is longer than %zu octets", sizeof path - 1);
        return -1;
    }
    snprintf(path, sizeof path, "%.*s", STR_ARGS(s->path));
    int fd = s->target == LOG_TO_SYSLOG ? open_syslog(path) : open_file(path);
    if (fd >= 0 && s->target == LOG_TO_FILE && user != (unsigned)-1 && fstat(fd, &st) == 0 && st.st_uid == 0 &&
        S_ISREG(st.st_mode) && fchown(fd, user, (gid_t)-1) != 0) {
        close(fd);
        fd = -1;
    }
    if (fd < 0)
        snprintf(error, room, "%s: %s", path, strerror(errno));
    return fd;
}

static void remember_file(struct sink *s)
{
    struct stat st;
    if (s->target == LOG_TO_FILE && fstat(s->fd, &st) == 0) {
        s->device = st.st_dev;
        s->inode = st.st_ino;
    }
}

static void sink_close(struct sink *s)
{
    if (s->fd > 2)
        close(s->fd);
    s->fd = -1;
}

/* Opens the path again when it names another file, or none, after a rotation. While that fails, lines go on to the old file, and an
 * error is written into it. */
static void look_at_file(struct sink *s, time_t now)
{
    struct stat st;
    bool asked = atomic_exchange(&log_thread.reopen, false);
    if (s->target != LOG_TO_FILE || (!asked && now - s->looked < LOOK_EVERY))
        return;
    s->looked = now;
    if (stat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
        return;
    int fd = open_file(s->path);
    if (fd < 0) {
        log_rare(LOG_ERROR, s->path, "log: %s: %s: lines go to the file that had this name before", s->path,
                 strerror(errno));
        return;
    }
    sink_close(s);
    s->fd = fd;
    s->torn = false;
    remember_file(s);
}

static void take_next(void)
{
    if (!atomic_load(&log_thread.has_next))
        return;
    pthread_mutex_lock(&log_thread.lock);
    sink_close(&sink);
    sink = log_thread.next;
    atomic_store(&log_thread.has_next, false);
    pthread_mutex_unlock(&log_thread.lock);
}

void log_writer_set(const struct log_settings *settings, int fd)
{
    struct sink next = {.target = settings->target, .facility = settings->facility, .fd = fd};
    snprintf(next.path, sizeof next.path, "%.*s", STR_ARGS(settings->path));
    remember_file(&next);
    pthread_mutex_lock(&log_thread.lock);
    if (atomic_load(&log_thread.has_next))
        sink_close(&log_thread.next);
    log_thread.next = next;
    atomic_store(&log_thread.has_next, true);
    pthread_mutex_unlock(&log_thread.lock);
    if (!atomic_load(&log_thread.runs))
        take_next();
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------------ */

static void wait_until_writable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    poll(&one, 1, 1000);
}

/* False: the rest cannot be written. EAGAIN happens when another process has made the shared standard error non-blocking. */
static bool write_all(int fd, const char *at, size_t len, size_t *done)
{
    *done = 0;
    while (*done < len) {
        ssize_t n = write(fd, at + *done, len - *done);
        if (n > 0)
            *done += (size_t)n;
        else if (n < 0 && errno == EAGAIN && !atomic_load(&log_thread.ending))
            wait_until_writable(fd);
        else if (n == 0 || errno != EINTR)
            return false;
    }
    return true;
}

/* RFC 3164 in the form that syslog daemons read from /dev/log: "<PRI>Mon dd hh:mm:ss TAG[PID]: TEXT". */
static bool write_syslog(struct sink *s, const char *line, size_t len, time_t now)
{
    char text[SYSLOG_LINE], stamp[20];
    struct tm tm;
    int severity = len > 3 && line[0] == '<' && line[2] == '>' ? line[1] - '0' : 6;
    size_t skip = len > 3 && line[0] == '<' && line[2] == '>' ? 3 : 0;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", &tm);
    int n = snprintf(text, sizeof text, "<%d>%s sluice[%ld]: %.*s", s->facility * 8 + severity, stamp, (long)getpid(),
                     (int)(len - skip), line + skip);
    size_t octets = min_size((size_t)n, sizeof text - 1);
    if (s->fd >= 0 && send(s->fd, text, octets, MSG_NOSIGNAL) >= 0)
        return true;
    if (now - s->tried < RETRY)
        return false;
    s->tried = now; /* the daemon may have restarted, with another socket at the same path: connect again */
    sink_close(s);
    s->fd = open_syslog(s->path);
    return s->fd >= 0 && send(s->fd, text, octets, MSG_NOSIGNAL) >= 0;
}

static unsigned long long count_lines(const char *at, size_t len)
{
    unsigned long long n = 0;
    for (const char *end = at + len, *lf; at < end && (lf = memchr(at, '\n', (size_t)(end - at))); at = lf + 1)
        n++;
    return n;
}

/* Terminates a line that was written only in part (disk full) before the next line is written. */
static bool write_lines(struct sink *s, const char *at, size_t len, size_t *done)
{
    *done = 0;
    if (s->torn && !write_all(s->fd, "\n", 1, done)) {
        *done = 0;
        return false;
    }
    bool good = write_all(s->fd, at, len, done);
    s->torn = *done && at[*done - 1] != '\n';
    return good;
}

/* Writes whole lines. False: some could not be written, and were counted as lost. Switches first to a target that log_set has left. */
static bool sink_write(struct sink *s, const char *at, size_t len)
{
    struct timespec now;
    size_t done;
    unsigned long long lost = 0;
    take_next();
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    look_at_file(s, now.tv_sec);
    if (s->target == LOG_TO_SYSLOG) {
        for (const char *end = at + len, *lf; at < end && (lf = memchr(at, '\n', (size_t)(end - at))); at = lf + 1)
            lost += !write_syslog(s, at, (size_t)(lf - at), now.tv_sec);
    } else if (!write_lines(s, at, len, &done)) {
        lost = count_lines(at + done, len - done);
    }
    if (lost)
        atomic_fetch_add(&log_thread.lost, lost);
    return !lost;
}

/* ---- rings
 * -------------------------------------------------------------------------------------------------------------- */

static void ring_left(void *ring)
{
    atomic_store(&((struct log_ring *)ring)->left, true);
    atomic_store(&log_thread.has_left, true);
}

static struct log_ring *own_ring(void)
{
    if (own)
        return own;
    own = must_alloc_lines(sizeof *own);
    own->next = atomic_load(&log_thread.rings);
    while (!atomic_compare_exchange_weak(&log_thread.rings, &own->next, own))
        ;
    pthread_setspecific(log_thread.key, own);
    return own;
}

static void ring_bell(void)
{
    uint64_t one = 1;
    ssize_t n = write(log_thread.bell, &one, sizeof one);
    (void)n;
}

static void ring_copy(struct log_ring *r, size_t at, const char *from, size_t len)
{
    size_t place = at % RING, run = min_size(len, RING - place);
    memcpy(r->octets + place, from, run);
    if (len > run)
        memcpy(r->octets, from + run, len - run);
}

void log_hand_on(const char *lines, size_t len, bool urgent)
{
    if (!atomic_load_explicit(&log_thread.runs, memory_order_acquire)) {
        size_t done;
        if (sink.target == LOG_TO_STDERR || sink.target == LOG_TO_FILE)
            write_lines(&sink, lines, len, &done);
        else
            sink_write(&sink, lines, len);
        return;
    }
    struct log_ring *r = own_ring();
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    size_t room = RING - (head - atomic_load_explicit(&r->tail, memory_order_acquire));
    if (len > room) {
        atomic_fetch_add(&log_thread.lost, count_lines(lines, len));
        return;
    }
    ring_copy(r, head, lines, len);
    atomic_store(&r->head, head + len); /* before `asleep` is read, so that no wake-up is missed: either the writing thread sees
                                           these octets, or this thread sees that it sleeps */
    if (urgent || atomic_load(&log_thread.asleep))
        ring_bell();
}

uint64_t log_dropped(void)
{
    return atomic_load(&log_thread.lost);
}

/* A line that wraps around the end of the ring is copied together before it is written. */
static bool ring_empty(struct log_ring *r, size_t *written)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed), head = atomic_load(&r->head);
    size_t len = head - tail, place = tail % RING, run = min_size(len, RING - place);
    bool good = true;
    if (!len)
        return true;
    if (run < len) {
        char *whole = must_alloc(len);
        memcpy(whole, r->octets + place, run);
        memcpy(whole + run, r->octets, len - run);
        good = sink_write(&sink, whole, len);
        free(whole);
    } else {
        good = sink_write(&sink, r->octets + place, len);
    }
    atomic_store_explicit(&r->tail, head, memory_order_release);
    *written += len;
    return good;
}

static void ring_take_out(struct log_ring *r)
{
    struct log_ring *first = r, *at;
    if (!atomic_compare_exchange_strong(&log_thread.rings, &first, r->next)) { /* it is not the first ring: unlink it inside the list */
        for (at = first; at->next != r; at = at->next)
            ;
        at->next = r->next;
    }
    free(r);
}

/* Frees the rings of threads that have ended, once they are empty. */
static void drop_left(void)
{
    bool more = false;
    if (!atomic_exchange(&log_thread.has_left, false))
        return;
    for (struct log_ring *r = atomic_load(&log_thread.rings), *next; r; r = next) {
        next = r->next;
        if (!atomic_load(&r->left))
            continue;
        if (atomic_load(&r->head) == atomic_load(&r->tail))
            ring_take_out(r);
        else
            more = true;
    }
    if (more)
        atomic_store(&log_thread.has_left, true);
}

/* Writes what all rings hold. False: some lines could not be written. */
static bool empty_all(size_t *written)
{
    bool good = true;
    for (struct log_ring *r = atomic_load(&log_thread.rings); r; r = r->next)
        good &= ring_empty(r, written);
    return good;
}

/* After lines were lost: writes a line with their number once writing works again. */
static void tell_lost(void)
{
    unsigned long long n = log_dropped(), more = n - log_thread.told;
    if (!more)
        return;
    log_thread.told = n;
    log_begin(LOG_WARNING, "log");
    log_text("msg", STR("lines of the log were lost: it was not read, or could not be written"));
    log_number("dropped", (int64_t)more);
    log_end();
    log_flush();
}

static void nap(int ms)
{
    struct pollfd one = {.fd = log_thread.bell, .events = POLLIN};
    uint64_t count;
    poll(&one, 1, ms);
    ssize_t n = read(log_thread.bell, &count, sizeof count);
    (void)n;
}

/* The process aborts: writes what the rings hold, without waiting for other threads or for the target. */
static void last_words(void)
{
    log_flush();
    for (struct log_ring *r = atomic_load(&log_thread.rings); r; r = r->next) {
        size_t tail = atomic_load(&r->tail), head = atomic_load(&r->head);
        while (tail < head) {
            struct pollfd one = {.fd = sink.target == LOG_TO_SYSLOG ? 2 : sink.fd, .events = POLLOUT};
            size_t len = min_size(min_size(head - tail, RING - tail % RING), PIPE_BUF);
            if (poll(&one, 1, 0) != 1 || write(one.fd, r->octets + tail % RING, len) < 0)
                return;
            tail += len;
        }
    }
}

static void *work(void *data)
{
    while (true) {
        bool ending = atomic_load(&log_thread.ending);
        size_t written = 0;
        if (empty_all(&written) && written)
            tell_lost();
        drop_left();
        if (written) {
            nap(ending ? 0 : NAP);
            continue;
        }
        if (ending)
            break;
        atomic_store(&log_thread.asleep, true);
        if (empty_all(&written) && !written)
            nap(-1);
        atomic_store(&log_thread.asleep, false);
    }
    return NULL;
}

void log_start(void)
{
    sigset_t all, before;
    must(!atomic_load(&log_thread.runs));
    log_thread.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(log_thread.bell >= 0 && pthread_key_create(&log_thread.key, ring_left) == 0);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool good = pthread_create(&log_thread.thread, NULL, work, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    must(good);
    must_transcript = last_words;
    atomic_store_explicit(&log_thread.runs, true, memory_order_release);
}

void log_stop(unsigned ms)
{
    struct timespec by;
    if (!atomic_load(&log_thread.runs))
        return;
    log_flush();
    atomic_store(&log_thread.ending, true);
    ring_bell();
    clock_gettime(CLOCK_REALTIME, &by);
    by.tv_sec += ms / 1000 + (by.tv_nsec + (long)(ms % 1000) * 1000000) / 1000000000;
    by.tv_nsec = (by.tv_nsec + (long)(ms % 1000) * 1000000) % 1000000000;
    if (pthread_timedjoin_np(log_thread.thread, NULL, &by) == 0)
        atomic_store(&log_thread.runs, false);
}

void log_reopen(void)
{
    atomic_store(&log_thread.reopen, true);
    if (atomic_load(&log_thread.runs))
        ring_bell();
}
