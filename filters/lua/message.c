/* message.c - s, m, chunk and reply as scripts see them.
 *
 * Each object consists of a token only: every access uses the current call, and raises if the object belongs to another session or
 * transaction. vars are tables in the registry, kept until reset or disconnect. */
#include "filters/lua/host.h"
#include "base/idn.h"

#define SESSION "session"
#define MESSAGE "message"
#define TAGS    "tags"
#define CHUNK   "chunk"
struct handle {
    uint64_t token;
};

static struct lua_session *session_of_run(struct lua_run *run)
{
    struct lua_session *s = filter_keep(run->call, LIFE_SESSION);
    if (s && !s->token)
        s->token = ++run->worker->tokens;
    return s;
}

struct lua_transaction *transaction_of(struct lua_run *run)
{
    static struct lua_transaction none;
    struct lua_transaction *tx = filter_keep(run->call, LIFE_TRANSACTION);
    if (tx && !tx->token)
        tx->token = ++run->worker->tokens;
    return tx ? tx : &none;
}

static void push_handle(lua_State *L, const char *class, uint64_t token)
{
    struct handle *h = lua_new(L, class, sizeof *h);
    h->token = token;
}

void message_check(lua_State *L, int arg, const char *class)
{
    const struct handle *h = luaL_checkudata(L, arg, class);
    run_call(L, class);
    uint64_t now = transaction_of(run_of(L))->token;
    if (h->token != now || !now)
        luaL_error(L, "this %s is gone: it belongs to another message than the one at hand (keep values, not m itself)",
                   class);
}

static struct filter_call *check_session(lua_State *L)
{
    const struct handle *h = luaL_checkudata(L, 1, SESSION);
    struct filter_call *call = run_call(L, "s");
    struct lua_session *s = session_of_run(run_of(L));
    if (!s || h->token != s->token)
        luaL_error(L, "this session is gone: it is not the one at hand (keep values, not s itself)");
    return call;
}

static void push_text(lua_State *L, struct filter_text t)
{
    if (t.at)
        lua_pushlstring(L, t.at, t.len);
    else
        lua_pushnil(L);
}

static void push_fact(lua_State *L, struct filter_call *call, const char *name)
{
    push_text(L, filter_fact(call, name));
}

static void push_fact_integer(lua_State *L, struct filter_call *call, const char *name)
{
    if (filter_fact(call, name).at)
        lua_pushinteger(L, filter_fact_integer(call, name, 0));
    else
        lua_pushnil(L);
}

static void set_fact(lua_State *L, struct filter_call *call, const char *key, const char *fact)
{
    push_fact(L, call, fact);
    lua_setfield(L, -2, key);
}

/* ---- vars -------------------------------------------------------------------------------------------------------- */

static int push_vars(lua_State *L, enum lua_vars which)
{
    struct lua_account *a = run_of(L)->account;
    if (a->vars[which]) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, a->vars[which]);
        return 1;
    }
    lua_newtable(L);
    lua_pushvalue(L, -1);
    a->vars[which] = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* ---- s ----------------------------------------------------------------------------------------------------------- */

void push_session(lua_State *L, struct lua_run *run)
{
    struct lua_session *s = session_of_run(run);
    push_handle(L, SESSION, s ? s->token : 0);
}

static void push_tls(lua_State *L, struct filter_call *call)
{
    if (!filter_fact(call, "tls.version").at) {
        lua_pushnil(L);
        return;
    }
    lua_newtable(L);
    set_fact(L, call, "version", "tls.version");
    set_fact(L, call, "cipher", "tls.cipher");
    set_fact(L, call, "sni", "tls.sni");
    set_fact(L, call, "alpn", "tls.alpn");
    set_fact(L, call, "subject", "tls.subject");
    set_fact(L, call, "issuer", "tls.issuer");
    set_fact(L, call, "fingerprint", "tls.fingerprint");
    push_fact_integer(L, call, "tls.bits");
    lua_setfield(L, -2, "bits");
    lua_pushboolean(L, filter_fact_integer(call, "tls.verified", 0) == 1);
    lua_setfield(L, -2, "verified");
}

