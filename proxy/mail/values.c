/* values.c - the value tree as filters see it: read-only accessors that take NULL and answer with nothing.
 *
 * base/value.h builds the trees; here only the names of filters/filter.h are put on them. Never allocates. */
#include "base/cidr.h"
#include "base/table.h"
#include "base/value.h"
#include "filters/filter.h"

_Static_assert((int)VALUE_NONE == (int)TYPE_NONE && (int)VALUE_BOOL == (int)TYPE_BOOL, "one enum under two names");
_Static_assert((int)VALUE_NUMBER == (int)TYPE_NUMBER && (int)VALUE_TEXT == (int)TYPE_TEXT, "one enum under two names");
_Static_assert((int)VALUE_LIST == (int)TYPE_LIST && (int)VALUE_MAP == (int)TYPE_MAP, "one enum under two names");
_Static_assert((int)VALUE_DURATION == (int)TYPE_DURATION && (int)VALUE_SIZE == (int)TYPE_SIZE,
               "one enum under two names");
_Static_assert((int)VALUE_CIDR == (int)TYPE_CIDR && (int)VALUE_TABLE == (int)TYPE_TABLE, "one enum under two names");
_Static_assert((int)VALUE_ADDRESS == (int)TYPE_ADDRESS && (int)VALUE_ANY == (int)TYPE_ANY, "one enum under two names");

static struct filter_text text_of(struct str s)
{
    return (struct filter_text){s.at, s.len};
}

enum filter_type filter_value_type(const struct filter_value *v)
{
    return v ? (enum filter_type)v->type : TYPE_NONE;
}

struct filter_text filter_value_text(const struct filter_value *v)
{
    return v ? text_of(v->text) : (struct filter_text){NULL, 0};
}

double filter_value_number(const struct filter_value *v)
{
    return v ? v->number : 0;
}

int64_t filter_value_integer(const struct filter_value *v)
{
    return v ? v->integer : 0;
}

size_t filter_value_count(const struct filter_value *v)
{
    if (v && v->table)
        return table_count(v->table);
    return v ? v->count : 0;
}

const struct filter_value *filter_value_get(const struct filter_value *v, const char *key)
{
    return value_get(v, str_of(key));
}

/* An entry of a table as a text with its own place, so that a filter can complain of it; valid until the fourth next one. */
static const struct filter_value *entry_at(const struct filter_value *v, size_t i, struct filter_text *key)
{
    static _Thread_local struct filter_value entries[4];
    static _Thread_local unsigned turn;
    struct table_entry entry;
    if (!table_at(v->table, i, &entry))
        return NULL;
    struct filter_value *value = &entries[turn++ % countof(entries)];
    *value = value_text(entry.value);
    value->file = entry.file ? entry.file : v->file;
    value->line = entry.file ? entry.line : v->line;
    if (key)
        *key = text_of(entry.key);
    return value;
}

const struct filter_value *filter_value_at(const struct filter_value *v, size_t i, struct filter_text *key)
{
    if (key)
        *key = (struct filter_text){NULL, 0};
    if (v && v->table)
        return entry_at(v, i, key);
    if (!v || (v->type != VALUE_LIST && v->type != VALUE_MAP) || i >= v->count)
        return NULL;
    if (key && v->type == VALUE_MAP)
        *key = text_of(v->keys[i]);
    return v->items + i;
}

/* "[192.0.2.1]" is none: it is the name that a client said at HELO. */
static bool is_ip(struct str s)
{
    struct cidr ip;
    return s.len && s.at[0] != '[' && cidr_of_ip(s, &ip);
}

bool filter_value_match(const struct filter_value *v, struct filter_text key, struct filter_text *found)
{
    if (found)
        *found = (struct filter_text){NULL, 0};
    if (!v || !v->table || !key.at)
        return false;
    struct str word = {key.at, key.len}, value = STR_NONE;
    if (!(is_ip(word) ? table_match_ip(v->table, word, &value) : table_match(v->table, word, &value)))
        return false;
    if (found)
        *found = text_of(value);
    return true;
}
