/* builtin.h - the filters that are linked in: the same kind of list a module exports as sluice_filters. */
#ifndef FILTERS_BUILTIN_H
#define FILTERS_BUILTIN_H
#include "filters/filter.h"

extern const struct filter_def access_filter, ratelimit_filter, lua_filter;

const struct filter_def *const *builtin_filters(void); /* ends with NULL */
#endif
