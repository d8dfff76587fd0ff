/* events.c - what each packet of an MTA means for the visit, and what is answered once the filters have had their word.
 *
 * Never: 'a' at RCPT or at the end (it would accept more than that), 's' but to a body, '4' at all, for Postfix then
 * loses the message (tests/interop/milter/table.txt). */
#include "milter/milter.h"
#include "mail/maillog.h"
#include "base/log.h"

static struct message *message_of(const struct milter *m)
{
    return m->visit.message;
}

/* ---- a message ---- */

static void message_begin(struct milter *m)
{
    struct message *message = &m->message;
    *message =
        (struct message){.number = ++m->visit.messages, .serial = ++m->worker->mail->serial, .arena.first = 2048};
    message->started_us = loop_micros(m->worker->mail->loop);
    message->data_when = milter_say(m->conf.chain);
    message->passed = m->visit.passed;
    headers_start(&message->headers, &message->arena);
    m->visit.message = message;
    m->heard = NULL;
    m->heard_end = &m->heard;
    m->fields = 0;
    m->head_octets = 0;
    m->head_ended = m->data_refused = false;
    m->was = NULL;
    m->edit = EDIT_NOT_BEGUN;
    m->planned = NULL;
}

void milter_message_end(struct milter *m, enum transaction_end end)
{
    struct message *message = message_of(m);
    if (!message)
        return;
    struct str id = milter_macro(m, MACRO_I);
    if (message->end == END_NONE)
        message->end = end;
    visit_stop(&m->visit, CANCEL_CLIENT_GONE);
    message->queue_id = id.len ? arena_str(&message->arena, id) : STR_NONE;
    visit_reset(&m->visit);
    maillog_message(&m->visit);
    visit_forget_waits(&m->visit);
    flow_free(&message->flow);
    pipe_clear(&m->said_body);
    arena_reset(&message->arena);
    m->visit.message = NULL;
    m->place = AT_CLIENT;
    m->progress_at = m->paused_at = 0;
}

/* By a limit of ours: told at the next packet of the message that is answered. */
static void refuse_message(struct milter *m, enum reply_name name)
{
    struct reply r = reply_named(name);
    message_refuse(&m->message, BY_LIMIT, &r);
}

bool milter_nobody_is_left(const struct message *message)
{
    bool left_out = false;
    for (uint32_t i = 0; i < message->nrcpts; i++) {
        const struct rcpt *r = &message->rcpts[i];
        if (rcpt_stands(r))
            return false;
        left_out |= r->fate == FATE_DISCARDED || (!rcpt_is_added(r) && r->fate == FATE_DROPPED);
    }
    return left_out;
}

static bool is_edited(const struct message *message)
{
    return message->edits || message->queued || message->discarded;
}

/* ---- answers ---- */

static void answer(struct milter *m, char kind)
{
    milter_say_kind(m, kind);
}

static void end_refused(struct milter *m)
{
    struct message *message = message_of(m);
    message->end_reply = message->refusal;
    milter_say_reply(m, &message->refusal);
    milter_message_end(m, transaction_end_of(&message->refusal));
}

static void end_discarded(struct milter *m)
{
    struct message *message = message_of(m);
    message->end_reply = reply_named(REPLY_OK);
    answer(m, 'd');
    milter_message_end(m, END_DISCARDED);
}

/* The message is to be let through from here on, unseen by us. */
static void end_passed(struct milter *m)
{
    message_of(m)->end_reply = reply_named(REPLY_OK);
    answer(m, 'a');
    milter_message_end(m, END_FORWARDED);
}

/* To a packet of a message but R and E. A verdict that is not awaited here is told at the next packet that is. */
static void answer_message(struct milter *m, char kind, char good)
{
    struct message *message = message_of(m);
    if (!milter_is_awaited(m, kind))
        return;
    if (message->refusal.code)
        end_refused(m);
    else if (message->fate == MESSAGE_DISCARDED || (kind != 'M' && milter_nobody_is_left(message)))
        end_discarded(m);
    else if (message->passed && !is_edited(message) && !message->quarantined)
        end_passed(m);
    else
        answer(m, good);
}

static bool is_refusal(const struct verdict *v)
{
    return v->kind == VERDICT_REJECT || v->kind == VERDICT_DEFER || v->kind == VERDICT_DROP;
}

/* ---- C, H ---- */

static void ask(struct milter *m, enum filter_stage stage)
{
    struct subject subject = {
        .helo = m->name, .ehlo = m->visit.esmtp, .rcpt = m->message.nrcpts ? m->message.nrcpts - 1 : 0};
    visit_ask(&m->visit, stage, subject);
}

static void keep_refusal(struct milter *m)
{
    if (!m->refusal.code)
        m->refusal = reply_keep(&m->life, &m->visit.run.verdict.reply);
}

