/* re.c - re "pattern": PCRE2 with limits, on texts and on chunks of a body.
 *
 * A match that exceeds a limit raises an error, because nil would mean "no match". The last 128 patterns, of at most a quarter of `memory`
 * together, are cached by their text, so that re "..." inside a hook costs a look-up. Their memory is allocated outside of Lua and charged
 * to the call that compiled them. */
#include "filters/lua/host.h"
#include "base/pattern.h"

#define RE "re"
enum { CACHED = 128, PATTERN_MOST = 65536, NAMES_MOST = PATTERN_GROUPS };
enum { COUNT = 1, OCTETS = 2 }; /* keys in the cache table for its count and size; patterns have text keys */
struct re {
    struct pattern *pattern;
    struct lua_account *account;
};

static int re_free(lua_State *L)
{
    struct re *re = luaL_checkudata(L, 1, RE);
    if (re->pattern) {
        account_discharge(re->account, pattern_octets(re->pattern));
        pattern_close(re->pattern);
        re->pattern = NULL;
    }
    return 0;
}

static lua_Integer kept(lua_State *L, int which)
{
    lua_rawgeti(L, 2, which);
    lua_Integer n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

/* Stack: 1 text, 2 the cache, 3 pattern. */
static void keep(lua_State *L, size_t octets)
{
    lua_Integer n = kept(L, COUNT), all = kept(L, OCTETS) + (lua_Integer)octets;
    if (n >= CACHED || (double)all > run_of(L)->host->memory / 4) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_replace(L, 2);
        lua_setfield(L, LUA_REGISTRYINDEX, "patterns");
        n = 0;
        all = (lua_Integer)octets;
    }
    lua_pushinteger(L, n + 1);
    lua_rawseti(L, 2, COUNT);
    lua_pushinteger(L, all);
    lua_rawseti(L, 2, OCTETS);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_rawset(L, 2);
}

static int re_open(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_settop(L, 1);
    luaL_argcheck(L, len <= PATTERN_MOST, 1, "too long a pattern");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "patterns"); /* 2 */
    lua_pushvalue(L, 1);
    if (lua_rawget(L, 2) != LUA_TNIL)
        return 1;
    lua_settop(L, 2);
    struct re *re = lua_new(L, RE, sizeof *re); /* 3 */
    char error[200];
    re->pattern = pattern_open((struct str){text, len}, error, sizeof error);
    if (!re->pattern)
        return luaL_error(L, "re: %s", error);
    size_t octets = pattern_octets(re->pattern);
    re->account = account_charge(L, octets);
    box_check(L);
    keep(L, octets);
    return 1;
}

static bool match_at(lua_State *L, struct str s, size_t from, struct pattern_match *m)
{
    const struct re *re = luaL_checkudata(L, 1, RE);
    guard_poll(L);
    if (from > s.len)
        return false;
    switch (pattern_match_until(re->pattern, s, from, m, guard_is_due)) {
    case PATTERN_YES: return true;
    case PATTERN_NO: return false;
    default:
        guard_poll(L);
        return luaL_error(L, "re: the match was given up: the pattern needs too many steps for this text");
    }
}

static size_t init_at(lua_State *L, int arg, size_t len)
{
    lua_Integer at = luaL_optinteger(L, arg, 1);
    if (at < 0)
        at = at < -(lua_Integer)len ? 1 : (lua_Integer)len + at + 1;
    return at < 1 ? 0 : (size_t)at - 1;
}

static void push_group(lua_State *L, struct str s, const struct pattern_match *m, size_t i)
{
    if (i < m->count && m->group[i].set)
        lua_pushlstring(L, s.at + m->group[i].from, m->group[i].to - m->group[i].from);
    else
        lua_pushboolean(L, 0);
}

/* Pushes the captures, or the whole match if the pattern has none; a group that did not take part is false. */
static int push_groups(lua_State *L, struct str s, const struct pattern_match *m)
{
    luaL_checkstack(L, PATTERN_GROUPS, NULL);
    if (m->count <= 1)
        return push_group(L, s, m, 0), 1;
    for (size_t i = 1; i < m->count; i++)
        push_group(L, s, m, i);
    return (int)m->count - 1;
}

static int re_test(lua_State *L)
{
    struct pattern_match m;
    lua_pushboolean(L, match_at(L, subject_of(L, 2), 0, &m));
    return 1;
}

