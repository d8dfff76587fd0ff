/* dump.h - reads the bytecode of a compiled chunk, in the format of lua_dump, for the checks at load. */
#ifndef FILTERS_LUA_DUMP_H
#define FILTERS_LUA_DUMP_H
#include "base/arena.h"
#include <lua.h>

/* Opcodes of Lua 5.4 (lopcodes.h), those that the checks use. */
enum lua_op {
    OP_MOVE = 0, OP_LOADK = 3, OP_LFALSESKIP = 6, OP_LOADNIL = 8, OP_GETUPVAL = 9, OP_SETUPVAL = 10, OP_GETTABUP = 11, OP_GETFIELD = 14,
    OP_SETTABUP = 15, OP_SETTABLE = 16, OP_SETI = 17, OP_SETFIELD = 18, OP_SELF = 20, OP_MMBIN = 46, OP_MMBINK = 48, OP_CLOSE = 54,
    OP_TBC = 55, OP_JMP = 56, OP_EQ = 57, OP_TEST = 66, OP_TESTSET = 67, OP_CALL = 68, OP_TAILCALL = 69, OP_RETURN = 70, OP_RETURN1 = 72,
    OP_FORLOOP = 73, OP_FORPREP = 74, OP_TFORPREP = 75, OP_TFORCALL = 76, OP_TFORLOOP = 77, OP_SETLIST = 78, OP_CLOSURE = 79,
    OP_VARARG = 80, OP_EXTRAARG = 82
};
struct lua_code { enum lua_op op; unsigned a, b, c, bx; int sj; bool k; };

struct lua_local { const char *name; size_t from, to, reg; }; /* alive in [from, to) */
struct lua_upvalue { bool of_parent; unsigned index; };       /* of_parent: a register of the enclosing function, else an upvalue of it */
struct lua_function {
    const char *code, *lines; /* code: 4 octets per instruction */
    size_t ncode, nlines, nabsolute, nconstants, nchildren, nlocals, nupvalues;
    struct str *constants; /* STR_NONE: not a text */
    struct lua_function *children;
    struct lua_local *locals;
    struct lua_upvalue *upvalues;
    struct lua_absolute { size_t pc; int line; } *absolute;
    int first_line, env; /* env: index of the upvalue _ENV; -1: none */
    unsigned params;
};

/* Reads the function at the top of the stack. NULL: the format is not that of Lua 5.4, and there are no checks. */
struct lua_function *dump_read(lua_State *, struct arena *);
struct lua_code dump_code(const struct lua_function *, size_t pc);
int dump_line(const struct lua_function *, size_t pc);
struct str dump_constant(const struct lua_function *, size_t i); /* STR_NONE: no such constant, or not a text */
#endif