static void take_connect(struct milter *m, const struct milter_packet *p)
{
    milter_client(m, p);
    m->place = AT_CLIENT;
    ask(m, FILTER_CONNECT);
}

static bool connected(struct milter *m)
{
    const struct verdict *v = &m->visit.run.verdict;
    if (is_refusal(v))
        keep_refusal(m);
    if (!milter_is_awaited(m, 'C'))
        return true;
    if (m->refusal.code)
        milter_say_reply(m, &m->refusal);
    else
        answer(m, m->visit.passed ? 'a' : 'c');
    return true;
}

static void take_helo(struct milter *m, const struct milter_packet *p)
{
    struct str by = milter_macro(m, MACRO_R);
    milter_message_end(m, END_ABORTED);
    m->name = arena_str(&m->scratch, p->name);
    m->visit.esmtp = !by.len || str_starts_nocase(by, STR("ESMTP"));
    ask(m, milter_client_tls(m) ? FILTER_TLS : FILTER_HELO);
}

static bool helo_done(struct milter *m)
{
    const struct verdict *v = &m->visit.run.verdict;
    if (m->visit.run.stage == FILTER_TLS) {
        if (is_refusal(v))
            keep_refusal(m);
        ask(m, FILTER_HELO);
        return milter_go_on(m);
    }
    bool refused = is_refusal(v);
    if (!refused)
        text_set(&m->client.helo, m->name);
    if (!milter_is_awaited(m, 'H'))
        return true;
    if (refused)
        milter_say_reply(m, &v->reply);
    else if (m->refusal.code && reply_class(&m->refusal) == 5)
        milter_say_reply(m, &m->refusal);
    else
        answer(m, m->visit.passed ? 'a' : 'c');
    return true;
}

/* ---- M, R, T ---- */

static const struct capabilities everything = {.has = UINT32_MAX};

static struct str params_of(struct str rest, struct arena *arena)
{
    struct str text = STR(""), one;
    while (milter_next(&rest, &one))
        text = text.len ? arena_print(arena, "%.*s %.*s", STR_ARGS(text), STR_ARGS(one)) : arena_str(arena, one);
    return text;
}

/* What is no path and goes to nobody is the MTA's affair: filters see its octets. */
static struct path path_of(struct str raw, enum path_kind kind, struct arena *arena)
{
    struct path path;
    struct str rest = raw;
    if (path_parse(&rest, kind, SYNTAX_LENIENT, arena, &path) == 0 && !rest.len)
        return path;
    struct str kept = arena_str(arena, raw);
    return (struct path){.raw = kept, .said = kept, .address = STR(""), .local = STR(""), .domain = STR("")};
}

static bool is_over_memory(const struct milter *m)
{
    return block_total() + arena_total() > m->conf.limits.memory;
}

static void take_mail(struct milter *m, const struct milter_packet *p)
{
    struct message *message = &m->message;
    struct str word;
    milter_message_end(m, END_ABORTED);
    if (m->macros_of != 'M')
        milter_macros_forget(m, MACRO_AUTH_TYPE);
    message_begin(m);
    m->place = AT_MAIL;
    message->from = path_of(p->name, PATH_REVERSE, &message->arena);
    struct str params = params_of(p->rest, &message->arena);
    if (params_parse_mail(params, SYNTAX_LENIENT, everything, &message->arena, &message->params, &word))
        message->params = (struct params){.text = params};
    m->from = message->from;
    m->from_params = message->params.text;
    if (is_over_memory(m))
        refuse_message(m, REPLY_MEMORY);
    ask(m, milter_client_auth(m) ? FILTER_AUTH : FILTER_MAIL);
}

static void apply_refusal(struct milter *m)
{
    struct message *message = message_of(m);
    visit_note(&m->visit);
    message_refuse(message, BY_FILTER, &m->visit.run.verdict.reply);
}

/* MAIL or DATA: of the whole message. */
static void apply(struct milter *m)
{
    const struct verdict *v = &m->visit.run.verdict;
    if (v->kind == VERDICT_CONTINUE)
        return;
    visit_note(&m->visit);
    if (is_refusal(v))
        apply_refusal(m);
    else if (v->kind == VERDICT_DISCARD)
        m->message.fate = MESSAGE_DISCARDED;
}

static bool mail_done(struct milter *m)
{
    if (m->visit.run.stage == FILTER_AUTH) {
        if (is_refusal(&m->visit.run.verdict)) {
            apply_refusal(m);
            client_logout(&m->client); /* filters are asked again when it comes with another message */
        } else if (m->refusal.code) {
            m->message.refusal = reply_keep(&m->message.arena, &m->refusal);
        }
        ask(m, FILTER_MAIL);
        return milter_go_on(m);
    }
    if (m->crowded && m->worker->n > m->listen->connections && milter_is_awaited(m, 'M')) {
        m->message.refused_by = BY_LIMIT;
        m->message.end_reply = reply_named(REPLY_MEMORY);
        answer(m, 't');
        milter_message_end(m, END_DEFERRED);
        return true;
    }
    if (m->refusal.code && !m->message.refusal.code)
        m->message.refusal = reply_keep(&m->message.arena, &m->refusal);
    apply(m);
    answer_message(m, 'M', 'c');
    return true;
}

