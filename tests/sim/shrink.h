/* shrink.h - looks for the smallest world that breaks a promise as a given one does. */
#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H
#include "world.h"

int feature_named(const char *word, size_t n); /* -1: there is none */
const char *feature_word(enum feature);
/* Prints each smaller world it finds, and last how to play the smallest. What the process may exit with. */
int shrink(const struct wishes *);
#endif
