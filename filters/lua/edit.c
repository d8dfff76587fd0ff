/* edit.c - m.headers: the methods that edit the header section.
 *
 * Scripts write text, as decoded() gives it; it is encoded (RFC 2047) where necessary and folded at 78 octets. Control octets become spaces,
 * so that text from a message can neither add a line nor make a script fail. A field with an invalid name or too large a value is not
 * written, and the method returns false and the reason. Only edits that the script may never make raise an error. */
#include "filters/lua/host.h"
#include "base/charset.h"
#include "wire/words.h"

enum { LINE = 78 };

/* ---- text for a field -------------------------------------------------------------------------------------------- */

static bool is_among(const char *name, const char *const *names)
{
    for (; *names; names++) {
        size_t len = strlen(*names);
        bool prefix = (*names)[len - 1] == '-';
        struct str s = str_of(name), wanted = {*names, len};
        if (prefix ? str_starts_nocase(s, wanted) : str_equal_nocase(s, wanted))
            return true;
    }
    return false;
}

/* Fields whose value is a list of addresses: only names and comments in it may be encoded (RFC 2047 5). */
static bool holds_addresses(const char *name)
{
    static const char *const names[] = {"From",
                                        "Sender",
                                        "Reply-To",
                                        "To",
                                        "Cc",
                                        "Bcc",
                                        "Resent-From",
                                        "Resent-Sender",
                                        "Resent-To",
                                        "Resent-Cc",
                                        "Resent-Bcc",
                                        "Resent-Reply-To",
                                        "Return-Path",
                                        "Errors-To",
                                        "Disposition-Notification-To",
                                        "Mail-Followup-To",
                                        "Mail-Reply-To",
                                        "X-Original-From",
                                        NULL};
    return is_among(name, names);
}

/* Trace fields, which are added at the top (RFC 5321 4.4, 5322 3.6.6, 7208 9.1, 8601 5, 8617 4, 6376 3.5). */
static bool is_trace(const char *name)
{
    static const char *const names[] = {
        "Received",       "Received-",           "Return-Path", "Delivered-To",
        "X-Received",     "X-Original-To",       "Resent-",     "Authentication-Results",
        "DKIM-Signature", "DomainKey-Signature", "ARC-",        NULL};
    return is_among(name, names);
}

/* Folds text into lines of at most 78 octets at white space; `column` is the column at which it begins. Lines of white space only are
 * obsolete (RFC 5322 3.2.2), so a run of white space is a place to fold only if other text stands on both sides. */
static struct str fold(struct str value, size_t column, struct arena *arena)
{
    size_t run = 0, space = 0, n = 0; /* run: where the current run of white space begins in `out`; space: where the last complete one does */
    if (column + value.len <= LINE)
        return value;
    char *out = arena_space(arena, value.len * 2 + 1), last = ' ';
    for (size_t i = 0; i < value.len; last = value.at[i++]) {
        bool white = value.at[i] == ' ' || value.at[i] == '\t', after_white = last == ' ' || last == '\t';
        if (white && !after_white) {
            run = n;
        } else if (!white && run) {
            space = run;
            run = 0;
        }
        out[n++] = value.at[i];
        if (++column > LINE && space) {
            memmove(out + space + 1, out + space, n - space);
            out[space] = '\n';
            n++;
            column = n - space - 1;
            run += run != 0; /* it stands behind the break */
            space = 0;
        }
    }
    return (struct str){out, n};
}

struct filter_text edit_text(lua_State *L, const char *name, struct str text)
{
    struct arena *arena = &run_of(L)->scratch;
    struct str value = holds_addresses(name) ? words_encode_addresses(text, charset_decode, arena)
                                             : words_encode(text, (struct words_beside){0}, charset_decode, arena);
    value = fold(value, strlen(name) + 2, arena);
    return (struct filter_text){value.at, value.len};
}

