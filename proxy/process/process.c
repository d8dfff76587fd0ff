/* process.c - the main thread: waits for signals, commands and workers, and carries out reload, drain, upgrade and stop.
 *
 * Owns the configurations, the ports, the workers and the control socket. A change happens completely or not at all: everything that can
 * fail (loading, binding) is done before the first worker gets an order. It does not handle mail. */
#include "process/process.h"
#include "base/fault.h"
#include "conf/conf.h"
#include "process/control.h"
#include "process/environment.h"
#include "process/image.h"
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

enum { LOG_PATIENCE = 1000 }; /* milliseconds that the end of the process waits for the log to be written */

struct process {
    struct process_arguments arguments;
    const char *binary;
    struct conf *conf;
    struct conf **old; /* earlier configurations, kept until no worker uses them, so that main's thread frees them and not a worker */
    size_t nold;
    struct ports ports;
    struct ports_plan plan; /* the socket of each address of conf */
    struct workers *workers;
    struct control *control;
    struct upgrade upgrade;
    struct caller *upgrader; /* the connection that has ordered the upgrade; NULL: a signal has */
    struct inheritance inherited;
    int64_t started;   /* seconds */
    uint64_t sign_at;  /* time of the next watchdog notification, in milliseconds; 0: no watchdog */
    int signals, bell; /* signalfd; eventfd that a worker writes to when it ends */
    int pid_file;      /* -1: none */
    unsigned asked;    /* how often the end was ordered: once drains, twice stops */
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

static void notify_ready(struct process *p)
{
    char line[256];
    status_line(line, sizeof line, p->conf);
    notify_say("READY=1\nSTATUS=%s", line);
}

/* ---- control socket ---- */

/* Opens the control socket of this configuration; *to NULL when it names none. A socket that is open at the same path is kept. */
static bool open_control(struct process *p, const struct conf *conf, struct control **to, struct complaints *c)
{
    char error[512];
    *to = NULL;
    if (!conf->control.len)
        return true;
    if (p->control && strcmp(control_path(p->control), conf->control.at) == 0) {
        *to = p->control;
        return true;
    }
    bool there = p->inherited.control >= 0 && strcmp(p->inherited.control_path, conf->control.at) == 0;
    *to = control_open(conf->control.at, there ? p->inherited.control : -1, privileges_user(conf->user), error,
                       sizeof error);
    if (there)
        p->inherited.control = -1;
    if (!*to)
        complain(c, false, conf->smtp.mail.path, 0, "%s", error);
    return *to != NULL;
}

/* The caller that has ordered the change came by the old socket and still gets its answer. */
static void set_control(struct process *p, struct control *control)
{
    if (!p->control)
        p->control = control;
    else if (p->control != control)
        control_move(p->control, control);
}

/* ---- the log ---- */

/* Opens the target of the log for the user who will write it. False: failed, with a complaint. */
static bool open_log(const struct conf *conf, int *fd, struct complaints *c)
{
    char error[512];
    unsigned user = privileges_user(conf->user);
    bool stands_in = conf->log.target == LOG_TO_FILE && privileges_stand_in(user, conf->log.path.at);
    *fd = log_open(&conf->log, user, error, sizeof error);
    privileges_back(stands_in);
    if (*fd < 0)
        complain(c, false, conf->smtp.mail.path, 0, "log: %s", error);
    return *fd >= 0;
}

/* ---- reload ---- */

static void warn_of_what_stays(const struct conf *now, struct conf *next, struct complaints *c)
{
    if (next->smtp.workers != now->smtp.workers)
        complain(c, true, next->smtp.mail.path, 0, "workers: %u threads run; %u need a restart", now->smtp.workers, next->smtp.workers);
    if (!str_equal(next->user, now->user))
        complain(c, true, next->smtp.mail.path, 0, "user: another user needs a restart");
    next->smtp.workers = now->smtp.workers;
}

static void switch_to(struct process *p, struct conf *conf, struct ports_plan *plan, struct worker_order *order, int log)
{
    struct conf *old = p->conf;
    conf_take_over(conf, old);
    log_set(&conf->log, log);
    ports_keep(&p->ports, plan);
    workers_switch(p->workers, order);
    ports_opened(&p->ports, plan);
    plan_clear(&p->plan);
    p->plan = *plan;
    p->conf = conf;
    p->old = must_grow(p->old, (p->nold + 1) * sizeof *p->old);
    p->old[p->nold++] = old;
}

static void drop_old(struct process *p, bool all)
{
    for (size_t i = 0; i < p->nold; i++)
        if (all || conf_is_left(p->old[i])) {
            conf_drop(p->old[i]);
            p->old[i--] = p->old[--p->nold];
        }
}

/* Does everything that can fail, before anything is changed. NULL: failed, with complaints. */
static struct worker_order *prepare(struct process *p, struct conf *conf, struct ports_plan *plan, struct complaints *c)
{
    char error[200];
    if (!ports_plan(&p->ports, conf, p->conf->smtp.workers, plan, c))
        return NULL;
    struct worker_order *order = workers_prepare(p->workers, conf, plan, error, sizeof error);
    if (!order) {
        complain(c, false, conf->smtp.mail.path, 0, "%s", error);
        ports_forgo(&p->ports, plan);
    }
    return order;
}

/* Reloads completely or not at all. Mistakes are logged, and also written to `to` if it is not NULL. */
static bool reload(struct process *p, FILE *to)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct control *control = NULL;
    struct ports_plan plan;
    int log = -1;
    notify_reloading();
    struct conf *conf = conf_load(p->arguments.conf, &c);
    bool good = conf && open_log(conf, &log, &c) && open_control(p, conf, &control, &c);
    struct worker_order *order = good ? prepare(p, conf, &plan, &c) : NULL;
    if (good && !order) {
        good = false;
        if (control != p->control)
            control_close(&control, false);
    }
    if (!good && log > 2)
        close(log);
    if (good) {
        warn_of_what_stays(p->conf, conf, &c);
        set_control(p, control);
        switch_to(p, conf, &plan, order, log);
    } else {
        conf_drop(conf);
    }
    log_complaints(&c);
    if (to)
        complaints_say(to, &c);
    if (good)
        log_say(LOG_INFO, "reloaded: generation %u, configuration %s", p->conf->smtp.generation, p->arguments.conf);
    else
        log_say(LOG_ERROR, "not reloaded: %u mistake%s; the configuration stays as it is", c.errors,
                c.errors == 1 ? "" : "s");
    if (good && to)
        fprintf(to, "reloaded: generation %u\n", p->conf->smtp.generation);
    notify_ready(p);
    arena_reset(&arena);
    return good;
}

