/* backends.c - builds TLS contexts, backends with their servers, and routes from checked items. Opens every certificate that is named, used
 * or not; makes no connections. */
#include "conf/parts.h"

/* ---- TLS ---- */

static const char *path_in(struct loader *l, const struct filter_value *block, const char *key)
{
    struct str text = block_text(block, key);
    return text.len ? conf_path(l, text).at : NULL;
}

static enum tls_client client_of(struct str text)
{
    return str_equal(text, STR("required"))   ? TLS_CLIENT_REQUIRED
           : str_equal(text, STR("optional")) ? TLS_CLIENT_OPTIONAL
                                              : TLS_CLIENT_NONE;
}

struct tls_parts {
    struct tls_settings settings;
    struct tls_certificate certificates[64];
};

static void tls_parts_of(struct loader *l, struct conf_item *item, struct tls_parts *p)
{
    const struct filter_value *block = item->checked, *element;
    struct str minimum = block_text(block, "minimum"), ciphers = block_text(block, "ciphers");
    *p = (struct tls_parts){.settings = {.certificates = p->certificates,
                                         .minimum = minimum.at,
                                         .ciphers = ciphers.len ? ciphers.at : NULL,
                                         .prefer_server = block_true(block, "prefer_server"),
                                         .client = client_of(block_text(block, "client")),
                                         .ca_file = path_in(l, block, "ca")}};
    if (block_text(block, "certificate").len)
        p->certificates[p->settings.ncertificates++] =
            (struct tls_certificate){path_in(l, block, "certificate"), path_in(l, block, "key")};
    else if (value_get(block, STR("key")))
        item_complain(l, item, value_get(block, STR("key")), "%s: a key without a certificate", item_title(l, item));
    for (size_t i = 1; (element = block_element(block, i)); i++) {
        if (element->type != VALUE_MAP) {
            item_complain(l, item, element, "%s: expected { certificate = \"...\" }, got %s", item_title(l, item),
                          value_type_name(element->type));
            continue;
        }
        if (p->settings.ncertificates == countof(p->certificates)) {
            item_complain(l, item, element, "%s: more than %zu certificates", item_title(l, item),
                          countof(p->certificates));
            break;
        }
        const struct filter_value *one = block_check(l, item, element, IN_CERTIFICATE, item_title(l, item), false);
        p->certificates[p->settings.ncertificates++] =
            (struct tls_certificate){path_in(l, one, "certificate"), path_in(l, one, "key")};
    }
}

static void warn_of_expiry(struct loader *l, const struct conf_item *item, struct tls *tls)
{
    char file[512], day[16];
    struct tm tm;
    int64_t ends = tls_expires(tls, file, sizeof file), now = (int64_t)time(NULL);
    time_t at = (time_t)ends;
    if (!ends || ends > now + TLS_EXPIRY_WARNING)
        return;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&at, &tm));
    item_warn(l, item, value_get(&item->body, STR("certificate")), "%s: certificate %s %s on %s", item_title(l, item),
              file, ends <= now ? "expired" : "expires", day);
}

/* Opens every block with certificates, used or not, so that a mistake is found before it is needed. */
void tls_build(struct loader *l)
{
    char error[512];
    struct tls_parts p;
    for (size_t i = 0; i < l->nitems; i++)
        l->ntls += item_is_a(l->items[i], "tls");
    l->tls = arena_alloc(&l->conf->smtp.mail.arena, (l->ntls + 1) * sizeof *l->tls);
    l->ntls = 0;
    for (size_t i = 0; i < l->nitems; i++) {
        struct conf_item *item = l->items[i];
        if (!item_is_a(item, "tls"))
            continue;
        unsigned before = l->complaints->errors;
        item->checked = block_check(l, item, &item->body, IN_TLS, item_title(l, item), false);
        tls_parts_of(l, item, &p);
        l->tls[l->ntls].item = item;
        if (p.settings.ncertificates && l->complaints->errors == before && !l->to_try) {
            l->tls[l->ntls].tls = tls_server_open(&p.settings, error, sizeof error);
            if (!l->tls[l->ntls].tls)
                item_complain(l, item, value_get(&item->body, STR("certificate")), "%s: %s", item_title(l, item),
                              error);
            else
                warn_of_expiry(l, item, l->tls[l->ntls].tls);
        }
        l->ntls++;
    }
}

