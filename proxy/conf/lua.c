/* lua.c - evaluates configuration files in an empty Lua state and collects their directives as items.
 *
 * The sandbox has the directives, env, file, credential and include, and no library or other globals. Memory and instructions are limited,
 * so that an endless loop is an error. The Lua state is closed before conf_evaluate returns.
 */
#include "conf/parts.h"
#include "base/fault.h"
#include "base/file.h"
#include <errno.h>
#include <glob.h>
#include <lauxlib.h>
#include <lua.h>
#include <sys/stat.h>

enum {
    MEMORY_MOST = 64 << 20,
    INSTRUCTIONS_A_HOOK = 100000,
    HOOKS_MOST = 200, /* 20 million: about a fifth of a second */
    FILE_MOST = 4 << 20,
    INCLUDES_DEEP = 16
};
static const char item_type[] = "sluice item";

struct evaluation { /* one evaluation */
    struct loader *loader;
    size_t memory;
    unsigned hooks, deep;
};

static void *allocate(void *data, void *old, size_t before, size_t size)
{
    struct evaluation *r = data;
    if (!old)
        before = 0; /* for a new block Lua passes a type tag instead of the size */
    if (!size) {
        r->memory -= before;
        free(old);
        return NULL;
    }
    if (size > before && (r->memory + (size - before) > MEMORY_MOST || fault_strikes(FAULT_MEMORY)))
        return NULL;
    void *p = realloc(old, size);
    if (p)
        r->memory = r->memory - before + size;
    return p;
}

static struct evaluation *evaluation_of(lua_State *L)
{
    void *data;
    lua_getallocf(L, &data);
    return data;
}

static void watch(lua_State *L, lua_Debug *debug)
{
    struct evaluation *r = evaluation_of(L);
    if (++r->hooks <= HOOKS_MOST)
        return;
    lua_getinfo(L, "Sl", debug); /* not luaL_error, which would give the place of the function's caller */
    lua_pushfstring(L, "%s:%d: the configuration runs on and on: is there an endless loop?", debug->short_src,
                    debug->currentline);
    lua_error(L);
}

/* The line of Lua code that has called this C function; chunk names are "=#N", with N the index of the source. */
static void here(lua_State *L, unsigned *source, uint32_t *line)
{
    lua_Debug debug;
    *source = 0;
    *line = 0;
    for (int level = 1; lua_getstack(L, level, &debug); level++) {
        lua_getinfo(L, "Sl", &debug);
        if (debug.currentline > 0 && debug.source[0] == '=' && debug.source[1] == '#') {
            *source = (unsigned)strtoul(debug.source + 2, NULL, 10);
            *line = (uint32_t)debug.currentline;
            return;
        }
    }
}

/* ---- converting Lua values ---- */

struct copy {
    struct evaluation *run;
    const char *file;
    uint32_t line;
};

static struct filter_value to_value(lua_State *L, int index, const struct copy *c, unsigned depth, bool body);

/* The keys of unnamed elements must be 1 to n. A gap comes from a nil, which is usually a word without its quotes. */
static size_t elements_count(lua_State *L, int index, bool *names)
{
    size_t n = 0;
    lua_Integer most = 0;
    *names = false;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_isinteger(L, -2)) {
            n++;
            if (lua_tointeger(L, -2) < 1)
                luaL_error(L, "a number below 1 cannot be a key");
            most = lua_tointeger(L, -2) > most ? lua_tointeger(L, -2) : most;
        } else if (lua_type(L, -2) == LUA_TSTRING) {
            *names = true;
        } else {
            luaL_error(L, "expected a name as key, got %s", luaL_typename(L, -2));
        }
        lua_pop(L, 1);
        if (n > 1000000)
            luaL_error(L, "more than a million elements: use a table file");
    }
    if ((size_t)most != n) {
        for (lua_Integer i = 1; i <= most; i++)
            if (lua_rawgeti(L, index, i) == LUA_TNIL)
                luaL_error(L, "element %d is nil: is it a text without quotes?", (int)i);
            else
                lua_pop(L, 1);
    }
    return n;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of a table, sorted as in a map, so that each is appended to the map without moving others. The list ends with NULL. */
