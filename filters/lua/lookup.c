/* lookup.c - look-up objects of scripts: tables in files, networks, sets.
 *
 * Tables and network lists of the configuration belong to the host of filters, which rereads files when they change; a cidr{...} in the script
 * belongs to the Lua host. table_file("...") in the main chunk is opened at load, so that `sluice check` finds a missing file; as a default
 * in options{} the host of filters opens it, and a missing file is an empty table. */
#include "filters/lua/host.h"
#include "base/idn.h"
#include "base/table.h"

#define LOOKUP "table"
#define SET    "set"

struct lookup {
    const struct filter_value *value;
    struct table *own;
    bool cidr, taken;
};

void push_lookup(lua_State *L, const struct filter_value *v)
{
    struct lookup *k = lua_new(L, LOOKUP, sizeof *k);
    k->value = v;
    k->cidr = filter_value_type(v) == TYPE_CIDR;
}

const char *lookup_path(lua_State *L, int arg, bool *cidr)
{
    struct lookup *k = luaL_testudata(L, arg, LOOKUP);
    *cidr = k && k->cidr;
    if (!k || k->cidr)
        return NULL;
    k->taken = true;
    lua_getiuservalue(L, arg, 1);
    const char *path = lua_tostring(L, -1);
    lua_pop(L, 1);
    return path;
}

static const struct filter_value *value_of_path(const struct lua_host *host, const char *path)
{
    for (unsigned i = 0; i < host->ntables; i++)
        if (!strcmp(host->tables[i].path, path))
            return host->tables[i].value;
    return NULL;
}

static int table_file(lua_State *L)
{
    const char *path = lua_plain(L, 1);
    struct lua_run *run = run_of(L);
    if (!run->main)
        return luaL_error(L, "table_file(...) stands in the main chunk, outside of any function");
    struct lookup *k = lua_new(L, LOOKUP, sizeof *k);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    if (!run->loading) {
        k->value = value_of_path(run->host, path);
        return 1;
    }
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "lookups");
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
    return 1;
}

/* At the end of the load: opens the tables that are not defaults of options. */
int lookups_open(lua_State *L)
{
    struct lua_run *run = lua_touserdata(L, 1);
    struct lua_host *host = run->host;
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "lookups");
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
        lua_rawgeti(L, -1, i);
        struct lookup *k = lua_touserdata(L, -1);
        lua_getiuservalue(L, -1, 1);
        const char *path = lua_tostring(L, -1);
        if (!k->taken && !value_of_path(host, path)) {
            if (host->ntables == LUA_TABLES_MOST)
                return luaL_error(L, "more than %d tables", LUA_TABLES_MOST);
            const struct filter_value *v = filter_table(run->loading, path);
            if (!v)
                run->refused = true;
            host->tables[host->ntables].path = memcpy(must_alloc(strlen(path) + 1), path, strlen(path) + 1);
            host->tables[host->ntables++].value = v;
        }
        lua_pop(L, 2);
    }
    return 0;
}

/* cidr { "192.0.2.0/24", "2001:db8::/32" } or cidr "192.0.2.0/24" */
static int cidr(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING) {
        lua_newtable(L);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!run_of(L)->main) /* only in the main chunk, since its memory is not charged to an account */
        return luaL_error(L, "cidr{...} stands in the main chunk, outside of any function");
    size_t n = lua_rawlen(L, 1);
    luaL_argcheck(L, n <= 100000, 1, "too many networks: use table_file");
    struct lookup *k = lua_new(L, LOOKUP, sizeof *k);
    k->cidr = true;
    struct str *keys = lua_newuserdatauv(L, (n + 1) * sizeof *keys, 0);
    for (size_t i = 0; i < n; i++) {
        struct cidr parsed;
        const char *why;
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "cidr: element %d is not a text", (int)i + 1);
        keys[i].at = lua_tolstring(L, -1, &keys[i].len); /* held by the table at 1 */
        lua_pop(L, 1);
        if (!cidr_parse(keys[i], &parsed, &why))
            return luaL_error(L, "cidr: \"%s\": %s", keys[i].at, why);
    }
    char error[256];
    k->own = table_of(keys, NULL, n, error, sizeof error);
    if (!k->own)
        return luaL_error(L, "cidr: %s", error);
    lua_pop(L, 1);
    return 1;
}

static bool found_in(const struct lookup *k, struct str key, struct filter_text *found)
{
    struct str value = STR_NONE;
    if (k->value)
        return filter_value_match(k->value, (struct filter_text){key.at, key.len}, found);
    if (!k->own || !(table_match_ip(k->own, key, &value) || (!k->cidr && table_match(k->own, key, &value))))
        return false;
    *found = (struct filter_text){value.at, value.len};
    return true;
}

static bool look(lua_State *L, struct filter_text *found)
{
    struct lookup *k = luaL_checkudata(L, 1, LOOKUP);
    if (lua_isnoneornil(L, 2))
        return false;
    return found_in(k, address_text(L, 2), found);
}

static int lookup_match(lua_State *L)
{
    struct filter_text found;
    if (!look(L, &found))
        return 0;
    lua_pushlstring(L, found.at ? found.at : "", found.len);
    return 1;
}

