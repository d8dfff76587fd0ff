/* The loader: each kind of mistake is told at its file and line, with what was expected and what may have been meant; good
 * files fill the model. Filters come from this file, not from filters/builtin.c. */
#include "conf/conf.h"
#include "filters/builtin.h"
#include <setjmp.h>
#include <stdarg.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

/* ---- filters to load ---- */

static int opened, closed;

static enum filter_verdict go_on(struct filter_call *call, enum filter_stage stage)
{
    return VERDICT_CONTINUE;
}

#define OPTION(key, ...) {.size = sizeof(struct filter_option), .name = key, __VA_ARGS__}
struct probe_memory { const struct filter_value *options; };

static bool probe_open(struct filter *f)
{
    static const struct filter_option options[] = {
        OPTION("limit", .type = TYPE_NUMBER, .preset = "100"),
        OPTION("window", .type = TYPE_DURATION, .preset = "\"1h\""),
        OPTION("size", .type = TYPE_SIZE, .preset = "10M"),
        OPTION("text", .type = TYPE_TEXT, .preset = "\"hello\""),
        OPTION("loud", .type = TYPE_BOOL, .preset = "true"),
        OPTION("clients", .type = TYPE_CIDR, .preset = "{}"),
        OPTION("map", .type = TYPE_TABLE, .preset = "/nonexistent/by/default"),
        OPTION("zones", .type = TYPE_MAP, .of = TYPE_NUMBER, .preset = "{}"),
        OPTION("names", .type = TYPE_LIST, .of = TYPE_TEXT, .preset = "{ \"a\", b }"),
        OPTION("peer", .type = TYPE_ADDRESS),
        OPTION("any", .type = TYPE_ANY, .preset = "7"),
        OPTION("needed", .type = TYPE_TEXT, .required = true, .doc = "what it is for"),
        OPTION("1", .type = TYPE_LIST, .of = TYPE_TEXT),
    };
    struct probe_memory *m = filter_memory(f);
    m->options = filter_options(f, options, countof(options));
    opened += m->options != NULL;
    filter_lessen(f, ~(1u << FILTER_BODY), ~0u);
    filter_every(f, 7, 60);
    return m->options != NULL;
}

static void probe_close(struct filter *f)
{
    closed++;
}

/* As the host of scripts does: its own options first, then those the script declares. */
static bool script_open(struct filter *f)
{
    static const struct filter_option core[] = {OPTION("memory", .type = TYPE_SIZE, .preset = "16M")};
    static const struct filter_option own[] = {OPTION("delay", .type = TYPE_DURATION, .preset = "5m")};
    const struct filter_value *first = filter_options(f, core, 1);
    if (!first || filter_value_integer(filter_value_get(first, "memory")) != 8 << 20)
        filter_complain(f, NULL, filter_source(f).at, 3, "memory is not as configured");
    return filter_options(f, own, 1) != NULL;
}

static bool silent_open(struct filter *f)
{
    return false;
}

static bool greedy_open(struct filter *f)
{
    static const struct filter_option options[] = {OPTION("timeout", .type = TYPE_DURATION)};
    return filter_options(f, options, 1) != NULL;
}

static const struct filter_def greedy = {.size = sizeof greedy, .abi = FILTER_ABI, .name = "greedy", .hook = go_on,
    .open = greedy_open};
static const struct filter_def probe = {.size = sizeof probe, .abi = FILTER_ABI, .name = "probe", .hook = go_on,
    .stages = 1 << FILTER_RCPT | 1 << FILTER_BODY, .open = probe_open, .close = probe_close,
    .filter_memory = sizeof(struct probe_memory)};
static const struct filter_def plain = {.size = sizeof plain, .abi = FILTER_ABI, .name = "plain", .hook = go_on};
static const struct filter_def silent = {.size = sizeof silent, .abi = FILTER_ABI, .name = "silent", .hook = go_on,
    .open = silent_open};
static const struct filter_def script = {.size = sizeof script, .abi = FILTER_ABI, .name = ".lua", .hook = go_on,
    .open = script_open};

const struct filter_def *const *builtin_filters(void)
{
    static const struct filter_def *const list[] = {&probe, &plain, &silent, &greedy, &script, NULL};
    return list;
}

/* ---- helpers ---- */

