/* json.c - a message that was tried as one object on one line: keys, types and order are those of docs/try.md. */
#include "try/report.h"
#include "wire/json.h"
#include <openssl/evp.h>
#include <time.h>

static struct str base_name(struct str path)
{
    size_t from = path.len;
    while (from > 0 && path.at[from - 1] != '/')
        from--;
    return str_part(path, from, path.len);
}

static void put_sha256(struct json *j, const char *key, EVP_MD_CTX *digest)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char octets[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char text[2 * EVP_MAX_MD_SIZE];
    must(EVP_DigestFinal_ex(digest, octets, &n) == 1);
    for (unsigned i = 0; i < n; i++) {
        text[2 * i] = digits[octets[i] >> 4];
        text[2 * i + 1] = digits[octets[i] & 15];
    }
    json_text(j, key, (struct str){text, 2 * n});
}

static void put_digest(struct json *j, const char *key, const struct pipe *of, struct str text)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    must(digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1);
    for (const struct span *span = of ? of->first : NULL; span; span = span->next)
        must(EVP_DigestUpdate(digest, span->at, span->len) == 1);
    if (!of)
        must(EVP_DigestUpdate(digest, text.at, text.len) == 1);
    put_sha256(j, key, digest);
    EVP_MD_CTX_free(digest);
}

static uint64_t micros(const struct show *s, uint64_t n)
{
    return s->stable ? 0 : n;
}

static struct str said(struct str s)
{
    return s.len ? s : STR_NONE;
}

/* code, enhanced, text. */
static void put_reply(struct json *j, const struct reply *r)
{
    char enhanced[32];
    if (r->code)
        json_integer(j, "code", r->code);
    else
        json_null(j, "code");
    int n = snprintf(enhanced, sizeof enhanced, "%u.%u.%u", r->enhanced[0], r->enhanced[1], r->enhanced[2]);
    json_text(j, "enhanced", r->code && r->enhanced[0] ? (struct str){enhanced, (size_t)n} : STR_NONE);
    json_text(j, "text", r->code ? (r->text.at ? r->text : STR("")) : STR_NONE);
}

static void put_source(struct json *j, const struct show *s, const struct trial *t, const struct source *source)
{
    if (!source) {
        json_null(j, "source");
        return;
    }
    json_open(j, "source", '{');
    json_text(j, "name", s->stable ? base_name(source->name) : source->name);
    json_integer(j, "index", source->index ? source->index : 1);
    json_integer(j, "octets", (int64_t)t->content.len);
    put_digest(j, "sha256", NULL, t->content);
    json_close(j, '}');
}

/* id, t: of each event. */
static void put_when(struct json *j, const struct show *s, const struct trial *t, uint64_t since)
{
    json_text(j, "id", s->stable ? STR("000000000000") : str_of(t->visit.id));
    json_seconds(j, "t", micros(s, since));
}

