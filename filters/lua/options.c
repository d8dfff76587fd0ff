/* options.c - options{...}: the options of a script, whose types are those of their defaults.
 *
 * At load the declarations are passed to filter_options, which checks the configuration and complains with file and line; in the workers the
 * same call only returns the values. duration and size return tagged numbers, from which options{} takes the type; the script gets plain
 * numbers, and arithmetic works on tagged ones too. */
#include "filters/lua/host.h"
#include <math.h>

#define TAGGED "duration or size"
#define SPEC   "option"
enum { OPTIONS_MOST = 100 };

struct tagged {
    double number;
    bool is_size;
};
struct option_spec {
    enum filter_type type, of;
    bool required, one_of;
};

/* ---- duration and size ------------------------------------------------------------------------------------------- */

bool lua_to_tagged(lua_State *L, int arg, double *number, bool *is_size)
{
    const struct tagged *t = luaL_testudata(L, arg, TAGGED);
    if (t) {
        *number = t->number;
        *is_size = t->is_size;
    }
    return t != NULL;
}

static double number_at(lua_State *L, int arg)
{
    const struct tagged *t = luaL_testudata(L, arg, TAGGED);
    return t ? t->number : luaL_checknumber(L, arg);
}

double lua_check_seconds(lua_State *L, int arg)
{
    double seconds;
    if (lua_type(L, arg) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, arg, &len);
        if (!value_parse_duration((struct str){text, len}, &seconds))
            luaL_argerror(L, arg, "a duration like \"90s\", \"5m\", \"1h30m\" or a number of seconds");
        return seconds;
    }
    return number_at(L, arg);
}

static void push_number(lua_State *L, double n)
{
    if (floor(n) == n && fabs(n) < 9e15)
        lua_pushinteger(L, (lua_Integer)n);
    else
        lua_pushnumber(L, n);
}

static int make_tagged(lua_State *L, bool is_size)
{
    double n;
    uint64_t octets;
    if (lua_type(L, 1) == LUA_TNUMBER) {
        n = lua_tonumber(L, 1);
    } else {
        size_t len;
        const char *text = luaL_checklstring(L, 1, &len);
        struct str s = {text, len};
        if (is_size ? !value_parse_size(s, &octets) : !value_parse_duration(s, &n))
            return luaL_argerror(L, 1,
                                 is_size ? "a size is written \"10M\", \"256K\" or \"1000\""
                                         : "a duration is written \"90s\", \"5m\", \"1h30m\" or \"2d\"");
        if (is_size)
            n = (double)octets;
    }
    struct tagged *t = lua_new(L, TAGGED, sizeof *t);
    *t = (struct tagged){n, is_size};
    return 1;
}

static int duration(lua_State *L)
{
    return make_tagged(L, false);
}

static int size(lua_State *L)
{
    return make_tagged(L, true);
}

#define ARITHMETIC(name, expression)                                                                                   \
    static int name(lua_State *L)                                                                                      \
    {                                                                                                                  \
        double a = number_at(L, 1), b = number_at(L, 2);                                                               \
        (void)b;                                                                                                       \
        push_number(L, expression);                                                                                    \
        return 1;                                                                                                      \
    }
ARITHMETIC(tagged_add, a + b)
ARITHMETIC(tagged_sub, a - b)
ARITHMETIC(tagged_mul, a *b)
ARITHMETIC(tagged_div, a / b)
ARITHMETIC(tagged_negate, -a)
#undef ARITHMETIC

static int tagged_less(lua_State *L)
{
    lua_pushboolean(L, number_at(L, 1) < number_at(L, 2));
    return 1;
}

static int tagged_at_most(lua_State *L)
{
    lua_pushboolean(L, number_at(L, 1) <= number_at(L, 2));
    return 1;
}

static int tagged_text(lua_State *L)
{
    push_number(L, number_at(L, 1));
    lua_tostring(L, -1);
    return 1;
}