/* DATA was refused, by a filter or, before it, by a limit that could not be told. That ends the reply, and not the
 * message: an MTA may name more recipients and say DATA again. Only what a filter said of DATA is forgotten then. */
static bool data_done(struct milter *m)
{
    struct message *message = message_of(m);
    bool anew = !message->refusal.code;
    apply(m);
    if (!message->refusal.code || !milter_is_awaited(m, 'T')) {
        answer_message(m, 'T', 'c');
        return true;
    }
    message->end_reply = message->refusal;
    m->data_refused = anew;
    m->place = AT_RCPT;
    milter_say_reply(m, &message->refusal);
    return true;
}

/* The message goes on behind a refused DATA. */
static void forget_refused_data(struct milter *m)
{
    if (!m->data_refused)
        return;
    m->data_refused = false;
    m->message.fate = MESSAGE_FLOWS;
    m->message.refusal = m->message.end_reply = (struct reply){0};
}

static void take_rcpt(struct milter *m, const struct milter_packet *p)
{
    struct message *message = message_of(m);
    struct arena *arena = &message->arena;
    struct heard *heard;
    struct str word;
    m->place = AT_RCPT;
    forget_refused_data(m);
    bool many = message->named >= m->conf.limits.recipients;
    if (many || milter_memory_is_short(m)) {
        enum reply_name name = many ? REPLY_TOO_MANY_RCPTS : REPLY_MEMORY;
        if (!milter_is_awaited(m, 'R'))
            refuse_message(m, name);
        m->busy = 0;
        struct reply r = reply_named(name);
        if (milter_is_awaited(m, 'R'))
            milter_say_reply(m, &r);
        return;
    }
    struct rcpt *r = message_rcpt(message);
    struct str params = params_of(p->rest, arena);
    *r = (struct rcpt){.path = path_of(p->name, PATH_FORWARD, arena), .fate = FATE_HELD};
    if (params_parse_rcpt(params, SYNTAX_LENIENT, everything, arena, &r->params, &word))
        r->params = (struct params){.text = params};
    heard = arena_alloc(arena, sizeof *heard);
    *heard = (struct heard){.rcpt = message->nrcpts - 1, .raw = arena_str(arena, p->name), .path = r->path.raw};
    *m->heard_end = heard;
    m->heard_end = &heard->next;
    message->named++;
    ask(m, FILTER_RCPT);
}

static bool rcpt_done(struct milter *m)
{
    const struct verdict *v = &m->visit.run.verdict;
    struct message *message = message_of(m);
    struct rcpt *r = &message->rcpts[m->visit.subject.rcpt];
    if (is_refusal(v)) {
        r->fate = FATE_REFUSED;
        r->by = BY_FILTER;
        r->filter = v->by;
        r->why = v->why;
        r->reply = reply_keep(&message->arena, &v->reply);
        maillog_rcpt(&m->visit, r);
    } else {
        if (v->kind == VERDICT_DISCARD)
            r->fate = FATE_DISCARDED;
        r->reply = reply_named(REPLY_RCPT_OK);
        if (r->fate != FATE_DISCARDED)
            r->fate = FATE_ACCEPTED;
        message->accepted += r->fate == FATE_ACCEPTED;
        message->discarded += r->fate == FATE_DISCARDED;
    }
    if (!milter_is_awaited(m, 'R'))
        return true;
    if (message->refusal.code)
        milter_say_reply(m, &message->refusal);
    else if (r->fate == FATE_REFUSED)
        milter_say_reply(m, &r->reply);
    else
        answer(m, 'c');
    return true;
}

/* ---- content ---- */

/* True: it has been told to the filters as far as they want it now. */
static bool content_goes_on(struct milter *m)
{
    switch (m->busy) {
    case 'N':
        if (!milter_head_is_done(m))
            return false;
        answer_message(m, 'N', 'c');
        return true;
    case 'B':
        if (!milter_body_is_taken(m))
            return false;
        bool skip = (m->agreed.protocol & MILTER_SKIP) && !content_is_dropped(&m->message) && !milter_wants_body(m);
        answer_message(m, 'B', skip ? 's' : 'c');
        return true;
    default: never("a packet that is no content");
    }
}

