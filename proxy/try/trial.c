/* trial.c - the turns of a message that is tried: each stage is asked, its verdict applied as the SMTP front would.
 *
 * Never: speaks to a backend, says 250 in anybody's name, writes a log line. */
#include "try/trial.h"
#include "try/outlet.h"

const char *fate_name(enum fate fate)
{
    static const char *const names[FATES] = {"forwarded", "reject", "defer", "drop", "discard", "quarantine", "error"};
    return names[fate];
}

bool trial_leaves(const struct trial *t)
{
    return t->fate == FORWARDED || t->fate == QUARANTINED;
}

/* ---- the world
 * ------------------------------------------------------------------------------------------------------- */

bool world_open(struct try_world *w, const struct mail_conf *conf, char *error, size_t room)
{
    w->worker.loop = loop_open();
    filter_set_open(&w->filters, &w->worker, conf, NULL);
    filter_set_enter(&w->filters);
    w->filters.offline = w->offline;
    w->filters.no_dns = w->no_dns;
    if (w->zone)
        w->filters.dns = dns_open_source(w->worker.loop, w->zone);
    else if (!w->no_dns && !(w->filters.dns = dns_open(w->worker.loop, w->dns.at, error, room)))
        return false;
    w->filters.current = true;
    filter_set_start(&w->filters);
    return true;
}

void world_close(struct try_world *w)
{
    filter_set_leave(&w->filters);
    filter_set_stop(&w->filters);
    dns_close(&w->filters.dns);
    loop_close(w->worker.loop);
    filter_set_free(&w->filters);
    call_forget();
    block_forget();
}

/* ---- the end
 * ----------------------------------------------------------------------------------------------------------- */

static void end(struct trial *t, enum fate fate, const struct reply *r)
{
    t->fate = fate;
    t->reply = reply_keep(&t->life, r);
    t->step = TRIAL_OVER;
}

static enum fate fate_of(const struct reply *r)
{
    return reply_class(r) == 2 ? FORWARDED : reply_class(r) == 5 ? REFUSED : DEFERRED;
}

/* By a filter at this stage; a filter that failed is told apart from one that decided. */
static void decided(struct trial *t, const char *stage, struct str by, struct str why)
{
    const struct kept_call *c = t->record.decided;
    t->stage = stage;
    t->by = by;
    t->why = why.len ? arena_str(&t->life, why) : STR_NONE;
    if (c && c->said == VERDICT_ERROR && str_equal(c->filter->name, by) && !trial_leaves(t) && t->fate != DISCARDED)
        t->fate = FAILED;
}

/* A verdict at a stage before content. True: it ends the trial. */
static bool is_refused(struct trial *t)
{
    const struct verdict *v = &t->visit.run.verdict;
    switch (v->kind) {
    case VERDICT_DROP: end(t, DROPPED, &v->reply); break;
    case VERDICT_REJECT: end(t, REFUSED, &v->reply); break;
    case VERDICT_DEFER: end(t, DEFERRED, &v->reply); break;
    default: return false;
    }
    decided(t, stage_name(t->visit.run.stage), v->by->name, v->why);
    return true;
}

static void end_discarded(struct trial *t)
{
    const struct message *m = &t->message;
    struct reply r = reply_named(REPLY_OK);
    end(t, DISCARDED, &r);
    t->why = m->verdict_why;
    if (m->verdict_by.len)
        t->by = m->verdict_by;
    t->stage = m->verdict_stage.len ? m->verdict_stage.at : NULL;
}

/* ---- the envelope
 * ------------------------------------------------------------------------------------------------------ */

static void ask(struct trial *t, enum filter_stage stage)
{
    arena_reset(&t->scratch);
    visit_ask(&t->visit, stage, (struct subject){.helo = t->who->helo, .ehlo = !t->who->says_helo, .rcpt = t->rcpt});
}

