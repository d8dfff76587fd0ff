/* zone.c - a zone read, checked, and asked. A question goes as through a resolver that keeps no cache: the name itself,
 * else a wildcard (RFC 4592), along CNAMEs, at most eight. */
#include "try/zone.h"
#include "wire/codec.h"
#include "wire/json.h"
#include <arpa/inet.h>
#include <stdlib.h>

enum { CHAIN_MOST = 8, NAME_MOST = 253, LABEL_MOST = 63, TTL = 300, DELAY_MOST = 3600000 };
enum act { ACT_NONE, ACT_TIMEOUT, ACT_SERVFAIL, ACT_REFUSED, ACT_FORMERR, ACT_NXDOMAIN, ACT_DELAY, ACT_TRUNC };

struct zone_record {
    struct zone_record *next;
    struct str type; /* lower case; of an act: of which questions, "*" of all */
    enum act act;    /* NONE: it is data */
    bool always;     /* with "*": although there are records of the type asked */
    uint32_t ttl, delay;
    struct filter_value data; /* as the resolver gives it: net/dns.h */
};

static const struct {
    const char *word;
    enum act act;
    bool always;
} acts[] = {{"TIMEOUT", ACT_TIMEOUT, false}, {"SERVFAIL", ACT_SERVFAIL, false}, {"REFUSED", ACT_REFUSED, false},
            {"FORMERR", ACT_FORMERR, false}, {"NXDOMAIN", ACT_NXDOMAIN, false}, {"DELAY", ACT_DELAY, false},
            {"TRUNC", ACT_TRUNC, true},      {"WRONGID", ACT_TIMEOUT, true},    {"GARBAGE", ACT_TIMEOUT, true},
            {"NOTCP", ACT_TIMEOUT, true}};

struct zone_reader {
    struct zone *zone;
    const char *fault;
    uint32_t line;
};

static bool wrong(struct zone_reader *r, const struct filter_value *at, const char *fault)
{
    if (!r->fault) {
        r->fault = fault;
        r->line = at->line;
    }
    return false;
}

/* ---- what records hold */

/* Lower case, without a dot at its end; "" is the root. False: it is no name. */
static bool take_name(struct zone_reader *r, const struct filter_value *v, struct str *name)
{
    size_t label = 0;
    if (v->type != VALUE_TEXT)
        return wrong(r, v, "expected a name");
    *name = arena_lower(&r->zone->arena, v->text);
    if (name->len && name->at[name->len - 1] == '.')
        name->len--;
    if (name->len > NAME_MOST)
        return wrong(r, v, "a name of more than 253 octets");
    for (size_t i = 0; i < name->len; i++) {
        bool dot = name->at[i] == '.';
        if (dot && !label)
            return wrong(r, v, "a name with an empty label");
        label = dot ? 0 : label + 1;
        if (label > LABEL_MOST || name->at[i] < ' ' || name->at[i] > '~')
            return wrong(r, v, "a name whose label is longer than 63 octets, or that is not ASCII");
    }
    return true;
}

static bool take_host(struct zone_reader *r, const struct filter_value *v, struct filter_value *data)
{
    struct str name;
    if (!take_name(r, v, &name))
        return false;
    *data = value_text(name.len ? arena_str(&r->zone->arena, name) : STR("."));
    return true;
}

static bool take_ip(struct zone_reader *r, const struct filter_value *v, int family, struct filter_value *data)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char octets[16];
    bool good = v->type == VALUE_TEXT && v->text.len < sizeof text && !memchr(v->text.at, 0, v->text.len) &&
                inet_pton(family, v->text.at, octets) == 1; /* texts of JSON have a NUL behind them */
    if (!good)
        return wrong(r, v, family == AF_INET ? "expected an IPv4 address" : "expected an IPv6 address");
    inet_ntop(family, octets, text, sizeof text);
    *data = value_text(arena_str(&r->zone->arena, str_of(text)));
    return true;
}

static bool take_string(struct zone_reader *r, const struct filter_value *v, struct str *s)
{
    const struct filter_value *coded = v->type == VALUE_MAP && v->count == 1 ? value_get(v, STR("b64")) : NULL;
    if (coded && coded->type == VALUE_TEXT && base64_decode(coded->text, &r->zone->arena, s))
        return true;
    *s = v->text;
    return v->type == VALUE_TEXT || wrong(r, v, "expected a text or {\"b64\": \"...\"}");
}

