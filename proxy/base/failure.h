/* failure.h - why a connection, a look-up, a question to a store came to nothing: decided by value, told by word. */
#ifndef BASE_FAILURE_H
#define BASE_FAILURE_H

enum failure {
    FAILURE_NONE,
#define FAILURE(name, word) FAILURE_##name,
#include "base/failure.def"
#undef FAILURE
    FAILURES
};
const char *failure_word(enum failure); /* NULL: none */
#endif
