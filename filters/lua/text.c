/* text.c - interprets values of fields: text, addresses, dates, authentication results, by the parsers in wire/ and the charsets of iconv
 * (base/charset.h). No content of a message makes one of these functions raise. */
#include "filters/lua/host.h"
#include "base/charset.h"
#include "wire/addresses.h"
#include "wire/authres.h"
#include "wire/date.h"
#include "wire/header.h"
#include "wire/words.h"

static void push_str(lua_State *L, struct str s)
{
    lua_pushlstring(L, s.at ? s.at : "", s.len);
}

struct str text_decode(struct str value, struct arena *arena)
{
    return words_decode(value, charset_decode, arena);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

/* Adds the addresses of a value to the list at the top of the stack, which has n so far; returns how many it has then.
 */
static int append_addresses(lua_State *L, struct str value, int n)
{
    struct arena *arena = &run_of(L)->scratch;
    struct addresses walk;
    struct mailbox m;
    addresses_start(&walk, value, arena);
    while (n < ADDRESSES_MOST && addresses_next(&walk, &m)) {
        push_mailbox(L, m.address, m.local, m.domain, text_decode(m.name, arena));
        lua_rawseti(L, -2, ++n);
        if ((n & 255) == 0) {
            box_check(L);
            guard_poll(L);
        }
    }
    return n;
}

int text_addresses(lua_State *L, struct str value)
{
    lua_newtable(L);
    append_addresses(L, value, 0);
    arena_reset(&run_of(L)->scratch);
    return 1;
}

/* m.headers:addresses(name): of all fields of the name, each read by itself. */
int text_field_addresses(lua_State *L, struct filter_call *call, const char *name)
{
    struct arena *arena = &run_of(L)->scratch;
    int n = 0;
    lua_newtable(L);
    for (uint32_t at = 0; n < ADDRESSES_MOST && (at = filter_field_next(call, at, name));) {
        struct filter_field f = {.size = sizeof f};
        filter_field(call, at, &f);
        n = append_addresses(L, header_unfold((struct str){f.value.at, f.value.len}, arena), n);
        arena_reset(arena);
    }
    return 1;
}

/* ---- dates ------------------------------------------------------------------------------------------------------- */

int text_date(lua_State *L, struct str value)
{
    int64_t seconds;
    if (date_read(value, &seconds))
        lua_pushinteger(L, seconds);
    else
        lua_pushnil(L);
    return 1;
}

/* ---- Authentication-Results -------------------------------------------------------------------------------------- */

/* One result: { method =, result =, ["smtp.mailfrom"] = ... }. */
static void push_result(lua_State *L, struct authres_result *r, struct arena *arena)
{
    struct authres_property p;
    lua_newtable(L);
    while (authres_property(r, arena, &p)) {
        push_str(L, words_clean(p.name, arena));
        push_str(L, words_clean(p.value, arena));
        lua_rawset(L, -3);
    }
    push_str(L, words_clean(r->method, arena));
    lua_setfield(L, -2, "method");
    push_str(L, words_clean(r->result, arena));
    lua_setfield(L, -2, "result");
}

/* Stack: the results by method, the list of all. Of a method named twice the first counts. */
static void take_result(lua_State *L, struct authres_result *r, struct arena *arena)
{
    push_str(L, words_clean(r->method, arena));
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -4) == LUA_TNIL) {
        lua_pop(L, 1);
        push_str(L, words_clean(r->result, arena));
        lua_rawset(L, -4);
    } else {
        lua_pop(L, 2);
    }
    push_result(L, r, arena);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

int text_auth_results(lua_State *L, struct filter_call *call, struct str id)
{
    struct arena *arena = &run_of(L)->scratch;
    struct authres walk;
    struct authres_result r;
    struct str found = STR_NONE;
    for (uint32_t at = 0; !found.at && (at = filter_field_next(call, at, "Authentication-Results"));) {
        struct filter_field f = {.size = sizeof f};
        filter_field(call, at, &f);
        struct str value = header_unfold((struct str){f.value.at, f.value.len}, arena);
        if (!authres_start(&walk, value, arena, &found) || !str_equal_nocase(found, id))
            found = STR_NONE;
    }
    if (!found.at) {
        arena_reset(arena);
        return lua_pushnil(L), 1;
    }
    lua_newtable(L);
    lua_newtable(L);
    for (unsigned n = 0; authres_next(&walk, &r); n++) {
        take_result(L, &r, arena);
        if ((n & 255) == 255)
            guard_poll(L);
    }
    lua_setfield(L, -2, "all");
    arena_reset(arena);
    return 1;
}
