/* main.c - sub-commands, arguments, privileges and signals. Runs the threads and waits; never touches mail.
 *
 * Exit codes: 0 done, 1 could not run, 2 something is wrong with the configuration or the command line. */
#include "relay/backend.h"
#include "proxy/conf.h"
#include "proxy/worker.h"
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char default_path[] = "/etc/sluice/sluice.lua";

static int run(int argc, char **argv);
static int check(int argc, char **argv);
static int version(int argc, char **argv);
static int help(int argc, char **argv);

static const struct command {
    const char *name, *usage, *doc;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "sluice run [-c FILE]", "Filter mail, in the foreground, until SIGTERM or SIGINT.", run},
    {"check", "sluice check [-c FILE] [--explain] | --defaults",
     "Check a configuration: exit 0, or 2 with every mistake.", check},
    {"version", "sluice version", "Print the version.", version},
    {"help", "sluice help [COMMAND]", "Print this, or what a command takes.", help},
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'},    {"defaults", no_argument, NULL, 'd'},
    {"explain", no_argument, NULL, 'e'},      {"version", no_argument, NULL, 'v'}, {0},
};

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < countof(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void say_usage(FILE *to)
{
    fprintf(to, "Sluice " SLUICE_VERSION ", an SMTP filtering gateway\n\n");
    for (size_t i = 0; i < countof(commands); i++)
        fprintf(to, "  %-52s %s\n", commands[i].usage, commands[i].doc);
    fprintf(to, "\nThe configuration is %s unless -c says otherwise.\n", default_path);
}

static void say_command(FILE *to, const struct command *c)
{
    fprintf(to, "usage: %s\n\n%s\n", c->usage, c->doc);
    if (c->run == run || c->run == check)
        fprintf(to, "\n  -c, --config FILE   the configuration (%s)\n", default_path);
    if (c->run == check)
        fprintf(to, "      --explain       per listener: backend, chain, filters by stage, when DATA is said\n"
                    "      --defaults      every directive with its default and what it is for; reads no file\n");
    if (c->run == run)
        fprintf(to, "\nSIGTERM, SIGINT: no new clients, sessions may end by themselves; a second one: stop at once.\n");
}

/* ---- arguments ---- */

struct arguments {
    const char *path;
    bool help, defaults, explain, bad;
};

static bool is_option(const struct command *c, int option)
{
    return option == 'h' || (option == 'c' && (c->run == run || c->run == check)) ||
           ((option == 'd' || option == 'e') && c->run == check);
}

static void hint_option(const struct command *c, const char *word)
{
    const char *names[countof(long_options)];
    size_t n = 0;
    for (const struct option *o = long_options; o->name; o++)
        if (is_option(c, o->val))
            names[n++] = o->name;
    struct str near = nearest_name(str_of(word + strspn(word, "-")), names, n);
    if (near.at)
        fprintf(stderr, "sluice %s: unknown option %s (did you mean --%s?)\n", c->name, word, near.at);
    else
        fprintf(stderr, "sluice %s: unknown option %s; see sluice %s --help\n", c->name, word, c->name);
}

static struct arguments arguments_take(const char *name, int argc, char **argv)
{
    const struct command *c = command_find(name);
    struct arguments a = {.path = default_path};
    int option;
    opterr = 0;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
        if (option == '?' && (optopt == 'c' || (argv[optind - 1] && strcmp(argv[optind - 1], "--config") == 0))) {
            fprintf(stderr, "sluice %s: -c needs the path of a configuration\n", name);
            a.bad = true;
        } else if (option == '?' || !is_option(c, option)) {
            hint_option(c, argv[optind - 1]);
            a.bad = true;
        }
        a.path = option == 'c' ? optarg : a.path;
        a.help |= option == 'h';
        a.defaults |= option == 'd';
        a.explain |= option == 'e';
    }
    if (!a.bad && optind < argc) {
        fprintf(stderr, "sluice %s: unexpected \"%s\"; a configuration is named by -c FILE\n", name, argv[optind]);
        a.bad = true;
    }
    if (a.help && !a.bad)
        say_command(stdout, c);
    return a;
}

/* ---- check ---- */

static struct conf *load(const char *path, FILE *complaints_to, struct complaints *c)
{
    struct conf *conf = conf_load(path, c);
    complaints_say(complaints_to, c);
    return conf;
}

static int check(int argc, char **argv)
{
    struct arguments a = arguments_take("check", argc, argv);
    if (a.bad || a.help)
        return a.bad ? 2 : 0;
    if (a.defaults) {
        conf_say_defaults(stdout);
        return 0;
    }
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct conf *conf = load(a.path, stderr, &c);
    if (conf && a.explain)
        conf_say_order(stdout, conf);
    else if (conf)
        printf("%s: good: %zu listeners, %zu backends, %zu filters\n", a.path, conf->nlistens, conf->nbackends,
               conf->nfilters);
    int code = conf ? 0 : 2;
    conf_drop(conf);
    arena_reset(&arena);
    return code;
}

