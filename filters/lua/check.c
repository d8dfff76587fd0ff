/* check.c - finds mistakes in the bytecode of a script at load, for instance a misspelt name in a function that is rarely called.
 *
 * Globals: every GETTABUP and SETTABUP on _ENV has the name as a constant. Objects: the name of a hook determines the classes of s, m and the
 * third argument. Values are tracked through locals that are assigned once and through closures, and treated as unknown where branches join,
 * so that only certain mistakes are reported. With another Lua than 5.4 there are no checks, and mistakes show at run time. */
#include "filters/lua/check.h"

struct check_known {
    const char *class;   /* of an object, or of a table with fixed fields; NULL: nothing is known */
    const char *verdict; /* the function of this name */
    struct str text;     /* a constant */
};

struct frame { /* one function being walked */
    struct check *check;
    const struct lua_function *f;
    const char *hook; /* NULL: it is none */
    struct check_known regs[256], *upvalues;
    bool *is_target; /* by pc: something jumps here */
};

/* ---- findings ---------------------------------------------------------------------------------------------------- */

static void tell(const struct frame *fr, size_t pc, struct str text)
{
    struct finding **at = &fr->check->findings, *new = arena_alloc(fr->check->arena, sizeof *new);
    new->line = dump_line(fr->f, pc);
    new->text = text.at;
    while (*at && (*at)->line <= new->line)
        at = &(*at)->next;
    new->next = *at;
    *at = new;
}

#define SAY(fr, pc, ...) tell(fr, pc, arena_print((fr)->check->arena, __VA_ARGS__))

/* ---- what is known ----------------------------------------------------------------------------------------------- */

/* Tables with fixed fields that hooks get as arguments. */
static const struct {
    const char *class;
    const char *fields[12];
} tables[] = {{"s.tls", {"version", "cipher", "sni", "alpn", "subject", "issuer", "fingerprint", "bits", "verified"}},
              {"s.auth", {"user", "method"}},
              {"m.params", {"size", "smtputf8", "body", "ret", "envid"}},
              {"reply", {"stage", "enhanced", "text", "queue_id", "code", "rcpt"}}};

static const struct {
    const char *class, *field, *is;
} classes[] = {{"session", "ip", "ip"},           {"session", "tls", "s.tls"},    {"session", "auth", "s.auth"},
               {"message", "headers", "headers"}, {"message", "from", "address"}, {"message", "params", "m.params"},
               {"reply", "rcpt", "address"}};

static const char *const verdicts[] = { /* functions that make one */
#define MADE(word) word,
#define IMPLIED(word)
#define VERDICT_NAME(name, word, who) who(word)
#include "filters/verdicts.def"
#undef MADE
#undef IMPLIED
#undef VERDICT_NAME
    "act", "separate",
};

static struct check_known class_of_field(const char *class, struct str field)
{
    for (size_t i = 0; i < countof(classes); i++)
        if (!strcmp(classes[i].class, class) && str_equal(field, str_of(classes[i].field)))
            return (struct check_known){.class = classes[i].is};
    return (struct check_known){0};
}

/* Is `name` a field or a method of the class; names gets all of them (at most `room`) for a suggestion. */
static void look_up(const struct frame *fr, const char *class, const char *name, bool *field, bool *method,
                    const char **near)
{
    const char *names[64];
    size_t n = 0;
    lua_State *L = fr->check->L;
    *field = *method = false;
    for (size_t i = 0; i < countof(tables); i++)
        for (size_t k = 0; !strcmp(tables[i].class, class) && k < countof(tables[i].fields) && tables[i].fields[k]; k++)
            names[n++] = tables[i].fields[k], *field |= !strcmp(name, tables[i].fields[k]);
    int top = lua_gettop(L);
    luaL_getmetatable(L, class);
    for (int methods = 0; methods <= 1 && lua_istable(L, top + 1); methods++) {
        if (lua_getfield(L, top + 1, methods ? "methods" : "fields") == LUA_TTABLE)
            for (lua_pushnil(L); lua_next(L, top + 2); lua_pop(L, 1)) {
                const char *key = lua_tostring(L, -2);
                if (n < countof(names))
                    names[n++] = key;
                *(methods ? method : field) |= !strcmp(name, key);
            }
        lua_settop(L, top + 1);
    }
    *near = nearest_name(str_of(name), names, n).at;
    lua_settop(L, top);
}