static const char **names_sorted(lua_State *L, int index, struct arena *a)
{
    size_t n = 0, len;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        n++;
    const char **names = arena_alloc(a, (n + 1) * sizeof(const char *));
    n = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) {
            names[n] = lua_tolstring(L, -2, &len);
            if (strlen(names[n++]) != len)
                luaL_error(L, "a NUL in a key");
        }
    qsort(names, n, sizeof(const char *), by_text);
    return names;
}

static struct filter_value table_value(lua_State *L, int index, const struct copy *c, unsigned depth, bool body)
{
    struct arena *a = &c->run->loader->conf->smtp.mail.arena;
    bool names;
    luaL_checkstack(L, 8, "too deeply nested");
    if (depth > DEPTH_MOST)
        luaL_error(L, "braces are nested more than %d deep, or a table holds itself", (int)DEPTH_MOST);
    size_t n = elements_count(L, index, &names);
    struct filter_value v = {.type = body || names ? VALUE_MAP : VALUE_LIST, .file = c->file, .line = c->line};
    for (size_t i = 1; i <= n; i++) {
        char key[24];
        lua_rawgeti(L, index, (lua_Integer)i);
        struct filter_value item = to_value(L, lua_gettop(L), c, depth + 1, false);
        lua_pop(L, 1);
        snprintf(key, sizeof key, "%zu", i);
        if (v.type == VALUE_LIST)
            value_add(a, &v, item);
        else
            value_put(a, &v, str_of(key), item);
    }
    if (!names)
        return v;
    for (const char **key = names_sorted(L, index, a); *key; key++) {
        lua_pushstring(L, *key);
        lua_rawget(L, index);
        value_put(a, &v, str_of(*key), to_value(L, lua_gettop(L), c, depth + 1, false));
        lua_pop(L, 1);
    }
    return v;
}

static struct filter_value to_value(lua_State *L, int index, const struct copy *c, unsigned depth, bool body)
{
    struct loader *l = c->run->loader;
    struct filter_value v = {.type = VALUE_NONE};
    size_t len;
    switch (lua_type(L, index)) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, index, &len);
        if (strlen(text) != len)
            luaL_error(L, "a NUL in a text");
        v = value_text(arena_str(&l->conf->smtp.mail.arena, (struct str){text, len}));
        break;
    }
    case LUA_TNUMBER:
        v = lua_isinteger(L, index) ? value_integer(lua_tointeger(L, index)) : value_number(lua_tonumber(L, index));
        break;
    case LUA_TBOOLEAN: v = value_bool(lua_toboolean(L, index)); break;
    case LUA_TTABLE: return table_value(L, index, c, depth, body);
    case LUA_TUSERDATA: {
        unsigned number = *(unsigned *)luaL_checkudata(L, index, item_type);
        l->items[number]->used++;
        v.type = VALUE_ANY;
        v.integer = number;
        break;
    }
    case LUA_TFUNCTION:
        if (lua_iscfunction(L, index))
            luaL_error(L, "a directive is named but not called here: a text needs quotes");
        /* fall through */
    default: luaL_error(L, "expected a text, a number, true, false or { }, got a %s", luaL_typename(L, index));
    }
    v.file = c->file;
    v.line = c->line;
    return v;
}

/* ---- directives ---- */

static struct conf_item *item_new(lua_State *L, const struct directive *d, unsigned *number)
{
    struct loader *l = evaluation_of(L)->loader;
    if (l->nitems == ITEMS_MOST)
        luaL_error(L, "more than %d directives", (int)ITEMS_MOST);
    struct conf_item *item = arena_alloc(&l->conf->smtp.mail.arena, sizeof *item);
    item->directive = d;
    here(L, &item->source, &item->line);
    item->file = l->sources[item->source].path;
    item->body = (struct filter_value){.type = VALUE_MAP, .file = item->file.at, .line = item->line};
    *number = (unsigned)l->nitems;
    l->items[l->nitems++] = item;
    return item;
}

