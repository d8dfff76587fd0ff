/* conf.c - a configuration out of dice: three backends, one listener, its chain, limits and clocks. A reload makes
 * another.
 *
 * Names and servers of the backends are the same in each, so that a session of an old configuration and one of a new
 * one may come to the same server. Clocks are shorter than real ones, so that what hangs is seen to end. */
#include "world.h"
#include "store/store.h"

static void fill_clocks(struct timeouts *t)
{
    *t = (struct timeouts){.command = 60000,
                           .data = 60000,
                           .handshake = 30000,
                           .write = 60000,
                           .line = 60000,
                           .stress = 10000,
                           .proxy = 5000,
                           .connect = 10000,
                           .banner = 10000,
                           .helo = 10000,
                           .mail = 20000,
                           .rcpt = 20000,
                           .data_reply = 20000,
                           .block = 60000,
                           .end_reply = 90000,
                           .end_by = 60000,
                           .pool_idle = 20000,
                           .pool_age = 600000,
                           .drain = 10000};
    if (sim_chance(10))
        t->greeting = 2000;
}

static void fill_limits(struct limits *l)
{
    *l = (struct limits){.size = 50 << 20,
                         .header_size = 262144,
                         .hold_memory = 262144,
                         .memory = 1 << 30,
                         .connections = 10000,
                         .recipients = 1000,
                         .rcpt_commands = 10000,
                         .errors = 20,
                         .junk = 100,
                         .line = 4096,
                         .hops = 100,
                         .loops = 5,
                         .held = 4ull << 30,
                         .auth_failures = 3,
                         .stress = 0};
    if (sim_may(F_LIMITS, 20))
        l->min_rate = 500;
    if (sim_may(F_LIMITS, 5))
        l->size = 10000;
    if (sim_may(F_LIMITS, 5))
        l->recipients = 2;
    if (sim_may(F_LIMITS, 5))
        l->errors = 3;
    if (sim_may(F_LIMITS, 5))
        l->junk = 1;
    if (sim_may(F_LIMITS, 5))
        l->header_size = 64;
    if (sim_may(F_LIMITS, 5))
        l->connections = 3;
    if (sim_may(F_LIMITS, 10))
        l->stress = 80;
    if (sim_may(F_MEMORY, 10))
        l->memory = 20000 + sim_random(200000);
    if (sim_may(F_MEMORY, 10))
        l->hold_memory = 4096;
    if (sim_may(F_MEMORY, 10))
        l->held = 20000;
}

static void fill_servers(struct backend_conf *b, struct arena *arena, unsigned place)
{
    const char *why;
    b->nservers = 1 + (sim_may(F_SERVERS, 30) ? 1 : 0);
    b->servers = arena_alloc(arena, b->nservers * sizeof *b->servers);
    for (size_t i = 0; i < b->nservers; i++) {
        must(address_parse(arena_print(arena, "192.0.2.1:%zu", PORT_MAIN + 10 * place + i), arena,
                           &b->servers[i].address, &why));
        b->servers[i].weight = 1;
        b->servers[i].backup = i == 1 && sim_chance(20);
    }
    b->address = b->servers[0].address;
}

static void fill_backend(struct backend_conf *b, struct arena *arena, unsigned place)
{
    static const uint32_t most[] = {0, 0, 1, 2};
    static const char *const names[] = {"main", "other", "jail"};
    *b = (struct backend_conf){.hop.name = str_of(names[place]),
                               .index = place,
                               .helo = STR("mx.test"),
                               .tls_name = STR(""),
                               .pool_uses = 100,
                               .wait = 10000,
                               .health = sim_chance(50) ? 5000 : 0,
                               .rise = 1,
                               .fall = 2};
    fill_servers(b, arena, place);
    b->pool = sim_may(F_POOL, 70) ? 16 : 0;
    b->pool_uses = sim_chance(80) ? 100 : 2;
    size_t scarce = sim_random(countof(most));
    b->connections = sim_may(F_SCARCE, 100) ? most[scarce] : 0;
    b->chunking = sim_may(F_CHUNKS, 50);
    b->balance = sim_chance(50) ? BALANCE_ROUND_ROBIN : BALANCE_LEAST_CONNECTIONS;
    b->protocol = sim_may(F_LMTP, 15) ? SPEAKS_LMTP : SPEAKS_SMTP;
    b->separate = b->protocol == SPEAKS_LMTP && sim_may(F_REFUSALS, 20);
    unsigned identity = (unsigned)sim_random(8);
    if (sim_may(F_IDENTITY, 100))
        b->identity = identity < 4 ? (enum identity)(identity + 1) : IDENTITY_NONE;
}

