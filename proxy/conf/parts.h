/* parts.h - what the parts of the loader share; nobody else includes it.
 *
 *   directives.c  the one table of directives, and a block checked against it
 *   explain.c         that table for people and programs
 *   lua.c         evaluates the files in an empty sandbox: gives items (the only file that speaks Lua)
 *   lexer.c       walks the braces of a file: exact lines of keys, keys written twice
 *   filters.c     modules, filters and chains
 *   backends.c    TLS contexts, backends and their servers, routes
 *   build.c       the rest of the model
 *   milters.c     milter listeners
 *   doubts.c      warnings of what is most likely not meant
 *   conf.c             the order of it all
 *
 * Everything lives in the arena of the conf being built, so that places stay valid as long as the conf does. */
#ifndef CONF_PARTS_H
#define CONF_PARTS_H
#include "conf/conf.h"

enum conf_place {
    AT_TOP, IN_LISTEN, IN_BACKEND, IN_SERVER, IN_ROUTE, IN_TLS, IN_CERTIFICATE, IN_CHAIN, IN_FILTER, IN_STORE, IN_LIMITS,
    IN_TIMEOUTS, IN_DNS, IN_LOG, IN_CONDITION, IN_MILTER, IN_MILTER_LIMITS, IN_MILTER_TIMEOUTS, PLACES
};
enum directive_kind {
    KIND_VALUE,  /* key = value; at the top: directive "value" */
    KIND_CHOICE, /* a text, one of `choices` */
    KIND_BLOCK,  /* name { ... }, or name = { ... } in another block */
    KIND_NAMED   /* name "NAME" { ... } */
};
struct directive {
    enum conf_place where;
    const char *name; /* "1": the unnamed elements */
    enum directive_kind kind;
    enum filter_type type, of;
    enum conf_place inside;   /* of blocks: whose keys stand in it */
    bool required, many; /* many: may be said again; as "1": any number of elements */
    bool scripts;        /* of filter: for scripts only */
    bool names;          /* a text that is the name of a block; `doc` up to a semicolon says of which */
    bool later;          /* a name that is kept for what comes later: refused, and told nowhere */
    const char *preset;  /* as written in a file; NULL: none */
    double least, most;  /* of numbers, durations and sizes; most 0: any */
    const char *choices; /* "reject normalize" */
    const char *doc;
};
const struct directive *directive_at(size_t i); /* in the order of the manual; NULL: there are no more */
const struct directive *directive_find(enum conf_place, struct str name);
/* " (did you mean ...?)", or where else the word is known, or "". In the arena. */
struct str directive_hint(struct arena *, enum conf_place, struct str name);
const char *place_name(enum conf_place);

/* Braces of a file, as the lexer saw them. */
struct braces {
    struct braces *next;         /* in the file, in order of their openings */
    uint32_t line;              /* of the head word, or of the brace */
    struct str word, name;      /* listen "mx" {: word listen, name mx; STR_NONE */
    struct braces_key *first, *last; /* keys in order; unnamed elements have "1", "2", ... */
    struct braces_key **buckets;     /* the same by their keys, in each the last one first; a power of two of them */
    uint32_t count, nbuckets;
    bool taken;                 /* an item is it already */
};
struct braces_key {
    struct braces_key *next, *before; /* before: in its bucket */
    struct str key; /* STR_NONE: computed */
    uint32_t line;
    bool named;
    struct braces *value; /* when it is a table written in place */
};
struct conf_source { /* one file */
    struct str path, text;
    struct braces *groups;
};

struct conf_item { /* one directive as it was said */
    const struct directive *directive;
    struct str name;            /* of KIND_NAMED */
    struct filter_value body;   /* a MAP with "1", "2", ... for the unnamed; KIND_VALUE: the value */
    bool has_body;
    unsigned source;            /* index in the loader's sources */
    struct str file;
    uint32_t line;
    unsigned used;              /* how often it stands in another block */
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
    struct { struct conf_item *item; struct tls *tls; } *tls; /* server contexts, opened once each */
    size_t ntls;
    const struct filter_def **defs; /* built-in ones, then those of modules */
    size_t ndefs, defs_room;
    struct chain *empty_chain;
    const char *more; /* text behind that of the first file; NULL: none */
    bool to_try;      /* conf_load_to_try */
};

/* An unnamed element that is a block, `filter "x" { }` in a chain, is a value of type ANY whose integer is the item. */
static inline bool value_is_item(const struct filter_value *v)
{
    return v->type == VALUE_ANY;
}

bool conf_evaluate(struct loader *, const char *path);   /* lua.c. False: complained */
void source_walk(struct loader *, struct conf_source *);      /* lexer.c */
void item_place(struct loader *, struct conf_item *);         /* lexer.c: exact lines for its body */

/* Complains at the item, or at one of its values when that has a place. */
void item_complain(struct loader *, const struct conf_item *, const struct filter_value *at, const char *format, ...)
    PRINTF_LIKE(4, 5);
void item_warn(struct loader *, const struct conf_item *, const struct filter_value *at, const char *format, ...) PRINTF_LIKE(4, 5);
/* `listen "mx"`, for messages; in the arena. */
const char *item_title(struct loader *, const struct conf_item *);
/* Checks a body against the directives of a place: unknown keys, types, ranges, required ones. Gives a MAP of converted values
 * with the defaults filled in. skip_unknown: leaves keys it does not know (filters: they are the filter's own). */
const struct filter_value *block_check(struct loader *, const struct conf_item *, const struct filter_value *body, enum conf_place,
                                       const char *title, bool skip_unknown);
struct conf_item *item_named(struct loader *, const char *directive, struct str name); /* NULL: none of that name */
/* Complains that there is no such name, with the nearest. */
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
const struct filter_value *block_element(const struct filter_value *block, size_t i); /* unnamed, from 1; NULL */

/* filters.c */
void modules_load(struct loader *);
void chains_build(struct loader *);
void filters_open(struct loader *);
/* backends.c */
void tls_build(struct loader *);
void backends_build(struct loader *);
void routes_build(struct loader *);
struct tls *tls_named(struct loader *, const struct conf_item *, const struct filter_value *at); /* a server context, held; NULL */
const struct backend_conf *backend_named(struct loader *, const struct conf_item *, const struct filter_value *at);
const struct route *route_named(struct loader *, const struct conf_item *, const struct filter_value *at);
void conf_doubt(struct loader *); /* doubts.c: of a model without mistakes */
/* build.c */
void model_build(struct loader *);
/* The addresses that a listener names; none is another listener's, in this configuration. Complains. */
size_t addresses_build(struct loader *, struct conf_item *, struct address **);
const struct chain *chain_named(struct loader *, const struct conf_item *); /* its key `chain`; the empty one where that is unsaid, or wrong */
/* milters.c */
void milters_build(struct loader *);
void milters_judge(struct loader *); /* once filters are open: what a chain asks of a milter and cannot have */
/* A name of item->checked that is said on the wire; "": unsaid. Complains of what is no name. */
struct str name_in(struct loader *, const struct conf_item *, const char *key);
#endif
