/* tables.c - the table library with bounds: raw accesses and raw lengths only, counts limited, the clock polled.
 *
 * Lua's own functions use __len and __index, so that one call can run for ever inside C. The comparator of sort must not wait, since it is
 * called from C. sort is a merge sort on a copy, which ends also with an inconsistent comparator. */
#include "filters/lua/host.h"

enum { ELEMENTS_MOST = 1 << 24, UNPACK_MOST = 8000 };

static lua_Integer length(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    return (lua_Integer)lua_rawlen(L, arg);
}

static int insert(lua_State *L)
{
    lua_Integer n = length(L, 1) + 1, at = n;
    int nargs = lua_gettop(L);
    if (nargs == 3) {
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, at >= 1 && at <= n, 2, "position out of bounds");
        for (lua_Integer i = n; i > at; i--) {
            lua_rawgeti(L, 1, i - 1);
            lua_rawseti(L, 1, i);
            if ((i & 1023) == 0)
                guard_poll(L);
        }
    } else if (nargs != 2) {
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_rawseti(L, 1, at);
    return 0;
}

static int remove_at(lua_State *L)
{
    lua_Integer n = length(L, 1), at = luaL_optinteger(L, 2, n);
    if (!lua_isnoneornil(L, 2))
        luaL_argcheck(L, at >= 1 - (n == 0) && at <= n + 1, 2, "position out of bounds");
    lua_rawgeti(L, 1, at);
    for (; at < n; at++) {
        lua_rawgeti(L, 1, at + 1);
        lua_rawseti(L, 1, at);
        if ((at & 1023) == 0)
            guard_poll(L);
    }
    if (at >= 1) {
        lua_pushnil(L);
        lua_rawseti(L, 1, at);
    }
    return 1;
}

static int move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), end = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, target, LUA_TTABLE);
    if (end >= from) {
        luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3, "too many elements to move");
        lua_Integer n = end - from + 1;
        luaL_argcheck(L, n <= ELEMENTS_MOST && to <= LUA_MAXINTEGER - n + 1, 4, "too many elements to move");
        bool forth = to > end || to <= from || target != 1;
        for (lua_Integer k = 0; k < n; k++) {
            lua_Integer i = forth ? k : n - 1 - k;
            lua_rawgeti(L, 1, from + i);
            lua_rawseti(L, target, to + i);
            if ((k & 1023) == 0)
                guard_poll(L);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

static int concat(lua_State *L)
{
    size_t parted;
    lua_Integer n = length(L, 1), from = luaL_optinteger(L, 3, 1), end = luaL_optinteger(L, 4, n);
    const char *by = luaL_optlstring(L, 2, "", &parted);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (lua_Integer i = from; i <= end; i++) {
        lua_rawgeti(L, 1, i);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)i);
        luaL_addvalue(&b);
        if (i < end)
            luaL_addlstring(&b, by, parted);
        if ((i & 255) == 0)
            guard_poll(L);
        if (i == LUA_MAXINTEGER)
            break;
    }
    luaL_pushresult(&b);
    return 1;
}

static int unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer from = luaL_optinteger(L, 2, 1), end = luaL_optinteger(L, 3, length(L, 1));
    if (from > end)
        return 0;
    if ((lua_Unsigned)end - (lua_Unsigned)from >= UNPACK_MOST || !lua_checkstack(L, (int)(end - from + 1)))
        return luaL_error(L, "too many results to unpack");
    for (lua_Integer i = 0; i <= end - from; i++)
        lua_rawgeti(L, 1, from + i);
    return (int)(end - from + 1);
}

static int pack(lua_State *L)
{
    int n = lua_gettop(L);
    lua_createtable(L, n, 1);
    lua_insert(L, 1);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 1, i);
    lua_pushinteger(L, n);
    lua_setfield(L, 1, "n");
    return 1;
}

/* Stack: 1 table, 2 comparator or nil, 3 copy. Is element b less than element a? (then they change places) */
static bool less(lua_State *L, lua_Integer b, lua_Integer a, int in)
{
    bool is;
    if (!lua_isnil(L, 2)) {
        lua_pushvalue(L, 2);
        lua_rawgeti(L, in, b);
        lua_rawgeti(L, in, a);
        lua_call(L, 2, 1);
        is = lua_toboolean(L, -1);
        lua_pop(L, 1);
    } else {
        lua_rawgeti(L, in, b);
        lua_rawgeti(L, in, a);
        is = lua_compare(L, -2, -1, LUA_OPLT);
        lua_pop(L, 2);
    }
    return is;
}

static void merge(lua_State *L, int in, int out, lua_Integer lo, lua_Integer mid, lua_Integer hi)
{
    lua_Integer a = lo, b = mid;
    for (lua_Integer k = lo; k < hi; k++) {
        bool second = a >= mid || (b < hi && less(L, b, a, in));
        lua_rawgeti(L, in, second ? b++ : a++);
        lua_rawseti(L, out, k);
        if ((k & 255) == 0)
            guard_poll(L);
    }
}

static int sort(lua_State *L)
{
    lua_Integer n = length(L, 1);
    luaL_argcheck(L, n <= ELEMENTS_MOST, 1, "array too big");
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_createtable(L, (int)n, 0);
    int in = 1, out = 3;
    for (lua_Integer width = 1; width < n; width *= 2) {
        for (lua_Integer lo = 1; lo <= n; lo += 2 * width) {
            lua_Integer mid = lo + width < n + 1 ? lo + width : n + 1,
                        hi = lo + 2 * width < n + 1 ? lo + 2 * width : n + 1;
            merge(L, in, out, lo, mid, hi);
        }
        in = in == 1 ? 3 : 1;
        out = out == 1 ? 3 : 1;
    }
    if (in == 3)
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, 3, i);
            lua_rawseti(L, 1, i);
        }
    return 0;
}

void tables_install(lua_State *L)
{
    static const luaL_Reg functions[] = {{"insert", insert}, {"remove", remove_at}, {"move", move}, {"concat", concat},
                                         {"unpack", unpack}, {"pack", pack},        {"sort", sort}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
