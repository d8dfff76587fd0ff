/* parts.h - internal declarations of the loader; included by the files of proxy/conf only.
 *
 *   load.c        the loading of a configuration, step by step
 *   lua.c         evaluates the files in an empty Lua sandbox and gives items (the only file that uses Lua)
 *   lexer.c       scans the braces of a file for the lines of keys, and for keys that are written twice
 *   directives.c  the table of directives, and the check of a block against it
 *   explain.c     prints that table for people and programs
 *   filters.c     modules, filters and chains
 *   backends.c    TLS contexts, backends and their servers, routes
 *   build.c       the rest of the model
 *   milters.c     milter listeners
 *   doubts.c      warnings for configurations that are valid but probably not intended
 *
 * All memory is in the arena of the conf being built, so that the places (file and line) of values live as long as the conf. */
#ifndef CONF_PARTS_H
#define CONF_PARTS_H
#include "conf/conf.h"

enum conf_place {
    AT_TOP, IN_LISTEN, IN_BACKEND, IN_SERVER, IN_ROUTE, IN_TLS, IN_CERTIFICATE, IN_CHAIN, IN_FILTER, IN_STORE, IN_LIMITS,
    IN_TIMEOUTS, IN_DNS, IN_LOG, IN_CONDITION, IN_MILTER, IN_MILTER_LIMITS, IN_MILTER_TIMEOUTS, PLACES
};
enum directive_kind {
    KIND_VALUE,  /* key = value; at the top level: directive "value" */
    KIND_CHOICE, /* a text, one of `choices` */
    KIND_BLOCK,  /* name { ... }, or name = { ... } in another block */
    KIND_NAMED   /* name "NAME" { ... } */
};
struct directive {
    enum conf_place where;
    const char *name; /* "1": the unnamed elements of the block */
    enum directive_kind kind;
    enum filter_type type, of; /* of: type of the elements of a list or map */
    enum conf_place inside;    /* of a block: the place whose directives it contains */
    bool required, many; /* many: it may be given more than once; with the name "1": any number of elements */
    bool scripts;        /* an option of filters that only scripts have */
    bool names;          /* its value is the name of a block; `doc`, up to a semicolon, says of which kind */
    bool later;          /* reserved for a later version: refused, and listed nowhere */
    const char *preset;  /* the default, as written in a file; NULL: none */
    double least, most;  /* range of numbers, durations (seconds) and sizes (octets); most 0: no upper limit */
    const char *choices; /* of KIND_CHOICE, separated by spaces: "reject normalize" */
    const char *doc;
};
const struct directive *directive_at(size_t i); /* in the order of the manual; NULL: there are no more */
const struct directive *directive_find(enum conf_place, struct str name); /* NULL: there is none of this name in this place */
/* A hint for an unknown name: " (did you mean ...?)", or in which place the name exists, or "". In the arena. */
struct str directive_hint(struct arena *, enum conf_place, struct str name);
const char *place_name(enum conf_place);

/* A pair of braces in a file, as the lexer found it. */
struct braces {
    struct braces *next;         /* in the same file, in order of the opening braces */
    uint32_t line;               /* of the word before it, or of the brace */
    struct str word, name;       /* for `listen "mx" {`: "listen" and "mx"; else STR_NONE */
    struct braces_key *first, *last; /* its keys in order; unnamed elements have the keys "1", "2", ... */
    struct braces_key **buckets;     /* hash table of the keys, the latest one first in each bucket; nbuckets is a power of two */
    uint32_t count, nbuckets;
    bool taken;                  /* it has been assigned to an item */
};
struct braces_key {
    struct braces_key *next, *before; /* before: the next one in its bucket, which stands before it in the file */
    struct str key; /* STR_NONE: a computed key, [expression] */
    uint32_t line;
    bool named;
    struct braces *value; /* the braces of a table that is written in place; else NULL */
};
struct conf_source { /* one file */
    struct str path, text;
    struct braces *groups;
};

struct conf_item { /* one directive in the configuration */
    const struct directive *directive;
    struct str name;            /* of KIND_NAMED */
    struct filter_value body;   /* of a block: a MAP, with the keys "1", "2", ... for unnamed elements; KIND_VALUE: the value */
    bool has_body;
    unsigned source;            /* index in loader.sources */
    struct str file;
    uint32_t line;
    unsigned used;              /* how often it is an element of another block */
    const struct filter_value *checked; /* body after block_check */
};

enum { SOURCES_MOST = 256, ITEMS_MOST = 10000, DEPTH_MOST = 32 };
struct loader {
    struct conf *conf;
    struct complaints *complaints;
    struct conf_source sources[SOURCES_MOST];
    unsigned nsources;
    struct conf_item **items;
    size_t nitems;
    struct { struct conf_item *item; struct tls *tls; } *tls; /* the server context of each tls block */
    size_t ntls;
    const struct filter_def **defs; /* built-in ones, then those of modules */
    size_t ndefs, defs_room;
    struct chain *empty_chain;
    const char *more; /* text appended to that of the first file; NULL: none */
    bool to_try;      /* loading for conf_load_to_try */
};

