/* auth.c - AUTH, relayed to the backend line by line (RFC 4954): the mechanism is its affair, we only read the name
 * where it is said in the clear (wire/sasl.c).
 *
 * The connection on which the exchange runs stays with the session: it is the one that is authenticated. Responses are
 * secrets: they are never logged, never shown to a filter, and wiped where they were copied. */
#include "smtp/back/pool.h"
#include "smtp/front/sessionlog.h"
#include "smtp/front/session.h"
#include "wire/sasl.h"

enum { AT_REST, AT_SAYING, AT_ASKED, AT_CHALLENGED, AT_CANCELLING, AT_JUDGED };

static struct auth *auth_of(struct session *s)
{
    if (!s->auth)
        s->auth = must_alloc(sizeof *s->auth);
    return s->auth;
}

void auth_told(struct session *s, struct str user)
{
    if (user.len)
        session_login(s, user, STR("XCLIENT"));
    else
        session_logout(s);
    s->delivery.logged_in = false;
}

void auth_free(struct session *s)
{
    if (!s->auth)
        return;
    pipe_clear(&s->auth->words);
    arena_reset(&s->auth->arena);
    free(s->auth);
    s->auth = NULL;
    s->delivery.logged_in = s->delivery.logging_in = false;
}

/* The delivery is told where the exchange stands. */
static void go_to(struct session *s, unsigned at)
{
    s->auth->at = (uint8_t)at;
    s->delivery.logging_in = at > AT_SAYING && at < AT_JUDGED;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static enum next refuse(struct session *s, enum reply_name name)
{
    struct reply r = reply_named(name);
    return verb_answer(s, &r);
}

static bool is_offered(const struct session *s, struct str mechanism)
{
    struct str words = str_of(pool_can(pool_of(s->generation, s->listen->backend))->auth);
    for (struct str one; (one = str_word(&words)).at;)
        if (str_equal_nocase(one, mechanism))
            return true;
    return false;
}

/* The words of the exchange go to the connection of this session: the one bound by identity, or one that will be from
 * now on. */
static void begin(struct session *s, struct str mechanism, struct str initial)
{
    struct auth *a = auth_of(s);
    snprintf(a->method, sizeof a->method, "%.*s", STR_ARGS(arena_lower(&s->line, mechanism)));
    for (char *c = a->method; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    a->user[0] = 0;
    a->turn = 0;
    a->reply = (struct reply){0};
    go_to(s, AT_SAYING);
    pipe_clear(&a->words);
    pipe_print(&a->words, "AUTH %s", a->method);
    if (initial.len) {
        struct str user = sasl_user(str_of(a->method), a->turn++, initial, &s->line);
        snprintf(a->user, sizeof a->user, "%.*s", STR_ARGS(user));
        pipe_put(&a->words, STR(" "));
        pipe_put(&a->words, initial);
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it has a length */
        explicit_bzero((char *)initial.at, initial.len);
    }
    pipe_put(&a->words, STR("\r\n"));
    delivery_login_begin(&s->delivery);
    s->state = STATE_AUTH;
    session_go(s, STEP_AUTH);
}

enum next auth_check(struct session *s)
{
    struct str rest = s->command.rest, mechanism = str_word(&rest), initial = str_word(&rest);
    if (s->listen->auth == AUTH_OFF || !s->visit.esmtp)
        return refuse(s, REPLY_AUTH_NOT_OFFERED);
    if (session_is_authenticated(s))
        return refuse(s, REPLY_AUTH_ALREADY);
    if (!session_is_secure(s) && !s->listen->auth_without_tls)
        return refuse(s, REPLY_AUTH_NEEDS_TLS);
    if (!mechanism.at || !sasl_mechanism_is_valid(mechanism) || str_word(&rest).at) {
        struct reply r = reply_print(&s->line, REPLY_SYNTAX, "AUTH mechanism");
        return verb_answer(s, &r);
    }
    if (initial.at && !sasl_response_is_valid(initial))
        return refuse(s, REPLY_AUTH_MALFORMED);
    if (!is_offered(s, mechanism)) {
        struct reply r = reply_print(&s->line, REPLY_AUTH_MECHANISM, arena_str(&s->line, mechanism).at);
        return verb_answer(s, &r);
    }
    begin(s, mechanism, initial);
    return NEXT_MORE;
}

/* ---- the exchange ------------------------------------------------------------------------------------------------ */

void auth_apply(struct delivery *d, const struct reply *r)
{
    struct session *s = holder_of(d, struct session, delivery);
    struct auth *a = s->auth;
    bool awaited = a && s->state == STATE_AUTH && (a->at == AT_ASKED || a->at == AT_CANCELLING);
    if (!awaited) /* the word on a "*" that the client did not say */
        return;
    arena_reset(&a->arena);
    a->reply = reply_keep(&a->arena, r);
}

static enum next fail(struct session *s, struct reply r)
{
    struct auth *a = s->auth;
    if (reply_class(&r) == 5)
        a->failures++;
    s->state = STATE_READY;
    go_to(s, AT_REST);
    sessionlog_auth(s, &r);
    a->user[0] = a->method[0] = 0;
    pipe_clear(&a->words);
    return verb_answer(s, &r);
}

static enum next judge(struct session *s)
{
    struct auth *a = s->auth;
    struct reply r = a->reply;
    unsigned class = reply_class(&r);
    a->reply.code = 0;
    if (r.code == 334 && a->at != AT_CANCELLING && !memchr(r.text.at, '\n', r.text.len)) {
        r.enhanced[0] = 0;
        session_reply(s, &r);
        go_to(s, AT_CHALLENGED);
        s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.command;
        return NEXT_MORE;
    }
    if (r.code == 235 && a->at != AT_CANCELLING) {
        a->reply = r;
        go_to(s, AT_JUDGED);
        s->delivery.logged_in = true;
        session_login(s, str_of(a->user), str_of(a->method)); /* so that the hooks see it; taken back if they refuse */
        return session_hook(s, FILTER_AUTH);
    }
    bool refusal = (class == 4 || class == 5) && r.code != 421 && r.code != 503;
    if (!refusal)
        delivery_login_nonsense(&s->delivery);
    if (refusal)
        reply_complete(&r);
    return fail(s, refusal ? r : reply_named(REPLY_AUTH_UNAVAILABLE));
}

/* A line of the client's in an exchange is a response, or "*": it gives up (RFC 4954 4). What cannot be one is never
 * passed on. */
static enum next take_response(struct session *s)
{
    struct auth *a = s->auth;
    struct str line;
    arena_reset(&s->line);
    enum line_took took =
        line_take(&s->reader, &s->stream->in, SASL_LINE - 2, s->listen->bare == BARE_NORMALIZE, &s->line, &line);
    if (took == LINE_MORE) {
        if (s->stream->ended || s->stream->dead)
            return session_end(s, s->stream->dead ? WHY_RESET : WHY_LEFT, NULL);
        return NEXT_WAIT;
    }
    s->client_by = 0;
    bool good = took == LINE_TAKEN && (line.len == 0 || sasl_response_is_valid(line));
    bool gives_up = took == LINE_TAKEN && str_equal(line, STR("*"));
    if (good && !a->user[0]) {
        struct str user = sasl_user(str_of(a->method), a->turn, line, &s->line);
        snprintf(a->user, sizeof a->user, "%.*s", STR_ARGS(user));
    }
    a->turn++;
    if (delivery_has_backend(&s->delivery)) {
        pipe_put(&a->words, good ? line : STR("*"));
        pipe_put(&a->words, STR("\r\n"));
    }
    if (took == LINE_TAKEN && line.len)
        explicit_bzero((char *)line.at, line.len);
    if (!delivery_has_backend(&s->delivery))
        return fail(s, reply_named(REPLY_AUTH_UNAVAILABLE));
    delivery_login(&s->delivery, &a->words);
    go_to(s, AT_ASKED);
    if (!good && !gives_up) /* the backend's word will be on our "*", not on what the client said */
        return fail(s, reply_named(took == LINE_TOO_LONG ? REPLY_AUTH_LINE_TOO_LONG : REPLY_AUTH_MALFORMED));
    if (gives_up)
        go_to(s, AT_CANCELLING);
    return NEXT_MORE;
}

enum next auth_turn(struct session *s)
{
    struct auth *a = s->auth;
    /* Lost while the client has the word: told when it has spoken, or its response would be read as a command. */
    if (!delivery_has_backend(&s->delivery) && a->at != AT_CHALLENGED)
        return fail(s, reply_named(REPLY_AUTH_UNAVAILABLE));
    switch (a->at) {
    case AT_SAYING:
        if (delivery_login(&s->delivery, &a->words))
            go_to(s, AT_ASKED);
        return NEXT_WAIT;
    case AT_ASKED:
    case AT_CANCELLING: return a->reply.code ? judge(s) : NEXT_WAIT;
    case AT_CHALLENGED: return take_response(s);
    default: never("an exchange that is over");
    }
}

/* ---- behind the filters ------------------------------------------------------------------------------------------ */

enum next auth_passed(struct session *s)
{
    struct auth *a = s->auth;
    const struct verdict *v = &s->visit.run.verdict;
    struct reply r = a->reply;
    s->state = STATE_READY;
    if (v->kind == VERDICT_DROP || v->kind == VERDICT_REJECT || v->kind == VERDICT_DEFER) {
        session_logout(s);
        delivery_login_refused(&s->delivery); /* a filter refused this user: the connection is logged in as it */
        if (v->kind == VERDICT_DROP)
            return session_end(s, WHY_FILTER, &v->reply);
        return fail(s, v->reply);
    }
    if (!delivery_has_backend(&s->delivery)) { /* lost while the filters worked */
        session_logout(s);
        return fail(s, reply_named(REPLY_AUTH_UNAVAILABLE));
    }
    reply_complete(&r);
    return verb_answer(s, &r);
}
