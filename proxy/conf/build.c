/* build.c - builds the model from checked items: stores, listeners, limits and the rest. Names are resolved here, after the whole file has
 * been read, so that they may be used before they are defined. */
#include "conf/parts.h"
#include "milter/model.h"
#include "store/store.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

/* The item of a directive at the top level, not within another block; NULL: there is none. */
static struct conf_item *only_item(struct loader *l, const char *directive)
{
    struct conf_item *found = NULL;
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], directive) && !l->items[i]->used) {
            if (found)
                item_complain(l, l->items[i], NULL, "%s is said twice, first in %.*s:%u", directive,
                              STR_ARGS(found->file), found->line);
            else
                found = l->items[i];
        }
    return found;
}

static const struct filter_value *only_block(struct loader *l, const char *directive, enum conf_place place,
                                             struct conf_item **said)
{
    static const struct filter_value nothing = {.type = VALUE_MAP};
    struct conf_item *item = *said = only_item(l, directive);
    return block_check(l, item, item ? &item->body : &nothing, place, directive, false);
}

/* Checks a name that is sent to clients and backends: it must not contain a line end, for instance, which would begin another line. */
static void name_check(struct loader *l, const struct conf_item *item, const struct filter_value *at, const char *what,
                       struct str name)
{
    bool good = name.len > 0 && name.len <= 255;
    for (size_t i = 0; i < name.len && good; i++)
        good = char_is_alnum(name.at[i]) || (name.at[i] && strchr(".-[]:_", name.at[i]));
    if (!good)
        item_complain(l, item, at, "%s: expected a name like \"mx1.example.org\", got \"%.*s\"", what, STR_ARGS(name));
}

struct str name_in(struct loader *l, const struct conf_item *item, const char *key)
{
    const struct filter_value *at = value_get(item->checked, str_of(key));
    if (!at)
        return STR("");
    name_check(l, item, at, arena_print(&l->conf->smtp.mail.arena, "%s: \"%s\"", item_title(l, item), key).at, at->text);
    return at->text;
}

/* ---- limits and timeouts ---- */

/* True: the block sets this directive itself. Without braces (NULL) every directive counts as set, since the block holds the defaults. */
static bool is_taken(const struct filter_value *own, const char *name)
{
    return !own || value_get(own, str_of(name));
}

