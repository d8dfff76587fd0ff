/* verdict.c - verdicts of scripts: a function makes a verdict, and the hook returns it.
 *
 * A verdict that is made and not returned is an error with the line in the script, since `reject "..."` without `return` would accept the
 * message. The code of the reply is checked where the verdict is made, so that this error has a line too. */
#include "filters/lua/host.h"
#include "wire/reply.h"

#define CLASS "verdict"
struct made {
    uint64_t run;
    unsigned serial;
    enum filter_verdict kind;
    bool has_text;
    char text[];
};

static const char *const kind_names[] = {
#define VERDICT_NAME(name, word, who) [VERDICT_##name] = word,
#include "filters/verdicts.def"
#undef VERDICT_NAME
};

static void check_stage(lua_State *L, enum filter_verdict kind, enum filter_stage stage)
{
    const char *name = kind_names[kind], *at = lua_stage_names[stage];
    if (stage >= FILTER_RESET)
        luaL_error(L, "%s: there is nothing to judge any more in %s%s", name, stage >= FILTER_START ? "" : "on.", at);
    if ((stage == FILTER_REPLY) != (kind == VERDICT_REWORD))
        luaL_error(L, kind == VERDICT_REWORD ? "reword is for on.reply only" : "%s: on.reply can only reword", name);
    if (kind == VERDICT_PASS && stage == FILTER_RCPT)
        luaL_error(L, "pass is not for one recipient: say accept here, or pass in on.mail");
    if (kind == VERDICT_DISCARD && stage < FILTER_MAIL)
        luaL_error(L, "discard: there is no message yet in on.%s", at);
    if (kind == VERDICT_QUARANTINE && stage < FILTER_HEADERS)
        luaL_error(L, "quarantine is for on.headers, on.body and on.message");
}

/* The class digit: '5' for "550 ..." and for "5.7.1 ..."; 0: the text begins with neither. */
static char class_in_front(const char *t)
{
    struct reply_front front = reply_front(str_of(t));
    return (char)(front.has_code || front.enhanced[0] ? t[0] : 0);
}

const char *verdict_class_wrong(lua_State *L, const char *verdict, const char *t)
{
    struct reply_front front = reply_front(str_of(t));
    char class = class_in_front(t);
    if (front.has_code && !strcmp(verdict, "drop") && front.code != 421 && front.code != 521 && front.code != 554)
        return lua_pushfstring(L, "drop takes 421, 521 or 554, not %s", lua_pushlstring(L, t, 3));
    if (class && !strcmp(verdict, "reject") && class != '5')
        return lua_pushfstring(L, "reject takes a 5xx reply, not \"%s\": did you mean defer?", t);
    if (class && !strcmp(verdict, "defer") && class != '4')
        return lua_pushfstring(L, "defer takes a 4xx reply, not \"%s\": did you mean reject?", t);
    if (front.has_code && !strcmp(verdict, "reword") && (class < '2' || class > '5' || class == '3'))
        return lua_pushfstring(L, "reword takes 2xx, 4xx or 5xx, not \"%s\"", t);
    return NULL;
}

/* Checks the option `text` against the option `action` (NULL: the script has none) and the default text `preset`. Returns NULL, or what is
 * wrong: another class of reply, or format directives that do not match the arguments, which are those of `preset`. */
const char *verdict_text_wrong(lua_State *L, const char *text, const char *preset, const char *action)
{
    struct reply_front front = reply_front(str_of(text));
    char class = !action ? class_in_front(preset) : !strcmp(action, "reject") ? '5' : !strcmp(action, "defer") ? '4' : 0;
    if (class && ((front.has_code && text[0] != class) || (front.enhanced[0] && front.enhanced[0] != class - '0')))
        return lua_pushfstring(L, "\"%s\" is no %cxx reply, as %s%s takes", text, class,
                               action ? "the action " : "this option", action ? action : "");
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "format");
    lua_pushstring(L, text);
    for (const char *c = preset; (c = strchr(c, '%')); c++) {
        c += strspn(c, "%") > 1 ? 1 : 1 + strspn(c + 1, "-+ #0123456789.");
        if (!*c)
            break;
        luaL_checkstack(L, 4, NULL);
        if (strchr("aAeEfFgG", *c))
            lua_pushnumber(L, 1.5);
        else if (strchr("cdioxX", *c))
            lua_pushinteger(L, 1);
        else if (*c != '%')
            lua_pushliteral(L, "x");
    }
    if (lua_gettop(L) > top + 2 && lua_pcall(L, lua_gettop(L) - top - 1, 1, 0) != LUA_OK)
        return lua_tostring(L, -1);
    lua_settop(L, top);
    return NULL;
}