static void body_take(lua_State *L, struct conf_item *item, int index)
{
    struct copy c = {evaluation_of(L), item->file.at, item->line};
    item->body = to_value(L, index, &c, 0, item->directive->kind != KIND_VALUE);
    item->has_body = true;
}

static void item_push(lua_State *L, unsigned number)
{
    unsigned *at = lua_newuserdatauv(L, sizeof *at, 0);
    *at = number;
    luaL_setmetatable(L, item_type);
}

/* filter "x" returns an object, and the braces after it call that object. */
static int item_call(lua_State *L)
{
    unsigned *number = luaL_checkudata(L, 1, item_type);
    struct conf_item *item = evaluation_of(L)->loader->items[*number];
    const char *word = item->directive->name;
    if (item->directive->kind == KIND_BLOCK)
        return luaL_error(L, "%s takes one { }; a comma is missing behind it?", word);
    if (lua_type(L, 2) == LUA_TSTRING)
        return luaL_error(L, "expected %s \"%s\" { ... }, got a second text: is a comma missing before \"%s\"?", word,
                          item->name.at, lua_tostring(L, 2));
    if (lua_type(L, 2) != LUA_TTABLE)
        return luaL_error(L, "expected %s \"%s\" { ... }, got %s", word, item->name.at, luaL_typename(L, 2));
    if (item->has_body)
        return luaL_error(L, "%s \"%s\" has two pairs of braces; is a comma missing between them?", word,
                          item->name.at);
    body_take(L, item, 2);
    lua_settop(L, 1);
    return 1;
}

static int directive_call(lua_State *L)
{
    const struct directive *d = lua_touserdata(L, lua_upvalueindex(1));
    int type = lua_type(L, 1);
    unsigned number;
    if (lua_gettop(L) > 1)
        return luaL_error(L, d->kind == KIND_NAMED ? "expected %s \"NAME\" { ... }" : "%s takes one value", d->name);
    if (d->kind == KIND_NAMED && (type != LUA_TSTRING || !*lua_tostring(L, 1)))
        return luaL_error(L, "expected %s \"NAME\" { ... }, got %s", d->name,
                          type == LUA_TTABLE ? "no name" : luaL_typename(L, 1));
    if (d->kind == KIND_BLOCK && type != LUA_TTABLE)
        return luaL_error(L, "expected %s { ... }, got %s", d->name, luaL_typename(L, 1));
    if (type == LUA_TNONE || type == LUA_TNIL)
        return luaL_error(L, "%s needs a value; is it a text without quotes?", d->name);
    struct conf_item *item = item_new(L, d, &number);
    if (d->kind == KIND_NAMED) {
        size_t len;
        const char *name = lua_tolstring(L, 1, &len);
        item->name = arena_str(&evaluation_of(L)->loader->conf->smtp.mail.arena, (struct str){name, strlen(name)});
    } else {
        body_take(L, item, 1);
        if (d->kind == KIND_VALUE)
            return 0;
    }
    item_push(L, number);
    return 1;
}

/* ---- env, file, include ---- */

static int env_call(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *value = getenv(name);
    if (!value && lua_gettop(L) < 2)
        return luaL_error(L, "the environment has no %s; write env(\"%s\", \"a default\") if it may be missing", name,
                          name);
    lua_settop(L, 2);
    if (value)
        lua_pushstring(L, value);
    return 1;
}

/* The whole of a file in the arena; STR_NONE: errno. */
static struct str file_text(struct arena *a, const char *path)
{
    size_t len;
    char *octets = file_read(path, FILE_MOST, &len);
    struct str text = octets ? arena_str(a, (struct str){octets, len}) : STR_NONE;
    free(octets);
    return text;
}

static int file_call(lua_State *L)
{
    struct loader *l = evaluation_of(L)->loader;
    struct str path = conf_path(l, str_of(luaL_checkstring(L, 1)));
    struct str text = file_text(&l->conf->smtp.mail.arena, path.at);
    if (!text.at)
        return luaL_error(L, "%s: %s", path.at, strerror(errno));
    if (text.len && text.at[text.len - 1] == '\n')
        text.len--;
    if (text.len && text.at[text.len - 1] == '\r')
        text.len--;
    lua_pushlstring(L, text.at, text.len);
    return 1;
}