struct tls *tls_named(struct loader *l, const struct conf_item *item, const struct filter_value *at)
{
    size_t i = 0;
    while (i < l->ntls && !str_equal(l->tls[i].item->name, at->text))
        i++;
    if (i == l->ntls)
        complain_no_name(l, item, at, "tls", at->text);
    else if (l->tls[i].tls)
        return tls_hold(l->tls[i].tls);
    else if (l->to_try)
        return NULL;
    else if (!value_get(&l->tls[i].item->body, STR("certificate")) && !block_element(&l->tls[i].item->body, 1))
        item_complain(l, item, at, "%s: tls \"%.*s\" has no certificate", item_title(l, item), STR_ARGS(at->text));
    return NULL;
}

/* ---- backends ---- */

const struct backend_conf *backend_named(struct loader *l, const struct conf_item *item, const struct filter_value *at)
{
    for (size_t i = 0; i < l->conf->smtp.nbackends; i++)
        if (str_equal(l->conf->smtp.backends[i].hop.name, at->text))
            return &l->conf->smtp.backends[i];
    complain_no_name(l, item, at, "backend", at->text);
    return NULL;
}

static void backend_tls(struct loader *l, struct conf_item *item, struct backend_conf *b)
{
    const struct filter_value *at = value_get(item->checked, STR("tls"));
    char error[512];
    struct tls_parts p = {.settings = {.minimum = "TLSv1.2"}};
    bool opportunistic = at && str_equal(at->text, STR("opportunistic"));
    if (!at || str_equal(at->text, STR("off")))
        return;
    b->tls_mode = opportunistic ? BACKEND_TLS_OPPORTUNISTIC : BACKEND_TLS_VERIFIED;
    if (!opportunistic && !str_equal(at->text, STR("verified"))) {
        struct conf_item *named = item_named(l, "tls", at->text);
        if (!named) {
            item_complain(l, item, at,
                          "%s: \"tls\": expected \"off\", \"opportunistic\", \"verified\" or the name of a tls block, "
                          "got \"%.*s\"",
                          item_title(l, item), STR_ARGS(at->text));
            return;
        }
        tls_parts_of(l, named, &p);
    }
    if (b->protocol == IS_MAILDIR) {
        item_complain(l, item, at, "%s: a maildir has no TLS", item_title(l, item));
        return;
    }
    if (l->to_try)
        return;
    b->tls = tls_client_open(&p.settings, opportunistic ? TLS_OPPORTUNISTIC : TLS_VERIFIED, error, sizeof error);
    if (!b->tls)
        item_complain(l, item, at, "%s: %s", item_title(l, item), error);
}

static bool server_address(struct loader *l, struct conf_item *item, const struct filter_value *at, struct address *to)
{
    const char *why;
    if (!address_parse(at->text, &l->conf->smtp.mail.arena, to, &why))
        item_complain(l, item, at, "%s: \"%.*s\" is no address: %s%s", item_title(l, item), STR_ARGS(at->text), why,
                      to->formless ? ", or maildir:/PATH" : "");
    else if (address_is_both(at->text) || (to->name.ss_family != AF_UNIX && !to->port))
        item_complain(l, item, at, "%s: \"%.*s\" cannot be dialled: expected HOST:PORT", item_title(l, item),
                      STR_ARGS(at->text));
    else
        return true;
    return false;
}