static int re_match(lua_State *L)
{
    struct pattern_match m;
    struct str s = subject_of(L, 2);
    if (!match_at(L, s, init_at(L, 3, s.len), &m))
        return lua_pushnil(L), 1;
    return push_groups(L, s, &m);
}

static int re_find(lua_State *L)
{
    struct pattern_match m;
    struct str s = subject_of(L, 2);
    if (!match_at(L, s, init_at(L, 3, s.len), &m))
        return lua_pushnil(L), 1;
    lua_pushinteger(L, (lua_Integer)m.group[0].from + 1);
    lua_pushinteger(L, (lua_Integer)m.group[0].to);
    return 2 + (m.count > 1 ? push_groups(L, s, &m) : 0);
}

/* re:named(text): { name = capture, ... } or nil */
static int re_named(lua_State *L)
{
    struct pattern_match m;
    const struct re *re = luaL_checkudata(L, 1, RE);
    struct str s = subject_of(L, 2);
    const char *names[NAMES_MOST];
    int numbers[NAMES_MOST];
    if (!match_at(L, s, 0, &m))
        return lua_pushnil(L), 1;
    size_t n = pattern_names(re->pattern, names, numbers, NAMES_MOST);
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        push_group(L, s, &m, (size_t)numbers[i]);
        lua_setfield(L, -2, names[i]);
    }
    return 1;
}

static int gmatch_next(lua_State *L)
{
    struct pattern_match m;
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    struct str s = subject_of(L, 2);
    if (!match_at(L, s, (size_t)lua_tointeger(L, lua_upvalueindex(3)), &m))
        return 0;
    size_t next = m.group[0].to > m.group[0].from ? m.group[0].to : m.group[0].to + 1;
    lua_pushinteger(L, (lua_Integer)next);
    lua_replace(L, lua_upvalueindex(3));
    return push_groups(L, s, &m);
}

static int re_gmatch(lua_State *L)
{
    luaL_checkudata(L, 1, RE);
    subject_of(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

static void add_template(lua_State *L, luaL_Buffer *b, struct str s, const struct pattern_match *m)
{
    size_t len;
    const char *r = lua_tolstring(L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (r[i] != '%') {
            luaL_addchar(b, r[i]);
            continue;
        }
        char c = ++i < len ? r[i] : 0;
        size_t group = (size_t)(c - '0');
        if (c == '%')
            luaL_addchar(b, '%');
        else if (!char_is_digit(c) || group >= PATTERN_GROUPS)
            luaL_error(L, "invalid use of '%%' in the replacement");
        else if (group < m->count && m->group[group].set)
            luaL_addlstring(b, s.at + m->group[group].from, m->group[group].to - m->group[group].from);
    }
}

static void add_replacement(lua_State *L, luaL_Buffer *b, struct str s, const struct pattern_match *m)
{
    int type = lua_type(L, 3);
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_groups(L, s, m), 1);
    } else if (type == LUA_TTABLE) {
        push_group(L, s, m, m->count > 1 ? 1 : 0);
        lua_gettable(L, 3);
    } else {
        add_template(L, b, s, m);
        return;
    }
    if (lua_isstring(L, -1)) {
        luaL_addvalue(b);
    } else if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s.at + m->group[0].from, m->group[0].to - m->group[0].from);
    } else {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
}

static int re_gsub(lua_State *L)
{
    struct pattern_match m;
    luaL_checkudata(L, 1, RE);
    struct str s = subject_of(L, 2);
    int type = lua_type(L, 3);
    luaL_argexpected(L, type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3, "text/function/table");
    lua_Integer most = luaL_optinteger(L, 4, LUA_MAXINTEGER), n = 0;
    size_t at = 0, from = 0; /* copied so far; where to look */
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    while (n < most && match_at(L, s, from, &m)) {
        n++;
        luaL_addlstring(&b, s.at + at, m.group[0].from - at);
        add_replacement(L, &b, s, &m);
        at = m.group[0].to;
        from = m.group[0].to > m.group[0].from ? at : at + 1;
    }
    luaL_addlstring(&b, s.at + at, s.len - at);
    luaL_pushresult(&b);
    lua_pushinteger(L, n);
    return 2;
}

void re_install(lua_State *L)
{
    static const luaL_Reg methods[] = {{"test", re_test},   {"match", re_match},   {"find", re_find},
                                       {"named", re_named}, {"gmatch", re_gmatch}, {"gsub", re_gsub},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", re_free}, {NULL, NULL}};
    lua_class(L, RE, methods, meta);
    lua_pushcfunction(L, re_open);
    lua_setfield(L, -2, "re");
}