/* Replaces the class digits of code and enhanced code in the format at `at` by that of the verdict, so that one text serves all actions. */
static void take_class(lua_State *L, int at, char class)
{
    size_t len;
    const char *text = lua_tolstring(L, at, &len);
    if (!text || !class_in_front(text))
        return;
    struct reply_front front = reply_front((struct str){text, len});
    luaL_Buffer b;
    char *t = memcpy(luaL_buffinitsize(L, &b, len + 1), text, len + 1);
    if (front.has_code) {
        if (t[0] != class && t[1] == '2' && t[2] == '1') /* 421 and 521 speak of the connection */
            t[1] = '5', t[2] = '0';
        t[0] = class;
    }
    if (front.enhanced[0])
        t[front.enhanced_at] = class;
    luaL_pushresultsize(&b, len);
    lua_replace(L, at);
}

/* Without further arguments a text is literal; with them it is a format. Leaves the text at `at` and nothing above. */
static const char *format_text(lua_State *L, int at)
{
    int top = lua_gettop(L);
    if (top < at || lua_isnil(L, at)) {
        lua_settop(L, at - 1);
        return NULL;
    }
    luaL_checkstring(L, at);
    if (top > at) {
        lua_getfield(L, LUA_REGISTRYINDEX, "format");
        lua_insert(L, at);
        lua_call(L, top - at + 1, 1);
    }
    return lua_tostring(L, at);
}

static int make(lua_State *L, enum filter_verdict kind, int at)
{
    char name[32];
    snprintf(name, sizeof name, "%s()", kind_names[kind]);
    run_call(L, name);
    struct lua_run *run = run_of(L);
    check_stage(L, kind, run->stage);
    const char *format = lua_gettop(L) > at ? lua_tostring(L, at) : NULL;
    bool filled = format && !class_in_front(format); /* if the result begins with a code, it comes from an argument */
    const char *text = format_text(L, at);
    const char *wrong = text ? verdict_class_wrong(L, kind_names[kind], text) : NULL;
    if (wrong && !filled)
        return luaL_error(L, "%s", wrong);
    if (wrong) /* text from a message must not act as a reply code: put our own code before it */
        text = lua_pushfstring(L, "%s %s",
                               kind == VERDICT_REJECT  ? "550 5.7.1"
                               : kind == VERDICT_DEFER ? "451 4.7.1"
                                                       : "421 4.7.0",
                               text);
    size_t len = text ? min_size(strlen(text), 4000) : 0;
    struct made *made = lua_new(L, CLASS, sizeof *made + len + 1);
    made->kind = kind;
    made->has_text = text != NULL;
    memcpy(made->text, text ? text : "", len);
    made->text[len] = 0;
    for (size_t i = 0; i < len; i++) /* LF separates lines; other control octets are replaced */
        if (((unsigned char)made->text[i] < ' ' && made->text[i] != '\n') || made->text[i] == 127)
            made->text[i] = ' ';
    made->run = run->token;
    made->serial = ++run->made;
    lua_Debug ar;
    for (int level = 1; run->made <= 2 && run->made_line[run->made - 1] <= 0 && lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "l", &ar)) /* past functions in C such as separate */
            run->made_line[run->made - 1] = ar.currentline;
    return 1;
}

#define VERDICT(name, kind)                                                                                            \
    static int name(lua_State *L)                                                                                      \
    {                                                                                                                  \
        return make(L, kind, 1);                                                                                       \
    }
VERDICT(accept, VERDICT_ACCEPT)
VERDICT(pass, VERDICT_PASS)
VERDICT(skip, VERDICT_SKIP)
VERDICT(reject, VERDICT_REJECT)
VERDICT(defer, VERDICT_DEFER)
VERDICT(drop, VERDICT_DROP)
VERDICT(discard, VERDICT_DISCARD)
VERDICT(quarantine, VERDICT_QUARANTINE)
VERDICT(reword, VERDICT_REWORD)
#undef VERDICT