/* ---- drain, end ---- */

static void end(struct process *p)
{
    if (p->upgrade.pid)
        kill(p->upgrade.pid, SIGTERM);
    if (!p->retired)
        notify_say("STOPPING=1");
    if (p->asked++ == 0) {
        log_say(LOG_INFO, "draining: no new clients; once more to stop at once");
        ports_close(&p->ports, NULL, &p->plan);
        workers_drain(p->workers);
    } else {
        log_say(LOG_WARNING, "stopping at once");
        workers_stop(p->workers);
    }
}

/* Drains one listener: closes its port until the next reload and asks its sessions to leave. False: there is none of this name. */
static bool drain_listener(struct process *p, struct str name)
{
    struct inlet inlet = inlet_named(p->conf, name);
    const struct address *unused;
    if (!inlet.listen && !inlet.milter)
        return false;
    uint32_t *listen_ids = must_alloc(inlet_addresses(inlet, &unused) * sizeof *listen_ids);
    size_t n = 0;
    for (size_t i = 0; i < p->plan.nplaces; i++)
        if (inlet_conf(p->plan.places[i].inlet) == inlet_conf(inlet) && p->plan.places[i].port)
            listen_ids[n++] = p->plan.places[i].listen_id;
    log_say(LOG_INFO, "draining %s \"%.*s\": a reload opens it again", inlet_kind(inlet), STR_ARGS(name));
    ports_close(&p->ports, inlet_conf(inlet), &p->plan);
    workers_drain_listeners(p->workers, listen_ids, n);
    free(listen_ids);
    return true;
}

