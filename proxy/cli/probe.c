/* probe.c - connects to all servers at once, with the same code as for mail (smtp/back/backend.c): banner, EHLO, TLS, then MAIL FROM:<> and
 * RCPT TO:<probe@example.invalid>, RSET, QUIT. DATA is never sent.
 *
 * A server that relays for our address, and is not told the address of the client, relays for every client of the gateway. */
#include "cli/probe.h"
#include "smtp/back/backend.h"
#include "wire/xattr.h"
#include <time.h>

enum { VISIT_TIME = 20000, SOON_EXPIRED = 14 * 86400 };

enum { VISIT_GREETING, VISIT_ASKING, VISIT_OVER };
struct inquiry {
    struct probe *probe;
    struct pooled_server *server;
    struct backend *backend;
    struct task task;
    struct alarm alarm;
    uint64_t by;
    int step;
    unsigned mail, rcpt;    /* codes; 0: not asked */
    struct str reply;       /* the reply to the command that was refused, or to RCPT */
    struct str offers, tls; /* its extensions; TLS version and cipher */
    struct str broke;       /* why it could not be reached; "": it was */
    bool xclient, xforward;
};
struct probe {
    struct worker worker;
    struct generation generation;
    struct arena arena;
    struct inquiry *visits;
    size_t nvisits, running;
};

static void over(struct inquiry *v, struct str broke)
{
    v->step = VISIT_OVER;
    v->broke = arena_str(&v->probe->arena, broke);
    backend_close(&v->backend);
    alarm_stop(&v->alarm);
    if (--v->probe->running == 0)
        loop_stop(v->probe->worker.mail.loop);
}

/* ---- what it offers ---- */

static struct str describe_offer(const struct inquiry *v)
{
    struct arena *a = &v->probe->arena;
    const struct capabilities *can = &v->backend->can;
    struct str text = capabilities_text(*can, a), words = STR("");
    while (text.at) {
        struct str line = str_cut(&text, '\n');
        words = arena_print(a, "%.*s%s%.*s", STR_ARGS(words), words.len ? ", " : "", STR_ARGS(line));
    }
    if (can->auth[0])
        words = arena_print(a, "%.*s, AUTH %s", STR_ARGS(words), can->auth);
    if (can->xclient)
        words = arena_print(a, "%.*s, XCLIENT%s", STR_ARGS(words), xattrs_text(can->xclient, a).at);
    if (can->xforward)
        words = arena_print(a, "%.*s, XFORWARD%s", STR_ARGS(words), xattrs_text(can->xforward, a).at);
    return words.len ? words : STR("nothing");
}

static struct str describe_tls(const struct inquiry *v)
{
    struct arena *a = &v->probe->arena;
    const struct backend *b = v->backend;
    struct tls_facts facts;
    char date[32] = "?";
    struct tm tm;
    if (!stream_tls_facts(b->stream, &facts))
        return b->conf->tls_mode == BACKEND_TLS_OFF ? STR("off") : STR("none: STARTTLS is not offered");
    time_t end = (time_t)facts.expires;
    if (gmtime_r(&end, &tm))
        strftime(date, sizeof date, "%Y-%m-%d", &tm);
    bool soon = facts.expires && end < time(NULL) + SOON_EXPIRED;
    return arena_print(a, "%s, %s; certificate of %.*s, %s until %s%s%s%s", facts.version, facts.cipher, STR_ARGS(facts.subject),
                       soon ? "only" : "good", date, facts.verified ? ", verified" : ", NOT verified: ",
                       facts.verified ? "" : facts.doubt ? facts.doubt : "it showed none", "");
}

/* ---- the conversation ---- */

static const struct backend_conf *conf_of(const struct inquiry *v)
{
    return v->backend->conf;
}