/* What the next hop says; filters hear it. */
static void next_hop_says(struct trial *t, struct rcpt *r)
{
    struct message *m = &t->message;
    if (!t->mail_reply.code) { /* it hears of the message when the first recipient has passed */
        t->mail_reply = t->who->mail_reply;
        visit_reply(&t->visit, FILTER_MAIL, &t->mail_reply, 0);
    }
    r->reply = reply_class(&t->mail_reply) == 2 ? t->who->rcpt_reply : t->mail_reply;
    r->fate = reply_class(&r->reply) == 2 ? FATE_ACCEPTED : FATE_REFUSED;
    m->accepted += r->fate == FATE_ACCEPTED;
    r->by = BY_BACKEND;
    visit_reply(&t->visit, FILTER_RCPT, &r->reply, t->rcpt);
}

static void rcpt_judged(struct trial *t)
{
    struct message *m = &t->message;
    const struct verdict *v = &t->visit.run.verdict;
    struct rcpt *r = &m->rcpts[t->rcpt];
    switch (v->kind) {
    case VERDICT_DROP:
    case VERDICT_REJECT:
    case VERDICT_DEFER:
        r->fate = FATE_REFUSED;
        r->by = BY_FILTER;
        r->filter = v->by;
        r->why = v->why;
        r->reply = reply_keep(&m->arena, &v->reply);
        return;
    case VERDICT_DISCARD: r->fate = FATE_DISCARDED; break;
    default: break;
    }
    if (m->fate == MESSAGE_DISCARDED || r->fate == FATE_DISCARDED) {
        r->fate = FATE_DISCARDED;
        r->reply = reply_named(REPLY_RCPT_OK);
        if (v->kind == VERDICT_DISCARD && !m->verdict_by.len)
            visit_note(&t->visit);
        m->discarded++;
        return;
    }
    next_hop_says(t, r);
}

/* The last recipient of the client's tells the fate of an envelope of which nothing is left. */
static void end_without_rcpts(struct trial *t)
{
    const struct rcpt *r = &t->message.rcpts[t->rcpt];
    end(t, fate_of(&r->reply), &r->reply);
    t->by_backend = r->by == BY_BACKEND;
    if (r->by == BY_FILTER)
        decided(t, "rcpt", r->filter->name, r->why);
    else
        t->stage = "rcpt";
}

static void rcpt_passed(struct trial *t)
{
    struct message *m = &t->message;
    const struct verdict *v = &t->visit.run.verdict;
    rcpt_judged(t);
    if (v->kind == VERDICT_DROP) {
        end(t, DROPPED, &v->reply);
        decided(t, "rcpt", v->by->name, v->why);
        return;
    }
    if (t->said < t->who->nrcpts) {
        t->step = TRIAL_RCPT;
        return;
    }
    if (!m->accepted && !m->discarded) {
        end_without_rcpts(t);
    } else if (!t->has_content) {
        struct reply r = m->accepted ? m->rcpts[t->rcpt].reply : reply_named(REPLY_RCPT_OK);
        end(t, m->accepted ? FORWARDED : DISCARDED, reply_class(&r) == 2 ? &r : &t->who->rcpt_reply);
    }
}

/* ---- content
 * ------------------------------------------------------------------------------------------------------------ */

/* As a client says it behind DATA: dots stuffed where it knows a line to begin (RFC 5321 4.5.2), a line end at its end.
 */
static void stuff(struct trial *t)
{
    static const struct str line_dot = {"\r\n.", 3};
    struct str rest = t->content;
    struct pipe out = {0};
    bool ends = !rest.len || str_ends_nocase(rest, STR("\r\n"));
    t->left = t->content;
    t->tail = ends ? STR(".\r\n") : STR("\r\n.\r\n");
    if (rest.len && rest.at[0] == '.')
        pipe_put(&out, STR("."));
    for (size_t at; (at = str_find(rest, line_dot)) < rest.len; rest = str_part(rest, at + 3, rest.len)) {
        pipe_copy(&out, rest.at, at + 3);
        pipe_put(&out, STR("."));
    }
    if (!out.octets)
        return;
    pipe_copy(&out, rest.at, rest.len);
    t->left = pipe_flat(&out, out.octets, &t->life);
    pipe_clear(&out);
}

