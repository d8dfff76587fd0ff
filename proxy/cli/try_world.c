/* try_world.c - prepares a run of sluice try: the configuration, the listener or milter, the chain, DNS and stores. */
#include "cli/try.h"
#include "base/file.h"
#include "milter/model.h"
#include "try/preload.h"
#include "try/words.h"
#include <errno.h>
#include <limits.h>

enum { ZONE_MOST = 16 << 20, STORE_MOST = 256 << 20 };

static bool is_script(const char *filter)
{
    return filter && str_ends_nocase(str_of(filter), STR(".lua"));
}

/* Configuration text for --filter FILE.lua, which is appended to the configuration or replaces it. NULL: an option is wrong. */
static const char *script_text(struct try_arguments *a)
{
    char path[PATH_MAX];
    struct str name =
        realpath(a->filter, path) ? str_of(path) : str_of(a->filter); /* else it may be one of the shipped scripts */
    struct str filter = words_filter(&a->arena, name, a->noptions, a->options, conf_is_value);
    if (!filter.at) {
        fprintf(stderr, "sluice try: --option: expected NAME=VALUE\n");
        return NULL;
    }
    if (a->path_said)
        return arena_print(&a->arena, "chain \"--filter\" {\n%s }\n", filter.at).at;
    return arena_print(&a->arena,
                       "hostname \"mx.example\"\nbackend \"backend\" { \"127.0.0.1:25\" }\nbackend \"quarantine\" { "
                       "\"127.0.0.1:25\" }\n"
                       "chain \"--filter\" { quarantine = \"quarantine\",\n%s }\n"
                       "listen \"try\" { \"127.0.0.1:25\", backend = \"backend\", chain = \"--filter\" }\n",
                       filter.at)
        .at;
}

static bool load(struct attempt *c)
{
    struct arena arena = {0};
    struct complaints complaints = {.arena = &arena};
    bool alone = is_script(c->a.filter);
    const char *more = alone ? script_text(&c->a) : NULL;
    if (alone && !more)
        return false;
    c->conf = conf_load_to_try(alone && !c->a.path_said ? NULL : c->a.path, more, &complaints);
    if (!c->conf)
        complaints_say(stderr, &complaints);
    arena_reset(&arena);
    return c->conf;
}

/* The i-th place where mail comes in: listens, then milters. */
static const struct visit_conf *place_at(const struct conf *conf, size_t i)
{
    return i < conf->smtp.nlistens ? &conf->smtp.listens[i].visit : &conf->milters[i - conf->smtp.nlistens].visit;
}

static void take_place(struct attempt *c, size_t i)
{
    const struct conf *conf = c->conf;
    c->place = place_at(conf, i);
    c->listen = i < conf->smtp.nlistens ? &conf->smtp.listens[i] : NULL;
    c->milter = c->listen ? NULL : &conf->milters[i - conf->smtp.nlistens];
}

static bool no_place(const struct attempt *c, const char **names, size_t n)
{
    struct str near = c->a.listen ? nearest_name(str_of(c->a.listen), names, n) : STR_NONE;
    if (!c->a.listen)
        fprintf(stderr,
                "sluice try: no listener of %s has a chain with filters; --listen NAME chooses one all the same\n",
                c->a.path);
    else
        fprintf(stderr,
                near.at ? "sluice try: there is no listen or milter \"%s\" (did you mean \"%s\"?)\n"
                        : "sluice try: there is no listen or milter \"%s\"\n",
                c->a.listen, near.at);
    return false;
}

static bool find_place(struct attempt *c)
{
    size_t n = c->conf->smtp.nlistens + c->conf->nmilters;
    const char **names = arena_alloc(&c->a.arena, (n + 1) * sizeof *names);
    for (size_t i = 0; i < n && !c->place; i++) {
        const struct visit_conf *v = place_at(c->conf, i);
        names[i] = v->name.at;
        if (c->a.listen ? str_equal(v->name, str_of(c->a.listen)) : v->chain->nfilters > 0 || is_script(c->a.filter))
            take_place(c, i);
    }
    if (!c->place)
        return no_place(c, names, n);
    if (c->milter && c->a.reply_said)
        fprintf(stderr, "sluice try: --reply: a milter hears no next hop\n");
    return !(c->milter && c->a.reply_said);
}

