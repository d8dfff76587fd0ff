/* sandbox.c - the globals and libraries of scripts.
 *
 * Not available: io, package, debug, coroutines, load and bytecode, os except clocks, __gc. Reading an unknown global raises with a suggestion,
 * writing one raises. xpcall is replaced: Lua's own runs its handler inside the hook that kills a script, where hooks are disabled, so that
 * an endless handler would never end. */
#include "filters/lua/host.h"
#include <time.h>

const char lua_globals;

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* The key of the table at `at` that is nearest to `word`, pushed; nil when none is. */
static const char *push_nearest_key(lua_State *L, int at, const char *word)
{
    const char *names[256];
    size_t n = 0;
    at = lua_absindex(L, at);
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && n < countof(names))
            names[n++] = lua_tostring(L, -2);
    const char *near = nearest_name(str_of(word), names, n).at;
    return near ? lua_pushstring(L, near) : (lua_pushnil(L), NULL);
}

/* ---- classes ----------------------------------------------------------------------------------------------------- */

int lua_method(lua_State *L, const char *kind, const char *const *fields)
{
    const char *name = lua_tostring(L, 2), *near = NULL;
    if (!name)
        return luaL_error(L, "a %s has names as keys, not a %s", kind, luaL_typename(L, 2));
    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return 1;
    lua_pop(L, 1);
    size_t n = 0;
    while (fields && fields[n])
        n++;
    if (fields)
        near = nearest_name(str_of(name), fields, n).at;
    if (!near)
        near = push_nearest_key(L, -1, name);
    return luaL_error(L, near ? "a %s has no \"%s\" (did you mean \"%s\"?)" : "a %s has no \"%s\"", kind, name, near);
}

static int method_of_class(lua_State *L)
{
    return lua_method(L, lua_tostring(L, lua_upvalueindex(1)), NULL);
}

static int refuse_write(lua_State *L)
{
    return luaL_error(L, "a %s cannot be written to", lua_tostring(L, lua_upvalueindex(1)));
}

void lua_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta)
{
    luaL_newmetatable(L, name);
    lua_pushstring(L, name);
    lua_pushcclosure(L, method_of_class, 1);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_pushcclosure(L, refuse_write, 1);
    lua_setfield(L, -2, "__newindex");
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "methods");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void lua_class_fields(lua_State *L, const char *class, const char *const *fields)
{
    luaL_getmetatable(L, class);
    lua_newtable(L);
    for (; *fields; fields++) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, *fields);
    }
    lua_setfield(L, -2, "fields");
    lua_pop(L, 1);
}

void *lua_new(lua_State *L, const char *class, size_t octets)
{
    void *at = lua_newuserdatauv(L, octets, 1);
    memset(at, 0, octets);
    luaL_setmetatable(L, class);
    return at;
}

const char *lua_plain(lua_State *L, int arg)
{
    size_t len;
    const char *text = luaL_checklstring(L, arg, &len);
    luaL_argcheck(L, strlen(text) == len, arg, "a NUL cannot stand here");
    return text;
}

/* ---- base -------------------------------------------------------------------------------------------------------- */

static int set_metatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or a table is expected");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "this metatable cannot be changed");
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "__gc is not for scripts: use <close>");
        lua_pop(L, 1);
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int get_metatable(lua_State *L)
{
    luaL_checkany(L, 1);
    if (lua_type(L, 1) != LUA_TTABLE || !lua_getmetatable(L, 1))
        lua_pushnil(L);
    else if (luaL_getmetafield(L, 1, "__metatable") == LUA_TNIL)
        lua_pushvalue(L, -1);
    return 1;
}