static void limits_fill(struct limits *to, const struct filter_value *block, const struct filter_value *own)
{
#define LIMIT(name, type, ...)                                                                                         \
    if (is_taken(own, #name))                                                                                          \
        to->name = (type)block_integer(block, #name);
#include "mail/limits.def"
#undef LIMIT
}

static void timeouts_fill(struct timeouts *to, const struct filter_value *block, const struct filter_value *own)
{
#define TIMEOUT(name, ...)                                                                                             \
    if (is_taken(own, #name))                                                                                          \
        to->name = block_milliseconds(block, #name);
#include "smtp/timeouts.def"
#undef TIMEOUT
}

/* The first of two keys that the block sets itself, at which a mistake is reported. NULL: it inherits both, so the mistake is reported where
 * they are set. */
static const struct filter_value *said_in(const struct filter_value *own, const char *key, const char *other)
{
    const struct filter_value *at = value_get(own, str_of(key));
    return at ? at : value_get(own, str_of(other));
}

static void limits_judge(struct loader *l, const struct conf_item *item, const struct filter_value *own,
                         struct limits *limits)
{
    const struct filter_value *at;
    if (!value_get(own, STR("header_size")) && limits->size && limits->size < limits->header_size)
        limits->header_size = limits->size; /* if it is not set, it is at most `size` */
    if ((at = value_get(own, STR("recipients"))) && at->number >= 1 && limits->recipients < 100)
        item_warn(l, item, at, "limits: recipients = %u: RFC 5321 4.5.3.1.8 wants at least 100", limits->recipients);
    if ((at = said_in(own, "rcpt_commands", "recipients")) && limits->rcpt_commands < limits->recipients)
        item_warn(l, item, at, "limits: rcpt_commands = %u is below recipients = %u", limits->rcpt_commands,
                  limits->recipients);
    if ((at = said_in(own, "size", "header_size")) && limits->size && limits->size < limits->header_size)
        item_complain(l, item, at, "limits: size is below header_size");
}

static void timeouts_judge(struct loader *l, const struct conf_item *item, const struct filter_value *own,
                           const struct timeouts *t)
{
    const struct filter_value *at = said_in(own, "end_by", "end_reply");
    if (at && t->end_by >= t->end_reply)
        item_complain(l, item, at, "timeouts: end_by must be shorter than end_reply");
}

static void limits_build(struct loader *l)
{
    struct conf_item *item;
    limits_fill(&l->conf->smtp.limits, only_block(l, "limits", IN_LIMITS, &item), NULL);
    limits_judge(l, item, item ? &item->body : NULL, &l->conf->smtp.limits);
    timeouts_fill(&l->conf->smtp.timeouts, only_block(l, "timeouts", IN_TIMEOUTS, &item), NULL);
    timeouts_judge(l, item, item ? &item->body : NULL, &l->conf->smtp.timeouts);
}

/* ---- stores ---- */

static void store_build(struct loader *l, struct conf_item *item)
{
    static const struct filter_value nothing = {.type = VALUE_MAP};
    const struct filter_value *block =
        block_check(l, item, item ? &item->body : &nothing, IN_STORE, item ? item_title(l, item) : "store", false);
    struct store_conf *s = &l->conf->smtp.mail.stores[l->conf->smtp.mail.nstores];
    struct str kind = block_text(block, "1");
    if (str_starts(kind, STR("lmdb:")) || str_starts(kind, STR("redis:"))) {
        item_complain(l, item, block_element(block, 1), "%s: \"%.*s\" is not supported yet: expected \"memory\"",
                      item_title(l, item), STR_ARGS(kind));
        return;
    }
    if (!str_equal(kind, STR("memory"))) {
        item_complain(l, item, block_element(block, 1), "%s: expected \"memory\", got \"%.*s\"", item_title(l, item),
                      STR_ARGS(kind));
        return;
    }
    s->name = item ? item->name : STR("default");
    s->kind = kind;
    s->size = (uint64_t)block_integer(block, "size");
    s->prefix = block_text(block, "prefix").at ? block_text(block, "prefix") : STR("");
    s->timeout = block_milliseconds(block, "timeout");
    s->store = store_memory_open(s->size);
    l->conf->smtp.mail.nstores++;
}

static void stores_build(struct loader *l)
{
    size_t n = 1;
    for (size_t i = 0; i < l->nitems; i++)
        n += item_is_a(l->items[i], "store");
    l->conf->smtp.mail.stores = arena_alloc(&l->conf->smtp.mail.arena, n * sizeof(struct store_conf));
    if (!item_named(l, "store", STR("default")))
        store_build(l, NULL);
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], "store"))
            store_build(l, l->items[i]);
}

/* ---- listeners ---- */

/* Complains of keys in a listener that would have no effect there. `keys` ends with NULL. */
static void refuse_shared(struct loader *l, const struct conf_item *item, const struct filter_value *own,
                          const char *const *keys)
{
    for (const struct filter_value *at; *keys; keys++)
        if ((at = value_get(own, str_of(*keys))))
            item_complain(l, item, at, "%s: \"%s\" holds for all listeners: say it at the top", item_title(l, item),
                          *keys);
}

static void listen_limits(struct loader *l, const struct conf_item *item, struct listen_conf *listen)
{
    static const char *const shared_limits[] = {"stress", NULL}, *const shared_timeouts[] = {"pool_idle", "pool_age",
                                                                                             "drain", NULL};
    const struct filter_value *own;
    listen->visit.limits = l->conf->smtp.limits;
    listen->timeouts = l->conf->smtp.timeouts;
    if ((own = value_get(item->checked, STR("limits")))) {
        limits_fill(&listen->visit.limits, block_check(l, item, own, IN_LIMITS, item_title(l, item), false), own);
        refuse_shared(l, item, own, shared_limits);
        limits_judge(l, item, own, &listen->visit.limits);
    }
    if ((own = value_get(item->checked, STR("timeouts")))) {
        timeouts_fill(&listen->timeouts, block_check(l, item, own, IN_TIMEOUTS, item_title(l, item), false), own);
        refuse_shared(l, item, own, shared_timeouts);
        timeouts_judge(l, item, own, &listen->timeouts);
    }
}

static void address_taken(struct loader *l, const struct conf_item *item, const struct address *at, const struct address *others, size_t n,
                          const char *kind, struct str name)
{
    for (size_t k = 0; k < n; k++)
        if (str_equal(others[k].text, at->text) && (at->port || at->name.ss_family == AF_UNIX))
            item_complain(l, item, NULL, "%s: %.*s is taken by %s \"%.*s\"", item_title(l, item), STR_ARGS(at->text), kind,
                          STR_ARGS(name));
}

size_t addresses_build(struct loader *l, struct conf_item *item, struct address **addresses)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    const struct filter_value *at;
    const char *why;
    size_t n = 0;
    *addresses = arena_alloc(a, 2 * (item->body.count + 1) * sizeof(struct address));
    for (size_t i = 1; (at = block_element(&item->body, i)); i++) {
        if (at->type != VALUE_TEXT)
            continue; /* a block, or a complaint was made already */
        struct address *to = *addresses + n;
        if (!address_parse(at->text, a, to, &why))
            continue;
        if (!to->name.ss_family) {
            item_complain(l, item, at, "%s: a listener takes an IP address, not the name \"%.*s\"", item_title(l, item),
                          STR_ARGS(to->host));
            continue;
        }
        n++;
        if (address_is_both(at->text) && address_parse(arena_print(a, "inet:0.0.0.0:%u", to->port), a, to + 1, &why))
            n++;
    }
    for (size_t m = 0; m < n; m++) {
        for (size_t i = 0; i < l->conf->smtp.nlistens; i++)
            address_taken(l, item, *addresses + m, l->conf->smtp.listens[i].addresses, l->conf->smtp.listens[i].naddresses, "listen",
                          l->conf->smtp.listens[i].visit.name);
        for (size_t i = 0; i < l->conf->nmilters; i++)
            address_taken(l, item, *addresses + m, l->conf->milters[i].addresses, l->conf->milters[i].naddresses, "milter",
                          l->conf->milters[i].visit.name);
    }
    return n;
}

/* `which of "one", "two"?` */
static const char *which_backend(struct loader *l)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    struct str text = STR("which of ");
    for (size_t i = 0; i < l->conf->smtp.nbackends; i++)
        text = arena_print(a, "%.*s%s\"%.*s\"", STR_ARGS(text), i ? ", " : "", STR_ARGS(l->conf->smtp.backends[i].hop.name));
    return l->conf->smtp.nbackends ? arena_print(a, "%.*s?", STR_ARGS(text)).at : "the name of a backend, and none is there";
}

const struct chain *chain_named(struct loader *l, const struct conf_item *item)
{
    const struct filter_value *at = value_get(item->checked, STR("chain"));
    for (size_t i = 0; at && i < l->conf->smtp.mail.nchains; i++)
        if (str_equal(l->conf->smtp.mail.chains[i].name, at->text))
            return &l->conf->smtp.mail.chains[i];
    if (at)
        complain_no_name(l, item, at, "chain", at->text);
    return l->empty_chain;
}

static void listen_names(struct loader *l, struct conf_item *item, struct listen_conf *listen)
{
    const struct filter_value *at = value_get(item->checked, STR("route"));
    if (at)
        listen->route = route_named(l, item, at);
    at = value_get(item->checked, STR("backend"));
    listen->route_falls_back = at != NULL;
    if (at)
        listen->backend = backend_named(l, item, at);
    else if (listen->route && listen->route->nbackends)
        listen->backend = listen->route->backends[0];
    else if (l->conf->smtp.nbackends == 1)
        listen->backend = l->conf->smtp.backends;
    else
        item_complain(l, item, NULL, "%s: \"backend\" is missing: %s", item_title(l, item), which_backend(l));
    listen->visit.chain = chain_named(l, item);
    if ((at = value_get(item->checked, STR("tls"))))
        listen->tls = tls_named(l, item, at);
    bool asked = block_true(item->checked, "implicit") || block_true(item->checked, "require_tls");
    if (asked && !value_get(item->checked, STR("tls")))
        item_complain(
            l, item,
            value_get(item->checked, block_true(item->checked, "implicit") ? STR("implicit") : STR("require_tls")),
            "%s: \"tls\" is missing: the name of a tls block with a certificate", item_title(l, item));
}

static void listen_identity(struct loader *l, struct conf_item *item, struct listen_conf *listen)
{
    struct str auth = block_text(item->checked, "auth");
    listen->auth = str_equal(auth, STR("require")) ? AUTH_REQUIRE
                   : str_equal(auth, STR("offer")) ? AUTH_OFFER
                                                   : AUTH_OFF;
    listen->auth_without_tls = block_true(item->checked, "auth_without_tls");
    listen->proxy = block_table(item->checked, "proxy");
    listen->xclient = block_table(item->checked, "xclient");
    listen->xforward = block_table(item->checked, "xforward");
    bool tls = value_get(item->checked, STR("tls")) != NULL; /* mistakes in it have been reported */
    if (listen->auth && !listen->auth_without_tls && !tls && !listen->proxy)
        item_complain(l, item, value_get(item->checked, STR("auth")),
                      "%s: \"auth\" without \"tls\" is never offered: name a tls block, or say auth_without_tls = true",
                      item_title(l, item));
    if (listen->auth && listen->backend && (listen->backend->protocol == IS_MAILDIR || listen->backend->protocol == SPEAKS_LMTP))
        item_complain(l, item, value_get(item->checked, STR("auth")),
                      "%s: \"auth\": backend \"%.*s\" knows no users: AUTH is relayed to an SMTP backend",
                      item_title(l, item), STR_ARGS(listen->backend->hop.name));
}

/* Whether we add a Received field. Not when the backend knows the client (`identity`) and writes the same Received field itself. */
static bool backend_says_received(const struct backend_conf *b)
{
    return b->identity == IDENTITY_XCLIENT || b->identity == IDENTITY_PROXY || b->identity == IDENTITY_PROXY_V1;
}

static void listen_build(struct loader *l, struct conf_item *item)
{
    struct listen_conf *listen = &l->conf->smtp.listens[l->conf->smtp.nlistens];
    item->checked = block_check(l, item, &item->body, IN_LISTEN, item_title(l, item), false);
    listen->visit.name = item->name;
    listen->file = item->file;
    listen->line = item->line;
    listen->index = (unsigned)l->conf->smtp.nlistens;
    listen->naddresses = addresses_build(l, item, &listen->addresses);
    l->conf->smtp.nlistens++;
    listen_names(l, item, listen);
    listen_identity(l, item, listen);
    listen->chunking = block_true(item->checked, "chunking");
    listen->implicit = block_true(item->checked, "implicit");
    listen->require_tls = block_true(item->checked, "require_tls") || listen->implicit;
    listen->syntax = str_equal(block_text(item->checked, "syntax"), STR("strict")) ? SYNTAX_STRICT : SYNTAX_LENIENT;
    listen->bare = str_equal(block_text(item->checked, "bare"), STR("normalize")) ? BARE_NORMALIZE : BARE_REJECT;
    listen->visit.received = value_get(item->checked, STR("received"))
                           ? block_true(item->checked, "received")
                           : !(listen->backend && backend_says_received(listen->backend));
    struct str hostname = name_in(l, item, "hostname");
    listen->visit.hostname = hostname.len ? hostname : l->conf->smtp.mail.hostname;
    listen_limits(l, item, listen);
}

static void listens_build(struct loader *l)
{
    size_t n = 0, milters = 0;
    for (size_t i = 0; i < l->nitems; i++) {
        n += item_is_a(l->items[i], "listen");
        milters += item_is_a(l->items[i], "milter");
    }
    l->conf->smtp.listens = arena_alloc(&l->conf->smtp.mail.arena, (n + 1) * sizeof(struct listen_conf));
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], "listen"))
            listen_build(l, l->items[i]);
    if (!n && !milters)
        complain(l->complaints, false, l->conf->smtp.mail.path, 0, "there is no listener: write listen \"NAME\" { \":25\" }");
}

