/* lib.c - library functions that do not wait: log, clocks, base64, hex, hash, time. */
#include "filters/lua/host.h"
#include "wire/codec.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <time.h>

/* ---- words ------------------------------------------------------------------------------------------------------- */

enum { PAIRS_MOST = 32 };

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct filter_pair *)a)->key, ((const struct filter_pair *)b)->key);
}

/* The pairs of the table at `at`, in order of their keys. Their texts stay on the stack. */
static size_t take_pairs(lua_State *L, int at, struct filter_pair *pairs)
{
    size_t n = 0;
    luaL_checkstack(L, 5 * PAIRS_MOST + 10, NULL);
    for (lua_pushnil(L); lua_next(L, at) && n < PAIRS_MOST; n++) {
        int key = lua_gettop(L) - 1;
        pairs[n] = (struct filter_pair){.size = sizeof *pairs, .is_number = lua_type(L, -1) == LUA_TNUMBER};
        pairs[n].number = pairs[n].is_number ? lua_tonumber(L, -1) : 0;
        pairs[n].text.at = luaL_tolstring(L, -1, &pairs[n].text.len);
        lua_pushvalue(L, key); /* a copy, since converting the key itself to a text would confuse lua_next */
        pairs[n].key = luaL_tolstring(L, -1, NULL);
        lua_pushvalue(L, key);
    }
    qsort(pairs, n, sizeof *pairs, by_key);
    return n;
}

/* log.info("text" [, { key = value }]) */
static int say(lua_State *L)
{
    struct lua_run *run = run_of(L);
    struct filter_pair pairs[PAIRS_MOST];
    lua_settop(L, 2);
    luaL_tolstring(L, 1, NULL);
    size_t n = lua_istable(L, 2) ? take_pairs(L, 2, pairs) : 0;
    if (run && run->call)
        filter_log_with(run->call, (enum filter_level)lua_tointeger(L, lua_upvalueindex(1)), lua_tostring(L, 3), pairs,
                        n);
    return 0;
}

static void install_kinds(lua_State *L, const char *library, lua_CFunction f, const char *const *names)
{
    lua_newtable(L);
    for (lua_Integer i = 0; names[i]; i++) {
        lua_pushinteger(L, i);
        lua_pushcclosure(L, f, 1);
        lua_setfield(L, -2, names[i]);
    }
    lua_setfield(L, -2, library);
}

/* ---- clocks ------------------------------------------------------------------------------------------------------ */

static int64_t wall(lua_State *L)
{
    struct lua_run *run = run_of(L);
    return run && run->call ? filter_now(run->call, true) : (int64_t)time(NULL) * 1000000; /* a check has no loop */
}

static int now(lua_State *L)
{
    lua_pushinteger(L, wall(L) / 1000000);
    return 1;
}

static int clock_now(lua_State *L)
{
    struct lua_run *run = run_of(L);
    lua_pushnumber(L, run && run->call ? (double)filter_now(run->call, false) / 1e6 : 0);
    return 1;
}

/* time.format(seconds [, format]): UTC; without a format as in a Date field */
static int time_format(lua_State *L)
{
    time_t t = (time_t)luaL_optinteger(L, 1, wall(L) / 1000000);
    const char *format = luaL_optstring(L, 2, "%a, %d %b %Y %H:%M:%S +0000");
    struct tm tm;
    char text[256];
    luaL_argcheck(L, strlen(format) < 100, 2, "too long");
    if (!gmtime_r(&t, &tm))
        return luaL_argerror(L, 1, "no such time");
    lua_pushlstring(L, text, strftime(text, sizeof text, format, &tm));
    return 1;
}

/* time.parse(text): of a Date field, or 2026-08-21T17:58:29Z. Seconds since 1970, or nil */
static int time_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct tm tm = {0};
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec) == 6) {
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        lua_pushinteger(L, (lua_Integer)timegm(&tm));
        return 1;
    }
    return text_date(L, (struct str){text, len});
}

/* ---- encodings --------------------------------------------------------------------------------------------------- */