static int safe_done(lua_State *L, int status, lua_KContext first)
{
    if (status == LUA_OK || status == LUA_YIELD) {
        lua_pushboolean(L, 1);
        lua_replace(L, 2);
        return lua_gettop(L) - 1;
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_call(L, 1, 1);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* xpcall(f, handler, ...): the handler runs after the stack is unwound, as any function, under the limits. */
static int safe_call(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_replace(L, 1); /* handler */
    lua_replace(L, 2); /* f; arguments behind it */
    int n = lua_gettop(L) - 2;
    lua_pushboolean(L, 1);
    lua_insert(L, 2); /* handler, true, f, ... */
    return safe_done(L, lua_pcallk(L, n, LUA_MULTRET, 0, 0, safe_done), 0);
}

static int count_memory(lua_State *L)
{
    const char *what = luaL_optstring(L, 1, "count");
    if (strcmp(what, "count"))
        return luaL_error(L, "collectgarbage: only \"count\" is there");
    lua_pushnumber(L, lua_gc(L, LUA_GCCOUNT) + lua_gc(L, LUA_GCCOUNTB) / 1024.0);
    return 1;
}

static int say_print(lua_State *L)
{
    struct lua_run *run = run_of(L);
    luaL_Buffer b;
    int n = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
        luaL_addstring(&b, i < n ? " " : "");
    }
    luaL_pushresult(&b);
    if (run && run->call)
        filter_log(run->call, lua_toboolean(L, lua_upvalueindex(1)) ? LEVEL_WARNING : LEVEL_INFO, "%s",
                   lua_tostring(L, -1));
    return 0;
}

/* ---- os: clocks only --------------------------------------------------------------------------------------------- */

static int os_stock(lua_State *L, const char *name, int nargs)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "stock_os");
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    lua_insert(L, -nargs - 1);
    lua_call(L, nargs, 1);
    return 1;
}

static lua_Integer wall_seconds(lua_State *L)
{
    struct lua_run *run = run_of(L);
    return run && run->call ? filter_now(run->call, true) / 1000000
                            : (lua_Integer)time(NULL); /* the check has no clock */
}

static int os_time(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
        return lua_settop(L, 1), os_stock(L, "time", 1);
    lua_pushinteger(L, wall_seconds(L));
    return 1;
}

static int os_date(lua_State *L)
{
    luaL_argcheck(L, strlen(luaL_optstring(L, 1, "")) <= 1000, 1, "too long"); /* each %p of it takes its time */
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_pushliteral(L, "%c");
        lua_replace(L, 1);
    }
    if (lua_isnil(L, 2)) {
        lua_pushinteger(L, wall_seconds(L));
        lua_replace(L, 2);
    }
    return os_stock(L, "date", 2);
}

/* ---- strict globals ---------------------------------------------------------------------------------------------- */

const char *lua_later(const char *global)
{
    static const char *const names[][2] = {
        {"metrics", "metrics come in a later version: this one collects none"},
        {"http", "http comes in a later version"},
        {"redis", "redis comes in a later version: use store"},
        {"parts", "parts{...} comes in a later version: this one does not read MIME parts"}};
    for (size_t i = 0; i < countof(names); i++)
        if (!strcmp(global, names[i][0]))
            return names[i][1];
    return NULL;
}

static int unknown_global(lua_State *L)
{
    const char *name = lua_tostring(L, 2);
    if (name && lua_later(name))
        return luaL_error(L, "%s", lua_later(name));
    const char *near = name ? push_nearest_key(L, 1, name) : NULL;
    return luaL_error(L, near ? "unknown name \"%s\" (did you mean \"%s\"?)" : "unknown name \"%s\"", name ? name : "?",
                      near);
}

static int global_write(lua_State *L)
{
    const char *name = lua_tostring(L, 2);
    return luaL_error(L, "\"%s\" is global: say \"local %s\" first", name ? name : "?", name ? name : "?");
}

static int hook_index(const char *name)
{
    for (int i = 0; i < FILTER_TICK; i++)
        if (!strcmp(name, lua_stage_names[i]))
            return i;
    return -1;
}

/* The error for an unknown hook: misspelt, or with the name that other programs use. */
static const char *nearest_hook(const char *name)
{
    static const char *const others[][2] = {
        {"chunk", "body"},       {"recipient", "rcpt"},  {"rcptto", "rcpt"},       {"sender", "mail"},
        {"from", "mail"},        {"mailfrom", "mail"},   {"ehlo", "helo"},         {"header", "headers"},
        {"eoh", "headers"},      {"eom", "message"},     {"data_post", "message"}, {"queue", "reply"},
        {"close", "disconnect"}, {"quit", "disconnect"}, {"init", "start"},        {"starttls", "tls"},
        {"envfrom", "mail"},     {"envrcpt", "rcpt"},    {"abort", "reset"},       {"rset", "reset"},
        {"to", "rcpt"},          {"content", "body"}};
    for (size_t i = 0; i < countof(others); i++)
        if (!strcasecmp(name, others[i][0]))
            return others[i][1];
    return nearest_name(str_of(name), lua_stage_names, FILTER_TICK).at;
}