static struct str text_at(lua_State *L, int arg)
{
    size_t len;
    luaL_checkany(L, arg);
    const char *text = luaL_tolstring(L, arg, &len);
    return (struct str){text, len};
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* After a refused edit: returns false and the reason if it depends on the message; raises if the script may not make the edit here. */
static int result(lua_State *L, struct filter_call *call, bool done, const char *what)
{
    arena_reset(&run_of(L)->scratch);
    lua_pushboolean(L, done);
    if (done)
        return 1;
    const char *why = filter_refusal(call).at;
    if (filter_refused(call) == REFUSED_INPUT)
        return lua_pushstring(L, why), 2;
    return luaL_error(L, "m.headers:%s: %s", what, why ? why : "not possible here");
}

/* ---- add, set, replace ------------------------------------------------------------------------------------------- */

static uint32_t place_of(const char *name)
{
    return is_trace(name) ? FILTER_TOP : FILTER_BOTTOM;
}

/* add(name, text [, "top" | "bottom" | i]) : i: before the i-th field */
static int add(lua_State *L)
{
    message_check(L, 1, FIELDS_CLASS);
    lua_settop(L, 4);
    struct filter_call *call = run_call(L, "m.headers:add");
    const char *name = fields_name(L, 2), *where = NULL;
    uint32_t before = place_of(name);
    if (lua_type(L, 4) == LUA_TNUMBER)
        before = fields_nth(fields_call(L), NULL, luaL_checkinteger(L, 4));
    else
        where = luaL_optstring(L, 4, NULL);
    if (where && strcmp(where, "top") && strcmp(where, "bottom"))
        return luaL_argerror(L, 4, "\"top\", \"bottom\" or a number");
    if (where)
        before = strcmp(where, "top") ? FILTER_BOTTOM : FILTER_TOP;
    return result(L, call, filter_field_add(call, before, name, edit_text(L, name, text_at(L, 3))), "add");
}

/* Sets the first field of this name and removes the others; adds a field if there is none. */
static int set(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *name = fields_name(L, 2);
    struct filter_text value = edit_text(L, name, text_at(L, 3));
    uint32_t first = filter_field_next(call, 0, name);
    bool done = first ? filter_field_set(call, first, value) : filter_field_add(call, place_of(name), name, value);
    for (uint32_t at = first && done ? filter_field_next(call, first, name) : 0, next; at; at = next) {
        next = filter_field_next(call, at, name);
        filter_field_remove(call, at);
    }
    return result(L, call, done, "set");
}

static int replace(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *name = fields_name(L, 2);
    uint32_t at = fields_nth(call, name, luaL_checkinteger(L, 3));
    struct filter_text value = edit_text(L, name, text_at(L, 4));
    if (at)
        return result(L, call, filter_field_set(call, at, value), "replace");
    arena_reset(&run_of(L)->scratch);
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "there is no such field");
    return 2;
}

/* ---- prepend, append --------------------------------------------------------------------------------------------- */

static bool is_white(char c)
{
    return c == ' ' || c == '\t';
}

static size_t first_line(struct str s)
{
    return str_find(s, STR("\r\n"));
}

static size_t last_line(struct str s) /* where it begins */
{
    size_t i = s.len;
    while (i && s.at[i - 1] != '\n')
        i--;
    return i;
}

/* A copy of the existing octets, with NUL replaced by a space, since fields with NUL cannot be written. */
static struct str old_value(lua_State *L, struct filter_call *call, uint32_t handle)
{
    struct filter_field f = {.size = sizeof f};
    filter_field(call, handle, &f);
    struct str value = {f.value.at ? f.value.at : "", f.value.len};
    if (!memchr(value.at, 0, value.len))
        return value;
    char *copy = memcpy(arena_space(&run_of(L)->scratch, value.len), value.at, value.len);
    for (size_t i = 0; i < value.len; i++)
        if (!copy[i])
            copy[i] = ' ';
    return (struct str){copy, value.len};
}

/* The white space to put between text that ends at `column` and octets that begin with a word of `next` octets: none
 * where there is some, a fold where the line would exceed LINE. */
static struct str between(struct str left, size_t column, size_t next, bool has_space, bool left_blank)
{
    bool folds = !left_blank && column + next + !has_space > LINE;
    if (has_space)
        return folds ? STR("\n") : STR("");
    return folds ? STR("\n ") : left.len && is_white(left.at[left.len - 1]) ? STR("") : STR(" ");
}