/* ---- what can stand for a default -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum filter_type type;
} type_names[] = {{"text", TYPE_TEXT},        {"number", TYPE_NUMBER},     {"bool", TYPE_BOOL},
                  {"boolean", TYPE_BOOL},     {"duration", TYPE_DURATION}, {"size", TYPE_SIZE},
                  {"list", TYPE_LIST},        {"map", TYPE_MAP},           {"table", TYPE_TABLE},
                  {"table_file", TYPE_TABLE}, {"cidr", TYPE_CIDR},         {"address", TYPE_ADDRESS}};

/* "text", or one of the functions table_file, cidr, duration, size themselves. */
static enum filter_type type_at(lua_State *L, int arg)
{
    const char *name = NULL;
    if (lua_isfunction(L, arg)) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals);
        for (size_t i = 0; i < countof(type_names) && !name; i++) {
            lua_pushstring(L, type_names[i].name);
            lua_rawget(L, -2);
            if (lua_rawequal(L, -1, arg))
                name = type_names[i].name;
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    } else {
        name = luaL_checkstring(L, arg);
    }
    const char *names[countof(type_names)];
    for (size_t i = 0; i < countof(type_names); i++) {
        names[i] = type_names[i].name;
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): every type has a name */
        if (name && !strcmp(name, names[i]))
            return type_names[i].type;
    }
    const char *near = name ? nearest_name(str_of(name), names, countof(names)).at : NULL;
    luaL_error(L, near ? "unknown type \"%s\" (did you mean \"%s\"?)" : "unknown type \"%s\"", name ? name : "?", near);
    return TYPE_NONE;
}

static int make_spec(lua_State *L, enum filter_type type, enum filter_type of, bool required)
{
    struct option_spec *spec = lua_new(L, SPEC, sizeof *spec);
    *spec = (struct option_spec){.type = type, .of = of, .required = required};
    return 1;
}

static int required(lua_State *L)
{
    const struct option_spec *inner = luaL_testudata(L, 1, SPEC); /* required(list "text") */
    return inner ? make_spec(L, inner->type, inner->of, true) : make_spec(L, type_at(L, 1), TYPE_ANY, true);
}

static int optional(lua_State *L)
{
    const struct option_spec *inner = luaL_testudata(L, 1, SPEC);
    return inner ? make_spec(L, inner->type, inner->of, false) : make_spec(L, type_at(L, 1), TYPE_ANY, false);
}

static int list(lua_State *L)
{
    return make_spec(L, TYPE_LIST, type_at(L, 1), false);
}

static int map(lua_State *L)
{
    return make_spec(L, TYPE_MAP, type_at(L, 1), false);
}

static int one_of(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, lua_rawlen(L, 1) > 0, 1, "a list of texts, the first is the default");
    make_spec(L, TYPE_TEXT, TYPE_NONE, false);
    ((struct option_spec *)lua_touserdata(L, -1))->one_of = true;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* The type of the default at the top of the stack. */
static struct option_spec spec_of_table(lua_State *L, const char *name)
{
    struct option_spec spec = {.type = TYPE_NONE, .of = TYPE_NONE};
    int at = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
        enum filter_type type = lua_type(L, -2) == LUA_TNUMBER ? TYPE_LIST : TYPE_MAP;
        enum filter_type of = lua_type(L, -1) == LUA_TNUMBER   ? TYPE_NUMBER
                              : lua_type(L, -1) == LUA_TSTRING ? TYPE_TEXT
                              : lua_isboolean(L, -1)           ? TYPE_BOOL
                                                               : TYPE_NONE;
        if (!of || (spec.type && spec.type != type) || (spec.of && spec.of != of))
            luaL_error(L, "option \"%s\": its default is a list or a map whose values are of one type", name);
        spec.type = type;
        spec.of = of;
    }
    if (!spec.type)
        luaL_error(L, "option \"%s\": of an empty table the type is not known: write list \"text\" or map \"number\"",
                   name);
    return spec;
}