/* ---- upgrade ---- */

static bool begin_upgrade(struct process *p, char *error, size_t room)
{
    const char *argv[8] = {p->arguments.name, "run", "-c", p->arguments.conf};
    if (p->arguments.pid_file) {
        argv[4] = "--pid-file";
        argv[5] = p->arguments.pid_file;
    }
    struct upgrade_order order = {.binary = p->binary,
                                  .argv = (char *const *)argv,
                                  .ports = &p->ports,
                                  .conf = p->conf,
                                  .control = control_socket(p->control),
                                  .control_path = control_path(p->control)};
    bool good = upgrade_begin(&p->upgrade, &order, error, room);
    if (good)
        log_say(LOG_INFO, "upgrade: process %ld starts from %s", (long)p->upgrade.pid, p->binary);
    else
        log_say(LOG_ERROR, "upgrade: %s; this process goes on", error);
    return good;
}

static void tell_upgrader(struct process *p, int code, const char *text)
{
    if (p->upgrader)
        control_answer(p->upgrader, code, str_of(text));
    p->upgrader = NULL;
}

/* The next process uses the sockets, so here they are only closed, and paths are not unlinked. */
static void retire(struct process *p, long successor)
{
    char text[128];
    snprintf(text, sizeof text, "process %ld has taken over from %ld\n", successor, (long)getpid());
    log_say(LOG_INFO, "upgrade: process %ld runs; this one ends with its sessions", successor);
    notify_say("MAINPID=%ld\nWATCHDOG=1", successor);
    p->retired = true;
    p->sign_at = 0;
    tell_upgrader(p, 0, text);
    control_close(&p->control, true);
    ports_release(&p->ports);
    plan_clear(&p->plan);
    workers_retire(p->workers);
}

static void look_at_upgrade(struct process *p)
{
    long pid = p->upgrade.pid;
    if (!pid)
        return;
    enum upgrade_news news = upgrade_turn(&p->upgrade);
    if (news == UPGRADE_RUNS)
        retire(p, pid);
    if (news != UPGRADE_FAILED)
        return;
    log_say(LOG_ERROR, "upgrade: process %ld failed, this one goes on: %.*s", pid, (int)strcspn(p->upgrade.said, "\n"),
            p->upgrade.said);
    tell_upgrader(p, 1, p->upgrade.said);
}

/* ---- commands ---- */

static void answer_no_listener(struct process *p, struct caller *caller, struct str name)
{
    char text[256];
    const char *names[256];
    size_t n = min_size(p->conf->smtp.nlistens + p->conf->nmilters, countof(names));
    for (size_t i = 0; i < n; i++)
        names[i] = inlet_conf(inlet_at(p->conf, i))->name.at;
    struct str near = nearest_name(name, names, n);
    snprintf(text, sizeof text,
             near.at ? "there is no listener \"%.*s\" (did you mean \"%s\"?)\n" : "there is no listener \"%.*s\"\n",
             STR_ARGS(name), near.at);
    control_answer(caller, 2, str_of(text));
}

static void obey_reload(void *data, struct caller *caller, struct str argument)
{
    struct process *p = data;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    must(to);
    bool good = reload(p, to);
    fclose(to);
    control_answer(caller, good ? 0 : 2, (struct str){text, len});
    free(text);
}