static struct str prepended(lua_State *L, struct str old, struct str text, size_t column)
{
    struct arena *arena = &run_of(L)->scratch;
    struct str shown = str_trim(old);
    while (str_starts(shown, STR("\r\n"))) /* folded at once */
        shown = str_trim(str_part(shown, 2, shown.len));
    struct words_beside beside = {.word_after = str_starts(shown, STR("=?"))};
    text = fold(words_encode(text, beside, charset_decode, arena), column, arena);
    size_t line = first_line(old), end = last_line(text);
    bool blank = !str_trim(str_part(old, 0, line)).len; /* it is folded there, or empty */
    struct str gap =
        blank ? STR("") : between(text, (end ? text.len - end : column + text.len), line, is_white(old.at[0]), false);
    struct str pieces[] = {text, gap, old};
    return arena_join(arena, 3, pieces);
}

static struct str appended(lua_State *L, struct str old, struct str text, size_t column)
{
    struct arena *arena = &run_of(L)->scratch;
    struct str shown = str_trim(old);
    struct words_beside beside = {.word_before = shown.len > 2 && str_ends_nocase(shown, STR("?="))};
    text = words_encode(text, beside, charset_decode, arena);
    size_t end = last_line(old), at = end ? old.len - end : column - 1 + old.len;
    bool blank = !str_trim(str_part(old, end, old.len)).len;
    struct str gap = between(old, at, str_find(text, STR(" ")), false, blank);
    size_t from = gap.len > 1 ? 1 : at + gap.len;
    struct str pieces[] = {old, gap, fold(text, from, arena)};
    return arena_join(arena, 3, pieces);
}

static int beside(lua_State *L, bool behind)
{
    struct filter_call *call = fields_call(L);
    const char *name = fields_name(L, 2), *what = behind ? "append" : "prepend";
    struct str text = text_at(L, 3);
    uint32_t at = filter_field_next(call, 0, name);
    if (!at)
        return result(L, call, filter_field_add(call, place_of(name), name, edit_text(L, name, text)), what);
    struct str old = old_value(L, call, at);
    struct str value = (behind ? appended : prepended)(L, old, text, strlen(name) + 2);
    return result(L, call, filter_field_set(call, at, (struct filter_text){value.at, value.len}), what);
}

/* prepend(name, text), append(name, text): text beside the octets of the first field of the name, which stay as they
 * came. */
static int prepend(lua_State *L)
{
    return beside(L, false);
}

static int append(lua_State *L)
{
    return beside(L, true);
}

/* ---- remove, rename ---------------------------------------------------------------------------------------------- */

/* remove(name) ; remove(name, i) ; remove(name, function(value) return true end). Returns how many went. */
static int remove_fields(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *name = fields_name(L, 2);
    bool asks = lua_isfunction(L, 3);
    lua_Integer n = 0;
    uint32_t only = asks || lua_isnoneornil(L, 3) ? 0 : fields_nth(call, name, luaL_checkinteger(L, 3));
    if (!asks && !lua_isnoneornil(L, 3) && !only)
        return lua_pushinteger(L, 0), 1;
    for (uint32_t at = only ? only : filter_field_next(call, 0, name), next; at; at = next) {
        next = only ? 0 : filter_field_next(call, at, name);
        if (asks) {
            lua_pushvalue(L, 3);
            fields_push(L, call, at);
            lua_call(L, 1, 1);
            bool yes = lua_toboolean(L, -1);
            lua_pop(L, 1);
            if (!yes)
                continue;
        }
        if (!filter_field_remove(call, at))
            return result(L, call, false, "remove");
        n++;
        if ((n & 255) == 0)
            guard_poll(L);
    }
    lua_pushinteger(L, n);
    return 1;
}

/* Returns how many were renamed, and why when not all of them could be. */
static int rename_fields(lua_State *L)
{
    struct filter_call *call = fields_call(L);
    const char *old = fields_name(L, 2), *new = fields_name(L, 3);
    lua_Integer n = 0;
    for (uint32_t at = filter_field_next(call, 0, old), next; at; at = next) {
        next = filter_field_next(call, at, old); /* before the name changes: it may become one that matches again */
        if (!filter_field_rename(call, at, new)) {
            result(L, call, false, "rename");
            lua_pushinteger(L, n);
            lua_replace(L, -3);
            return 2;
        }
        n++;
    }
    lua_pushinteger(L, n);
    return 1;
}

const luaL_Reg edit_methods[] = {{"add", add},
                                 {"set", set},
                                 {"replace", replace},
                                 {"prepend", prepend},
                                 {"append", append},
                                 {"remove", remove_fields},
                                 {"rename", rename_fields},
                                 {NULL, NULL}};
