/* world.c - one seed: a configuration, a worker of the gateway, clients and backends, or MTAs, reloads, outages; and the end of it
 * all.
 *
 * The worker is driven as proxy/process/worker.c does it: sessions are started, the loop runs, when the last session has ended
 * all is closed. Nothing may be left then: no stream, no block, no octet in an arena. */
#include "mta_still.h"
#include "world.h"
#include "smtp/back/backend.h"
#include "smtp/front/connections.h"

struct world *world_played;

/* ---- the course of things */

static struct smtp_conf *another_conf(struct world *w, unsigned generation)
{
    struct smtp_conf *c = conf_new(w, generation);
    if (w->milter)
        mta_conf_fill(w, c);
    return c;
}

static void reload(struct event *e)
{
    struct world *w = holder_of(e, struct world, reload);
    sim_trace("reload");
    struct smtp_conf *fresh = another_conf(w, w->conf->generation + 1);
    smtp_conf_take_over(fresh, w->conf);
    worker_switch(&w->worker, fresh);
    smtp_conf_drop(w->conf);
    w->conf = fresh;
    if (w->milter)
        mta_conf_switch(w);
    if (sim_chance(60))
        event_set(e, sim_random(sim_chance(50) ? 200 : 30000), reload);
}

static void drain(struct event *e)
{
    struct world *w = holder_of(e, struct world, drain);
    sim_trace("drain");
    uint32_t listen_id = sim_chance(70) ? LISTEN_ALL : 1;
    uint64_t by = sim_now() + w->conf->timeouts.drain;
    worker_drain(&w->worker, listen_id, by);
    if (w->milter)
        milter_drain(&w->milters, listen_id, by);
    w->drained = true;
}

static void strain(struct event *e)
{
    struct world *w = holder_of(e, struct world, strain);
    worker_set_usage(&w->worker, (unsigned)sim_random(101));
    event_set(e, sim_random(20000), strain);
}

/* A server goes down, with all that is connected to it or not, or comes back. */
static void outage(struct event *e)
{
    struct world *w = holder_of(e, struct world, outage);
    unsigned place = (unsigned)sim_lesser(PLACES, PLACES), server = (unsigned)sim_random(SERVERS_MOST);
    bool *down = &w->places[place].down[server];
    *down = !*down;
    sim_trace("server %u of %u is %s", server, place, *down ? "down" : "back");
    if (*down && sim_chance(70))
        backends_cut_off(w, PORT_MAIN + 10 * place + server);
    event_set(e, sim_random(sim_chance(50) ? 1000 : 40000), outage);
}

static void too_long(struct event *e)
{
    struct world *w = holder_of(e, struct world, watch);
    sim_violation("%u sessions live on though their clients have left", w->worker.nsessions + w->milters.n);
}

static void look(void *data)
{
    struct world *w = data;
    if (w->left)
        return;
    event_stop(&w->outage);
    event_stop(&w->strain);
    if (!w->worker.nsessions && !w->milters.n)
        loop_stop(w->worker.mail.loop);
    else if (!event_is_set(&w->watch))
        event_set(&w->watch, w->healed ? PATIENCE_HEALED : PATIENCE, too_long);
}

static const uint64_t hard =
#define SOFT                          0
#define HARD                          1
#define FEATURE(name, word, what, is) (uint64_t) is << F_##name |
#include "features.def"
#undef FEATURE
    0;

/* From here on nothing goes wrong that has not gone wrong already. */
static void heal(struct event *e)
{
    struct world *w = holder_of(e, struct world, heal);
    sim_trace("faults stop");
    sim_features &= ~hard;
    w->faults = w->leaving = w->breaking = 0;
    net_heal();
    backends_heal(w);
    for (unsigned i = 0; i < PLACES; i++)
        memset(w->places[i].down, 0, sizeof w->places[i].down);
    event_stop(&w->outage);
    if (w->milter)
        mtas_heal(w);
    else
        clients_heal(w);
    w->healed = true;
}

static void be_calm(struct world *w)
{
    w->calm = sim_chance(20);
    if (w->calm)
        sim_features &= ~hard;
}

static void place_choose(struct place_is *p)
{
    p->pipeline = sim_chance(70);
    p->chunk = sim_may(F_CHUNKS, 50);
    p->binary = sim_may(F_BINARY, 40);
    p->auth = sim_may(F_AUTH, 60);
    p->xforward = sim_chance(85);
    p->xclient = sim_chance(85);
}