static const char *write_file(const char *name, const char *text)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static struct arena arena;
static struct complaints heard;

static struct conf *load(const char *text)
{
    arena_reset(&arena);
    heard = (struct complaints){.arena = &arena};
    return conf_load(write_file("t.lua", text), &heard);
}

static struct conf *good(const char *text)
{
    struct conf *conf = load(text);
    if (!conf)
        complaints_say(stderr, &heard);
    assert_non_null(conf);
    return conf;
}

#define BASE "backend \"b\" { \"127.0.0.1:10025\" }\nlisten \"mx\" { \":2525\" }\n"

static bool said(const char *file, uint32_t line, const char *what)
{
    for (const struct complaint *c = heard.first; c; c = c->next)
        if (c->line == line && str_ends_nocase(c->file, str_of(file)) && strstr(c->text.at, what))
            return true;
    return false;
}

static void refused(const char *text, uint32_t line, const char *what)
{
    struct conf *conf = load(text);
    if (conf || !said("t.lua", line, what)) {
        print_error("expected line %u: %s, in:\n%s\n", line, what, text);
        complaints_say(stderr, &heard);
    }
    assert_null(conf);
    assert_true(said("t.lua", line, what));
}

static void certificate_write(const char *certificate, const char *key_file)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"mx.test", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_sign(x, key, EVP_sha256());
    FILE *f = fopen(write_file(certificate, ""), "w");
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(write_file(key_file, ""), "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* ---- good files ---- */

static void minimal_file_gives_the_defaults(void **state)
{
    struct conf *conf = good(BASE);
    assert_int_equal(conf->smtp.nlistens, 1);
    const struct listen_conf *l = &conf->smtp.listens[0];
    assert_string_equal(l->visit.name.at, "mx");
    assert_int_equal(l->naddresses, 2); /* ":25" is both families */
    assert_string_equal(l->addresses[0].text.at, "inet6:[::]:2525");
    assert_string_equal(l->addresses[1].text.at, "inet:0.0.0.0:2525");
    assert_ptr_equal(l->backend, &conf->smtp.backends[0]);
    assert_non_null(l->visit.chain);
    assert_int_equal(l->visit.chain->nfilters, 0);
    assert_true(l->visit.received && l->bare == BARE_REJECT && !l->tls);
    assert_true(l->visit.limits.size == 50 << 20 && l->visit.limits.header_size == 256 << 10 && l->visit.limits.hold_memory == 256 << 10);
    assert_true(l->visit.limits.memory == 1 << 30 && l->visit.limits.min_rate == 500 && l->visit.limits.connections == 10000);
    assert_true(l->visit.limits.connections_per_client == 100 && l->visit.limits.recipients == 1000 && l->visit.limits.rcpt_commands == 10000);
    assert_true(l->visit.limits.messages == 0 && l->visit.limits.errors == 20 && l->visit.limits.junk == 100 && l->visit.limits.line == 4096 &&
                l->visit.limits.hops == 100);
    const struct timeouts *t = &l->timeouts;
    assert_true(t->command == 300000 && t->data == 180000 && t->handshake == 30000 && t->write == 300000);
    assert_true(t->connect == 30000 && t->banner == 60000 && t->helo == 60000 && t->mail == 300000 && t->rcpt == 300000);
    assert_true(t->data_reply == 120000 && t->block == 180000 && t->end_reply == 590000 && t->end_by == 240000);
    assert_true(t->greeting == 0 && t->pool_idle == 60000 && t->pool_age == 600000 && t->drain == 30000);
    assert_true(conf->smtp.backends[0].pool == 16 && conf->smtp.backends[0].pool_uses == 100);
    assert_int_equal(conf->smtp.mail.nstores, 1);
    assert_string_equal(conf->smtp.mail.stores[0].name.at, "default");
    assert_true(conf->smtp.mail.stores[0].timeout == 500 && conf->smtp.mail.stores[0].store);
    assert_true(conf->smtp.workers >= 1 && conf->log.level == LOG_INFO && conf->log.format == LOG_AUTO && conf->log.target == LOG_TO_STDERR && conf->log.facility == 2 && !conf->smtp.mail.log_subject);
    conf_drop(conf);
}

static void the_mark_that_editors_put_in_front_is_no_text(void **state)
{
    conf_drop(good("\xef\xbb\xbf" BASE));
}

static void header_size_follows_a_lower_size_down(void **state)
{
    struct conf *conf = good(BASE "limits { size = \"100K\" }\nlisten \"own\" { \":9\", limits = { size = \"10K\" } }\n"
                                  "listen \"both\" { \":8\", limits = { size = \"10K\", header_size = \"2K\" } }\n");
    assert_true(conf->smtp.listens[0].visit.limits.size == 100 << 10 && conf->smtp.listens[0].visit.limits.header_size == 100 << 10);
    assert_true(conf->smtp.listens[1].visit.limits.size == 10 << 10 && conf->smtp.listens[1].visit.limits.header_size == 10 << 10);
    assert_true(conf->smtp.listens[2].visit.limits.size == 10 << 10 && conf->smtp.listens[2].visit.limits.header_size == 2 << 10);
    conf_drop(conf);
}

static void everything_said_is_in_the_model(void **state)
{
    struct conf *conf = good(
        "listen \"mx\" { \"127.0.0.1:2525\", \"unix:/tmp/x.sock\", backend = \"two\", chain = \"c\", bare = \"normalize\",\n"
        "  received = true, hostname = \"other.test\", limits { size = 0, recipients = 500 }, timeouts = { command = 90 } }\n"
        "limits { recipients = 200, errors = 7 }\ntimeouts { end_reply = \"9m\", command = \"1m30s\", greeting = \"500ms\" }\n"
        "backend \"one\" { \"unix:/run/one\", pool = 0, helo = \"h.test\" }\n"
        "backend \"two\" { \"mail.test:25\", identity = \"xclient\", tls = \"opportunistic\", tls_name = \"n.test\", pool_uses = 5 }\n"
        "backend \"jail\" { \"maildir:jail\" }\n"
        "hostname \"mx.test\"\nworkers(3)\nlog { to = \"/tmp/x.log\", facility = \"local3\", format = \"json\", level = \"warning\", subject = true }\n"
        "dns { servers = { \"127.0.0.1\", \"[::1]:5353\" } }\n"
        "store \"s\" { \"memory\", size = \"1M\", prefix = \"p:\", timeout = \"2s\" }\n"
        "chain \"c\" { quarantine = \"jail\", only = { listen = { \"mx\" } }, filter \"plain\" {} }\n");
    const struct listen_conf *l = &conf->smtp.listens[0];
    assert_int_equal(l->naddresses, 2);
    assert_string_equal(l->backend->hop.name.at, "two");
    assert_true(l->visit.received && l->bare == BARE_NORMALIZE);
    assert_string_equal(l->visit.hostname.at, "other.test");
    assert_true(l->visit.limits.size == 0 && l->visit.limits.recipients == 500 && l->visit.limits.errors == 7);
    assert_true(l->timeouts.command == 90000 && l->timeouts.end_reply == 540000 && l->timeouts.greeting == 500);
    assert_true(conf->smtp.limits.recipients == 200 && conf->smtp.timeouts.command == 90000);
    assert_true(l->backend->identity == IDENTITY_XCLIENT && l->backend->tls_mode == BACKEND_TLS_OPPORTUNISTIC && l->backend->tls);
    assert_true(l->backend->pool_uses == 5 && conf->smtp.backends[0].pool == 0);
    assert_string_equal(l->backend->tls_name.at, "n.test");
    assert_string_equal(conf->smtp.backends[0].helo.at, "h.test");
    assert_true(conf->smtp.backends[2].protocol == IS_MAILDIR);
    assert_true(str_ends_nocase(conf->smtp.backends[2].address.host, STR("/jail")) && conf->smtp.backends[2].address.host.at[0] == '/');
    assert_ptr_equal(l->visit.chain->quarantine, &conf->smtp.backends[2]);
    assert_int_equal(l->visit.chain->only.nlistens, 1);
    assert_string_equal(conf->smtp.dns.at, "127.0.0.1:53,[::1]:5353");
    assert_true(conf->smtp.workers == 3 && conf->log.format == LOG_JSON && conf->log.target == LOG_TO_FILE && conf->log.facility == 19 && conf->log.level == LOG_WARNING && conf->smtp.mail.log_subject);
    assert_int_equal(conf->smtp.mail.nstores, 2);
    assert_string_equal(conf->smtp.mail.stores[1].prefix.at, "p:");
    conf_drop(conf);
}

static void received_is_left_out_when_the_backend_knows_the_client(void **state)
{
    struct conf *conf = good("backend \"b\" { \"127.0.0.1:1\", identity = \"xclient\" }\nlisten \"a\" { \":0\" }\n");
    assert_false(conf->smtp.listens[0].visit.received);
    conf_drop(conf);
}

static void backends_have_servers_and_routes_choose_among_them(void **state)
{
    struct conf *conf = good("backend \"a\" { \"127.0.0.1:1\", { \"127.0.0.1:2\", weight = 3 }, { \"[::1]:3\", backup = true },\n"
                             "  balance = \"round_robin\", connections = 7, wait = \"3s\", rise = 4, fall = 5, health = \"9s\" }\n"
                             "backend \"b\" { \"unix:/run/lmtp\", protocol = \"lmtp\", separate = true, identity = \"proxy\" }\n"
                             "route \"r\" { [\"a.test\"] = \"a\", [\".b.test\"] = \"b\", [\"*\"] = \"a\" }\n"
                             "route \"s\" { by = \"from\", [\"*\"] = \"b\" }\n"
                             "listen \"x\" { \":0\", route = \"r\", xclient = { \"192.0.2.0/24\" } }\n");
    const struct backend_conf *a = &conf->smtp.backends[0], *b = &conf->smtp.backends[1];
    assert_int_equal(a->nservers, 3);
    assert_string_equal(a->servers[1].address.text.at, "inet:127.0.0.1:2");
    assert_true(a->servers[0].weight == 1 && a->servers[1].weight == 3 && a->servers[2].backup && !a->servers[1].backup);
    assert_true(a->balance == BALANCE_ROUND_ROBIN && a->connections == 7 && a->wait == 3000 && a->health == 9000);
    assert_true(a->rise == 4 && a->fall == 5 && a->chunking && a->protocol != SPEAKS_LMTP);
    assert_true(b->protocol == SPEAKS_LMTP && b->separate && b->identity == IDENTITY_PROXY);
    const struct listen_conf *l = &conf->smtp.listens[0];
    struct str found;
    assert_ptr_equal(l->route, &conf->smtp.routes[0]);
    assert_ptr_equal(l->backend, a);
    assert_true(table_match(l->route->table, STR("u@x.b.test"), &found) && str_equal(found, STR("1")));
    assert_true(table_match(l->route->table, STR("u@a.test"), &found) && str_equal(found, STR("0")));
    assert_true(conf->smtp.routes[1].by_sender && conf->smtp.routes[1].nbackends == 1);
    assert_true(table_match_ip(l->xclient, STR("192.0.2.1"), NULL) && !l->proxy);
    conf_drop(conf);
}

static void filters_get_options_names_and_conditions(void **state)
{
    write_file("words", "ann yes\n");
    opened = closed = 0;
    struct conf *conf = good(BASE
        "chain \"c\" { observe = true,\n"
        "  filter \"probe\" { needed = \"n\", limit = 5, window = \"90s\", clients = { \"192.0.2.0/24\" }, map = \"words\",\n"
        "    zones = { [\"zen.test\"] = 5 }, peer = \"127.0.0.1:11332\", \"e1\", \"e2\", timeout = \"7s\", on_error = \"continue\",\n"
        "    only = { auth = false, client = \"192.0.2.0/24\" }, except = { from = { \"x.test\" }, tls = true } },\n"
        "  filter \"probe\" { needed = \"n\", observe = false, name = \"mine\", prefix = \"pp\", names = \"one\" },\n"
        "  filter \"plain\" }\n");
    assert_int_equal(conf->smtp.mail.nfilters, 3);
    const struct filter *f = conf->smtp.mail.filters[0];
    const struct filter_value *o = f->options;
    assert_string_equal(f->name.at, "probe");
    assert_int_equal(f->timeout, 7000);
    assert_int_equal(f->message_timeout, 240000);
    assert_true(f->on_error == ON_ERROR_CONTINUE && f->observe && f->opened && f->line == 4);
    assert_true(f->stages == 1u << FILTER_RCPT && f->nticks == 1 && f->ticks[0].seconds == 60);
    assert_true(f->only.given && f->only.auth == 0 && f->only.tls == -1 && f->only.client && f->except.tls == 1);
    assert_true(table_match_ip(f->only.client, STR("192.0.2.9"), NULL));
    assert_true(table_match(f->except.from, STR("a@x.test"), NULL));
    assert_int_equal(filter_value_integer(filter_value_get(o, "limit")), 5);
    assert_int_equal(filter_value_integer(filter_value_get(o, "window")), 90);
    assert_int_equal(filter_value_integer(filter_value_get(o, "size")), 10 << 20);
    assert_string_equal(filter_value_text(filter_value_get(o, "text")).at, "hello");
    assert_int_equal(filter_value_integer(filter_value_get(o, "loud")), 1);
    assert_string_equal(filter_value_text(filter_value_get(o, "peer")).at, "inet:127.0.0.1:11332");
    assert_int_equal(filter_value_integer(filter_value_get(filter_value_get(o, "zones"), "zen.test")), 5);
    assert_int_equal(filter_value_count(filter_value_get(o, "names")), 2);
    assert_string_equal(filter_value_text(filter_value_at(filter_value_get(o, "names"), 1, NULL)).at, "b");
    assert_int_equal(filter_value_integer(filter_value_get(o, "any")), 7);
    assert_int_equal(filter_value_count(filter_value_get(o, "1")), 2);
    struct filter_text found;
    assert_true(filter_value_match(filter_value_get(o, "map"), (struct filter_text){"Ann", 3}, &found));
    assert_string_equal(found.at, "yes");
    assert_true(filter_value_match(filter_value_get(o, "clients"), (struct filter_text){"192.0.2.1", 9}, NULL));
    assert_int_equal(filter_value_type(NULL), TYPE_NONE);
    assert_string_equal(conf->smtp.mail.filters[1]->name.at, "mine");
    assert_string_equal(conf->smtp.mail.filters[1]->prefix.at, "pp");
    assert_true(!conf->smtp.mail.filters[1]->observe && conf->smtp.mail.filters[2]->observe);
    assert_null(filter_value_get(conf->smtp.mail.filters[1]->options, "peer"));
    assert_int_equal(heard.warnings, 2); /* the preset's table is not there, and empty then; no listener names the chain */
    assert_int_equal(opened, 2);
    conf_drop(conf_hold(conf));
    assert_int_equal(closed, 0);
    conf_drop(conf);
    assert_int_equal(closed, 2);
}

static void scripts_are_found_and_named_by_their_file(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s/filters", folder);
    mkdir(path, 0700);
    write_file("near.lua", "");
    write_file("filters/grey.lua", "");
    struct conf *conf = good(BASE "chain \"c\" { filter \"near.lua\" { memory = \"8M\" }, filter \"grey.lua\" { memory = \"8M\", delay = \"3m\" },\n"
                                  "filter \"grey.lua\" { memory = \"8M\" } }\n");
    assert_string_equal(conf->smtp.mail.filters[1]->name.at, "grey");
    assert_string_equal(conf->smtp.mail.filters[2]->name.at, "grey-2");
    assert_string_equal(conf->smtp.mail.filters[2]->prefix.at, "grey");
    assert_true(str_ends_nocase(conf->smtp.mail.filters[1]->source, STR("/filters/grey.lua")));
    assert_int_equal(filter_value_integer(filter_value_get(conf->smtp.mail.filters[1]->options, "delay")), 180);
    conf_drop(conf);
    refused(BASE "chain \"c\" { filter \"grey\" {} }", 3, "did you mean \"grey.lua\"?");
    refused(BASE "chain \"c\" { filter \"gery.lua\" {} }", 3, "did you mean \"grey.lua\"?");
    refused(BASE "chain \"c\" {\n filter \"grey.lua\" { memory = \"8M\",\n dealy = \"3m\" } }", 5, "did you mean \"delay\"?");
    assert_null(load(BASE "chain \"c\" { filter \"grey.lua\" { memory = \"9M\" } }"));
    assert_true(said("filters/grey.lua", 3, "memory is not as configured")); /* a script's own place */
}

static void one_object_may_stand_in_two_chains(void **state)
{
    struct conf *conf = good(BASE "local f = filter \"plain\" { name = \"x\" }\nchain \"c\" { f }\nchain \"d\" { f, f }\n");
    assert_int_equal(conf->smtp.mail.nfilters, 3);
    assert_string_equal(conf->smtp.mail.filters[2]->name.at, "x-3");
    conf_drop(conf);
}

static void env_file_and_include_bring_texts(void **state)
{
    setenv("SLUICE_TEST", "127.0.0.1:9", 1);
    unsetenv("SLUICE_NONE");
    write_file("name", "from-file.test\r\n");
    char path[128];
    snprintf(path, sizeof path, "%s/conf.d", folder);
    mkdir(path, 0700);
    write_file("conf.d/2.lua", "listen \"two\" { \":2\" }");
    write_file("conf.d/1.lua", "listen \"one\" { \":1\" }");
    struct conf *conf = good("include \"conf.d/*.lua\"\nhostname(file \"name\")\nbackend \"b\" { env \"SLUICE_TEST\" }\n"
                             "if env(\"SLUICE_NONE\", \"\") ~= \"\" then backend \"c\" {} end");
    assert_string_equal(conf->smtp.mail.hostname.at, "from-file.test");
    assert_int_equal(conf->smtp.backends[0].address.port, 9);
    assert_string_equal(conf->smtp.listens[0].visit.name.at, "one");
    conf_drop(conf);
    write_file("conf.d/2.lua", "\n\nlisten \"two\" { \":2\", bakcend = 1 }");
    assert_null(load("include \"conf.d/*.lua\"\n" BASE));
    assert_true(said("conf.d/2.lua", 3, "did you mean \"backend\"?"));
    write_file("loop.lua", "include \"loop.lua\"");
    assert_null(load("include \"loop.lua\"\n" BASE));
    assert_true(said("loop.lua", 1, "includes itself"));
    refused("\nlocal x = env \"SLUICE_NONE\"", 2, "env(\"SLUICE_NONE\", \"a default\")");
    refused("\nhostname(file \"absent\")", 2, "No such file");
    refused("include \"absent.lua\"", 1, "No such file");
}

static void tls_blocks_give_contexts(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s/live", folder);
    mkdir(path, 0700);
    certificate_write("cert.pem", "key.pem");
    certificate_write("live/fullchain.pem", "live/privkey.pem");
    struct conf *conf = good("tls \"t\" { certificate = \"cert.pem\", key = \"key.pem\", { certificate = \"live\" }, minimum = \"TLSv1.3\" }\n"
                             "tls \"c\" { ca = \"cert.pem\" }\n"
                             "backend \"b\" { \"127.0.0.1:25\", tls = \"c\", tls_name = \"mx.test\" }\n"
                             "listen \"a\" { \":25\", tls = \"t\", require_tls = true }\nlisten \"s\" { \":465\", tls = \"t\", implicit = true }\n");
    assert_true(conf->smtp.listens[0].tls && conf->smtp.listens[0].require_tls && conf->smtp.listens[0].tls == conf->smtp.listens[1].tls);
    assert_true(conf->smtp.listens[1].implicit && conf->smtp.backends[0].tls && conf->smtp.backends[0].tls_mode == BACKEND_TLS_VERIFIED);
    conf_drop(conf);
    refused(BASE "tls \"t\" {\n certificate = \"cert.pem\",\n key = \"live/privkey.pem\" }", 4, "key");
    refused(BASE "tls \"t\" { certificate = \"absent.pem\" }", 3, "absent.pem");
    refused(BASE "tls \"t\" { { key = \"key.pem\" } }", 3, "\"certificate\" is missing");
    refused(BASE "tls \"t\" { key = \"key.pem\" }", 3, "without a certificate");
    refused(BASE "tls \"t\" {}\nlisten \"x\" { \":9\",\n tls = \"t\" }", 5, "has no certificate");
    refused(BASE "listen \"x\" { \":9\", implicit = true }", 3, "\"tls\" is missing");
}

static const char module_text[] =
    "#include \"filters/filter.h\"\n"
    "static enum filter_verdict hook(struct filter_call *c, enum filter_stage s) { return VERDICT_CONTINUE; }\n"
    "static const struct filter_def def = {.size = sizeof def, .abi = ABI, .name = NAME, .hook = hook};\n"
    "const struct filter_def *const *sluice_filters(unsigned abi) {\n"
    "static const struct filter_def *const list[] = {&def, 0}; return list; }\n";

static bool module_make(const char *name, const char *flags)
{
    char command[1024];
    write_file("m.c", module_text);
    int root = (int)(strstr(__FILE__, "tests/unit/") - __FILE__);
    snprintf(command, sizeof command, "cc -shared -fPIC -I%.*s. %s -o %s/%s %s/m.c 2>/dev/null", root, __FILE__, flags, folder,
             name, folder);
    return system(command) == 0;
}

static void modules_bring_filters(void **state)
{
    if (!module_make("m.so", "-DABI=FILTER_ABI -DNAME='\"guest\"'"))
        skip();
    struct conf *conf = good(BASE "module \"m.so\"\nchain \"c\" { filter \"guest\" {} }");
    assert_string_equal(conf->smtp.mail.filters[0]->def->name, "guest");
    conf_drop(conf);
    refused(BASE "module \"m.so\"\nchain \"c\" { filter \"geust\" {} }", 4, "did you mean \"guest\"?");
    assert_true(module_make("abi.so", "-DABI=9 -DNAME='\"other\"'"));
    refused(BASE "module \"abi.so\"", 3, "built for filter ABI 9, this is 1");
    assert_true(module_make("twice.so", "-DABI=FILTER_ABI -DNAME='\"probe\"'"));
    refused(BASE "module \"twice.so\"", 3, "there is a filter \"probe\" already");
    assert_true(module_make("none.so", "-DABI=1 -DNAME='\"x\"' -Dsluice_filters=something_else"));
    refused(BASE "module \"none.so\"", 3, "does not export sluice_filters");
    refused(BASE "\nmodule \"absent.so\"", 4, "absent.so");
}

/* ---- mistakes ---- */

static const struct { const char *text; uint32_t line; const char *what; } mistakes[] = {
#include "mistakes.h"
};

static void each_mistake_is_told_at_its_line_with_what_was_expected(void **state)
{
    for (size_t i = 0; i < countof(mistakes); i++)
        refused(mistakes[i].text, mistakes[i].line, mistakes[i].what);
}

static void all_mistakes_are_told_at_once(void **state)
{
    assert_null(load(BASE "listen \"x\" { \":9\",\n bakcend = 1,\n implicit = 2 }\nchain \"c\" {\n filter \"plian\" {} }\n"));
    assert_int_equal(heard.errors, 3);
    assert_true(said("t.lua", 4, "bakcend") && said("t.lua", 5, "true or false") && said("t.lua", 7, "plian"));
}

static void loose_ends_are_warned_of(void **state)
{
    struct conf *conf = good(BASE "filter \"plain\" {}\nlimits { recipients = 50 }\nchain \"c\" {\nfilter \"plain\" {} }");
    assert_true(said("t.lua", 6, "chain \"c\": no listener names it"));
    assert_true(said("t.lua", 3, "stands in no chain"));
    assert_true(said("t.lua", 4, "at least 100"));
    conf_drop(conf);
}

static void missing_file_is_a_complaint(void **state)
{
    heard = (struct complaints){.arena = &arena};
    assert_null(conf_load("/nonexistent/sluice.lua", &heard));
    assert_true(said("sluice.lua", 0, "No such file"));
    assert_null(conf_load("/tmp", &heard));
    assert_null(conf_load("/dev/zero", &heard));
}

static void loading_often_leaks_nothing(void **state)
{
    for (int i = 0; i < 50; i++) {
        struct conf *conf = good(BASE "chain \"c\" { filter \"probe\" { needed = \"x\", map = { a = \"b\" } } }");
        conf_drop(conf);
        assert_null(load(BASE "chain \"c\" { filter \"probe\" { needed = \"x\", map = { a = \"b\" }, x = 1 } }"));
    }
    assert_int_equal(opened, closed); /* each that opened was closed, those refused later too */
}

/* conf/ is shipped: the long file must name every directive there is, and be right. */
static void shipped_files_load_and_are_complete(void **state)
{
    char path[512], *text = NULL, *list = NULL;
    size_t size, listed;
    snprintf(path, sizeof path, "%.*sconf/sluice.lua", (int)(strstr(__FILE__, "tests/unit/") - __FILE__), __FILE__);
    heard = (struct complaints){.arena = &arena};
    struct conf *conf = conf_load(path, &heard);
    complaints_say(stderr, &heard);
    assert_non_null(conf);
    conf_drop(conf);
    FILE *f = fopen(path, "r"), *to = open_memstream(&text, &size);
    for (int c; (c = fgetc(f)) != EOF;)
        fputc(c, to);
    fclose(f);
    fclose(to);
    to = open_memstream(&list, &listed);
    conf_say_defaults(to);
    fclose(to);
    for (char *line = strtok(list, "\n"); line; line = strtok(NULL, "\n")) {
        char word[64];
        if (sscanf(line, "    %60[a-z_]", word) != 1 || line[0] != ' ')
            continue;
        if (!strstr(text, word))
            print_error("conf/sluice.lua does not name %s\n", word);
        assert_non_null(strstr(text, word));
    }
    free(text);
    free(list);
}

static void order_is_explained(void **state)
{
    char *text = NULL;
    size_t size;
    struct conf *conf = good("backend \"b\" { \"127.0.0.1:1\" }\nlisten \"mx\" { \":9\", chain = \"c\" }\n"
                             "chain \"c\" { filter \"probe\" { needed = \"x\" }, filter \"probe\" { needed = \"x\", observe = true } }");
    FILE *to = open_memstream(&text, &size);
    conf_say_order(to, conf);
    fclose(to);
    assert_non_null(strstr(text, "rcpt       probe probe-2 (observe)"));
    assert_non_null(strstr(text, "DATA"));
    free(text);
    conf_drop(conf);
}

static void one_of_3000_keys_that_is_written_three_times_is_told_where_it_was_first(void **state)
{
    static char text[200000];
    size_t at = (size_t)snprintf(text, sizeof text, "%s", BASE "chain \"c\" { filter \"probe\" { needed = \"x\", zones = {\n");
    for (int i = 0; i < 3000; i++) /* the third line is the first of them */
        at += (size_t)snprintf(text + at, sizeof text - at, "[\"zone%d\"] = 1,\n", i == 1500 || i == 2900 ? 700 : i);
    snprintf(text + at, sizeof text - at, "} } }");
    refused(text, 4 + 1500, "\"zone700\" is written twice in the same braces, first in line 704");
    refused(text, 4 + 2900, "\"zone700\" is written twice in the same braces, first in line 704");
}

static int open_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/test_conf.XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int close_folder(void **state)
{
    char command[128];
    arena_reset(&arena);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void what_holds_for_all_is_not_said_in_a_listener(void **state)
{
    refused("backend \"b\" { \"127.0.0.1:10025\" }\nlisten \"mx\" { \":2525\",\n timeouts = { rcpt = \"1m\", drain = \"3s\" } }\n", 3,
            "listen \"mx\": \"drain\" holds for all listeners");
    refused("backend \"b\" { \"127.0.0.1:10025\" }\nlisten \"mx\" { \":2525\", limits = { stress = 50 } }\n", 2,
            "listen \"mx\": \"stress\" holds for all listeners");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minimal_file_gives_the_defaults),
        cmocka_unit_test(the_mark_that_editors_put_in_front_is_no_text),
        cmocka_unit_test(header_size_follows_a_lower_size_down),
        cmocka_unit_test(everything_said_is_in_the_model),
        cmocka_unit_test(received_is_left_out_when_the_backend_knows_the_client),
        cmocka_unit_test(backends_have_servers_and_routes_choose_among_them),
        cmocka_unit_test(filters_get_options_names_and_conditions),
        cmocka_unit_test(scripts_are_found_and_named_by_their_file),
        cmocka_unit_test(one_object_may_stand_in_two_chains),
        cmocka_unit_test(env_file_and_include_bring_texts),
        cmocka_unit_test(tls_blocks_give_contexts),
        cmocka_unit_test(modules_bring_filters),
        cmocka_unit_test(each_mistake_is_told_at_its_line_with_what_was_expected),
        cmocka_unit_test(one_of_3000_keys_that_is_written_three_times_is_told_where_it_was_first),
        cmocka_unit_test(all_mistakes_are_told_at_once),
        cmocka_unit_test(loose_ends_are_warned_of),
        cmocka_unit_test(missing_file_is_a_complaint),
        cmocka_unit_test(loading_often_leaks_nothing),
        cmocka_unit_test(shipped_files_load_and_are_complete),
        cmocka_unit_test(order_is_explained),
        cmocka_unit_test(what_holds_for_all_is_not_said_in_a_listener),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