/* True: the server is not told who the client is, or does not accept it. */
static bool is_told_nothing(const struct backend_conf *c, const struct inquiry *v)
{
    return c->identity == IDENTITY_NONE || c->identity == IDENTITY_XFORWARD || (c->identity == IDENTITY_XCLIENT && !v->xclient);
}

static void ask(struct inquiry *v)
{
    struct backend *b = v->backend;
    struct pipe *words = backend_words(b);
    pipe_put(words, STR("MAIL FROM:<>\r\n"));
    backend_say(b, EXPECT_MAIL, 1, 0);
    pipe_put(words, STR("RCPT TO:<probe@example.invalid>\r\n"));
    backend_say(b, EXPECT_RCPT, 1, 0);
    pipe_put(words, STR("RSET\r\n"));
    backend_say(b, EXPECT_RSET, 1, 0);
    v->step = VISIT_ASKING;
}

static void greeted(struct inquiry *v)
{
    const struct capabilities *can = &v->backend->can;
    v->offers = describe_offer(v);
    v->tls = describe_tls(v);
    v->xclient = can->xclient;
    v->xforward = can->xforward;
    if (conf_of(v)->protocol == SPEAKS_LMTP || !is_told_nothing(conf_of(v), v))
        over(v, STR(""));
    else
        ask(v);
}

static void keep_reply(struct inquiry *v, struct str text)
{
    if (!v->reply.len)
        v->reply = str_cut(&text, '\n');
}

static void take_replies(struct inquiry *v)
{
    struct expected expected;
    struct reply r;
    enum backend_took took;
    while ((took = backend_reply(v->backend, &v->probe->arena, &expected, &r)) == TOOK_REPLY) {
        if (expected.what == EXPECT_MAIL)
            v->mail = r.code;
        if (expected.what == EXPECT_RCPT)
            v->rcpt = r.code;
        if (expected.what == EXPECT_RCPT || (expected.what == EXPECT_MAIL && reply_class(&r) != 2))
            keep_reply(v, r.text);
        if (expected.what == EXPECT_RSET) {
            over(v, STR(""));
            return;
        }
    }
    if (took == TOOK_BROKEN || took == TOOK_UNASKED) /* the greeting had come, so the server was reached */
        over(v, STR(""));
}

static void inquiry_turn(struct task *task)
{
    struct inquiry *v = holder_of(task, struct inquiry, task);
    if (v->step == VISIT_OVER)
        return;
    backend_turn(v->backend);
    if (v->step == VISIT_GREETING && v->backend->step == BACKEND_BROKEN) {
        over(v, v->backend->broke);
    } else if (loop_now(v->probe->worker.mail.loop) >= v->by) {
        over(v, STR("no answer in time"));
    } else {
        if (v->step == VISIT_GREETING && v->backend->step == BACKEND_READY)
            greeted(v);
        if (v->step == VISIT_ASKING)
            take_replies(v);
        if (v->step != VISIT_OVER)
            backend_flush(v->backend);
    }
}

static void inquiry_start(struct probe *p, struct pool *pool, struct pooled_server *at)
{
    struct inquiry *v = &p->visits[p->nvisits++];
    *v = (struct inquiry){.probe = p, .server = at, .reply = STR("")};
    task_start(&v->task, p->worker.mail.loop, inquiry_turn);
    v->by = loop_now(p->worker.mail.loop) + VISIT_TIME;
    v->backend = backend_dial(pool, at, NULL);
    if (v->backend->stream)
        v->backend->stream->task = &v->task;
    alarm_set(&v->alarm, &v->task, v->by);
    task_wake(&v->task);
    p->running++;
}

/* ---- the report ---- */

