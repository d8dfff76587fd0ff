/* lua_check.c - names of globals, found at load: a misspelt name in a function that runs once a week fails today.
 *
 * Reads what lua_dump writes of the compiled chunk: every GETTABUP and SETTABUP on _ENV names a global with a
 * constant. The format is that of Lua 5.4 (header 0x54, format 0), checked before anything is believed; another Lua is
 * left unchecked here and its names are found when they are read. */
#include "filters/lua_host.h"

enum { OP_GET = 11, OP_SET = 15 }; /* OP_GETTABUP, OP_SETTABUP of lopcodes.h 5.4 */

struct dump {
    char *at;
    size_t len, room, pos;
    bool broken;
};
struct constant {
    const char *at;
    size_t len;
};
struct found {
    lua_State *L;
    struct dump *d;
    const char **name;
    int *line;
    bool *write;
};

static int take(lua_State *L, const void *at, size_t n, void *data)
{
    struct dump *d = data;
    if (d->len + n > d->room)
        d->at = must_grow(d->at, d->room = (d->len + n) * 2);
    memcpy(d->at + d->len, at, n);
    d->len += n;
    return 0;
}

static const char *octets(struct dump *d, size_t n)
{
    if (d->broken || d->len - d->pos < n) {
        d->broken = true;
        return NULL;
    }
    d->pos += n;
    return d->at + d->pos - n;
}

static unsigned octet(struct dump *d)
{
    const char *at = octets(d, 1);
    return at ? (unsigned char)*at : 0;
}

/* Seven bits an octet, the last one marked. */
static size_t number(struct dump *d)
{
    size_t n = 0;
    unsigned c;
    do {
        c = octet(d);
        n = n << 7 | (c & 127);
    } while (!(c & 128) && !d->broken);
    return n;
}

static struct constant text(struct dump *d)
{
    size_t n = number(d);
    if (!n)
        return (struct constant){NULL, 0};
    const char *at = octets(d, n - 1);
    return (struct constant){at, at ? n - 1 : 0};
}

static struct constant constant(struct dump *d)
{
    struct constant none = {NULL, 0};
    unsigned kind = octet(d);
    if (kind == 0x04 || kind == 0x14)
        return text(d);
    if (kind == 0x03 || kind == 0x13)
        octets(d, 8);
    else if (kind != 0 && kind != 0x01 && kind != 0x11)
        d->broken = true;
    return none;
}

struct function {
    const char *code, *lines;
    size_t ncode, nconstants, nlines, nabsolute;
    struct constant *constants;
    int first_line, env; /* env: which upvalue is _ENV; -1: none */
    struct {
        int pc, line;
    } * absolute;
};

static int line_of(const struct function *f, int pc)
{
    int at = -1, line = f->first_line;
    for (size_t i = 0; i < f->nabsolute && f->absolute[i].pc <= pc; i++) {
        at = f->absolute[i].pc;
        line = f->absolute[i].line;
    }
    while (at++ < pc && (size_t)at < f->nlines)
        if (f->lines[at] != -128)
            line += (signed char)f->lines[at];
    return line;
}

static bool is_known(lua_State *L, struct constant name)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals);
    lua_pushlstring(L, name.at, name.len);
    bool known = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return known;
}

/* True: nothing is wrong in this function. */
static bool check_code(const struct found *r, const struct function *f)
{
    for (size_t pc = 0; pc < f->ncode && f->env >= 0; pc++) {
        uint32_t i;
        memcpy(&i, f->code + pc * 4, 4);
        unsigned op = i & 127, a = i >> 7 & 255, b = i >> 16 & 255, c = i >> 24;
        bool get = op == OP_GET && b == (unsigned)f->env, set = op == OP_SET && a == (unsigned)f->env;
        size_t k = get ? c : b;
        if ((!get && !set) || k >= f->nconstants || !f->constants[k].at)
            continue;
        if (get && is_known(r->L, f->constants[k]))
            continue;
        lua_pushlstring(r->L, f->constants[k].at, f->constants[k].len);
        *r->name = lua_tostring(r->L, -1);
        *r->line = line_of(f, (int)pc);
        *r->write = set;
        return false;
    }
    return true;
}

static bool check_function(const struct found *r, int depth);

/* The nested functions come before the names of the upvalues, which this one's code needs: they are passed over first.
 */
static bool read_function(const struct found *r, struct function *f, int depth)
{
    struct dump *d = r->d;
    text(d);
    f->first_line = (int)number(d);
    number(d);
    octets(d, 3);
    f->ncode = number(d);
    f->code = octets(d, f->ncode * 4);
    f->nconstants = number(d);
    if (d->broken || f->nconstants > d->len)
        return !(d->broken = true);
    f->constants = must_alloc((f->nconstants + 1) * sizeof *f->constants);
    for (size_t i = 0; i < f->nconstants; i++)
        f->constants[i] = constant(d);
    octets(d, number(d) * 3);
    bool good = true;
    for (size_t i = 0, n = number(d); i < n && !d->broken; i++)
        good = check_function(good ? r : &(struct found){.d = d}, depth + 1) && good;
    f->nlines = number(d);
    f->lines = octets(d, f->nlines);
    f->nabsolute = number(d);
    if (d->broken || f->nabsolute > d->len)
        return !(d->broken = true) && good;
    f->absolute = must_alloc((f->nabsolute + 1) * sizeof *f->absolute);
    for (size_t i = 0; i < f->nabsolute; i++) {
        f->absolute[i].pc = (int)number(d);
        f->absolute[i].line = (int)number(d);
    }
    for (size_t i = 0, n = number(d); i < n && !d->broken; i++)
        text(d), number(d), number(d);
    for (size_t i = 0, n = number(d); i < n && !d->broken; i++) {
        struct constant name = text(d);
        if (name.at && name.len == 4 && !memcmp(name.at, "_ENV", 4))
            f->env = (int)i;
    }
    return good;
}

static bool check_function(const struct found *r, int depth)
{
    struct function f = {.env = -1};
    if (depth > 100)
        r->d->broken = true;
    bool good = read_function(r, &f, depth);
    if (good && r->L && !r->d->broken)
        good = check_code(r, &f);
    free(f.constants);
    free(f.absolute);
    return good;
}

/* False: *name (pushed) at *line is read and unknown, or written; then a suggestion, or nil, is pushed. */
bool lua_check_globals(lua_State *L, const char **name, int *line, bool *write)
{
    static const char header[] = "\x1bLua\x54\0\x19\x93\r\n\x1a\n\x04\x08\x08";
    struct dump d = {0};
    struct found r = {L, &d, name, line, write};
    lua_dump(L, take, &d, 0);
    bool good = true;
    if (d.len > 32 && !memcmp(d.at, header, sizeof header - 1)) {
        d.pos = sizeof header - 1 + 8 + 8 + 1; /* an integer, a float, how many upvalues */
        int top = lua_gettop(L);
        good = check_function(&r, 0) || lua_gettop(L) == top;
    }
    free(d.at);
    if (good)
        return true;
    const char *names[256];
    size_t n = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && n < countof(names))
            names[n++] = lua_tostring(L, -2);
    const char *near = lua_nearest(*name, names, n);
    if (near)
        lua_pushfstring(L, " (did you mean \"%s\"?)", near);
    else
        lua_pushnil(L);
    return false;
}