/* The strings of one record are one text to who asks. */
static bool take_texts(struct zone_reader *r, const struct filter_value *v, struct filter_value *data)
{
    const struct filter_value *items = v->type == VALUE_LIST ? v->items : v;
    size_t n = v->type == VALUE_LIST ? v->count : 1;
    struct str *pieces = arena_alloc(&r->zone->arena, (n + 1) * sizeof *pieces);
    for (size_t i = 0; i < n; i++)
        if (!take_string(r, &items[i], &pieces[i]))
            return false;
    *data = value_text(arena_join(&r->zone->arena, n, pieces));
    return true;
}

/* A list of names and numbers, in the order of `keys`. */
static bool take_row(struct zone_reader *r, const struct filter_value *v, const char *keys, struct filter_value *data)
{
    struct str rest = str_of(keys);
    size_t i = 0;
    *data = (struct filter_value){.type = VALUE_MAP};
    for (struct str key; (key = str_word(&rest)).at; i++) {
        bool is_name = str_equal(key, STR("name")) || str_equal(key, STR("responsible"));
        const struct filter_value *item = v->type == VALUE_LIST && i < v->count ? &v->items[i] : NULL;
        struct filter_value one;
        if (item && is_name) {
            if (!take_host(r, item, &one))
                return false;
        } else if (item && item->type == VALUE_NUMBER && item->integer >= 0 && item->integer <= UINT32_MAX) {
            one = value_integer(item->integer);
        } else {
            return wrong(r, item ? item : v, "expected a list of the record's names and numbers");
        }
        value_put(&r->zone->arena, data, key, one);
    }
    return i == v->count || wrong(r, v, "the list has more than the record");
}

static bool take_data(struct zone_reader *r, const struct filter_value *v, struct zone_record *record)
{
    static const struct {
        const char *type, *keys;
    } rows[] = {{"mx", "preference name"},
                {"srv", "priority weight port name"},
                {"soa", "name responsible serial refresh retry expire minimum"}};
    struct str type = record->type;
    for (size_t i = 0; i < countof(rows); i++)
        if (str_equal(type, str_of(rows[i].type)))
            return take_row(r, v, rows[i].keys, &record->data);
    if (str_equal(type, STR("a")) || str_equal(type, STR("aaaa")))
        return take_ip(r, v, type.len == 1 ? AF_INET : AF_INET6, &record->data);
    if (str_equal(type, STR("txt")) || str_equal(type, STR("spf")) || str_equal(type, STR("tlsa")))
        return take_texts(r, v, &record->data);
    if (str_equal(type, STR("ptr")) || str_equal(type, STR("cname")) || str_equal(type, STR("ns")))
        return take_host(r, v, &record->data);
    return str_equal(type, STR("raw")); /* of a type that no filter can ask for */
}

/* ---- records */

static bool take_act(struct zone_reader *r, const struct filter_value *v, struct zone_record *record)
{
    const struct filter_value *of = v;
    if (record->act == ACT_DELAY) {
        bool good = v->type == VALUE_LIST && v->count == 2 && v->items[1].type == VALUE_NUMBER &&
                    v->items[1].number >= 0 && v->items[1].number <= DELAY_MOST;
        if (!good)
            return wrong(r, v, "expected [TYPE, MILLISECONDS], at most an hour");
        of = &v->items[0];
        record->delay = (uint32_t)v->items[1].integer;
    }
    if (of->type != VALUE_TEXT)
        return wrong(r, of, "expected a type or \"*\"");
    record->type = arena_lower(&r->zone->arena, of->text);
    return true;
}

static bool is_type(struct str type)
{
    static const char *const types[] = {"a",     "aaaa", "txt", "spf", "mx",   "ptr",
                                        "cname", "ns",   "soa", "srv", "tlsa", "raw"};
    for (size_t i = 0; i < countof(types); i++)
        if (str_equal(type, str_of(types[i])))
            return true;
    return false;
}

