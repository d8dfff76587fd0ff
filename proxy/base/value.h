/* value.h - a read-only tree of values: options of filters, answers of DNS and stores. The filter contract shows it as
 * struct filter_value (filters/filter.h, filter_value_*); whoever builds one does so in an arena, then hands it out const.
 *
 * Maps keep their entries sorted by key. Places (file:line) are there for values that come from the configuration. */
#ifndef BASE_VALUE_H
#define BASE_VALUE_H
#include "base/arena.h"

struct table; /* base/table.h */

enum value_type { /* the order of enum filter_type, filters/filter.h: mail/values.c asserts it */
    VALUE_NONE, VALUE_BOOL, VALUE_NUMBER, VALUE_TEXT, VALUE_LIST, VALUE_MAP,
    VALUE_DURATION, VALUE_SIZE, VALUE_CIDR, VALUE_TABLE, VALUE_ADDRESS, VALUE_ANY
};

struct filter_value {
    enum value_type type;
    uint32_t line;            /* 0: no place */
    const char *file;
    struct str text;          /* TEXT, ADDRESS; of other scalars: as they were written, if they were */
    double number;            /* NUMBER; BOOL 0, 1; DURATION in seconds; SIZE in octets */
    int64_t integer;          /* the same, exact where it is whole */
    struct filter_value *items;     /* LIST, MAP; n of them */
    struct str *keys;               /* MAP: keys[i] of items[i], sorted by octets */
    size_t count, room;
    struct table *table;      /* TABLE, CIDR */
};

struct filter_value value_text(struct str);
struct filter_value value_number(double);
struct filter_value value_integer(int64_t);
struct filter_value value_bool(bool);
/* Append to a LIST, put into a MAP (keys are copied; a key put twice keeps the last). The arena must be the same each time. */
struct filter_value *value_add(struct arena *, struct filter_value *list, struct filter_value);
struct filter_value *value_put(struct arena *, struct filter_value *map, struct str key, struct filter_value);
const struct filter_value *value_get(const struct filter_value *map, struct str key); /* NULL: absent */
const char *value_type_name(enum value_type); /* "a number", "a list", ... for messages */
/* "1h30m", "500ms", "10": seconds. "10M", "256K", "1G": octets (powers of 1024). */
bool value_parse_duration(struct str, double *seconds);
bool value_parse_size(struct str, uint64_t *octets);
#endif