static const struct chain *chain_named(const struct conf *conf, struct str name)
{
    for (size_t i = 0; i < conf->smtp.mail.nchains; i++)
        if (str_equal(conf->smtp.mail.chains[i].name, name))
            return &conf->smtp.mail.chains[i];
    return NULL;
}

static bool no_filter(const struct attempt *c, const struct chain *chain, const char *name)
{
    const char *names[256];
    size_t n = 0;
    for (size_t i = 0; i < chain->nfilters && n < countof(names); i++)
        names[n++] = chain->filters[i]->name.at;
    struct str near = nearest_name(str_of(name), names, n);
    fprintf(stderr,
            near.at ? "sluice try: chain \"%.*s\" has no filter \"%s\" (did you mean \"%s\"?)\n"
                    : "sluice try: chain \"%.*s\" has no filter \"%s\"\n",
            STR_ARGS(chain->name), name, near.at);
    return false;
}

static bool is_listed(const struct attempt *c, struct str name)
{
    for (size_t i = 0; i < c->a.nskip; i++)
        if (str_equal(name, str_of(c->a.skip[i])))
            return true;
    return false;
}

static bool has_filter(const struct chain *chain, const char *name)
{
    for (size_t i = 0; i < chain->nfilters; i++)
        if (str_equal(chain->filters[i]->name, str_of(name)))
            return true;
    return false;
}

/* A copy of the chain with those filters that are tried. */
static bool make_chain(struct attempt *c)
{
    const struct chain *whole = c->place->chain;
    const char *one = is_script(c->a.filter) ? NULL : c->a.filter;
    if (is_script(c->a.filter))
        whole = chain_named(c->conf, STR("--filter"));
    must(whole != NULL);
    if (one && !has_filter(whole, one))
        return no_filter(c, whole, one);
    for (size_t i = 0; i < c->a.nskip; i++)
        if (!has_filter(whole, c->a.skip[i]))
            return no_filter(c, whole, c->a.skip[i]);
    c->chain = *whole;
    c->chain.filters = arena_alloc(&c->a.arena, (whole->nfilters + 1) * sizeof *c->chain.filters);
    c->chain.nfilters = 0;
    if (!c->chain.quarantine)
        c->chain.quarantine = c->place->chain->quarantine;
    for (size_t i = 0; i < whole->nfilters; i++) {
        struct filter *f = whole->filters[i];
        if (is_listed(c, f->name) || (one && !str_equal(f->name, str_of(one))))
            continue;
        f->observe = f->observe && !c->a.enforce;
        c->chain.filters[c->chain.nfilters++] = f;
    }
    return true;
}

/* ---- DNS
 * ---------------------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool read_zone(struct attempt *c)
{
    size_t len;
    uint32_t line;
    char *text = file_read(c->a.zone, ZONE_MOST, &len);
    if (!text) {
        fprintf(stderr, "sluice try: --dns %s: %s\n", c->a.zone, strerror(errno));
        return false;
    }
    const char *fault = zone_read(&c->zone, (struct str){text, len}, &line);
    free(text);
    if (fault)
        fprintf(stderr, "sluice try: %s:%u: %s\n", c->a.zone, line, fault);
    return !fault;
}

static bool open_dns(struct attempt *c)
{
    struct try_world *w = &c->world;
    w->no_dns = !c->a.zone && (c->a.no_dns || c->a.offline);
    w->offline = c->a.offline;
    c->show.dns = w->no_dns ? STR("off") : STR("real");
    if (!c->a.zone)
        return true;
    w->zone = &c->zone.source;
    c->show.dns = arena_print(&c->a.arena, "of %s", base_name(c->a.zone));
    return read_zone(c);
}

/* ---- stores
 * ---------------------------------------------------------------------------------------------------------------- */

