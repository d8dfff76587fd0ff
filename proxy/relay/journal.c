/* journal.c - the lines a postmaster greps for: "msg" for each transaction, "conn" for a session without any. Keys are stable
 * (scripting.md, Log); ids never change, the backend's queue id stands beside ours as qid. */
#include "relay/journal.h"
#include "relay/host.h"

static const char *verdict_name(const struct transaction *tx)
{
    const struct reply *r = &tx->end_reply;
    if (tx->end == END_REJECTED || tx->end == END_DEFERRED) {
        /* What was said to a single recipient, or by who let all pass, is not the word on the message. */
        bool by_filter = tx->verdict_by.len && !tx->passed && !(tx->data_at && str_equal(tx->verdict_stage, STR("rcpt")));
        bool ours = by_filter || tx->limited;
        return tx->end == END_REJECTED ? (ours ? "reject" : "backend-reject") : ours ? "defer" : "backend-defer";
    }
    switch (tx->end) {
    case END_FORWARDED: return "forwarded";
    case END_DISCARDED: return "discard";
    case END_QUARANTINED: return "quarantine";
    case END_UNCERTAIN: return "uncertain";
    default: return r->code ? "error" : "abort";
    }
}

/* A transaction that never came to content, told by its recipients: refused if the last of them was. */
static void find_end(struct transaction *tx)
{
    if (tx->end != END_ABORTED || tx->data_at || tx->left || !tx->nrcpts || tx->accepted || tx->discarded)
        return;
    const struct reply *last = &tx->rcpts[tx->nrcpts - 1].reply;
    if (!last->code)
        return;
    tx->end = last->code >= 500 ? END_REJECTED : END_DEFERRED;
    tx->end_reply = *last;
}

static void log_client(const struct session *s)
{
    log_text("listen", s->listen->name);
    log_text("client", s->ip.len ? s->ip : STR("unix"));
    if (s->port)
        log_number("port", s->port);
    if (naming_resolve(&s->naming))
        log_text("rdns", str_of(naming_name(&s->naming) ? naming_name(&s->naming) : ""));
    log_text("helo", str_of(s->helo));
    if (s->tls.version) {
        log_pieces("tls", 3, (struct str[]){str_of(s->tls.version), STR("/"), str_of(s->tls.cipher)});
    } else {
        log_text("tls", STR(""));
    }
    log_text("auth", session_is_authenticated(s) ? str_of(s->auth->user[0] ? s->auth->user : s->auth->method) : STR(""));
}

static void log_rcpts(const struct transaction *tx)
{
    enum { MOST = 50, OCTETS = 600 };
    struct str pieces[3 * MOST + 2];
    char rooms[3][DECIMAL_ROOM];
    size_t n = 0, octets = 0;
    uint32_t shown = 0;
    for (; shown < tx->nrcpts && shown < MOST && octets < OCTETS; shown++) {
        pieces[n++] = shown ? STR(",<") : STR("<");
        pieces[n++] = tx->rcpts[shown].path.address;
        pieces[n++] = STR(">");
        octets += 3 + pieces[n - 2].len;
    }
    if (shown < tx->nrcpts) {
        pieces[n++] = STR(",+");
        pieces[n++] = str_decimal(rooms[0], tx->nrcpts - shown);
    }
    log_pieces("to", n, pieces);
    log_pieces("nrcpt", 3, (struct str[]){str_decimal(rooms[1], tx->accepted + tx->discarded), STR("/"),
                                          str_decimal(rooms[2], tx->nrcpts)});
}

static void log_enhanced(const struct reply *r)
{
    char rooms[3][DECIMAL_ROOM];
    struct str pieces[5] = {[1] = STR("."), [3] = STR(".")};
    for (size_t i = 0; i < 3; i++)
        pieces[2 * i] = str_decimal(rooms[i], r->enhanced[i]);
    log_pieces("ecode", 5, pieces);
}