/* An MTA says no such content, whatever its client did, and routes by itself. */
static void be_milter(struct world *w)
{
    w->milter = true;
    sim_features &= ~(1ull << F_MBOX | 1ull << F_BARE | 1ull << F_BINARY);
}

static void world_open(struct world *w, const struct wishes *wish)
{
    static const unsigned faults[] = {0, 1, 5, 15}, leaving[] = {0, 2, 20}, breaking[] = {0, 0, 1, 10};
    if (wish->milter)
        be_milter(w);
    be_calm(w);
    w->seed = wish->seed;
    w->heavy = wish->seed % 8 == 5 && sim_may(F_HEAVY, 100);
    w->looks = w->heavy || wish->seed % 8 == 4;
    w->letters_each = wish->letters ? wish->letters : w->heavy ? 2 : 4;
    w->faults = faults[sim_random(countof(faults))];
    w->leaving = leaving[sim_random(countof(leaving))];
    w->breaking = breaking[sim_random(countof(breaking))];
    for (unsigned i = 0; i < PLACES; i++)
        place_choose(&w->places[i]);
    w->conf = another_conf(w, 1);
    w->worker.mail.loop = loop_open();
    w->worker.connections = connections_open();
    w->worker.mail.serial = 1ull << 48;
    loop_before_sleep(w->worker.mail.loop, look, w);
    still_begin();
    mta_still_begin();
    if (w->looks && w->milter)
        loop_when_still(w->worker.mail.loop, mta_still_look, &w->milters);
    else if (w->looks)
        loop_when_still(w->worker.mail.loop, still_look, w);
    net_begin(w->breaking, w->heavy);
    net_on_dial(backend_dialled, w);
    worker_switch(&w->worker, w->conf);
    unsigned clients = 1 + (unsigned)sim_random(w->heavy ? 2 : 8);
    w->nclients = wish->clients ? wish->clients : clients;
    if (w->milter)
        mta_conf_switch(w), mtas_new(w, w->nclients);
    else
        w->clients = clients_new(w, w->nclients);
    if (sim_may(F_RELOADS, 25))
        event_set(&w->reload, sim_random(60000), reload);
    if (sim_may(F_DRAINS, 10))
        event_set(&w->drain, sim_random(60000), drain);
    if (sim_may(F_OUTAGES, 15))
        event_set(&w->outage, sim_random(10000), outage);
    if (sim_may(F_LIMITS, 10))
        event_set(&w->strain, sim_random(10000), strain);
    if (sim_may(F_HEALING, 40) && !w->calm)
        event_set(&w->heal, sim_random(120000), heal);
}

/* Only of a world whose promises were kept: else the pieces lie about, and the process is about to end. */
static void world_close(struct world *w)
{
    event_stop(&w->watch);
    event_stop(&w->heal);
    event_stop(&w->reload);
    event_stop(&w->drain);
    event_stop(&w->outage);
    event_stop(&w->strain);
    worker_close(&w->worker);
    loop_close(w->worker.mail.loop);
    worker_forget(&w->worker);
    if (sim_violated())
        return;
    smtp_conf_drop(w->conf);
    connections_close(w->worker.connections);
    servers_forget();
    if (w->milter)
        mtas_free(w);
    else
        clients_free(w);
    free(w->gone);
    letters_free(w);
    log_flush();
    if (stream_count() || w->backends || w->services || arena_total() || block_total())
        sim_violation("left behind: %zu streams, %zu octets in arenas, %zu in blocks", stream_count(), arena_total(),
                      block_total());
}

bool world_run(const struct wishes *wish, unsigned long *sessions, unsigned long *acknowledged)
{
    static struct world w; /* static: a world that ends badly is still reachable, and is no leak of its own */
    uint64_t features = sim_features;
    memset(&w, 0, sizeof w);
    world_played = &w;
    sim_begin(wish->seed, wish->trace);
    world_open(&w, wish);
    loop_run(w.worker.mail.loop);
    if (!sim_violated())
        world_close(&w);
    *sessions += w.nclients;
    *acknowledged += w.acknowledged;
    sim_features = features;
    return !sim_violated();
}