/* Lays the stores of this run over those of the running process; without one they start empty. */
static void lay_over(struct attempt *c)
{
    struct arena *arena = &c->a.arena;
    const struct conf *conf = c->conf;
    c->show.stores = STR("new and empty");
    c->images = arena_alloc(arena, (conf->smtp.mail.nstores + 1) * sizeof *c->images);
    for (size_t i = 0; i < conf->smtp.mail.nstores && conf->control.len; i++) {
        struct image_source *source = &c->images[i];
        image_source_start(source, conf->control.at, conf->smtp.mail.stores[i].name);
        bool laid = store_lay_over(conf->smtp.mail.stores[i].store, &source->below);
        if (laid)
            c->show.stores = arena_print(arena, "overlay of process %lu", c->a.stable ? 0 : source->pid);
        else if (!i)
            c->show.stores =
                arena_print(arena, "new and empty (%s)", source->why ? source->why : "the process is another version");
    }
}

void try_say_lost(const struct attempt *c)
{
    for (size_t i = 0; i < c->conf->smtp.mail.nstores; i++)
        if (c->images[i].pid && c->images[i].why)
            fprintf(stderr, "sluice try: store %.*s: %s any more; what was not asked before began empty\n",
                    STR_ARGS(c->images[i].store), c->images[i].why);
}

static bool fill(struct attempt *c)
{
    struct preload p;
    size_t len;
    char *text = file_read(c->a.store, STORE_MOST, &len);
    if (!text) {
        fprintf(stderr, "sluice try: --store %s: %s\n", c->a.store, strerror(errno));
        return false;
    }
    const char *fault =
        preload(&c->conf->smtp.mail, (struct str){text, len}, (double)loop_micros(c->world.worker.loop) / 1e6, &p);
    free(text);
    if (fault) {
        fprintf(stderr, "sluice try: %s:%u: %s\n", c->a.store, p.line, fault);
        return false;
    }
    if (p.left_out)
        fprintf(stderr, "sluice try: %s: %zu keys are no plain values: they begin empty\n", c->a.store, p.left_out);
    c->show.stores =
        arena_print(&c->a.arena, "%.*s and %zu keys of %s", STR_ARGS(c->show.stores), p.keys, base_name(c->a.store));
    return true;
}

/* ---- the world
 * ---------------------------------------------------------------------------------------------------------------- */

static void make_hops(struct attempt *c)
{
    struct try_world *w = &c->world;
    const struct conf *conf = c->conf;
    w->hops = arena_alloc(&c->a.arena, (conf->smtp.nbackends + 1) * sizeof *w->hops);
    if (c->milter)
        return;
    w->hops[w->nhops++] = (struct try_hop){&c->listen->backend->hop, c->listen->backend->address.text};
    for (size_t i = 0; i < conf->smtp.nbackends; i++)
        if (&conf->smtp.backends[i] != c->listen->backend)
            w->hops[w->nhops++] = (struct try_hop){&conf->smtp.backends[i].hop, conf->smtp.backends[i].address.text};
}

static bool make_world(struct attempt *c)
{
    struct try_world *w = &c->world;
    const struct conf *conf = c->conf;
    char error[256];
    w->conf = *c->place;
    w->conf.chain = &c->chain;
    w->dns = conf->smtp.dns;
    w->milter = c->milter;
    w->data_when = c->milter ? milter_say(&c->chain) : chain_data_when(&c->chain);
    w->bare = c->milter ? BARE_NORMALIZE : c->listen->bare;
    w->end_by = c->milter ? c->milter->timeouts.end_by : c->listen->timeouts.end_by;
    make_hops(c);
    if (!open_dns(c))
        return false;
    if (!world_open(w, &conf->smtp.mail, error, sizeof error)) {
        fprintf(stderr, "sluice try: %s: there is no DNS; --dns off does without\n", error);
        world_close(w);
        return false;
    }
    lay_over(c);
    if (!c->a.store || fill(c))
        return true;
    world_close(w);
    return false;
}

bool try_prepare(struct attempt *c)
{
    return load(c) && find_place(c) && make_chain(c) && make_world(c);
}
