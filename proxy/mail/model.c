/* model.c - how complaints about a configuration are kept, its tables, paths beside its file. */
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

void conf_keep_table(struct mail_conf *conf, struct table *table)
{
    if (conf->ntables == conf->tables_room) {
        conf->tables_room = conf->tables_room ? conf->tables_room * 2 : 16;
        conf->tables = must_grow(conf->tables, conf->tables_room * sizeof(struct table *));
    }
    conf->tables[conf->ntables++] = table;
}
