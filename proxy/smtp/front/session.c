/* session.c - one client, from accept to close: the turn, the steps that are not a verb's, the clock.
 *
 * session_turn is called by the ready list only. It settles the back, runs the front until it waits, flushes each side
 * once and sets one alarm. A session is freed in the turn that ends it. */
#include "smtp/front/session.h"
#include "smtp/front/connections.h"
#include "smtp/front/proxied.h"
#include "smtp/front/content.h"
#include "smtp/back/pool.h"
#include "mail/call.h"
#include "smtp/front/sessionlog.h"
#include "wire/sasl.h"

enum { TOLD_WITHIN = 1000 };
enum { OWED_MOST = 2000 }; /* milliseconds behind leave_by for the reply to the end of mail data; worker.c adds what closing takes */

const char *close_phrase(enum close_why why)
{
    static const char *const phrases[] = {
#define CLOSE(name, phrase) phrase,
#include "smtp/front/closes.def"
#undef CLOSE
    };
    return phrases[why];
}

bool session_settled(const struct session *s)
{
    return !s->tx || transaction_is_settled(s->tx);
}

bool session_client_left(const struct session *s)
{
    return s->stream->dead || (s->stream->ended && pipe_is_empty(&s->stream->in));
}

void session_reply(struct session *s, const struct reply *r)
{
    reply_put(r, &s->stream->out, true);
}

void session_count_refusal(struct session *s, enum verb verb, const struct reply *r)
{
    unsigned class = reply_class(r);
    size_t i = 0;
    if (class != 4 && class != 5)
        return;
    if (!s->refusals)
        s->refusals = arena_alloc(&s->arena, sizeof *s->refusals);
    struct refusals *t = s->refusals;
    while (i < TALLIES - 1 && t->replies[i].code && t->replies[i].code != r->code)
        i++;
    t->replies[i].code = r->code;
    t->replies[i].count++;
    t->last_verb = verb;
    t->last_code = r->code;
}

enum next session_end(struct session *s, enum close_why why, const struct reply *r)
{
    if (s->step == STEP_CLOSE)
        return NEXT_MORE;
    s->why = why;
    session_go(s, STEP_CLOSE);
    if (r && !s->stream->dead)
        session_reply(s, r);
    return NEXT_MORE;
}

enum next session_refuse(struct session *s, const struct reply *r)
{
    s->visit.errors++;
    session_count_refusal(s, s->command.verb, r);
    session_reply(s, r);
    session_go(s, STEP_LINE);
    return NEXT_MORE;
}

/* Whoever XFORWARD names for the message at hand has the login of the connection. */
void session_login(struct session *s, struct str user, struct str method)
{
    client_login(&s->self, user, method);
    if (s->visit.client != &s->self)
        client_login(s->visit.client, user, method);
}

void session_logout(struct session *s)
{
    client_logout(&s->self);
    if (s->visit.client != &s->self)
        client_logout(s->visit.client);
}

enum next session_hook(struct session *s, enum filter_stage stage)
{
    struct subject subject = {.helo = s->command.rest, .ehlo = s->command.verb == VERB_EHLO};
    if (s->tx && s->tx->message.nrcpts)
        subject.rcpt = stage == FILTER_RCPT ? s->tx->message.nrcpts - 1 : s->visit.subject.rcpt;
    visit_ask(&s->visit, stage, subject);
    session_go(s, STEP_FILTER);
    return NEXT_MORE;
}

/* ---- the beginning ----------------------------------------------------------------------------------------------- */

static void session_turn(struct session *);

static void wake(struct task *task)
{
    session_turn(holder_of(task, struct session, task));
}

static void link_session(struct session *s)
{
    struct worker *w = s->worker;
    s->next = w->sessions;
    if (w->sessions)
        w->sessions->prev = s;
    w->sessions = s;
    w->nsessions++;
}

static void unlink_session(struct session *s)
{
    struct worker *w = s->worker;
    if (s->prev)
        s->prev->next = s->next;
    else
        w->sessions = s->next;
    if (s->next)
        s->next->prev = s->prev;
    w->nsessions--;
}