/* "HOST:PORT", or { "HOST:PORT", weight = 2, backup = true }. */
static void server_build(struct loader *l, struct conf_item *item, const struct filter_value *at,
                         struct backend_conf *b)
{
    struct server_conf *to = &b->servers[b->nservers];
    *to = (struct server_conf){.weight = 1};
    if (at->type == VALUE_MAP || at->type == VALUE_LIST) {
        const struct filter_value *block = block_check(l, item, at, IN_SERVER, item_title(l, item), false);
        to->weight = (uint32_t)block_integer(block, "weight");
        to->backup = block_true(block, "backup");
        at = block_element(block, 1);
        if (!at)
            return;
    } else if (at->type != VALUE_TEXT) {
        item_complain(l, item, at, "%s: expected \"HOST:PORT\" or { \"HOST:PORT\", weight = 2 }, got %s",
                      item_title(l, item), value_type_name(at->type));
        return;
    }
    if (str_starts(at->text, STR("maildir:"))) {
        item_complain(l, item, at, "%s: a maildir stands alone", item_title(l, item));
        return;
    }
    if (!server_address(l, item, at, &to->address))
        return;
    for (size_t i = 0; i < b->nservers; i++)
        if (str_equal(b->servers[i].address.text, to->address.text))
            item_complain(l, item, at, "%s: %.*s is named twice", item_title(l, item), STR_ARGS(to->address.text));
    b->nservers++;
}

static void backend_servers(struct loader *l, struct conf_item *item, struct backend_conf *b)
{
    const struct filter_value *at = block_element(item->checked, 1);
    b->servers = arena_alloc(&l->conf->smtp.mail.arena, (item->checked->count + 1) * sizeof *b->servers);
    if (!at)
        return;
    if (at->type == VALUE_TEXT && str_starts(at->text, STR("maildir:"))) {
        b->protocol = IS_MAILDIR;
        b->address.host = conf_path(l, str_part(at->text, 8, at->text.len));
        b->address.text = arena_print(&l->conf->smtp.mail.arena, "maildir:%.*s", STR_ARGS(b->address.host));
        b->servers[b->nservers++] = (struct server_conf){.address = b->address, .weight = 1};
        if (at->text.len == 8 || str_has_control(at->text))
            item_complain(l, item, at, "%s: expected maildir:/PATH", item_title(l, item));
        if (block_element(item->checked, 2))
            item_complain(l, item, block_element(item->checked, 2), "%s: a maildir stands alone", item_title(l, item));
        return;
    }
    for (size_t i = 1; (at = block_element(item->checked, i)); i++)
        server_build(l, item, at, b);
    b->address = b->servers[0].address;
    if (b->nservers > BACKEND_SERVERS)
        item_complain(l, item, NULL, "%s: more than %d servers", item_title(l, item), BACKEND_SERVERS);
    bool only_backups = b->nservers > 0;
    for (size_t i = 0; i < b->nservers; i++)
        only_backups &= b->servers[i].backup;
    if (only_backups)
        item_complain(l, item, NULL, "%s: every server is a backup: of what?", item_title(l, item));
}

static enum identity identity_of(struct str text)
{
    for (unsigned i = 0; i < IDENTITIES; i++)
        if (str_equal(text, identity_name((enum identity)i)))
            return (enum identity)i;
    return IDENTITY_NONE;
}

static void backend_build(struct loader *l, struct conf_item *item)
{
    struct backend_conf *b = &l->conf->smtp.backends[l->conf->smtp.nbackends];
    const struct filter_value *block = block_check(l, item, &item->body, IN_BACKEND, item_title(l, item), false);
    item->checked = block;
    b->hop.name = item->name;
    b->index = (unsigned)l->conf->smtp.nbackends++;
    b->identity = identity_of(block_text(block, "identity"));
    b->identity_required = block_true(block, "identity_required");
    b->protocol = str_equal(block_text(block, "protocol"), STR("lmtp")) ? SPEAKS_LMTP : SPEAKS_SMTP;
    b->separate = block_true(block, "separate");
    b->balance =
        str_equal(block_text(block, "balance"), STR("round_robin")) ? BALANCE_ROUND_ROBIN : BALANCE_LEAST_CONNECTIONS;
    b->tls_name = name_in(l, item, "tls_name");
    b->tls_implicit = block_true(block, "tls_implicit");
    b->helo = name_in(l, item, "helo");
    b->pool = (uint32_t)block_integer(block, "pool");
    b->pool_uses = (uint32_t)block_integer(block, "pool_uses");
    b->connections = (uint32_t)block_integer(block, "connections");
    b->wait = block_milliseconds(block, "wait");
    b->health = block_milliseconds(block, "health");
    b->rise = (uint32_t)block_integer(block, "rise");
    b->fall = (uint32_t)block_integer(block, "fall");
    b->chunking = str_equal(block_text(block, "chunking"), STR("auto"));
    backend_servers(l, item, b);
    backend_tls(l, item, b);
    if (b->tls_implicit && b->tls_mode == BACKEND_TLS_OFF)
        item_complain(l, item, value_get(block, STR("tls_implicit")),
                      "%s: \"tls_implicit\": say tls = \"verified\", \"opportunistic\" or the name of a tls block",
                      item_title(l, item));
}

