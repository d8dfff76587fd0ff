/* control.c - the control socket: a few short, non-blocking connections, polled by the main thread. */
#include "process/control.h"
#include "base/arena.h"
#include "base/fault.h"
#include "base/log.h"
#include "process/privileges.h"
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_MOST = 4096, SAY_MS = 5000, ASK_SECONDS = 180, FETCH_SECONDS = 5, CALLS_MOST = 3, BACKLOG = 16, STARVED_MS = 100 };

struct caller {
    int fd; /* -1: unused */
    bool obeyed, answered;
    char line[LINE_MOST];
    size_t len;
    char *answer;
    size_t size, sent;
    uint64_t by;
};
struct control {
    char *path; /* NULL: it listens nowhere */
    int fd;
    dev_t device;
    ino_t file;
    uint64_t starved_by; /* accept failed for lack of descriptors: do not try again before this time */
    struct caller callers[CONTROL_CALLERS];
};

static bool name_it(const char *path, struct sockaddr_un *name)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name->sun_path)
        return false;
    strcpy(name->sun_path, path);
    return true;
}

/* ---- the socket ---- */

/* Binds under a temporary name and renames, so that the socket has its mode when it appears, and atomically replaces the socket of a
 * process before us. */
static int bind_path(const char *path, unsigned user, char *error, size_t room)
{
    char draft[sizeof((struct sockaddr_un *)0)->sun_path + 32];
    struct sockaddr_un name;
    snprintf(draft, sizeof draft, "%s.%ld", path, (long)getpid());
    if (!name_it(draft, &name)) {
        snprintf(error, room, "control \"%s\": the path is too long for a socket", path);
        return -1;
    }
    bool stands_in = privileges_stand_in(user, path);
    unlink(draft);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool good = fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0;
    umask(mask);
    good = good && (user == (unsigned)-1 || stands_in || lchown(draft, user, (gid_t)-1) == 0) &&
           listen(fd, BACKLOG) == 0 && rename(draft, path) == 0;
    int saved = errno;
    if (!good)
        unlink(draft);
    privileges_back(stands_in);
    if (good)
        return fd;
    snprintf(error, room, "control \"%s\": %s", path, strerror(saved));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Creates the directory (/run/sluice for /run/sluice/control), where the supervisor has not done so. */
static void make_folder(const char *path, unsigned user)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path || (size_t)(slash - path) >= sizeof folder)
        return;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    if (mkdir(folder, 0755) == 0 && user != (unsigned)-1 && lchown(folder, user, (gid_t)-1) != 0)
        rmdir(folder); /* bind then fails with the right error */
}

static bool somebody_answers(const char *path)
{
    struct sockaddr_un name;
    int fd = name_it(path, &name) ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    bool yes = fd >= 0 && (connect(fd, (struct sockaddr *)&name, sizeof name) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return yes;
}

struct control *control_open(const char *path, int inherited, unsigned user, char *error, size_t room)
{
    struct stat st;
    int fd = inherited;
    if (fd < 0 && somebody_answers(path)) {
        snprintf(error, room, "control \"%s\": another process answers there", path);
        return NULL;
    }
    if (fd < 0)
        make_folder(path, user);
    if (fd < 0 && (fd = bind_path(path, user, error, room)) < 0)
        return NULL;
    struct control *c = must_alloc(sizeof *c);
    c->fd = fd;
    c->path = must_alloc(strlen(path) + 1);
    strcpy(c->path, path);
    if (lstat(path, &st) == 0) {
        c->device = st.st_dev;
        c->file = st.st_ino;
    }
    for (size_t i = 0; i < CONTROL_CALLERS; i++)
        c->callers[i].fd = -1;
    return c;
}

int control_socket(const struct control *c)
{
    return c ? c->fd : -1;
}

const char *control_path(const struct control *c)
{
    return c && c->path ? c->path : "";
}

static void forget(struct caller *one)
{
    close(one->fd);
    free(one->answer);
    *one = (struct caller){.fd = -1};
}

static void stop_listening(struct control *c, bool keep_path)
{
    struct stat st;
    if (c->path && !keep_path && lstat(c->path, &st) == 0 && st.st_dev == c->device && st.st_ino == c->file)
        unlink(c->path);
    if (c->fd >= 0)
        close(c->fd);
    free(c->path);
    c->path = NULL;
    c->fd = -1;
}

void control_close(struct control **at, bool keep_path)
{
    struct control *c = *at;
    *at = NULL;
    if (!c)
        return;
    for (size_t i = 0; i < CONTROL_CALLERS; i++)
        if (c->callers[i].fd >= 0)
            forget(&c->callers[i]);
    stop_listening(c, keep_path);
    free(c);
}

/* ---- callers ---- */

size_t control_polls(struct control *c, struct pollfd fds[CONTROL_FDS], int *wait)
{
    uint64_t now = clock_ms();
    size_t n = 0;
    bool room = false;
    for (size_t i = 0; c && i < CONTROL_CALLERS; i++) {
        struct caller *one = &c->callers[i];
        room |= one->fd < 0 && c->fd >= 0;
        if (one->fd < 0 || (one->obeyed && !one->answered))
            continue;
        uint64_t left = one->by > now ? one->by - now : 0;
        *wait = *wait < 0 || (uint64_t)*wait > left ? (int)left : *wait;
        fds[n++] = (struct pollfd){.fd = one->fd, .events = one->answered ? POLLOUT : POLLIN};
    }
    if (c && room && now < c->starved_by)
        *wait = *wait < 0 || *wait > STARVED_MS ? STARVED_MS : *wait;
    else if (c && room)
        fds[n++] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    return n;
}

static void welcome(struct control *c)
{
    for (size_t i = 0; i < CONTROL_CALLERS; i++) {
        if (c->callers[i].fd >= 0)
            continue;
        int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno != EAGAIN)
            c->starved_by = clock_ms() + STARVED_MS;
        if (fd < 0)
            return;
        c->callers[i] = (struct caller){.fd = fd, .by = clock_ms() + SAY_MS};
    }
}