bool session_enter(struct session *s)
{
    const struct limits *l = &s->listen->visit.limits;
    struct reply r;
    /* The limit of all is kept before a connection is accepted; a listener of its own may have a lower one. */
    uint32_t most = l->connections < s->generation->conf->limits.connections ? l->connections : 0;
    switch (connections_enter(s->worker->connections, s->visit.client->ip, most, s->visit.client->ip.len ? l->connections_per_client : 0)) {
    case CONNECTIONS_WELCOME: s->entered = true; return true;
    case CONNECTIONS_FULL: r = reply_named(REPLY_TOO_MANY_CONNECTIONS); break;
    case CONNECTIONS_TOO_MANY: r = reply_print(&s->line, REPLY_TOO_MANY_FROM_CLIENT, s->visit.client->ip.at); break;
    default: never("no such answer");
    }
    session_end(s, WHY_LIMIT, s->listen->implicit ? NULL : &r);
    return false;
}

void session_start(struct worker *w, const struct listen_conf *listen, uint32_t listen_id, struct stream *stream)
{
    struct session *s = must_alloc(sizeof *s);
    s->magic = SESSION_MAGIC;
    s->worker = w;
    s->listen = listen;
    s->listen_id = listen_id;
    s->leave_by = w->mail.draining ? w->drain_by : 0;
    s->generation = generation_enter(w->generation);
    s->stream = stream;
    task_start(&s->task, w->mail.loop, wake);
    stream->task = &s->task;
    s->started_us = loop_micros(w->mail.loop);
    s->visit.started_wall_us = loop_wall(w->mail.loop);
    struct address peer = stream_peer(stream, &s->line), local = stream_local(stream, &s->line);
    client_start(&s->self);
    s->visit.filters = &s->generation->filters;
    s->visit.conf = &listen->visit;
    s->visit.client = &s->self;
    s->visit.task = &s->task;
    s->visit.life = &s->arena;
    s->visit.scratch = &s->line;
    s->visit.outlet = &s->delivery.outlet;
    delivery_start(&s->delivery, &s->visit, s->generation, listen);
    s->delivery.login_said = auth_apply;
    s->visit.serial = ++w->mail.serial;
    bool over_unix = peer.name.ss_family == AF_UNIX || local.name.ss_family == AF_UNIX;
    s->self.over_unix = over_unix;
    client_set_ip(&s->self, over_unix ? STR("") : peer.host, peer.port);
    client_set_local(&s->self, over_unix ? STR("") : local.host, local.port);
    s->first_line = true;
    visit_name(&s->visit);
    link_session(s);
    if (proxied_is_due(s)) {
        session_go(s, STEP_PROXY);
        s->client_by = loop_now(w->mail.loop) + listen->timeouts.proxy;
    } else {
        session_begin(s);
    }
    task_wake(&s->task);
}

void session_begin(struct session *s)
{
    proxied_trust(s);
    session_go(s, STEP_GREET);
    if (!session_enter(s))
        return;
    s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.handshake;
    session_hook(s, FILTER_CONNECT);
}

static void greet(struct session *s)
{
    struct reply r = reply_print(&s->line, REPLY_BANNER, s->listen->visit.hostname.at);
    if (s->connect_refusal.code && reply_class(&s->connect_refusal) == 5) {
        r = s->connect_refusal;
        r.code = 554; /* RFC 5321 3.1: a server that refuses at the start */
        r.enhanced[0] = 0;
    }
    session_reply(s, &r);
    s->state = STATE_HELLO;
    session_go(s, STEP_LINE);
    s->client_by = 0;
}

/* Between the connect hook and the banner: TLS from the first octet, or a pause in which only an early talker speaks.
 */