static void obey_status(void *data, struct caller *caller, struct str argument)
{
    struct process *p = data;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    must(to);
    status_say(to, p->started, p->conf, &p->plan, p->workers);
    if (p->asked)
        fputs("draining: it ends with its last session\n", to);
    if (log_dropped())
        fprintf(to, "log: %llu lines were lost\n", (unsigned long long)log_dropped());
    if (p->upgrade.pid)
        fprintf(to, "upgrade: process %ld starts\n", (long)p->upgrade.pid);
    fclose(to);
    control_answer(caller, 0, (struct str){text, len});
    free(text);
}

static void obey_image(void *data, struct caller *caller, struct str argument)
{
    image_answer(caller, ((struct process *)data)->conf, argument);
}

static void obey_upgrade(void *data, struct caller *caller, struct str argument)
{
    struct process *p = data;
    char error[512];
    if (!begin_upgrade(p, error, sizeof error))
        control_answer(caller, 1, str_of(error));
    else
        p->upgrader = caller;
}

static void obey_stop(void *data, struct caller *caller, struct str argument)
{
    struct process *p = data;
    end(p); /* before the answer, so that the ports are closed when the caller gets it */
    control_answer(caller, 0,
                   p->asked > 1 ? STR("stopping at once\n") : STR("draining: it ends with its last session\n"));
}

static void obey_drain(void *data, struct caller *caller, struct str argument)
{
    struct process *p = data;
    if (!argument.len)
        obey_stop(p, caller, argument);
    else if (drain_listener(p, argument))
        control_answer(caller, 0, STR("it is draining; sluice reload opens it again\n"));
    else
        answer_no_listener(p, caller, argument);
}

static void obey(void *data, struct caller *caller, struct str word, struct str argument)
{
    static const struct control_order orders[] = {
        {"reload", "", true, obey_reload},
        {"drain", " [LISTENER]", true, obey_drain},
        {"status", "", false, obey_status},
        {"upgrade", "", true, obey_upgrade},
        {"stop", "", false, obey_stop},
        {IMAGE_WORD, NULL, false, obey_image},
#ifdef SLUICE_FAULTS
        {"fail", NULL, false, control_obey_fail},
#endif
    };
    struct process *p = data;
    const struct control_order *order = control_order_named(orders, countof(orders), word);
    if (!order)
        control_answer_unknown(caller, orders, countof(orders));
    else if (order->changes && p->asked)
        control_answer(caller, 1, STR("it is draining: too late for that\n"));
    else if (order->changes && p->upgrade.pid)
        control_answer(caller, 1, STR("an upgrade is under way\n"));
    else
        order->run(p, caller, argument);
}

/* ---- signals ---- */

static void ring(void *data) /* from a worker's thread */
{
    uint64_t one = 1;
    ssize_t n = write(*(int *)data, &one, sizeof one);
    (void)n;
}

/* Signals are read from a signalfd, so there are no asynchronous handlers. They are blocked before the first thread starts, so that all
 * threads inherit the mask. */