/* An unnamed element that is a block, such as `filter "x" { }` in a chain, is a value of type ANY whose integer is an index in items. */
static inline bool value_is_item(const struct filter_value *v)
{
    return v->type == VALUE_ANY;
}

bool conf_evaluate(struct loader *, const char *path);   /* lua.c: fills items. False: failed, with complaints */
void source_walk(struct loader *, struct conf_source *); /* lexer.c: fills groups */
void item_place(struct loader *, struct conf_item *);    /* lexer.c: sets the line of each value in its body */

/* Adds a complaint with the place of the item, or that of one of its values if `at` is not NULL and has a place. */
void item_complain(struct loader *, const struct conf_item *, const struct filter_value *at, const char *format, ...)
    PRINTF_LIKE(4, 5);
void item_warn(struct loader *, const struct conf_item *, const struct filter_value *at, const char *format, ...) PRINTF_LIKE(4, 5);
/* `listen "mx"`, for messages; in the arena. */
const char *item_title(struct loader *, const struct conf_item *);
/* Checks a body against the directives of a place: unknown keys, types, ranges, required keys; complains of each mistake. Returns a MAP of
 * converted values with the defaults filled in. skip_unknown: ignores unknown keys, which in a filter are its own options. */
const struct filter_value *block_check(struct loader *, const struct conf_item *, const struct filter_value *body, enum conf_place,
                                       const char *title, bool skip_unknown);
struct conf_item *item_named(struct loader *, const char *directive, struct str name); /* NULL: there is none of that name */
/* Complains that there is no block of that name, and suggests the most similar one. */
void complain_no_name(struct loader *, const struct conf_item *, const struct filter_value *at, const char *directive,
                      struct str name);

static inline struct str conf_path(struct loader *l, struct str path)
{
    return conf_beside(&l->conf->smtp.mail, path);
}
static inline bool item_is_a(const struct conf_item *item, const char *directive)
{
    return strcmp(item->directive->name, directive) == 0;
}
static inline struct str block_text(const struct filter_value *block, const char *key)
{
    const struct filter_value *v = value_get(block, str_of(key));
    return v ? v->text : STR_NONE;
}
static inline bool block_true(const struct filter_value *block, const char *key)
{
    const struct filter_value *v = value_get(block, str_of(key));
    return v && v->integer != 0;
}
static inline int64_t block_integer(const struct filter_value *block, const char *key)
{
    const struct filter_value *v = value_get(block, str_of(key));
    return v ? v->integer : 0;
}
static inline uint64_t block_milliseconds(const struct filter_value *block, const char *key)
{
    const struct filter_value *v = value_get(block, str_of(key));
    return v ? (uint64_t)(v->number * 1000 + 0.5) : 0;
}
static inline struct table *block_table(const struct filter_value *block, const char *key)
{
    const struct filter_value *v = value_get(block, str_of(key));
    return v ? v->table : NULL;
}
const struct filter_value *block_element(const struct filter_value *block, size_t i); /* the i-th unnamed element, from 1; NULL: none */

/* filters.c */
void modules_load(struct loader *);
void chains_build(struct loader *);
void filters_open(struct loader *);
/* backends.c */
void tls_build(struct loader *);
void backends_build(struct loader *);
void routes_build(struct loader *);
/* Each looks up a block by the name in the value `at`, for the item; NULL: there is none, with a complaint. tls_named adds a reference. */
struct tls *tls_named(struct loader *, const struct conf_item *, const struct filter_value *at);
const struct backend_conf *backend_named(struct loader *, const struct conf_item *, const struct filter_value *at);
const struct route *route_named(struct loader *, const struct conf_item *, const struct filter_value *at);
void conf_doubt(struct loader *); /* doubts.c: warns, when the configuration has no mistakes */
/* build.c */
void model_build(struct loader *);
/* The addresses that a listener names; returns how many. Complains when one is malformed or another listener of this configuration has it. */
size_t addresses_build(struct loader *, struct conf_item *, struct address **);
const struct chain *chain_named(struct loader *, const struct conf_item *); /* the chain that its key `chain` names; else the empty chain */
/* milters.c */
void milters_build(struct loader *);
void milters_judge(struct loader *); /* after filters are open: complains of filters that need what a milter cannot do */
/* The value of a key that is a host name sent to peers; "" if it is not given. Complains when it is not a valid name. */
struct str name_in(struct loader *, const struct conf_item *, const char *key);
#endif
