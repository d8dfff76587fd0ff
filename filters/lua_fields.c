/* lua_fields.c - m.headers: the fields of the header section, by name, looked up in place.
 *
 * Names match in any case; the index counts fields of a name from 1, from the end with -1. Values that a script sets
 * are encoded (RFC 2047) when they are not ASCII, and folded at 78 octets; CR, LF and NUL in them raise. Nothing is
 * copied before a script asks for it. */
#include "filters/lua_host.h"
#include "wire/codec.h"
#include "wire/header.h"
#include <time.h>

#define FIELDS "headers"
struct fields {
    uint64_t token;
};

void push_fields(lua_State *L, struct lua_run *run)
{
    struct fields *f = lua_new(L, FIELDS, sizeof *f);
    f->token = transaction_of(run)->token;
}

static struct filter_call *call_at_fields(lua_State *L)
{
    message_check(L, 1, FIELDS);
    struct filter_call *call = run_call(L, "m.headers");
    if (run_of(L)->stage < FILTER_HEADERS)
        luaL_error(L, "m.headers: the header section is not there yet in on.%s: only add() is possible",
                   lua_stage_names[run_of(L)->stage]);
    return call;
}

static const char *name_at(lua_State *L, int arg)
{
    const char *name = lua_plain(L, arg);
    luaL_argcheck(L, *name, arg, "the name of a field");
    return name;
}

static uint32_t nth(struct filter_call *call, const char *name, lua_Integer n)
{
    uint32_t at = 0;
    if (n == 0)
        return 0;
    do
        at = n > 0 ? filter_field_next(call, at, name) : filter_field_back(call, at, name);
    while (at && (n > 0 ? --n : ++n));
    return at;
}

enum form { RAW, UNFOLDED, DECODED };

static void push_field(lua_State *L, struct filter_call *call, uint32_t handle, enum form form)
{
    struct filter_field f = {.size = sizeof f};
    if (!handle || !filter_field(call, handle, &f)) {
        lua_pushnil(L);
        return;
    }
    struct str value = {f.value.at, f.value.len};
    if (form != RAW)
        value = header_unfold(value, &run_of(L)->scratch);
    if (form == DECODED)
        value = words_decode(value, &run_of(L)->scratch);
    lua_pushlstring(L, value.at ? value.at : "", value.len);
    arena_reset(&run_of(L)->scratch);
}

static int get_as(lua_State *L, enum form form)
{
    struct filter_call *call = call_at_fields(L);
    push_field(L, call, nth(call, name_at(L, 2), luaL_optinteger(L, 3, 1)), form);
    return 1;
}

static int get(lua_State *L)
{
    return get_as(L, UNFOLDED);
}

static int decoded(lua_State *L)
{
    return get_as(L, DECODED);
}

static int raw(lua_State *L)
{
    return get_as(L, RAW);
}

static int has(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    lua_pushboolean(L, filter_field_next(call, 0, name_at(L, 2)) != 0);
    return 1;
}

static int count(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = lua_isnoneornil(L, 2) ? NULL : name_at(L, 2);
    lua_Integer n = 0;
    for (uint32_t at = 0; (at = filter_field_next(call, at, name)); n++)
        if ((n & 255) == 0)
            guard_poll(L);
    lua_pushinteger(L, n);
    return 1;
}

static int all(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = name_at(L, 2);
    lua_newtable(L);
    lua_Integer n = 0;
    for (uint32_t at = 0; (at = filter_field_next(call, at, name));) {
        push_field(L, call, at, UNFOLDED);
        lua_rawseti(L, -2, ++n);
        if ((n & 255) == 0)
            guard_poll(L);
    }
    return 1;
}

/* Upvalues: headers, name or nil, next handle (known before the loop's body runs: it may remove the field), number. */
static int each_next(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 1);
    struct filter_call *call = call_at_fields(L);
    const char *name = lua_tostring(L, lua_upvalueindex(2));
    uint32_t at = (uint32_t)lua_tointeger(L, lua_upvalueindex(3));
    lua_Integer n = lua_tointeger(L, lua_upvalueindex(4)) + 1;
    struct filter_field f = {.size = sizeof f};
    if (!at || !filter_field(call, at, &f))
        return 0;
    lua_pushinteger(L, filter_field_next(call, at, name));
    lua_replace(L, lua_upvalueindex(3));
    lua_pushinteger(L, n);
    lua_replace(L, lua_upvalueindex(4));
    lua_pushinteger(L, n);
    lua_pushlstring(L, f.name.at, f.name.len);
    push_field(L, call, at, UNFOLDED);
    return 3;
}

static int each(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = lua_isnoneornil(L, 2) ? NULL : name_at(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, filter_field_next(call, 0, name));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, each_next, 4);
    return 1;
}

/* ---- edits ------------------------------------------------------------------------------------------------------- */

static int refused(lua_State *L, struct filter_call *call, const char *what)
{
    return luaL_error(L, "m.headers:%s: %s", what, filter_refusal(call).at);
}