static void put_session(struct json *j, const struct show *s, const struct trial *t)
{
    const struct client *c = &t->client;
    char ts[40] = "1970-01-01T00:00:00";
    int64_t wall = s->stable ? 0 : t->visit.started_wall_us;
    time_t seconds = (time_t)(wall / 1000000);
    struct tm tm;
    strftime(ts, sizeof ts, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
    json_open(j, "session", '{');
    json_text(j, "event", STR("session"));
    put_when(j, s, t, 0);
    json_text(j, "ts", arena_print(j->arena, "%s.%03dZ", ts, (int)(wall / 1000 % 1000)));
    json_text(j, "listen", t->world->conf.name);
    json_open(j, "client", '{');
    json_text(j, "ip", c->ip);
    json_integer(j, "port", c->port);
    json_text(j, "rdns", rdns_name(&c->rdns) ? str_of(rdns_name(&c->rdns)) : STR_NONE);
    json_close(j, '}');
    json_text(j, "helo", t->who->helo);
    json_bool(j, "esmtp", !t->who->says_helo);
    if (c->secure == CLIENT_CLEAR) {
        json_null(j, "tls");
    } else {
        json_open(j, "tls", '{');
        json_text(j, "version", str_of(c->tls.version));
        json_text(j, "cipher", str_of(c->tls.cipher));
        json_close(j, '}');
    }
    if (!t->who->authenticated) {
        json_null(j, "auth");
    } else {
        json_open(j, "auth", '{');
        json_text(j, "user", t->who->user);
        json_text(j, "method", t->who->method);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static const char *state_of(const struct rcpt *r)
{
    switch (r->fate) {
    case FATE_REFUSED: return "refused";
    case FATE_DISCARDED:
    case FATE_DROPPED: return "left_out";
    default: return rcpt_is_added(r) ? "added" : "accepted";
    }
}

static void put_envelope(struct json *j, const struct trial *t)
{
    static const char *const authors[] = {[BY_BACKEND] = "backend",
                                          [BY_FILTER] = "filter",
                                          [BY_ROUTE] = "route",
                                          [BY_LIMIT] = "limit",
                                          [BY_SYNTAX] = "syntax"};
    const struct message *m = &t->message;
    json_open(j, "from", '{');
    json_text(j, "address", m->from.address);
    json_text(j, "params", m->params.text);
    json_close(j, '}');
    json_open(j, "rcpts", '[');
    for (uint32_t i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];
        json_open(j, NULL, '{');
        json_text(j, "address", r->path.address);
        json_text(j, "params", r->params.text.at ? r->params.text : STR(""));
        json_text(j, "state", str_of(state_of(r)));
        put_reply(j, &r->reply);
        json_text(j, "by",
                  rcpt_is_added(r)                  ? r->added_by
                  : r->by == BY_FILTER && r->filter ? r->filter->name
                  : t->world->milter                ? STR_NONE
                                                    : str_of(r->reply.code ? authors[r->by] : NULL));
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_call(struct json *j, const struct show *s, const struct trial *t, const struct kept_call *c)
{
    bool of_rcpt = c->stage == FILTER_RCPT;
    json_open(j, NULL, '{');
    json_text(j, "event", STR("call"));
    put_when(j, s, t, c->t);
    json_integer(j, "n", c->n);
    json_text(j, "stage", str_of(stage_name(c->stage)));
    if (of_rcpt)
        json_integer(j, "rcpt", c->rcpt + 1);
    else
        json_null(j, "rcpt");
    json_null(j, "part");
    json_text(j, "filter", c->filter->name);
    json_integer(j, "place", c->place);
    json_text(j, "verdict", c->ended ? str_of(verdict_name(c->said)) : STR_NONE);
    json_bool(j, "applied", !c->filter->observe);
    put_reply(j, &c->reply);
    json_text(j, "why", c->said == VERDICT_ERROR ? STR_NONE : said(c->why));
    json_text(j, "at", c->at);
    json_seconds(j, "run", micros(s, c->run));
    json_seconds(j, "wait", micros(s, c->waited));
    json_open(j, "waits", '[');
    for (const struct kept_wait *w = c->waits; w; w = w->next) {
        json_open(j, NULL, '{');
        json_text(j, "op", str_of(w->op));
        json_text(j, "what", w->what);
        json_seconds(j, "took", micros(s, w->took));
        json_text(j, "result", str_of(w->result ? w->result : "ok"));
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "notes", '{');
    for (const struct kept_note *n = c->notes; n; n = n->next)
        json_named(j, n->name, n->value);
    json_close(j, '}');
    json_real(j, "score", c->score);
    json_open(j, "log", '[');
    for (const struct kept_log *l = c->logs; l; l = l->next) {
        json_open(j, NULL, '{');
        json_text(j, "level", str_of(l->level));
        json_text(j, "text", l->text);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_text(j, "error", c->said == VERDICT_ERROR ? c->why : STR_NONE);
    json_close(j, '}');
}

static void put_edit(struct json *j, const struct show *s, const struct trial *t, const struct kept_edit *e)
{
    bool field = e->kind <= EDIT_FIELD_RENAME, rcpt = e->kind >= EDIT_RCPT_ADD && e->kind <= EDIT_RCPT_REMOVE;
    json_open(j, NULL, '{');
    json_text(j, "event", STR("edit"));
    put_when(j, s, t, e->t);
    json_integer(j, "n", e->n);
    json_integer(j, "call", e->call);
    json_text(j, "filter", e->filter->name);
    json_text(j, "kind", str_of(edit_name(e->kind)));
    json_text(j, "name", field ? e->name : STR_NONE);
    if (field || rcpt)
        json_integer(j, "index", e->index + 1);
    else
        json_null(j, "index");
    if (e->kind == EDIT_BODY) {
        json_integer(j, "before", (int64_t)e->octets_before);
        json_integer(j, "after", (int64_t)e->octets_after);
    } else {
        json_text(j, "before", e->before);
        json_text(j, "after", e->after);
    }
    json_bool(j, "applied", e->applied);
    json_close(j, '}');
}

static void put_verdict(struct json *j, const struct show *s, const struct trial *t)
{
    const struct message *m = &t->message;
    uint64_t run = 0, waited = 0;
    for (const struct kept_call *c = t->record.first; c; c = c->next) {
        run += c->run;
        waited += c->waited;
    }
    json_text(j, "verdict", str_of(fate_name(t->fate)));
    json_text(j, "stage", str_of(t->stage));
    json_text(j, "filter", said(t->by));
    put_reply(j, &t->reply);
    json_text(j, "why", said(t->why));
    json_text(j, "backend", trial_leaves(t) && t->hop ? t->hop->name : STR_NONE);
    json_open(j, "tags", '{');
    for (const struct note *n = m->notes; n; n = n->next)
        if (n->value.at)
            json_named(j, n->name, n->value);
    json_close(j, '}');
    json_real(j, "score", m->score);
    json_integer(j, "octets_in", (int64_t)t->content.len);
    if (trial_leaves(t) && t->has_content) {
        json_integer(j, "octets_out", (int64_t)t->out.octets);
        put_digest(j, "sha256_out", &t->out, STR_NONE);
    } else {
        json_null(j, "octets_out");
        json_null(j, "sha256_out");
    }
    json_seconds(j, "took", micros(s, t->took));
    json_seconds(j, "waited", micros(s, waited));
    json_seconds(j, "run", micros(s, run));
}

void report_json(const struct show *s, const struct trial *t, const struct source *source)
{
    struct arena arena = {0};
    struct pipe out = {0};
    struct json j = {.out = &out, .arena = &arena};
    json_open(&j, NULL, '{');
    json_integer(&j, "schema", 1);
    put_source(&j, s, t, source);
    json_text(&j, "conf", s->stable && s->conf.at ? base_name(s->conf) : s->conf);
    json_text(&j, "listen", t->world->conf.name);
    json_text(&j, "chain", t->world->conf.chain->name);
    json_bool(&j, "offline", t->world->offline);
    put_session(&j, s, t);
    put_envelope(&j, t);
    json_open(&j, "calls", '[');
    for (const struct kept_call *c = t->record.first; c; c = c->next)
        put_call(&j, s, t, c);
    json_close(&j, ']');
    json_open(&j, "edits", '[');
    for (const struct kept_edit *e = t->record.edits; e; e = e->next)
        put_edit(&j, s, t, e);
    json_close(&j, ']');
    put_verdict(&j, s, t);
    json_open(&j, "notes", '[');
    for (size_t i = 0; i < s->nnotes; i++)
        json_text(&j, NULL, str_of(s->notes[i]));
    json_close(&j, ']');
    json_close(&j, '}');
    pipe_put(&out, STR("\n"));
    for (const struct span *span = out.first; span; span = span->next)
        fwrite(span->at, 1, span->len, s->to);
    pipe_clear(&out);
    arena_reset(&arena);
}
