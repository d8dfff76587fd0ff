/* value.c - building and reading trees of values. */
#include "base/value.h"

struct filter_value value_text(struct str s)
{
    return (struct filter_value){.type = VALUE_TEXT, .text = s};
}

struct filter_value value_number(double n)
{
    bool fits = n > -9.2e18 && n < 9.2e18; /* converting a value outside of this range is undefined */
    return (struct filter_value){.type = VALUE_NUMBER, .number = n, .integer = fits ? (int64_t)n : 0};
}

struct filter_value value_integer(int64_t n)
{
    return (struct filter_value){.type = VALUE_NUMBER, .number = (double)n, .integer = n};
}

struct filter_value value_bool(bool b)
{
    return (struct filter_value){.type = VALUE_BOOL, .number = b, .integer = b};
}

static struct filter_value *make_room(struct arena *a, struct filter_value *v, size_t at)
{
    if (v->count == v->room) {
        size_t room = v->room ? v->room * 2 : 4;
        struct filter_value *items = arena_alloc(a, room * sizeof *items);
        if (v->count)
            memcpy(items, v->items, v->count * sizeof *items);
        if (v->type == VALUE_MAP) {
            struct str *keys = arena_alloc(a, room * sizeof *keys);
            if (v->count)
                memcpy(keys, v->keys, v->count * sizeof *keys);
            v->keys = keys;
        }
        v->items = items;
        v->room = room;
    }
    memmove(v->items + at + 1, v->items + at, (v->count - at) * sizeof *v->items);
    if (v->type == VALUE_MAP)
        memmove(v->keys + at + 1, v->keys + at, (v->count - at) * sizeof *v->keys);
    v->count++;
    return v->items + at;
}

struct filter_value *value_add(struct arena *a, struct filter_value *list, struct filter_value item)
{
    must(list->type == VALUE_LIST);
    struct filter_value *at = make_room(a, list, list->count);
    *at = item;
    return at;
}

static int compare(struct str a, struct str b)
{
    int order = min_size(a.len, b.len) ? memcmp(a.at, b.at, min_size(a.len, b.len)) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* The first entry whose key is not below `key`. */
static size_t lower_bound(const struct filter_value *map, struct str key)
{
    size_t low = 0, high = map->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare(map->keys[mid], key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct filter_value *value_put(struct arena *a, struct filter_value *map, struct str key, struct filter_value item)
{
    must(map->type == VALUE_MAP);
    size_t i = lower_bound(map, key);
    if (i < map->count && str_equal(map->keys[i], key)) {
        map->items[i] = item;
        return map->items + i;
    }
    struct filter_value *at = make_room(a, map, i);
    *at = item;
    map->keys[i] = arena_str(a, key);
    return at;
}

const struct filter_value *value_get(const struct filter_value *map, struct str key)
{
    if (!map || map->type != VALUE_MAP)
        return NULL;
    size_t i = lower_bound(map, key);
    return i < map->count && str_equal(map->keys[i], key) ? map->items + i : NULL;
}

const char *value_type_name(enum value_type type)
{
    static const char *const names[] = {
        [VALUE_NONE] = "nothing",
        [VALUE_BOOL] = "true or false",
        [VALUE_NUMBER] = "a number",
        [VALUE_TEXT] = "a text",
        [VALUE_LIST] = "a list",
        [VALUE_MAP] = "a map of names and values",
        [VALUE_DURATION] = "a duration like \"30s\" or \"1h30m\"",
        [VALUE_SIZE] = "a size like 1024 or \"10M\"",
        [VALUE_CIDR] = "addresses like \"192.0.2.0/24\"",
        [VALUE_TABLE] = "the path of a table file",
        [VALUE_ADDRESS] = "an address like \"inet:HOST:PORT\" or \"unix:/PATH\"",
        [VALUE_ANY] = "any value",
    };
    return (size_t)type < countof(names) ? names[type] : "an unknown type";
}

/* One or more of DIGITS[.DIGITS] UNIT; a bare number has the unit `scale[0]`. */
static bool parse_units(struct str s, const char *const *units, const double *scale, size_t n, double *sum)
{
    *sum = 0;
    bool any = false;
    while (s.len) {
        double whole = 0, part = 0.1;
        size_t digits = 0;
        for (; s.len && char_is_digit(s.at[0]); s.at++, s.len--, digits++)
            whole = whole * 10 + (s.at[0] - '0');
        if (s.len && s.at[0] == '.')
            for (s.at++, s.len--; s.len && char_is_digit(s.at[0]); s.at++, s.len--, part /= 10)
                whole += part * (s.at[0] - '0');
        if (!digits || digits > 15)
            return false;
        struct str unit = {s.at, 0};
        while (s.len && char_is_alpha(s.at[0]))
            s.at++, s.len--, unit.len++;
        size_t i = 0;
        while (i < n && !str_equal_nocase(unit, str_of(units[i])))
            i++;
        if (i == n || (unit.len == 0 && (any || s.len)))
            return false;
        *sum += whole * scale[i];
        any = true;
    }
    return any;
}

bool value_parse_duration(struct str s, double *seconds)
{
    static const char *const units[] = {"", "s", "ms", "m", "h", "d", "w"};
    static const double scale[] = {1, 1, 0.001, 60, 3600, 86400, 604800};
    return parse_units(s, units, scale, countof(units), seconds);
}

bool value_parse_size(struct str s, uint64_t *octets)
{
    static const char *const units[] = {"", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib"};
    static const double k = 1024, m = 1024 * 1024, g = 1024.0 * 1024 * 1024;
    const double scale[] = {1, 1, k, k, k, m, m, m, g, g, g};
    double sum;
    if (!parse_units(s, units, scale, countof(units), &sum) || sum > 9e15)
        return false;
    *octets = (uint64_t)sum;
    return true;
}