/* on.NAME = function */
static int hook_define(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    struct lua_box *box = run_of(L)->box;
    int stage = hook_index(name);
    if (box->closed_main)
        return luaL_error(L, "on.%s: hooks are defined when the script is loaded", name);
    if (stage < 0) {
        const char *near = nearest_hook(name);
        if (near)
            return luaL_error(L, "there is no hook \"%s\" (did you mean \"%s\"?)", name, near);
        return luaL_error(
            L,
            "there is no hook \"%s\": there are connect, tls, helo, auth, mail, rcpt, data, headers, body, "
            "message, reply, reset, disconnect and start",
            name);
    }
    if (stage == FILTER_PART)
        return luaL_error(L, "on.part comes in a later version: this one does not read MIME parts");
    luaL_argcheck(L, lua_isfunction(L, 3), 3, "a hook is a function");
    if (box->hooks[stage])
        return luaL_error(L, "on.%s is defined twice", name);
    lua_settop(L, 3);
    box->hooks[stage] = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static int hook_read(lua_State *L)
{
    return luaL_error(L, "on.%s can be defined, not read", luaL_tolstring(L, 2, NULL));
}

static int declare(lua_State *L)
{
    struct lua_run *run = run_of(L);
    if (!run->main)
        return luaL_error(L, "say this in the main chunk, outside of any function");
    if (run->loading)
        run->host->flags |= (unsigned)lua_tointeger(L, lua_upvalueindex(1));
    return 0;
}

static void install_declaration(lua_State *L, const char *name, unsigned flags)
{
    lua_pushinteger(L, flags);
    lua_pushcclosure(L, declare, 1);
    lua_setfield(L, -2, name);
}

/* every("1m", f) */
static int every(lua_State *L)
{
    struct lua_run *run = run_of(L);
    double seconds = lua_check_seconds(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (!run->main)
        return luaL_error(L, "every(...) stands in the main chunk, outside of any function");
    luaL_argcheck(L, seconds >= 1 && seconds <= 86400 * 366.0, 1, "a second at least");
    if (run->box->nevery == LUA_EVERY_MOST)
        return luaL_error(L, "at most %d every(...)", LUA_EVERY_MOST);
    lua_settop(L, 2);
    run->box->every[run->box->nevery++] = luaL_ref(L, LUA_REGISTRYINDEX);
    if (run->loading)
        filter_every(run->loading, run->box->nevery, (unsigned)seconds);
    return 0;
}

/* ---- putting it together ----------------------------------------------------------------------------------------- */

/* Stack: the stock globals, ours. A library of ours made of some names of the stock one; left at the top. */
static void begin_library(lua_State *L, const char *library, const char *const *names)
{
    lua_newtable(L);
    lua_getfield(L, -3, library);
    for (; *names; names++) {
        lua_getfield(L, -1, *names);
        lua_setfield(L, -3, *names);
    }
    lua_pop(L, 1);
}

static void install_base(lua_State *L)
{
    static const char *const names[] = {"assert",   "error",  "ipairs",   "next",   "pairs",  "pcall",
                                        "rawequal", "rawget", "rawlen",   "rawset", "select", "tonumber",
                                        "tostring", "type",   "_VERSION", NULL};
    static const luaL_Reg own[] = {{"setmetatable", set_metatable},
                                   {"getmetatable", get_metatable},
                                   {"xpcall", safe_call},
                                   {"collectgarbage", count_memory},
                                   {"every", every},
                                   {NULL, NULL}};
    for (const char *const *name = names; *name; name++) { /* stack: the stock globals, ours */
        lua_getfield(L, -2, *name);
        lua_setfield(L, -2, *name);
    }
    luaL_setfuncs(L, own, 0);
    for (int warn = 0; warn <= 1; warn++) {
        lua_pushboolean(L, warn);
        lua_pushcclosure(L, say_print, 1);
        lua_setfield(L, -2, warn ? "warn" : "print");
    }
    install_declaration(L, "edits_late",
                        FILTER_LATE_FIELDS | FILTER_LATE_BODY | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE);
    install_declaration(L, "edits_body", FILTER_EDITS_BODY);
    install_declaration(L, "reads_body", FILTER_READS_BACK);
}

static void install_libraries(lua_State *L)
{
    static const char *const strings[] = {"byte",    "char", "format", "len",    "lower",    "upper",
                                          "reverse", "sub",  "pack",   "unpack", "packsize", NULL};
    static const char *const maths[] = {"abs",  "ceil",       "floor", "fmod", "huge",   "max",  "maxinteger",
                                        "min",  "mininteger", "modf",  "pi",   "random", "sqrt", "tointeger",
                                        "type", "ult",        "exp",   "log",  "sin",    "cos",  "tan",
                                        "asin", "acos",       "atan",  "deg",  "rad",    NULL};
    static const char *const utf[] = {"char", "charpattern", "codepoint", "codes", "len", "offset", NULL};
    static const char *const none[] = {NULL}, *const oses[] = {"difftime", NULL};
    static const luaL_Reg own_os[] = {{"time", os_time}, {"date", os_date}, {NULL, NULL}};
    begin_library(L, "string", strings);
    pattern_install(L);
    lua_pushliteral(L, ""); /* methods of texts: ("x"):rep(3) */
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
    lua_getfield(L, -1, "format");
    lua_setfield(L, LUA_REGISTRYINDEX, "format");
    lua_setfield(L, -2, "string");
    lua_getfield(L, -2, "math"); /* the seed is the host's: see load_main */
    lua_getfield(L, -1, "randomseed");
    lua_setfield(L, LUA_REGISTRYINDEX, "randomseed");
    lua_pop(L, 1);
    begin_library(L, "math", maths);
    lua_setfield(L, -2, "math");
    begin_library(L, "utf8", utf);
    lua_setfield(L, -2, "utf8");
    begin_library(L, "table", none);
    tables_install(L);
    lua_setfield(L, -2, "table");
    begin_library(L, "os", oses);
    luaL_setfuncs(L, own_os, 0);
    lua_setfield(L, -2, "os");
}

static void install_hooks(lua_State *L)
{
    lua_newtable(L);
    lua_newtable(L);
    lua_pushcfunction(L, hook_define);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, hook_read);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "on");
}

