/* verbs.c - what each command may do, and does: CHECK before the filters, and behind them what it changes (RFC 5321 4.1, 4.3).
 *
 * The only place where state changes by what the client says. Every line but a RCPT that passed CHECK, and a DATA that
 * may join, waits here until all rcpts have been told (the barrier). */
#include "smtp/front/proxied.h"
#include "smtp/front/content.h"
#include "smtp/back/pool.h"
#include "mail/maillog.h"
#include "smtp/front/session.h"
#include "wire/extension.h"

enum trait { PLAIN = 0, GROUP = 1, LAST = 2, JUNK = 4 };
#define IN(state) (1u << STATE_##state)
#define ANYWHERE  (IN(HELLO) | IN(READY) | IN(MAIL) | IN(RCPT))
#define NOWHERE   0u

static const struct verb_row {
    unsigned legal;
    unsigned traits;
} rows[VERB_COUNT] = {
#define VERB(name, legal, traits) [VERB_##name] = {legal, traits},
#include "wire/verbs.def"
#undef VERB
};

static bool verb_is_last(enum verb verb)
{
    return rows[verb].traits & LAST;
}

enum next verb_bye(struct session *s, enum close_why why, enum reply_name name)
{
    struct reply r = reply_named(name);
    return session_end(s, why, &r);
}

/* The reply to the line in hand. Behind a LAST verb, and behind every verb of a client that was offered no PIPELINING,
 * nothing may have been sent: what follows could be read two ways (RFC 2920 3.1). False: something was, the session ends. */
static bool answered(struct session *s, const struct reply *r)
{
    bool last = verb_is_last(s->command.verb) || !s->visit.esmtp;
    if (last && !stream_in_is_empty(s->stream)) {
        verb_bye(s, WHY_PIPELINING, REPLY_SYNCHRONIZATION);
        return false;
    }
    if (reply_class(r) == 5) /* a 4yz is no fault of the client: 452 to many rcpts must not cost those that were accepted */
        s->visit.errors++;
    session_count_refusal(s, s->command.verb, r);
    session_reply(s, r);
    session_go(s, STEP_LINE);
    return true;
}

enum next verb_answer(struct session *s, const struct reply *r)
{
    answered(s, r);
    return NEXT_MORE;
}

static enum next answer_named(struct session *s, enum reply_name name)
{
    struct reply r = reply_named(name);
    return verb_answer(s, &r);
}

static enum next answer_word(struct session *s, enum reply_name name, const char *word)
{
    struct reply r = reply_print(&s->line, name, word);
    return verb_answer(s, &r);
}

/* ---- CHECK ------------------------------------------------------------------------------------------------------- */

static enum next check_hello(struct session *s)
{
    struct str name;
    if (!helo_take(s->command.rest, s->listen->syntax, &s->line, &name)) {
        if (!s->command.rest.len)
            return answer_word(s, REPLY_SYNTAX, s->command.verb == VERB_EHLO ? "EHLO hostname" : "HELO hostname");
        return answer_named(s, REPLY_HELO_BAD);
    }
    s->command.rest = name;
    return session_hook(s, FILTER_HELO);
}

/* What parameters may be said: also by who has said HELO, or nothing yet, and uses what everybody has. */
static bool may_say_parameters(const struct session *s)
{
    return s->visit.esmtp || s->listen->syntax == SYNTAX_LENIENT;
}

/* A UTF-8 local part without the word for it is as old as the word; what it means, its server knows. A domain is a name
 * for all. */
static bool needs_utf8(const struct session *s, const struct path *path)
{
    return path->utf8 && (s->listen->syntax == SYNTAX_STRICT || !str_is_ascii(path->domain));
}

/* What stands behind "FROM:" or "TO:". RFC 5321 3.3 allows no space there; clients of all kinds put one, and everybody
 * takes it. */
static struct str behind_colon(struct str rest, size_t colon)
{
    return str_trim(str_part(rest, colon, rest.len));
}

