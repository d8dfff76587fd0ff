/* ratelimit.c - filter "ratelimit": limits connections, messages, recipients or octets per time, by address, network, user, sender, recipient
 * or HELO name, or by a combination of these. Options: filters/README.md.
 *
 * The counters are in a store and shared by all workers. Their keys begin with what is counted and the length of the window, so that
 * instances share a counter only if these options are equal. Octets are counted when the message has been received; at MAIL a declared SIZE
 * is only compared with what is left. */
#include "base/idn.h"
#include "base/table.h"
#include "base/value.h"
#include "filters/filter.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { BY_IP = 1, BY_NET = 2, BY_FROM = 4, BY_RCPT = 8, BY_HELO = 16, BY_USER = 32, PARTS = 6 };
static const char *const by_names[PARTS] = {"ip", "net", "from", "rcpt", "helo", "user"};
enum count { CONNECTIONS, MESSAGES, RECIPIENTS, OCTETS, COUNTS };
static const char *const count_names[COUNTS] = {"connections", "messages", "recipients", "octets"};

/* The cost of a peek, which reads a counter: the operation `rate` cannot have a cost of 0. */
#define PEEK 1e-6

enum { HEAD_ROOM = 64 };
struct rate { /* limit < 0: no limit */
    double limit, window;
};
struct ratelimit {
    unsigned by, code, v4, v6;
    enum count count;
    bool bucket;
    struct rate rate;
    double burst; /* 0: the limit */
    struct filter_text text;
    const char *store;
    const struct filter_value *overrides, *exempt;
    char head[HEAD_ROOM]; /* beginning of the keys, unless an override has its own window */
};
struct asking { /* call memory: the request to the store */
    struct rate rate;
    double cost, size; /* size: for a peek, the SIZE that the client declared, in octets */
    char who[600];
};

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool number_parse(struct str s, double *number)
{
    uint64_t n;
    bool good = value_parse_size(s, &n);
    *number = good ? (double)n : 0;
    return good;
}

/* "500/1h", "500", "none", "0". */
static bool rate_parse(struct str text, struct rate preset, struct rate *rate)
{
    struct str rest = text, limit = str_trim(str_cut(&rest, '/'));
    *rate = preset;
    if (str_equal_nocase(limit, STR("none")) && !rest.at) {
        rate->limit = -1;
        return true;
    }
    if (!number_parse(limit, &rate->limit))
        return false;
    return !rest.at || (value_parse_duration(str_trim(rest), &rate->window) && rate->window > 0);
}

static bool check_overrides(struct filter *f, const struct ratelimit *r)
{
    bool good = true;
    for (size_t i = 0; i < filter_value_count(r->overrides); i++) {
        struct filter_text key;
        const struct filter_value *entry = filter_value_at(r->overrides, i, &key);
        struct filter_text value = filter_value_text(entry);
        struct rate rate;
        if (rate_parse((struct str){value.at, value.len}, r->rate, &rate))
            continue;
        filter_complain(f, entry, NULL, 0, "overrides: \"%s %s\": expected \"500/1h\", \"500\", \"none\" or \"0\"",
                        key.at, value.at);
        good = false;
    }
    return good;
}

static bool one_of(struct filter *f, const struct filter_value *v, const char *what, const char *const *names,
                   unsigned n, unsigned *which)
{
    struct filter_text text = filter_value_text(v);
    char all[200] = "";
    for (*which = 0; *which < n; ++*which) {
        if (str_equal((struct str){text.at, text.len}, str_of(names[*which])))
            return true;
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s\"%s\"", used ? ", " : "", names[*which]);
    }
    filter_complain(f, v, NULL, 0, "%s: \"%s\" is none of %s", what, text.at ? text.at : "", all);
    return false;
}