static void log_id(const struct session *s)
{
    char room[DECIMAL_ROOM];
    log_pieces("id", 3, (struct str[]){str_of(s->id), STR("."), str_decimal(room, s->tx->number)});
}

static void log_notes(const struct session *s)
{
    const struct transaction *tx = s->tx;
    struct str tags = STR("");
    for (const struct note *n = tx->notes; n && tags.len < 500; n = n->next)
        if (n->value.at)
            tags = arena_print(&s->tx->arena, "%.*s%s%.*s:%.*s", STR_ARGS(tags), tags.len ? "," : "", STR_ARGS(n->name),
                               STR_ARGS(n->value));
    if (tags.len)
        log_text("tags", tags);
}

static void log_reply(const struct session *s, struct transaction *tx)
{
    const struct reply *r = &tx->end_reply;
    if (tx->verdict_by.len) {
        log_text("stage", tx->verdict_stage);
        log_text("filter", tx->verdict_by);
    }
    if (tx->verdict_why.len)
        log_text("why", tx->verdict_why);
    log_number("code", r->code);
    if (r->enhanced[0])
        log_enhanced(r);
    log_text("reply", r->text.at ? r->text : STR(""));
    log_pieces("backend", 3, (struct str[]){tx->route->name, STR("/"), tx->backend_server});
    log_text("qid", r->code == 250 ? reply_queue_id(r) : STR(""));
}

void journal_rcpt(struct session *s, struct str address, const struct reply *r)
{
    log_begin("rcpt");
    log_id(s);
    log_angle("to", address);
    log_number("code", r->code);
    if (r->enhanced[0])
        log_enhanced(r);
    log_text("reply", r->text);
    log_text("backend", s->tx->backend_server);
    log_end();
}

void journal_transaction(struct session *s)
{
    struct transaction *tx = s->tx;
    struct arena *arena = &tx->arena;
    uint64_t now = loop_micros(s->worker->loop);
    find_end(tx);
    log_begin("msg");
    log_id(s);
    log_client(s);
    log_angle("from", tx->reverse_path.address);
    log_rcpts(tx);
    log_text("mid", tx->flow.message_id.at ? tx->flow.message_id : STR(""));
    if (s->generation->conf->log_subject && tx->flow.head == HEAD_DONE) {
        const struct field *f = headers_next(&tx->headers, NULL, STR("Subject"));
        log_text("subject", f ? header_unfold(f->value, arena) : STR(""));
    }
    log_number("size", (int64_t)tx->flow.decoder.octets);
    log_text("verdict", str_of(verdict_name(tx)));
    log_reply(s, tx);
    if (tx->score != 0)
        log_text("score", arena_print(arena, "%g", tx->score));
    log_notes(s);
    if (tx->edits)
        log_number("changed", tx->edits);
    if (tx->end == END_UNCERTAIN)
        log_number("uncertain", 1);
    log_seconds("t_total", now - tx->started);
    log_seconds("t_filter", tx->filter_micros);
    log_seconds("t_backend", tx->backend_micros);
    log_seconds("t_data", tx->data_at && tx->data_done ? tx->data_done - tx->data_at : 0);
    log_end();
}

void journal_auth(struct session *s, const struct reply *r)
{
    log_begin("auth");
    log_text("id", str_of(s->id));
    log_client(s);
    log_text("user", str_of(s->auth->user));
    log_text("method", str_of(s->auth->method));
    log_number("code", r->code);
    log_text("reply", r->text);
    log_end();
}

void journal_session(struct session *s)
{
    if (s->messages)
        return;
    log_begin("conn");
    log_text("id", str_of(s->id));
    log_client(s);
    log_text("why", str_of(close_phrase(s->why)));
    if (s->client->dead && s->client->why_text.len)
        log_text("detail", s->client->why_text);
    log_number("errors", s->errors);
    if (s->refusal.code)
        log_number("refused", s->refusal.code);
    log_seconds("t_total", loop_micros(s->worker->loop) - s->started);
    log_end();
}