/* What is parsed lies in an arena that becomes the transaction's. */
static enum next begin_mail(struct session *s, struct str rest, struct arena *arena)
{
    struct path path;
    struct params params;
    struct str word = STR("");
    enum syntax syntax = s->listen->syntax;
    int why = path_parse(&rest, PATH_REVERSE, syntax, arena, &path);
    if (why)
        return answer_named(s, (enum reply_name)why);
    struct capabilities can = may_say_parameters(s) ? session_offer(s) : (struct capabilities){0};
    why = params_parse_mail(rest, syntax, can, arena, &params, &word);
    if (why)
        return answer_word(s, (enum reply_name)why, word.at);
    if (needs_utf8(s, &path) && !params.smtputf8)
        return answer_named(s, REPLY_UTF8_REFUSED);
    if (can.size && params.size > can.size)
        return answer_word(s, REPLY_TOO_BIG, arena_print(&s->line, "%llu", (unsigned long long)can.size).at);
    struct transaction *tx = transaction_start(s, arena);
    tx->message.from = path;
    tx->message.params = params;
    if (s->listen->backend->identity == IDENTITY_XCLIENT || s->listen->backend->identity == IDENTITY_XFORWARD)
        visit_look_up(&s->visit); /* its answer is there, mostly, when the backend is to hear it */
    return session_hook(s, FILTER_MAIL);
}

static enum next check_mail(struct session *s)
{
    struct str rest = s->command.rest;
    if (s->listen->require_tls && !session_is_secure(s))
        return answer_named(s, REPLY_NEED_TLS);
    if (s->listen->auth == AUTH_REQUIRE && !session_is_authenticated(s))
        return answer_named(s, REPLY_AUTH_REQUIRED);
    if (!s->listen->route && delivery_login_is_lost(&s->delivery))
        return verb_bye(s, WHY_AUTH_LOST, REPLY_AUTH_LOST);
    if (!str_starts_nocase(rest, STR("FROM:")))
        return answer_word(s, REPLY_SYNTAX, "MAIL FROM:<address>");
    rest = behind_colon(rest, 5);
    if (s->listen->visit.limits.messages && s->visit.messages >= s->listen->visit.limits.messages)
        return verb_bye(s, WHY_JUNK, REPLY_TOO_MANY_TRANSACTIONS);
    if (block_total() + arena_total() > s->listen->visit.limits.memory)
        return answer_named(s, REPLY_MEMORY);
    struct arena arena = {.first = 2048};
    enum next next = begin_mail(s, rest, &arena);
    arena_reset(&arena);
    return next;
}

/* For the log: what stands in the angle brackets, or behind the colon. */
static struct str rcpt_as_typed(struct str rest)
{
    struct str typed = behind_colon(rest, 3);
    if (typed.len && typed.at[0] == '<') {
        typed = str_part(typed, 1, typed.len);
        typed = str_cut(&typed, '>');
    }
    return typed;
}

/* Told behind the replies to those before it. It is looked at once: each look takes memory. */
static enum next tell_refused(struct session *s)
{
    if (!session_settled(s))
        return NEXT_WAIT;
    s->tx->commands++; /* its words are in the transaction's memory: refused ones count too */
    struct rcpt r = {.path = {.address = rcpt_as_typed(s->command.rest)},
                     .reply = s->rcpt_answer,
                     .by = reply_class(&s->rcpt_answer) == 4 ? BY_LIMIT : BY_SYNTAX};
    maillog_rcpt(&s->visit, &r);
    return verb_answer(s, &s->rcpt_answer);
}

static enum next refuse_rcpt(struct session *s, enum reply_name name, struct str word)
{
    s->rcpt_answer = reply_print(&s->line, name, word.at ? word.at : "");
    return tell_refused(s);
}

