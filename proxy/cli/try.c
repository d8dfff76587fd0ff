/* try.c - sluice try: a saved message, or many, through the chain of a listener. Nothing is bound, nothing is
 * delivered.
 *
 * Exit codes: 0 forwarded, 1 refused or not what was expected, 2 could not be tried, 3 discarded or quarantined, 75
 * deferred (sysexits.h: EX_TEMPFAIL). Of many messages: 0, whatever they came to. */
#include "cli/try.h"
#include "conf/conf.h"
#include "try/origin.h"
#include "try/report.h"
#include "try/words.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { DONE = 0, REFUSED_OR_OTHER = 1, USAGE = 2, AWAY = 3, LATER = 75 };
static const int64_t stable_time = 1767614400000000; /* 2026-01-05T12:00:00Z, in microseconds */

struct attempt {
    struct try_arguments a;
    struct conf *conf;
    const struct listen_conf *listen;
    struct chain chain;
    struct try_world world;
    struct show show;
    struct summary summary;
    const char *notes[4];
    size_t nnotes;
    unsigned unexpected;
    int code;
};

/* ---- the configuration
 * ------------------------------------------------------------------------------------------------------ */

static bool is_script(const char *filter)
{
    return filter && str_ends_nocase(str_of(filter), STR(".lua"));
}

