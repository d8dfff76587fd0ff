/* pattern.c - string.find, match, gmatch, gsub and rep with a limit of CPU time.
 *
 * The matcher of Lua cannot be interrupted: 'a?'x30 or '.-b' over 200 KB runs for hours, and hooks do not interrupt C. This one implements the
 * same patterns (Lua 5.4 manual, 6.4.1) and checks the time every few hundred steps. Plain finds use memmem, which is linear.
 * tests/unit/filters/lua/test_pattern.c compares it with Lua's by random patterns. */
#include "filters/lua/host.h"
#include <ctype.h>

enum { CAPTURES = 32, DEPTH_MOST = 200 };
enum { OPEN = -1, POSITION = -2 };

struct match {
    lua_State *L;
    const char *from, *end; /* subject */
    const char *pattern_end;
    int level;
    unsigned depth, steps;
    struct {
        const char *at;
        ptrdiff_t len;
    } capture[CAPTURES];
};

static const char *here(struct match *, const char *s, const char *p);

static void step(struct match *m)
{
    if (++m->steps < 256)
        return;
    m->steps = 0;
    guard_poll(m->L);
}

/* A set can be as long as a text, so reading it counts as more than one step. */
static void step_over(struct match *m, const char *from, const char *to)
{
    m->steps += (unsigned)min_size((size_t)(to - from) / 16, 1 << 20);
}

/* ---- single characters ------------------------------------------------------------------------------------------- */

static const char *item_end(struct match *m, const char *p)
{
    char c = *p++;
    if (c == '%') {
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (c != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    do { /* a ']' that comes first is a literal */
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%') {
            if (p == m->pattern_end)
                luaL_error(m->L, "malformed pattern (missing ']')");
            p++;
        }
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

static bool in_class(unsigned char c, unsigned char class)
{
    bool in;
    switch (tolower(class)) {
    case 'a': in = isalpha(c); break;
    case 'c': in = iscntrl(c); break;
    case 'd': in = isdigit(c); break;
    case 'g': in = isgraph(c); break;
    case 'l': in = islower(c); break;
    case 'p': in = ispunct(c); break;
    case 's': in = isspace(c); break;
    case 'u': in = isupper(c); break;
    case 'w': in = isalnum(c); break;
    case 'x': in = isxdigit(c); break;
    default: return class == c;
    }
    return isupper(class) ? !in : in;
}

/* p at '[', last at its ']' */
static bool in_set(unsigned char c, const char *p, const char *last)
{
    bool in = true;
    if (p[1] == '^') {
        in = false;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p))
                return in;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return in;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return in;
        }
    }
    return !in;
}

static bool single(struct match *m, const char *s, const char *p, const char *item)
{
    if (s >= m->end)
        return false;
    unsigned char c = (unsigned char)*s;
    switch (*p) {
    case '.': return true;
    case '%': return in_class(c, (unsigned char)p[1]);
    case '[': step_over(m, p, item); return in_set(c, p, item - 1);
    default: return (unsigned char)*p == c;
    }
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

static const char *balanced(struct match *m, const char *s, const char *p)
{
    if (m->pattern_end - p < 2)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= m->end || *s != p[0])
        return NULL;
    size_t nested = 1;
    while (++s < m->end) {
        step(m);
        if (*s == p[1]) {
            if (--nested == 0)
                return s + 1;
        } else if (*s == p[0]) {
            nested++;
        }
    }
    return NULL;
}

