/* process.c - the main thread while mail is filtered: waits for signals, commands and workers, and changes what runs.
 *
 * Owns the configurations, the ports, the workers, the control socket. A change is whole or none:
 * everything that can fail (loading, binding) comes before the first worker hears of it. Never touches mail. */
#include "process/process.h"
#include "base/fault.h"
#include "conf/conf.h"
#include "process/control.h"
#include "process/environment.h"
#include "process/notify.h"
#include "process/privileges.h"
#include "process/status.h"
#include "process/upgrade.h"
#include "smtp/back/backend.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LOG_PATIENCE = 1000 }; /* milliseconds: at the end, for a log that nobody reads */

struct house {
    struct house_arguments arguments;
    const char *binary;
    struct conf *conf;
    struct conf **old; /* held until no worker does: they end here, not amid mail; what main's thread took it gives back */
    size_t nold;
    struct ports ports;
    struct ports_plan plan; /* of conf: which address is which port */
    struct workers *workers;
    struct control *control;
    struct upgrade upgrade;
    struct caller *upgrader; /* who waits for it; may be nobody */
    struct inheritance inherited;
    int64_t started;   /* seconds */
    uint64_t sign_at;  /* milliseconds: the next sign of life; 0: nobody wants one */
    int signals, bell; /* bell: a worker has come to its end */
    int pid_file;      /* -1: none */
    unsigned asked;    /* to end: once drains, twice stops */
    bool retired;      /* another process has taken over */
};

static void log_complaints(const struct complaints *c)
{
    for (const struct complaint *one = c->first; one; one = one->next) {
        char line[16] = "";
        if (one->line)
            snprintf(line, sizeof line, ":%u", one->line);
        log_say(one->warning ? LOG_WARNING : LOG_ERROR, "%.*s%s: %.*s", STR_ARGS(one->file), line, STR_ARGS(one->text));
    }
}

static void notify_ready(struct house *h)
{
    char line[256];
    status_line(line, sizeof line, h->conf);
    notify_say("READY=1\nSTATUS=%s", line);
}

/* ---- control socket ---- */

/* The one of this configuration; *to NULL when it names none. What is open at the same path already is taken. */
static bool open_control(struct house *h, const struct conf *conf, struct control **to, struct complaints *c)
{
    char error[512];
    *to = NULL;
    if (!conf->control.len)
        return true;
    if (h->control && strcmp(control_path(h->control), conf->control.at) == 0) {
        *to = h->control;
        return true;
    }
    bool there = h->inherited.control >= 0 && strcmp(h->inherited.control_path, conf->control.at) == 0;
    *to = control_open(conf->control.at, there ? h->inherited.control : -1, privileges_user(conf->user), error,
                       sizeof error);
    if (there)
        h->inherited.control = -1;
    if (!*to)
        complain(c, false, conf->mail.path, 0, "%s", error);
    return *to != NULL;
}

/* Who asked for it over the socket of before is still to be answered. */
static void set_control(struct house *h, struct control *control)
{
    if (!h->control)
        h->control = control;
    else if (h->control != control)
        control_move(h->control, control);
}

/* ---- the log ---- */

/* Its target, opened as who will write it. False: complained of. */
static bool open_log(const struct conf *conf, int *fd, struct complaints *c)
{
    char error[512];
    unsigned user = privileges_user(conf->user);
    bool stands_in = conf->log.target == LOG_TO_FILE && privileges_stand_in(user, conf->log.path.at);
    *fd = log_open(&conf->log, user, error, sizeof error);
    privileges_back(stands_in);
    if (*fd < 0)
        complain(c, false, conf->mail.path, 0, "log: %s", error);
    return *fd >= 0;
}

/* ---- reload ---- */

static void warn_of_what_stays(const struct conf *now, struct conf *next, struct complaints *c)
{
    if (next->workers != now->workers)
        complain(c, true, next->mail.path, 0, "workers: %u threads run; %u need a restart", now->workers, next->workers);
    if (!str_equal(next->user, now->user))
        complain(c, true, next->mail.path, 0, "user: another user needs a restart");
    next->workers = now->workers;
}

static void switch_to(struct house *h, struct conf *conf, struct ports_plan *plan, struct worker_order *order, int log)
{
    struct conf *old = h->conf;
    conf_take_over(conf, old);
    log_set(&conf->log, log);
    ports_keep(&h->ports, plan);
    workers_switch(h->workers, order);
    ports_opened(&h->ports, plan);
    plan_clear(&h->plan);
    h->plan = *plan;
    h->conf = conf;
    h->old = must_grow(h->old, (h->nold + 1) * sizeof *h->old);
    h->old[h->nold++] = old;
}

