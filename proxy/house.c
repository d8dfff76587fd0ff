/* house.c - the main thread while mail is filtered: waits for signals, commands and workers, and changes what runs.
 *
 * Owns the configuration of new sessions, the ports and the workers. A change is whole or none: everything that can
 * fail (loading, binding) comes before the first worker hears of it. Never touches mail. */
#include "proxy/house.h"
#include "proxy/conf.h"
#include "proxy/privileges.h"
#include "proxy/worker.h"
#include "relay/backend.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct house {
    const char *path;
    struct conf *conf;
    struct ports ports;
    struct plan plan; /* of conf: which address is which port */
    struct workers *workers;
    int signals, bell; /* bell: a worker has come to its end */
    unsigned asked;    /* to end: once drains, twice stops */
};

/* ---- reload ---- */

static void log_complaints(const struct complaints *c)
{
    for (const struct complaint *one = c->first; one; one = one->next)
        log_say(one->warning ? LOG_WARNING : LOG_ERROR, "%.*s:%u: %.*s", STR_ARGS(one->file), one->line,
                STR_ARGS(one->text));
}

static void warn_of_what_stays(const struct conf *now, struct conf *next, struct complaints *c)
{
    if (next->workers != now->workers)
        complain(c, true, next->path, 0, "workers: %u threads run; %u need a restart", now->workers, next->workers);
    if (!str_equal(next->user, now->user))
        complain(c, true, next->path, 0, "user: another user needs a restart");
    next->workers = now->workers;
}

/* Whole or not at all. What is wrong is logged, and said to `to`. */
static bool reload(struct house *h, FILE *to)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct plan plan;
    struct conf *conf = conf_load(h->path, &c), *old = h->conf;
    bool good = conf && ports_plan(&h->ports, conf, h->conf->workers, &plan, &c);
    if (good) {
        warn_of_what_stays(old, conf, &c);
        conf_take_over(conf, old);
        log_set(&conf->log);
        ports_keep(&h->ports, &plan);
        workers_switch(h->workers, conf, &plan);
        ports_opened(&h->ports, &plan);
        plan_clear(&h->plan);
        h->plan = plan;
        h->conf = conf;
        conf = old;
    }
    conf_drop(conf);
    log_complaints(&c);
    if (to)
        complaints_say(to, &c);
    if (good)
        log_say(LOG_INFO, "reloaded: generation %u, configuration %s", h->conf->generation, h->path);
    else
        log_say(LOG_ERROR, "not reloaded: %u mistakes; the configuration stays as it is", c.errors);
    arena_reset(&arena);
    return good;
}

/* ---- the end ---- */

static void end(struct house *h)
{
    if (h->asked++ == 0) {
        log_say(LOG_INFO, "draining: no new clients; once more to stop at once");
        ports_close(&h->ports, NULL, &h->plan);
        workers_drain(h->workers);
    } else {
        log_say(LOG_WARNING, "stopping at once");
        workers_stop(h->workers);
    }
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
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void take_signals(struct house *h)
{
    struct signalfd_siginfo info;
    bool again = false;
    while (read(h->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGHUP)
            end(h);
        else
            again = true;
    if (again && h->asked)
        log_say(LOG_WARNING, "SIGHUP: it is too late to reload");
    else if (again)
        reload(h, NULL);
}

/* ---- from the start to the end ---- */

static void wait_for_end(struct house *h)
{
    while (!workers_ended(h->workers)) {
        struct pollfd fds[2] = {{.fd = h->signals, .events = POLLIN}, {.fd = h->bell, .events = POLLIN}};
        uint64_t count;
        log_flush();
        if (poll(fds, countof(fds), -1) < 0 && errno != EINTR)
            break;
        take_signals(h);
        ssize_t n = read(h->bell, &count, sizeof count);
        (void)n;
    }
}

static bool load(struct house *h)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    h->conf = conf_load(h->path, &c);
    complaints_say(stderr, &c);
    arena_reset(&arena);
    return h->conf != NULL;
}

static bool bind_all(struct house *h)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    ports_inherit(&h->ports);
    bool good = ports_plan(&h->ports, h->conf, h->conf->workers, &h->plan, &c);
    log_complaints(&c);
    arena_reset(&arena);
    if (good)
        ports_keep(&h->ports, &h->plan);
    return good;
}

static bool start(struct house *h)
{
    log_set(&h->conf->log);
    privileges_raise_descriptors();
    h->signals = signals_open();
    h->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!bind_all(h) || !privileges_drop(h->conf->user))
        return false;
    h->workers = workers_start(h->conf, &h->plan, ring, &h->bell);
    if (!h->workers)
        return false;
    ports_opened(&h->ports, &h->plan);
    log_say(LOG_INFO, "Sluice " SLUICE_VERSION " runs with %u workers, configuration %s", h->conf->workers, h->path);
    return true;
}

static void leave(struct house *h)
{
    ports_close(&h->ports, NULL, &h->plan);
    plan_clear(&h->plan);
    if (h->signals >= 0)
        close(h->signals);
    if (h->bell >= 0)
        close(h->bell);
    conf_drop(h->conf);
    log_flush();
}

int house_run(const char *path)
{
    struct house h = {.path = path, .signals = -1, .bell = -1};
    if (!load(&h))
        return 2;
    if (!start(&h)) {
        leave(&h);
        return 1;
    }
    wait_for_end(&h);
    if (!workers_close(&h.workers)) {
        log_flush();
        _exit(0); /* sessions were cut off where they stood: nothing of theirs can be put in order */
    }
    maildir_stop();
    servers_forget();
    leave(&h);
    log_say(LOG_INFO, "ended");
    return 0;
}
