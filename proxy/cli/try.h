/* try.h - sluice try: its arguments, what is loaded for a run, and its exit code. */
#ifndef CLI_TRY_H
#define CLI_TRY_H
#include "conf/conf.h"
#include "process/image.h"
#include "try/report.h"
#include "try/zone.h"

enum { TRY_LIST_MOST = 1000 }; /* of --to, --option, --skip */
struct try_arguments {
    const char *path;          /* of the configuration */
    bool path_said;
    const char *listen, *filter, *out, *expect, *zone, *store; /* zone, store: files */
    struct try_who who;        /* from, rcpts STR_NONE: not given */
    struct try_rcpt rcpts[TRY_LIST_MOST];
    const char *options[TRY_LIST_MOST]; size_t noptions;
    const char *skip[TRY_LIST_MOST]; size_t nskip;
    bool from_said, helo_said, client_said, rdns_said, as_received, now_received, now_said, reply_said;
    int64_t now_micros;        /* since 1970 */
    bool raw, enforce, no_dns, offline, json, diff, verbose, quiet, stable, help;
    char **messages; size_t nmessages;
    struct arena arena;
};
struct attempt { /* one run of the command */
    struct try_arguments a;
    struct conf *conf;
    const struct visit_conf *place;   /* where mail would come in: that of listen or of milter, one of which is NULL */
    const struct listen_conf *listen;
    const struct milter_conf *milter;
    struct chain chain;               /* that is tried */
    struct try_world world;
    struct zone zone;
    struct image_source *images;      /* one for each store of the running process */
    struct show show;
    struct summary summary;
    const char *notes[4];
    size_t nnotes;
    unsigned unexpected;
    int code;
};
/* try_world.c: fills in conf, place, chain, world, zone and images from `a`. False: failed, an error was printed, and `world` is not open. */
bool try_prepare(struct attempt *);
void try_say_lost(const struct attempt *); /* prints on stderr if the running process stopped answering during the run */

/* False: the arguments are wrong, and an error was printed. */
bool try_arguments_take(struct try_arguments *, int argc, char **argv);
void try_say_options(FILE *);
int try_main(int argc, char **argv, const char *default_path);
#endif