static void drop_old(struct house *h, bool all)
{
    for (size_t i = 0; i < h->nold; i++)
        if (all || conf_is_left(h->old[i])) {
            conf_drop(h->old[i]);
            h->old[i--] = h->old[--h->nold];
        }
}

/* All that can fail, before anything is changed. NULL: complained of. */
static struct worker_order *prepare(struct house *h, struct conf *conf, struct ports_plan *plan, struct complaints *c)
{
    char error[200];
    if (!ports_plan(&h->ports, conf, h->conf->workers, plan, c))
        return NULL;
    struct worker_order *order = workers_prepare(h->workers, conf, plan, error, sizeof error);
    if (!order) {
        complain(c, false, conf->mail.path, 0, "%s", error);
        ports_forgo(&h->ports, plan);
    }
    return order;
}

/* Whole or not at all. What is wrong is logged, and said to `to` (NULL: to nobody else). */
static bool reload(struct house *h, FILE *to)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct control *control = NULL;
    struct ports_plan plan;
    int log = -1;
    notify_reloading();
    struct conf *conf = conf_load(h->arguments.conf, &c);
    bool good = conf && open_log(conf, &log, &c) && open_control(h, conf, &control, &c);
    struct worker_order *order = good ? prepare(h, conf, &plan, &c) : NULL;
    if (good && !order) {
        good = false;
        if (control != h->control)
            control_close(&control, false);
    }
    if (!good && log > 2)
        close(log);
    if (good) {
        warn_of_what_stays(h->conf, conf, &c);
        set_control(h, control);
        switch_to(h, conf, &plan, order, log);
    } else {
        conf_drop(conf);
    }
    log_complaints(&c);
    if (to)
        complaints_say(to, &c);
    if (good)
        log_say(LOG_INFO, "reloaded: generation %u, configuration %s", h->conf->generation, h->arguments.conf);
    else
        log_say(LOG_ERROR, "not reloaded: %u mistake%s; the configuration stays as it is", c.errors,
                c.errors == 1 ? "" : "s");
    if (good && to)
        fprintf(to, "reloaded: generation %u\n", h->conf->generation);
    notify_ready(h);
    arena_reset(&arena);
    return good;
}

/* ---- drain, end ---- */

static void end(struct house *h)
{
    if (h->upgrade.pid)
        kill(h->upgrade.pid, SIGTERM);
    if (!h->retired)
        notify_say("STOPPING=1");
    if (h->asked++ == 0) {
        log_say(LOG_INFO, "draining: no new clients; once more to stop at once");
        ports_close(&h->ports, NULL, &h->plan);
        workers_drain(h->workers);
    } else {
        log_say(LOG_WARNING, "stopping at once");
        workers_stop(h->workers);
    }
}

/* One listener: its port is closed until the next reload, its sessions are asked to leave. False: there is none of the
 * name. */
static bool drain_listener(struct house *h, struct str name)
{
    struct inlet inlet = inlet_named(h->conf, name);
    const struct address *unused;
    if (!inlet.listen && !inlet.milter)
        return false;
    uint32_t *doors = must_alloc(inlet_addresses(inlet, &unused) * sizeof *doors);
    size_t n = 0;
    for (size_t i = 0; i < h->plan.nplaces; i++)
        if (inlet_conf(h->plan.places[i].inlet) == inlet_conf(inlet) && h->plan.places[i].port)
            doors[n++] = h->plan.places[i].door;
    log_say(LOG_INFO, "draining %s \"%.*s\": a reload opens it again", inlet_kind(inlet), STR_ARGS(name));
    ports_close(&h->ports, inlet_conf(inlet), &h->plan);
    workers_drain_doors(h->workers, doors, n);
    free(doors);
    return true;
}

/* ---- upgrade ---- */

static bool begin_upgrade(struct house *h, char *error, size_t room)
{
    const char *argv[8] = {h->arguments.name, "run", "-c", h->arguments.conf};
    if (h->arguments.pid_file) {
        argv[4] = "--pid-file";
        argv[5] = h->arguments.pid_file;
    }
    struct upgrade_order order = {.binary = h->binary,
                                  .argv = (char *const *)argv,
                                  .ports = &h->ports,
                                  .conf = h->conf,
                                  .control = control_socket(h->control),
                                  .control_path = control_path(h->control)};
    bool good = upgrade_begin(&h->upgrade, &order, error, room);
    if (good)
        log_say(LOG_INFO, "upgrade: process %ld starts from %s", (long)h->upgrade.pid, h->binary);
    else
        log_say(LOG_ERROR, "upgrade: %s; this process goes on", error);
    return good;
}

