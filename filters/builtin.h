/* builtin.h - the built-in filters, as a list like the one that a module exports by sluice_filters. */
#ifndef FILTERS_BUILTIN_H
#define FILTERS_BUILTIN_H
#include "filters/filter.h"

extern const struct filter_def access_filter, ratelimit_filter, lua_filter;

const struct filter_def *const *builtin_filters(void); /* ends with NULL */
#endif
