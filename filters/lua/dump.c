/* dump.c - see dump.h. The format is that of ldump.c of Lua 5.4 (version 0x54, format 0), which the header is checked for. */
#include "filters/lua/dump.h"

struct dump {
    char *at;
    size_t len, room, pos;
    bool broken;
    struct arena *arena;
};

static int take(lua_State *L, const void *at, size_t n, void *data)
{
    struct dump *d = data;
    if (d->len + n > d->room) {
        char *old = d->at;
        d->at = arena_space(d->arena, d->room = (d->len + n) * 2);
        if (d->len)
            memcpy(d->at, old, d->len);
    }
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

/* An integer of seven bits per octet; the last octet has its top bit set. */
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

/* A count of elements that follow, each of which has at least one octet. */
static size_t count(struct dump *d)
{
    size_t n = number(d);
    if (n > d->len - d->pos)
        d->broken = true;
    return d->broken ? 0 : n;
}

static struct str text(struct dump *d)
{
    size_t n = number(d);
    const char *at = n ? octets(d, n - 1) : NULL;
    return at ? (struct str){at, n - 1} : STR_NONE;
}

static struct str constant(struct dump *d)
{
    unsigned kind = octet(d);
    if (kind == 0x04 || kind == 0x14)
        return text(d);
    if (kind == 0x03 || kind == 0x13)
        octets(d, 8);
    else if (kind != 0 && kind != 0x01 && kind != 0x11)
        d->broken = true;
    return STR_NONE;
}

/* Computes the register of a local: the number of earlier locals that are alive where it begins. */
static void place_locals(struct lua_function *f)
{
    for (size_t i = 0; i < f->nlocals; i++)
        for (size_t j = 0; j < i; j++)
            f->locals[i].reg += f->locals[j].to > f->locals[i].from;
}

static void read_debug(struct dump *d, struct lua_function *f)
{
    f->nlines = count(d);
    f->lines = octets(d, f->nlines);
    f->nabsolute = count(d);
    f->absolute = arena_alloc(d->arena, (f->nabsolute + 1) * sizeof *f->absolute);
    for (size_t i = 0; i < f->nabsolute; i++) {
        f->absolute[i].pc = number(d);
        f->absolute[i].line = (int)number(d);
    }
    f->nlocals = count(d);
    f->locals = arena_alloc(d->arena, (f->nlocals + 1) * sizeof *f->locals);
    for (size_t i = 0; i < f->nlocals; i++) {
        text(d);
        f->locals[i].from = number(d);
        f->locals[i].to = number(d);
    }
    place_locals(f);
    for (size_t i = 0, n = count(d); i < n; i++)
        if (str_equal(text(d), STR("_ENV")))
            f->env = (int)i;
}

static void read_function(struct dump *d, struct lua_function *f, int depth)
{
    f->env = -1;
    if (depth > 100)
        d->broken = true;
    text(d);
    f->first_line = (int)number(d);
    number(d);
    f->params = octet(d);
    octets(d, 2);
    f->ncode = count(d);
    f->code = octets(d, f->ncode * 4);
    f->nconstants = count(d);
    f->constants = arena_alloc(d->arena, (f->nconstants + 1) * sizeof *f->constants);
    for (size_t i = 0; i < f->nconstants; i++)
        f->constants[i] = constant(d);
    f->nupvalues = count(d);
    f->upvalues = arena_alloc(d->arena, (f->nupvalues + 1) * sizeof *f->upvalues);
    for (size_t i = 0; i < f->nupvalues; i++) {
        f->upvalues[i].of_parent = octet(d);
        f->upvalues[i].index = octet(d);
        octet(d);
    }
    f->nchildren = count(d);
    f->children = arena_alloc(d->arena, (f->nchildren + 1) * sizeof *f->children);
    for (size_t i = 0; i < f->nchildren && !d->broken; i++)
        read_function(d, &f->children[i], depth + 1);
    read_debug(d, f);
}

struct lua_function *dump_read(lua_State *L, struct arena *arena)
{
    static const char header[] = "\x1bLua\x54\0\x19\x93\r\n\x1a\n\x04\x08\x08";
    struct dump d = {.arena = arena};
    struct lua_function *f = arena_alloc(arena, sizeof *f);
    lua_dump(L, take, &d, 0);
    if (d.len <= 32 || memcmp(d.at, header, sizeof header - 1))
        return NULL;
    d.pos = sizeof header - 1 + 8 + 8 + 1; /* an integer, a float, how many upvalues */
    read_function(&d, f, 0);
    return d.broken ? NULL : f;
}

struct lua_code dump_code(const struct lua_function *f, size_t pc)
{
    uint32_t i;
    memcpy(&i, f->code + pc * 4, 4);
    return (struct lua_code){.op = (enum lua_op)(i & 127),
                             .a = i >> 7 & 255,
                             .k = i >> 15 & 1,
                             .b = i >> 16 & 255,
                             .c = i >> 24,
                             .bx = i >> 15,
                             .sj = (int)(i >> 7) - ((1 << 24) - 1)};
}

int dump_line(const struct lua_function *f, size_t pc)
{
    size_t at = 0; /* the next step of `lines` */
    int line = f->first_line;
    for (size_t i = 0; i < f->nabsolute && f->absolute[i].pc <= pc; i++) {
        at = f->absolute[i].pc + 1;
        line = f->absolute[i].line;
    }
    for (; at <= pc && at < f->nlines; at++)
        if (f->lines[at] != -128)
            line += (signed char)f->lines[at];
    return line;
}

struct str dump_constant(const struct lua_function *f, size_t i)
{
    return i < f->nconstants ? f->constants[i] : STR_NONE;
}