static void tell_upgrader(struct house *h, int code, const char *text)
{
    if (h->upgrader)
        control_answer(h->upgrader, code, str_of(text));
    h->upgrader = NULL;
}

/* The sockets live on in the other process: here they are only let go. */
static void retire(struct house *h, long successor)
{
    char text[128];
    snprintf(text, sizeof text, "process %ld has taken over from %ld\n", successor, (long)getpid());
    log_say(LOG_INFO, "upgrade: process %ld runs; this one ends with its sessions", successor);
    notify_say("MAINPID=%ld\nWATCHDOG=1", successor);
    h->retired = true;
    h->sign_at = 0;
    tell_upgrader(h, 0, text);
    control_close(&h->control, true);
    ports_release(&h->ports);
    plan_clear(&h->plan);
    workers_retire(h->workers);
}

static void look_at_upgrade(struct house *h)
{
    long pid = h->upgrade.pid;
    if (!pid)
        return;
    enum upgrade_news news = upgrade_turn(&h->upgrade);
    if (news == UPGRADE_RUNS)
        retire(h, pid);
    if (news != UPGRADE_FAILED)
        return;
    log_say(LOG_ERROR, "upgrade: process %ld failed, this one goes on: %.*s", pid, (int)strcspn(h->upgrade.said, "\n"),
            h->upgrade.said);
    tell_upgrader(h, 1, h->upgrade.said);
}

/* ---- commands ---- */

static void answer_no_listener(struct house *h, struct caller *caller, struct str name)
{
    char text[256];
    const char *names[256];
    size_t n = min_size(h->conf->nlistens + h->conf->nmilters, countof(names));
    for (size_t i = 0; i < n; i++)
        names[i] = inlet_conf(inlet_at(h->conf, i))->name.at;
    struct str near = nearest_name(name, names, n);
    snprintf(text, sizeof text,
             near.at ? "there is no listener \"%.*s\" (did you mean \"%s\"?)\n" : "there is no listener \"%.*s\"\n",
             STR_ARGS(name), near.at);
    control_answer(caller, 2, str_of(text));
}

static void obey_reload(void *data, struct caller *caller, struct str argument)
{
    struct house *h = data;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    must(to);
    bool good = reload(h, to);
    fclose(to);
    control_answer(caller, good ? 0 : 2, (struct str){text, len});
    free(text);
}

static void obey_status(void *data, struct caller *caller, struct str argument)
{
    struct house *h = data;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    must(to);
    status_say(to, h->started, h->conf, &h->plan, h->workers);
    if (h->asked)
        fputs("draining: it ends with its last session\n", to);
    if (log_dropped())
        fprintf(to, "log: %llu lines were lost\n", (unsigned long long)log_dropped());
    if (h->upgrade.pid)
        fprintf(to, "upgrade: process %ld starts\n", (long)h->upgrade.pid);
    fclose(to);
    control_answer(caller, 0, (struct str){text, len});
    free(text);
}

static void obey_upgrade(void *data, struct caller *caller, struct str argument)
{
    struct house *h = data;
    char error[512];
    if (!begin_upgrade(h, error, sizeof error))
        control_answer(caller, 1, str_of(error));
    else
        h->upgrader = caller;
}

static void obey_stop(void *data, struct caller *caller, struct str argument)
{
    struct house *h = data;
    end(h); /* who has heard the answer finds the ports closed */
    control_answer(caller, 0,
                   h->asked > 1 ? STR("stopping at once\n") : STR("draining: it ends with its last session\n"));
}

static void obey_drain(void *data, struct caller *caller, struct str argument)
{
    struct house *h = data;
    if (!argument.len)
        obey_stop(h, caller, argument);
    else if (drain_listener(h, argument))
        control_answer(caller, 0, STR("it is draining; sluice reload opens it again\n"));
    else
        answer_no_listener(h, caller, argument);
}

static void obey(void *data, struct caller *caller, struct str word, struct str argument)
{
    static const struct control_order orders[] = {
        {"reload", "", true, obey_reload},
        {"drain", " [LISTENER]", true, obey_drain},
        {"status", "", false, obey_status},
        {"upgrade", "", true, obey_upgrade},
        {"stop", "", false, obey_stop},
#ifdef SLUICE_FAULTS
        {"fail", NULL, false, control_obey_fail},
#endif
    };
    struct house *h = data;
    const struct control_order *order = control_order_named(orders, countof(orders), word);
    if (!order)
        control_answer_unknown(caller, orders, countof(orders));
    else if (order->changes && h->asked)
        control_answer(caller, 1, STR("it is draining: too late for that\n"));
    else if (order->changes && h->upgrade.pid)
        control_answer(caller, 1, STR("an upgrade is under way\n"));
    else
        order->run(h, caller, argument);
}