/* ---- the rest ---- */

static struct str only_text(struct loader *l, const char *directive, struct conf_item **said)
{
    struct conf_item *item = *said = only_item(l, directive);
    struct filter_value value;
    if (!item || !value_convert(&l->conf->smtp.mail, l->complaints, &item->body, TYPE_TEXT, TYPE_NONE, directive, &value))
        return STR_NONE;
    return value.text;
}

static void hostname_build(struct loader *l)
{
    char name[HOST_NAME_MAX + 1] = "localhost";
    struct conf *conf = l->conf;
    struct conf_item *item;
    conf->smtp.mail.hostname = only_text(l, "hostname", &item);
    if (!conf->smtp.mail.hostname.at) {
        gethostname(name, sizeof name - 1);
        conf->smtp.mail.hostname = arena_str(&conf->smtp.mail.arena, str_of(name));
    }
    name_check(l, item, NULL, "hostname", conf->smtp.mail.hostname);
}

static void workers_build(struct loader *l)
{
    struct conf_item *item = only_item(l, "workers");
    cpu_set_t set;
    l->conf->smtp.workers = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    if (!item || (item->body.type == VALUE_TEXT && str_equal(item->body.text, STR("auto"))))
        return;
    if (item->body.type == VALUE_NUMBER && item->body.number >= 1 && item->body.number <= 1024 &&
        item->body.number == (double)item->body.integer)
        l->conf->smtp.workers = (unsigned)item->body.integer;
    else
        item_complain(l, item, NULL, "workers: expected workers(N), N from 1 to 1024, or workers \"auto\"");
}

