/* model.c - the life of a configuration snapshot, and how complaints about one are kept.
 *
 * Owns nothing but the count: proxy/conf/load.c builds the snapshot, workers hold it, the last one to let go closes what it
 * refers to. Never changes a snapshot after loading. */
#include "smtp/model.h"
#include "store/store.h"
#include <stdarg.h>

void complain(struct complaints *c, bool warning, struct str file, uint32_t line, const char *format, ...)
{
    va_list args;
    struct complaint *one = arena_alloc(c->arena, sizeof *one);
    va_start(args, format);
    one->text = arena_vprint(c->arena, format, args);
    va_end(args);
    one->warning = warning;
    one->file = arena_str(c->arena, file);
    one->line = line;
    if (c->last)
        c->last->next = one;
    else
        c->first = one;
    c->last = one;
    warning ? c->warnings++ : c->errors++;
}

struct str conf_beside(struct conf *conf, struct str path)
{
    size_t folder = conf->path.len;
    if (path.len && path.at[0] == '/')
        return arena_str(&conf->arena, path);
    while (folder > 0 && conf->path.at[folder - 1] != '/')
        folder--;
    return arena_print(&conf->arena, "%.*s%.*s", (int)folder, conf->path.at, STR_ARGS(path));
}

/* Edit distance where a swap of neighbours counts once ("lisetn"), or `most` + 1 when it is more. */
static size_t distance(struct str a, struct str b, size_t most)
{
    enum { LONGEST = 48 };
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    if (a.len > LONGEST || b.len > LONGEST || (a.len > b.len ? a.len - b.len : b.len - a.len) > most)
        return most + 1;
    for (size_t j = 0; j <= b.len; j++)
        last[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool same = char_lower(a.at[i - 1]) == char_lower(b.at[j - 1]);
            now[j] = min_size(min_size(last[j], now[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && char_lower(a.at[i - 1]) == char_lower(b.at[j - 2]) &&
                char_lower(a.at[i - 2]) == char_lower(b.at[j - 1]))
                now[j] = min_size(now[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b.len];
}

struct str nearest_name(struct str word, const char *const *names, size_t n)
{
    struct str best = STR_NONE;
    size_t most = max_size(2, word.len / 3), least = most + 1;
    for (size_t i = 0; i < n; i++) {
        struct str name = str_of(names[i]);
        size_t d = distance(word, name, most);
        if (d < least && d < max_size(word.len, name.len)) { /* every letter replaced is no likeness */
            least = d;
            best = name;
        }
    }
    return best;
}

void conf_take_over(struct conf *conf, const struct conf *old)
{
    for (size_t i = 0; i < conf->ntables; i++)
        for (size_t k = 0; k < old->ntables; k++)
            if (table_take_over(conf->tables[i], old->tables[k])) {
                log_say(LOG_WARNING, "%s: it may still be written, the content read before stays in use", table_path(conf->tables[i]));
                break;
            }
    for (size_t i = 0; i < conf->nstores; i++)
        for (size_t k = 0; k < old->nstores; k++) {
            struct store_conf *s = &conf->stores[i];
            const struct store_conf *was = &old->stores[k];
            if (!str_equal(s->name, was->name) || !str_equal(s->kind, was->kind))
                continue;
            store_drop(s->store);
            s->store = store_hold(was->store);
            if (s->size != was->size)
                store_memory_bound(s->store, s->size);
        }
}

struct conf *conf_hold(struct conf *conf)
{
    __atomic_add_fetch(&conf->refs, 1, __ATOMIC_RELAXED);
    return conf;
}

bool conf_is_left(const struct conf *conf)
{
    return __atomic_load_n(&conf->refs, __ATOMIC_ACQUIRE) == 1;
}

void conf_drop(struct conf *conf)
{
    if (!conf || __atomic_sub_fetch(&conf->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = conf->nfilters; i-- > 0;)
        filter_close(conf->filters[i]);
    for (size_t i = 0; i < conf->ntables; i++)
        table_close(conf->tables[i]);
    for (size_t i = 0; i < conf->nlistens; i++)
        if (conf->listens[i].tls)
            tls_drop(conf->listens[i].tls);
    for (size_t i = 0; i < conf->nbackends; i++)
        if (conf->backends[i].tls)
            tls_drop(conf->backends[i].tls);
    for (size_t i = 0; i < conf->nstores; i++)
        store_drop(conf->stores[i].store);
    free(conf->tables);
    arena_reset(&conf->arena);
    free(conf);
}

void conf_keep_table(struct conf *conf, struct table *table)
{
    if (conf->ntables == conf->tables_room) {
        conf->tables_room = conf->tables_room ? conf->tables_room * 2 : 16;
        conf->tables = must_grow(conf->tables, conf->tables_room * sizeof(struct table *));
    }
    conf->tables[conf->ntables++] = table;
}
