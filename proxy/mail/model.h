/* model.h - the configuration as mail sees it: filters, chains, stores, and what a visit is bounded by. proxy/conf builds it; nothing
 * here is changed after loading. Durations in milliseconds, sizes in octets. */
#ifndef MAIL_MODEL_H
#define MAIL_MODEL_H
#include "base/names.h"
#include "base/table.h"
#include "base/value.h"
#include "filters/filter.h"

struct complaints { /* what is wrong, each with its place; errors and warnings */
    struct arena *arena;
    struct complaint { struct complaint *next; bool warning; struct str file; uint32_t line; struct str text; } *first, *last;
    unsigned errors, warnings;
};
void complain(struct complaints *, bool warning, struct str file, uint32_t line, const char *format, ...) PRINTF_LIKE(5, 6);

struct limits { /* what each means, and its default: mail/limits.def */
#define LIMIT(name, type, ...) type name;
#include "mail/limits.def"
#undef LIMIT
};
struct next_hop { struct str name; }; /* first member of backend_conf: mail compares pointers and names, no more */

enum on_error { ON_ERROR_DEFER, ON_ERROR_CONTINUE, ON_ERROR_REJECT };
struct condition { /* only = { }, except = { }: all keys given must hold, any element of a key does */
    bool given;
    int8_t auth, tls;         /* -1: not asked; 0: must not be; 1: must be */
    struct table *client, *from, *rcpt;
    const struct str *listens; size_t nlistens;
};

struct filter { /* an instance: one place in one chain. What filters/filter.h calls struct filter */
    const struct filter_def *def;
    struct mail_conf *conf;
    unsigned index;           /* in conf->mail.filters: slot of its worker memory */
    struct str name;          /* in log lines: file name without .lua, then -2, -3; or `name =` */
    struct str source;        /* what the configuration named: "access", or the path found for "x.lua" */
    struct str prefix;        /* of its store keys: the name of its file, or `prefix =` */
    const struct filter_value *raw; /* its options as written: a MAP; positional elements have the keys "1", "2", ... */
    const struct filter_value *options; /* after filter_options */
    struct str file; uint32_t line; /* where it stands in the configuration */
    unsigned stages, flags;   /* of def, lessened by open */
    void *memory;
    uint64_t timeout, message_timeout;
    enum on_error on_error;
    bool observe, opened;
    bool needs_auth;          /* it never acts for a client that has not authenticated */
    struct condition only, except;
    struct { unsigned id, seconds; } ticks[16];
    unsigned nticks;
    struct complaints *complaints; /* while opening */
};

struct chain {
    struct str name;
    struct filter **filters; size_t nfilters;
    const struct next_hop *quarantine; /* NULL: none */
    struct condition only, except;
};

struct store; /* store/store.h */
struct store_conf { struct str name, kind; struct store *store; struct str prefix; uint64_t timeout, size; };

struct mail_conf { /* the first member of struct smtp_conf */
    struct arena arena;
    struct str path, hostname;
    struct chain *chains; size_t nchains;
    struct filter **filters; size_t nfilters;
    struct store_conf *stores; size_t nstores; /* "default" (memory) is always there */
    struct table **tables; size_t ntables, tables_room;     /* all of them: refreshed every second */
    bool log_subject;
};
struct visit_conf { /* the first member of each front's listener */
    struct str name, hostname; /* hostname: in the banner, and to filters */
    const struct chain *chain; /* never NULL: the empty chain at least */
    struct limits limits;
    bool received;            /* add our own Received field */
};
/* A path of the configuration: relative to the folder of its file. In its arena. */
struct str conf_beside(struct mail_conf *, struct str path);
void conf_keep_table(struct mail_conf *, struct table *); /* while loading: closed and refreshed with the configuration */
/* mail/instance.c. Opens an instance: def->open with complaints collected; false when any error was complained. */
bool filter_open(struct filter *, struct complaints *);
void filter_close(struct filter *);
const char *value_shown(const struct filter_value *); /* "true", "the text "x"", ...: what was got in place of what was expected; until the next call */
/* A value as written turned into one of the wanted type (TYPE_DURATION from "30s", TYPE_CIDR from a list of texts or a file
 * path, TYPE_TABLE from a path or a list, ...). False: complained, with the value's place. */
bool value_convert(struct mail_conf *, struct complaints *, const struct filter_value *from, enum filter_type type, enum filter_type of,
                   const char *what, struct filter_value *to);
#endif