/* Adds a tag: a field in the message, and a note for later filters and the log. */
static int tag(lua_State *L, struct lua_run *run)
{
    const char *text = format_text(L, 2);
    struct filter_call *call = run->call;
    char name[64];
    size_t len = strcspn(run->host->name, ".");
    snprintf(name, sizeof name, "%.*s", (int)min_size(len, 60), run->host->name);
    struct filter_text value = {text ? text : "yes", text ? strlen(text) : 3};
    filter_note(call, run->stage < FILTER_MAIL ? LIFE_SESSION : LIFE_TRANSACTION, name, value);
    if (run->stage < FILTER_MAIL || run->stage > FILTER_MESSAGE)
        return 0;
    if (run->stage > FILTER_HEADERS && !(run->host->flags & FILTER_LATE_FIELDS))
        return 0; /* too late for a field: only the note is set */
    const char *field = lua_pushfstring(L, "%s; %s", name, value.at);
    filter_field_add(call, FILTER_BOTTOM, "X-Sluice-Tag", edit_text(L, "X-Sluice-Tag", str_of(field)));
    arena_reset(&run->scratch);
    return 0; /* if the field was refused by limits.header_size, the note is set all the same */
}

/* act(opt, ...): makes the verdict that the option `action` names, with the text of the option `text`, a format for the arguments. */
static int act(lua_State *L)
{
    run_call(L, "act()");
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "action");
    const char *action = lua_tostring(L, -1);
    lua_getfield(L, 1, "text");
    if (!action)
        return luaL_error(L, "act: the options have no action");
    if (lua_gettop(L) > 3) /* opt, ..., action, text: the text in front of its arguments */
        lua_insert(L, 2);
    else
        lua_replace(L, 2);
    if (lua_gettop(L) > 2)
        lua_settop(L, lua_gettop(L) - 1); /* action: it lives on in opt */
    if (!strcmp(action, "reject"))
        return take_class(L, 2, '5'), make(L, VERDICT_REJECT, 2);
    if (!strcmp(action, "defer"))
        return take_class(L, 2, '4'), make(L, VERDICT_DEFER, 2);
    if (!strcmp(action, "quarantine"))
        return make(L, VERDICT_QUARANTINE, 2);
    if (!strcmp(action, "discard"))
        return make(L, VERDICT_DISCARD, 2);
    if (!strcmp(action, "tag"))
        return tag(L, run_of(L));
    return luaL_error(L, "act: unknown action \"%s\"", action);
}

void verdict_take(lua_State *L, struct lua_run *run)
{
    struct made *made = luaL_testudata(L, -1, CLASS);
    if (!made && !lua_isnil(L, -1))
        luaL_error(L, "%s: a hook returns a verdict or nothing, not a %s", run->host->name, luaL_typename(L, -1));
    if (made && made->run != run->token)
        luaL_error(L, "%s: this verdict was made in an earlier call", run->host->name);
    unsigned returned = made ? made->serial : 0;
    for (unsigned i = 0; i < run->made && i < 2; i++)
        if (returned != i + 1)
            luaL_error(L, "%s:%d: a verdict was made and not returned: write \"return\" in front of it",
                       run->host->name, run->made_line[i]);
    if (!made)
        return;
    run->kind = made->kind;
    if (made->has_text) {
        size_t len = strlen(made->text) + 1;
        run->text = memcpy(filter_alloc(run->call, LIFE_CALL, len), made->text, len);
    }
}

static int verdict_text(lua_State *L)
{
    struct made *made = luaL_checkudata(L, 1, CLASS);
    lua_pushfstring(L, "%s %s", kind_names[made->kind], made->text);
    return 1;
}

void verdict_install(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"accept", accept}, {"pass", pass}, {"skip", skip},       {"reject", reject},
        {"defer", defer},   {"drop", drop}, {"discard", discard}, {"quarantine", quarantine},
        {"reword", reword}, {"act", act},   {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}}, meta[] = {{"__tostring", verdict_text}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_class(L, CLASS, none, meta);
}
