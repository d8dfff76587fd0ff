/* check.h - static checks of a compiled script. */
#ifndef FILTERS_LUA_CHECK_H
#define FILTERS_LUA_CHECK_H
#include "filters/lua/dump.h"
#include "filters/lua/host.h"

struct finding {
    struct finding *next;
    int line;
    const char *text;
};
/* Checks the main chunk at the top of the stack; the sandbox must be installed in this state. Returns the mistakes in order of their lines,
 * in the arena; NULL: none. */
struct finding *check_script(lua_State *, struct arena *);

struct check { /* private */
    lua_State *L;
    struct arena *arena;
    const struct lua_function *main;
    struct finding *findings;
};
#endif
