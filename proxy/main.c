/* main.c - sub-commands and their arguments.
 *
 * Exit codes: 0 done, 1 could not run, 2 something is wrong with the configuration or the command line. */
#include "proxy/conf.h"
#include "proxy/house.h"
#include <getopt.h>

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
        fprintf(to,
                "\nSIGTERM, SIGINT: no new clients, sessions may end by themselves; a second one: stop at once.\n"
                "SIGHUP: the whole new configuration, or none of it; sessions end under the one they began with.\n");
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

static int run(int argc, char **argv)
{
    struct arguments a = arguments_take("run", argc, argv);
    return a.bad ? 2 : a.help ? 0 : house_run(a.path);
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