/* ---- declarations ------------------------------------------------------------------------------------------------ */

static bool names_global(const struct check *check, struct str name)
{
    const struct lua_function *f = check->main;
    for (size_t pc = 0; pc < f->ncode; pc++) {
        struct lua_code i = dump_code(f, pc);
        if (i.op == OP_GETTABUP && (int)i.b == f->env && str_equal(dump_constant(f, i.c), name))
            return true;
    }
    return false;
}

static bool says_edits_late(const struct check *check)
{
    return names_global(check, STR("edits_late"));
}

static bool says_reads_body(const struct check *check)
{
    return names_global(check, STR("reads_body")) || says_edits_late(check);
}

static bool says_edits_body(const struct check *check)
{
    return names_global(check, STR("edits_body"));
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

static void check_need(const struct frame *fr, size_t pc, const char *class, const char *method)
{
    static const struct {
        const char *class, *method, *hook;
        bool (*said)(const struct check *);
        const char *why;
    } needs[] = {
        {"message", "body", "message", says_reads_body,
         "m:body is for on.message of a script that says reads_body() in its main chunk"},
        {"message", "set_body", "message", says_edits_late,
         "m:set_body is for on.message of a script that says edits_late() in its main chunk"},
        {"chunk", "replace", "body", says_edits_body,
         "a script that changes the body says edits_body() in its main chunk"},
        {"chunk", "drop", "body", says_edits_body,
         "a script that changes the body says edits_body() in its main chunk"},
    };
    for (size_t i = 0; i < countof(needs); i++)
        if (!strcmp(class, needs[i].class) && !strcmp(method, needs[i].method) &&
            (!needs[i].said(fr->check) || (fr->hook && strcmp(fr->hook, needs[i].hook))))
            SAY(fr, pc, "%s", needs[i].why);
}

static void check_key(const struct frame *fr, size_t pc, const char *class, struct str key, bool is_call)
{
    bool field, method;
    const char *near;
    if (!class || !key.at)
        return;
    const char *name = arena_str(fr->check->arena, key).at;
    look_up(fr, class, name, &field, &method, &near);
    const char *article = strchr("aeiou", class[0]) ? "an" : "a";
    if (is_call && field && !method)
        SAY(fr, pc, "\"%s\" of %s %s is a field: write .%s, without a call", name, article, class, name);
    else if (!field && !method && near)
        SAY(fr, pc, "%s %s has no \"%s\" (did you mean \"%s\"?)", article, class, name, near);
    else if (!field && !method)
        SAY(fr, pc, "%s %s has no \"%s\"", article, class, name);
    else if (is_call)
        check_need(fr, pc, class, name);
}

static void check_call(const struct frame *fr, size_t pc, struct lua_code i)
{
    const char *verdict = fr->regs[i.a].verdict;
    if (!verdict)
        return;
    if (i.op == OP_CALL && i.c == 1 && fr->f != fr->check->main)
        SAY(fr, pc, "a verdict is made and not returned: write \"return\" in front of %s", verdict);
    struct str text = fr->regs[i.a + 1].text;
    const char *why =
        i.b != 1 && text.at ? verdict_class_wrong(fr->check->L, verdict, arena_str(fr->check->arena, text).at) : NULL;
    if (why)
        SAY(fr, pc, "%s", why);
}

static void check_global(const struct frame *fr, size_t pc, struct str name, bool write)
{
    lua_State *L = fr->check->L;
    const char *names[256], *word = arena_str(fr->check->arena, name).at;
    size_t n = 0;
    int top = lua_gettop(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals);
    lua_pushstring(L, word);
    bool known = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 1);
    for (lua_pushnil(L); lua_next(L, top + 1); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && n < countof(names))
            names[n++] = lua_tostring(L, -2);
    const char *near = nearest_name(str_of(word), names, n).at, *later = lua_later(word);
    if (write)
        SAY(fr, pc, "\"%s\" is global: say \"local %s\" first", word, word);
    else if (!known && later)
        SAY(fr, pc, "%s", later);
    else if (!known)
        SAY(fr, pc, near ? "unknown name \"%s\" (did you mean \"%s\"?)" : "unknown name \"%s\"", word, near);
    lua_settop(L, top);
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

static bool writes(struct lua_code i, unsigned reg)
{
    switch (i.op) {
    case OP_SETUPVAL:
    case OP_SETTABUP:
    case OP_SETTABLE:
    case OP_SETI:
    case OP_SETFIELD:
    case OP_CLOSE:
    case OP_TBC:
    case OP_JMP:
    case OP_SETLIST:
    case OP_EXTRAARG: return false;
    case OP_LOADNIL: return reg >= i.a && reg <= i.a + i.b;
    case OP_SELF: return reg == i.a || reg == i.a + 1;
    case OP_CALL:
    case OP_TAILCALL:
    case OP_VARARG: return reg >= i.a; /* what is above a call is free anyway */
    case OP_FORLOOP:
    case OP_FORPREP:
    case OP_TFORLOOP:
    case OP_TFORCALL:
    case OP_TFORPREP: return reg >= i.a;
    default:
        if ((i.op >= OP_EQ && i.op <= OP_TEST) || (i.op >= OP_MMBIN && i.op <= OP_MMBINK) ||
            (i.op >= OP_RETURN && i.op <= OP_RETURN1))
            return false;
        return reg == i.a;
    }
}

/* True: at this place the register is that of a local variable which is never assigned again. */
static bool is_fixed(const struct lua_function *f, unsigned reg, size_t pc)
{
    for (size_t k = 0; k < f->nlocals; k++) {
        const struct lua_local *l = &f->locals[k];
        if (l->reg != reg || l->from > pc || l->to <= pc)
            continue;
        for (size_t at = l->from; at < l->to && at < f->ncode; at++)
            if (writes(dump_code(f, at), reg))
                return false;
        return true;
    }
    return false;
}

static void mark_targets(struct frame *fr)
{
    const struct lua_function *f = fr->f;
    for (size_t pc = 0; pc < f->ncode; pc++) {
        struct lua_code i = dump_code(f, pc);
        long to = -1;
        if (i.op == OP_JMP)
            to = (long)pc + 1 + i.sj;
        else if (i.op == OP_FORLOOP || i.op == OP_TFORLOOP)
            to = (long)pc + 1 - (long)i.bx;
        else if (i.op == OP_FORPREP)
            to = (long)pc + 2 + (long)i.bx;
        else if (i.op == OP_TFORPREP)
            to = (long)pc + 1 + (long)i.bx;
        else if (i.op == OP_LFALSESKIP || (i.op >= OP_EQ && i.op <= OP_TESTSET))
            to = (long)pc + 2;
        if (to >= 0 && (size_t)to < f->ncode)
            fr->is_target[to] = true;
    }
}

static void walk(struct check *, const struct lua_function *, const char *hook, struct check_known *upvalues,
                 int depth);

/* function on.NAME(...) is CLOSURE, then SETFIELD of it on what the global `on` gave. */
static const char *hook_of(const struct frame *fr, size_t pc, unsigned reg)
{
    struct lua_code i = pc + 1 < fr->f->ncode ? dump_code(fr->f, pc + 1) : (struct lua_code){0};
    if (i.op != OP_SETFIELD || i.k || i.c != reg || !fr->regs[i.a].class || strcmp(fr->regs[i.a].class, "on"))
        return NULL;
    struct str name = dump_constant(fr->f, i.b);
    return name.at ? arena_str(fr->check->arena, name).at : NULL;
}

static void enter_closure(const struct frame *fr, size_t pc, struct lua_code i, int depth)
{
    if (i.bx >= fr->f->nchildren)
        return;
    const struct lua_function *child = &fr->f->children[i.bx];
    struct check_known *upvalues = arena_alloc(fr->check->arena, (child->nupvalues + 1) * sizeof *upvalues);
    for (size_t k = 0; k < child->nupvalues; k++) {
        unsigned index = child->upvalues[k].index;
        if (!child->upvalues[k].of_parent)
            upvalues[k] = index < fr->f->nupvalues ? fr->upvalues[index] : (struct check_known){0};
        else if (is_fixed(fr->f, index, pc))
            upvalues[k] = fr->regs[index];
    }
    walk(fr->check, child, hook_of(fr, pc, i.a), upvalues, depth + 1);
}

/* What is known about the value that the instruction puts into its register. */
static struct check_known result_of(const struct frame *fr, struct lua_code i)
{
    if (i.op == OP_MOVE)
        return fr->regs[i.b];
    if (i.op == OP_LOADK)
        return (struct check_known){.text = dump_constant(fr->f, i.bx)};
    if (i.op == OP_GETUPVAL && i.b < fr->f->nupvalues)
        return fr->upvalues[i.b];
    if (i.op == OP_GETFIELD && fr->regs[i.b].class)
        return class_of_field(fr->regs[i.b].class, dump_constant(fr->f, i.c));
    if (i.op == OP_GETTABUP && (int)i.b == fr->f->env) {
        struct str name = dump_constant(fr->f, i.c);
        for (size_t k = 0; k < countof(verdicts); k++)
            if (str_equal(name, str_of(verdicts[k])))
                return (struct check_known){.verdict = verdicts[k]};
        if (str_equal(name, STR("on")))
            return (struct check_known){.class = "on"};
    }
    return (struct check_known){0};
}

static void step(struct frame *fr, size_t pc, int depth)
{
    struct lua_code i = dump_code(fr->f, pc);
    const char *class = NULL;
    if ((i.op == OP_GETTABUP && (int)i.b == fr->f->env) || (i.op == OP_SETTABUP && (int)i.a == fr->f->env)) {
        struct str name = dump_constant(fr->f, i.op == OP_GETTABUP ? i.c : i.b);
        if (name.at)
            check_global(fr, pc, name, i.op == OP_SETTABUP);
    } else if (i.op == OP_GETFIELD || i.op == OP_SELF) {
        class = fr->regs[i.b].class;
        if (class && strcmp(class, "on"))
            check_key(fr, pc, class, i.op == OP_SELF && !i.k ? STR_NONE : dump_constant(fr->f, i.c), i.op == OP_SELF);
    } else if (i.op == OP_SETFIELD) {
        class = fr->regs[i.a].class;
        if (class && strcmp(class, "on") && !strchr(class, '.') && strcmp(class, "reply"))
            SAY(fr, pc, "%s %s cannot be written to: what a script remembers goes in s.vars or m.vars",
                strchr("aeiou", class[0]) ? "an" : "a", class);
    } else if (i.op == OP_CALL || i.op == OP_TAILCALL) {
        check_call(fr, pc, i);
    } else if (i.op == OP_CLOSURE) {
        enter_closure(fr, pc, i, depth);
    }
    struct check_known left = result_of(fr, i);
    for (unsigned reg = 0; reg < countof(fr->regs); reg++)
        if (writes(i, reg))
            fr->regs[reg] = reg == i.a ? left : (struct check_known){0};
}

static void set_arguments(struct frame *fr)
{
    static const struct {
        const char *hook, *third;
    } thirds[] = {{"mail", "address"}, {"rcpt", "address"}, {"body", "chunk"}, {"reply", "reply"}};
    static const char *const without_message[] = {"connect", "tls", "helo", "auth", "disconnect"};
    bool message = strcmp(fr->hook, "start") != 0;
    if (!message)
        return;
    fr->regs[0].class = "session";
    for (size_t i = 0; i < countof(without_message); i++)
        message = message && strcmp(fr->hook, without_message[i]);
    if (message && fr->f->params > 1)
        fr->regs[1].class = "message";
    for (size_t i = 0; i < countof(thirds); i++)
        if (!strcmp(fr->hook, thirds[i].hook) && fr->f->params > 2)
            fr->regs[2].class = thirds[i].third;
}

static void walk(struct check *check, const struct lua_function *f, const char *hook, struct check_known *upvalues,
                 int depth)
{
    struct frame *fr = arena_alloc(check->arena, sizeof *fr);
    *fr = (struct frame){.check = check, .f = f, .hook = hook, .upvalues = upvalues};
    fr->is_target = arena_alloc(check->arena, f->ncode + 1);
    mark_targets(fr);
    if (hook && f->params)
        set_arguments(fr);
    for (size_t pc = 0; pc < f->ncode && depth < 100; pc++) {
        for (unsigned reg = 0; fr->is_target[pc] && reg < countof(fr->regs); reg++)
            if ((fr->regs[reg].class || fr->regs[reg].verdict || fr->regs[reg].text.at) && !is_fixed(f, reg, pc))
                fr->regs[reg] = (struct check_known){0};
        step(fr, pc, depth);
    }
}

struct finding *check_script(lua_State *L, struct arena *arena)
{
    struct check check = {.L = L, .arena = arena, .main = dump_read(L, arena)};
    if (check.main)
        walk(&check, check.main, NULL, arena_alloc(arena, (check.main->nupvalues + 1) * sizeof(struct check_known)), 0);
    return check.findings;
}