static const char *greedy(struct match *m, const char *s, const char *p, const char *item)
{
    ptrdiff_t n = 0;
    for (; single(m, s + n, p, item); n++)
        step(m);
    for (; n >= 0; n--) {
        const char *found = here(m, s + n, item + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *lazy(struct match *m, const char *s, const char *p, const char *item)
{
    for (;;) {
        const char *found = here(m, s, item + 1);
        if (found || !single(m, s, p, item))
            return found;
        s++;
        step(m);
    }
}

static const char *open_capture(struct match *m, const char *s, const char *p, ptrdiff_t kind)
{
    if (m->level >= CAPTURES)
        luaL_error(m->L, "too many captures");
    m->capture[m->level].at = s;
    m->capture[m->level++].len = kind;
    const char *found = here(m, s, p);
    if (!found)
        m->level--;
    return found;
}

static const char *close_capture(struct match *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->capture[i].len != OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->capture[i].len = s - m->capture[i].at;
    const char *found = here(m, s, p);
    if (!found)
        m->capture[i].len = OPEN;
    return found;
}

static const char *backward(struct match *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->capture[i].len == OPEN)
        return luaL_error(m->L, "invalid capture index %%%d", i + 1), NULL;
    size_t len = (size_t)m->capture[i].len; /* of a position: more than any text has, so it never matches */
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): captures below level are set */
    return (size_t)(m->end - s) >= len && memcmp(m->capture[i].at, s, len) == 0 ? s + len : NULL;
}

static bool frontier(struct match *m, const char *s, const char *p, const char **item)
{
    if (p == m->pattern_end || *p != '[')
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    *item = item_end(m, p);
    step_over(m, p, *item);
    step_over(m, p, *item);
    unsigned char before = s == m->from ? 0 : (unsigned char)s[-1], at = s < m->end ? (unsigned char)*s : 0;
    return !in_set(before, p, *item - 1) && in_set(at, p, *item - 1);
}

/* Matches an item of one character with its repetition. Returns NULL, or where to continue; *done: the whole rest was matched. */
static const char *repeated(struct match *m, const char *s, const char **p, bool *done)
{
    const char *item = item_end(m, *p), *found;
    step_over(m, *p, item);
    char how = item < m->pattern_end ? *item : 0;
    *done = true;
    switch (how) {
    case '*': return greedy(m, s, *p, item);
    case '+': return single(m, s, *p, item) ? greedy(m, s + 1, *p, item) : NULL;
    case '-': return lazy(m, s, *p, item);
    case '?':
        if (single(m, s, *p, item) && (found = here(m, s + 1, item + 1)))
            return found;
        *done = false;
        *p = item + 1;
        return s;
    default:
        *done = !single(m, s, *p, item);
        *p = item;
        return *done ? NULL : s + 1;
    }
}

static const char *walk(struct match *m, const char *s, const char *p)
{
    while (s && p < m->pattern_end) {
        bool done;
        step(m);
        switch (*p) {
        case '(':
            if (p + 1 < m->pattern_end && p[1] == ')')
                return open_capture(m, s, p + 2, POSITION);
            return open_capture(m, s, p + 1, OPEN);
        case ')': return close_capture(m, s, p + 1);
        case '$':
            if (p + 1 == m->pattern_end)
                return s == m->end ? s : NULL;
            break;
        case '%':
            if (p + 1 < m->pattern_end && p[1] == 'b') {
                s = balanced(m, s, p + 2);
                p += 4;
                continue;
            }
            if (p + 1 < m->pattern_end && p[1] == 'f') {
                if (!frontier(m, s, p + 2, &p))
                    return NULL;
                continue;
            }
            if (p + 1 < m->pattern_end && isdigit((unsigned char)p[1])) {
                s = backward(m, s, p[1]);
                p += 2;
                continue;
            }
            break;
        default: break;
        }
        s = repeated(m, s, &p, &done);
        if (done)
            return s;
    }
    return s;
}

static const char *here(struct match *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MOST)
        luaL_error(m->L, "pattern too complex");
    const char *found = walk(m, s, p);
    m->depth--;
    return found;
}

/* ---- captures ---------------------------------------------------------------------------------------------------- */

static void push_capture(struct match *m, int i, const char *s, const char *e)
{
    if (i >= m->level) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(e - s));
    } else if (m->capture[i].len == POSITION) {
        lua_pushinteger(m->L, m->capture[i].at - m->from + 1);
    } else if (m->capture[i].len == OPEN) {
        luaL_error(m->L, "unfinished capture");
    } else {
        lua_pushlstring(m->L, m->capture[i].at, (size_t)m->capture[i].len);
    }
}

/* s NULL: only captures; else the whole match when there are none. */
static int push_captures(struct match *m, const char *s, const char *e)
{
    int n = m->level == 0 && s ? 1 : m->level;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        push_capture(m, i, s, e);
    return n;
}

static struct match match_over(lua_State *L, const char *s, size_t len, const char *p, size_t plen)
{
    return (struct match){.L = L, .from = s, .end = s + len, .pattern_end = p + plen};
}

static const char *attempt(struct match *m, const char *s, const char *p)
{
    m->level = 0;
    m->depth = 0;
    return here(m, s, p);
}

/* ---- find, match ------------------------------------------------------------------------------------------------- */

static size_t start_of(lua_Integer at, size_t len)
{
    if (at > 0)
        return (size_t)at - 1;
    if (at == 0 || at < -(lua_Integer)len)
        return 0;
    return len + (size_t)at;
}

static bool is_plain(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] && strchr("^$*+?.([%-", p[i]))
            return false;
    return true;
}

static int search(lua_State *L, bool find)
{
    size_t len, plen;
    const char *s = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &plen);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    if (init > len)
        return lua_pushnil(L), 1;
    if (find && (lua_toboolean(L, 4) || is_plain(p, plen))) {
        const char *at = plen ? memmem(s + init, len - init, p, plen) : s + init;
        if (!at)
            return lua_pushnil(L), 1;
        lua_pushinteger(L, at - s + 1);
        lua_pushinteger(L, at - s + (lua_Integer)plen);
        return 2;
    }
    struct match m = match_over(L, s, len, p, plen);
    bool anchor = plen && *p == '^';
    const char *at = s + init;
    p += anchor;
    do {
        const char *e = attempt(&m, at, p);
        if (e && find) {
            lua_pushinteger(L, at - s + 1);
            lua_pushinteger(L, e - s);
            return 2 + push_captures(&m, NULL, NULL);
        }
        if (e)
            return push_captures(&m, at, e);
    } while (at++ < m.end && !anchor);
    lua_pushnil(L);
    return 1;
}