/* The path of a credential that the supervisor has passed (systemd: LoadCredential=), for certificate, key, or file(). */
static int credential_call(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *folder = getenv("CREDENTIALS_DIRECTORY");
    struct stat st;
    if (!*name || strchr(name, '/') || strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
        return luaL_error(L, "credential: expected a name without \"/\", got \"%s\"", name);
    if (evaluation_of(L)->loader->to_try) { /* what it names is not read */
        lua_pushfstring(L, "/run/credentials/%s", name);
        return 1;
    }
    if (!folder || *folder != '/')
        return luaL_error(
            L, "there is no credential \"%s\": CREDENTIALS_DIRECTORY is not set (systemd: LoadCredential=%s:PATH)",
            name, name);
    const char *path = lua_pushfstring(L, "%s/%s", folder, name);
    if (stat(path, &st) != 0)
        return luaL_error(L, "there is no credential \"%s\": %s: %s (systemd: LoadCredential=%s:PATH)", name, path,
                          strerror(errno), name);
    return 1;
}

static void chunk_run(lua_State *L, const char *path)
{
    struct evaluation *r = evaluation_of(L);
    struct loader *l = r->loader;
    char name[16];
    if (l->nsources == SOURCES_MOST || r->deep > INCLUDES_DEEP)
        luaL_error(L, "too many files, or a file that includes itself: %s", path);
    struct conf_source *s = &l->sources[l->nsources];
    s->path = arena_str(&l->conf->smtp.mail.arena, str_of(path));
    s->text = *path ? file_text(&l->conf->smtp.mail.arena, path) : STR("");
    if (!s->text.at)
        luaL_error(L, "%s: %s", path, strerror(errno));
    if (str_starts(s->text, STR("\xef\xbb\xbf"))) /* skips a byte order mark */
        s->text = str_part(s->text, 3, s->text.len);
    if (l->more && l->nsources == 0)
        s->text = arena_print(&l->conf->smtp.mail.arena, "%.*s\n%s", STR_ARGS(s->text), l->more);
    snprintf(name, sizeof name, "=#%u", l->nsources++);
    size_t mark = str_starts(s->text, STR("\xef\xbb\xbf")) ? 3 : 0; /* a byte order mark, which Lua skips only when it reads a file itself */
    if (luaL_loadbufferx(L, s->text.at + mark, s->text.len - mark, name, "t") != LUA_OK)
        lua_error(L);
    r->deep++;
    lua_call(L, 0, 0);
    r->deep--;
}

static int include_call(lua_State *L)
{
    struct loader *l = evaluation_of(L)->loader;
    struct str path = conf_path(l, str_of(luaL_checkstring(L, 1)));
    if (!strpbrk(path.at, "*?[")) {
        chunk_run(L, path.at);
        return 0;
    }
    glob_t found;
    const char *paths[SOURCES_MOST];
    size_t n = 0;
    if (glob(path.at, 0, NULL, &found) == 0) { /* sorted by name; no match is allowed */
        for (; n < found.gl_pathc && n < SOURCES_MOST; n++)
            paths[n] = arena_str(&l->conf->smtp.mail.arena, str_of(found.gl_pathv[n])).at; /* copies in the arena, since an error would leave this function without globfree */
        globfree(&found);
    }
    for (size_t i = 0; i < n; i++)
        chunk_run(L, paths[i]);
    return 0;
}

/* ---- the sandbox ---- */

/* Replaces a misspelt directive and accepts any arguments, so that the rest of the file is checked too. */
static int swallow(lua_State *L)
{
    lua_pushcfunction(L, swallow);
    return 1;
}

/* Words that other configuration formats use for true and false. */
static bool is_yes_or_no(const char *name, bool *yes)
{
    static const char *const words[] = {"yes", "no", "on", "off", "True", "False", "TRUE", "FALSE"};
    for (size_t i = 0; i < countof(words); i++)
        if (strcmp(name, words[i]) == 0) {
            *yes = i % 2 == 0;
            return true;
        }
    return false;
}

static void complain_here(lua_State *L, const char *text)
{
    struct loader *l = evaluation_of(L)->loader;
    unsigned source;
    uint32_t line;
    here(L, &source, &line);
    complain(l->complaints, false, l->sources[source].path, line, "%s", text);
}

static int global_read(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"env", env_call}, {"file", file_call}, {"credential", credential_call}, {"include", include_call}};
    struct loader *l = evaluation_of(L)->loader;
    const char *name = luaL_checkstring(L, 2);
    for (size_t i = 0; i < countof(functions); i++)
        if (strcmp(name, functions[i].name) == 0) {
            lua_pushcfunction(L, functions[i].func);
            return 1;
        }
    const struct directive *d = directive_find(AT_TOP, str_of(name));
    if (d) {
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): casts const away */
        lua_pushlightuserdata(L, (void *)(uintptr_t)d);
        lua_pushcclosure(L, directive_call, 1);
        return 1;
    }
    bool yes;
    if (is_yes_or_no(name, &yes)) {
        complain_here(L, lua_pushfstring(L, "write %s, not %s", yes ? "true" : "false", name));
        lua_pushboolean(L, yes);
        return 1;
    }
    struct str hint = directive_hint(&l->conf->smtp.mail.arena, AT_TOP, str_of(name));
    if (hint.len) {
        complain_here(L, lua_pushfstring(L, "unknown directive \"%s\"%s", name, hint.at));
        lua_pushcfunction(L, swallow);
        return 1;
    }
    return luaL_error(L, "unknown directive \"%s\": a text needs quotes, \"%s\"", name, name);
}