static bool report_identity(FILE *to, const struct backend_conf *c, const struct inquiry *v)
{
    bool doubt = false;
    fprintf(to, "    identity  %.*s", STR_ARGS(identity_name(c->identity)));
    if ((c->identity == IDENTITY_XCLIENT && !v->xclient) || (c->identity == IDENTITY_XFORWARD && !v->xforward))
        fprintf(to, ", which it does NOT offer to us");
    fprintf(to, "\n");
    if (v->rcpt / 100 == 2) {
        fprintf(to,
                "    WARNING   it takes mail for probe@example.invalid from our address, and judges by it, for it is not told the\n"
                "              client's: unless it takes mail for every domain by design, it is an open relay in waiting. Take us out\n"
                "              of what it trusts (mynetworks), or tell it who the client is (identity = \"xclient\" or \"proxy\").\n");
        doubt = true;
    } else if (v->rcpt) {
        unsigned code = v->mail / 100 == 2 ? v->rcpt : v->mail;
        fprintf(to, "    relaying  %s for our address: %u %.*s\n", code / 100 == 5 ? "refused" : "put off", code, STR_ARGS(v->reply));
    }
    return doubt;
}

static bool report(FILE *to, const struct backend_conf *c, const struct inquiry *v, unsigned *doubts)
{
    fprintf(to, "backend \"%.*s\": %.*s", STR_ARGS(c->hop.name), STR_ARGS(v->server->conf->address.text));
    if (v->broke.len) {
        fprintf(to, ": NOT reached: %.*s\n", STR_ARGS(v->broke));
        return false;
    }
    fprintf(to, ": reached%s\n    offers    %.*s\n    TLS       %.*s\n", c->protocol == SPEAKS_LMTP ? ", by LMTP" : "", STR_ARGS(v->offers), STR_ARGS(v->tls));
    *doubts += report_identity(to, c, v);
    return true;
}

static size_t count_servers(const struct smtp_conf *conf)
{
    size_t n = 0;
    for (size_t i = 0; i < conf->nbackends; i++)
        n += conf->backends[i].nservers;
    return n;
}

static void inquiry_all(struct probe *p, struct smtp_conf *conf)
{
    p->worker.mail.loop = loop_open();
    p->worker.mail.draining = true; /* connections are closed and not kept in the pool */
    p->worker.generation = &p->generation;
    p->generation = (struct generation){.worker = &p->worker, .conf = conf};
    p->generation.pools = must_alloc((conf->nbackends + 1) * sizeof(struct pool *));
    p->visits = must_alloc((count_servers(conf) + 1) * sizeof *p->visits);
    for (size_t i = 0; i < conf->nbackends; i++) {
        struct pool *pool = conf->backends[i].protocol == IS_MAILDIR ? NULL : pool_of(&p->generation, &conf->backends[i]);
        for (size_t k = 0; pool && k < conf->backends[i].nservers; k++)
            inquiry_start(p, pool, &pool->servers[k]);
    }
    if (p->running)
        loop_run(p->worker.mail.loop);
}

static void leave(struct probe *p)
{
    for (size_t i = 0; i < p->nvisits; i++)
        task_forget(&p->visits[i].task);
    for (size_t i = 0; i < p->generation.conf->nbackends; i++)
        if (p->generation.pools[i])
            pool_close(&p->generation.pools[i]);
    loop_close(p->worker.mail.loop);
    servers_forget();
    block_forget();
    arena_reset(&p->arena);
    free(p->generation.pools);
    free(p->visits);
}

unsigned probe_run(FILE *to, struct smtp_conf *conf, unsigned *doubts)
{
    struct probe p = {0};
    unsigned lost = 0;
    size_t next = 0;
    *doubts = 0;
    inquiry_all(&p, conf);
    for (size_t i = 0; i < conf->nbackends; i++) {
        const struct backend_conf *c = &conf->backends[i];
        if (c->protocol == IS_MAILDIR)
            fprintf(to, "backend \"%.*s\": %.*s: delivered to by ourselves\n", STR_ARGS(c->hop.name), STR_ARGS(c->address.text));
        for (size_t k = 0; c->protocol != IS_MAILDIR && k < c->nservers; k++)
            lost += !report(to, c, &p.visits[next++], doubts);
    }
    leave(&p);
    return lost;
}