static int base64_of(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct str out = base64_encode((struct str){text, len}, &run_of(L)->scratch);
    lua_pushlstring(L, out.at ? out.at : "", out.len);
    arena_reset(&run_of(L)->scratch);
    return 1;
}

static int base64_to(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct str out;
    if (!base64_decode((struct str){text, len}, &run_of(L)->scratch, &out))
        lua_pushnil(L);
    else
        lua_pushlstring(L, out.at ? out.at : "", out.len);
    arena_reset(&run_of(L)->scratch);
    return 1;
}

static void push_hex(lua_State *L, const unsigned char *at, size_t n)
{
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, n * 2 + 1);
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = "0123456789abcdef"[at[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[at[i] & 15];
    }
    luaL_pushresultsize(&b, n * 2);
}

static int hex_of(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    push_hex(L, (const unsigned char *)text, len);
    return 1;
}

static int hex_to(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len / 2 + 1);
    for (size_t i = 0; i + 1 < len; i += 2) {
        int high = char_hex(text[i]), low = char_hex(text[i + 1]);
        if (high < 0 || low < 0)
            return lua_pushnil(L), 1;
        out[i / 2] = (char)(high << 4 | low);
    }
    if (len % 2)
        return lua_pushnil(L), 1;
    luaL_pushresultsize(&b, len / 2);
    return 1;
}

/* ---- hashes ------------------------------------------------------------------------------------------------------ */

static const EVP_MD *digest_named(lua_State *L, const char *name)
{
    const EVP_MD *md = EVP_get_digestbyname(name);
    if (!md)
        luaL_error(L, "hash: there is no digest \"%s\"", name);
    return md;
}

static int digest(lua_State *L)
{
    struct str s = subject_of(L, 1);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    if (!EVP_Digest(s.at, s.len, out, &n, digest_named(L, name), NULL))
        return luaL_error(L, "hash.%s is not to be had here", name);
    push_hex(L, out, n);
    return 1;
}

/* hash.hmac("sha256", key, text) */
static int hmac(lua_State *L)
{
    const EVP_MD *md = digest_named(L, luaL_checkstring(L, 1));
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    struct str s = subject_of(L, 3);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!HMAC(md, key, (int)min_size(key_len, 1 << 20), (const unsigned char *)s.at, s.len, out, &n))
        return luaL_error(L, "hash.hmac failed");
    push_hex(L, out, n);
    return 1;
}

/* hash.short(a, b, ...): 24 digits for store keys; ("ab", "c") and ("a", "bc") differ */
static int hash_short(lua_State *L)
{
    luaL_Buffer b;
    int n = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
        luaL_addchar(&b, 0);
    }
    luaL_pushresult(&b);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (!EVP_Digest(text, len, out, &size, EVP_sha256(), NULL))
        return luaL_error(L, "hash.short failed");
    push_hex(L, out, 12);
    return 1;
}

void library_install(lua_State *L)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    static const char *const digests[] = {"sha256", "sha1", "md5", "sha512"};
    static const luaL_Reg functions[] = {{"now", now}, {"clock", clock_now}, {NULL, NULL}};
    static const luaL_Reg base64[] = {{"encode", base64_of}, {"decode", base64_to}, {NULL, NULL}};
    static const luaL_Reg hex[] = {{"encode", hex_of}, {"decode", hex_to}, {NULL, NULL}};
    static const luaL_Reg times[] = {{"format", time_format}, {"parse", time_parse}, {NULL, NULL}};
    static const luaL_Reg hashes[] = {{"hmac", hmac}, {"short", hash_short}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    install_kinds(L, "log", say, levels);
    luaL_newlib(L, base64);
    lua_setfield(L, -2, "base64");
    luaL_newlib(L, hex);
    lua_setfield(L, -2, "hex");
    luaL_newlib(L, times);
    lua_setfield(L, -2, "time");
    luaL_newlib(L, hashes);
    for (size_t i = 0; i < countof(digests); i++) {
        lua_pushstring(L, digests[i]);
        lua_pushcclosure(L, digest, 1);
        lua_setfield(L, -2, digests[i]);
    }
    lua_setfield(L, -2, "hash");
    re_install(L);
    lookup_install(L);
}
