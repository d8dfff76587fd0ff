/* maillog.c - the lines a postmaster greps for: "msg" for each message, "rcpt" for each recipient refused. Keys and their
 * order are stable (docs/log.md); ids never change, the backend's queue id stands beside ours as qid. */
#include "mail/maillog.h"
#include "mail/call.h"
#include "mail/outlet.h"

enum { RCPT_LINES = 100, LIST_OCTETS = 600, WAITS_TOLD = 5, WAIT_LEAST = 1000 /* microseconds */ };

static const char *verdict_name(const struct message *m)
{
    const struct reply *r = &m->end_reply;
    if (m->end == END_REJECTED || m->end == END_DEFERRED) {
        bool ours = (m->verdict_by.len && !m->passed) || m->refused_by == BY_LIMIT || m->refused_by == BY_ROUTE;
        return m->end == END_REJECTED ? (ours ? "reject" : "backend-reject") : ours ? "defer" : "backend-defer";
    }
    switch (m->end) {
    case END_FORWARDED: return "forwarded";
    case END_DISCARDED: return "discard";
    case END_QUARANTINED: return "quarantine";
    case END_UNCERTAIN: return "uncertain";
    default: return r->code ? "error" : "abort";
    }
}

/* A transaction that never came to content, told by the refusal of DATA, or by its recipients: refused if the last of
 * them was. */
static void find_end(struct message *m)
{
    if (m->end != END_ABORTED || m->data_at_us || m->left || !m->named)
        return;
    const struct rcpt *last = &m->rcpts[m->nrcpts - 1];
    while (rcpt_is_added(last))
        last--;
    if (!m->accepted && !m->discarded && last->reply.code) {
        m->end_reply = last->reply;
        if (last->by == BY_ROUTE)
            m->refused_by = BY_ROUTE;
        if (last->by == BY_FILTER) {
            m->verdict_by = last->filter->name;
            m->verdict_stage = STR("rcpt");
            m->verdict_why = last->why;
        }
    } else if (m->data_refused.code) {
        m->end_reply = m->data_refused;
    }
    if (m->end_reply.code)
        m->end = transaction_end_of(&m->end_reply);
}

void maillog_client(const struct visit *v)
{
    log_text("listen", v->conf->name);
    log_text("client", v->client->ip.len ? v->client->ip : STR("unix"));
    if (v->client->port)
        log_number("port", v->client->port);
    if (rdns_resolve(&v->client->rdns))
        log_text("rdns", str_of(rdns_name(&v->client->rdns) ? rdns_name(&v->client->rdns) : ""));
    log_text("helo", str_of(v->client->helo));
    if (v->client->tls.version) {
        log_pieces("tls", 3, (struct str[]){str_of(v->client->tls.version), STR("/"), str_of(v->client->tls.cipher)});
    } else {
        log_text("tls", STR(""));
    }
    log_text("auth", v->client->authenticated ? str_of(v->client->user[0] ? v->client->user : v->client->method) : STR(""));
}

static void log_rcpts(const struct message *m)
{
    struct str shown[LIST_MOST];
    size_t n = 0, octets = 0;
    for (uint32_t i = 0; i < m->nrcpts && n < LIST_MOST && octets < LIST_OCTETS; i++) {
        const struct rcpt *r = &m->rcpts[i];
        if (rcpt_is_added(r))
            continue;
        shown[n++] = r->path.address;
        octets += 3 + r->path.address.len;
    }
    log_list("to", n, shown, m->named - (uint32_t)n);
    log_number("accepted", m->accepted + m->discarded);
    log_number("nrcpt", m->named);
}

static void log_enhanced(const struct reply *r)
{
    char text[3 * DECIMAL_ROOM + 3], room[DECIMAL_ROOM];
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        struct str digits = str_decimal(room, r->enhanced[i]);
        memcpy(text + n, digits.at, digits.len);
        n += digits.len;
        text[n++] = '.';
    }
    log_text("ecode", (struct str){text, n - 1});
}

static void log_id(const struct visit *v)
{
    char room[DECIMAL_ROOM];
    log_pieces("id", 3, (struct str[]){str_of(v->id), STR("."), str_decimal(room, v->message->number)});
}

static void log_notes(const struct visit *v)
{
    const struct message *m = v->message;
    struct str tags = STR("");
    for (const struct note *n = m->notes; n && tags.len < 500; n = n->next)
        if (n->value.at)
            tags = arena_print(&v->message->arena, "%.*s%s%.*s:%.*s", STR_ARGS(tags), tags.len ? "," : "", STR_ARGS(n->name),
                               STR_ARGS(n->value));
    if (tags.len)
        log_text("tags", tags);
}

static void log_where(const struct visit *v)
{
    struct str name, unused, server;
    v->outlet->ops->where(v->outlet, &name, &unused, &server);
    log_pieces("backend", 3, (struct str[]){name, STR("/"), server});
}