static void begin_content(struct trial *t)
{
    struct message *m = &t->message;
    if (m->fate == MESSAGE_DISCARDED || message_is_empty(m)) {
        end_discarded(t);
        return;
    }
    m->data_at_us = loop_micros(t->world->worker.loop);
    decoder_start(&t->decoder, t->raw ? FRAMING_BINARY : FRAMING_DOTS, t->world->bare);
    t->left = t->content;
    if (t->raw)
        decoder_chunk(&t->decoder, t->content.len, true);
    else
        stuff(t);
    flow_start(&t->visit);
    t->step = TRIAL_CONTENT;
}

static bool decode(struct trial *t)
{
    struct message *m = &t->message;
    struct flow *f = &m->flow;
    struct pipe in = {0};
    if (flow_is_taken(f) || pipe_is_full(&f->content))
        return false;
    struct str piece = str_part(t->left, 0, BLOCK_READ);
    pipe_copy(&in, piece.at, piece.len);
    decoder_step(&t->decoder, &in, content_is_dropped(m) ? NULL : &f->content, FLOW_OCTETS);
    t->left = str_part(t->left, piece.len - in.octets, t->left.len);
    pipe_clear(&in);
    if (!t->left.len && t->tail.len) {
        t->left = t->tail;
        t->tail = STR_NONE;
    }
    m->octets = t->decoder.octets;
    if (t->decoder.saw_bare && t->world->bare == BARE_REJECT && !content_is_dropped(m))
        flow_refuse_named(&t->visit, REPLY_BARE_LF);
    if (t->decoder.ended)
        f->content.ended = true;
    return true;
}

/* Content goes nowhere any more: by a filter's verdict or a limit. */
static void end_refused(struct trial *t)
{
    const struct message *m = &t->message;
    if (m->fate == MESSAGE_DISCARDED) {
        end_discarded(t);
        return;
    }
    end(t, m->drop ? DROPPED : fate_of(&m->refusal), &m->refusal);
    t->stage = "content";
    if (m->refused_by != BY_LIMIT && m->verdict_by.len)
        decided(t, m->verdict_stage.at, m->verdict_by, m->verdict_why);
}

/* True: go on in this turn. */
static bool run_content(struct trial *t)
{
    struct message *m = &t->message;
    for (int i = 0; i < FLOW_TURNS; i++) {
        bool moved = flow_turn(&t->visit);
        if (content_is_dropped(m)) {
            end_refused(t);
            return true;
        }
        moved |= decode(t);
        if (flow_is_taken(&m->flow)) {
            t->step = TRIAL_JUDGE;
            return true;
        }
        if (!moved)
            return false;
    }
    task_wake(&t->task);
    return false;
}

static void next_hop_answers(struct trial *t)
{
    struct message *m = &t->message;
    m->fate = MESSAGE_RELEASED;
    m->end_reply = t->who->end_reply;
    visit_reply(&t->visit, FILTER_MESSAGE, &m->end_reply, 0);
    bool good = reply_class(&m->end_reply) == 2;
    end(t, m->quarantined && good ? QUARANTINED : fate_of(&m->end_reply), &m->end_reply);
    t->by_backend = true;
    if (!good) {
        t->stage = "message";
    } else if (m->verdict_by.len) { /* QUARANTINE, or a PASS */
        t->by = m->verdict_by;
        t->why = m->verdict_why;
        t->stage = m->verdict_stage.at;
    }
}

static bool run_judge(struct trial *t)
{
    struct message *m = &t->message;
    if (!m->end_at_ms) {
        m->data_done_us = loop_micros(t->world->worker.loop);
        m->end_at_ms = loop_now(t->world->worker.loop);
        m->end_by_ms = m->end_at_ms + t->world->end_by;
    }
    bool judged = flow_judge(&t->visit);
    if (content_is_dropped(m)) {
        end_refused(t);
        return true;
    }
    if (!judged)
        return false;
    bool whole = outlet_has_all(t);
    if (content_is_dropped(m)) {
        end_refused(t);
        return true;
    }
    if (whole)
        next_hop_answers(t);
    return whole;
}

