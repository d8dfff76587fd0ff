/* directives.c - the table of all directives: where each is allowed, its type, default and explanation.
 *
 * The check of a configuration, suggestions for misspelt names, `sluice check --defaults` and the manual page are made from it. Presets are
 * written as in a configuration file. */
#include "conf/parts.h"
#include <math.h>
#include <stdarg.h>

#define VALUE KIND_VALUE
#define DURATION(place, key, value, text)                                                                              \
    {                                                                                                                  \
        place, key, VALUE, TYPE_DURATION, .preset = value, .least = 0.001, .most = 1e6, .doc = text                    \
    }

/* clang-format off */
static const struct directive directives[] = {
    {AT_TOP, "hostname", VALUE, TYPE_TEXT,
     .doc = "our name in banners, EHLO and Received; default: that of the machine"},
    {AT_TOP, "workers", VALUE, TYPE_ANY, .preset = "auto",
     .doc = "threads, each with its own loop; auto: one per processor"},
    {AT_TOP, "user", VALUE, TYPE_TEXT, .doc = "user that the process changes to after all ports are bound; only when started as root"},
    {AT_TOP, "module", VALUE, TYPE_TEXT, .many = true,
     .doc = "a shared object with filters, built against sluice/filter.h"},
    {AT_TOP, "dns", KIND_BLOCK, .inside = IN_DNS, .doc = "the resolver"},
    {AT_TOP, "log", KIND_BLOCK, .inside = IN_LOG, .doc = "what is logged, and how"},
    {AT_TOP, "limits", KIND_BLOCK, .inside = IN_LIMITS, .doc = "defaults for all listeners"},
    {AT_TOP, "timeouts", KIND_BLOCK, .inside = IN_TIMEOUTS, .doc = "defaults for all listeners"},
    {AT_TOP, "tls", KIND_NAMED, .inside = IN_TLS, .many = true,
     .doc = "certificates, and requirements for the peer"},
    {AT_TOP, "backend", KIND_NAMED, .inside = IN_BACKEND, .many = true, .doc = "servers that mail is forwarded to"},
    {AT_TOP, "store", KIND_NAMED, .inside = IN_STORE, .many = true,
     .doc = "counters and values of filters; a store \"default\" in memory always exists"},
    {AT_TOP, "chain", KIND_NAMED, .inside = IN_CHAIN, .many = true, .doc = "filters in their order"},
    {AT_TOP, "filter", KIND_NAMED, .inside = IN_FILTER, .many = true,
     .doc = "an element of a chain; other names are options of the filter itself"},
    {AT_TOP, "listen", KIND_NAMED, .inside = IN_LISTEN, .many = true, .doc = "a listener for clients"},
    {AT_TOP, "milter", KIND_NAMED, .inside = IN_MILTER, .many = true,
     .doc = "a listener for Postfix or Sendmail, which ask a chain about their mail by the milter protocol"},
    {AT_TOP, "route", KIND_NAMED, .inside = IN_ROUTE, .many = true, .doc = "backends by address"},
    {AT_TOP, "control", VALUE, TYPE_TEXT,
     .doc = "path of the socket that sluice reload, drain, status and upgrade talk to; default: none"},

    {IN_LISTEN, "1", VALUE, TYPE_ADDRESS, .required = true, .many = true, .doc = "address to listen at; \":25\" is both IP families"},
    {IN_LISTEN, "backend", VALUE, TYPE_TEXT, .names = true, .doc = "the name of a backend; default: the only one"},
    {IN_LISTEN, "chain", VALUE, TYPE_TEXT, .names = true, .doc = "the name of a chain; default: no filter"},
    {IN_LISTEN, "tls", VALUE, TYPE_TEXT, .names = true, .doc = "the name of a tls block; default: STARTTLS is not offered"},
    {IN_LISTEN, "implicit", VALUE, TYPE_BOOL, .preset = "false", .doc = "TLS from the first octet (port 465)"},
    {IN_LISTEN, "require_tls", VALUE, TYPE_BOOL, .preset = "false", .doc = "530 to mail before STARTTLS"},
    {IN_LISTEN, "syntax", KIND_CHOICE, TYPE_TEXT, .preset = "lenient", .choices = "lenient strict",
     .doc = "commands: also what Postfix accepts by default, corrected to the form of RFC 5321; or only RFC 5321"},
    {IN_LISTEN, "bare", KIND_CHOICE, TYPE_TEXT, .preset = "reject", .choices = "reject normalize",
     .doc = "a bare CR or LF in content: refused, or a bare LF made a line end"},
    {IN_LISTEN, "received", VALUE, TYPE_BOOL,
     .doc = "add our Received field; default: not when the backend is told by XCLIENT"},
    {IN_LISTEN, "hostname", VALUE, TYPE_TEXT, .doc = "our name here; default: hostname"},
    {IN_LISTEN, "limits", KIND_BLOCK, .inside = IN_LIMITS, .doc = "for this listener only"},
    {IN_LISTEN, "timeouts", KIND_BLOCK, .inside = IN_TIMEOUTS, .doc = "for this listener only"},
    {IN_LISTEN, "route", VALUE, TYPE_TEXT, .names = true,
     .doc = "the name of a route; backend is then used for addresses that the route does not have (without backend: 550), and for AUTH"},
    {IN_LISTEN, "auth", KIND_CHOICE, TYPE_TEXT, .preset = "off", .choices = "off offer require",
     .doc = "AUTH, relayed to the backend; require: 530 to mail without"},
    {IN_LISTEN, "auth_without_tls", VALUE, TYPE_BOOL, .preset = "false", .doc = "AUTH is offered in the clear too"},
    {IN_LISTEN, "proxy", VALUE, TYPE_CIDR,
     .doc = "from these addresses every connection begins with a PROXY protocol header, v1 or v2"},
    {IN_LISTEN, "xclient", VALUE, TYPE_CIDR, .doc = "clients that may use XCLIENT"},
    {IN_LISTEN, "xforward", VALUE, TYPE_CIDR, .doc = "clients that may use XFORWARD"},
    {IN_LISTEN, "chunking", VALUE, TYPE_BOOL, .preset = "true", .doc = "CHUNKING (BDAT) is offered"},

    {IN_BACKEND, "1", VALUE, TYPE_ANY, .required = true, .many = true,
     .doc = "\"HOST:PORT\", \"unix:/PATH\", { \"HOST:PORT\", weight = 2 } for each server; or one \"maildir:/PATH\""},
    {IN_BACKEND, "protocol", KIND_CHOICE, TYPE_TEXT, .preset = "smtp", .choices = "smtp lmtp",
     .doc = "lmtp: each recipient has its own last reply (RFC 2033)"},
    {IN_BACKEND, "separate", VALUE, TYPE_BOOL, .preset = "false",
     .doc = "one recipient per transaction, so that each recipient has its own reply to the message"},
    {IN_BACKEND, "balance", KIND_CHOICE, TYPE_TEXT, .preset = "least_connections",
     .choices = "least_connections round_robin", .doc = "how one of several servers is chosen"},
    {IN_BACKEND, "identity", KIND_CHOICE, TYPE_TEXT, .preset = "none", .choices = IDENTITY_NAMES,
     .doc = "how the backend learns who the client is"},
    {IN_BACKEND, "identity_required", VALUE, TYPE_BOOL, .preset = "true",
     .doc = "451 to mail while a server does not accept XCLIENT or PROXY (false: it sees our address for every client); if it lacks XFORWARD, there is only a warning"},
    {IN_BACKEND, "tls", VALUE, TYPE_TEXT, .preset = "off",
     .doc = "off, opportunistic, verified, or the name of a tls block (verified)"},
    {IN_BACKEND, "tls_name", VALUE, TYPE_TEXT,
     .doc = "the name to ask for and to verify; default: the host of the address"},
    {IN_BACKEND, "tls_implicit", VALUE, TYPE_BOOL, .preset = "false", .doc = "TLS from the first octet"},
    {IN_BACKEND, "helo", VALUE, TYPE_TEXT, .doc = "our name in EHLO; default: hostname"},
    {IN_BACKEND, "pool", VALUE, TYPE_NUMBER, .preset = "16", .most = 10000,
     .doc = "idle connections kept per worker, and for one second also more; 0: none"},
    {IN_BACKEND, "pool_uses", VALUE, TYPE_NUMBER, .preset = "100", .least = 1, .most = 1e6,
     .doc = "transactions per connection"},
    {IN_BACKEND, "connections", VALUE, TYPE_NUMBER, .preset = "0", .most = 1e6,
     .doc = "most connections to one server, of all workers; 0: any"},
    DURATION(IN_BACKEND, "wait", "10s", "for a connection, when as many as allowed are in use; then 451"),
    {IN_BACKEND, "health", VALUE, TYPE_DURATION, .preset = "30s", .most = 86400,
     .doc = "between two health checks of each server, by EHLO; 0: none"},
    {IN_BACKEND, "rise", VALUE, TYPE_NUMBER, .preset = "2", .least = 1, .most = 100,
     .doc = "successful checks after which a server is used again"},
    {IN_BACKEND, "fall", VALUE, TYPE_NUMBER, .preset = "3", .least = 1, .most = 100,
     .doc = "consecutive failures after which a server is not used"},
    {IN_BACKEND, "chunking", KIND_CHOICE, TYPE_TEXT, .preset = "auto", .choices = "auto off",
     .doc = "use BDAT, if the server offers CHUNKING and it saves work"},

    {IN_SERVER, "1", VALUE, TYPE_TEXT, .required = true, .doc = "\"HOST:PORT\" or \"unix:/PATH\""},
    {IN_SERVER, "weight", VALUE, TYPE_NUMBER, .preset = "1", .least = 1, .most = 1000, .doc = "share of connections, relative to the other servers"},
    {IN_SERVER, "backup", VALUE, TYPE_BOOL, .preset = "false", .doc = "used only while all others are down"},

    {IN_ROUTE, "by", KIND_CHOICE, TYPE_TEXT, .preset = "rcpt", .choices = "rcpt from",
     .doc = "whose address chooses: the recipient's or the sender's"},

    {IN_TLS, "1", VALUE, TYPE_ANY, .many = true,
     .doc = "{ certificate = , key = } for each name; the first is the default"},
    {IN_TLS, "certificate", VALUE, TYPE_TEXT, .doc = "a PEM file, or a folder with fullchain.pem and privkey.pem"},
    {IN_TLS, "key", VALUE, TYPE_TEXT, .doc = "a PEM file; default: in the file or folder of the certificate"},
    {IN_TLS, "minimum", KIND_CHOICE, TYPE_TEXT, .preset = "TLSv1.2", .choices = "TLSv1.2 TLSv1.3",
     .doc = "the oldest version"},
    {IN_TLS, "ciphers", VALUE, TYPE_TEXT, .doc = "cipher list of TLS 1.2; default: strong, with forward secrecy"},
    {IN_TLS, "prefer_server", VALUE, TYPE_BOOL, .preset = "true",
     .doc = "use our order of ciphers, not the client's; but ChaCha20 first for clients that prefer it"},
    {IN_TLS, "ca", VALUE, TYPE_TEXT, .doc = "a PEM file of authorities we trust; default: those of the system"},
    {IN_TLS, "client", KIND_CHOICE, TYPE_TEXT, .preset = "none", .choices = "none optional required",
     .doc = "whether clients are asked for a certificate; required: without a valid one the handshake fails"},
    {IN_CERTIFICATE, "certificate", VALUE, TYPE_TEXT, .required = true, .doc = "as in tls"},
    {IN_CERTIFICATE, "key", VALUE, TYPE_TEXT, .doc = "as in tls"},

    {IN_CHAIN, "1", VALUE, TYPE_ANY, .many = true, .doc = "filter \"NAME\" { ... }, in order"},
    {IN_CHAIN, "quarantine", VALUE, TYPE_TEXT, .names = true, .doc = "the name of the backend for quarantined mail"},
    {IN_CHAIN, "observe", VALUE, TYPE_BOOL, .preset = "false",
     .doc = "default of observe for its filters"},
    {IN_CHAIN, "only", KIND_BLOCK, .inside = IN_CONDITION, .doc = "the chain runs only when all of these hold"},
    {IN_CHAIN, "except", KIND_BLOCK, .inside = IN_CONDITION, .doc = "the chain does not run when all of these hold"},

#define ALL     false, false
#define SCRIPTS true, false
#define LATER   false, true
#define CORE_OPTION(key, whose, ...) FILTER_ROW(key, whose, __VA_ARGS__)
#define FILTER_ROW(key, script, kept, ...) {IN_FILTER, #key, __VA_ARGS__, .scripts = script, .later = kept},
#include "filters/core_options.def"
#undef ALL
#undef SCRIPTS
#undef LATER
#undef CORE_OPTION
#undef FILTER_ROW

    {IN_CONDITION, "auth", VALUE, TYPE_BOOL, .doc = "the client has authenticated"},
    {IN_CONDITION, "tls", VALUE, TYPE_BOOL, .doc = "the session is encrypted"},
    {IN_CONDITION, "client", VALUE, TYPE_TABLE, .doc = "its address: networks, or the path of a table"},
    {IN_CONDITION, "from", VALUE, TYPE_TABLE, .doc = "the reverse-path: addresses and domains, or the path of a table"},
    {IN_CONDITION, "rcpt", VALUE, TYPE_TABLE, .doc = "the recipient; after RCPT, only holds when any recipient in the envelope matches, except when all match"},
    {IN_CONDITION, "listen", VALUE, TYPE_LIST, TYPE_TEXT, .doc = "names of listeners"},

    {IN_STORE, "1", VALUE, TYPE_TEXT, .preset = "memory", .doc = "\"memory\""},
    {IN_STORE, "size", VALUE, TYPE_SIZE, .preset = "64M", .least = 65536, .most = 1e12,
     .doc = "most memory; beyond that the keys that expire first are evicted"},
    {IN_STORE, "prefix", VALUE, TYPE_TEXT, .doc = "put before all keys"},
    DURATION(IN_STORE, "timeout", "500ms", "of an operation"),

    {IN_DNS, "1", VALUE, TYPE_TEXT, .many = true, .doc = "the same as servers"},
    {IN_DNS, "servers", VALUE, TYPE_LIST, TYPE_TEXT,
     .doc = "IP addresses, \"192.0.2.1:53\"; default: those of resolv.conf"},

    {IN_LOG, "to", VALUE, TYPE_TEXT, .preset = "stderr",
     .doc = "\"stderr\", \"syslog\", or the path of a file: it is opened again when it has been renamed, and at SIGHUP"},
    {IN_LOG, "facility", KIND_CHOICE, TYPE_TEXT, .preset = "mail",
     .choices = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp local0 local1 local2 local3 local4 local5 local6 local7",
     .doc = "of syslog"},
    {IN_LOG, "format", KIND_CHOICE, TYPE_TEXT, .preset = "auto", .choices = "auto logfmt json",
     .doc = "format of the lines; auto: logfmt, without the time for the journal and syslog, which add it"},
    {IN_LOG, "level", KIND_CHOICE, TYPE_TEXT, .preset = "info", .choices = "debug info warning error",
     .doc = "lowest level that is written; the events msg, rcpt, conn and auth always are"},
    {IN_LOG, "subject", VALUE, TYPE_BOOL, .preset = "false", .doc = "log the Subject of messages (privacy)"},

#define LIMIT(key, type, value, low, high, unit, text)                                                                 \
    {IN_LIMITS, #key, VALUE, TYPE_##unit, .preset = value, .least = low, .most = high, .doc = text},
#include "mail/limits.def"
#undef LIMIT
#define TIMEOUT(key, value, low, high, text)                                                                           \
    {IN_TIMEOUTS, #key, VALUE, TYPE_DURATION, .preset = value, .least = low, .most = high, .doc = text},
#include "smtp/timeouts.def"
#undef TIMEOUT

    {IN_MILTER, "1", VALUE, TYPE_ADDRESS, .required = true, .many = true,
     .doc = "address to listen at, as in smtpd_milters: \"127.0.0.1:10028\", \"unix:/PATH\""},
    {IN_MILTER, "chain", VALUE, TYPE_TEXT, .doc = "the name of a chain; default: no filter"},
    {IN_MILTER, "clients", VALUE, TYPE_CIDR,
     .doc = "addresses of MTAs; other connections are closed, since a milter trusts what an MTA says; default: this machine"},
    {IN_MILTER, "mode", VALUE, TYPE_TEXT, .preset = "0660", .doc = "of a unix socket"},
    {IN_MILTER, "group", VALUE, TYPE_TEXT, .doc = "of a unix socket: that of the MTA; default: our own"},
    {IN_MILTER, "connections", VALUE, TYPE_NUMBER, .preset = "1000", .least = 1, .most = 1e6,
     .doc = "per worker; MAIL on further connections gets 451"},
    DURATION(IN_MILTER, "progress", "20s", "between two progress packets while filters run at the end of a message"),
    {IN_MILTER, "limits", KIND_BLOCK, .inside = IN_MILTER_LIMITS, .doc = "for this milter"},
    {IN_MILTER, "timeouts", KIND_BLOCK, .inside = IN_MILTER_TIMEOUTS, .doc = "for this milter"},

    {IN_MILTER_LIMITS, "header_size", VALUE, TYPE_SIZE, .preset = "256K", .least = 1024, .most = 1 << 26,
     .doc = "of the header section"},
    {IN_MILTER_LIMITS, "hold_memory", VALUE, TYPE_SIZE, .preset = "256K", .most = 1e10,
     .doc = "memory for a body that filters replace or read again; the rest goes into a file"},
    {IN_MILTER_LIMITS, "recipients", VALUE, TYPE_NUMBER, .preset = "10000", .least = 1, .most = 1e6,
     .doc = "of a message; further ones get 452"},

    DURATION(IN_MILTER_TIMEOUTS, "packet", "60s", "to receive the rest of a packet, or the next packet of the content"),
    DURATION(IN_MILTER_TIMEOUTS, "idle", "2h", "to receive the MTA's next packet otherwise"),
    DURATION(IN_MILTER_TIMEOUTS, "write", "60s", "for the MTA to take octets of our answer"),
    DURATION(IN_MILTER_TIMEOUTS, "command", "25s", "for filters, except at the end of a message; must be below milter_command_timeout"),
    DURATION(IN_MILTER_TIMEOUTS, "end_by", "240s", "for filters at the end of a message; must be below milter_content_timeout"),
};
/* clang-format on */

const char *place_name(enum conf_place place)
{
    static const char *const names[PLACES] = {
        "the file", "listen", "backend", "a server", "route", "tls", "a certificate",   "chain",
        "filter",   "store",  "limits",  "timeouts", "dns",   "log", "only and except", "milter", "limits of a milter", "timeouts of a milter",
    };
    return names[place];
}

const struct directive *directive_find(enum conf_place where, struct str name)
{
    for (size_t i = 0; i < countof(directives); i++)
        if (directives[i].where == where && str_equal(name, str_of(directives[i].name)))
            return &directives[i];
    return NULL;
}

struct str directive_hint(struct arena *arena, enum conf_place where, struct str name)
{
    static const char *const functions[] = {"env", "file", "include"};
    const char *names[countof(directives) + countof(functions)];
    size_t n = 0;
    for (size_t i = 0; i < countof(directives); i++)
        if (directives[i].where == where && strcmp(directives[i].name, "1") && !directives[i].later)
            names[n++] = directives[i].name;
    for (size_t i = 0; where == AT_TOP && i < countof(functions); i++)
        names[n++] = functions[i];
    struct str near = nearest_name(name, names, n);
    if (near.at)
        return arena_print(arena, " (did you mean \"%s\"?)", near.at);
    for (size_t i = 0; i < countof(directives); i++)
        if (directives[i].where != IN_CERTIFICATE && str_equal(name, str_of(directives[i].name)))
            return arena_print(arena, " (it belongs in %s)", place_name(directives[i].where));
    return STR("");
}

/* ---- checking a block against the table ---- */

static bool range_holds(struct loader *l, const struct conf_item *item, const struct directive *d, const char *what,
                        const struct filter_value *raw, const struct filter_value *v)
{
    bool number = d->type == TYPE_NUMBER || d->type == TYPE_SIZE || d->type == TYPE_DURATION;
    if (!number)
        return true;
    if (d->type == TYPE_NUMBER && floor(v->number) != v->number) {
        item_complain(l, item, raw, "%s: expected a whole number", what);
        return false;
    }
    if (v->number >= d->least && (d->most == 0 || v->number <= d->most))
        return true;
    const char *unit = d->type == TYPE_DURATION ? " seconds" : d->type == TYPE_SIZE ? " octets" : "";
    item_complain(l, item, raw, "%s: expected %.14g to %.14g%s, got %.14g", what, d->least, d->most, unit, v->number);
    return false;
}

static bool choice_holds(struct loader *l, const struct conf_item *item, const struct directive *d, const char *what,
                         const struct filter_value *raw, const struct filter_value *v)
{
    const char *names[32];
    size_t n = 0;
    bool text = raw->type == VALUE_TEXT;
    struct str rest = str_of(d->choices), word, got = text ? v->text : str_of(value_shown(raw));
    while ((word = str_word(&rest)).at && n < countof(names)) {
        if (text && str_equal(word, got))
            return true;
        names[n++] = arena_str(&l->conf->smtp.mail.arena, word).at;
    }
    struct str list = STR(""), near = text ? nearest_name(got, names, n) : STR_NONE;
    for (size_t i = 0; i < n; i++)
        list = arena_print(&l->conf->smtp.mail.arena, "%.*s%s\"%s\"", STR_ARGS(list),
                           i == 0       ? ""
                           : i + 1 == n ? " or "
                                        : ", ",
                           names[i]);
    const char *quote = text ? "\"" : "";
    item_complain(l, item, raw, "%s: expected %.*s, got %s%.*s%s%s%s%s", what, STR_ARGS(list), quote, STR_ARGS(got),
                  quote, near.at ? " (did you mean \"" : "", near.at ? near.at : "", near.at ? "\"?)" : "");
    return false;
}

static void take(struct loader *l, const struct conf_item *item, const struct directive *d, const char *title,
                 struct str key, const struct filter_value *raw, struct filter_value *into)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    struct filter_value value;
    const char *what = strcmp(d->name, "1") == 0 ? title : arena_print(a, "%s: \"%s\"", title, d->name).at;
    if (d->kind == KIND_BLOCK) {
        if (raw->type != VALUE_MAP && !(raw->type == VALUE_LIST && raw->count == 0)) {
            item_complain(l, item, raw, "%s: expected { name = value }, got %s", what, value_type_name(raw->type));
            return;
        }
        value = *raw;
    } else if (value_is_item(raw) && d->type == TYPE_ANY) {
        value = *raw;
    } else if (d->names && raw->type != VALUE_TEXT) {
        item_complain(l, item, raw, "%s: expected %.*s, a text; got %s", what, (int)strcspn(d->doc, ";"), d->doc,
                      raw->type == VALUE_NUMBER ? "a number" : value_shown(raw));
        return;
    } else if (d->kind == KIND_CHOICE && raw->type != VALUE_TEXT && !choice_holds(l, item, d, what, raw, raw)) {
        return;
    } else if (!value_convert(&l->conf->smtp.mail, l->complaints, raw, d->type, d->of, what, &value)) {
        return;
    } else if (!range_holds(l, item, d, what, raw, &value)) {
        return;
    } else if (d->kind == KIND_CHOICE && !choice_holds(l, item, d, what, raw, &value)) {
        return;
    }
    value.line = raw->line;
    value.file = raw->file;
    value_put(a, into, key, value);
}

static void presets_fill(struct loader *l, const struct conf_item *item, enum conf_place where, const char *title,
                         const struct filter_value *body, struct filter_value *into)
{
    for (size_t i = 0; i < countof(directives); i++) {
        const struct directive *d = &directives[i];
        if (d->where != where || value_get(into, str_of(d->name)) || value_get(body, str_of(d->name)))
            continue;
        if (d->required)
            item_complain(l, item, NULL, "%s: %s%s%s is missing: %s", title, strcmp(d->name, "1") ? "\"" : "",
                          strcmp(d->name, "1") ? d->name : "an unnamed element", strcmp(d->name, "1") ? "\"" : "",
                          d->doc);
        if (!d->preset)
            continue;
        struct filter_value raw = value_text(str_of(d->preset)), value;
        bool good = value_convert(&l->conf->smtp.mail, l->complaints, &raw, d->type == TYPE_ANY ? TYPE_TEXT : d->type, d->of,
                                  d->name, &value);
        must(good);
        value_put(&l->conf->smtp.mail.arena, into, str_of(d->name), value);
    }
}

const struct filter_value *block_check(struct loader *l, const struct conf_item *item, const struct filter_value *body,
                                       enum conf_place where, const char *title, bool skip_unknown)
{
    struct filter_value *into = arena_alloc(&l->conf->smtp.mail.arena, sizeof *into);
    *into = (struct filter_value){.type = VALUE_MAP, .line = body->line, .file = body->file};
    const struct filter_value as_map = {.type = VALUE_MAP};
    body = body->type == VALUE_MAP ? body : &as_map; /* {} */
    for (size_t i = 0; i < body->count; i++) {
        struct str key = body->keys[i];
        const struct filter_value *raw = body->items + i;
        uint64_t n;
        bool element = str_number(key, &n);
        if (element && value_is_item(raw) && l->items[raw->integer]->directive->kind == KIND_BLOCK) {
            key = str_of(l->items[raw->integer]->directive->name); /* limits { } in place of limits = { } */
            element = false;
        }
        const struct directive *d = directive_find(where, element ? STR("1") : key);
        if (!d && skip_unknown)
            continue;
        if (d && d->later) {
            item_complain(l, item, raw, "%s: \"%s\" comes in a later version", title, d->name);
            continue;
        }
        if (!d) {
            if (element)
                item_complain(l, item, raw, "%s: takes no unnamed element: write name = value", title);
            else
                item_complain(l, item, raw, "%s: unknown name \"%.*s\"%s", title, STR_ARGS(key),
                              directive_hint(&l->conf->smtp.mail.arena, where, key).at);
            continue;
        }
        if (element && !d->many && n > 1) {
            item_complain(l, item, raw, "%s: takes one unnamed element: %s", title, d->doc);
            continue;
        }
        if (d->kind == KIND_BLOCK && value_is_item(raw))
            raw = &l->items[raw->integer]->body;
        if (d->kind == KIND_BLOCK && value_get(into, key))
            item_complain(l, item, raw, "%s: \"%s\" is said twice", title, d->name);
        take(l, item, d, title, key, raw, into);
    }
    presets_fill(l, item, where, title, body, into);
    return into;
}

const struct filter_value *block_element(const struct filter_value *block, size_t i)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", i);
    return value_get(block, str_of(key));
}

const struct directive *directive_at(size_t i)
{
    return i < countof(directives) ? &directives[i] : NULL;
}