static void push_auth(lua_State *L, struct filter_call *call)
{
    if (!filter_fact(call, "auth.method").at && !filter_fact(call, "auth.user").at) {
        lua_pushnil(L);
        return;
    }
    struct filter_text user = filter_fact(call, "auth.user");
    lua_newtable(L);
    lua_pushlstring(L, user.at ? user.at : "", user.len); /* "" when the mechanism tells no name */
    lua_setfield(L, -2, "user");
    set_fact(L, call, "method", "auth.method");
}

/* Fields that are facts: ROW(key, fact, kind: text, number, microseconds shown as seconds, bool). Other fields are handled below. */
#define SESSION_FACTS(ROW)                                                                                             \
    ROW("id", "session.id", 't')                                                                                       \
    ROW("listener", "session.listen", 't')                                                                             \
    ROW("port", "client.port", 'n')                                                                                    \
    ROW("local_ip", "server.ip", 't')                                                                                  \
    ROW("helo", "helo.name", 't')                                                                                      \
    ROW("hostname", "server.name", 't')                                                                                \
    ROW("rdns", "client.name", 't')                                                                                    \
    ROW("messages", "session.messages", 'n')                                                                           \
    ROW("errors", "session.errors", 'n')                                                                               \
    ROW("started", "session.started", 's')                                                                             \
    ROW("esmtp", "session.esmtp", 'b')                                                                                 \
    ROW("local_port", "server.port", 'n')

#define ROW(key, fact, kind) {key, fact, kind},
static const struct {
    const char *key, *fact;
    char kind;
} session_facts[] = {SESSION_FACTS(ROW)};
#undef ROW
#define ROW(key, ...) key,
static const char *const session_fields[] = {"ip", "tls", "auth", "vars", SESSION_FACTS(ROW) NULL};
#undef ROW

static int session_index(lua_State *L)
{
    struct filter_call *call = check_session(L);
    const char *key = luaL_checkstring(L, 2);
    for (size_t i = 0; i < countof(session_facts); i++) {
        if (!is(key, session_facts[i].key))
            continue;
        const char *fact = session_facts[i].fact;
        switch (session_facts[i].kind) {
        case 't': push_fact(L, call, fact); break;
        case 'n': push_fact_integer(L, call, fact); break;
        case 's': lua_pushinteger(L, filter_fact_integer(call, fact, 0) / 1000000); break;
        default: lua_pushboolean(L, filter_fact_integer(call, fact, 0) == 1);
        }
        return 1;
    }
    if (is(key, "ip"))
        push_ip(L, filter_fact(call, "client.ip"));
    else if (is(key, "tls"))
        push_tls(L, call);
    else if (is(key, "auth"))
        push_auth(L, call);
    else if (is(key, "vars"))
        push_vars(L, VARS_SESSION);
    else
        return lua_method(L, SESSION, session_fields);
    return 1;
}

/* "user:NAME" of an authenticated client, else "net:192.0.2.0/24". The name in lower case: logins are case-insensitive
 * nearly everywhere, and one user must not have a limit for each spelling. */
static int session_who(lua_State *L)
{
    struct filter_call *call = check_session(L);
    struct filter_text user = filter_fact(call, "auth.user");
    if (user.len) {
        struct arena *arena = &run_of(L)->scratch;
        struct str pieces[] = {STR("user:"), arena_lower(arena, (struct str){user.at, user.len})};
        struct str who = arena_join(arena, 2, pieces);
        lua_pushlstring(L, who.at, who.len);
        arena_reset(arena);
        return 1;
    }
    lua_settop(L, 3);
    push_ip(L, filter_fact(call, "client.ip"));
    lua_getfield(L, -1, "network");
    lua_insert(L, -2);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_call(L, 3, 1);
    lua_pushliteral(L, "net:");
    lua_insert(L, -2);
    lua_concat(L, 2);
    return 1;
}

/* ---- m ----------------------------------------------------------------------------------------------------------- */

void push_message(lua_State *L, struct lua_run *run)
{
    push_handle(L, MESSAGE, transaction_of(run)->token);
}

static struct filter_call *check_message(lua_State *L)
{
    message_check(L, 1, MESSAGE);
    return run_of(L)->call;
}

