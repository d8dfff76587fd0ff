/* async.c - the functions of scripts that wait: DNS, stores, sleep, reading the body, room for emitted octets.
 *
 * Each starts an op of the filter contract and yields. When the op ends, resume continues the coroutine with the event, and a continuation
 * function pushes the result while the texts of the event are valid. A run has one pending op, except for dns.bl, which queries all zones
 * at once. Where Lua cannot yield (in the comparator of sort, or a function given to gsub) these functions raise an error. */
#include "filters/lua/host.h"
#include "base/idn.h"
#include <arpa/inet.h>
#include <math.h>

#define STORE "store"

void push_value(lua_State *L, const struct filter_value *v)
{
    struct filter_text text, key;
    luaL_checkstack(L, 4, NULL);
    switch (filter_value_type(v)) {
    case TYPE_BOOL: lua_pushboolean(L, filter_value_integer(v) != 0); return;
    case TYPE_SIZE: lua_pushinteger(L, filter_value_integer(v)); return;
    case TYPE_NUMBER:
    case TYPE_DURATION:
        if ((double)filter_value_integer(v) == filter_value_number(v))
            lua_pushinteger(L, filter_value_integer(v));
        else
            lua_pushnumber(L, filter_value_number(v));
        return;
    case TYPE_TEXT:
    case TYPE_ADDRESS:
        text = filter_value_text(v);
        lua_pushlstring(L, text.at ? text.at : "", text.len);
        return;
    case TYPE_LIST:
    case TYPE_MAP:
        lua_newtable(L);
        for (size_t i = 0, n = filter_value_count(v); i < n; i++) {
            const struct filter_value *item = filter_value_at(v, i, &key);
            if (filter_value_type(v) == TYPE_MAP)
                lua_pushlstring(L, key.at, key.len);
            else
                lua_pushinteger(L, (lua_Integer)i + 1);
            push_value(L, item);
            lua_rawset(L, -3);
        }
        return;
    case TYPE_CIDR:
    case TYPE_TABLE: push_lookup(L, v); return;
    default: lua_pushnil(L);
    }
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static struct filter_call *begin(lua_State *L, const char *what, bool at_once)
{
    struct filter_call *call = run_call(L, what);
    struct lua_run *run = run_of(L);
    if (!run->may_wait && !at_once)
        luaL_error(L, "%s: on.%s cannot wait", what, lua_stage_names[run->stage]);
    if (!lua_isyieldable(L))
        luaL_error(
            L,
            "%s cannot wait here, inside a function that C called (the comparator of table.sort, a function given to "
            "gsub or remove, __tostring, __close after a timeout): collect first, then ask",
            what);
    return call;
}

static int wait_for(lua_State *L, uint64_t op, lua_KContext context, lua_KFunction next)
{
    run_of(L)->op = op;
    return lua_yieldk(L, 0, context, next);
}

/* Matches a code against the pattern after "=" of a zone, as in Postfix: "127.0.0.[2..254]", "127.0.1.2", "127.0.[1;2].[1..3]". NULL at
 * the end; false with *good set to false: not a valid pattern. */
static bool code_matches(const char *filter, const unsigned char code[4], bool *good)
{
    bool all = true;
    *good = true;
    for (int i = 0; i < 4; i++) {
        bool list = *filter == '[', found = false;
        filter += list;
        do {
            unsigned from, to;
            int n = 0;
            if (sscanf(filter, "%3u%n", &from, &n) < 1)
                return *good = false;
            filter += n;
            to = from;
            if (list && !strncmp(filter, "..", 2)) {
                if (sscanf(filter + 2, "%3u%n", &to, &n) < 1)
                    return *good = false;
                filter += 2 + n;
            }
            *good = *good && from <= to && to <= 255;
            found = found || (code[i] >= from && code[i] <= to);
        } while (list && *filter == ';' && filter++);
        if ((list && *filter++ != ']') || (i < 3 && *filter++ != '.'))
            return *good = false;
        all = all && found;
    }
    *good = *good && !*filter;
    return all && *good;
}

bool zone_is_good(const char *zone)
{
    const char *filter = strchr(zone, '=');
    bool good = true;
    if (filter)
        code_matches(filter + 1, (const unsigned char[4]){0}, &good);
    return good && *zone && *zone != '=';
}

/* Interprets one address of the answer. 127.255.255.x (Spamhaus and others) and 127.0.0.1 (URIBL, SURBL) mean that queries of a public
 * resolver are refused. An address outside of 127.0.0.0/8 is the error "bad": it comes from a domain that is no longer a list. */
static void record_code(struct lua_listing *l, struct filter_text t, const char *filter)
{
    unsigned char code[4];
    bool good;
    if (l->listed || !t.at)
        return;
    if (t.len >= sizeof l->code || inet_pton(AF_INET, t.at, code) != 1 || code[0] != 127) {
        l->error = "bad";
        return;
    }
    memcpy(l->code, t.at, t.len + 1);
    bool refuses = !strncmp(l->code, "127.255.255.", 12) || !strcmp(l->code, "127.0.0.1");
    l->listed = !refuses && code_matches(filter, code, &good);
    l->error = l->listed ? NULL : refuses ? "refused" : l->error;
}

static void record(struct lua_listing *l, const struct filter_event *event)
{
    l->error = NULL;
    if (event->error) {
        static const char *const known[] = {"timeout", "servfail", "refused", "badname", "cancelled", "limit"};
        if (!strcmp(event->error, "nxdomain") || !strcmp(event->error, "nodata"))
            return;
        l->error = "failed";
        for (size_t i = 0; i < countof(known); i++)
            if (!strcmp(event->error, known[i]))
                l->error = known[i];
        return;
    }
    const struct filter_value *list = filter_value_get(event->value, "list");
    const char *filter = strchr(l->zone, '=');
    for (size_t i = 0, n = filter_value_count(list); i < n; i++)
        record_code(l, filter_value_text(filter_value_at(list, i, NULL)), filter ? filter + 1 : "127.0.0.[2..254]");
}

void async_event(struct lua_run *run, const struct filter_event *event, bool *whole)
{
    for (size_t i = 0; i < run->nlistings; i++)
        if (run->listings[i].op == event->op) {
            record(&run->listings[i], event);
            *whole = --run->open == 0;
            return;
        }
    *whole = event->op == run->op;
}

/* ---- sleep ------------------------------------------------------------------------------------------------------- */

static int slept(lua_State *L, int status, lua_KContext context)
{
    return 0;
}

static int sleep_for(lua_State *L)
{
    double seconds = lua_check_seconds(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= 3600, 1, "0 to an hour");
    struct filter_call *call = begin(L, "sleep", false);
    return wait_for(L, filter_timer(call, (unsigned)ceil(seconds * 1000)), 0, slept);
}

/* ---- DNS --------------------------------------------------------------------------------------------------------- */

static int answered(lua_State *L, int status, lua_KContext context)
{
    const struct filter_event *e = run_of(L)->event;
    if (e->error) {
        lua_pushnil(L);
        lua_pushstring(L, e->error);
        return 2;
    }
    push_value(L, filter_value_get(e->value, "list"));
    lua_newtable(L);
    push_value(L, filter_value_get(e->value, "ttl"));
    lua_setfield(L, -2, "ttl");
    push_value(L, filter_value_get(e->value, "authentic"));
    lua_setfield(L, -2, "authentic");
    return 2;
}

static unsigned milliseconds(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return 0;
    double seconds = lua_check_seconds(L, arg);
    luaL_argcheck(L, seconds > 0 && seconds <= 300, arg, "more than 0, at most 5 minutes");
    return (unsigned)ceil(seconds * 1000);
}

static const char *name_at(lua_State *L, int arg)
{
    char room[IDN_ROOM];
    struct str s = address_text(L, arg);
    luaL_argcheck(L, strlen(s.at) == s.len, arg, "a NUL cannot stand in a name");
    if (str_is_ascii(s))
        return s.at;
    s = idn_fold(s, room); /* DNS knows A-labels */
    lua_pushlstring(L, s.at, s.len);
    lua_replace(L, arg);
    return lua_tostring(L, arg);
}

static int ask(lua_State *L)
{
    const char *type = lua_tostring(L, lua_upvalueindex(1)), *name = name_at(L, 1);
    char what[16];
    unsigned ms = 0;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "timeout");
        ms = milliseconds(L, lua_gettop(L));
    }
    snprintf(what, sizeof what, "dns.%s", type);
    struct filter_call *call = begin(L, what, false);
    return wait_for(L, filter_dns(call, type, name, ms), 0, answered);
}

