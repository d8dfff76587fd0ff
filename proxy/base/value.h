/* value.h - a tree of values: options of filters, answers of DNS and stores. Filters read it by the filter_value_* functions of
 * filters/filter.h. A tree is built in an arena, dies with it, and is const afterwards.
 *
 * Maps keep their entries sorted by key. Values of the configuration have a place (file and line). */
#ifndef BASE_VALUE_H
#define BASE_VALUE_H
#include "base/arena.h"

struct table; /* base/table.h */

enum value_type { /* in the order of enum filter_type of filters/filter.h, as mail/values.c asserts */
    VALUE_NONE, VALUE_BOOL, VALUE_NUMBER, VALUE_TEXT, VALUE_LIST, VALUE_MAP,
    VALUE_DURATION, VALUE_SIZE, VALUE_CIDR, VALUE_TABLE, VALUE_ADDRESS, VALUE_ANY
};

struct filter_value {
    enum value_type type;
    uint32_t line;            /* 0: no place */
    const char *file;
    struct str text;          /* TEXT, ADDRESS; of other scalars that were written as a text: that text */
    double number;            /* NUMBER; BOOL 0, 1; DURATION in seconds; SIZE in octets */
    int64_t integer;          /* the same as an integer, without the rounding of a double */
    struct filter_value *items;     /* LIST, MAP; n of them */
    struct str *keys;               /* MAP: keys[i] of items[i], sorted by octets */
    size_t count, room;
    struct table *table;      /* TABLE, CIDR */
};

struct filter_value value_text(struct str);
struct filter_value value_number(double);
struct filter_value value_integer(int64_t);
struct filter_value value_bool(bool);
/* value_add appends to a LIST; value_put sets a key of a MAP: the key is copied, and a second value replaces the first. Both return the
 * stored value. All calls for one tree must pass the same arena. */
struct filter_value *value_add(struct arena *, struct filter_value *list, struct filter_value);
struct filter_value *value_put(struct arena *, struct filter_value *map, struct str key, struct filter_value);
const struct filter_value *value_get(const struct filter_value *map, struct str key); /* NULL: absent */
const char *value_type_name(enum value_type); /* "a number", "a list", ... for messages */
/* "1h30m", "500ms", "10" give seconds. "10M", "256K", "1G" give octets (powers of 1024). False: not of that form. */
bool value_parse_duration(struct str, double *seconds);
bool value_parse_size(struct str, uint64_t *octets);
#endif