static void push_rcpts(lua_State *L, struct filter_call *call)
{
    struct lua_run *run = run_of(L);
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t i = 0, all = filter_rcpt_count(call); i < all; i++) {
        struct filter_path p = {.size = sizeof p};
        if (!filter_rcpt(call, i, &p))
            continue;
        if (run->stage > FILTER_RCPT && p.state != RCPT_ACCEPTED && p.state != RCPT_ADDED)
            continue;
        push_address(L, run, &p, i);
        lua_rawseti(L, -2, ++n);
    }
}

static void push_mail_params(lua_State *L, struct filter_call *call)
{
    lua_newtable(L);
    push_fact_integer(L, call, "mail.size");
    lua_setfield(L, -2, "size");
    lua_pushboolean(L, filter_fact_integer(call, "mail.smtputf8", 0) == 1);
    lua_setfield(L, -2, "smtputf8");
    set_fact(L, call, "body", "mail.body");
    set_fact(L, call, "ret", "mail.ret");
    set_fact(L, call, "envid", "mail.envid");
}

static const char *const message_fields[] = {"id",      "from", "rcpts", "params",  "size",    "vars",
                                             "headers", "tags", "total", "outcome", "backend", NULL};

static int message_index(lua_State *L)
{
    struct filter_call *call = check_message(L);
    struct lua_run *run = run_of(L);
    const char *key = luaL_checkstring(L, 2);
    struct filter_path p = {.size = sizeof p};
    if (is(key, "headers"))
        push_fields(L, run);
    else if (is(key, "vars"))
        push_vars(L, VARS_TRANSACTION);
    else if (is(key, "from") && filter_reverse_path(call, &p))
        push_address(L, run, &p, RCPT_NONE);
    else if (is(key, "rcpts"))
        push_rcpts(L, call);
    else if (is(key, "id"))
        push_fact(L, call, "transaction.id");
    else if (is(key, "size"))
        push_fact_integer(L, call, "content.octets");
    else if (is(key, "params"))
        push_mail_params(L, call);
    else if (is(key, "tags"))
        push_handle(L, TAGS, transaction_of(run)->token);
    else if (is(key, "total"))
        lua_pushnumber(L, filter_score(call, 0, ""));
    else if (is(key, "outcome"))
        push_fact(L, call, "transaction.end");
    else if (is(key, "backend"))
        push_fact(L, call, "backend.name");
    else
        return lua_method(L, MESSAGE, message_fields);
    return 1;
}

static int refused(lua_State *L, struct filter_call *call, const char *what)
{
    struct filter_text why = filter_refusal(call);
    return luaL_error(L, "m:%s: %s%s", what, why.len ? why.at : "not possible here",
                      filter_refused(call) == REFUSED_UNDECLARED ? ": say edits_late() in the main chunk" : "");
}

static const char *address_arg(lua_State *L, int arg)
{
    struct str s = address_text(L, arg);
    luaL_argcheck(L, strlen(s.at) == s.len, arg, "a NUL cannot stand in an address");
    return s.at;
}

static int set_from(lua_State *L)
{
    struct filter_call *call = check_message(L);
    if (!filter_set_reverse_path(call, address_arg(L, 2), NULL))
        return refused(L, call, "set_from");
    return 0;
}

/* add_rcpt(address [, { optional = true }]) : without it a refusal by the backend defers the message */
static int add_rcpt(lua_State *L)
{
    struct filter_call *call = check_message(L);
    const char *address = address_arg(L, 2);
    bool optional = false;
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        lua_getfield(L, 3, "optional");
        optional = lua_toboolean(L, -1);
    }
    if (!filter_add_rcpt(call, address, NULL, !optional))
        return refused(L, call, "add_rcpt");
    return 0;
}