static struct table *everybody(struct smtp_conf *c, enum feature f, unsigned percent)
{
    const struct str all = STR("0.0.0.0/0");
    char why[200];
    if (!sim_may(f, percent))
        return NULL;
    struct table *t = table_of(&all, NULL, 1, why, sizeof why);
    must(t != NULL);
    conf_keep_table(&c->mail, t);
    return t;
}

static void fill_route(struct smtp_conf *c, struct listen_conf *l)
{
    static const char *const odd[] = {"c1.test", "c3.test", "c5.test", "c7.test", "c9.test", "z.test", "*"};
    struct str keys[countof(odd)], values[countof(odd)];
    char why[200];
    if (!sim_may(F_ROUTES, 25))
        return;
    struct route *r = c->routes = arena_alloc(&c->mail.arena, sizeof *r);
    c->nroutes = 1;
    r->name = STR("dice");
    r->by_sender = sim_chance(50);
    for (size_t i = 0; i < countof(odd); i++) {
        keys[i] = str_of(odd[i]);
        values[i] = i + 1 < countof(odd) ? STR("1") : STR("0");
    }
    r->table = table_of(keys, values, countof(odd), why, sizeof why);
    must(r->table != NULL);
    conf_keep_table(&c->mail, r->table);
    r->backends = arena_alloc(&c->mail.arena, PLACES * sizeof(struct backend_conf *));
    for (; r->nbackends < PLACE_JAIL; r->nbackends++)
        r->backends[r->nbackends] = &c->backends[r->nbackends];
    l->route = r;
    l->route_falls_back = true;
}

static void fill_listen(struct smtp_conf *c)
{
    struct listen_conf *l = c->listens;
    *l = (struct listen_conf){.visit.name = STR("in"),
                              .file = STR("sim"),
                              .visit.chain = c->mail.chains,
                              .backend = c->backends,
                              .chunking = sim_may(F_CHUNKS, 80),
                              .visit.hostname = STR("mx.test"),
                              .visit.limits = c->limits,
                              .timeouts = c->timeouts};
    l->visit.received = sim_chance(30);
    fill_route(c, l);
    if (sim_may(F_AUTH, 30)) {
        l->auth = sim_may(F_REFUSALS, 30) ? AUTH_REQUIRE : AUTH_OFFER;
        l->auth_without_tls = true;
    }
    l->proxy = everybody(c, F_CLAIMS, 10);
    l->xclient = everybody(c, F_CLAIMS, 20);
    l->xforward = everybody(c, F_CLAIMS, 20);
}

struct smtp_conf *conf_new(struct world *w, unsigned generation)
{
    struct smtp_conf *c = must_alloc(sizeof *c);
    struct arena *arena = &c->mail.arena;
    c->refs = 1;
    c->generation = generation;
    c->mail.hostname = STR("mx.test");
    c->mail.path = STR("sim");
    c->workers = 1;
    c->dns = STR_NONE;
    c->backends = arena_alloc(arena, PLACES * sizeof *c->backends);
    c->nbackends = PLACES;
    for (unsigned i = 0; i < PLACES; i++)
        fill_backend(&c->backends[i], arena, i);
    c->mail.chains = arena_alloc(arena, sizeof *c->mail.chains);
    c->mail.nchains = 1;
    c->mail.chains[0] = (struct chain){.name = STR("dice"), .quarantine = &c->backends[PLACE_JAIL].hop};
    c->mail.stores = arena_alloc(arena, sizeof *c->mail.stores);
    c->mail.nstores = 1;
    c->mail.stores[0] = (struct store_conf){.name = STR("default"),
                                       .kind = STR("memory"),
                                       .store = store_memory_open(1 << 20),
                                       .timeout = 1000,
                                       .size = 1 << 20};
    filters_fill(w, c);
    fill_limits(&c->limits);
    fill_clocks(&c->timeouts);
    c->listens = arena_alloc(arena, sizeof *c->listens);
    c->nlistens = 1;
    fill_listen(c);
    return c;
}