void backends_build(struct loader *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->nitems; i++)
        n += item_is_a(l->items[i], "backend");
    l->conf->smtp.backends = arena_alloc(&l->conf->smtp.mail.arena, (n + 1) * sizeof(struct backend_conf));
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], "backend"))
            backend_build(l, l->items[i]);
}

/* ---- routes ---- */

static bool knows(const struct route *r, const struct backend_conf *b)
{
    for (size_t i = 0; i < r->nbackends; i++)
        if (r->backends[i] == b)
            return true;
    return false;
}

/* Complains of two keys that are the same, since one of their backends would never be chosen; at the later line. */
static void twins_complain(struct loader *l, const struct conf_item *item, const struct str *keys, size_t n)
{
    size_t one, other;
    if (!table_twins(keys, n, &one, &other))
        return;
    const struct filter_value *first = value_get(&item->body, keys[one]), *second = value_get(&item->body, keys[other]);
    item_complain(l, item, first->line > second->line ? first : second,
                  "%s: \"%.*s\" and \"%.*s\" are one and the same key", item_title(l, item), STR_ARGS(keys[one]),
                  STR_ARGS(keys[other]));
}

static void route_build(struct loader *l, struct conf_item *item)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    struct route *r = &l->conf->smtp.routes[l->conf->smtp.nroutes++];
    size_t n = item->body.type == VALUE_MAP ? item->body.count : 0, count = 0;
    struct str *keys = arena_alloc(a, (n + 1) * sizeof *keys), *values = arena_alloc(a, (n + 1) * sizeof *values);
    char error[512];
    item->checked = block_check(l, item, &item->body, IN_ROUTE, item_title(l, item), true);
    r->name = item->name;
    r->by_sender = str_equal(block_text(item->checked, "by"), STR("from"));
    r->backends = arena_alloc(a, (n + 1) * sizeof *r->backends);
    for (size_t i = 0; i < n; i++) {
        const struct filter_value *at = item->body.items + i;
        uint64_t number;
        if (str_equal(item->body.keys[i], STR("by")))
            continue;
        if (at->type != VALUE_TEXT || str_number(item->body.keys[i], &number)) {
            item_complain(l, item, at, "%s: expected [\"example.org\"] = \"BACKEND\", got %s", item_title(l, item),
                          value_type_name(at->type));
            continue;
        }
        const struct backend_conf *b = backend_named(l, item, at);
        if (!b)
            continue;
        if (!knows(r, b))
            r->backends[r->nbackends++] = b;
        keys[count] = item->body.keys[i];
        values[count++] = arena_print(a, "%u", b->index);
    }
    if (!count)
        item_complain(l, item, NULL, "%s: leads nowhere: write { [\"example.org\"] = \"BACKEND\" }",
                      item_title(l, item));
    twins_complain(l, item, keys, count);
    r->table = table_of(keys, values, count, error, sizeof error);
    if (r->table)
        conf_keep_table(&l->conf->smtp.mail, r->table);
    else
        item_complain(l, item, NULL, "%s: %s", item_title(l, item), error);
}

void routes_build(struct loader *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->nitems; i++)
        n += item_is_a(l->items[i], "route");
    l->conf->smtp.routes = arena_alloc(&l->conf->smtp.mail.arena, (n + 1) * sizeof(struct route));
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], "route"))
            route_build(l, l->items[i]);
}

const struct route *route_named(struct loader *l, const struct conf_item *item, const struct filter_value *at)
{
    for (size_t i = 0; i < l->conf->smtp.nroutes; i++)
        if (str_equal(l->conf->smtp.routes[i].name, at->text))
            return &l->conf->smtp.routes[i];
    complain_no_name(l, item, at, "route", at->text);
    return NULL;
}
