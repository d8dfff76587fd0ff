/* upgrade.c - starts the new binary by posix_spawn and reads its result from a pipe. */
#include "process/upgrade.h"
#include "base/fault.h"
#include "net/tls.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
enum { START_MS = 120000, ENVIRONMENT_MOST = 4096 };
static const char ready_word[] = "ready\n";

/* argv[0] if it is a path, which may be a symbolic link that will point to the next version. Else the path of the running binary, which is
 * read at the start, because the file may have been removed or replaced when an upgrade is ordered. */
const char *upgrade_binary(const char *argv0)
{
    static char path[PATH_MAX];
    if (strchr(argv0, '/'))
        return argv0;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

/* ---- the old process ---- */

static bool is_of_one_process(const char *variable)
{
    static const char *const names[] = {"SLUICE_PORTS=", "SLUICE_CONTROL=", "SLUICE_TICKETS=",
                                        "SLUICE_STORES=", "SLUICE_READY=",  "LISTEN_PID=",
                                        "LISTEN_FDS=",   "LISTEN_FDNAMES=", "WATCHDOG_PID="};
    for (size_t i = 0; i < countof(names); i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

struct passed { /* descriptors that are passed; -1: none */
    int control, tickets, stores, ready;
};

static char **environment(struct arena *arena, const struct upgrade_order *o, const struct passed *p)
{
    char **list = arena_alloc(arena, (ENVIRONMENT_MOST + 6) * sizeof(char *)), *ports = ports_list(o->ports);
    size_t n = 0;
    for (char **at = environ; *at && n < ENVIRONMENT_MOST; at++)
        if (!is_of_one_process(*at))
            list[n++] = *at;
    list[n++] = (char *)arena_print(arena, "SLUICE_PORTS=%s", ports).at;
    list[n++] = (char *)arena_print(arena, "SLUICE_READY=%d", p->ready).at;
    if (p->control >= 0)
        list[n++] = (char *)arena_print(arena, "SLUICE_CONTROL=%d %s", p->control, o->control_path).at;
    if (p->tickets >= 0)
        list[n++] = (char *)arena_print(arena, "SLUICE_TICKETS=%d", p->tickets).at;
    if (p->stores >= 0)
        list[n++] = (char *)arena_print(arena, "SLUICE_STORES=%d", p->stores).at;
    list[n] = NULL;
    free(ports);
    return list;
}

static void pass(posix_spawn_file_actions_t *actions, int fd)
{
    if (fd >= 0) /* dup onto itself clears FD_CLOEXEC, in the child only */
        must(posix_spawn_file_actions_adddup2(actions, fd, fd) == 0);
}

/* Writes for each store the length of its name, the name, and its content. */
static int stores_pass(const struct conf *conf)
{
    int fd = fault_strikes(FAULT_FILE) ? -1 : memfd_create("sluice-stores", MFD_CLOEXEC);
    FILE *to = fd < 0 ? NULL : fdopen(dup(fd), "w");
    for (size_t i = 0; to && i < conf->smtp.mail.nstores; i++) {
        const struct store_conf *s = &conf->smtp.mail.stores[i];
        uint32_t len = (uint32_t)s->name.len;
        fwrite(&len, sizeof len, 1, to);
        fwrite(s->name.at, 1, len, to);
        store_memory_pass(s->store, to);
    }
    if (to && fclose(to) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    log_say(LOG_WARNING, "upgrade: what memory stores hold cannot be handed on: %s", strerror(errno));
    return -1;
}

static int start(struct upgrade *u, const struct upgrade_order *o, const struct passed *p)
{
    posix_spawn_file_actions_t actions;
    struct arena arena = {0};
    must(posix_spawn_file_actions_init(&actions) == 0);
    for (const struct port *port = o->ports->first; port; port = port->next)
        for (unsigned i = 0; i < port->nfds; i++)
            pass(&actions, port->fds[i]);
    pass(&actions, p->control);
    pass(&actions, p->tickets);
    pass(&actions, p->stores);
    pass(&actions, p->ready);
    /* The child inherits our signal mask, so signals during its start stay pending. */
    int code = posix_spawn(&u->pid, o->binary, &actions, NULL, o->argv, environment(&arena, o, p));
    posix_spawn_file_actions_destroy(&actions);
    arena_reset(&arena);
    return code;
}

bool upgrade_begin(struct upgrade *u, const struct upgrade_order *o, char *error, size_t room)
{
    int pair[2];
    if (getpid() == 1) { /* when process 1 of a container ends, the kernel kills all its processes, the new one too */
        snprintf(error, room, "this is process 1 of a container, which ends with it: start a new container instead");
        return false;
    }
    if (fault_strikes(FAULT_FILE) || pipe2(pair, O_CLOEXEC | O_NONBLOCK) != 0) {
        snprintf(error, room, "pipe: %s", strerror(errno));
        return false;
    }
    struct passed p = {
        .control = o->control, .tickets = tls_tickets_pass(), .stores = stores_pass(o->conf), .ready = pair[1]};
    int code = start(u, o, &p);
    close(pair[1]);
    if (p.tickets >= 0)
        close(p.tickets);
    if (p.stores >= 0)
        close(p.stores);
    if (code) {
        snprintf(error, room, "%s: %s", o->binary, strerror(code));
        close(pair[0]);
        u->pid = 0;
        return false;
    }
    u->pipe = pair[0];
    u->len = 0;
    u->by = clock_ms() + START_MS;
    return true;
}

static void end(struct upgrade *u)
{
    close(u->pipe);
    u->pipe = -1;
    u->pid = 0;
}

static void note(struct upgrade *u, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(struct upgrade *u, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(u->said + u->len, sizeof u->said - u->len, format, args);
    va_end(args);
    u->len = strlen(u->said);
}

static enum upgrade_news failed(struct upgrade *u, bool late)
{
    int status = 0;
    u->said[u->len] = 0;
    if (late)
        kill(u->pid, SIGKILL);
    waitpid(u->pid, &status, 0);
    if (late)
        note(u, "it did not run within %d s\n", START_MS / 1000);
    else if (WIFSIGNALED(status))
        note(u, "it was ended by signal %d\n", WTERMSIG(status));
    else if (!u->len)
        note(u, "it ended with %d; see the log\n", WEXITSTATUS(status));
    end(u);
    return UPGRADE_FAILED;
}

enum upgrade_news upgrade_turn(struct upgrade *u)
{
    ssize_t n;
    char more[512];
    while ((n = read(u->pipe, more, sizeof more)) > 0) {
        size_t take = min_size((size_t)n, sizeof u->said - 256 - u->len);
        memcpy(u->said + u->len, more, take);
        u->len += take;
    }
    if (u->len >= strlen(ready_word) && memcmp(u->said, ready_word, strlen(ready_word)) == 0) {
        end(u);
        return UPGRADE_RUNS;
    }
    if (n == 0 || clock_ms() >= u->by)
        return failed(u, n != 0);
    return UPGRADE_STARTS;
}

/* ---- the new process ---- */

/* "FD", or "FD TEXT". */
static int descriptor(const char *variable, char *rest, size_t room)
{
    const char *text = getenv(variable);
    char *end = NULL;
    long fd = text ? strtol(text, &end, 10) : -1;
    bool good = text && end != text && (!*end || *end == ' ') && fd > 2 && fd < INT_MAX &&
                fcntl((int)fd, F_SETFD, FD_CLOEXEC) == 0;
    if (good && rest)
        snprintf(rest, room, "%s", *end ? end + 1 : "");
    unsetenv(variable);
    return good ? (int)fd : -1;
}

struct inheritance upgrade_inherit(void)
{
    struct inheritance i = {.ready = descriptor("SLUICE_READY", NULL, 0)};
    i.control = descriptor("SLUICE_CONTROL", i.control_path, sizeof i.control_path);
    i.stores = descriptor("SLUICE_STORES", NULL, 0);
    int tickets = descriptor("SLUICE_TICKETS", NULL, 0);
    if (tickets >= 0)
        tls_tickets_take(tickets);
    return i;
}

/* A store that is no longer configured is read too, to reach those after it. */
static bool take_store(FILE *from, uint32_t name_len, const struct conf *conf)
{
    char name[256];
    struct store *store = NULL;
    if (name_len >= sizeof name || fread(name, 1, name_len, from) != name_len)
        return false;
    for (size_t i = 0; i < conf->smtp.mail.nstores && !store; i++)
        if (str_equal(conf->smtp.mail.stores[i].name, (struct str){name, name_len}))
            store = store_hold(conf->smtp.mail.stores[i].store);
    if (!store)
        store = store_memory_open(0);
    bool good = store_memory_take(store, from);
    store_drop(store);
    return good;
}

void upgrade_take_stores(struct inheritance *inherited, const struct conf *conf)
{
    FILE *from = inherited->stores < 0 ? NULL : fdopen(inherited->stores, "r");
    uint32_t len;
    bool good = true;
    if (!from)
        return;
    rewind(from); /* the offset is shared with the writer, and at the end */
    while (good && fread(&len, sizeof len, 1, from) == 1)
        good = take_store(from, len, conf);
    if (!good)
        log_say(LOG_WARNING, "upgrade: what the process before us held in memory stores is not all understood: some begin empty");
    fclose(from);
    inherited->stores = -1;
}

void upgrade_say(struct inheritance *i, const char *text)
{
    if (i->ready < 0)
        return;
    ssize_t n = write(i->ready, text, strlen(text));
    (void)n;
}

void upgrade_ready(struct inheritance *i)
{
    upgrade_say(i, ready_word);
    if (i->ready >= 0)
        close(i->ready);
    i->ready = -1;
}
