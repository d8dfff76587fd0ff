/* try.h - sluice try: arguments, what is loaded for them, and the exit code. */
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
    struct try_who who;        /* from, rcpts NONE: not said */
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
    const struct visit_conf *place;   /* where mail would come in: of one of the two below, the other is NULL */
    const struct listen_conf *listen;
    const struct milter_conf *milter;
    struct chain chain;               /* that is tried */
    struct try_world world;
    struct zone zone;
    struct image_source *images;      /* of the running process's stores */
    struct show show;
    struct summary summary;
    const char *notes[4];
    size_t nnotes;
    unsigned unexpected;
    int code;
};
/* try_world.c: all but `a` and what is shown. False: it has been said why; the world is not open then. */
bool try_prepare(struct attempt *);
void try_say_lost(const struct attempt *); /* on stderr: the running process answered at first, and no more in the end */

/* False: something is wrong with them, and it has been said. */
bool try_arguments_take(struct try_arguments *, int argc, char **argv);
void try_say_options(FILE *);
int try_main(int argc, char **argv, const char *default_path);
#endif