static bool read_by(struct filter *f, struct ratelimit *r, const struct filter_value *list)
{
    bool good = true;
    for (size_t i = 0; i < filter_value_count(list); i++) {
        unsigned part;
        if (one_of(f, filter_value_at(list, i, NULL), "by", by_names, PARTS, &part))
            r->by |= 1u << part;
        else
            good = false;
    }
    if (good && r->count == CONNECTIONS && (r->by & ~(unsigned)(BY_IP | BY_NET))) {
        filter_complain(f, list, NULL, 0,
                        "connections can be counted by \"ip\" or \"net\" only: nothing else is known yet");
        return false;
    }
    if (good && r->count == OCTETS && (r->by & BY_RCPT)) {
        filter_complain(f, list, NULL, 0, "octets cannot be counted by \"rcpt\": a message has many");
        return false;
    }
    if (good && !r->by)
        filter_complain(f, list, NULL, 0, "by: an empty list says nothing");
    return good && r->by;
}

static bool read_code(struct filter *f, struct ratelimit *r, const struct filter_value *v)
{
    r->code = v ? (unsigned)filter_value_integer(v) : r->count == CONNECTIONS ? 421 : 450;
    if (r->code == 421 || r->code == 450 || r->code == 451 || r->code == 452)
        return true;
    filter_complain(f, v, NULL, 0, "code: expected 450, 451, 452 or 421 (which closes the connection), got %u",
                    r->code);
    return false;
}

static bool read_numbers(struct filter *f, struct ratelimit *r, const struct filter_value *o)
{
    r->rate.limit = filter_value_number(filter_value_get(o, "limit"));
    r->rate.window = filter_value_number(filter_value_get(o, "window"));
    r->burst = filter_value_number(filter_value_get(o, "burst"));
    r->v4 = (unsigned)filter_value_integer(filter_value_get(o, "v4"));
    r->v6 = (unsigned)filter_value_integer(filter_value_get(o, "v6"));
    if (!(r->rate.window > 0))
        return filter_complain(f, filter_value_get(o, "window"), NULL, 0, "window: must be more than 0"), false;
    if (r->v4 > 32 || r->v6 > 128)
        return filter_complain(f, filter_value_get(o, r->v4 > 32 ? "v4" : "v6"), NULL, 0,
                               "a prefix has 32 (v4) or 128 (v6) bits"),
               false;
    if (r->burst > 0 && !r->bucket)
        return filter_complain(f, filter_value_get(o, "burst"), NULL, 0, "burst is of algorithm = \"bucket\""), false;
    return true;
}

static unsigned stages_of(const struct ratelimit *r)
{
    switch (r->count) {
    case CONNECTIONS: return 1u << FILTER_CONNECT;
    case MESSAGES: return r->by & BY_RCPT ? 1u << FILTER_RCPT : 1u << FILTER_MAIL;
    case RECIPIENTS: return 1u << FILTER_RCPT;
    default: return 1u << FILTER_MAIL | 1u << FILTER_MESSAGE;
    }
}

static void key_head(const struct ratelimit *r, double window, char head[HEAD_ROOM])
{
    snprintf(head, HEAD_ROOM, "%s/%g%s", count_names[r->count], window, r->bucket ? "b" : "");
}

