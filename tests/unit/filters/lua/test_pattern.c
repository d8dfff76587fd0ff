/* The matcher of filters/lua/pattern.c against the stock one of Lua: over random patterns and subjects both say the same. */
#include "filters/lua/host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct lua_host host = {.name = "test", .memory = 64 << 20, .cpu = 1};
static struct lua_run run = {.host = &host, .main = true};

struct lua_run *run_of(lua_State *L) /* in place of run.c: the whole host is not needed here */
{
    return &run;
}

/* Two libraries side by side: "stock" and "ours". */
static lua_State *world(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_newtable(L);
    pattern_install(L);
    lua_setglobal(L, "ours");
    lua_newtable(L);
    tables_install(L);
    lua_setglobal(L, "tables");
    return L;
}

static void must_run(lua_State *L, const char *text)
{
    if (luaL_dostring(L, text))
        fail_msg("%s", lua_tostring(L, -1));
}

static void patterns_match_what_the_stock_matcher_matches(void **state)
{
    lua_State *L = world();
    must_run(L,
        "math.randomseed(42)\n"
        "local atoms = { 'a', 'b', '.', '%a', '%d', '%W', '[ab]', '[^a]', '[a-c]', '%b()', '%f[%a]', '(', ')', '()', '%1', '^', '$',\n"
        "                '*', '+', '-', '?', '(', ')', ' ', '[%w_]', '%%', '[]]', '[^]]', '[', ']', '%', '1', '\\0', '[a-]', '%f', '%b' }\n"
        "local letters = { 'a', 'b', 'c', '(', ')', '1', ' ', '_', ']', '\\0', '%', 'A', '-', '^' }\n"
        "local function pick(from, most)\n"
        "  local t = {}\n"
        "  for i = 1, math.random(0, most) do t[i] = from[math.random(#from)] end\n"
        "  return table.concat(t)\n"
        "end\n"
        "local function told(...)\n"
        "  local t = table.pack(...)\n"
        "  for i = 1, t.n do t[i] = tostring(t[i]):gsub('^.-:%d+: ', '') end\n"
        "  if t[1] == 'false' then t[2] = 'an error' end\n"
        "  return table.concat(t, '|')\n"
        "end\n"
        "local function all(lib, s, p)\n"
        "  local t = {}\n"
        "  for a, b in lib.gmatch(s, p) do t[#t + 1] = tostring(a) .. '/' .. tostring(b) end\n"
        "  return table.concat(t, ',')\n"
        "end\n"
        "local errors, found = 0, 0\n"
        "for i = 1, 50000 do\n"
        "  local s, p, r = pick(letters, 8), pick(atoms, 6), pick({ 'x', '%0', '%1', '%%', 'y' }, 3)\n"
        "  local init = math.random(-3, 4)\n"
        "  local function same(name, ...)\n"
        "    local a, b = told(pcall(string[name], ...)), told(pcall(ours[name], ...))\n"
        "    if a ~= b then error(('%s(%q, %q): stock %s, ours %s'):format(name, s, p, a, b)) end\n"
        "    if a:find '^false' then errors = errors + 1 elseif not a:find 'nil' then found = found + 1 end\n"
        "  end\n"
        "  same('find', s, p, init) same('match', s, p, init) same('find', s, p, init, true)\n"
        "  same('gsub', s, p, r) same('gsub', s, p, r, 1) same('gsub', s, p, { a = 'z', b = false }) same('gsub', s, p, string.upper)\n"
        "  local a, b = told(pcall(all, string, s, p)), told(pcall(all, ours, s, p))\n"
        "  if a ~= b then error(('gmatch(%q, %q): stock %s, ours %s'):format(s, p, a, b)) end\n"
        "end\n"
        "assert(errors > 1000 and found > 25000)\n");
    lua_close(L);
}

static void tables_are_sorted_moved_and_joined_as_the_stock_library_does(void **state)
{
    lua_State *L = world();
    must_run(L,
        "math.randomseed(7)\n"
        "local function list(n) local t = {} for i = 1, n do t[i] = math.random(100) end return t end\n"
        "local function copy(t) return table.move(t, 1, #t, 1, {}) end\n"
        "for i = 1, 20000 do\n"
        "  local a = list(math.random(0, 40)) local b = copy(a)\n"
        "  local f = i % 3 == 0 and function(x, y) return x > y end or nil\n"
        "  table.sort(a, f) tables.sort(b, f)\n"
        "  assert(table.concat(a, ',') == tables.concat(b, ','))\n"
        "  local at = math.random(1, #a + 1)\n"
        "  table.insert(a, at, 7) tables.insert(b, at, 7) table.insert(a, 8) tables.insert(b, 8)\n"
        "  at = math.random(1, #a)\n"
        "  assert(table.remove(a, at) == tables.remove(b, at) and table.remove(a) == tables.remove(b))\n"
        "  local f, e, t = math.random(1, 10), math.random(1, 10), math.random(1, 10)\n"
        "  table.move(a, f, e, t) tables.move(b, f, e, t)\n"
        "  for k = 1, 60 do assert(a[k] == b[k], k) end\n"
        "  assert(select('#', tables.unpack(b, f, e)) == select('#', table.unpack(a, f, e)))\n"
        "end\n"
        "assert(tables.pack(1, nil, 3).n == 3 and tables.remove({}) == nil and tables.concat({}, 'x') == '')\n"
        "assert(not pcall(tables.insert, { 1 }, 5, 2) and not pcall(tables.concat, { {} }))\n");
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_what_the_stock_matcher_matches),
        cmocka_unit_test(tables_are_sorted_moved_and_joined_as_the_stock_library_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