/* Library functions that are written in Lua. Stack: our globals on top. */
static void run_prelude(lua_State *L)
{
    static const char text[] = "function dns.fcrdns(ip, opt)\n"
                               "  local text = tostring(ip)\n"
                               "  local names, why = dns.ptr(text, opt)\n"
                               "  if not names then return nil, why end\n"
                               "  why = 'forged'\n"
                               "  for i = 1, math.min(#names, 5) do\n"
                               "    local ips, bad = (text:find(':', 1, true) and dns.aaaa or dns.a)(names[i], opt)\n"
                               "    for _, found in ipairs(ips or {}) do\n"
                               "      if found == text then return names[i] end\n"
                               "    end\n"
                               "    if bad == 'timeout' or bad == 'servfail' then why = bad end\n"
                               "  end\n"
                               "  return nil, why\n"
                               "end\n";
    if (luaL_loadbufferx(L, text, sizeof text - 1, "=dns.fcrdns", "t") != LUA_OK)
        lua_error(L);
    lua_pushvalue(L, -2);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 0);
}

int sandbox_open(lua_State *L)
{
    static const luaL_Reg stock[] = {{"_G", luaopen_base},     {"string", luaopen_string}, {"math", luaopen_math},
                                     {"table", luaopen_table}, {"utf8", luaopen_utf8},     {"os", luaopen_os}};
    for (size_t i = 0; i < countof(stock); i++) {
        luaL_requiref(L, stock[i].name, stock[i].func, 1);
        lua_pop(L, 1);
    }
    lua_pushglobaltable(L);
    lua_getfield(L, -1, "os");
    lua_setfield(L, LUA_REGISTRYINDEX, "stock_os");
    lua_newtable(L);
    install_base(L);
    install_libraries(L);
    install_hooks(L);
    verdict_install(L);
    options_install(L);
    message_install(L);
    async_install(L);
    library_install(L);
    run_prelude(L);
    lua_newtable(L);
    lua_pushcfunction(L, unknown_global);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, global_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &lua_globals);
    /* Drops Lua's own globals; no table of ours refers to them. */
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}