static struct option_spec spec_of(lua_State *L, const char *name, const char **preset)
{
    const struct option_spec *given = luaL_testudata(L, -1, SPEC);
    double n;
    bool is_size, cidr;
    if (given)
        return *given;
    if (lua_to_tagged(L, -1, &n, &is_size))
        return (struct option_spec){.type = is_size ? TYPE_SIZE : TYPE_DURATION};
    const char *path = lookup_path(L, -1, &cidr);
    *preset = cidr ? NULL : path;
    if (path || cidr)
        return (struct option_spec){.type = cidr ? TYPE_CIDR : TYPE_TABLE};
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN: return (struct option_spec){.type = TYPE_BOOL};
    case LUA_TNUMBER: return (struct option_spec){.type = TYPE_NUMBER};
    case LUA_TSTRING: return (struct option_spec){.type = TYPE_TEXT};
    case LUA_TTABLE: return spec_of_table(L, name);
    default: luaL_error(L, "option \"%s\": a %s cannot be a default", name, luaL_typename(L, -1));
    }
    return (struct option_spec){0};
}

/* ---- options{} --------------------------------------------------------------------------------------------------- */

static void check_name(lua_State *L, const char *name)
{
    static const char *const core[] = {
#define CORE_OPTION(name, ...) #name,
#include "filters/core_options.def"
#undef CORE_OPTION
    };
    for (size_t i = 0; i < countof(core); i++)
        if (!strcmp(name, core[i]))
            luaL_error(L, "option \"%s\" is the gateway's own: every filter has it; use another name", name);
}

static bool is_choice(lua_State *L, int spec, struct filter_text value)
{
    bool found = false;
    lua_getiuservalue(L, spec, 1);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n && !found; i++) {
        lua_rawgeti(L, -1, i);
        size_t len;
        const char *text = luaL_checklstring(L, -1, &len);
        found = len == value.len && !memcmp(text, value.at, len);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return found;
}

static void check_choice(lua_State *L, struct lua_run *run, const char *name, const struct filter_value *v)
{
    if (!v || is_choice(L, lua_gettop(L), filter_value_text(v)))
        return;
    luaL_Buffer b;
    int at = lua_gettop(L);
    luaL_buffinit(L, &b);
    lua_getiuservalue(L, at, 1);
    int choices = lua_gettop(L);
    const char *all = "";
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, choices); i <= n; i++) {
        lua_rawgeti(L, choices, i);
        all = lua_pushfstring(L, "%s%s\"%s\"", all, i == 1 ? "" : i == n ? " or " : ", ", lua_tostring(L, -1));
    }
    filter_complain(run->loading, v, NULL, 0, "option \"%s\": \"%s\" is none of %s", name, filter_value_text(v).at,
                    all);
    run->refused = true;
    luaL_error(L, "option \"%s\"", name);
}

const struct filter_option lua_core_options[LUA_CORE_OPTIONS] = {
    {.size = sizeof *lua_core_options, .name = "memory", .type = TYPE_SIZE, .preset = "16M"},
    {.size = sizeof *lua_core_options, .name = "cpu", .type = TYPE_DURATION, .preset = "100ms"},
};

static void ask_host(lua_State *L, struct lua_run *run)
{
    struct filter_option options[OPTIONS_MOST + 2];
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "options: write name = default");
        if (n == OPTIONS_MOST)
            luaL_error(L, "more than %d options", OPTIONS_MOST);
        const char *name = lua_tostring(L, -2), *preset = NULL;
        check_name(L, name);
        struct option_spec spec = spec_of(L, name, &preset);
        options[n++] = (struct filter_option){.size = sizeof *options,
                                              .name = name,
                                              .type = spec.type,
                                              .of = spec.of,
                                              .required = spec.required,
                                              .preset = preset};
    }
    for (size_t i = 0; i < countof(lua_core_options); i++)
        options[n++] = lua_core_options[i];
    run->host->options = filter_options(run->loading, options, n);
    if (!run->host->options) {
        run->refused = true;
        luaL_error(L, "options");
    }
}