static int signals_open(void)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < countof(taken); i++)
        sigaddset(&set, taken[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* exceeding the file size limit (ulimit -f) then is a write error, as a full disk */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void obey_signal(struct process *p, int signo)
{
    const char *name = signo == SIGHUP ? "SIGHUP" : "SIGUSR2";
    char error[512];
    if (p->asked || p->retired) {
        log_say(LOG_WARNING, "%s: this process is ending", name);
    } else if (p->upgrade.pid) {
        log_say(LOG_WARNING, "%s: an upgrade is under way", name);
    } else if (signo == SIGUSR2) {
        begin_upgrade(p, error, sizeof error);
    } else {
        reload(p, NULL);
        log_reopen();
    }
}

static void take_signals(struct process *p)
{
    struct signalfd_siginfo info;
    bool hangup = false, replace = false;
    while (read(p->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGHUP)
            hangup = true;
        else if (info.ssi_signo == SIGUSR2)
            replace = true;
        else
            end(p);
    if (hangup)
        obey_signal(p, SIGHUP);
    if (replace)
        obey_signal(p, SIGUSR2);
}

/* Notifies the watchdog only while the loop of every worker makes progress. */
static void give_sign(struct process *p)
{
    uint64_t now = clock_ms();
    if (!p->sign_at || now < p->sign_at)
        return;
    p->sign_at = now + (uint64_t)notify_watchdog();
    if (workers_turn(p->workers))
        notify_say("WATCHDOG=1");
    else
        log_say(LOG_ERROR, "a worker's loop does not turn: no sign of life for the supervisor");
}

/* ---- from the start to the end ---- */

static void wait_once(struct process *p)
{
    struct pollfd fds[3 + CONTROL_FDS] = {{.fd = p->signals, .events = POLLIN}, {.fd = p->bell, .events = POLLIN}};
    int wait = -1;
    uint64_t count, now = clock_ms();
    size_t first = 2;
    if (p->upgrade.pid) {
        fds[first++] = (struct pollfd){.fd = p->upgrade.pipe, .events = POLLIN};
        wait = 1000;
    }
    if (p->nold) /* wake up regularly to free old configurations */
        wait = 1000;
    if (p->sign_at && (wait < 0 || p->sign_at < now + (uint64_t)wait))
        wait = p->sign_at > now ? (int)(p->sign_at - now) : 0;
    size_t n = control_polls(p->control, fds + first, &wait);
    log_flush();
    if (poll(fds, first + n, wait) < 0)
        return; /* EINTR: nothing is ready */
    ssize_t got = read(p->bell, &count, sizeof count);
    (void)got;
    drop_old(p, false);
    take_signals(p);
    look_at_upgrade(p);
    control_turn(p->control, fds + first, n, obey, p);
    give_sign(p);
}

/* Reports complaints at the start: to stderr, or to the process that an upgrade replaces. */
static void say_complaints(struct process *p, const struct complaints *c)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);
    must(to);
    complaints_say(to, c);
    fclose(to);
    fputs(text, stderr);
    if (c->errors)
        upgrade_say(&p->inherited, text);
    free(text);
}

static bool load(struct process *p)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    p->conf = conf_load(p->arguments.conf, &c);
    say_complaints(p, &c);
    arena_reset(&arena);
    if (p->conf)
        upgrade_take_stores(&p->inherited, p->conf);
    return p->conf != NULL;
}

static bool bind_all(struct process *p)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    p->ports.user = privileges_user(p->conf->user);
    p->ports.lent = p->inherited.ready >= 0;
    ports_inherit(&p->ports);
    bool good =
        open_control(p, p->conf, &p->control, &c) && ports_plan(&p->ports, p->conf, p->conf->smtp.workers, &p->plan, &c);
    if (!good)
        say_complaints(p, &c);
    arena_reset(&arena);
    return good;
}

/* The start cannot fail any more: takes over the inherited sockets and closes those that the configuration does not name. */
static void take_over(struct process *p)
{
    p->ports.lent = false;
    ports_keep(&p->ports, &p->plan);
    if (p->inherited.control >= 0) {
        unlink(p->inherited.control_path);
        close(p->inherited.control);
        p->inherited.control = -1;
    }
}