static bool open_ratelimit(struct filter *f)
{
    static const struct filter_option options[] = {
        {sizeof *options, "by", TYPE_LIST, TYPE_TEXT, .preset = "ip",
         .doc = "whose: ip, net, from, rcpt, helo, user; a list counts each combination"},
        {sizeof *options, "count", TYPE_TEXT, .preset = "messages",
         .doc = "what: connections, messages, recipients, octets"},
        {sizeof *options, "limit", TYPE_SIZE, .required = true,
         .doc = "how many in the window; octets also as \"100M\""},
        {sizeof *options, "window", TYPE_DURATION, .required = true, .doc = "the time the limit is for: \"1h\""},
        {sizeof *options, "algorithm", TYPE_TEXT, .preset = "window",
         .doc = "window: at most limit in any window; bucket: limit a window on average, burst at once"},
        {sizeof *options, "burst", TYPE_SIZE, .doc = "of the bucket: how many at once; default: the limit"},
        {sizeof *options, "code", TYPE_NUMBER,
         .doc = "450, 451, 452, or 421, which closes; default 450, of connections 421"},
        {sizeof *options, "text", TYPE_TEXT,
         .doc = "what the client hears; {retry_after} {limit} {window} {count} are filled in"},
        {sizeof *options, "overrides", TYPE_TABLE,
         .doc = "other limits for some: \"500/1h\", \"500\", \"none\", \"0\""},
        {sizeof *options, "exempt", TYPE_CIDR, .doc = "clients that are not counted"},
        {sizeof *options, "store", TYPE_TEXT, .preset = "default", .doc = "the store that counts"},
        {sizeof *options, "v4", TYPE_NUMBER, .preset = "24", .doc = "bits of an IPv4 network, for by = \"net\""},
        {sizeof *options, "v6", TYPE_NUMBER, .preset = "64", .doc = "bits of an IPv6 network"},
    };
    static const char *const algorithms[] = {"window", "bucket"};
    struct ratelimit *r = filter_memory(f);
    const struct filter_value *o = filter_options(f, options, sizeof options / sizeof *options);
    unsigned count, algorithm;
    if (!o || !one_of(f, filter_value_get(o, "count"), "count", count_names, COUNTS, &count) ||
        !one_of(f, filter_value_get(o, "algorithm"), "algorithm", algorithms, 2, &algorithm))
        return false;
    r->count = (enum count)count;
    r->bucket = algorithm == 1;
    r->text = filter_value_text(filter_value_get(o, "text"));
    r->store = filter_value_text(filter_value_get(o, "store")).at;
    r->overrides = filter_value_get(o, "overrides");
    r->exempt = filter_value_get(o, "exempt");
    bool good = read_by(f, r, filter_value_get(o, "by"));
    if (good && (r->by & BY_USER))
        filter_needs_auth(f);
    good &= read_code(f, r, filter_value_get(o, "code"));
    good = read_numbers(f, r, o) && good && check_overrides(f, r);
    key_head(r, r->rate.window, r->head);
    filter_lessen(f, stages_of(r), ~0u);
    return good;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

struct rate_identity {
    char parts[PARTS][300];
};

/* fold: converts the key to canonical form (base/idn.h), so that case and spelling of the domain do not matter. */
static bool write_part(char *to, struct filter_text text, bool fold)
{
    char room[IDN_ROOM];
    struct str part = {text.at, text.len};
    if (!text.at || !text.len)
        return false;
    if (fold)
        part = idn_fold_address(part, room);
    size_t len = min_size(part.len, 299);
    memcpy(to, part.at, len);
    to[len] = 0;
    return true;
}

/* Appends the network of the client, "192.0.2.0/24", to the key. */
static bool write_net(const struct ratelimit *r, char *to, struct filter_text ip)
{
    struct arena arena = {0};
    struct str net = cidr_network((struct str){ip.at, ip.len}, r->v4, r->v6, &arena);
    bool good = net.len && write_part(to, (struct filter_text){net.at, net.len}, false);
    arena_reset(&arena);
    return good;
}

/* Builds the key. False: a part of it is not known (no user, no address), so there is nothing to count. */
static bool identify(struct filter_call *call, const struct ratelimit *r, struct rate_identity *id)
{
    struct filter_path path = {.size = sizeof path};
    struct filter_text ip = filter_fact(call, "client.ip");
    if ((r->by & BY_IP) && !write_part(id->parts[0], ip, false))
        return false;
    if ((r->by & BY_NET) && !write_net(r, id->parts[1], ip))
        return false;
    if (r->by & BY_FROM) {
        bool known = filter_reverse_path(call, &path);
        /* All bounces have the null reverse-path, so by itself it does not identify a sender. */
        if (!known || (!path.address.len && r->by == BY_FROM))
            return false;
        write_part(id->parts[2], path.address.len ? path.address : (struct filter_text){"<>", 2}, true);
    }
    if ((r->by & BY_RCPT) &&
        !(filter_rcpt(call, filter_rcpt_now(call), &path) && write_part(id->parts[3], path.address, true)))
        return false;
    if ((r->by & BY_HELO) && !write_part(id->parts[4], filter_fact(call, "helo.name"), true))
        return false;
    return !(r->by & BY_USER) || write_part(id->parts[5], filter_fact(call, "auth.user"), true);
}

static bool override_of(const struct ratelimit *r, const struct rate_identity *id, struct rate *rate,
                        struct filter_text *bad)
{
    *rate = r->rate;
    for (unsigned i = 0; i < PARTS; i++) {
        struct filter_text found, key = {id->parts[i], strlen(id->parts[i])};
        if (!(r->by & (1u << i)) || !filter_value_match(r->overrides, key, &found))
            continue;
        *bad = found;
        return rate_parse((struct str){found.at, found.len}, r->rate, rate);
    }
    return true;
}

/* ---- asking the store -------------------------------------------------------------------------------------------- */

static enum filter_verdict refuse(struct filter_call *, const struct ratelimit *, const struct asking *, int64_t retry);

/* Appends to `to` at an offset, as far as there is room; returns the next offset. */
static size_t add(char *to, size_t room, size_t at, const char *text)
{
    size_t n = strlen(text);
    if (n > room - at - 1)
        n = room - at - 1;
    memcpy(to + at, text, n);
    to[at + n] = 0;
    return at + n;
}

static enum filter_verdict ask(struct filter_call *call, const struct ratelimit *r, struct asking *a,
                               const struct rate_identity *id)
{
    const size_t room = PARTS * 300 + 200;
    char *key = filter_alloc(call, LIFE_CALL, room), head[HEAD_ROOM];
    bool usual = a->rate.window == r->rate.window;
    if (!usual)
        key_head(r, a->rate.window, head);
    size_t used = add(key, room, 0, usual ? r->head : head), who = 0;
    a->who[0] = 0;
    for (unsigned i = 0; i < PARTS; i++)
        if (r->by & (1u << i)) {
            used = add(key, room, used, " ");
            used = add(key, room, used, by_names[i]);
            used = add(key, room, used, "=");
            used = add(key, room, used, id->parts[i]);
            who = add(a->who, sizeof a->who, who, who ? ", " : "");
            who = add(a->who, sizeof a->who, who, by_names[i]);
            who = add(a->who, sizeof a->who, who, " ");
            who = add(a->who, sizeof a->who, who, id->parts[i]);
        }
    struct filter_store s = {.size = sizeof s,
                             .store = r->store,
                             .op = r->bucket ? "bucket" : "rate",
                             .key = {key, used},
                             .n = a->cost,
                             .limit = a->rate.limit,
                             .window = a->rate.window};
    if (r->bucket && r->burst > 0) { /* the store defines a bucket by its depth and the time to fill it */
        s.limit = r->burst;
        s.window = r->burst * a->rate.window / a->rate.limit;
    }
    filter_store(call, &s);
    return VERDICT_SUSPEND;
}

static double depth(const struct ratelimit *r, const struct asking *a)
{
    return r->bucket && r->burst > 0 ? r->burst : a->rate.limit;
}

static enum filter_verdict refuse_forever(struct filter_call *call, const struct ratelimit *r, const struct asking *a)
{
    filter_because(call, "larger than the whole limit");
    return filter_reject(call, "552 5.3.4 Message exceeds the limit of %.0f octets", depth(r, a));
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    const struct ratelimit *r = filter_memory(filter_of(call));
    struct asking *a = filter_keep(call, LIFE_CALL);
    struct rate_identity id = {0};
    struct filter_text bad;
    if (filter_value_match(r->exempt, filter_fact(call, "client.ip"), NULL) || !identify(call, r, &id))
        return VERDICT_CONTINUE;
    if (!override_of(r, &id, &a->rate, &bad))
        return filter_error(call, "overrides: \"%.*s\" is no limit", (int)bad.len, bad.at);
    if (a->rate.limit < 0)
        return VERDICT_CONTINUE;
    a->cost = 1;
    if (r->count == OCTETS && stage == FILTER_MAIL) {
        a->size = (double)filter_fact_integer(call, "mail.size", 0);
        a->cost = PEEK;
    } else if (r->count == OCTETS) {
        a->cost = (double)filter_fact_integer(call, "content.octets", 0);
    }
    if (a->rate.limit <= 0) {
        snprintf(a->who, sizeof a->who, "overrides");
        return refuse(call, r, a, (int64_t)ceil(a->rate.window));
    }
    if (r->count == OCTETS && (stage == FILTER_MAIL ? a->size : a->cost) > depth(r, a))
        return refuse_forever(call, r, a);
    if (a->cost <= 0)
        return VERDICT_CONTINUE;
    return ask(call, r, a, &id);
}

/* ---- the answer of the store ------------------------------------------------------------------------------------- */

static size_t put(char *to, size_t room, size_t at, const char *format, ...) __attribute__((format(printf, 4, 5)));
static size_t put(char *to, size_t room, size_t at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = at < room ? vsnprintf(to + at, room - at, format, args) : 0;
    va_end(args);
    return at + (size_t)(n > 0 ? n : 0) < room ? at + (size_t)(n > 0 ? n : 0) : room - 1;
}

static void fill_in(const struct ratelimit *r, const struct asking *a, int64_t retry, struct str text, char *to,
                    size_t room)
{
    size_t at = 0;
    while (text.len) {
        if (str_starts(text, STR("{retry_after}")))
            at = put(to, room, at, "%lld", (long long)retry);
        else if (str_starts(text, STR("{limit}")))
            at = put(to, room, at, "%.0f", a->rate.limit);
        else if (str_starts(text, STR("{window}")))
            at = put(to, room, at, "%.0f", ceil(a->rate.window));
        else if (str_starts(text, STR("{count}")))
            at = put(to, room, at, "%s", count_names[r->count]);
        else {
            at = put(to, room, at, "%c", text.at[0]);
            text = str_part(text, 1, text.len);
            continue;
        }
        text = str_part(text, str_find(text, STR("}")) + 1, text.len);
    }
    to[at] = 0;
}

static enum filter_verdict refuse(struct filter_call *call, const struct ratelimit *r, const struct asking *a,
                                  int64_t retry)
{
    struct str text = {r->text.at, r->text.len};
    char said[600], why[800];
    if (!text.at)
        text = a->rate.limit > 0 ? STR("Too many {count}, try again in {retry_after} seconds") : STR("Not allowed now");
    fill_in(r, a, retry, text, said, sizeof said);
    bool dotted = said[0] == '4' && said[1] == '.'; /* an enhanced code of its own */
    snprintf(why, sizeof why, "over %.0f %s in %.0f s: %s", a->rate.limit, count_names[r->count], a->rate.window,
             a->who);
    filter_because(call, why);
    if (filter_stage(call) == FILTER_CONNECT) /* there is no transaction whose log line would tell the reason */
        filter_log(call, LEVEL_INFO, "%s", why);
    if (r->code == 421)
        return filter_drop(call, "421 %s%s", dotted ? "" : "4.7.0 ", said);
    return filter_defer(call, "%u %s%s", r->code, dotted ? "" : "4.7.1 ", said);
}

/* After a peek it is known how much is left, but not when the declared size would fit: this is the longest possible wait. */
static enum filter_verdict compare_size(struct filter_call *call, const struct ratelimit *r, const struct asking *a,
                                        const struct filter_value *answer)
{
    double left = r->bucket ? filter_value_number(filter_value_get(answer, "level"))
                            : a->rate.limit - filter_value_number(filter_value_get(answer, "count"));
    if (a->size <= left + 1)
        return VERDICT_CONTINUE;
    double wait = r->bucket ? (a->size - left) * a->rate.window / a->rate.limit : a->rate.window;
    return refuse(call, r, a, (int64_t)ceil(wait));
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *e)
{
    const struct ratelimit *r = filter_memory(filter_of(call));
    const struct asking *a = filter_keep(call, LIFE_CALL);
    if (e->error)
        return filter_error(call, "store %s: %s", r->store, e->error);
    if (filter_value_integer(filter_value_get(e->value, "ok")))
        return a->cost == PEEK ? compare_size(call, r, a, e->value) : VERDICT_CONTINUE;
    double wait = filter_value_number(filter_value_get(e->value, r->bucket ? "wait" : "retry_after"));
    return refuse(call, r, a, (int64_t)fmax(1, ceil(wait)));
}

const struct filter_def ratelimit_filter = {
    .size = sizeof ratelimit_filter,
    .abi = FILTER_ABI,
    .name = "ratelimit",
    .doc = "limits connections, messages, recipients or octets in a time, by who it is",
    .stages = 1u << FILTER_CONNECT | 1u << FILTER_MAIL | 1u << FILTER_RCPT | 1u << FILTER_MESSAGE,
    .flags = FILTER_BINARY_SAFE,
    .filter_memory = sizeof(struct ratelimit),
    .call_memory = sizeof(struct asking),
    .open = open_ratelimit,
    .hook = hook,
    .resume = resume,
};
