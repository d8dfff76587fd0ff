/* world.c - one seed: a configuration, a worker of the gateway, clients, backends, perhaps a reload; and the end of it
 * all.
 *
 * The worker is driven as proxy/worker.c does it: sessions are started, the loop runs, when the last session has ended
 * all is closed. Nothing may be left then: no stream, no block, no octet in an arena. */
#include "world.h"
#include "relay/backend.h"
#include "store/store.h"

uint64_t world_seed;
struct world *world_played;

struct letter *letter_new(struct world *w, struct client *c)
{
    if (w->nletters == w->letters_room) {
        w->letters_room = w->letters_room ? w->letters_room * 2 : 16;
        w->letters = must_grow(w->letters, w->letters_room * sizeof(struct letter *));
    }
    struct letter *l = w->letters[w->nletters++] = must_alloc(sizeof *l);
    l->number = w->nletters;
    l->client = c;
    return l;
}

struct letter *letter_numbered(struct world *w, unsigned number)
{
    return number && number <= w->nletters ? w->letters[number - 1] : NULL;
}

/* ---- the configuration */

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
                           .end = 90000,
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
    if (sim_chance(20))
        l->min_rate = 500;
    if (sim_chance(5))
        l->size = 10000;
    if (sim_chance(5))
        l->recipients = 2;
    if (sim_chance(5))
        l->errors = 3;
}

static void fill_backend(struct backend_conf *b, struct arena *arena)
{
    static const uint32_t most[] = {0, 0, 1, 2};
    const char *why;
    *b = (struct backend_conf){.name = STR("b"),
                               .nservers = 1 + (sim_chance(30) ? 1 : 0),
                               .helo = STR("mx.test"),
                               .tls_name = STR(""),
                               .pool_uses = 100,
                               .wait = 10000,
                               .health = sim_chance(50) ? 5000 : 0,
                               .rise = 1,
                               .fall = 2};
    b->servers = arena_alloc(arena, b->nservers * sizeof *b->servers);
    for (size_t i = 0; i < b->nservers; i++) {
        must(address_parse(arena_print(arena, "192.0.2.1:%zu", 2500 + i), arena, &b->servers[i].address, &why));
        b->servers[i].weight = 1;
    }
    b->address = b->servers[0].address;
    b->pool = sim_chance(70) ? 16 : 0;
    b->pool_uses = sim_chance(80) ? 100 : 2;
    b->connections = most[sim_random(countof(most))];
    b->chunking = sim_chance(50);
    b->balance = sim_chance(50) ? BALANCE_ROUND_ROBIN : BALANCE_LEAST_CONNECTIONS;
}

static struct conf *conf_new(unsigned generation)
{
    struct conf *c = must_alloc(sizeof *c);
    struct arena *arena = &c->arena;
    c->refs = 1;
    c->generation = generation;
    c->hostname = STR("mx.test");
    c->path = STR("sim");
    c->workers = 1;
    c->dns = STR_NONE;
    c->backends = arena_alloc(arena, sizeof *c->backends);
    c->nbackends = 1;
    fill_backend(c->backends, arena);
    c->chains = arena_alloc(arena, sizeof *c->chains);
    c->nchains = 1;
    c->chains[0].name = STR("dice");
    c->stores = arena_alloc(arena, sizeof *c->stores);
    c->nstores = 1;
    c->stores[0] = (struct store_conf){.name = STR("default"),
                                       .kind = STR("memory"),
                                       .store = store_memory_open(1 << 20),
                                       .timeout = 1000,
                                       .size = 1 << 20};
    filters_fill(c);
    fill_limits(&c->limits);
    fill_clocks(&c->timeouts);
    c->listens = arena_alloc(arena, sizeof *c->listens);
    c->nlistens = 1;
    c->listens[0] = (struct listen_conf){.name = STR("in"),
                                         .file = STR("sim"),
                                         .chain = c->chains,
                                         .backend = c->backends,
                                         .chunking = sim_chance(80),
                                         .hostname = STR("mx.test"),
                                         .limits = c->limits,
                                         .timeouts = c->timeouts};
    return c;
}

/* ---- the course of things */

static void reload(struct event *e)
{
    struct world *w = holder_of(e, struct world, reload);
    sim_trace("reload");
    struct conf *fresh = conf_new(w->conf->generation + 1);
    conf_take_over(fresh, w->conf);
    worker_switch(&w->worker, fresh);
    conf_drop(w->conf);
    w->conf = fresh;
}

static void drain(struct event *e)
{
    struct world *w = holder_of(e, struct world, drain);
    sim_trace("drain");
    worker_drain(&w->worker, DOOR_ALL, sim_now() + w->conf->timeouts.drain);
}

static void too_long(struct event *e)
{
    struct world *w = holder_of(e, struct world, watch);
    sim_violation("%u sessions live on though their clients have left", w->worker.nsessions);
}

static void look(void *data)
{
    struct world *w = data;
    if (w->left)
        return;
    if (!w->worker.nsessions)
        loop_stop(w->worker.loop);
    else if (!event_is_set(&w->watch))
        event_set(&w->watch, PATIENCE, too_long);
}

static void world_open(struct world *w, uint64_t seed, unsigned clients)
{
    static const unsigned faults[] = {0, 1, 5, 15}, leaving[] = {0, 2, 20};
    w->seed = seed;
    w->faults = faults[sim_random(countof(faults))];
    w->leaving = leaving[sim_random(countof(leaving))];
    w->servers_chunk = sim_chance(50);
    w->servers_pipeline = sim_chance(70);
    w->conf = conf_new(1);
    w->worker.loop = loop_open();
    w->worker.census = census_open();
    w->worker.serial = 1ull << 48;
    loop_before_sleep(w->worker.loop, look, w);
    net_on_dial(backend_dialled, w);
    worker_switch(&w->worker, w->conf);
    w->nclients = clients ? clients : 1 + (unsigned)sim_random(8);
    w->clients = clients_new(w, w->nclients);
    if (sim_chance(15))
        event_set(&w->reload, sim_random(60000), reload);
    if (sim_chance(10))
        event_set(&w->drain, sim_random(60000), drain);
}

/* Only of a world whose promises were kept: else the pieces lie about, and the process is about to end. */
static void world_close(struct world *w)
{
    event_stop(&w->watch);
    event_stop(&w->reload);
    event_stop(&w->drain);
    worker_close(&w->worker);
    loop_close(w->worker.loop);
    worker_forget(&w->worker);
    if (sim_violated())
        return;
    conf_drop(w->conf);
    census_close(w->worker.census);
    servers_forget();
    clients_free(w);
    for (unsigned i = 0; i < w->nletters; i++) {
        octets_free(&w->letters[i]->content);
        free(w->letters[i]);
    }
    free(w->letters);
    log_flush();
    if (stream_count() || w->backends || arena_total() || block_total())
        sim_violation("left behind: %zu streams, %zu octets in arenas, %zu in blocks", stream_count(), arena_total(),
                      block_total());
}

bool world_run(uint64_t seed, unsigned clients, bool trace, unsigned long *sessions, unsigned long *acknowledged)
{
    static struct world w; /* static: a world that ends badly is still reachable, and is no leak of its own */
    memset(&w, 0, sizeof w);
    world_seed = seed;
    world_played = &w;
    sim_begin(seed, trace);
    world_open(&w, seed, clients);
    loop_run(w.worker.loop);
    if (!sim_violated())
        world_close(&w);
    *sessions += w.nclients;
    *acknowledged += w.acknowledged;
    return !sim_violated();
}