static enum next step_greet(struct session *s)
{
    uint64_t now = loop_now(s->worker->mail.loop);
    if (s->listen->implicit && s->stream->tls == STREAM_PLAIN) {
        stream_tls_behind(s->stream, s->listen->tls);
        session_go(s, STEP_TLS);
        s->client_by = now + s->listen->timeouts.handshake;
        return NEXT_MORE;
    }
    if (!stream_in_is_empty(s->stream) || (s->stream->tls == STREAM_PLAIN && stream_has_unread(s->stream))) {
        struct reply r = reply_named(REPLY_EARLY_TALKER);
        return session_end(s, WHY_EARLY, &r);
    }
    uint64_t until = (s->started_us / 1000) + s->listen->timeouts.greeting;
    if (s->listen->timeouts.greeting && now < until) {
        s->client_by = until;
        return NEXT_WAIT;
    }
    greet(s);
    return NEXT_MORE;
}

static enum next step_tls(struct session *s)
{
    if (s->stream->tls != STREAM_TLS)
        return NEXT_WAIT;
    s->visit.client->secure = CLIENT_TLS;
    stream_tls_facts(s->stream, &s->visit.client->tls);
    s->client_by = 0;
    return session_hook(s, FILTER_TLS);
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static enum next over_budget(struct session *s)
{
    const struct limits *l = &s->listen->visit.limits;
    if (s->auth && s->auth->failures >= l->auth_failures)
        return verb_bye(s, WHY_AUTH, REPLY_AUTH_TOO_MANY);
    bool stressed = s->worker->stressed;
    if (l->errors && s->visit.errors >= (stressed ? 1 : l->errors))
        return verb_bye(s, WHY_ERRORS, REPLY_TOO_MANY_ERRORS);
    if (l->junk && s->junk > (stressed ? 1 : l->junk))
        return verb_bye(s, WHY_JUNK, REPLY_TOO_MANY_JUNK);
    if (s->leave_by && (!s->tx || loop_now(s->worker->mail.loop) >= s->leave_by))
        return verb_bye(s, WHY_SHUTDOWN, REPLY_SHUTDOWN);
    return NEXT_WAIT;
}

static enum next no_line(struct session *s)
{
    if (s->stream->ended || s->stream->dead) {
        if (!session_settled(s))
            return NEXT_WAIT;
        return session_end(s, s->stream->dead ? WHY_RESET : WHY_LEFT, NULL);
    }
    const struct timeouts *t = &s->listen->timeouts;
    uint64_t now = loop_now(s->worker->mail.loop);
    bool begun = s->reader.skipping || !pipe_is_empty(&s->stream->in);
    if (begun && !s->line_by)
        s->line_by = now + t->line;
    if (!session_settled(s))
        s->client_by = 0; /* it waits for us: its time begins when all has been told */
    else if (!s->client_by)
        s->client_by = now + (s->state == STATE_CHUNKS ? t->data : t->command);
    if (s->client_by && begun)
        s->client_by = min_u64(s->client_by, s->line_by);
    if (s->state == STATE_CHUNKS && content_is_slow(s)) /* the rate is that of the content, however many chunks it comes in */
        return NEXT_MORE;
    return NEXT_WAIT;
}

static enum next step_line(struct session *s)
{
    bool settled = session_settled(s);
    if (s->state == STATE_CHUNKS && content_run(s) == NEXT_END)
        return NEXT_MORE;
    if (s->drop_when_told && settled)
        return session_end(s, WHY_FILTER, NULL);
    if (settled && over_budget(s) == NEXT_MORE)
        return NEXT_MORE;
    if (pipe_is_full(&s->stream->out) || s->drop_when_told || (!settled && !s->visit.esmtp))
        return NEXT_WAIT;
    if (s->tx && s->tx->message.named - s->tx->told_named >= UNTOLD_MOST)
        return NEXT_WAIT;
    arena_reset(&s->line);
    struct str line;
    size_t most = s->listen->visit.limits.line;
    if (s->listen->auth) /* an initial response may be as long as any other (RFC 4954 4) */
        most = max_size(most, SASL_LINE - 2);
    enum line_took took =
        line_take(&s->reader, &s->stream->in, most, s->listen->bare == BARE_NORMALIZE, &s->line, &line);
    if (took == LINE_MORE)
        return no_line(s);
    s->client_by = s->line_by = 0;
    s->command = (struct command){.verb = VERB_NONE};
    s->rcpt_answer = (struct reply){0};
    if (took == LINE_TAKEN) {
        command_parse(line, s->listen->syntax, &s->command);
        if (s->first_line && command_is_http(line))
            return verb_bye(s, WHY_HTTP, REPLY_NOT_SMTP);
    }
    s->command.took = took; /* told in its turn, behind the replies that are owed: CHECK waits at the barrier like any other line */
    s->first_line = false;
    session_go(s, STEP_CHECK);
    return NEXT_MORE;
}

static enum next step_filter(struct session *s)
{
    return visit_turn(&s->visit) ? verb_filtered(s) : NEXT_WAIT;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static enum next step_close(struct session *s)
{
    struct worker *w = s->worker;
    visit_stop(&s->visit, s->leave_by ? CANCEL_SHUTDOWN : CANCEL_CLIENT_GONE);
    transaction_reset(s, END_ABORTED);
    proxied_restore(s);
    visit_end(&s->visit);
    if (s->waits_for_probe)
        pool_forget(pool_of(s->generation, s->listen->backend), &s->task);
    delivery_close(&s->delivery);
    sessionlog_end(s);
    auth_free(s);
    proxied_free(s);
    client_end(&s->self);
    if (s->entered)
        connections_leave(w->connections, s->visit.client->ip);
    /* Whoever is refused amid what it sends shall still read why: its octets are read and dropped for a moment. */
    bool abort = s->stream->dead || s->why == WHY_WRITE_TIMEOUT;
    stream_close(&s->stream, abort ? CLOSE_ABORT : s->why == WHY_QUIT ? CLOSE_GRACEFUL : CLOSE_LINGER);
    alarm_stop(&s->alarm);
    task_forget(&s->task);
    unlink_session(s);
    arena_reset(&s->line);
    arena_reset(&s->arena);
    generation_leave(s->generation);
    s->magic = 0;
    free(s);
    return NEXT_END;
}

/* ---- the turn ---------------------------------------------------------------------------------------------------- */

static enum next run_step(struct session *s)
{
    switch (s->step) {
    case STEP_PROXY: return proxied_preface(s);
    case STEP_GREET: return step_greet(s);
    case STEP_LINE: return step_line(s);
    case STEP_CHECK: return verb_check(s);
    case STEP_FILTER: return step_filter(s);
    case STEP_BACKEND: return verb_backend(s);
    case STEP_CONTENT: return content_turn(s);
    case STEP_VERDICT: return verdict_turn(s);
    case STEP_SKIP: return chunk_skip_turn(s);
    case STEP_TLS: return step_tls(s);
    case STEP_AUTH: return auth_turn(s);
    case STEP_CLOSE: return step_close(s);
    }
    never("a step of no name");
}

/* Content comes, or should: its rate is looked at. */
static bool content_is_due(const struct session *s)
{
    return s->step == STEP_CONTENT || s->step == STEP_SKIP || (s->step == STEP_LINE && s->state == STATE_CHUNKS);
}

static bool our_end_is_said(const struct session *s)
{
    return s->tx && s->tx->message.fate == MESSAGE_RELEASED;
}

/* The client's own deadline runs only while we wait for the client. */
static bool waits_for_client(const struct session *s)
{
    return s->step == STEP_TLS || s->step == STEP_PROXY || s->step == STEP_SKIP || (s->step == STEP_AUTH && s->client_by) ||
           (s->step == STEP_GREET && s->listen->implicit) || (s->step == STEP_LINE && session_settled(s)) ||
           (s->step == STEP_CONTENT && !s->tx->stalled);
}

static void look_at_clocks(struct session *s)
{
    uint64_t now = loop_now(s->worker->mail.loop);
    if (s->stream->dead && !our_end_is_said(s)) {
        bool tls = s->stream->why == FAILURE_TLS;
        session_end(s, tls ? WHY_TLS : WHY_RESET, NULL);
        return;
    }
    if (s->client_by && now >= s->client_by && waits_for_client(s)) {
        struct reply r = reply_named(REPLY_TIMEOUT);
        session_end(s, WHY_TIMEOUT, s->step == STEP_TLS || s->step == STEP_PROXY ? NULL : &r);
        return;
    }
    if (s->write_by && now >= s->write_by && !our_end_is_said(s)) {
        if (s->stream->written_octets == s->written_mark) {
            session_end(s, WHY_WRITE_TIMEOUT, NULL);
            return;
        }
        s->write_by = 0;
    }
    if (s->leave_by && now >= s->leave_by && !our_end_is_said(s) &&
        (s->step != STEP_LINE || !session_settled(s))) {
        struct reply r = reply_named(REPLY_SHUTDOWN);
        session_end(s, WHY_SHUTDOWN, s->state != STATE_GREETING ? &r : NULL);
    }
}

/* A backend that owes the reply to our end when the grace of a drain is over has a moment left; then the message is uncertain. */
static void hurry_backend(struct session *s)
{
    if (s->leave_by && our_end_is_said(s) && !s->tx->message.end_reply.code)
        delivery_hurry(&s->delivery, s->leave_by + OWED_MOST);
}

static void earlier(uint64_t *at, uint64_t by)
{
    if (by && (!*at || by < *at))
        *at = by;
}

static void set_clock(struct session *s)
{
    uint64_t at = 0, now = loop_now(s->worker->mail.loop);
    if (!s->stream->stuck) {
        s->write_by = 0;
    } else if (!s->write_by) {
        s->write_by = now + s->listen->timeouts.write;
        s->written_mark = s->stream->written_octets;
    }
    if (s->worker->stressed && s->client_by && waits_for_client(s))
        s->client_by = min_u64(s->client_by, now + s->listen->timeouts.stress);
    if (waits_for_client(s) || (s->step == STEP_GREET && s->client_by))
        earlier(&at, s->client_by);
    if (s->step == STEP_CONTENT && s->tx->paused_at)
        earlier(&at, now + 100);
    if (content_is_due(s))
        earlier(&at, s->rate_from + RATE_WINDOW);
    if (s->told_by > now) /* past it, what is left waits for the client to read */
        earlier(&at, s->told_by);
    if (s->visit.run.active)
        earlier(&at, visit_clock(&s->visit));
    earlier(&at, delivery_clock(&s->delivery));
    if (!our_end_is_said(s)) { /* then nobody gives up before the reply has come */
        earlier(&at, s->write_by);
        earlier(&at, s->leave_by);
        earlier(&at, s->tx ? s->tx->message.end_by_ms : 0);
    }
    alarm_set(&s->alarm, &s->task, at && at <= now ? now + 10 : at);
}

/* Replies ahead of what the backend still owes leave together with its next one: that saves a packet for each. Not while a
 * filter works, nor for longer than a second. */
static bool replies_may_wait(struct session *s)
{
    const struct transaction *tx = s->tx;
    uint64_t now = loop_now(s->worker->mail.loop);
    bool owed =
        tx && delivery_has_backend(&s->delivery) && (!transaction_is_settled(tx) || (s->step == STEP_BACKEND && s->command.verb == VERB_DATA));
    if (!owed || s->visit.run.active || pipe_is_empty(&s->stream->out) || pipe_is_full(&s->stream->out)) {
        s->told_by = 0;
        return false;
    }
    if (!s->told_by)
        s->told_by = now + TOLD_WITHIN;
    return now < s->told_by;
}

/* Part of a line or of content: the client says the rest before we say anything. */
static bool has_heard_part(const struct session *s)
{
    bool content = s->step == STEP_CONTENT || s->step == STEP_SKIP;
    return content || !pipe_is_empty(&s->stream->in) || s->reader.skipping;
}

static void session_turn(struct session *s)
{
    must(s->magic == SESSION_MAGIC);
    hurry_backend(s);
    if (s->step != STEP_CLOSE) {
        delivery_settle(&s->delivery);
        if (s->tx)
            transaction_tell(s);
    }
    look_at_clocks(s);
    enum next next = NEXT_MORE;
    while (next == NEXT_MORE)
        next = run_step(s);
    if (next == NEXT_END)
        return;
    s->stream->partial = has_heard_part(s);
    if (!replies_may_wait(s))
        stream_flush_soon(s->stream);
    delivery_flush(&s->delivery);
    hurry_backend(s);
    set_clock(s);
}