static enum next check_rcpt(struct session *s)
{
    struct transaction *tx = s->tx;
    struct str rest = s->command.rest, word = STR("");
    const struct limits *l = &s->listen->visit.limits;
    if (s->rcpt_answer.code)
        return tell_refused(s);
    if (!str_starts_nocase(rest, STR("TO:")))
        return refuse_rcpt(s, REPLY_SYNTAX, STR("RCPT TO:<address>"));
    if (tx->commands >= l->rcpt_commands) {
        if (!session_settled(s))
            return NEXT_WAIT;
        return verb_bye(s, WHY_COMMANDS, REPLY_TOO_MANY_COMMANDS);
    }
    rest = behind_colon(rest, 3);
    struct path path;
    struct params params;
    int why = path_parse(&rest, PATH_FORWARD, s->listen->syntax, &tx->message.arena, &path);
    if (why)
        return refuse_rcpt(s, (enum reply_name)why, word);
    struct capabilities can = session_offer(s);
    why = params_parse_rcpt(rest, s->listen->syntax, may_say_parameters(s) ? can : (struct capabilities){0}, &tx->message.arena,
                            &params, &word);
    if (why)
        return refuse_rcpt(s, (enum reply_name)why, word);
    if (needs_utf8(s, &path) && !tx->message.params.smtputf8)
        return refuse_rcpt(s, REPLY_UTF8_REFUSED, word);
    if (can.rcpt_max && tx->message.accepted + tx->message.discarded + (tx->message.named - tx->told_named) >= can.rcpt_max)
        return refuse_rcpt(s, REPLY_TOO_MANY_RCPTS, word);
    tx->commands++;
    struct rcpt *r = message_rcpt(&tx->message);
    *r = (struct rcpt){.path = path, .params = params, .fate = FATE_HELD};
    tx->message.named++;
    return session_hook(s, FILTER_RCPT);
}

/* Whether DATA may be said together with the RCPTs it follows, as far as the chain goes. */
static bool data_may_join(const struct session *s)
{
    const struct transaction *tx = s->tx;
    return !session_settled(s) && tx->message.data_when == WHEN_AT_DATA && !chain_has(s->listen->visit.chain, FILTER_DATA);
}

static enum next data_refused(struct session *s, const struct reply *r)
{
    s->tx->message.data_refused = reply_keep(&s->tx->message.arena, r);
    return verb_answer(s, r);
}

static enum next data_go(struct session *s)
{
    struct transaction *tx = s->tx;
    if (tx->message.fate == MESSAGE_DISCARDED || message_is_empty(&tx->message)) {
        struct reply r = reply_named(REPLY_START_INPUT);
        flow_discard(&s->visit);
        if (answered(s, &r))
            content_begin(s, STATE_DATA);
        return NEXT_MORE;
    }
    if (tx->message.data_when == WHEN_AT_DATA) {
        session_go(s, STEP_BACKEND);
        return NEXT_MORE;
    }
    if (delivery_failure(&s->delivery))
        return data_refused(s, delivery_failure(&s->delivery));
    struct reply r = reply_named(REPLY_START_INPUT);
    if (answered(s, &r))
        content_begin(s, STATE_DATA);
    return NEXT_MORE;
}

static enum next check_data(struct session *s)
{
    struct transaction *tx = s->tx;
    if (s->command.rest.len)
        return session_settled(s) ? answer_word(s, REPLY_SYNTAX, "DATA") : NEXT_WAIT;
    if (tx->message.params.body == BODY_BINARYMIME) /* RFC 3030 3 */
        return session_settled(s) ? answer_word(s, REPLY_SEQUENCE, "BODY=BINARYMIME needs BDAT") : NEXT_WAIT;
    if (data_may_join(s) && delivery_join_data(&s->delivery)) {
        session_go(s, STEP_BACKEND);
        return NEXT_MORE;
    }
    if (!session_settled(s))
        return NEXT_WAIT;
    if (!tx->message.named)
        return answer_word(s, REPLY_SEQUENCE, "need RCPT");
    if (delivery_is_refused(&s->delivery))
        return answer_named(s, REPLY_NO_RCPTS);
    return session_hook(s, FILTER_DATA);
}

