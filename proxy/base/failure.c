/* failure.c - see failure.h. */
#include "base/failure.h"
#include "base/defs.h"

const char *failure_word(enum failure failure)
{
    static const char *const words[FAILURES] = {
#define FAILURE(name, word) [FAILURE_##name] = word,
#include "base/failure.def"
#undef FAILURE
    };
    return words[failure];
}