/* Opens the pid file while the process is root; it is written later. It belongs to the configured user, who writes it at an upgrade. */
static bool open_pid_file(struct process *p)
{
    const char *path = p->arguments.pid_file;
    if (!path)
        return true;
    unsigned user = privileges_user(p->conf->user);
    bool stands_in = privileges_stand_in(user, path);
    p->pid_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int saved = errno;
    privileges_back(stands_in);
    errno = saved;
    if (p->pid_file < 0 || (user != (unsigned)-1 && !stands_in && fchown(p->pid_file, user, (gid_t)-1) != 0)) {
        log_say(LOG_ERROR, "%s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static void write_pid_file(struct process *p)
{
    if (p->pid_file >= 0 && (ftruncate(p->pid_file, 0) != 0 || dprintf(p->pid_file, "%ld\n", (long)getpid()) < 0))
        log_say(LOG_WARNING, "%s: %s", p->arguments.pid_file, strerror(errno));
}

static void drop_pid_file(struct process *p)
{
    char text[32] = "";
    if (p->pid_file < 0)
        return;
    if (pread(p->pid_file, text, sizeof text - 1, 0) > 0 && strtol(text, NULL, 10) == (long)getpid() &&
        unlink(p->arguments.pid_file) != 0 && ftruncate(p->pid_file, 0) != 0)
        log_say(LOG_WARNING, "%s: %s", p->arguments.pid_file, strerror(errno));
    close(p->pid_file);
}

/* Warns of files that the configured user cannot read, since a reload, an upgrade or a change of certificates would fail for them; and of
 * running as root. */
static void log_doubts(struct process *p, bool was_root)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    environment_root(p->conf, &c);
    if (was_root && geteuid() != 0)
        environment_files(p->conf, &c);
    log_complaints(&c);
    arena_reset(&arena);
}

static bool set_log(struct process *p)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    int fd;
    bool good = open_log(p->conf, &fd, &c);
    if (good)
        log_set(&p->conf->log, fd);
    else
        say_complaints(p, &c);
    arena_reset(&arena);
    return good;
}

static bool start(struct process *p)
{
    bool was_root = geteuid() == 0;
    if (!set_log(p))
        return false;
    privileges_raise_descriptors();
    p->signals = signals_open();
    p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!bind_all(p) || !open_pid_file(p) || !privileges_drop(p->conf->user))
        return false;
    log_start(); /* after privileges_drop, because capabilities are dropped per thread */
    log_doubts(p, was_root);
    p->workers = workers_start(p->conf, &p->plan, ring, &p->bell);
    if (!p->workers)
        return false;
    ports_opened(&p->ports, &p->plan);
    take_over(p);
    p->started = (int64_t)(clock_ms() / 1000);
    p->sign_at = notify_watchdog() ? clock_ms() : 0;
    log_say(LOG_INFO, "Sluice " SLUICE_VERSION " runs with %u workers, configuration %s", p->conf->smtp.workers,
            p->arguments.conf);
    write_pid_file(p);
    upgrade_ready(&p->inherited);
    notify_ready(p);
    return true;
}

static void leave(struct process *p)
{
    bool lent = p->ports.lent && strcmp(control_path(p->control), p->inherited.control_path) == 0;
    control_close(&p->control, p->retired || lent);
    ports_close(&p->ports, NULL, &p->plan);
    ports_release(&p->ports);
    plan_clear(&p->plan);
    drop_pid_file(p);
    if (p->signals >= 0)
        close(p->signals);
    if (p->bell >= 0)
        close(p->bell);
    drop_old(p, true);
    free(p->old);
    conf_drop(p->conf);
    log_flush();
}

int process_run(const struct process_arguments *arguments)
{
    struct process p = {.arguments = *arguments, .signals = -1, .bell = -1, .pid_file = -1};
    p.binary = upgrade_binary(arguments->name);
    p.inherited = upgrade_inherit();
    if (!load(&p))
        return 2;
    if (!start(&p)) {
        leave(&p);
        log_stop(LOG_PATIENCE);
        return 1;
    }
    while (!workers_ended(p.workers))
        wait_once(&p);
    if (!workers_close(&p.workers)) {
        drop_pid_file(&p);
        log_stop(LOG_PATIENCE);
        _exit(0); /* sessions were cut off, and their memory cannot be freed in order */
    }
    maildir_stop();
    servers_forget();
    leave(&p);
    log_say(LOG_INFO, "ended");
    log_stop(LOG_PATIENCE);
    return 0;
}