static enum next check_starttls(struct session *s)
{
    if (s->command.rest.len)
        return answer_word(s, REPLY_SYNTAX, "STARTTLS");
    if (session_is_secure(s))
        return answer_named(s, REPLY_TLS_ACTIVE);
    if (!s->listen->tls)
        return answer_named(s, REPLY_TLS_NOT_OFFERED);
    struct reply r = reply_named(REPLY_READY_TLS);
    if (!answered(s, &r))
        return NEXT_MORE;
    /* RFC 3207 4.2: what was learned in the clear is forgotten. */
    transaction_reset(s, END_ABORTED);
    proxied_restore(s);
    s->said_hello = s->visit.esmtp = false;
    text_set(&s->visit.client->helo, STR_NONE);
    session_logout(s);
    auth_free(s);
    s->state = STATE_HELLO;
    delivery_close(&s->delivery);
    stream_tls_server(s->stream, s->listen->tls);
    s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.handshake;
    session_go(s, STEP_TLS);
    return NEXT_MORE;
}

static enum next check_xclient(struct session *s)
{
    if (!s->may_xclient)
        return answer_named(s, REPLY_PROXIED_REFUSED);
    if (!stream_in_is_empty(s->stream)) /* what follows would be said by one client and judged as another's */
        return verb_bye(s, WHY_PIPELINING, REPLY_SYNCHRONIZATION);
    return proxied_xclient(s);
}

static enum next check_xforward(struct session *s)
{
    if (!s->may_xforward)
        return answer_named(s, REPLY_PROXIED_REFUSED);
    struct reply r = proxied_xforward(s);
    return verb_answer(s, &r);
}

static enum next reset_envelope(struct session *s, const struct reply *r)
{
    transaction_reset(s, END_ABORTED);
    proxied_restore(s); /* XFORWARD whose MAIL was refused or never came */
    s->state = s->said_hello ? STATE_READY : STATE_HELLO;
    return verb_answer(s, r);
}

static const char *what_is_missing(const struct session *s)
{
    if (s->state == STATE_CHUNKS)
        return "content has begun with BDAT";
    switch (s->command.verb) {
    case VERB_MAIL: return s->state == STATE_HELLO ? "send EHLO or HELO first" : "nested MAIL command";
    case VERB_RCPT:
    case VERB_DATA: return s->state == STATE_HELLO ? "send EHLO or HELO first" : "need MAIL command";
    case VERB_AUTH:
    case VERB_STARTTLS: return s->state == STATE_HELLO ? "send EHLO first" : "not inside a transaction";
    case VERB_XCLIENT:
    case VERB_XFORWARD: return "not inside a transaction";
    default: return "not now";
    }
}

/* A connect or tls hook refused: only QUIT is served, after a deferral EHLO and HELO too. */
static bool is_shut_out(const struct session *s)
{
    enum verb v = s->command.verb;
    bool hello = v == VERB_EHLO || v == VERB_HELO;
    return s->connect_refusal.code && v != VERB_QUIT && !(hello && reply_class(&s->connect_refusal) == 4);
}

static enum next check_unknown(struct session *s)
{
    if (s->command.took != LINE_TAKEN) {
        /* A line that cannot be read is no place to look for pipelining: what is behind it is a line of its own. */
        struct reply r = reply_named(s->command.took == LINE_BAD ? REPLY_LINE_BAD : REPLY_LINE_TOO_LONG);
        return session_refuse(s, &r);
    }
    return answer_named(s, REPLY_UNKNOWN);
}

static enum next check_alone(struct session *s)
{
    struct reply r;
    switch (s->command.verb) {
    case VERB_EHLO:
    case VERB_HELO: return check_hello(s);
    case VERB_MAIL: return check_mail(s);
    case VERB_RSET:
        if (s->command.rest.len)
            return answer_word(s, REPLY_SYNTAX, "RSET");
        r = reply_named(REPLY_OK);
        return reset_envelope(s, &r);
    case VERB_NOOP: return answer_named(s, REPLY_OK);
    case VERB_QUIT:
        if (s->command.rest.len && s->listen->syntax == SYNTAX_STRICT)
            return answer_word(s, REPLY_SYNTAX, "QUIT");
        return verb_bye(s, WHY_QUIT, REPLY_BYE);
    case VERB_VRFY:
        if (!s->command.rest.len)
            return answer_word(s, REPLY_SYNTAX, "VRFY address");
        return answer_named(s, REPLY_VRFY);
    case VERB_HELP: return answer_named(s, REPLY_HELP);
    case VERB_STARTTLS: return check_starttls(s);
    case VERB_AUTH: return auth_check(s);
    case VERB_XCLIENT: return check_xclient(s);
    case VERB_XFORWARD: return check_xforward(s);
    case VERB_EXPN:
    case VERB_ETRN: return answer_named(s, REPLY_NOT_IMPLEMENTED);
    case VERB_NONE:
    case VERB_RCPT:
    case VERB_DATA:
    case VERB_BDAT:
    case VERB_COUNT: break; /* verb_check tells these apart. No default: the compiler names a verb that is missing */
    }
    never("a verb that waits at no barrier");
}