/* ---- run ---- */

static bool become(struct str user)
{
    const struct passwd *pw;
    if (!user.len || !(pw = getpwnam(user.at)))
        return !user.len;
    if (geteuid() != 0) {
        if (geteuid() != pw->pw_uid)
            log_say(LOG_WARNING, "not started as root: user \"%s\" is not taken on", user.at);
        return true;
    }
    if (initgroups(pw->pw_name, pw->pw_gid) == 0 && setgid(pw->pw_gid) == 0 && setuid(pw->pw_uid) == 0 &&
        (pw->pw_uid == 0 || setuid(0) != 0))
        return true;
    log_say(LOG_ERROR, "cannot become user \"%s\": %s", user.at, strerror(errno));
    return false;
}

static void raise_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void ring(void *data) /* from a worker's thread */
{
    uint64_t one = 1;
    ssize_t n = write(*(int *)data, &one, sizeof one);
    (void)n;
}

/* Signals are read like any other input: no handler runs in the middle of anything. They were blocked before the first
 * thread began, so that none of them is killed by one. */
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

static void take_signals(int fd, struct workers *workers, unsigned *asked)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            log_say(LOG_WARNING, "SIGHUP: reloading is not there yet; the configuration stays as it is");
        } else if ((*asked)++ == 0) {
            log_say(LOG_INFO, "draining: no new clients; once more to stop at once");
            workers_drain(workers);
        } else {
            log_say(LOG_WARNING, "stopping at once");
            workers_stop(workers);
        }
    }
}

static void wait_for_end(int signals, int bell, struct workers *workers)
{
    struct pollfd fds[2] = {{.fd = signals, .events = POLLIN}, {.fd = bell, .events = POLLIN}};
    unsigned asked = 0;
    while (!workers_ended(workers)) {
        uint64_t count;
        log_flush();
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        take_signals(signals, workers, &asked);
        ssize_t n = read(bell, &count, sizeof count);
        (void)n;
    }
}

static int serve(struct conf *conf)
{
    char error[512];
    log_set(&conf->log);
    raise_descriptors();
    int signals = signals_open(), bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct workers *workers = workers_bind(conf, error, sizeof error);
    if (!workers) {
        log_say(LOG_ERROR, "%s", error);
        return 1;
    }
    if (!become(conf->user) || !workers_start(workers, ring, &bell, error, sizeof error)) {
        if (*error)
            log_say(LOG_ERROR, "%s", error);
        log_flush();
        _exit(1);
    }
    log_say(LOG_INFO, "Sluice " SLUICE_VERSION " runs with %u workers, configuration %.*s", conf->workers,
            STR_ARGS(conf->path));
    wait_for_end(signals, bell, workers);
    if (!workers_close(&workers)) {
        log_flush();
        _exit(0); /* sessions were cut off where they stood: nothing of theirs can be put in order */
    }
    maildir_stop();
    close(signals);
    close(bell);
    log_say(LOG_INFO, "ended");
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments a = arguments_take("run", argc, argv);
    if (a.bad || a.help)
        return a.bad ? 2 : 0;
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct conf *conf = load(a.path, stderr, &c);
    int code = conf ? serve(conf) : 2;
    log_flush();
    conf_drop(conf);
    arena_reset(&arena);
    return code;
}

static int version(int argc, char **argv)
{
    struct arguments a = arguments_take("version", argc, argv);
    if (!a.bad && !a.help)
        puts("Sluice " SLUICE_VERSION);
    return a.bad ? 2 : 0;
}

static int unknown(const char *name)
{
    const char *names[countof(commands)];
    for (size_t i = 0; i < countof(commands); i++)
        names[i] = commands[i].name;
    struct str near = nearest_name(str_of(name), names, countof(names));
    if (near.at)
        fprintf(stderr, "sluice: unknown command \"%s\" (did you mean \"%s\"?)\n", name, near.at);
    else
        fprintf(stderr, "sluice: unknown command \"%s\"; see sluice help\n", name);
    return 2;
}

static int help(int argc, char **argv)
{
    const struct command *c = argc > 1 && argv[1][0] != '-' ? command_find(argv[1]) : NULL;
    if (argc > 1 && argv[1][0] != '-' && !c)
        return unknown(argv[1]);
    if (c)
        say_command(stdout, c);
    else
        say_usage(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        say_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(1, argv);
    if (strcmp(argv[1], "--version") == 0)
        return version(1, argv);
    const struct command *c = command_find(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