static void log_reply(const struct visit *v, struct message *m)
{
    const struct reply *r = &m->end_reply;
    if (m->verdict_by.len) {
        log_text("stage", m->verdict_stage);
        log_text("filter", m->verdict_by);
    }
    if (m->verdict_why.len)
        log_text("why", m->verdict_why);
    log_number("code", r->code);
    if (r->enhanced[0])
        log_enhanced(r);
    log_text("reply", r->text.at ? r->text : STR(""));
    log_where(v);
    log_text("qid", m->queue_id.at ? m->queue_id : r->code == 250 ? reply_queue_id(r) : STR(""));
}

static void log_one_rcpt(const struct visit *v, const struct rcpt *r)
{
    static const char *const authors[] = {
        [BY_BACKEND] = "backend", [BY_FILTER] = "filter", [BY_ROUTE] = "route", [BY_LIMIT] = "limit", [BY_SYNTAX] = "syntax"};
    log_begin(LOG_INFO, "rcpt");
    log_id(v);
    log_text("listen", v->conf->name);
    log_text("client", v->client->ip.len ? v->client->ip : STR("unix"));
    log_angle("from", v->message->from.address);
    log_angle("to", r->path.address);
    log_text("by", str_of(authors[r->by]));
    if (r->by == BY_FILTER)
        log_text("filter", r->filter->name);
    log_number("code", r->reply.code);
    if (r->reply.enhanced[0])
        log_enhanced(&r->reply);
    log_text("reply", r->reply.text);
    if (r->why.len)
        log_text("why", r->why);
    if (r->by == BY_BACKEND)
        log_where(v);
    log_end();
}

void maillog_rcpt(struct visit *v, const struct rcpt *r)
{
    if (++v->message->refused <= RCPT_LINES)
        log_one_rcpt(v, r);
}

void maillog_lmtp(struct visit *v, struct str address, const struct reply *r)
{
    log_one_rcpt(v, &(struct rcpt){.path = {.address = address}, .reply = *r, .by = BY_BACKEND});
}

/* Refused recipients beyond those with a line of their own. */
static void log_more_refused(const struct visit *v)
{
    if (v->message->refused <= RCPT_LINES)
        return;
    log_begin(LOG_INFO, "rcpt");
    log_id(v);
    log_number("more", v->message->refused - RCPT_LINES);
    log_end();
}

/* "dnsbl:2.003,av:0.140": the filters that waited longest. */
static void log_waits(const struct visit *v)
{
    const struct chain *chain = v->conf->chain;
    struct arena *arena = &v->message->arena;
    struct str text = STR("");
    uint64_t below = UINT64_MAX;
    size_t told = SIZE_MAX;
    for (int n = 0; v->slots && n < WAITS_TOLD; n++) {
        size_t longest = SIZE_MAX;
        for (size_t i = 0; i < chain->nfilters; i++) {
            uint64_t waited = v->slots[i].waited_us;
            bool next = waited < below || (waited == below && i > told);
            if (waited >= WAIT_LEAST && next && (longest == SIZE_MAX || waited > v->slots[longest].waited_us))
                longest = i;
        }
        if (longest == SIZE_MAX)
            break;
        told = longest;
        below = v->slots[longest].waited_us;
        text = arena_print(arena, "%.*s%s%.*s:%.3f", STR_ARGS(text), n ? "," : "",
                           STR_ARGS(chain->filters[longest]->name), (double)below / 1e6);
    }
    if (text.len)
        log_text("waited", text);
}

static enum log_level level_of(const struct message *m)
{
    if (m->end == END_UNCERTAIN)
        return LOG_WARNING;
    return m->end == END_ABORTED && m->end_reply.code ? LOG_ERROR : LOG_INFO;
}

void maillog_message(struct visit *v)
{
    struct message *m = v->message;
    struct arena *arena = &m->arena;
    uint64_t now = loop_micros(v->filters->worker->loop);
    find_end(m);
    log_more_refused(v);
    log_begin(level_of(m), "msg");
    log_id(v);
    maillog_client(v);
    log_angle("from", m->from.address);
    log_rcpts(m);
    log_text("mid", m->flow.message_id.at ? m->flow.message_id : STR(""));
    if (v->filters->conf->log_subject && flow_head_is_done(&m->flow)) {
        const struct field *f = headers_next(&m->headers, NULL, STR("Subject"));
        log_text("subject", f ? header_unfold(f->value, arena) : STR(""));
    }
    log_number("size", (int64_t)m->octets);
    log_text("verdict", str_of(verdict_name(m)));
    log_reply(v, m);
    if (m->score != 0)
        log_text("score", arena_print(arena, "%g", m->score));
    log_notes(v);
    if (m->edits)
        log_number("changed", m->edits);
    log_waits(v);
    if (m->end == END_UNCERTAIN)
        log_number("uncertain", 1);
    log_seconds("t_total", now - m->started_us);
    log_seconds("t_filter", m->filter_run_us + m->filter_waited_us);
    log_seconds("t_run", m->filter_run_us);
    log_seconds("t_backend", m->backend_us);
    log_seconds("t_data", m->data_at_us && m->data_done_us ? m->data_done_us - m->data_at_us : 0);
    log_end();
}