static void dns_server(struct loader *l, const struct conf_item *item, const struct filter_value *at)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    struct address address;
    const char *why;
    uint8_t octets[16];
    struct str text = at->text;
    if (at->type != VALUE_TEXT)
        return;
    bool bare6 = inet_pton(AF_INET6, text.at, octets) == 1, bare4 = inet_pton(AF_INET, text.at, octets) == 1;
    struct str full = bare6 ? arena_print(a, "[%s]:53", text.at) : bare4 ? arena_print(a, "%s:53", text.at) : text;
    if (!address_parse(full, a, &address, &why) || !address.port ||
        !(address.name.ss_family == AF_INET || address.name.ss_family == AF_INET6)) {
        item_complain(l, item, at, "dns: expected an IP address, with or without a port, got \"%.*s\"", STR_ARGS(text));
        return;
    }
    const char *format = address.name.ss_family == AF_INET6 ? "%.*s%s[%.*s]:%u" : "%.*s%s%.*s:%u";
    l->conf->smtp.dns = arena_print(a, format, STR_ARGS(l->conf->smtp.dns), l->conf->smtp.dns.len ? "," : "",
                               STR_ARGS(address_ip(&address, a)), address.port);
}

static void dns_build(struct loader *l)
{
    struct conf_item *item;
    const struct filter_value *block = only_block(l, "dns", IN_DNS, &item), *at,
                              *servers = value_get(block, STR("servers"));
    for (size_t i = 1; (at = block_element(block, i)); i++)
        dns_server(l, item, at);
    for (size_t i = 0; servers && i < servers->count; i++)
        dns_server(l, item, servers->items + i);
}