/* ---- the turn
 * ----------------------------------------------------------------------------------------------------------- */

static void begin_message(struct trial *t)
{
    struct message *m = &t->message;
    t->visit.message = m;
    m->number = ++t->visit.messages;
    m->serial = ++t->world->worker.serial;
    m->started_us = loop_micros(t->world->worker.loop);
    m->data_when = t->world->data_when;
    m->passed = t->visit.passed;
}

static void begin_rcpt(struct trial *t)
{
    t->rcpt = t->message.nrcpts;
    *message_rcpt(&t->message) = t->parsed[t->said++];
    t->message.named++;
    ask(t, FILTER_RCPT);
}

/* Asks the stage of the step at hand. False: there is none to ask, the next step is at hand. */
static bool begin_step(struct trial *t)
{
    const struct try_who *who = t->who;
    switch (t->step) {
    case TRIAL_CONNECT: ask(t, FILTER_CONNECT); return true;
    case TRIAL_TLS:
        if (!who->tls.len)
            return false;
        t->client.secure = CLIENT_TLS;
        t->client.tls = who->tls_facts;
        ask(t, FILTER_TLS);
        return true;
    case TRIAL_HELO: ask(t, FILTER_HELO); return true;
    case TRIAL_AUTH:
        if (!who->authenticated)
            return false;
        client_login(&t->client, who->user, who->method);
        ask(t, FILTER_AUTH);
        return true;
    case TRIAL_MAIL:
        begin_message(t);
        ask(t, FILTER_MAIL);
        return true;
    case TRIAL_RCPT: begin_rcpt(t); return true;
    case TRIAL_DATA: ask(t, FILTER_DATA); return true;
    default: never("a step that asks no filter");
    }
}

/* The stage has been asked: its verdict is applied, the next step is at hand. */
static void end_step(struct trial *t, bool asked)
{
    const struct verdict *v = &t->visit.run.verdict;
    int step = (int)t->step;
    t->step = (int)t->step + 1;
    if (!asked)
        return;
    if (step == TRIAL_RCPT) {
        rcpt_passed(t);
        return;
    }
    if (is_refused(t))
        return;
    if (step == TRIAL_HELO) {
        text_set(&t->client.helo, t->who->helo);
        t->visit.esmtp = !t->who->says_helo;
    }
    if (v->kind == VERDICT_DISCARD) {
        t->message.fate = MESSAGE_DISCARDED;
        visit_note(&t->visit);
    }
    if (step == TRIAL_DATA)
        begin_content(t);
}

static void turn(struct task *task)
{
    struct trial *t = holder_of(task, struct trial, task);
    bool more = true;
    while (more && t->step != TRIAL_OVER) {
        if (t->step == TRIAL_CONTENT) {
            more = run_content(t);
        } else if (t->step == TRIAL_JUDGE) {
            more = run_judge(t);
        } else {
            bool asked = t->visit.run.active || begin_step(t);
            more = !asked || visit_turn(&t->visit);
            if (more)
                end_step(t, asked);
        }
    }
    if (t->step == TRIAL_OVER)
        loop_stop(t->world->worker.loop);
    alarm_set(&t->alarm, task, t->step == TRIAL_OVER || !t->visit.run.active ? 0 : visit_clock(&t->visit));
}

/* ---- one message
 * -------------------------------------------------------------------------------------------------------- */