/* Lines of at most 78 octets, broken before white space where there is some. A line of white space alone is obsolete
 * (RFC 5322 3.2.2): it is broken before a run of it only when something stands on both of its sides. */
static struct str fold(struct str value, size_t name, struct arena *arena)
{
    size_t column = name + 2, run = 0, space = 0, n = 0; /* where a run begins in out; where the last whole one does */
    if (column + value.len <= 78)
        return value;
    char *out = arena_space(arena, value.len * 2 + 1), last = ' ';
    for (size_t i = 0; i < value.len; last = value.at[i++]) {
        bool white = value.at[i] == ' ' || value.at[i] == '\t', after_white = last == ' ' || last == '\t';
        if (white && !after_white) {
            run = n;
        } else if (!white && run) {
            space = run;
            run = 0;
        }
        out[n++] = value.at[i];
        if (++column > 78 && space) {
            memmove(out + space + 1, out + space, n - space);
            out[space] = '\n';
            n++;
            column = n - space - 1;
            run += run != 0; /* it stands behind the break */
            space = 0;
        }
    }
    return (struct str){out, n};
}

static struct filter_text value_at(lua_State *L, int arg, const char *name)
{
    size_t len;
    luaL_checkany(L, arg);
    const char *text = luaL_tolstring(L, arg, &len);
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\r' || text[i] == '\n' || text[i] == 0)
            luaL_argerror(L, arg, "a CR, LF or NUL cannot stand in the value of a field");
    struct arena *arena = &run_of(L)->scratch;
    struct str value = {text, len};
    if (!str_is_ascii(value))
        value = words_encode(value, arena);
    value = fold(value, strlen(name), arena);
    return (struct filter_text){value.at, value.len};
}

/* add(name, value [, "top" | "bottom" | i]) : i: before the i-th field */
static int add(lua_State *L)
{
    message_check(L, 1, FIELDS);
    lua_settop(L, 4);
    struct filter_call *call = run_call(L, "m.headers:add");
    const char *name = name_at(L, 2), *where = "bottom";
    struct filter_text value = value_at(L, 3, name);
    uint32_t before = FILTER_BOTTOM;
    if (lua_type(L, 4) == LUA_TNUMBER)
        before = nth(call_at_fields(L), NULL, luaL_checkinteger(L, 4));
    else
        where = luaL_optstring(L, 4, "bottom");
    if (!strcmp(where, "top"))
        before = FILTER_TOP;
    else if (strcmp(where, "bottom"))
        return luaL_argerror(L, 4, "\"top\", \"bottom\" or a number");
    if (!filter_field_add(call, before, name, value))
        return refused(L, call, "add");
    arena_reset(&run_of(L)->scratch);
    return 0;
}

/* The first field of the name gets the value, the others go; without one it is added. */
static int set(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = name_at(L, 2);
    struct filter_text value = value_at(L, 3, name);
    uint32_t first = filter_field_next(call, 0, name);
    if (!first && !filter_field_add(call, FILTER_BOTTOM, name, value))
        return refused(L, call, "set");
    if (first && !filter_field_set(call, first, value))
        return refused(L, call, "set");
    for (uint32_t at = first ? filter_field_next(call, first, name) : 0, next; at; at = next) {
        next = filter_field_next(call, at, name);
        filter_field_remove(call, at);
    }
    arena_reset(&run_of(L)->scratch);
    return 0;
}

static int replace(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = name_at(L, 2);
    uint32_t at = nth(call, name, luaL_checkinteger(L, 3));
    struct filter_text value = value_at(L, 4, name);
    if (at && !filter_field_set(call, at, value))
        return refused(L, call, "replace");
    arena_reset(&run_of(L)->scratch);
    lua_pushboolean(L, at != 0);
    return 1;
}

/* remove(name) ; remove(name, i) ; remove(name, function(value) return true end). Returns how many went. */
static int remove_fields(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = name_at(L, 2);
    bool asks = lua_isfunction(L, 3);
    lua_Integer n = 0;
    uint32_t only = asks || lua_isnoneornil(L, 3) ? 0 : nth(call, name, luaL_checkinteger(L, 3));
    if (!asks && !lua_isnoneornil(L, 3) && !only)
        return lua_pushinteger(L, 0), 1;
    for (uint32_t at = only ? only : filter_field_next(call, 0, name), next; at; at = next) {
        next = only ? 0 : filter_field_next(call, at, name);
        if (asks) {
            lua_pushvalue(L, 3);
            push_field(L, call, at, UNFOLDED);
            lua_call(L, 1, 1);
            bool yes = lua_toboolean(L, -1);
            lua_pop(L, 1);
            if (!yes)
                continue;
        }
        if (!filter_field_remove(call, at))
            return refused(L, call, "remove");
        n++;
        if ((n & 255) == 0)
            guard_poll(L);
    }
    lua_pushinteger(L, n);
    return 1;
}