static bool take_record(struct zone_reader *r, const struct filter_value *v, struct zone_record *record)
{
    if (v->type != VALUE_LIST || v->count < 2 || v->count > 3 || v->items[0].type != VALUE_TEXT)
        return wrong(r, v, "expected a record: [TYPE, VALUE] or [TYPE, VALUE, TTL]");
    struct str type = v->items[0].text;
    for (size_t i = 0; i < countof(acts) && !record->act; i++)
        if (str_equal(type, str_of(acts[i].word))) {
            record->act = acts[i].act;
            record->always = acts[i].always;
        }
    if (record->act)
        return v->count == 2 ? take_act(r, &v->items[1], record) : wrong(r, v, "what happens to a question has no TTL");
    record->type = arena_lower(&r->zone->arena, type);
    record->ttl = TTL;
    if (!is_type(record->type))
        return wrong(
            r, &v->items[0],
            "unknown type of record: expected A AAAA TXT MX PTR CNAME NS SOA SRV TLSA, TIMEOUT SERVFAIL REFUSED "
            "FORMERR NXDOMAIN DELAY TRUNC WRONGID GARBAGE or NOTCP");
    if (v->count == 3) {
        if (v->items[2].type != VALUE_NUMBER || v->items[2].integer < 0 || v->items[2].integer > INT32_MAX)
            return wrong(r, &v->items[2], "expected a TTL in seconds");
        record->ttl = (uint32_t)v->items[2].integer;
    }
    return take_data(r, &v->items[1], record);
}

/* ---- names */