void control_move(struct control *c, struct control *to)
{
    if (c->fd >= 0) /* accept connections that are queued */
        welcome(c);
    stop_listening(c, false);
    if (!to)
        return;
    c->path = to->path;
    c->fd = to->fd;
    c->device = to->device;
    c->file = to->file;
    c->starved_by = 0;
    free(to);
}

static void send_answer(struct caller *one)
{
    ssize_t n = send(one->fd, one->answer + one->sent, one->size - one->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        one->sent += (size_t)n;
    if (one->sent == one->size) { /* read before closing: unread input would cause a reset, and the peer might lose the answer */
        char rest[LINE_MOST];
        for (int i = 0; i < 256 && recv(one->fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++)
            ;
    }
    if (one->sent == one->size || (n < 0 && errno != EAGAIN && errno != EINTR))
        forget(one);
}

void control_answer(struct caller *one, int code, struct str text)
{
    char head[32];
    int len = code ? snprintf(head, sizeof head, "no %d\n", code) : snprintf(head, sizeof head, "ok\n");
    one->size = (size_t)len + text.len;
    one->answer = must_alloc(one->size + 1);
    memcpy(one->answer, head, (size_t)len);
    memcpy(one->answer + len, text.len ? text.at : "", text.len);
    one->answered = true;
    one->by = clock_ms() + SAY_MS;
    send_answer(one);
}

const struct control_order *control_order_named(const struct control_order *orders, size_t n, struct str word)
{
    for (size_t i = 0; i < n; i++)
        if (str_equal(word, str_of(orders[i].word)))
            return &orders[i];
    return NULL;
}

void control_answer_unknown(struct caller *caller, const struct control_order *orders, size_t n)
{
    struct arena arena = {0};
    struct str text = STR("");
    for (size_t i = 0; i < n; i++)
        if (orders[i].shown_args)
            text = arena_print(&arena, "%.*s%s%s%s", STR_ARGS(text), text.len ? ", " : "", orders[i].word,
                               orders[i].shown_args);
    control_answer(caller, 2, arena_print(&arena, "unknown command: %.*s\n", STR_ARGS(text)));
    arena_reset(&arena);
}

#ifdef SLUICE_FAULTS
void control_obey_fail(void *data, struct caller *caller, struct str argument)
{
    char text[80];
    bool struck;
    uint64_t met = fault_met(&struck);
    bool good = !argument.len || fault_arm(argument);
    snprintf(text, sizeof text, good ? "met %llu, %s\n" : "no such kind of fault\n", (unsigned long long)met,
             struck ? "struck" : "did not strike");
    control_answer(caller, good ? 0 : 2, str_of(text));
}
#endif

static void hear(struct caller *one, void (*obey)(void *, struct caller *, struct str, struct str), void *data)
{
    ssize_t n = recv(one->fd, one->line + one->len, sizeof one->line - one->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        forget(one);
        return;
    }
    one->len += (size_t)n;
    const char *end = memchr(one->line, '\n', one->len);
    if (!end && one->len < sizeof one->line)
        return;
    one->obeyed = true;
    if (!end) {
        control_answer(one, 1, STR("the line is too long\n"));
        return;
    }
    size_t len = (size_t)(end - one->line), word = 0, argument;
    len -= len && one->line[len - 1] == '\r';
    while (word < len && one->line[word] != ' ')
        word++;
    for (argument = word; argument < len && one->line[argument] == ' ';)
        argument++;
    obey(data, one, (struct str){one->line, word}, (struct str){one->line + argument, len - argument});
}

void control_turn(struct control *c, const struct pollfd *fds, size_t n,
                  void (*obey)(void *, struct caller *, struct str, struct str), void *data)
{
    uint64_t now = clock_ms();
    for (size_t i = 0; c && i < CONTROL_CALLERS; i++) {
        struct caller *one = &c->callers[i];
        short events = 0;
        for (size_t k = 0; k < n; k++)
            if (one->fd >= 0 && fds[k].fd == one->fd)
                events = fds[k].revents;
        if (one->fd < 0 || (one->obeyed && !one->answered))
            continue;
        if (events && one->answered)
            send_answer(one);
        else if (events)
            hear(one, obey, data);
        else if (now >= one->by)
            forget(one);
    }
    for (size_t k = 0; c && k < n; k++)
        if (fds[k].fd == c->fd && fds[k].revents)
            welcome(c);
}

/* ---- the client side ---- */

static int print_answer(FILE *from)
{
    char line[8192];
    int code = 1;
    size_t n;
    if (!fgets(line, sizeof line, from)) {
        fprintf(stderr, "sluice: the running process did not answer; its log says why\n");
        return 1;
    }
    if (strcmp(line, "ok\n") == 0)
        code = 0;
    else if (sscanf(line, "no %d", &code) != 1 || code < 1 || code > 255)
        code = 1;
    while ((n = fread(line, 1, sizeof line, from)) > 0)
        fwrite(line, 1, n, code ? stderr : stdout);
    return code;
}

/* Connected, or -1 and errno: ENAMETOOLONG where the path is too long for a socket. */
static int reach(const char *path, unsigned seconds)
{
    struct sockaddr_un name;
    struct timeval wait = {.tv_sec = seconds};
    if (!name_it(path, &name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return fd;
}

static int call(const char *path)
{
    int fd = reach(path, ASK_SECONDS);
    if (fd < 0)
        fprintf(stderr,
                errno == EACCES ? "sluice: %s: %s: only root and the user that it runs as may ask\n"
                                : "sluice: nobody answers at %s: %s; --socket PATH asks elsewhere\n",
                path, errno == ENAMETOOLONG ? "the path is too long" : strerror(errno));
    return fd;
}

FILE *control_fetch(const char *path, const char *command, const char **why)
{
    char line[LINE_MOST];
    size_t len = (size_t)snprintf(line, sizeof line, "%s\n", command);
    int fd = len < sizeof line ? reach(path, FETCH_SECONDS) : -1;
    *why = errno == EACCES ? "only root and the user that it runs as may ask the running process" : "no process answers";
    if (fd < 0)
        return NULL;
    FILE *answer = send(fd, line, len, MSG_NOSIGNAL) == (ssize_t)len ? fdopen(fd, "r") : NULL;
    if (!answer)
        close(fd);
    if (answer && fgets(line, sizeof line, answer) && strcmp(line, "ok\n") == 0) {
        *why = NULL;
        return answer;
    }
    if (answer)
        fclose(answer);
    *why = "the running process does not know the store";
    return NULL;
}

int control_ask(const char *path, const char *command)
{
    char line[LINE_MOST];
    size_t len = (size_t)snprintf(line, sizeof line, "%s\n", command);
    if (len >= sizeof line) {
        fprintf(stderr, "sluice: no command is that long\n");
        return 2;
    }
    int fd = call(path);
    /* A process that closes the connection without an answer has just passed control to the next process. */
    for (int calls = 1; fd >= 0 && send(fd, line, len, MSG_NOSIGNAL) < 0 && calls < CALLS_MOST; calls++) {
        close(fd);
        fd = call(path);
    }
    if (fd < 0)
        return 1;
    FILE *answer = fdopen(fd, "r");
    must(answer);
    int code = print_answer(answer);
    fclose(answer);
    return code;
}
