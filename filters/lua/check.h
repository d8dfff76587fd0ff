/* check.h - mistakes that a compiled script shows, in order of their lines. */
#ifndef FILTERS_LUA_CHECK_H
#define FILTERS_LUA_CHECK_H
#include "filters/lua/dump.h"
#include "filters/lua/host.h"

struct finding {
    struct finding *next;
    int line;
    const char *text;
};
/* Of the main chunk at the top of the stack; the classes and globals of the sandbox must be there. All in the arena. */
struct finding *check_script(lua_State *, struct arena *);

struct check { /* private */
    lua_State *L;
    struct arena *arena;
    const struct lua_function *main;
    struct finding *findings;
};
#endif
