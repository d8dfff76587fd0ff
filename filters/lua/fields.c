/* fields.c - m.headers: the methods that read the header section.
 *
 * Names are compared without case; the index counts fields of a name from 1, or from the end by -1. Values are copied only when a script
 * reads them. Editing is in edit.c, the interpretation of values in text.c. */
#include "filters/lua/host.h"
#include "wire/header.h"

#define FIELDS FIELDS_CLASS
struct fields {
    uint64_t token;
};

void push_fields(lua_State *L, struct lua_run *run)
{
    struct fields *f = lua_new(L, FIELDS, sizeof *f);
    f->token = transaction_of(run)->token;
}

struct filter_call *fields_call(lua_State *L)
{
    message_check(L, 1, FIELDS);
    struct filter_call *call = run_call(L, "m.headers");
    if (run_of(L)->stage < FILTER_HEADERS)
        luaL_error(L, "m.headers: the header section is not there yet in on.%s: only add() is possible",
                   lua_stage_names[run_of(L)->stage]);
    return call;
}

const char *fields_name(lua_State *L, int arg)
{
    size_t len;
    const char *name = luaL_checklstring(L, arg, &len);
    return strlen(name) == len ? name : "";
}

uint32_t fields_nth(struct filter_call *call, const char *name, lua_Integer n)
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
        value = text_decode(value, &run_of(L)->scratch);
    lua_pushlstring(L, value.at ? value.at : "", value.len);
    arena_reset(&run_of(L)->scratch);
}

void fields_push(lua_State *L, struct filter_call *call, uint32_t handle)
{
    push_field(L, call, handle, UNFOLDED);
}

static int get_as(lua_State *L, enum form form)
{
    struct filter_call *call = fields_call(L);
    push_field(L, call, fields_nth(call, fields_name(L, 2), luaL_optinteger(L, 3, 1)), form);
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
    struct filter_call *call = fields_call(L);
    lua_pushboolean(L, filter_field_next(call, 0, fields_name(L, 2)) != 0);
    return 1;
}

static int count(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *name = lua_isnoneornil(L, 2) ? NULL : fields_name(L, 2);
    lua_Integer n = 0;
    for (uint32_t at = 0; (at = filter_field_next(call, at, name)); n++)
        if ((n & 255) == 0)
            guard_poll(L);
    lua_pushinteger(L, n);
    return 1;
}

static int all(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *name = fields_name(L, 2);
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
    struct filter_call *call = fields_call(L);
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
    struct filter_call *call = fields_call(L);
    const char *name = lua_isnoneornil(L, 2) ? NULL : fields_name(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, filter_field_next(call, 0, name));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, each_next, 4);
    return 1;
}

/* ---- what fields say --------------------------------------------------------------------------------------------- */

static int addresses(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    return text_field_addresses(L, call, fields_name(L, 2));
}

static int message_id(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    fields_push(L, call, filter_field_next(call, 0, "Message-ID"));
    size_t len = 0;
    const char *text = lua_tolstring(L, -1, &len), *from = text ? memchr(text, '<', len) : NULL,
               *end = from ? memchr(from, '>', len - (size_t)(from - text)) : NULL;
    if (end)
        lua_pushlstring(L, from + 1, (size_t)(end - from - 1));
    else
        lua_pushnil(L);
    return 1;
}

static int date(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    fields_push(L, call, filter_field_next(call, 0, "Date"));
    size_t len = 0;
    const char *text = lua_tolstring(L, -1, &len);
    return text_date(L, (struct str){text ? text : "", len});
}

/* auth_results("mx.example.org"): of the topmost Authentication-Results of that id (RFC 8601):
 * { spf = "pass", dkim = ..., all = { { method =, result =, ["smtp.mailfrom"] = ... }, ... } } */
static int auth_results(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    size_t len;
    const char *id = luaL_checklstring(L, 2, &len);
    return text_auth_results(L, call, (struct str){id, len});
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
                                       {"addresses", addresses},
                                       {"message_id", message_id},
                                       {"date", date},
                                       {"auth_results", auth_results},
                                       {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    lua_class(L, FIELDS, methods, none);
    luaL_getmetatable(L, FIELDS);
    lua_getfield(L, -1, "methods");
    luaL_setfuncs(L, edit_methods, 0);
    lua_pop(L, 2);
}