/* The index of a recipient, given by an address object of this message or by its text. */
static size_t rcpt_at(lua_State *L, struct filter_call *call, int arg)
{
    const struct lua_address *a = address_at(L, arg);
    if (a && a->rcpt != RCPT_NONE) {
        luaL_argcheck(L, a->token == transaction_of(run_of(L))->token, arg, "a recipient of another message");
        return a->rcpt;
    }
    char room[IDN_ROOM], wanted_room[IDN_ROOM];
    struct str text = address_text(L, arg), wanted = idn_fold_address(text, wanted_room);
    for (size_t i = 0, n = filter_rcpt_count(call); i < n; i++) {
        struct filter_path p = {.size = sizeof p};
        if (filter_rcpt(call, i, &p) && p.state != RCPT_REFUSED && p.state != RCPT_DROPPED &&
            str_equal(idn_fold_address((struct str){p.address.at, p.address.len}, room), wanted))
            return i;
    }
    luaL_error(L, "the message has no recipient <%s>", text.at);
    return 0;
}

static int remove_rcpt(lua_State *L)
{
    struct filter_call *call = check_message(L);
    if (!filter_drop_rcpt(call, rcpt_at(L, call, 2)))
        return refused(L, call, "remove_rcpt");
    return 0;
}

static int set_rcpt(lua_State *L)
{
    struct filter_call *call = check_message(L);
    if (!filter_set_rcpt(call, rcpt_at(L, call, 2), address_arg(L, 3)))
        return refused(L, call, "set_rcpt");
    return 0;
}

/* true; at rcpt also false and why, when an earlier recipient goes elsewhere: the script then defers this one.
 * Where there are no routes at all it is an error, at rcpt as elsewhere: deferred mail would come again for ever. */
static int route(lua_State *L)
{
    struct filter_call *call = check_message(L);
    bool done = filter_route(call, lua_plain(L, 2));
    if (!done && (run_of(L)->stage != FILTER_RCPT || filter_refused(call) != REFUSED_ELSEWHERE))
        return refused(L, call, "route");
    lua_pushboolean(L, done);
    push_text(L, done ? (struct filter_text){NULL, 0} : filter_refusal(call));
    return 2;
}

static int score(lua_State *L)
{
    struct filter_call *call = check_message(L);
    double n = luaL_checknumber(L, 2);
    luaL_argcheck(L, n == n && n > -1e6 && n < 1e6, 2, "a score within a million");
    lua_pushnumber(L, filter_score(call, n, luaL_optstring(L, 3, "")));
    return 1;
}

static int set_body(lua_State *L)
{
    check_message(L);
    struct lua_run *run = run_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (run->stage != FILTER_MESSAGE || !(run->host->flags & FILTER_LATE_BODY))
        return luaL_error(L, "m:set_body is for on.message of a script that says edits_late() in its main chunk");
    if (run->replaced)
        return luaL_error(L, "m:set_body: the body is replaced already");
    run->replaced = true;
    return emit_text(L, run, text, len);
}

/* ---- tags: notes that later filters and the log see -------------------------------------------------------------- */

static int tags_index(lua_State *L)
{
    message_check(L, 1, TAGS);
    char name[80];
    snprintf(name, sizeof name, "note.%s", lua_plain(L, 2));
    push_fact(L, run_of(L)->call, name);
    return 1;
}

static int tags_write(lua_State *L)
{
    message_check(L, 1, TAGS);
    const char *name = lua_plain(L, 2);
    size_t len;
    struct filter_text value = {NULL, 0};
    luaL_argcheck(L, *name && strlen(name) <= 64, 2, "the name of a tag: 1 to 64 octets");
    if (lua_isboolean(L, 3) || lua_isstring(L, 3)) {
        value.at = luaL_tolstring(L, 3, &len);
        value.len = len;
    } else if (!lua_isnil(L, 3)) {
        return luaL_argerror(L, 3, "a text, a number, true or false");
    }
    filter_note(run_of(L)->call, LIFE_TRANSACTION, name, value);
    return 0;
}

/* ---- chunk ------------------------------------------------------------------------------------------------------- */

void push_chunk(lua_State *L, struct lua_run *run)
{
    push_handle(L, CHUNK, run->token);
}

static struct filter_chunk chunk_at(lua_State *L, int arg)
{
    const struct handle *h = luaL_checkudata(L, arg, CHUNK);
    struct filter_call *call = run_call(L, "chunk");
    struct filter_chunk c = {.size = sizeof c};
    if (h->token != run_of(L)->token || !filter_chunk(call, &c))
        luaL_error(L, "this chunk is gone: it lives during its own on.body only");
    if (!c.octets.at)
        c.octets = (struct filter_text){"", 0};
    return c;
}