static int global_write(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    const struct directive *d = directive_find(AT_TOP, str_of(name));
    if (d && d->kind == KIND_VALUE)
        return luaL_error(L, "\"%s\" is a directive: write %s \"...\", without \"=\"", name, name);
    if (d)
        return luaL_error(L, "\"%s\" is a directive: write %s%s { ... }, without \"=\"", name, name,
                          d->kind == KIND_NAMED ? " \"NAME\"" : "");
    return luaL_error(L, "unknown directive \"%s\"%s; a variable is written local %s = ...", name,
                      directive_hint(&evaluation_of(L)->loader->conf->smtp.mail.arena, AT_TOP, str_of(name)).at, name);
}

static int sandbox_run(lua_State *L)
{
    luaL_newmetatable(L, item_type);
    lua_pushcfunction(L, item_call);
    lua_setfield(L, -2, "__call");
    lua_pop(L, 1);
    lua_pushglobaltable(L);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, global_read);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, global_write);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_sethook(L, watch, LUA_MASKCOUNT, INSTRUCTIONS_A_HOOK);
    chunk_run(L, lua_touserdata(L, 1));
    return 0;
}

/* The explanation of a lexical error; NULL: it is another kind of error. */
static const char *reword_token(struct arena *a, const char *text, const char *token)
{
    if (strncmp(token, "'<\\", 3) == 0)
        return "a character that is not ASCII stands outside of quotes (a typographic quote?): a text stands between "
               "two \"";
    if (strncmp(text, "malformed number", 16) == 0)
        return arena_print(a, "%s: a size or a duration with a unit stands in quotes, like \"10M\"", text).at;
    if (strncmp(text, "unexpected symbol", 17) == 0 && (token[1] == '#' || token[1] == '/'))
        return arena_print(a, "%s: a comment begins with --", text).at;
    return NULL;
}

