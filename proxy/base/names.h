/* names.h - what was most likely meant by a name that nobody knows. */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H
#include "base/str.h"

/* The one of `names` that is nearest to `word`, in either case of letters: at most 2 edits away or a third of its letters, a swap of
 * neighbours being one edit, and not all of them replaced. The first of several; STR_NONE: none. */
struct str nearest_name(struct str word, const char *const *names, size_t n);
#endif
