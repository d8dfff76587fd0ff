/* names.h - suggests a known name for a misspelt one ("did you mean ...?"). */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H
#include "base/str.h"

/* The one of `names` with the smallest edit distance to `word`, without regard to case; the first of several. A swap of two neighbouring
 * letters is one edit. STR_NONE: none is within 2 edits or a third of the length of `word`, or all letters would have to change. */
struct str nearest_name(struct str word, const char *const *names, size_t n);
#endif
