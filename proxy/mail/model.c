/* model.c - how complaints about a configuration are kept, names that are nearly right, paths beside its file. */
#include "mail/model.h"
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

struct str conf_beside(struct mail_conf *conf, struct str path)
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

void conf_keep_table(struct mail_conf *conf, struct table *table)
{
    if (conf->ntables == conf->tables_room) {
        conf->tables_room = conf->tables_room ? conf->tables_room * 2 : 16;
        conf->tables = must_grow(conf->tables, conf->tables_room * sizeof(struct table *));
    }
    conf->tables[conf->ntables++] = table;
}