static int rename_fields(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *old = name_at(L, 2), *new = name_at(L, 3);
    lua_Integer n = 0;
    for (uint32_t at = filter_field_next(call, 0, old), next; at; at = next) {
        next = filter_field_next(call, at, old); /* before the name changes: it may become one that matches again */
        if (!filter_field_rename(call, at, new))
            return refused(L, call, "rename");
        n++;
    }
    lua_pushinteger(L, n);
    return 1;
}

/* ---- what fields say --------------------------------------------------------------------------------------------- */

static int addresses(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    const char *name = name_at(L, 2);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (uint32_t at = 0; (at = filter_field_next(call, at, name));) {
        push_field(L, call, at, UNFOLDED);
        luaL_addvalue(&b);
        luaL_addchar(&b, ',');
    }
    luaL_pushresult(&b);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    push_address_list(L, (struct str){text, len});
    return 1;
}

static int message_id(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    push_field(L, call, filter_field_next(call, 0, "Message-ID"), UNFOLDED);
    const char *text = lua_tostring(L, -1), *from = text ? strchr(text, '<') : NULL,
               *end = from ? strchr(from, '>') : NULL;
    if (end)
        lua_pushlstring(L, from + 1, (size_t)(end - from - 1));
    else
        lua_pushnil(L);
    return 1;
}

/* RFC 5322 3.3: "Fri, 21 Nov 1997 09:55:06 -0600". Seconds since 1970. */
bool date_parse(const char *text, int64_t *seconds)
{
    static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    const char *comma = strchr(text, ',');
    int day, year, hour, minute, second = 0, zone = 0;
    char month[4] = "", sign = '+';
    int n = sscanf(comma ? comma + 1 : text, " %2d %3s %4d %2d:%2d:%2d %c%4d", &day, month, &year, &hour, &minute,
                   &second, &sign, &zone);
    if (n < 6) { /* without seconds */
        second = 0;
        n = sscanf(comma ? comma + 1 : text, " %2d %3s %4d %2d:%2d %c%4d", &day, month, &year, &hour, &minute, &sign,
                   &zone);
        if (n < 5)
            return false;
    }
    for (char *c = month; *c; c++)
        *c = char_lower(*c);
    const char *at = strlen(month) == 3 ? strstr(months, month) : NULL;
    if (!at || (at - months) % 3 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return false;
    struct tm tm = {
        .tm_mday = day, .tm_mon = (int)(at - months) / 3, .tm_hour = hour, .tm_min = minute, .tm_sec = second};
    tm.tm_year = year < 50 ? year + 100 : year < 1000 ? year : year - 1900;
    int64_t offset = (zone / 100 * 60 + zone % 100) * 60;
    *seconds = (int64_t)timegm(&tm) - (sign == '-' ? -offset : sign == '+' ? offset : 0);
    return true;
}

static int date(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    int64_t seconds;
    push_field(L, call, filter_field_next(call, 0, "Date"), UNFOLDED);
    if (!lua_isnil(L, -1) && date_parse(lua_tostring(L, -1), &seconds))
        lua_pushinteger(L, seconds);
    else
        lua_pushnil(L);
    return 1;
}

/* auth_results("mx.example.org"): of the topmost Authentication-Results of that id (RFC 8601): { spf = "pass", dkim =
 * ... } */
static int auth_results(lua_State *L)
{
    struct filter_call *call = call_at_fields(L);
    struct str id = str_of(name_at(L, 2)), rest = STR_NONE, clause;
    for (uint32_t at = 0; !rest.at && (at = filter_field_next(call, at, "Authentication-Results"));) {
        struct filter_field f = {.size = sizeof f};
        filter_field(call, at, &f);
        struct str value = header_unfold((struct str){f.value.at, f.value.len}, &run_of(L)->scratch);
        clause = str_cut(&value, ';');
        if (str_equal_nocase(str_word(&clause), id))
            rest = value.at ? value : STR("");
    }
    if (!rest.at)
        return lua_pushnil(L), 1;
    lua_newtable(L);
    while ((clause = str_cut(&rest, ';')).at) {
        struct str words = str_trim(clause), result = str_word(&words), method = str_cut(&result, '=');
        if (!result.len || !method.len)
            continue;
        lua_pushlstring(L, method.at, method.len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) { /* the first of a method counts */
            lua_pop(L, 1);
            lua_pushlstring(L, result.at, result.len);
            lua_rawset(L, -3);
        } else {
            lua_pop(L, 2);
        }
    }
    arena_reset(&run_of(L)->scratch);
    return 1;
}

void fields_install(lua_State *L)
{
    static const luaL_Reg methods[] = {{"get", get},
                                       {"decoded", decoded},
                                       {"raw", raw},
                                       {"all", all},
                                       {"count", count},
                                       {"each", each},
                                       {"has", has},
                                       {"add", add},
                                       {"set", set},
                                       {"replace", replace},
                                       {"remove", remove_fields},
                                       {"rename", rename_fields},
                                       {"addresses", addresses},
                                       {"message_id", message_id},
                                       {"date", date},
                                       {"auth_results", auth_results},
                                       {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    lua_class(L, FIELDS, methods, none);
}