/* ---- signals ---- */

static void ring(void *data) /* from a worker's thread */
{
    uint64_t one = 1;
    ssize_t n = write(*(int *)data, &one, sizeof one);
    (void)n;
}

/* Signals are read like any other input: no handler runs in the middle of anything. They are blocked before the first
 * thread begins, so that none of them is killed by one. */
static int signals_open(void)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < countof(taken); i++)
        sigaddset(&set, taken[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit (ulimit -f) is a full disk */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void obey_signal(struct house *h, int signo)
{
    const char *name = signo == SIGHUP ? "SIGHUP" : "SIGUSR2";
    char error[512];
    if (h->asked || h->retired) {
        log_say(LOG_WARNING, "%s: this process is ending", name);
    } else if (h->upgrade.pid) {
        log_say(LOG_WARNING, "%s: an upgrade is under way", name);
    } else if (signo == SIGUSR2) {
        begin_upgrade(h, error, sizeof error);
    } else {
        reload(h, NULL);
        log_reopen();
    }
}

static void take_signals(struct house *h)
{
    struct signalfd_siginfo info;
    bool hangup = false, replace = false;
    while (read(h->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGHUP)
            hangup = true;
        else if (info.ssi_signo == SIGUSR2)
            replace = true;
        else
            end(h);
    if (hangup)
        obey_signal(h, SIGHUP);
    if (replace)
        obey_signal(h, SIGUSR2);
}

/* A sign of life only while every worker's loop turns. */
static void give_sign(struct house *h)
{
    uint64_t now = clock_ms();
    if (!h->sign_at || now < h->sign_at)
        return;
    h->sign_at = now + (uint64_t)notify_watchdog();
    if (workers_turn(h->workers))
        notify_say("WATCHDOG=1");
    else
        log_say(LOG_ERROR, "a worker's loop does not turn: no sign of life for the supervisor");
}

/* ---- from the start to the end ---- */

static void wait_once(struct house *h)
{
    struct pollfd fds[3 + CONTROL_FDS] = {{.fd = h->signals, .events = POLLIN}, {.fd = h->bell, .events = POLLIN}};
    int wait = -1;
    uint64_t count, now = clock_ms();
    size_t first = 2;
    if (h->upgrade.pid) {
        fds[first++] = (struct pollfd){.fd = h->upgrade.pipe, .events = POLLIN};
        wait = 1000;
    }
    if (h->nold) /* an old generation may end at any time */
        wait = 1000;
    if (h->sign_at && (wait < 0 || h->sign_at < now + (uint64_t)wait))
        wait = h->sign_at > now ? (int)(h->sign_at - now) : 0;
    size_t n = control_polls(h->control, fds + first, &wait);
    log_flush();
    if (poll(fds, first + n, wait) < 0)
        return; /* EINTR: nothing is ready */
    ssize_t got = read(h->bell, &count, sizeof count);
    (void)got;
    drop_old(h, false);
    take_signals(h);
    look_at_upgrade(h);
    control_turn(h->control, fds + first, n, obey, h);
    give_sign(h);
}

/* Complaints go where the one who starts us looks: to stderr, or to the process that we are to replace. */
static void say_complaints(struct house *h, const struct complaints *c)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);
    must(to);
    complaints_say(to, c);
    fclose(to);
    fputs(text, stderr);
    if (c->errors)
        upgrade_say(&h->inherited, text);
    free(text);
}

static bool load(struct house *h)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    h->conf = conf_load(h->arguments.conf, &c);
    say_complaints(h, &c);
    arena_reset(&arena);
    if (h->conf)
        upgrade_take_stores(&h->inherited, h->conf);
    return h->conf != NULL;
}

static bool bind_all(struct house *h)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    h->ports.user = privileges_user(h->conf->user);
    h->ports.lent = h->inherited.ready >= 0;
    ports_inherit(&h->ports);
    bool good =
        open_control(h, h->conf, &h->control, &c) && ports_plan(&h->ports, h->conf, h->conf->workers, &h->plan, &c);
    if (!good)
        say_complaints(h, &c);
    arena_reset(&arena);
    return good;
}

/* Nothing can fail any more: what the process before us left is ours, and what the configuration no longer names of it
 * goes. */
static void take_over(struct house *h)
{
    h->ports.lent = false;
    ports_keep(&h->ports, &h->plan);
    if (h->inherited.control >= 0) {
        unlink(h->inherited.control_path);
        close(h->inherited.control);
        h->inherited.control = -1;
    }
}

