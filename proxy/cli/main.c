/* main.c - sub-commands and their arguments.
 *
 * Exit codes: 0 done, 1 could not run, 2 something is wrong with the configuration or the command line. */
#include "base/fault.h"
#include "conf/conf.h"
#include "process/control.h"
#include "process/environment.h"
#include "process/process.h"
#include "cli/probe.h"
#include "cli/try.h"
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <unistd.h>

static const char *program;                     /* argv[0], for an upgrade */
static const char default_path[] = SLUICE_CONF; /* set by the build: /etc/sluice/sluice.lua */

static int run(int argc, char **argv);
static int check(int argc, char **argv);
static int try_message(int argc, char **argv);
static int ask_reload(int argc, char **argv);
static int ask_drain(int argc, char **argv);
static int ask_status(int argc, char **argv);
static int ask_upgrade(int argc, char **argv);
static int version(int argc, char **argv);
static int help(int argc, char **argv);

static const struct subcommand {
    const char *name, *usage, *doc;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "sluice run [-c FILE] [--pid-file FILE]", "Filter mail, in the foreground, until SIGTERM or SIGINT.", run},
    {"check", "sluice check [-c FILE] [--explain] [--probe] | --defaults [--json]",
     "Check a configuration: exit 0, or 2 with every mistake.", check},
    {"try", "sluice try [-c FILE] [OPTION ...] [MESSAGE ... | -]", "A saved message through a chain; nothing is delivered.", try_message},
    {"reload", "sluice reload [-c FILE | --socket PATH]",
     "The running process takes its configuration anew: exit 0, or 2 with every mistake.", ask_reload},
    {"drain", "sluice drain [-c FILE | --socket PATH] [LISTENER]",
     "It takes no new clients (at one listener until the next reload), and ends.", ask_drain},
    {"status", "sluice status [-c FILE | --socket PATH]", "Print its generations, listeners, sessions and backends.",
     ask_status},
    {"upgrade", "sluice upgrade [-c FILE | --socket PATH]", "The binary on disk takes its place; nobody is refused.",
     ask_upgrade},
    {"version", "sluice version", "Print the version.", version},
    {"help", "sluice help [COMMAND]", "Print this, or what a command takes.", help},
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},
    {"defaults", no_argument, NULL, 'd'},
    {"explain", no_argument, NULL, 'e'},
    {"probe", no_argument, NULL, 'P'},
    {"json", no_argument, NULL, 'j'},
    {"pid-file", required_argument, NULL, 'p'},
    {"socket", required_argument, NULL, 's'},
    {"version", no_argument, NULL, 'v'},
#ifdef SLUICE_FAULTS
    {"fail-nth", required_argument, NULL, 'F'}, /* of run, for tests: base/fault.h */
#endif
    {0},
};

static const struct subcommand *command_find(const char *name)
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
        fprintf(to, "  %s\n      %s\n", commands[i].usage, commands[i].doc);
    fprintf(to, "\nThe configuration is %s unless -c says otherwise.\n", default_path);
}

static bool takes_conf(const struct subcommand *c)
{
    return c->run != version && c->run != help;
}

static bool asks(const struct subcommand *c)
{
    return c->run == ask_reload || c->run == ask_drain || c->run == ask_status || c->run == ask_upgrade;
}

static void say_command(FILE *to, const struct subcommand *c)
{
    fprintf(to, "usage: %s\n\n%s\n", c->usage, c->doc);
    if (takes_conf(c))
        fprintf(to, "\n  -c, --config FILE   the configuration (%s)\n", default_path);
    if (asks(c))
        fprintf(to, "      --socket PATH   where the running process is asked, whatever the configuration says now\n"
                    "\nIt is asked at the socket that the configuration names: control \"/run/sluice/control\".\n");
    if (c->run == check)
        fprintf(to, "      --json          with --defaults: for programs\n"
                    "      --explain       per listener: backend, chain, filters by stage, when DATA is said\n"
                    "      --probe         each server of each backend is visited: what it offers, its TLS, whom it "
                    "trusts; exit 1 when one\n"
                    "                      cannot be reached\n"
                    "      --defaults      every directive with its default and what it is for; reads no file\n");
    if (c->run == try_message)
        try_say_options(to);
    if (c->run == run)
        fprintf(to, "      --pid-file FILE holds the number of the process that runs\n"
                    "\nSIGTERM, SIGINT: no new clients, sessions may end by themselves; a second one: stop at once.\n"
                    "SIGHUP: the whole new configuration, or none of it; sessions end under the one they began with.\n"
                    "SIGUSR2: the binary on disk takes our place, with our sockets; we end with our sessions.\n");
}

/* ---- arguments ---- */

struct arguments {
    const char *path, *pid_file, *socket, *word;
    bool help, defaults, explain, probe, json, bad;
};

static bool is_option(const struct subcommand *c, int option)
{
    return option == 'h' || (option == 'c' && takes_conf(c)) || ((option == 'p' || option == 'F') && c->run == run) ||
           (option == 's' && asks(c)) ||
           ((option == 'd' || option == 'e' || option == 'P' || option == 'j') && c->run == check);
}