/* Without a value from the configuration: what the script wrote, tags taken off. */
static void push_default(lua_State *L)
{
    const struct option_spec *spec = luaL_testudata(L, -1, SPEC);
    double n;
    bool is_size;
    if (spec && spec->one_of) {
        lua_getiuservalue(L, -1, 1);
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
    } else if (spec && (spec->type == TYPE_LIST || spec->type == TYPE_MAP)) {
        lua_newtable(L);
    } else if (spec) {
        lua_pushnil(L);
    } else if (lua_to_tagged(L, -1, &n, &is_size)) {
        push_number(L, n);
    } else {
        lua_pushvalue(L, -1);
    }
}

static int unknown_option(lua_State *L)
{
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 0; /* declared, and absent */
    return luaL_error(L, "there is no option \"%s\" in options{}", luaL_tolstring(L, 2, NULL));
}

static int option_write(lua_State *L)
{
    return luaL_error(L, "options cannot be written to");
}

static void push_strict(lua_State *L)
{
    lua_newtable(L);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, unknown_option, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, option_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

/* Checks the option `text`, the reply text of act() or of a verdict, at load, so that a mistake is not found by the first message. */
static void check_said(lua_State *L, struct lua_run *run)
{
    const struct filter_value *v = filter_value_get(run->host->options, "text");
    lua_getfield(L, 2, "action");
    lua_getfield(L, 1, "text");
    if (v && filter_value_type(v) == TYPE_TEXT && lua_type(L, -1) == LUA_TSTRING) {
        const char *action = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        const char *why = verdict_text_wrong(L, filter_value_text(v).at, lua_tostring(L, -1), action);
        if (why) {
            filter_complain(run->loading, v, NULL, 0, "option \"text\": %s", why);
            run->refused = true;
            luaL_error(L, "option \"text\"");
        }
    }
    lua_settop(L, 2);
}

/* Checks the option `zones`, the zones for dns.bl: a list, or the keys of a map. */
static void check_zones(lua_State *L, struct lua_run *run)
{
    const struct filter_value *zones = filter_value_get(run->host->options, "zones");
    enum filter_type type = filter_value_type(zones);
    size_t n = type == TYPE_LIST || type == TYPE_MAP ? filter_value_count(zones) : 0;
    for (size_t i = 0; i < n; i++) {
        struct filter_text key;
        const struct filter_value *v = filter_value_at(zones, i, &key);
        const char *zone = type == TYPE_MAP ? key.at : filter_value_text(v).at;
        if (zone && !zone_is_good(zone)) {
            filter_complain(run->loading, v, NULL, 0, "option \"zones\": " ZONE_WRONG, zone);
            run->refused = true;
        }
    }
    if (run->refused)
        luaL_error(L, "option \"zones\"");
}

static int options_declare(lua_State *L)
{
    struct lua_run *run = run_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!run->main)
        return luaL_error(L, "options{...} stands in the main chunk, outside of any function");
    if (run->asked)
        return luaL_error(L, "options{...} is there twice");
    run->asked = true;
    if (run->loading)
        ask_host(L, run);
    lua_newtable(L); /* 2: the values */
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        const char *name = lua_tostring(L, -2);
        const struct filter_value *v = filter_value_get(run->host->options, name);
        const struct option_spec *spec = luaL_testudata(L, -1, SPEC);
        if (spec && spec->one_of && run->loading)
            check_choice(L, run, name, v);
        if (v)
            push_value(L, v);
        else
            push_default(L);
        lua_setfield(L, 2, name);
    }
    if (run->loading) {
        check_said(L, run);
        check_zones(L, run);
    }
    push_strict(L);
    return 1;
}

void options_install(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"options", options_declare}, {"required", required}, {"optional", optional}, {"list", list}, {"map", map},
        {"one_of", one_of},           {"duration", duration}, {"size", size},         {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg meta[] = {{"__add", tagged_add},    {"__sub", tagged_sub},       {"__mul", tagged_mul},
                                    {"__div", tagged_div},    {"__unm", tagged_negate},    {"__lt", tagged_less},
                                    {"__le", tagged_at_most}, {"__tostring", tagged_text}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_class(L, TAGGED, none, meta);
    lua_class(L, SPEC, none, none);
}