/* Opened while it may be; written when we run. It is the user's, who is to write it at an upgrade. */
static bool open_pid_file(struct house *h)
{
    const char *path = h->arguments.pid_file;
    if (!path)
        return true;
    unsigned user = privileges_user(h->conf->user);
    bool stands_in = privileges_stand_in(user, path);
    h->pid_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int saved = errno;
    privileges_back(stands_in);
    errno = saved;
    if (h->pid_file < 0 || (user != (unsigned)-1 && !stands_in && fchown(h->pid_file, user, (gid_t)-1) != 0)) {
        log_say(LOG_ERROR, "%s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static void write_pid_file(struct house *h)
{
    if (h->pid_file >= 0 && (ftruncate(h->pid_file, 0) != 0 || dprintf(h->pid_file, "%ld\n", (long)getpid()) < 0))
        log_say(LOG_WARNING, "%s: %s", h->arguments.pid_file, strerror(errno));
}

static void drop_pid_file(struct house *h)
{
    char text[32] = "";
    if (h->pid_file < 0)
        return;
    if (pread(h->pid_file, text, sizeof text - 1, 0) > 0 && strtol(text, NULL, 10) == (long)getpid() &&
        unlink(h->arguments.pid_file) != 0 && ftruncate(h->pid_file, 0) != 0)
        log_say(LOG_WARNING, "%s: %s", h->arguments.pid_file, strerror(errno));
    close(h->pid_file);
}

/* What root could read and the user cannot will fail a reload, an upgrade and a change of certificates: said now, not
 * then. And who stays root is told so. */
static void log_doubts(struct house *h, bool was_root)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    environment_root(h->conf, &c);
    if (was_root && geteuid() != 0)
        environment_files(h->conf, &c);
    log_complaints(&c);
    arena_reset(&arena);
}

static bool set_log(struct house *h)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    int fd;
    bool good = open_log(h->conf, &fd, &c);
    if (good)
        log_set(&h->conf->log, fd);
    else
        say_complaints(h, &c);
    arena_reset(&arena);
    return good;
}

static bool start(struct house *h)
{
    bool was_root = geteuid() == 0;
    if (!set_log(h))
        return false;
    privileges_raise_descriptors();
    h->signals = signals_open();
    h->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!bind_all(h) || !open_pid_file(h) || !privileges_drop(h->conf->user))
        return false;
    log_start(); /* behind privileges_drop: a capability is given up by one thread, for itself alone */
    log_doubts(h, was_root);
    h->workers = workers_start(h->conf, &h->plan, ring, &h->bell);
    if (!h->workers)
        return false;
    ports_opened(&h->ports, &h->plan);
    take_over(h);
    h->started = (int64_t)(clock_ms() / 1000);
    h->sign_at = notify_watchdog() ? clock_ms() : 0;
    log_say(LOG_INFO, "Sluice " SLUICE_VERSION " runs with %u workers, configuration %s", h->conf->workers,
            h->arguments.conf);
    write_pid_file(h);
    upgrade_ready(&h->inherited);
    notify_ready(h);
    return true;
}

static void leave(struct house *h)
{
    bool lent = h->ports.lent && strcmp(control_path(h->control), h->inherited.control_path) == 0;
    control_close(&h->control, h->retired || lent);
    ports_close(&h->ports, NULL, &h->plan);
    ports_release(&h->ports);
    plan_clear(&h->plan);
    drop_pid_file(h);
    if (h->signals >= 0)
        close(h->signals);
    if (h->bell >= 0)
        close(h->bell);
    drop_old(h, true);
    free(h->old);
    conf_drop(h->conf);
    log_flush();
}

int house_run(const struct house_arguments *arguments)
{
    struct house h = {.arguments = *arguments, .signals = -1, .bell = -1, .pid_file = -1};
    h.binary = upgrade_binary(arguments->name);
    h.inherited = upgrade_inherit();
    if (!load(&h))
        return 2;
    if (!start(&h)) {
        leave(&h);
        log_stop(LOG_PATIENCE);
        return 1;
    }
    while (!workers_ended(h.workers))
        wait_once(&h);
    if (!workers_close(&h.workers)) {
        drop_pid_file(&h);
        log_stop(LOG_PATIENCE);
        _exit(0); /* sessions were cut off where they stood: nothing of theirs can be put in order */
    }
    maildir_stop();
    servers_forget();
    leave(&h);
    log_say(LOG_INFO, "ended");
    log_stop(LOG_PATIENCE);
    return 0;
}
