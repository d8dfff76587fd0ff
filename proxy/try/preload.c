/* preload.c - keys as scripts write them, the filter's prefix in front: "ratelimit/msg:user:bob". */
#include "try/preload.h"
#include "store/store.h"
#include "wire/json.h"

static const double a_day = 86400;

static struct str text_at(const struct filter_value *map, const char *key)
{
    const struct filter_value *v = value_get(map, str_of(key));
    return v && v->type == VALUE_TEXT ? v->text : STR_NONE;
}

static const struct store_conf *store_of(const struct mail_conf *conf, const struct filter_value *map)
{
    struct str name = text_at(map, "store");
    for (size_t i = 0; i < conf->nstores; i++)
        if (str_equal(conf->stores[i].name, name.at ? name : STR("default")))
            return &conf->stores[i];
    return NULL;
}

static const char *take_value(const struct store_conf *sc, const struct filter_value *map, struct str key, double now,
                              struct arena *arena)
{
    const struct filter_value *value = value_get(map, STR("value")), *left = value_get(map, STR("left"));
    struct str inside = key, prefix = str_cut(&inside, '/');
    struct filter_value answer;
    if (!inside.at || !inside.len)
        return "\"key\": expected FILTER/KEY";
    if (!value ||
        (value->type != VALUE_TEXT && (value->type != VALUE_NUMBER || (double)value->integer != value->number)))
        return "\"value\": expected a text or a whole number";
    if (left && left->type != VALUE_NONE && !(left->type == VALUE_NUMBER && left->number > 0))
        return "\"left\": expected seconds";
    struct str pieces[] = {sc->prefix, prefix, STR(":"), inside};
    struct store_request r = {.op = STORE_SET,
                              .key = arena_join(arena, countof(pieces), pieces),
                              .value = value->text,
                              .value_is_integer = value->type == VALUE_NUMBER,
                              .integer = value->integer,
                              .ttl = left && left->type == VALUE_NUMBER ? left->number : a_day};
    return store_now(sc->store, &r, now, arena, &answer) ? "the key or the value is too large for its store" : NULL;
}

static const char *take_line(const struct mail_conf *conf, struct str line, double now, struct preload *p,
                             struct arena *arena)
{
    struct filter_value map;
    uint32_t within;
    const char *fault = json_read(line, arena, &map, &within);
    if (fault)
        return fault;
    struct str key = text_at(&map, "key"), kind = text_at(&map, "kind");
    const struct store_conf *sc = store_of(conf, &map);
    if (map.type != VALUE_MAP || !key.at)
        return "expected an object with \"key\"";
    if (!sc)
        return "\"store\": there is none of this name";
    if (kind.at && !str_equal(kind, STR("value"))) {
        p->left_out++;
        return NULL;
    }
    fault = take_value(sc, &map, key, now, arena);
    p->keys += !fault;
    return fault;
}

const char *preload(const struct mail_conf *conf, struct str text, double now, struct preload *p)
{
    *p = (struct preload){.line = 0};
    for (struct str rest = text, line; (line = str_cut(&rest, '\n')).at;) {
        struct arena arena = {0};
        p->line++;
        line = line.len && line.at[line.len - 1] == '\r' ? str_part(line, 0, line.len - 1) : line;
        const char *fault = str_trim(line).len ? take_line(conf, line, now, p, &arena) : NULL;
        arena_reset(&arena);
        if (fault)
            return fault;
    }
    return NULL;
}