static int listed(lua_State *L, int status, lua_KContext context)
{
    struct lua_run *run = run_of(L);
    lua_newtable(L);
    for (size_t i = 0; i < run->nlistings; i++) {
        const struct lua_listing *l = &run->listings[i];
        lua_newtable(L);
        lua_pushboolean(L, l->listed);
        lua_setfield(L, -2, "listed");
        if (l->code[0]) {
            lua_pushstring(L, l->code);
            lua_setfield(L, -2, "code");
        }
        if (l->error) {
            lua_pushstring(L, l->error);
            lua_setfield(L, -2, "error");
        }
        lua_setfield(L, -2, l->zone);
    }
    run->nlistings = 0;
    return 1;
}

/* dns.bl(ip or domain, { "zone", "zone=127.0.[2..20].[1..3]", ... } [, timeout]): all zones at once. Without "=" the
 * codes 127.0.0.2 to 127.0.0.254 are listings. { [zone as given] = { listed =, code =, error = } } */
static int ask_lists(lua_State *L)
{
    struct lua_run *run = run_of(L);
    struct filter_call *call = begin(L, "dns.bl", false);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = lua_rawlen(L, 2);
    unsigned ms = milliseconds(L, 3);
    luaL_argcheck(L, n <= LUA_ZONES_MOST, 2, "at most 32 zones");
    lua_settop(L, 2);
    if (luaL_testudata(L, 1, "ip")) {
        lua_getfield(L, 1, "reverse");
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        lua_replace(L, 1);
    }
    const char *name = name_at(L, 1);
    for (size_t i = 0; i < n; i++) { /* checks that can raise, before the first query */
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        if (!zone_is_good(lua_plain(L, -1)))
            return luaL_error(L, "dns.bl: " ZONE_WRONG, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    run->listings = filter_alloc(call, LIFE_CALL, (n + 1) * sizeof *run->listings);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        const char *zone = lua_tostring(L, -1);
        size_t len = strlen(zone) + 1, room = strlen(name) + len + 1;
        char *question = filter_alloc(call, LIFE_CALL, room);
        snprintf(question, room, "%s%s%.*s", name, *name ? "." : "", (int)strcspn(zone, "="), zone);
        run->listings[i].zone = memcpy(filter_alloc(call, LIFE_CALL, len), zone, len);
        run->listings[i].op = filter_dns(call, "a", question, ms);
        lua_pop(L, 1);
    }
    run->nlistings = run->open = n;
    if (!n)
        return listed(L, LUA_OK, 0);
    return wait_for(L, 0, 0, listed);
}

/* ---- stores ------------------------------------------------------------------------------------------------------ */

/* What follows the key: v value, s set member, t ttl, w window, l limit, n amount (optional), r rate a second, b burst
 */
static const struct lua_store_op {
    const char *name, *args;
} store_ops[] = {{"get", ""},      {"set", "vt"},    {"add", "vt"},     {"incr", "nt"},     {"del", ""},
                 {"ttl", ""},      {"rate", "lwn"},  {"bucket", "rbn"}, {"distinct", "sw"}, {"set_add", "st"},
                 {"set_has", "s"}, {"set_size", ""}, {"set_del", "s"}};
enum { TRIED = 1, BUCKET = 2, DISTINCT = 4 };

static int stored(lua_State *L, int status, lua_KContext context)
{
    const struct filter_event *e = run_of(L)->event;
    if (e->error && (context & DISTINCT) && !strcmp(e->error, "limit")) { /* too many to be counted, so over any limit */
        lua_pushnumber(L, HUGE_VAL);
        return 1;
    }
    if (e->error && (context & TRIED)) {
        lua_pushnil(L);
        lua_pushstring(L, e->error);
        return 2;
    }
    if (e->error)
        return luaL_error(L, "store: %s", !strcmp(e->error, "bad") ? "bad arguments, or no such store" : e->error);
    if (context & BUCKET) {
        push_value(L, filter_value_get(e->value, "ok"));
        push_value(L, filter_value_get(e->value, "wait"));
        return 2;
    }
    push_value(L, e->value);
    return 1;
}

static void member(lua_State *L, int arg, struct filter_store *want, bool keeps_integers)
{
    if (keeps_integers && lua_isinteger(L, arg)) {
        lua_Integer n = lua_tointeger(L, arg);
        luaL_argcheck(L, n > -((lua_Integer)1 << 53) && n < (lua_Integer)1 << 53, arg, "an integer below 2^53");
        want->n = (double)n; /* no text: the integer itself */
        return;
    }
    struct str s = address_text(L, arg);
    want->value = (struct filter_text){s.at, s.len};
}

static double positive(lua_State *L, int arg)
{
    double n = lua_check_seconds(L, arg);
    luaL_argcheck(L, n > 0, arg, "more than 0");
    return n;
}

static int store_act(lua_State *L, const struct lua_store_op *op, int at, bool tried)
{
    const char *const *name = luaL_checkudata(L, 1, STORE);
    char what[32];
    snprintf(what, sizeof what, "store:%s", op->name);
    struct filter_call *call = begin(L, what, true);
    struct str key = address_text(L, at);
    luaL_argcheck(L, key.len && key.len <= 512 && !memchr(key.at, 0, key.len), at,
                  "a key of 1 to 512 octets, without NUL");
    struct filter_store want = {.size = sizeof want, .store = *name, .op = op->name, .key = {key.at, key.len}};
    for (const char *c = op->args; *c; c++) {
        at++;
        switch (*c) {
        case 'v': member(L, at, &want, true); break;
        case 's': member(L, at, &want, false); break;
        case 't': want.ttl = positive(L, at); break;
        case 'w': want.window = positive(L, at); break;
        case 'l': want.limit = luaL_checknumber(L, at); break;
        case 'r': want.window = positive(L, at); break;
        case 'b':
            want.limit = luaL_checknumber(L, at);
            want.window = want.limit / want.window;
            break;
        default: want.n = luaL_optnumber(L, at, 1);
        }
    }
    int flags = (tried ? TRIED : 0) | (!strcmp(op->name, "bucket") ? BUCKET : 0) |
                (!strcmp(op->name, "distinct") ? DISTINCT : 0);
    if (!strcmp(op->name, "rate") && want.limit <= 0) { /* nothing is allowed, so the store is not needed */
        lua_newtable(L);
        lua_pushboolean(L, 0), lua_setfield(L, -2, "ok");
        lua_pushinteger(L, 0), lua_setfield(L, -2, "count");
        lua_pushinteger(L, 0), lua_setfield(L, -2, "remaining");
        lua_pushinteger(L, (lua_Integer)ceil(want.window)), lua_setfield(L, -2, "retry_after");
        return 1;
    }
    return wait_for(L, filter_store(call, &want), flags, stored);
}

static int store_method(lua_State *L)
{
    return store_act(L, &store_ops[lua_tointeger(L, lua_upvalueindex(1))], 2, false);
}

/* st:try("get", key): nil and the error, where st:get would raise */
static int store_try(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2), *names[countof(store_ops)];
    for (size_t i = 0; i < countof(store_ops); i++) {
        names[i] = store_ops[i].name;
        if (!strcmp(name, names[i]))
            return store_act(L, &store_ops[i], 3, true);
    }
    const char *near = nearest_name(str_of(name), names, countof(names)).at;
    return luaL_error(L, near ? "a store has no \"%s\" (did you mean \"%s\"?)" : "a store has no \"%s\"", name, near);
}

