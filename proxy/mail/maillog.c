/* maillog.c - the lines a postmaster greps for: "msg" for each transaction, "rcpt" for each recipient refused, "conn"
 * for a session without a transaction, or that ended by an error. Keys and their order are stable (docs/log.md); ids
 * never change, the backend's queue id stands beside ours as qid. */
#include "mail/maillog.h"
#include "mail/call.h"
#include "smtp/front/session.h"

enum { RCPT_LINES = 100, LIST_OCTETS = 600, WAITS_TOLD = 5, WAIT_LEAST = 1000 /* microseconds */ };

static const char *verdict_name(const struct transaction *tx)
{
    const struct reply *r = &tx->message.end_reply;
    if (tx->message.end == END_REJECTED || tx->message.end == END_DEFERRED) {
        bool ours = (tx->message.verdict_by.len && !tx->message.passed) || tx->message.limited;
        return tx->message.end == END_REJECTED ? (ours ? "reject" : "backend-reject") : ours ? "defer" : "backend-defer";
    }
    switch (tx->message.end) {
    case END_FORWARDED: return "forwarded";
    case END_DISCARDED: return "discard";
    case END_QUARANTINED: return "quarantine";
    case END_UNCERTAIN: return "uncertain";
    default: return r->code ? "error" : "abort";
    }
}

/* A transaction that never came to content, told by the refusal of DATA, or by its recipients: refused if the last of
 * them was. */
static void find_end(struct transaction *tx)
{
    if (tx->message.end != END_ABORTED || tx->message.data_at || tx->message.left || !tx->message.named)
        return;
    const struct rcpt *last = &tx->message.rcpts[tx->message.nrcpts - 1];
    while (rcpt_is_added(last))
        last--;
    if (!tx->message.accepted && !tx->message.discarded && last->reply.code) {
        tx->message.end_reply = last->reply;
        tx->message.limited |= last->by == BY_ROUTE;
        if (last->by == BY_FILTER) {
            tx->message.verdict_by = last->filter->name;
            tx->message.verdict_stage = STR("rcpt");
            tx->message.verdict_why = last->why;
        }
    } else if (tx->message.data_refused.code) {
        tx->message.end_reply = tx->message.data_refused;
    }
    if (tx->message.end_reply.code)
        tx->message.end = transaction_end_of(&tx->message.end_reply);
}

static void log_client(const struct session *s)
{
    log_text("listen", s->listen->visit.name);
    log_text("client", s->visit.client->ip.len ? s->visit.client->ip : STR("unix"));
    if (s->visit.client->port)
        log_number("port", s->visit.client->port);
    if (rdns_resolve(&s->visit.client->rdns))
        log_text("rdns", str_of(rdns_name(&s->visit.client->rdns) ? rdns_name(&s->visit.client->rdns) : ""));
    log_text("helo", str_of(s->visit.client->helo));
    if (s->visit.client->tls.version) {
        log_pieces("tls", 3, (struct str[]){str_of(s->visit.client->tls.version), STR("/"), str_of(s->visit.client->tls.cipher)});
    } else {
        log_text("tls", STR(""));
    }
    log_text("auth", session_is_authenticated(s) ? str_of(s->visit.client->user[0] ? s->visit.client->user : s->visit.client->method) : STR(""));
}