/* t:has(key); t:has(key, value): true if `value` is one of the words, separated by commas or spaces, in the value of the key. */
static int lookup_has(lua_State *L)
{
    struct filter_text found;
    bool has = look(L, &found);
    if (has && !lua_isnoneornil(L, 3)) {
        struct str rest = {found.at, found.len}, wanted = address_text(L, 3);
        has = false;
        while (rest.len && !has) {
            size_t n = 0;
            while (n < rest.len && !strchr(", \t", rest.at[n]))
                n++;
            has = n && str_equal_nocase(str_part(rest, 0, n), wanted);
            rest = str_part(rest, n + 1, rest.len);
        }
    }
    lua_pushboolean(L, has);
    return 1;
}

static int lookup_count(lua_State *L)
{
    struct lookup *k = luaL_checkudata(L, 1, LOOKUP);
    lua_pushinteger(L, (lua_Integer)(k->own ? table_count(k->own) : filter_value_count(k->value)));
    return 1;
}

static int lookup_free(lua_State *L)
{
    struct lookup *k = luaL_checkudata(L, 1, LOOKUP);
    if (k->own)
        table_close(k->own);
    k->own = NULL;
    return 0;
}

/* ---- sets -------------------------------------------------------------------------------------------------------- */

/* lower: converts to lower case, and the part after "@", or all of it, to the canonical form of a domain. */
static void push_key(lua_State *L, int arg, bool lower)
{
    if (lua_type(L, arg) == LUA_TNUMBER && !lower) {
        lua_pushvalue(L, arg);
        return;
    }
    char room[IDN_ROOM];
    struct str s = address_text(L, arg);
    if (lower && s.len < sizeof room / 2 && !str_is_ascii(s)) {
        s = idn_fold_address(s, room);
        lower = false;
    }
    luaL_Buffer b;
    char *at = luaL_buffinitsize(L, &b, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        at[i] = lower ? char_lower(s.at[i]) : s.at[i];
    luaL_pushresultsize(&b, s.len);
}

/* set({ "a", "b" }, { lower = true }); the keys of a map { a = 1 } count too. */
static int set(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    bool lower = false;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "lower");
        lower = lua_toboolean(L, -1);
    }
    lua_settop(L, 1);
    *(bool *)lua_new(L, SET, sizeof(bool)) = lower; /* 2 */
    lua_newtable(L);                                /* 3 */
    size_t n = lua_rawlen(L, 1);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        bool element = lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && (size_t)lua_tointeger(L, -2) <= n;
        lua_pushvalue(L, element ? -1 : -2); /* a copy, since converting the key itself to a text would confuse lua_next */
        push_key(L, lua_gettop(L), lower);
        lua_pushboolean(L, 1);
        lua_rawset(L, 3);
        lua_pop(L, 1);
    }
    lua_setiuservalue(L, 2, 1);
    return 1;
}

static int set_has(lua_State *L)
{
    bool lower = *(bool *)luaL_checkudata(L, 1, SET), has = false;
    if (!lua_isnoneornil(L, 2)) {
        push_key(L, 2, lower);
        lua_getiuservalue(L, 1, 1);
        lua_insert(L, -2);
        has = lua_rawget(L, -2) != LUA_TNIL;
    }
    lua_pushboolean(L, has);
    return 1;
}

static int set_count(lua_State *L)
{
    lua_Integer n = 0;
    luaL_checkudata(L, 1, SET);
    lua_getiuservalue(L, 1, 1);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        n++;
    lua_pushinteger(L, n);
    return 1;
}

/* keys(map): its keys as a list, sorted when they are texts or numbers. */
static int keys(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals); /* 2 */
    lua_getfield(L, 2, "table");
    lua_getfield(L, -1, "sort"); /* 4 */
    lua_newtable(L);             /* 5 */
    lua_Integer n = 0;
    bool texts = true, numbers = true;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        texts &= lua_type(L, -2) == LUA_TSTRING;
        numbers &= lua_type(L, -2) == LUA_TNUMBER;
        lua_pushvalue(L, -2);
        lua_rawseti(L, 5, ++n);
    }
    if (texts || numbers) {
        lua_pushvalue(L, 4);
        lua_pushvalue(L, 5);
        lua_call(L, 1, 0);
    }
    lua_settop(L, 5);
    return 1;
}

void lookup_install(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"table_file", table_file}, {"cidr", cidr}, {"set", set}, {"keys", keys}, {NULL, NULL}};
    static const luaL_Reg lookups[] = {
        {"match", lookup_match}, {"has", lookup_has}, {"count", lookup_count}, {NULL, NULL}};
    static const luaL_Reg lookup_meta[] = {{"__gc", lookup_free}, {"__len", lookup_count}, {NULL, NULL}};
    static const luaL_Reg sets[] = {{"has", set_has}, {"count", set_count}, {NULL, NULL}};
    static const luaL_Reg set_meta[] = {{"__len", set_count}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_class(L, LOOKUP, lookups, lookup_meta);
    lua_class(L, SET, sets, set_meta);
}