struct str subject_of(lua_State *L, int arg)
{
    if (luaL_testudata(L, arg, CHUNK)) {
        struct filter_chunk c = chunk_at(L, arg);
        return (struct str){c.octets.at, c.octets.len};
    }
    return address_text(L, arg);
}

static const char *const chunk_fields[] = {"offset", "last", NULL};

static int chunk_index(lua_State *L)
{
    struct filter_chunk c = chunk_at(L, 1);
    const char *key = luaL_checkstring(L, 2);
    if (is(key, "offset"))
        lua_pushinteger(L, (lua_Integer)c.offset);
    else if (is(key, "last"))
        lua_pushboolean(L, c.last);
    else
        return lua_method(L, CHUNK, chunk_fields);
    return 1;
}

static int chunk_length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)chunk_at(L, 1).octets.len);
    return 1;
}

static int chunk_text(lua_State *L)
{
    struct filter_chunk c = chunk_at(L, 1);
    lua_pushlstring(L, c.octets.at, c.octets.len);
    return 1;
}

/* The range i..j of `len`, as string.sub counts. */
static struct str range(lua_State *L, struct filter_text t, lua_Integer i, lua_Integer j)
{
    lua_Integer len = (lua_Integer)t.len;
    i = i < 0 ? (i < -len ? 1 : len + i + 1) : i == 0 ? 1 : i;
    j = j < 0 ? (j < -len ? 0 : len + j + 1) : j > len ? len : j;
    return i > j ? STR("") : (struct str){t.at + i - 1, (size_t)(j - i + 1)};
}

static int chunk_sub(lua_State *L)
{
    struct str s = range(L, chunk_at(L, 1).octets, luaL_optinteger(L, 2, 1), luaL_optinteger(L, 3, -1));
    lua_pushlstring(L, s.at, s.len);
    return 1;
}

static int chunk_byte(lua_State *L)
{
    lua_Integer i = luaL_optinteger(L, 2, 1);
    struct str s = range(L, chunk_at(L, 1).octets, i, i);
    if (!s.len)
        return 0;
    lua_pushinteger(L, (unsigned char)s.at[0]);
    return 1;
}

/* chunk:find(text) or chunk:find(re "...") */
static int chunk_find(lua_State *L)
{
    struct filter_chunk c = chunk_at(L, 1);
    if (lua_type(L, 2) != LUA_TSTRING) { /* re:find(chunk, init) */
        lua_getfield(L, 2, "find");
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 1);
        lua_call(L, 2, LUA_MULTRET);
        return lua_gettop(L) - 2;
    }
    size_t len;
    const char *what = lua_tolstring(L, 2, &len), *at = memmem(c.octets.at, c.octets.len, what, len);
    if (!at)
        return lua_pushnil(L), 1;
    lua_pushinteger(L, at - c.octets.at + 1);
    lua_pushinteger(L, at - c.octets.at + (lua_Integer)len);
    return 2;
}

static int chunk_emit(lua_State *L, const char *text, size_t len)
{
    chunk_at(L, 1);
    struct lua_run *run = run_of(L);
    if (!(run->host->flags & FILTER_EDITS_BODY))
        return luaL_error(L, "a script that changes the body says edits_body() in its main chunk");
    if (run->replaced)
        return luaL_error(L, "this chunk is replaced already");
    run->replaced = true;
    return emit_text(L, run, text, len);
}

static int chunk_replace(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    return chunk_emit(L, text, len);
}

static int chunk_drop(lua_State *L)
{
    return chunk_emit(L, "", 0);
}

/* ---- reply ------------------------------------------------------------------------------------------------------- */

