/* try.c - sluice try: a saved message, or many, through the chain of a listener. Nothing is bound, nothing is
 * delivered.
 *
 * Exit codes: 0 forwarded, 1 refused or not what was expected, 2 could not be tried, 3 discarded or quarantined, 75
 * deferred (sysexits.h: EX_TEMPFAIL). Of many messages: 0, whatever the verdicts are. */
#include "cli/try.h"
#include "try/origin.h"
#include "try/words.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

enum { DONE = 0, REFUSED_OR_OTHER = 1, USAGE = 2, AWAY = 3, LATER = 75 };
static const int64_t stable_time = 1767614400000000; /* 2026-01-05T12:00:00Z, in microseconds */

/* ---- one message
 * ---------------------------------------------------------------------------------------------------------------- */

static void note(struct attempt *c, const char *text)
{
    if (c->nnotes < countof(c->notes))
        c->notes[c->nnotes++] = text;
}

/* What the front would have said before any filter was asked. */
static void make_notes(struct attempt *c, const struct try_who *who, struct str content, struct arena *arena)
{
    const struct listen_conf *l = c->listen;
    c->nnotes = 0;
    c->show.notes = c->notes;
    c->show.nnotes = 0;
    if (!l)
        return;
    const char *name = l->visit.name.at;
    if (l->auth == AUTH_REQUIRE && !who->authenticated)
        note(c,
             arena_print(arena, "listen \"%s\" has auth = \"require\": without --auth the client hears 530", name).at);
    if (l->require_tls && !who->tls.len)
        note(c, arena_print(arena, "listen \"%s\" has require_tls: without --tls the client hears 530", name).at);
    if (l->visit.limits.size && content.len > l->visit.limits.size)
        note(c,
             arena_print(arena, "limits.size is %llu: the client hears 552", (unsigned long long)l->visit.limits.size)
                 .at);
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

/* False: the message cannot be tried, and an error was printed. */
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
    make_notes(c, &who, content, &arena);
    if (!c->a.json && many && !c->summary.messages)
        report_world(&c->show, &c->world, &who, NULL);
    bool good = trial_run(&t, &c->world, &who, content, c->a.raw, error, sizeof error);
    if (good) {
        if (!c->a.json && !many)
            report_world(&c->show, &c->world, &who, &t);
        report(c, &t, source, many);
        good = !c->a.out || write_out(c, &t);
    } else {
        fprintf(stderr, "sluice try: %s%s%s\n", source ? source->name.at : "", source ? ": " : "", error);
    }
    trial_free(&t);
    arena_reset(&arena);
    return good;
}

/* False: nothing went wrong. */
static bool say_unread(struct sources *s)
{
    if (!s->error)
        return false;
    fprintf(stderr, "sluice try: %.*s: %s\n", STR_ARGS(s->error_name), s->error);
    s->error = NULL;
    return true;
}

static bool try_all(struct attempt *c)
{
    struct sources s;
    struct source one;
    if (!c->a.nmessages)
        return try_one(c, NULL, false);
    bool good = sources_open(&s, c->a.nmessages, c->a.messages, c->a.raw);
    bool many = good && s.many;
    if (!good)
        say_unread(&s);
    if (many && c->a.out) {
        fprintf(stderr, "sluice try: --out is for one message\n");
        good = false;
    }
    bool opened = good;
    for (bool more = opened; more;) {
        if (sources_next(&s, &one)) {
            good &= try_one(c, &one, many); /* one that cannot be tried keeps no other from it */
        } else if ((more = say_unread(&s))) {
            good = false;
        }
    }
    if (opened && many) {
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
    c->show.to = aside ? stderr : stdout;
    c->show.diff = c->a.diff;
    c->show.verbose = c->a.verbose;
    c->show.quiet = c->a.quiet;
    c->show.stable = c->a.stable;
    c->show.colour = isatty(fileno(c->show.to)) && !(no_colour && *no_colour) && !c->a.json;
    c->show.conf = c->conf->smtp.mail.path.len ? str_of(c->a.path) : STR_NONE;
}

static int run(struct attempt *c)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    if (nowhere >= 0)
        log_set(&(struct log_settings){.level = LOG_ERROR}, nowhere); /* what filters log stands in the report */
    if (!try_prepare(c))
        return USAGE;
    if (c->a.stable || (c->a.now_said && !c->a.now_received))
        loop_set_wall(c->world.worker.loop, c->a.now_said && !c->a.now_received ? c->a.now_micros : stable_time,
                      c->a.stable);
    open_show(c);
    summary_start(&c->summary, &c->chain);
    bool good = try_all(c);
    try_say_lost(c);
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
    zone_free(&c->zone);
    arena_reset(&c->a.arena);
    free(c);
    if (fflush(stdout) != 0 && code == DONE)
        code = USAGE;
    return help ? -1 : code;
}
