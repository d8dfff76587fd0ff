/* diff.h - two texts compared: by lines, or, where they are no text, by 16 octets. */
#ifndef TRY_DIFF_H
#define TRY_DIFF_H
#include "base/str.h"
#include <stdio.h>

/* Octets for a terminal: those that are not printable ASCII, and the backslash, as \xNN; CR and LF as \r and \n. */
void visible_put(FILE *, struct str);
struct diff_style { const char *indent; unsigned most; bool colour; }; /* most: lines; 0: all */
/* Lines "- ..." and "+ ..." in the order of the texts, and how many were left out. Returns whether the texts differ. */
bool diff_put(FILE *, struct str before, struct str after, const struct diff_style *);
#endif