void push_reply(lua_State *L, struct lua_run *run)
{
    struct filter_call *call = run->call;
    struct filter_path p = {.size = sizeof p};
    lua_newtable(L);
    set_fact(L, call, "stage", "reply.stage");
    set_fact(L, call, "enhanced", "reply.enhanced");
    set_fact(L, call, "text", "reply.text");
    set_fact(L, call, "queue_id", "reply.queue_id");
    push_fact_integer(L, call, "reply.code");
    lua_setfield(L, -2, "code");
    lua_getfield(L, -1, "stage");
    bool rcpt = lua_tostring(L, -1) && !strcmp(lua_tostring(L, -1), "rcpt");
    lua_pop(L, 1);
    if (rcpt && filter_rcpt(call, filter_rcpt_now(call), &p)) {
        push_address(L, run, &p, filter_rcpt_now(call));
        lua_setfield(L, -2, "rcpt");
    }
}

/* ---- separate ---------------------------------------------------------------------------------------------------- */

static bool all_refused(struct filter_call *call, const struct lua_transaction *tx)
{
    for (const struct lua_place *p = tx->places; p; p = p->next) {
        struct filter_path path = {.size = sizeof path};
        if (filter_rcpt(call, p->rcpt, &path) && path.state != RCPT_REFUSED && path.state != RCPT_DROPPED)
            return false;
    }
    return true;
}

/* separate(key), in on.rcpt: nil when this recipient may share the message with those before it, else the verdict to
 * return. A key whose recipients were all refused is given up. */
static int separate(lua_State *L)
{
    struct filter_call *call = run_call(L, "separate()");
    struct lua_run *run = run_of(L);
    const char *key = lua_plain(L, 1);
    if (run->stage != FILTER_RCPT)
        return luaL_error(L, "separate(key) is for on.rcpt");
    struct lua_transaction *tx = transaction_of(run);
    if (tx->separate && strcmp(tx->separate, key) && !all_refused(call, tx)) {
        lua_getfield(L, lua_upvalueindex(1), "defer");
        lua_pushliteral(L, "452 4.5.3 Send a separate message to this recipient");
        lua_call(L, 1, 1);
        return 1;
    }
    if (!tx->separate || strcmp(tx->separate, key)) {
        size_t len = strlen(key) + 1;
        tx->separate = memcpy(filter_alloc(call, LIFE_TRANSACTION, len), key, len);
        tx->places = NULL;
    }
    struct lua_place *place = filter_alloc(call, LIFE_TRANSACTION, sizeof *place);
    *place = (struct lua_place){tx->places, filter_rcpt_now(call)};
    tx->places = place;
    lua_pushnil(L);
    return 1;
}

void message_install(lua_State *L)
{
    static const luaL_Reg sessions[] = {{"who", session_who}, {NULL, NULL}},
                          session_meta[] = {{"__index", session_index}, {NULL, NULL}};
    static const luaL_Reg messages[] = {{"set_from", set_from}, {"add_rcpt", add_rcpt}, {"remove_rcpt", remove_rcpt},
                                        {"set_rcpt", set_rcpt}, {"route", route},       {"score", score},
                                        {"set_body", set_body}, {"body", message_body}, {NULL, NULL}};
    static const luaL_Reg message_meta[] = {{"__index", message_index}, {NULL, NULL}}, none[] = {{NULL, NULL}};
    static const luaL_Reg tag_meta[] = {{"__index", tags_index}, {"__newindex", tags_write}, {NULL, NULL}};
    static const luaL_Reg chunks[] = {{"sub", chunk_sub},   {"byte", chunk_byte},       {"find", chunk_find},
                                      {"text", chunk_text}, {"replace", chunk_replace}, {"drop", chunk_drop},
                                      {NULL, NULL}};
    static const luaL_Reg chunk_meta[] = {
        {"__index", chunk_index}, {"__len", chunk_length}, {"__tostring", chunk_text}, {NULL, NULL}};
    lua_class(L, SESSION, sessions, session_meta);
    lua_class(L, MESSAGE, messages, message_meta);
    lua_class(L, TAGS, none, tag_meta);
    lua_class(L, CHUNK, chunks, chunk_meta);
    lua_class_fields(L, SESSION, session_fields);
    lua_class_fields(L, MESSAGE, message_fields);
    lua_class_fields(L, CHUNK, chunk_fields);
    fields_install(L);
    address_install(L);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, separate, 1);
    lua_setfield(L, -2, "separate");
}