static int compare(struct str a, struct str b)
{
    int order = min_size(a.len, b.len) ? memcmp(a.at, b.at, min_size(a.len, b.len)) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_name(const void *a, const void *b)
{
    return compare(((const struct zone_name *)a)->name, ((const struct zone_name *)b)->name);
}

static int by_text(const void *a, const void *b)
{
    return compare(*(const struct str *)a, *(const struct str *)b);
}

/* Without its first label; NONE: it has no other. */
static struct str parent(struct str name)
{
    str_cut(&name, '.');
    return name;
}

/* Names that differ by case or a last dot are one. */
static void merge(struct zone *z)
{
    size_t n = 0;
    for (size_t i = 0; i < z->nnames; i++) {
        if (!n || !str_equal(z->names[n - 1].name, z->names[i].name)) {
            z->names[n++] = z->names[i];
            continue;
        }
        struct zone_record **end = &z->names[n - 1].records;
        while (*end)
            end = &(*end)->next;
        *end = z->names[i].records;
    }
    z->nnames = n;
}

static void index_names(struct zone *z)
{
    size_t most = 0;
    qsort(z->names, z->nnames, sizeof *z->names, by_name);
    merge(z);
    for (size_t i = 0; i < z->nnames; i++)
        for (struct str up = parent(z->names[i].name); up.at; up = parent(up))
            most++;
    z->above = arena_alloc(&z->arena, (most + 1) * sizeof *z->above);
    for (size_t i = 0; i < z->nnames; i++)
        for (struct str up = parent(z->names[i].name); up.at; up = parent(up))
            z->above[z->nabove++] = up;
    if (z->nabove)
        qsort(z->above, z->nabove, sizeof *z->above, by_text);
}

static bool take_names(struct zone_reader *r, const struct filter_value *all)
{
    struct zone *z = r->zone;
    z->names = arena_alloc(&z->arena, (all->count + 1) * sizeof *z->names);
    for (size_t i = 0; i < all->count; i++) {
        const struct filter_value *list = &all->items[i];
        struct filter_value key = value_text(all->keys[i]);
        struct zone_name *n = &z->names[z->nnames++];
        struct zone_record **end = &n->records;
        key.line = list->line;
        if (!take_name(r, &key, &n->name))
            return false;
        if (list->type != VALUE_LIST)
            return wrong(r, list, "expected the list of a name's records");
        for (size_t k = 0; k < list->count; k++, end = &(*end)->next) {
            *end = arena_alloc(&z->arena, sizeof **end);
            if (!take_record(r, &list->items[k], *end))
                return false;
        }
    }
    if (z->nnames)
        index_names(z);
    return true;
}

/* ---- questions */

static const struct zone_name *name_of(const struct zone *z, struct str name)
{
    const struct zone_name key = {.name = name};
    return z->nnames ? bsearch(&key, z->names, z->nnames, sizeof key, by_name) : NULL;
}

static bool is_above(const struct zone *z, struct str name)
{
    return z->nabove && bsearch(&name, z->above, z->nabove, sizeof name, by_text);
}

/* The records of a name; *exists: there is one, if only because of those below it. */
static const struct zone_record *find(const struct zone *z, struct str name, struct arena *arena, bool *exists)
{
    const struct zone_name *n = name_of(z, name);
    *exists = true;
    if (n)
        return n->records;
    if (is_above(z, name))
        return NULL;
    for (struct str up = parent(name); up.at; up = parent(up)) {
        struct str pieces[] = {STR("*."), up};
        if ((n = name_of(z, arena_join(arena, countof(pieces), pieces))))
            return n->records;
        if (name_of(z, up) || is_above(z, up))
            break; /* the name next above that exists hides wildcards above it */
    }
    *exists = false;
    return NULL;
}

struct asked { /* one question on its way along CNAMEs */
    struct str type;
    struct arena *arena;
    struct filter_value list;
    uint32_t ttl, delay;
    enum act act;
};

static void look(struct asked *q, const struct zone_record *first)
{
    for (const struct zone_record *r = first; r; r = r->next)
        if (!r->act && str_equal(r->type, q->type)) {
            value_add(q->arena, &q->list, r->data);
            q->ttl = r->ttl < q->ttl ? r->ttl : q->ttl;
        }
    for (const struct zone_record *r = first; r; r = r->next) {
        bool all = str_equal(r->type, STR("*"));
        if (!r->act || !(all || str_equal(r->type, q->type)))
            continue;
        if (r->act == ACT_DELAY)
            q->delay = r->delay > q->delay ? r->delay : q->delay;
        else if (r->act != ACT_TRUNC && (!all || !q->list.count || r->always))
            q->act = !q->act || r->act < q->act ? r->act : q->act; /* silence first */
    }
}

static enum failure failure_of(enum act act)
{
    switch (act) {
    case ACT_SERVFAIL: return FAILURE_SERVFAIL;
    case ACT_REFUSED: return FAILURE_REFUSED;
    case ACT_FORMERR: return FAILURE_BAD;
    case ACT_NXDOMAIN: return FAILURE_NXDOMAIN;
    default: return FAILURE_TIMEOUT;
    }
}

static enum failure follow(const struct zone *z, struct asked *q, struct str name)
{
    for (int i = 0; i <= CHAIN_MOST; i++) {
        bool exists;
        const struct zone_record *records = find(z, name, q->arena, &exists), *alias = records;
        look(q, records);
        if (q->act)
            return failure_of(q->act);
        if (q->list.count)
            return FAILURE_NONE;
        while (alias && (alias->act || !str_equal(alias->type, STR("cname"))))
            alias = alias->next;
        if (!alias || str_equal(q->type, STR("cname")))
            return exists ? FAILURE_NODATA : FAILURE_NXDOMAIN;
        q->ttl = alias->ttl < q->ttl ? alias->ttl : q->ttl;
        name = alias->data.text;
    }
    return FAILURE_SERVFAIL;
}

static enum failure answer(struct dns_source *source, const char *type, struct str name, struct arena *arena,
                           struct filter_value *value, unsigned *delay)
{
    const struct zone *z = (const struct zone *)source; /* its first member */
    struct asked q = {
        .type = arena_lower(arena, str_of(type)), .arena = arena, .list = {.type = VALUE_LIST}, .ttl = INT32_MAX};
    name = arena_lower(arena, name);
    if (name.len && name.at[name.len - 1] == '.')
        name.len--;
    enum failure error = follow(z, &q, name);
    *delay = error == FAILURE_TIMEOUT ? DNS_NEVER : q.delay;
    if (error)
        return error;
    *value = (struct filter_value){.type = VALUE_MAP};
    value_put(arena, value, STR("ttl"), value_integer(q.ttl));
    value_put(arena, value, STR("authentic"), value_bool(false));
    value_put(arena, value, STR("list"), q.list);
    return FAILURE_NONE;
}

const char *zone_read(struct zone *z, struct str text, uint32_t *line)
{
    struct filter_value tree;
    *z = (struct zone){.source = {.answer = answer}};
    struct zone_reader r = {.zone = z};
    r.fault = json_read(text, &z->arena, &tree, line);
    if (r.fault)
        return r.fault;
    r.line = 1;
    const struct filter_value *all = tree.type == VALUE_MAP ? value_get(&tree, STR("zone")) : NULL;
    if (!all || all->type != VALUE_MAP)
        r.fault = "expected {\"zone\": {\"name\": [RECORD, ...], ...}}";
    else
        take_names(&r, all);
    *line = r.line;
    return r.fault;
}

void zone_free(struct zone *z)
{
    arena_reset(&z->arena);
}