static int find(lua_State *L)
{
    return search(L, true);
}

static int match(lua_State *L)
{
    return search(L, false);
}

/* ---- gmatch ------------------------------------------------------------------------------------------------------ */

/* Upvalues: subject, pattern, where to go on, end of the last match + 1 (0: none). */
static int gmatch_next(lua_State *L)
{
    size_t len, plen;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &len), *p = lua_tolstring(L, lua_upvalueindex(2), &plen);
    size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(3)), last = (size_t)lua_tointeger(L, lua_upvalueindex(4));
    struct match m = match_over(L, s, len, p, plen);
    for (; at <= len; at++) {
        const char *e = attempt(&m, s + at, p);
        if (!e || (last && e == s + last - 1))
            continue;
        lua_pushinteger(L, e - s);
        lua_replace(L, lua_upvalueindex(3));
        lua_pushinteger(L, e - s + 1);
        lua_replace(L, lua_upvalueindex(4));
        return push_captures(&m, s + at, e);
    }
    return 0;
}

static int gmatch(lua_State *L)
{
    size_t len;
    luaL_checklstring(L, 1, &len);
    luaL_checkstring(L, 2);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)min_size(init, len + 1));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* ---- gsub -------------------------------------------------------------------------------------------------------- */

static void add_replaced(struct match *m, luaL_Buffer *b, const char *s, const char *e)
{
    lua_State *L = m->L;
    size_t len;
    const char *r = lua_tolstring(L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (r[i] != '%') {
            luaL_addchar(b, r[i]);
            continue;
        }
        i++;
        if (i < len && r[i] == '%') {
            luaL_addchar(b, '%');
        } else if (i < len && r[i] == '0') {
            luaL_addlstring(b, s, (size_t)(e - s));
        } else if (i < len && isdigit((unsigned char)r[i])) {
            push_capture(m, r[i] - '1', s, e);
            luaL_tolstring(L, -1, NULL);
            lua_remove(L, -2);
            luaL_addvalue(b);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
}

static void add_value(struct match *m, luaL_Buffer *b, const char *s, const char *e, int type)
{
    lua_State *L = m->L;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, e), 1);
    } else if (type == LUA_TTABLE) {
        push_capture(m, 0, s, e);
        lua_gettable(L, 3);
    } else {
        add_replaced(m, b, s, e);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(e - s));
    } else if (lua_isstring(L, -1)) {
        luaL_addvalue(b);
    } else {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
}

static int gsub(lua_State *L)
{
    size_t len, plen;
    const char *s = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &plen), *last = NULL;
    int type = lua_type(L, 3);
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
                     "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)len + 1), n = 0;
    bool anchor = plen && *p == '^';
    luaL_Buffer b;
    struct match m = match_over(L, s, len, p, plen);
    p += anchor;
    if (type == LUA_TNUMBER)
        lua_tostring(L, 3);
    luaL_buffinit(L, &b);
    while (n < most) {
        const char *e = attempt(&m, s, p);
        step(&m);
        if (e && e != last) {
            n++;
            add_value(&m, &b, s, e, type);
            s = last = e;
        } else if (s < m.end) {
            luaL_addchar(&b, *s++);
        } else {
            break;
        }
        if (anchor)
            break;
    }
    luaL_addlstring(&b, s, (size_t)(m.end - s));
    luaL_pushresult(&b);
    lua_pushinteger(L, n);
    return 2;
}

static int repeat(lua_State *L)
{
    size_t len, parted;
    const char *s = luaL_checklstring(L, 1, &len), *by = luaL_optlstring(L, 3, "", &parted);
    lua_Integer n = luaL_checkinteger(L, 2);
    struct lua_run *run = run_of(L);
    size_t most = (size_t)run->host->memory / 4;
    if (n <= 0 || len + parted == 0)
        return lua_pushliteral(L, ""), 1;
    if ((uint64_t)n > most / (len + parted))
        return luaL_error(L, "resulting string too large");
    guard_poll(L);
    luaL_Buffer b;
    size_t unit = len + parted, whole = (size_t)n * unit, total = unit;
    char *at = luaL_buffinitsize(L, &b, whole);
    memcpy(at, s, len);
    memcpy(at + len, by, parted);
    while (total < whole) { /* twice as much each time */
        size_t more = min_size(total, whole - total);
        memcpy(at + total, at, more);
        total += more;
    }
    luaL_pushresultsize(&b, whole - parted);
    return 1;
}

void pattern_install(lua_State *L)
{
    static const luaL_Reg functions[] = {{"find", find}, {"match", match}, {"gmatch", gmatch},
                                         {"gsub", gsub}, {"rep", repeat},  {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
