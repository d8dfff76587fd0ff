/* model.h - the configuration as mail and smtp see it: one immutable, counted snapshot. proxy/conf/load.c builds it from a Lua file;
 * nothing here is changed after loading but the reference count. Durations in milliseconds, sizes in octets. */
#ifndef SMTP_MODEL_H
#define SMTP_MODEL_H
#include "base/log.h"
#include "base/table.h"
#include "base/value.h"
#include "filters/filter.h"
#include "net/address.h"
#include "net/tls.h"
#include "wire/content.h"
#include "wire/syntax.h"

struct complaints { /* what is wrong, each with its place; errors and warnings */
    struct arena *arena;
    struct complaint { struct complaint *next; bool warning; struct str file; uint32_t line; struct str text; } *first, *last;
    unsigned errors, warnings;
};
void complain(struct complaints *, bool warning, struct str file, uint32_t line, const char *format, ...) PRINTF_LIKE(5, 6);
/* The name of `names` that is nearest to `word` (edit distance at most 2 or a third), or STR_NONE. */
struct str nearest_name(struct str word, const char *const *names, size_t n);

struct limits {
    uint64_t size;              /* of a message; 0: none. EHLO SIZE. default 50M */
    uint64_t header_size;       /* 256K, or size where that is lower and this one is not said beside it */
    uint64_t hold_memory;       /* held content of a transaction in memory, then a file: 256K */
    uint64_t memory;            /* of a worker, blocks and arenas: over it MAIL hears 452. 1G */
    uint64_t min_rate;          /* octets a second in content, over 30 s windows; 0: none. default 500 */
    uint32_t connections;       /* in total: 10000 */
    uint32_t connections_per_client; /* 100; 0: none */
    uint32_t recipients;        /* accepted per transaction: 1000 */
    uint32_t rcpt_commands;     /* said per transaction, refused ones too: 10000; 421 beyond */
    uint32_t messages;          /* per session: 0 = no limit */
    uint32_t errors;            /* 20: 5yz for commands, then 421 */
    uint32_t junk;              /* 100: NOOP RSET VRFY ... between two messages; 0: no limit */
    uint32_t line;              /* octets of a command line: 4096 */
    uint32_t hops;              /* Received fields: 100 */
    uint32_t loops;             /* Received fields of ours: 5 */
    uint64_t held;              /* octets that all spools together hold, memory and files: 4G */
    uint32_t auth_failures;     /* 3: then 421 */
    uint32_t stress;            /* percent of connections, memory, descriptors: then timeouts and budgets shrink; 0: never */
};
struct timeouts {
    uint64_t command, data, handshake, write;                        /* client: 5m 3m 30s 5m */
    uint64_t line;      /* 60s: a command, from its first octet to its end */
    uint64_t stress;    /* 10s: what command, line and data shrink to under stress */
    uint64_t proxy;     /* 5s: the PROXY header */
    uint64_t connect, banner, helo, mail, rcpt, data_reply, block, end; /* backend: 30s 5m 5m 5m 5m 2m 3m 590s after the client's end */
    uint64_t end_by;    /* 240s: after it our end of mail data is not said any more */
    uint64_t greeting;  /* 0: how long the banner is kept back to catch early talkers; 0: not at all but for a look */
    uint64_t pool_idle, pool_age; /* 60s 10m */
    uint64_t drain;     /* 30s */
};

enum identity { IDENTITY_NONE, IDENTITY_XCLIENT, IDENTITY_XFORWARD, IDENTITY_PROXY, IDENTITY_PROXY_V1 };
enum { IDENTITIES = IDENTITY_PROXY_V1 + 1 };
#define IDENTITY_NAMES "none xclient xforward proxy proxy_v1" /* as they are written, in the same order */
static inline struct str identity_name(enum identity identity)
{
    struct str rest = STR(IDENTITY_NAMES), name = str_word(&rest);
    for (unsigned i = 0; i < (unsigned)identity; i++)
        name = str_word(&rest);
    return name;
}
enum backend_tls { BACKEND_TLS_OFF, BACKEND_TLS_OPPORTUNISTIC, BACKEND_TLS_VERIFIED };
enum balance { BALANCE_LEAST_CONNECTIONS, BALANCE_ROUND_ROBIN };
enum { BACKEND_SERVERS = 64 }; /* most of one backend */
struct server_conf { /* one place where a backend can be reached */
    struct address address;
    uint32_t weight;          /* 1 to 1000 */
    bool backup;              /* used only while all others are down */
};
struct backend_conf {
    struct str name;
    unsigned index;           /* in conf->backends: the worker's pool of it */
    bool maildir;             /* address.host is the directory: delivered to by ourselves */
    struct address address;   /* of the first server */
    struct server_conf *servers; size_t nservers; /* at least one */
    enum balance balance;
    bool lmtp;                /* RFC 2033 */
    bool separate;            /* one rcpt per transaction: the others hear 452 4.5.3 */
    enum identity identity;
    bool identity_required;   /* XCLIENT, PROXY: nothing is forwarded to a server that does not take it */
    enum backend_tls tls_mode;
    bool tls_implicit;        /* TLS from the first octet; tls_mode is not OFF then */
    struct tls *tls;
    struct str tls_name;      /* SNI and the name to verify; "" : the host of the address */
    struct str helo;          /* what we call ourselves: "" = hostname */
    uint32_t pool;            /* idle connections kept per worker: 16; 0: no reuse across sessions */
    uint32_t pool_uses;       /* transactions per connection: 100 */
    uint32_t connections;     /* most to one server, of all workers; 0: any */
    uint64_t wait;            /* 10s: for a connection, when that many are in use */
    uint64_t health;          /* 30s: between two looks at a server; 0: none */
    uint32_t rise, fall;      /* 2, 3 */
    bool chunking;            /* BDAT towards it, where it saves work */
};

