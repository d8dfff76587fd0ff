/* failure.h - why a connection, a DNS look-up or a store request failed: an enum, and the word that logs and scripts show for it. */
#ifndef BASE_FAILURE_H
#define BASE_FAILURE_H

enum failure {
    FAILURE_NONE,
#define FAILURE(name, word) FAILURE_##name,
#include "base/failure.def"
#undef FAILURE
    FAILURES
};
const char *failure_word(enum failure); /* a constant, such as "timeout"; NULL for FAILURE_NONE */
#endif