/* What is put behind the configuration, or stands in its place, for a script on its own. NULL: an option is wrong. */
static const char *script_text(struct try_arguments *a)
{
    char path[PATH_MAX];
    struct str name =
        realpath(a->filter, path) ? str_of(path) : str_of(a->filter); /* else it is one of those that come along */
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

static bool find_listen(struct attempt *c)
{
    const struct conf *conf = c->conf;
    const char **names = arena_alloc(&c->a.arena, (conf->nlistens + 1) * sizeof *names);
    for (size_t i = 0; i < conf->nlistens && !c->listen; i++) {
        const struct listen_conf *l = &conf->listens[i];
        names[i] = l->visit.name.at;
        if (c->a.listen ? str_equal(l->visit.name, str_of(c->a.listen))
                        : l->visit.chain->nfilters > 0 || is_script(c->a.filter))
            c->listen = l;
    }
    if (c->listen)
        return true;
    struct str near = c->a.listen ? nearest_name(str_of(c->a.listen), names, conf->nlistens) : STR_NONE;
    if (!c->a.listen)
        fprintf(stderr,
                "sluice try: no listener of %s has a chain with filters; --listen NAME chooses one all the same\n",
                c->a.path);
    else
        fprintf(stderr,
                near.at ? "sluice try: there is no listen \"%s\" (did you mean \"%s\"?)\n"
                        : "sluice try: there is no listen \"%s\"\n",
                c->a.listen, near.at);
    return false;
}

static const struct chain *chain_named(const struct conf *conf, struct str name)
{
    for (size_t i = 0; i < conf->mail.nchains; i++)
        if (str_equal(conf->mail.chains[i].name, name))
            return &conf->mail.chains[i];
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
    const struct chain *whole = c->listen->visit.chain;
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
        c->chain.quarantine = c->listen->visit.chain->quarantine;
    for (size_t i = 0; i < whole->nfilters; i++) {
        struct filter *f = whole->filters[i];
        if (is_listed(c, f->name) || (one && !str_equal(f->name, str_of(one))))
            continue;
        f->observe = f->observe && !c->a.enforce;
        c->chain.filters[c->chain.nfilters++] = f;
    }
    return true;
}

static bool make_world(struct attempt *c)
{
    struct try_world *w = &c->world;
    const struct conf *conf = c->conf;
    char error[256];
    w->conf = c->listen->visit;
    w->conf.chain = &c->chain;
    w->hops = arena_alloc(&c->a.arena, (conf->nbackends + 1) * sizeof *w->hops);
    w->hops[w->nhops++] = (struct try_hop){&c->listen->backend->hop, c->listen->backend->address.text};
    for (size_t i = 0; i < conf->nbackends; i++)
        if (&conf->backends[i] != c->listen->backend)
            w->hops[w->nhops++] = (struct try_hop){&conf->backends[i].hop, conf->backends[i].address.text};
    w->dns = conf->dns;
    w->end_by = c->listen->timeouts.end_by;
    w->no_dns = c->a.no_dns;
    w->offline = c->a.offline;
    if (world_open(w, &conf->mail, error, sizeof error))
        return true;
    fprintf(stderr, "sluice try: %s: there is no DNS; --dns off does without\n", error);
    world_close(w);
    return false;
}

/* ---- one message
 * ---------------------------------------------------------------------------------------------------------------- */

static void note(struct attempt *c, const char *text)
{
    if (c->nnotes < countof(c->notes))
        c->notes[c->nnotes++] = text;
}

/* What the front would have said before any filter was asked. */
static void make_notes(struct attempt *c, const struct try_who *who, struct str content)
{
    const struct listen_conf *l = c->listen;
    struct arena *arena = &c->a.arena;
    const char *name = l->visit.name.at;
    c->nnotes = 0;
    if (l->auth == AUTH_REQUIRE && !who->authenticated)
        note(c,
             arena_print(arena, "listen \"%s\" has auth = \"require\": without --auth the client hears 530", name).at);
    if (l->require_tls && !who->tls.len)
        note(c, arena_print(arena, "listen \"%s\" has require_tls: without --tls the client hears 530", name).at);
    if (l->visit.limits.size && content.len > l->visit.limits.size)
        note(c,
             arena_print(arena, "limits.size is %llu: the client hears 552", (unsigned long long)l->visit.limits.size)
                 .at);
    c->show.notes = c->notes;
    c->show.nnotes = c->nnotes;
}

/* Fills what was not said from the message itself. False: it tells no recipient. */
static bool make_who(struct attempt *c, struct try_who *who, struct str *content, struct arena *arena)
{
    struct origin o;
    struct try_arguments *a = &c->a;
    origin_find(&o, *content, arena);
    *who = a->who;
    if (!a->from_said)
        who->from = o.from.at ? o.from : STR("");
    if (!who->nrcpts && o.to.at) {
        struct try_rcpt *one = arena_alloc(arena, sizeof *one);
        *one = (struct try_rcpt){o.to, STR("")};
        who->rcpts = one;
        who->nrcpts = 1;
    }
    if (a->as_received && o.ip.at) {
        who->ip = a->client_said ? who->ip : o.ip;
        who->helo = a->helo_said || !o.helo.len ? who->helo : o.helo;
        if (!a->rdns_said && o.rdns.at) {
            who->rdns = RDNS_OK;
            who->rdns_name = o.rdns;
        }
        *content = str_part(*content, o.cut, content->len);
        if (a->now_received && o.has_date)
            loop_set_wall(c->world.worker.loop, o.date * 1000000, a->stable);
    }
    return who->nrcpts;
}

static bool write_out(struct attempt *c, const struct trial *t)
{
    bool to_stdout = strcmp(c->a.out, "-") == 0;
    if (!trial_leaves(t))
        return true;
    FILE *f = to_stdout ? stdout : fopen(c->a.out, "wb");
    bool good = f != NULL;
    for (const struct span *span = t->out.first; good && span; span = span->next)
        good = fwrite(span->at, 1, span->len, f) == span->len;
    if (f)
        good = (to_stdout ? fflush(f) : fclose(f)) == 0 && good;
    if (!good)
        fprintf(stderr, "sluice try: %s: %s\n", c->a.out, strerror(errno));
    return good;
}

static int code_of(const struct trial *t)
{
    switch (t->fate) {
    case FORWARDED: return DONE;
    case DISCARDED:
    case QUARANTINED: return AWAY;
    case REFUSED:
    case DROPPED: return REFUSED_OR_OTHER;
    default: return reply_class(&t->reply) == 4 ? LATER : REFUSED_OR_OTHER;
    }
}

static void report(struct attempt *c, const struct trial *t, const struct source *source, bool many)
{
    if (c->a.json)
        report_json(&c->show, t, source);
    else if (many)
        report_line(&c->show, t, source);
    else
        report_text(&c->show, t);
    summary_add(&c->summary, t);
    if (c->a.expect && !words_is_expected(str_of(c->a.expect), t))
        c->unexpected++;
    if (c->a.expect && many && !words_is_expected(str_of(c->a.expect), t))
        fprintf(stderr, "%.*s%s%.0u: %s %u, expected %s\n", STR_ARGS(source->name), source->index ? "#" : "",
                source->index, fate_name(t->fate), t->reply.code, c->a.expect);
    c->code = c->a.expect ? (c->unexpected ? REFUSED_OR_OTHER : DONE) : many ? DONE : code_of(t);
}

/* False: it cannot be tried, and it has been said why. */
static bool try_one(struct attempt *c, const struct source *source, bool many)
{
    static struct trial t;
    struct arena arena = {0};
    struct try_who who = c->a.who;
    struct str content = source ? source->octets : STR_NONE;
    char error[400];
    if (source && !make_who(c, &who, &content, &arena)) {
        fprintf(stderr, "sluice try: %.*s: it tells no recipient; say --to\n", STR_ARGS(source->name));
        arena_reset(&arena);
        return false;
    }
    make_notes(c, &who, content);
    if (!c->a.json && (!many || !c->summary.messages))
        report_world(&c->show, &c->world, &who);
    bool good = trial_run(&t, &c->world, &who, content, c->a.raw, error, sizeof error);
    if (good) {
        report(c, &t, source, many);
        good = !c->a.out || write_out(c, &t);
    } else {
        fprintf(stderr, "sluice try: %s%s%s\n", source ? source->name.at : "", source ? ": " : "", error);
    }
    trial_free(&t);
    arena_reset(&arena);
    return good;
}

static bool try_all(struct attempt *c)
{
    struct sources s;
    struct source one;
    if (!c->a.nmessages)
        return try_one(c, NULL, false);
    bool good = sources_open(&s, c->a.nmessages, c->a.messages, c->a.raw);
    bool many = good && s.many;
    if (many && c->a.out) {
        fprintf(stderr, "sluice try: --out is for one message\n");
        good = false;
    }
    while (good && sources_next(&s, &one))
        good = try_one(c, &one, many);
    if (s.error) {
        fprintf(stderr, "sluice try: %.*s: %s\n", STR_ARGS(s.error_name), s.error);
        good = false;
    }
    if (good && many) {
        if (c->a.json)
            c->show.to = stderr;
        summary_put(&c->show, &c->summary);
    }
    sources_close(&s);
    return good;
}

/* ---- the command
 * ------------------------------------------------------------------------------------------------------------------ */

static void open_show(struct attempt *c)
{
    bool aside = c->a.out && strcmp(c->a.out, "-") == 0;
    const char *no_colour = getenv("NO_COLOR");
    c->show = (struct show){.to = aside ? stderr : stdout,
                            .diff = c->a.diff,
                            .verbose = c->a.verbose,
                            .quiet = c->a.quiet,
                            .stable = c->a.stable};
    c->show.colour = isatty(fileno(c->show.to)) && !(no_colour && *no_colour) && !c->a.json;
    c->show.conf = is_script(c->a.filter) && !c->a.path_said ? STR_NONE : str_of(c->a.path);
}

static int run(struct attempt *c)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    if (!load(c) || !find_listen(c) || !make_chain(c))
        return USAGE;
    if (nowhere >= 0)
        log_set(&(struct log_settings){.level = LOG_ERROR}, nowhere); /* what filters log stands in the report */
    if (!make_world(c))
        return USAGE;
    if (c->a.stable || (c->a.now_said && !c->a.now_received))
        loop_set_wall(c->world.worker.loop, c->a.now_said && !c->a.now_received ? c->a.now_micros : stable_time,
                      c->a.stable);
    open_show(c);
    summary_start(&c->summary, &c->chain);
    bool good = try_all(c);
    summary_free(&c->summary);
    world_close(&c->world);
    return good ? c->code : USAGE;
}

int try_main(int argc, char **argv, const char *default_path)
{
    struct attempt *c = must_alloc(sizeof *c);
    c->a.path = default_path;
    int code = USAGE;
    if (try_arguments_take(&c->a, argc, argv))
        code = c->a.help ? DONE : run(c);
    bool help = code == DONE && c->a.help;
    conf_drop(c->conf);
    arena_reset(&c->a.arena);
    free(c);
    if (fflush(stdout) != 0 && code == DONE)
        code = USAGE;
    return help ? -1 : code;
}