static bool take_params(struct trial *t, char *error, size_t room)
{
    struct message *m = &t->message;
    const struct try_who *who = t->who;
    struct capabilities all = {.has = ~0u};
    struct str word = STR("");
    if (path_from_address(who->from, PATH_REVERSE, &m->arena, &m->from)) {
        snprintf(error, room, "\"%.*s\" is no sender address", STR_ARGS(who->from));
        return false;
    }
    if (params_parse_mail(who->mail_params, SYNTAX_LENIENT, all, &m->arena, &m->params, &word)) {
        snprintf(error, room, "\"%.*s\" are no parameters of MAIL", STR_ARGS(who->mail_params));
        return false;
    }
    t->parsed = arena_alloc(&m->arena, (who->nrcpts + 1) * sizeof *t->parsed);
    for (size_t i = 0; i < who->nrcpts; i++) {
        struct rcpt *r = &t->parsed[i];
        if (path_from_address(who->rcpts[i].address, PATH_FORWARD, &m->arena, &r->path)) {
            snprintf(error, room, "\"%.*s\" is no recipient address", STR_ARGS(who->rcpts[i].address));
            return false;
        }
        if (params_parse_rcpt(who->rcpts[i].params, SYNTAX_LENIENT, all, &m->arena, &r->params, &word)) {
            snprintf(error, room, "\"%.*s\" are no parameters of RCPT", STR_ARGS(who->rcpts[i].params));
            return false;
        }
    }
    return true;
}

static void start_visit(struct trial *t)
{
    struct visit *v = &t->visit;
    struct try_world *w = t->world;
    client_start(&t->client);
    client_set_ip(&t->client, t->who->ip, t->who->port);
    client_set_local(&t->client, t->who->server_ip.at ? t->who->server_ip : STR(""), t->who->server_port);
    if (t->who->rdns != RDNS_NONE)
        rdns_set(&t->client.rdns, t->who->rdns, t->who->rdns_name);
    v->serial = ++w->worker.serial;
    snprintf(v->id, sizeof v->id, "try%09u", (unsigned)(v->serial % 1000000000));
    v->filters = &w->filters;
    v->conf = &w->conf;
    v->client = &t->client;
    v->outlet = &t->outlet;
    v->task = &t->task;
    v->life = &t->life;
    v->scratch = &t->scratch;
    v->started_wall_us = loop_wall(w->worker.loop);
    v->trace = &t->record.trace;
    outlet_start(t);
}

static void end_visit(struct trial *t)
{
    struct message *m = &t->message;
    static const enum transaction_end ends[FATES] = {END_FORWARDED, END_REJECTED,    END_DEFERRED, END_REJECTED,
                                                     END_DISCARDED, END_QUARANTINED, END_DEFERRED};
    visit_stop(&t->visit, CANCEL_CLIENT_GONE);
    if (t->visit.message) {
        m->end = ends[t->fate];
        m->end_reply = t->reply;
        visit_reset(&t->visit);
    }
    t->visit.message = NULL;
    visit_end(&t->visit);
    alarm_stop(&t->alarm);
    task_forget(&t->task);
    if (!trial_leaves(t))
        pipe_clear(&t->out);
}

bool trial_run(struct trial *t, struct try_world *w, const struct try_who *who, struct str content, bool raw,
               char *error, size_t room)
{
    *t = (struct trial){.world = w, .who = who, .content = content, .raw = raw, .has_content = content.at};
    record_start(&t->record, &t->visit, loop_micros(w->worker.loop));
    headers_start(&t->message.headers, &t->message.arena);
    start_visit(t);
    if (!take_params(t, error, room))
        return false;
    task_start(&t->task, w->worker.loop, turn);
    uint64_t from = loop_micros(w->worker.loop);
    task_wake(&t->task);
    loop_run(w->worker.loop);
    t->took = loop_micros(w->worker.loop) - from;
    end_visit(t);
    return true;
}

void trial_free(struct trial *t)
{
    client_end(&t->client);
    flow_free(&t->message.flow);
    outgoing_clear(&t->outgoing);
    pipe_clear(&t->out);
    record_free(&t->record);
    arena_reset(&t->message.arena);
    arena_reset(&t->life);
    arena_reset(&t->scratch);
}