/* Legal in the state the session is in, or for all that Postfix says: EHLO may be left out, where no filter judges it,
 * and STARTTLS ends a transaction. */
static bool is_legal(const struct session *s, enum verb v)
{
    unsigned more = 0;
    if (s->listen->syntax == SYNTAX_LENIENT && v == VERB_MAIL && !chain_has(s->listen->visit.chain, FILTER_HELO))
        more = IN(HELLO);
    if (s->listen->syntax == SYNTAX_LENIENT && v == VERB_STARTTLS)
        more = ANYWHERE;
    return (rows[v].legal | more) & (1u << s->state);
}

enum next verb_check(struct session *s)
{
    enum verb v = s->command.verb;
    const struct verb_row *row = &rows[v];
    if (v == VERB_BDAT) /* first of all: whatever is wrong with it, its octets are no commands */
        return session_settled(s) ? chunk_check(s) : NEXT_WAIT;
    if (is_shut_out(s))
        return session_refuse(s, &s->connect_refusal);
    bool legal = is_legal(s, v);
    if (legal && row->traits & GROUP)
        return v == VERB_RCPT ? check_rcpt(s) : check_data(s);
    if (!session_settled(s))
        return NEXT_WAIT;
    if (v == VERB_NONE)
        return check_unknown(s);
    if (row->traits & JUNK)
        s->junk++;
    if (!legal && row->legal)
        return answer_word(s, REPLY_SEQUENCE, what_is_missing(s));
    return check_alone(s);
}

/* ---- behind the filters ------------------------------------------------------------------------------------------ */

static void keep_refusal(struct session *s, const struct verdict *v)
{
    s->connect_refusal = reply_keep(&s->arena, &v->reply);
}

static enum next connected(struct session *s, const struct verdict *v)
{
    if (v->kind == VERDICT_DROP)
        return session_end(s, WHY_FILTER, s->listen->implicit && s->stream->tls == STREAM_PLAIN ? NULL : &v->reply);
    if (v->kind != VERDICT_CONTINUE && !s->connect_refusal.code)
        keep_refusal(s, v);
    session_go(s, s->state == STATE_GREETING ? STEP_GREET : STEP_LINE);
    return NEXT_MORE;
}

static enum next say_hello(struct session *s)
{
    struct reply r = {.code = 250};
    bool esmtp = s->command.verb == VERB_EHLO;
    s->visit.esmtp = esmtp;
    s->said_hello = true;
    r.text = s->listen->visit.hostname;
    if (esmtp) {
        struct str lines = session_offer_text(s);
        r.text = arena_join(&s->line, 3, (struct str[]){s->listen->visit.hostname, lines.len ? STR("\n") : STR(""), lines});
    }
    s->state = STATE_READY;
    return verb_answer(s, &r);
}

static enum next helo_passed(struct session *s, const struct verdict *v)
{
    if (v->kind == VERDICT_DROP)
        return session_end(s, WHY_FILTER, &v->reply);
    if (v->kind != VERDICT_CONTINUE)
        return verb_answer(s, &v->reply); /* state and HELO name stay */
    transaction_reset(s, END_ABORTED);
    proxied_restore(s);
    struct str name = s->command.rest;
    if (!str_equal(name, str_of(s->visit.client->helo)))
        delivery_leave_bound(&s->delivery); /* to another name, by identity */
    text_set(&s->visit.client->helo, name);
    session_go(s, STEP_BACKEND);
    return NEXT_MORE;
}