static size_t word_index(const struct filter_value *block, const char *key, const char *const *words, size_t n)
{
    size_t i = 0;
    while (i < n && !str_equal(block_text(block, key), str_of(words[i])))
        i++;
    return i < n ? i : 0; /* for another word a complaint was made */
}

/* An error that `sluice run` would certainly have with this path; NULL: none. Permissions are checked when the file is opened. */
static const char *log_path_wrong(const struct log_settings *log)
{
    char folder[PATH_MAX];
    struct stat st;
    if (log->target != LOG_TO_FILE || log->path.len >= sizeof folder)
        return NULL;
    if (stat(log->path.at, &st) == 0)
        return S_ISDIR(st.st_mode) ? "it is a folder" : NULL;
    memcpy(folder, log->path.at, log->path.len + 1);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    return slash && slash > folder && stat(folder, &st) != 0 ? strerror(errno) : NULL;
}

static void log_build(struct loader *l)
{
    static const char *const levels[] = {"debug", "info", "warning", "error"}, *const formats[] = {"auto", "logfmt",
                                                                                                   "json"};
    static const char *const names[] = {"kern",   "user",   "mail",   "daemon",   "auth",   "syslog", "lpr",
                                        "news",   "uucp",   "cron",   "authpriv", "ftp",    "local0", "local1",
                                        "local2", "local3", "local4", "local5",   "local6", "local7"};
    static const uint8_t facilities[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                         10, 11, 16, 17, 18, 19, 20, 21, 22, 23}; /* RFC 5424 6.2.1 */
    struct conf_item *item;
    const struct filter_value *block = only_block(l, "log", IN_LOG, &item);
    struct log_settings *log = &l->conf->log;
    *log = (struct log_settings){.format = (enum log_format)word_index(block, "format", formats, countof(formats)),
                                 .level = (enum log_level)word_index(block, "level", levels, countof(levels)),
                                 .facility = facilities[word_index(block, "facility", names, countof(names))]};
    struct str to = block_text(block, "to");
    if (str_equal(to, STR("syslog")) || str_starts(to, STR("syslog:"))) {
        log->target = LOG_TO_SYSLOG;
        log->path = to.len > 7 ? conf_path(l, str_part(to, 7, to.len)) : STR("/dev/log");
    } else if (!str_equal(to, STR("stderr"))) {
        log->target = LOG_TO_FILE;
        log->path = conf_path(l, to);
    }
    const char *wrong = l->to_try ? NULL : log_path_wrong(log);
    if (!to.len || memchr(to.at, 0, to.len))
        item_complain(l, item, value_get(block, STR("to")),
                      "log: \"to\": expected \"stderr\", \"syslog\" or the path of a file");
    else if (wrong)
        item_complain(l, item, value_get(block, STR("to")), "log: %.*s: %s", STR_ARGS(log->path), wrong);
    l->conf->smtp.mail.log_subject = block_true(block, "subject");
}

static void user_build(struct loader *l)
{
    struct conf_item *item;
    l->conf->user = only_text(l, "user", &item);
    if (l->conf->user.at && !l->to_try && !getpwnam(l->conf->user.at))
        item_complain(l, item, NULL, "user: there is no user \"%.*s\" on this machine", STR_ARGS(l->conf->user));
}

void model_build(struct loader *l)
{
    hostname_build(l);
    workers_build(l);
    user_build(l);
    dns_build(l);
    log_build(l);
    struct conf_item *item;
    struct str control = only_text(l, "control", &item);
    l->conf->control = control.len ? conf_path(l, control) : STR_NONE;
    limits_build(l);
    tls_build(l);
    backends_build(l);
    routes_build(l);
    stores_build(l);
    chains_build(l);
    listens_build(l);
    milters_build(l);
}