static void log_rcpts(const struct transaction *tx)
{
    struct str shown[LIST_MOST];
    size_t n = 0, octets = 0;
    for (uint32_t i = 0; i < tx->message.nrcpts && n < LIST_MOST && octets < LIST_OCTETS; i++) {
        const struct rcpt *r = &tx->message.rcpts[i];
        if (rcpt_is_added(r))
            continue;
        shown[n++] = r->path.address;
        octets += 3 + r->path.address.len;
    }
    log_list("to", n, shown, tx->message.named - (uint32_t)n);
    log_number("accepted", tx->message.accepted + tx->message.discarded);
    log_number("nrcpt", tx->message.named);
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

static void log_id(const struct session *s)
{
    char room[DECIMAL_ROOM];
    log_pieces("id", 3, (struct str[]){str_of(s->visit.id), STR("."), str_decimal(room, s->tx->message.number)});
}

static void log_notes(const struct session *s)
{
    const struct transaction *tx = s->tx;
    struct str tags = STR("");
    for (const struct note *n = tx->message.notes; n && tags.len < 500; n = n->next)
        if (n->value.at)
            tags = arena_print(&s->tx->message.arena, "%.*s%s%.*s:%.*s", STR_ARGS(tags), tags.len ? "," : "", STR_ARGS(n->name),
                               STR_ARGS(n->value));
    if (tags.len)
        log_text("tags", tags);
}

static void log_reply(const struct session *s, struct transaction *tx)
{
    const struct reply *r = &tx->message.end_reply;
    if (tx->message.verdict_by.len) {
        log_text("stage", tx->message.verdict_stage);
        log_text("filter", tx->message.verdict_by);
    }
    if (tx->message.verdict_why.len)
        log_text("why", tx->message.verdict_why);
    log_number("code", r->code);
    if (r->enhanced[0])
        log_enhanced(r);
    log_text("reply", r->text.at ? r->text : STR(""));
    log_pieces("backend", 3, (struct str[]){tx->route->hop.name, STR("/"), tx->backend_server});
    log_text("qid", r->code == 250 ? reply_queue_id(r) : STR(""));
}

static void log_one_rcpt(const struct session *s, const struct rcpt *r)
{
    static const char *const authors[] = {
        [BY_BACKEND] = "backend", [BY_FILTER] = "filter", [BY_ROUTE] = "route", [BY_LIMIT] = "limit", [BY_SYNTAX] = "syntax"};
    log_begin(LOG_INFO, "rcpt");
    log_id(s);
    log_text("listen", s->listen->visit.name);
    log_text("client", s->visit.client->ip.len ? s->visit.client->ip : STR("unix"));
    log_angle("from", s->tx->message.from.address);
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
        log_pieces("backend", 3, (struct str[]){s->tx->route->hop.name, STR("/"), s->tx->backend_server});
    log_end();
}

void journal_rcpt(struct session *s, const struct rcpt *r)
{
    if (++s->tx->message.refused <= RCPT_LINES)
        log_one_rcpt(s, r);
}

void journal_lmtp(struct session *s, struct str address, const struct reply *r)
{
    log_one_rcpt(s, &(struct rcpt){.path = {.address = address}, .reply = *r, .by = BY_BACKEND});
}

/* Refused recipients beyond those with a line of their own. */
static void log_more_refused(const struct session *s)
{
    if (s->tx->message.refused <= RCPT_LINES)
        return;
    log_begin(LOG_INFO, "rcpt");
    log_id(s);
    log_number("more", s->tx->message.refused - RCPT_LINES);
    log_end();
}

/* "dnsbl:2.003,av:0.140": the filters that waited longest. */
static void log_waits(const struct session *s)
{
    const struct chain *chain = s->listen->visit.chain;
    struct arena *arena = &s->tx->message.arena;
    struct str text = STR("");
    uint64_t below = UINT64_MAX;
    size_t told = SIZE_MAX;
    for (int n = 0; s->visit.slots && n < WAITS_TOLD; n++) {
        size_t longest = SIZE_MAX;
        for (size_t i = 0; i < chain->nfilters; i++) {
            uint64_t waited = s->visit.slots[i].waited;
            bool next = waited < below || (waited == below && i > told);
            if (waited >= WAIT_LEAST && next && (longest == SIZE_MAX || waited > s->visit.slots[longest].waited))
                longest = i;
        }
        if (longest == SIZE_MAX)
            break;
        told = longest;
        below = s->visit.slots[longest].waited;
        text = arena_print(arena, "%.*s%s%.*s:%.3f", STR_ARGS(text), n ? "," : "",
                           STR_ARGS(chain->filters[longest]->name), (double)below / 1e6);
    }
    if (text.len)
        log_text("waited", text);
}

static enum log_level level_of(const struct transaction *tx)
{
    if (tx->message.end == END_UNCERTAIN)
        return LOG_WARNING;
    return tx->message.end == END_ABORTED && tx->message.end_reply.code ? LOG_ERROR : LOG_INFO;
}

void journal_transaction(struct session *s)
{
    struct transaction *tx = s->tx;
    struct arena *arena = &tx->message.arena;
    uint64_t now = loop_micros(s->worker->mail.loop);
    find_end(tx);
    log_more_refused(s);
    log_begin(level_of(tx), "msg");
    log_id(s);
    log_client(s);
    log_angle("from", tx->message.from.address);
    log_rcpts(tx);
    log_text("mid", tx->message.flow.message_id.at ? tx->message.flow.message_id : STR(""));
    if (s->generation->conf->mail.log_subject && tx->message.flow.head == HEAD_DONE) {
        const struct field *f = headers_next(&tx->message.headers, NULL, STR("Subject"));
        log_text("subject", f ? header_unfold(f->value, arena) : STR(""));
    }
    log_number("size", (int64_t)tx->message.octets);
    log_text("verdict", str_of(verdict_name(tx)));
    log_reply(s, tx);
    if (tx->message.score != 0)
        log_text("score", arena_print(arena, "%g", tx->message.score));
    log_notes(s);
    if (tx->message.edits)
        log_number("changed", tx->message.edits);
    log_waits(s);
    if (tx->message.end == END_UNCERTAIN)
        log_number("uncertain", 1);
    log_seconds("t_total", now - tx->message.started);
    log_seconds("t_filter", tx->message.filter_run + tx->message.filter_waited);
    log_seconds("t_run", tx->message.filter_run);
    log_seconds("t_backend", tx->message.backend_micros);
    log_seconds("t_data", tx->message.data_at && tx->message.data_done ? tx->message.data_done - tx->message.data_at : 0);
    log_end();
}

void journal_auth(struct session *s, const struct reply *r)
{
    log_begin(LOG_INFO, "auth");
    log_text("id", str_of(s->visit.id));
    log_client(s);
    log_text("user", str_of(s->auth->user));
    log_text("method", str_of(s->auth->method));
    log_number("code", r->code);
    log_text("reply", r->text);
    log_end();
}

/* It ended by itself, or by what is nobody's error: its messages tell enough. */
static bool ended_well(const struct session *s)
{
    switch (s->why) {
    case WHY_QUIT:
    case WHY_LEFT:
    case WHY_RESET:
    case WHY_SHUTDOWN:
    case WHY_TIMEOUT: return true;
    default: return false;
    }
}

static void log_tally(const struct session *s)
{
    const struct refusals *t = s->refusals;
    struct str pieces[4 * TALLIES];
    char rooms[2 * TALLIES + 1][DECIMAL_ROOM];
    size_t n = 0;
    if (!t)
        return;
    for (size_t i = 0; i < TALLIES && t->replies[i].count; i++) {
        if (i)
            pieces[n++] = STR(",");
        pieces[n++] = str_decimal(rooms[2 * i], t->replies[i].code);
        pieces[n++] = STR(":");
        pieces[n++] = str_decimal(rooms[2 * i + 1], t->replies[i].count);
    }
    log_pieces("replies", n, pieces);
    const char *verb = verb_name(t->last_verb);
    log_pieces("last", 3, (struct str[]){str_of(verb), STR(" "), str_decimal(rooms[2 * TALLIES], t->last_code)});
}

void journal_session(struct session *s)
{
    if (s->visit.messages && ended_well(s))
        return;
    log_begin(LOG_INFO, "conn");
    log_text("id", str_of(s->visit.id));
    log_client(s);
    log_text("why", str_of(close_phrase(s->why)));
    if (s->stream->dead && s->stream->why_text.len)
        log_text("detail", s->stream->why_text);
    log_number("errors", s->visit.errors);
    log_tally(s);
    if (s->refusal.code)
        log_number("refused", s->refusal.code);
    log_seconds("t_total", loop_micros(s->worker->mail.loop) - s->started);
    log_end();
}