/* Backends by address: keys of `by` (a table: user@domain, domain, .domain, "*") to the name of a backend. */
struct route {
    struct str name;
    bool by_sender;           /* the reverse-path chooses, else each forward-path */
    struct table *table;      /* value: index in conf->backends, in decimal */
    const struct backend_conf **backends; size_t nbackends; /* that it may choose */
};

enum on_error { ON_ERROR_DEFER, ON_ERROR_CONTINUE, ON_ERROR_REJECT };
struct condition { /* only = { }, except = { }: all keys given must hold, any element of a key does */
    bool given;
    int8_t auth, tls;         /* -1: not asked; 0, 1 */
    struct table *client, *from, *rcpt;
    const struct str *listens; size_t nlistens;
};

struct filter { /* an instance: one place in one chain. What filters/filter.h calls struct filter */
    const struct filter_def *def;
    struct conf *conf;
    unsigned index;           /* in conf->filters: slot of its worker memory */
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
    bool needs_auth;          /* it never acts for who has not authenticated */
    struct condition only, except;
    struct { unsigned id, seconds; } ticks[16];
    unsigned nticks;
    struct complaints *complaints; /* while opening */
};

struct chain {
    struct str name;
    struct filter **filters; size_t nfilters;
    const struct backend_conf *quarantine; /* NULL: none */
    struct condition only, except;
};

struct store; /* store/store.h */
struct store_conf { struct str name, kind; struct store *store; struct str prefix; uint64_t timeout, size; };

enum auth_policy { AUTH_OFF, AUTH_OFFER, AUTH_REQUIRE };
struct listen_conf {
    struct str name;
    struct str file; uint32_t line; /* where it stands in the configuration */
    unsigned index;
    struct address *addresses; size_t naddresses;
    struct tls *tls;          /* NULL: STARTTLS is not offered */
    bool implicit;            /* TLS from the first octet */
    bool require_tls;         /* MAIL before STARTTLS: 530 */
    const struct chain *chain; /* never NULL: the empty chain at least */
    const struct backend_conf *backend; /* where mail goes; with a route: who is asked for AUTH and what EHLO offers */
    const struct route *route; /* NULL: all goes to backend */
    bool route_falls_back;    /* whom the route does not know goes to backend, else hears 550 */
    enum auth_policy auth;
    bool auth_without_tls;
    struct table *proxy, *xclient, *xforward; /* networks; NULL: nobody. proxy: a PROXY header is due from these */
    bool chunking;            /* offered to clients */
    enum bare bare;
    enum syntax syntax;       /* how much of RFC 5321's grammar clients may miss */
    bool received;            /* add our own Received field: default false with identity xclient, else true */
    struct str hostname;      /* in the banner; conf's by default */
    struct limits limits;
    struct timeouts timeouts;
};

struct conf {
    uint32_t refs;            /* of workers and the loader; atomic */
    unsigned generation;
    struct arena arena;
    struct str path, hostname;
    unsigned workers;
    struct str dns;           /* servers, or STR_NONE */
    struct str user;
    struct listen_conf *listens; size_t nlistens;
    struct backend_conf *backends; size_t nbackends;
    struct route *routes; size_t nroutes;
    struct str control;       /* path of the control socket; STR_NONE: none */
    struct chain *chains; size_t nchains;
    struct filter **filters; size_t nfilters;
    struct store_conf *stores; size_t nstores; /* "default" (memory) is always there */
    struct table **tables; size_t ntables, tables_room;     /* all of them: refreshed every second */
    struct log_settings log;
    bool log_subject;
    struct limits limits;
    struct timeouts timeouts;
};
/* Before anybody uses it: stores of the same name and kind go on with what the old configuration's hold. */
void conf_take_over(struct conf *, const struct conf *old);
struct conf *conf_hold(struct conf *);
bool conf_is_left(const struct conf *); /* one reference is held: the caller's */
/* A path of the configuration: relative to the folder of its file. In its arena. */
struct str conf_beside(struct conf *, struct str path);
void conf_drop(struct conf *); /* the last one closes filters, tables, tls, stores' references */
void conf_keep_table(struct conf *, struct table *); /* while loading: closed and refreshed with the conf */

/* mail/instance.c. Opens an instance: def->open with complaints collected; false when any error was complained. */
bool filter_open(struct filter *, struct complaints *);
void filter_close(struct filter *);
const char *value_shown(const struct filter_value *); /* "true", "the text "x"", ...: what was got in place of what was expected; until the next call */
/* A value as written turned into one of the wanted type (TYPE_DURATION from "30s", TYPE_CIDR from a list of texts or a file
 * path, TYPE_TABLE from a path or a list, ...). False: complained, with the value's place. */
bool value_convert(struct conf *, struct complaints *, const struct filter_value *from, enum filter_type type, enum filter_type of,
                   const char *what, struct filter_value *to);
#endif