static int store_named(lua_State *L)
{
    const char *name = lua_isnoneornil(L, 1) ? "default" : lua_plain(L, 1);
    const char **at = lua_new(L, STORE, sizeof *at + strlen(name) + 1);
    *at = strcpy((char *)(at + 1), name);
    return 1;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

/* Stack: 1 message, 2 maximum in octets, 3 the octets so far. */
static int read_more(lua_State *L, int status, lua_KContext context)
{
    struct lua_run *run = run_of(L);
    size_t most = (size_t)lua_tointeger(L, 2), got = lua_rawlen(L, 3);
    if (status == LUA_YIELD) {
        const struct filter_event *e = run->event;
        if (e->error)
            return luaL_error(L, "m:body: %s", !strcmp(e->error, "forbidden") ? "the content is not held" : e->error);
        size_t n = min_size(e->octets.len, most - got);
        lua_pushlstring(L, e->octets.at ? e->octets.at : "", n);
        lua_concat(L, 2);
        got += n;
        if (e->ended || e->octets.len == 0 || got == most) {
            lua_pushboolean(L, e->ended && n == e->octets.len);
            return 2;
        }
    }
    size_t n = min_size(most - got, 65536);
    return wait_for(L, filter_content(run->call, got, n), 0, read_more);
}

/* m:body { max = "256K" }: the text, and whether it is whole */
int message_body(lua_State *L)
{
    struct lua_run *run = run_of(L);
    message_check(L, 1, "message");
    begin(L, "m:body", false);
    if (run->stage != FILTER_MESSAGE || !(run->host->flags & (FILTER_READS_BACK | FILTER_LATE_BODY)))
        return luaL_error(L, "m:body is for on.message of a script that says reads_body() in its main chunk");
    uint64_t most = 256 * 1024;
    double tagged;
    bool is_size;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "max");
        size_t len;
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (text && !value_parse_size((struct str){text, len}, &most))
            return luaL_error(L, "m:body: max is a size like \"256K\"");
        if (lua_to_tagged(L, -1, &tagged, &is_size))
            most = (uint64_t)tagged;
        else if (lua_type(L, -1) == LUA_TNUMBER)
            most = (uint64_t)fmax(0, lua_tonumber(L, -1));
    }
    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)min_u64(most, (uint64_t)run->host->memory / 4));
    lua_pushliteral(L, "");
    return read_more(L, LUA_OK, 0);
}