/* Rewrites messages of Lua for common mistakes in terms of the configuration. */
static const char *reword(struct arena *a, const char *text)
{
    const char *near = strstr(text, " near "), *token = near ? near + 6 : "";
    const char *better = reword_token(a, text, token);
    if (better)
        return better;
    bool brace = strncmp(text, "'}' expected", 12) == 0;
    if (brace && strstr(token, "<eof>")) {
        const char *open = strstr(text, "(to close '{' at line ");
        return open ? arena_print(a, "a \"}\" is missing for the \"{\" in line %d", atoi(open + 22)).at : text;
    }
    if (strstr(token, "<eof>"))
        return arena_print(a, "%s: the file ends too early, is a \"}\" missing?", text).at;
    const char *open = strstr(text, "(to close '{' at line ");
    if (brace && open)
        return arena_print(a, "a comma is missing before %s, or a \"}\" for the \"{\" in line %d", token,
                           atoi(open + 22))
            .at;
    if (brace)
        return arena_print(a, "a comma is missing before %s", token).at;
    if (strncmp(text, "syntax error", 12) == 0 &&
        ((*token && char_is_digit(token[1])) || strncmp(token, "'true'", 6) == 0))
        return arena_print(a, "%s; a value that is no text needs parentheses: workers(4)", text).at;
    if (strstr(text, "attempt to call a string value"))
        return "a text is followed by { or by another text: is a comma missing between them?";
    if (strstr(text, "attempt to call a table value"))
        return "a \"}\" is followed by { or by a text: is a comma missing between them?";
    if (strstr(text, "attempt to call a nil value"))
        return arena_print(a, "%s: this directive takes one value; the next one begins a new line", text).at;
    return text;
}

static bool is_told(const struct loader *l, struct str file, unsigned line)
{
    for (const struct complaint *c = l->complaints->first; c; c = c->next)
        if (c->line == line && str_equal(c->file, file))
            return true;
    return false;
}

static void complain_lua(struct loader *l, const char *text)
{
    unsigned source = 0, line = 0;
    int used = 0;
    struct arena *a = &l->conf->smtp.mail.arena;
    bool placed = sscanf(text, "#%u:%u: %n", &source, &line, &used) == 2 && used && source < l->nsources;
    if (placed && is_told(l, l->sources[source].path, line) && strstr(text, "attempt to index"))
        return; /* of an unknown directive, for which a complaint was made */
    if (placed)
        complain(l->complaints, false, l->sources[source].path, line, "%s", reword(a, text + used));
    else if (strstr(text, "not enough memory"))
        complain(l->complaints, false, l->conf->smtp.mail.path, 0,
                 "the configuration takes more than 64 MiB: is there an endless loop?");
    else
        complain(l->complaints, false, l->conf->smtp.mail.path, 0, "%s", text);
}

static int value_run(lua_State *L)
{
    const char *text = lua_touserdata(L, 1);
    lua_sethook(L, watch, LUA_MASKCOUNT, INSTRUCTIONS_A_HOOK);
    if (luaL_loadstring(L, lua_pushfstring(L, "return %s", text)) != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, LUA_MULTRET);
    lua_pushboolean(L, lua_gettop(L) == 3 && !lua_isnil(L, 3) && !lua_isfunction(L, 3));
    return 1;
}

bool conf_is_value(const char *text)
{
    struct evaluation run = {0};
    lua_State *L = lua_newstate(allocate, &run);
    if (!L)
        return false;
    lua_pushcfunction(L, value_run);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): casts const away */
    lua_pushlightuserdata(L, (void *)(uintptr_t)text);
    bool is = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_toboolean(L, -1);
    lua_close(L);
    return is;
}

bool conf_evaluate(struct loader *l, const char *path)
{
    struct evaluation run = {.loader = l};
    lua_State *L = lua_newstate(allocate, &run);
    if (!L) {
        complain(l->complaints, false, l->conf->smtp.mail.path, 0, "no memory is left to read it");
        return false;
    }
    lua_pushcfunction(L, sandbox_run);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): casts const away */
    lua_pushlightuserdata(L, (void *)(uintptr_t)path);
    bool good = lua_pcall(L, 1, 0, 0) == LUA_OK;
    if (!good) {
        const char *text = lua_tostring(L, -1);
        complain_lua(l, text ? text : "an error without a text");
    }
    lua_close(L);
    if (!good)
        return false;
    for (unsigned i = 0; i < l->nsources; i++)
        source_walk(l, &l->sources[i]);
    for (size_t i = 0; i < l->nitems; i++)
        item_place(l, l->items[i]);
    return true;
}
