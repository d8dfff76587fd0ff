/* model.h - the configuration as smtp sees it: one immutable, counted snapshot. proxy/conf/load.c builds it from a Lua file;
 * nothing here is changed after loading but the reference count. Durations in milliseconds, sizes in octets. */
#ifndef SMTP_MODEL_H
#define SMTP_MODEL_H
#include "base/log.h"
#include "mail/model.h"
#include "net/address.h"
#include "net/tls.h"
#include "wire/content.h"
#include "wire/syntax.h"

struct timeouts { /* what each means, and its default: smtp/timeouts.def */
#define TIMEOUT(name, ...) uint64_t name;
#include "smtp/timeouts.def"
#undef TIMEOUT
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
enum protocol { SPEAKS_SMTP, SPEAKS_LMTP, IS_MAILDIR }; /* LMTP: RFC 2033. maildir: address.host is the directory, delivered to by ourselves */
enum balance { BALANCE_LEAST_CONNECTIONS, BALANCE_ROUND_ROBIN };
enum { BACKEND_SERVERS = 64 }; /* most of one backend */
struct server_conf { /* one place where a backend can be reached */
    struct address address;
    uint32_t weight;          /* 1 to 1000 */
    bool backup;              /* used only while all others are down */
};
struct backend_conf {
    struct next_hop hop;      /* the first member: its name */
    unsigned index;           /* in conf->backends: the worker's pool of it */
    enum protocol protocol;
    struct address address;   /* of the first server */
    struct server_conf *servers; size_t nservers; /* at least one */
    enum balance balance;
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
    uint64_t health;          /* 30s: between two health checks of a server; 0: none */
    uint32_t rise, fall;      /* 2, 3 */
    bool chunking;            /* BDAT towards it, where it saves work */
};

static inline const struct next_hop *hop_of(const struct backend_conf *backend)
{
    return backend ? &backend->hop : NULL;
}
static inline const struct backend_conf *backend_of(const struct next_hop *hop)
{
    return (const struct backend_conf *)hop; /* it is its first member */
}

/* Backends by address: keys of `by` (a table: user@domain, domain, .domain, "*") to the name of a backend. */
struct route {
    struct str name;
    bool by_sender;           /* the reverse-path chooses, else each forward-path */
    struct table *table;      /* value: index in conf->backends, in decimal */
    const struct backend_conf **backends; size_t nbackends; /* that it may choose */
};

enum auth_policy { AUTH_OFF, AUTH_OFFER, AUTH_REQUIRE };
struct listen_conf {
    struct visit_conf visit;  /* the first member; received: default false with identity xclient, else true */
    struct str file; uint32_t line; /* where it stands in the configuration */
    unsigned index;
    struct address *addresses; size_t naddresses;
    struct tls *tls;          /* NULL: STARTTLS is not offered */
    bool implicit;            /* TLS from the first octet */
    bool require_tls;         /* MAIL before STARTTLS: 530 */
    const struct backend_conf *backend; /* where mail goes; with a route: who is asked for AUTH and what EHLO offers */
    const struct route *route; /* NULL: all goes to backend */
    bool route_falls_back;    /* addresses the route does not have go to backend, else 550 */
    enum auth_policy auth;
    bool auth_without_tls;
    struct table *proxy, *xclient, *xforward; /* networks; NULL: nobody. proxy: a PROXY header is due from these */
    bool chunking;            /* offered to clients */
    enum bare bare;
    enum syntax syntax;       /* how much of RFC 5321's grammar clients may miss */
    struct timeouts timeouts;
};

struct smtp_conf { /* the first member of struct conf (conf/conf.h) */
    struct mail_conf mail;    /* the first member: what is known below this floor */
    uint32_t refs;            /* of workers and the loader; atomic */
    unsigned generation;
    unsigned workers;
    struct str dns;           /* servers, or STR_NONE */
    struct listen_conf *listens; size_t nlistens;
    struct backend_conf *backends; size_t nbackends;
    struct route *routes; size_t nroutes;
    struct limits limits;
    struct timeouts timeouts;
};
/* Before anybody uses it: stores of the same name and kind go on with what the old configuration's hold. */
void smtp_conf_take_over(struct smtp_conf *, const struct smtp_conf *old);
struct smtp_conf *smtp_conf_hold(struct smtp_conf *);
bool smtp_conf_is_left(const struct smtp_conf *); /* one reference is held: the caller's */
void smtp_conf_drop(struct smtp_conf *); /* the last one closes filters, tables, tls, stores' references, and frees the struct conf around it */

#endif