static int emit_more(lua_State *L, int status, lua_KContext context)
{
    struct lua_run *run = run_of(L);
    do {
        size_t n = min_size(run->put_len - run->put_at, 65536);
        bool room = filter_emit(run->call, run->put_text + run->put_at, n);
        run->put_at += n;
        if (!room && run->put_at < run->put_len && run->may_wait && lua_isyieldable(L))
            return wait_for(L, filter_room(run->call), 0, emit_more);
    } while (run->put_at < run->put_len);
    return 0;
}

int emit_text(lua_State *L, struct lua_run *run, const char *text, size_t len)
{
    run->put_text = text; /* a string on this function's stack: it lives as long as the wait */
    run->put_len = len;
    run->put_at = 0;
    return emit_more(L, LUA_OK, 0);
}

void async_install(lua_State *L)
{
    static const char *const types[] = {"a", "aaaa", "mx", "txt", "ptr", "cname", "srv", "ns", "soa", "tlsa"};
    static const luaL_Reg functions[] = {{"sleep", sleep_for}, {"store", store_named}, {NULL, NULL}};
    static const luaL_Reg stores[] = {{"try", store_try}, {NULL, NULL}}, none[] = {{NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_newtable(L);
    for (size_t i = 0; i < countof(types); i++) {
        lua_pushstring(L, types[i]);
        lua_pushcclosure(L, ask, 1);
        lua_setfield(L, -2, types[i]);
    }
    lua_pushcfunction(L, ask_lists);
    lua_setfield(L, -2, "bl");
    lua_setfield(L, -2, "dns");
    lua_class(L, STORE, stores, none);
    luaL_getmetatable(L, STORE);
    lua_getfield(L, -1, "methods");
    for (size_t i = 0; i < countof(store_ops); i++) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_pushcclosure(L, store_method, 1);
        lua_setfield(L, -2, store_ops[i].name);
    }
    lua_pop(L, 2);
}
