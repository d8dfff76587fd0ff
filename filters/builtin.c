/* builtin.c - the list of built-in filters, the only place that names them. */
#include "filters/builtin.h"

const struct filter_def *const *builtin_filters(void)
{
    static const struct filter_def *const list[] = {
        &access_filter,
        &ratelimit_filter,
        &lua_filter,
        NULL,
    };
    return list;
}