static enum next mail_passed(struct session *s, const struct verdict *v)
{
    visit_note(&s->visit);
    switch (v->kind) {
    case VERDICT_DROP: return session_end(s, WHY_FILTER, &v->reply);
    case VERDICT_REJECT:
    case VERDICT_DEFER: {
        struct reply r = reply_keep(&s->line, &v->reply);
        s->tx->message.end_reply = v->reply;
        transaction_reset(s, reply_class(&r) == 5 ? END_REJECTED : END_DEFERRED);
        return verb_answer(s, &r);
    }
    case VERDICT_DISCARD: s->tx->message.fate = MESSAGE_DISCARDED; break;
    default: break;
    }
    delivery_route_by_sender(&s->delivery);
    s->state = STATE_MAIL;
    return answer_named(s, REPLY_SENDER_OK);
}

static enum next rcpt_passed(struct session *s, const struct verdict *v)
{
    struct transaction *tx = s->tx;
    uint32_t i = s->visit.subject.rcpt;
    struct rcpt *r = &tx->message.rcpts[i];
    session_go(s, STEP_LINE);
    s->state = STATE_RCPT;
    switch (v->kind) {
    case VERDICT_DROP: s->drop_when_told = true; /* fall through */
    case VERDICT_REJECT:
    case VERDICT_DEFER:
        r->fate = FATE_REFUSED;
        r->by = BY_FILTER;
        r->filter = v->by;
        r->why = v->why;
        r->reply = reply_keep(&tx->message.arena, &v->reply);
        break;
    case VERDICT_DISCARD: r->fate = FATE_DISCARDED; /* fall through */
    default: delivery_ask(&s->delivery, i); break;
    }
    transaction_tell(s);
    return NEXT_MORE;
}

static enum next data_passed(struct session *s, const struct verdict *v)
{
    if (v->kind != VERDICT_CONTINUE)
        visit_note(&s->visit);
    switch (v->kind) {
    case VERDICT_DROP: return session_end(s, WHY_FILTER, &v->reply);
    case VERDICT_REJECT:
    case VERDICT_DEFER:
        s->tx->message.data_refused = reply_keep(&s->tx->message.arena, &v->reply);
        if (s->command.verb == VERB_DATA)
            return verb_answer(s, &v->reply);
        break;
    case VERDICT_DISCARD: s->tx->message.fate = MESSAGE_DISCARDED; break;
    default: break;
    }
    return s->command.verb == VERB_BDAT ? chunk_filtered(s, v) : data_go(s);
}

enum next verb_filtered(struct session *s)
{
    const struct verdict *v = &s->visit.run.verdict;
    switch (s->visit.run.stage) {
    case FILTER_CONNECT:
    case FILTER_TLS: return connected(s, v);
    case FILTER_HELO: return helo_passed(s, v);
    case FILTER_AUTH: return auth_passed(s);
    case FILTER_MAIL: return mail_passed(s, v);
    case FILTER_RCPT: return rcpt_passed(s, v);
    case FILTER_DATA: return data_passed(s, v);
    default: never("a stage that is no verb's");
    }
}

/* ---- BACKEND ----------------------------------------------------------------------------------------------------- */

static enum next wait_for_data(struct session *s)
{
    struct reply r;
    if (!session_settled(s))
        return NEXT_WAIT;
    switch (delivery_data(&s->delivery, &r)) {
    case DELIVERY_WAITS: return NEXT_WAIT;
    case DELIVERY_REFUSED: return data_refused(s, &r);
    case DELIVERY_GO: break;
    }
    if (answered(s, &r))
        content_begin(s, STATE_DATA);
    return NEXT_MORE;
}

enum next verb_backend(struct session *s)
{
    if (s->command.verb == VERB_DATA)
        return wait_for_data(s);
    /* EHLO: what we offer depends on the next hop; the first ones wait for the first probe. */
    s->waits_for_probe = pool_wait(pool_of(s->generation, s->listen->backend), &s->task);
    return s->waits_for_probe ? NEXT_WAIT : say_hello(s);
}