static void hint_option(const struct subcommand *c, const char *word)
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
    const struct subcommand *c = command_find(name);
    struct arguments a = {.path = default_path};
    int option;
    opterr = 0;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
        if (option == '?' && (optopt == 'c' || optopt == 'p' || optopt == 's')) {
            fprintf(stderr, "sluice %s: %s needs %s\n", name,
                    optopt == 'c'   ? "-c"
                    : optopt == 'p' ? "--pid-file"
                                    : "--socket",
                    optopt == 'c' ? "the path of a configuration" : "a path");
            a.bad = true;
        } else if (option == '?' || !is_option(c, option)) {
            hint_option(c, argv[optind - 1]);
            a.bad = true;
        }
        a.path = option == 'c' ? optarg : a.path;
        a.pid_file = option == 'p' ? optarg : a.pid_file;
        a.socket = option == 's' ? optarg : a.socket;
        a.bad |= option == 'F' && !fault_arm(str_of(optarg));
        a.help |= option == 'h';
        a.defaults |= option == 'd';
        a.explain |= option == 'e';
        a.probe |= option == 'P';
        a.json |= option == 'j';
    }
    if (!a.bad && optind < argc && c->run == ask_drain)
        a.word = argv[optind++];
    if (!a.bad && optind < argc) {
        fprintf(stderr, "sluice %s: unexpected \"%s\"; a configuration is named by -c FILE\n", name, argv[optind]);
        a.bad = true;
    }
    if (a.help && !a.bad)
        say_command(stdout, c);
    return a;
}

/* ---- check ---- */

static int probe(struct conf *conf)
{
    unsigned doubts;
    signal(SIGPIPE, SIG_IGN);
    log_set(&(struct log_settings){.level = LOG_ERROR}, 2); /* errors of servers are in the report already */
    unsigned lost = probe_run(stdout, &conf->smtp, &doubts);
    if (doubts)
        printf("%u warning%s\n", doubts, doubts == 1 ? "" : "s");
    return lost ? 1 : 0;
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static int check(int argc, char **argv)
{
    struct arguments a = arguments_take("check", argc, argv);
    if (a.bad || a.help)
        return a.bad ? 2 : 0;
    if (a.defaults) {
        if (a.json)
            conf_say_defaults_json(stdout);
        else
            conf_say_defaults(stdout);
        return 0;
    }
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct conf *conf = conf_load(a.path, &c);
    if (conf)
        environment_check(conf, &c);
    complaints_say(stderr, &c);
    if (c.errors) {
        conf_drop(conf);
        conf = NULL;
    }
    if (conf && a.explain)
        conf_say_order(stdout, conf);
    else if (conf)
        printf("%s: good: %zu listener%s, %zu backend%s, %zu filter%s\n", a.path, conf->smtp.nlistens + conf->nmilters,
               plural(conf->smtp.nlistens + conf->nmilters), conf->smtp.nbackends, plural(conf->smtp.nbackends), conf->smtp.mail.nfilters,
               plural(conf->smtp.mail.nfilters));
    int code = conf ? 0 : 2;
    if (conf && a.probe)
        code = probe(conf);
    conf_drop(conf);
    arena_reset(&arena);
    return code;
}

/* ---- try ---- */

static int try_message(int argc, char **argv)
{
    int code = try_main(argc, argv, default_path);
    if (code >= 0)
        return code;
    say_command(stdout, command_find("try"));
    return 0;
}

/* ---- run, and commands for a running process ---- */

static int run(int argc, char **argv)
{
    struct arguments a = arguments_take("run", argc, argv);
    struct process_arguments process = {.name = program, .conf = a.path, .pid_file = a.pid_file};
    return a.bad ? 2 : a.help ? 0 : process_run(&process);
}

/* With --socket the configuration is not read: it may have a mistake, or name another socket than the one that is open. */
static int ask(const char *name, int argc, char **argv, const char *otherwise)
{
    struct arguments a = arguments_take(name, argc, argv);
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    struct str control = str_of(a.socket ? a.socket : "");
    char command[300];
    int code = 2;
    if (a.bad || a.help)
        return a.bad ? 2 : 0;
    if (!a.socket && !conf_control(a.path, &control, &arena, &c)) {
        complaints_say(stderr, &c);
        fprintf(stderr, "sluice %s: where it listens cannot be read there; --socket PATH names it\n", name);
    } else if (!a.socket && !control.len) {
        fprintf(stderr, "sluice %s: %s names no control socket: add control \"/run/sluice/control\" and restart%s\n",
                name, a.path, otherwise);
    } else {
        snprintf(command, sizeof command, "%s%s%s", name, a.word ? " " : "", a.word ? a.word : "");
        code = control_ask(control.at, command);
    }
    arena_reset(&arena);
    return code;
}

static int ask_reload(int argc, char **argv)
{
    return ask("reload", argc, argv, ", or reload by kill -HUP PID");
}

static int ask_drain(int argc, char **argv)
{
    return ask("drain", argc, argv, ", or drain all of it by kill -TERM PID");
}

static int ask_status(int argc, char **argv)
{
    return ask("status", argc, argv, "");
}

static int ask_upgrade(int argc, char **argv)
{
    return ask("upgrade", argc, argv, ", or upgrade by kill -USR2 PID");
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
    const struct subcommand *c = argc > 1 && argv[1][0] != '-' ? command_find(argv[1]) : NULL;
    if (argc > 1 && argv[1][0] != '-' && !c)
        return unknown(argv[1]);
    if (c)
        say_command(stdout, c);
    else
        say_usage(stdout);
    return 0;
}

/* Opens /dev/null for standard descriptors that are closed: otherwise a socket might get the number 2, and log lines would be sent to a
 * peer. */
static void open_standard_descriptors(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    program = argc ? argv[0] : "";
    if (argc < 2) {
        say_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(1, argv);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "-V") == 0)
        return version(1, argv);
    if (argv[1][0] == '-') {
        fprintf(stderr, "sluice: the command comes first, options behind it: sluice check -c FILE; see sluice help\n");
        return 2;
    }
    const struct subcommand *c = command_find(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