/* From the first edit on PROGRESS would part the body in two, which Postfix refuses. */
static void say_progress(struct milter *m)
{
    uint64_t now = loop_now(m->worker->mail->loop);
    if (!m->visit.run.call || m->edit != EDIT_NOT_BEGUN) {
        m->progress_at = 0;
    } else if (!m->progress_at) {
        m->progress_at = now + m->listen->progress;
    } else if (now >= m->progress_at && pipe_is_empty(&m->stream->out)) {
        answer(m, 'p');
        m->progress_at = now + m->listen->progress;
    }
}

static bool end_goes_on(struct milter *m)
{
    struct message *message = message_of(m);
    if (!milter_is_judged(m)) {
        say_progress(m);
        return false;
    }
    if (!content_is_dropped(message) && milter_nobody_is_left(message))
        message->fate = MESSAGE_DISCARDED;
    if (!content_is_dropped(message) && !milter_edits(m))
        return false;
    if (message->refusal.code) {
        end_refused(m);
    } else if (message->fate == MESSAGE_DISCARDED) {
        end_discarded(m);
    } else {
        message->end_reply = reply_named(REPLY_OK);
        answer(m, 'c');
        milter_message_end(m, message->quarantined ? END_QUARANTINED : END_FORWARDED);
    }
    return true;
}

bool milter_go_on(struct milter *m)
{
    if (m->busy == 'E')
        return end_goes_on(m);
    if (m->busy == 'N' || m->busy == 'B')
        return content_goes_on(m);
    if (!visit_turn(&m->visit))
        return false;
    switch (m->busy) {
    case 'C': return connected(m);
    case 'H': return helo_done(m);
    case 'M': return mail_done(m);
    case 'R': return rcpt_done(m);
    case 'T': return data_done(m);
    default: never("a packet that no filter is asked about");
    }
}

/* ---- packets ---- */

/* Which packets may come behind which. Those that end a message may come always. */
static bool is_legal(const struct milter *m, char kind)
{
    enum place at = m->place;
    switch (kind) {
    case 'O': return at == AT_START;
    case 'C': return at == AT_OPTION;
    case 'H':
    case 'M': return at >= AT_CLIENT;
    case 'R': return at == AT_MAIL || at == AT_RCPT;
    case 'T': return at == AT_MAIL || at == AT_RCPT;
    case 'L': return at >= AT_MAIL && at <= AT_FIELDS;
    case 'N': return at >= AT_MAIL && at <= AT_FIELDS;
    case 'B': return at >= AT_MAIL && at <= AT_BODY;
    case 'E': return at >= AT_MAIL && at <= AT_BODY;
    case 'K':
    case 'U': return at >= AT_OPTION;
    case 'D': return at >= AT_OPTION;
    default: return true;
    }
}

static void take_content(struct milter *m, const struct milter_packet *p)
{
    switch (p->kind) {
    case 'L':
        m->place = AT_FIELDS;
        m->busy = 0;
        milter_field(m, p);
        if (milter_is_awaited(m, 'L'))
            answer(m, 'c');
        return;
    case 'N':
        m->place = AT_EOH;
        milter_end_head(m);
        return;
    case 'B':
        m->place = AT_BODY;
        milter_body(m, p->rest);
        return;
    default:
        m->place = AT_END;
        if (p->rest.len)
            milter_body(m, p->rest);
        milter_content_end(m);
        return;
    }
}

static void take_end(struct milter *m, char kind)
{
    m->busy = 0;
    visit_stop(&m->visit, CANCEL_CLIENT_GONE);
    milter_message_end(m, END_ABORTED);
    if (kind == 'A')
        return;
    if (kind == 'Q') {
        milter_close(m, "quit", false);
        return;
    }
    milter_end_visit(m);
    milter_macros_forget(m, (enum macro)0);
    milter_begin_visit(m);
    m->place = AT_OPTION;
}

void milter_take(struct milter *m, const struct milter_packet *p)
{
    if (!is_legal(m, p->kind)) {
        milter_fault(m, arena_print(&m->scratch, "a packet of kind '%c' has no place there", p->kind));
        return;
    }
    if (p->kind == 'D') {
        milter_macros_take(m, p);
        return;
    }
    m->busy = p->kind;
    switch (p->kind) {
    case 'O':
        m->busy = 0;
        if (milter_negotiate(m, &p->option))
            m->place = AT_OPTION;
        break;
    case 'C': take_connect(m, p); break;
    case 'H': take_helo(m, p); break;
    case 'M': take_mail(m, p); break;
    case 'R': take_rcpt(m, p); break;
    case 'T':
        m->place = AT_DATA;
        forget_refused_data(m);
        ask(m, FILTER_DATA);
        break;
    case 'L':
    case 'N':
    case 'B':
    case 'E': take_content(m, p); break;
    case 'U':
        m->busy = 0;
        if (milter_is_awaited(m, 'U'))
            answer(m, 'c');
        break;
    default: take_end(m, p->kind); break;
    }
    m->macros_of = 0;
}
