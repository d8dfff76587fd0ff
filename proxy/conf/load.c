/* load.c - loads a configuration: evaluates, checks, builds and opens it, in this order; with any mistake nothing is loaded.
 *
 * Owns the temporary memory of the loader; the result is a struct conf (smtp/model.h). When the files can be evaluated, it does not stop at
 * the first mistake but reports all. */
#include "conf/conf.h"
#include "conf/parts.h"
#include "mail/visit.h"
#include "milter/model.h"
#include "wire/milter.h"
#include <stdarg.h>

/* ---- complaints ---- */

static void complain_at(struct loader *l, bool warning, const struct conf_item *item, const struct filter_value *at,
                        const char *format, va_list args)
{
    struct str text = arena_vprint(l->complaints->arena, format, args);
    if (at && at->file && at->line)
        complain(l->complaints, warning, str_of(at->file), at->line, "%s", text.at);
    else if (item)
        complain(l->complaints, warning, item->file, item->line, "%s", text.at);
    else
        complain(l->complaints, warning, l->conf->smtp.mail.path, 0, "%s", text.at);
}

void item_complain(struct loader *l, const struct conf_item *item, const struct filter_value *at, const char *format,
                   ...)
{
    va_list args;
    va_start(args, format);
    complain_at(l, false, item, at, format, args);
    va_end(args);
}

void item_warn(struct loader *l, const struct conf_item *item, const struct filter_value *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain_at(l, true, item, at, format, args);
    va_end(args);
}

const char *item_title(struct loader *l, const struct conf_item *item)
{
    if (!item->name.at)
        return item->directive->name;
    return arena_print(&l->conf->smtp.mail.arena, "%s \"%.*s\"", item->directive->name, STR_ARGS(item->name)).at;
}

struct conf_item *item_named(struct loader *l, const char *directive, struct str name)
{
    for (size_t i = 0; i < l->nitems; i++)
        if (strcmp(l->items[i]->directive->name, directive) == 0 && str_equal(l->items[i]->name, name))
            return l->items[i];
    return NULL;
}

void complain_no_name(struct loader *l, const struct conf_item *item, const struct filter_value *at,
                      const char *directive, struct str name)
{
    const char **names = must_alloc((l->nitems + 1) * sizeof *names);
    size_t n = 0;
    for (size_t i = 0; i < l->nitems; i++)
        if (strcmp(l->items[i]->directive->name, directive) == 0)
            names[n++] = l->items[i]->name.at;
    struct str near = nearest_name(name, names, n);
    if (near.at)
        item_complain(l, item, at, "there is no %s \"%.*s\" (did you mean \"%s\"?)", directive, STR_ARGS(name),
                      near.at);
    else if (n)
        item_complain(l, item, at, "there is no %s \"%.*s\" (there is \"%s\"%s)", directive, STR_ARGS(name), names[0],
                      n > 1 ? " and others" : "");
    else
        item_complain(l, item, at, "there is no %s \"%.*s\": write %s \"%.*s\" { ... }", directive, STR_ARGS(name),
                      directive, STR_ARGS(name));
    free(names);
}

static int by_place(const void *a, const void *b)
{
    const struct complaint *x = *(const struct complaint *const *)a, *y = *(const struct complaint *const *)b;
    int file = strcmp(x->file.at ? x->file.at : "", y->file.at ? y->file.at : "");
    return file ? file : (x->line > y->line) - (x->line < y->line);
}

/* Removes control octets of values from a complaint, so that it stays one line. */
static void say_visibly(FILE *to, struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
            fprintf(to, "\\x%02x", (unsigned char)s.at[i]);
        else
            fputc(s.at[i], to);
}

void complaints_say(FILE *to, const struct complaints *c)
{
    size_t n = 0, total = c->errors + c->warnings;
    const struct complaint **list = must_alloc((total + 1) * sizeof *list);
    for (const struct complaint *one = c->first; one; one = one->next)
        list[n++] = one;
    qsort(list, n, sizeof *list, by_place);
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "%.*s:", STR_ARGS(list[i]->file));
        if (list[i]->line)
            fprintf(to, "%u:", list[i]->line);
        fprintf(to, " %s: ", list[i]->warning ? "warning" : "error");
        say_visibly(to, list[i]->text);
        fputc('\n', to);
    }
    free(list);
}

/* ---- loading ---- */

static void names_check(struct loader *l)
{
    for (size_t i = 0; i < l->nitems; i++) {
        struct conf_item *item = l->items[i];
        bool filter = strcmp(item->directive->name, "filter") == 0;
        if (item->name.at && str_has_control(item->name))
            item_complain(l, item, NULL, "%s: a name holds no control characters", item_title(l, item));
        if (item->directive->kind != KIND_NAMED || filter)
            continue;
        struct conf_item *first = item_named(l, item->directive->name, item->name);
        if (first != item)
            item_complain(l, item, NULL, "there is a %s already, in %.*s:%u", item_title(l, item),
                          STR_ARGS(first->file), first->line);
        if (!item->has_body && strcmp(item->directive->name, "chain"))
            item_complain(l, item, NULL, "expected %s { ... }, got no braces", item_title(l, item));
        if (item->used)
            item_complain(l, item, NULL, "%s stands at the top of the file, not in another block", item_title(l, item));
    }
}

static void close_scratch(struct loader *l)
{
    for (size_t i = 0; i < l->ntls; i++)
        if (l->tls[i].tls)
            tls_drop(l->tls[i].tls);
    free(l->items);
    free(l->defs);
    free(l);
}

static struct conf *load(const char *path, const char *more, bool to_try, struct complaints *complaints)
{
    static unsigned generation;
    struct loader *l = must_alloc(sizeof *l);
    struct conf *conf = must_alloc(sizeof *conf);
    unsigned before = complaints->errors;
    conf->smtp.refs = 1;
    conf->smtp.generation = generation + 1;
    conf->smtp.mail.arena.first = 16384;
    conf->smtp.mail.path = arena_str(&conf->smtp.mail.arena, str_of(path));
    l->conf = conf;
    l->complaints = complaints;
    l->more = more;
    l->to_try = to_try;
    l->items = must_alloc(ITEMS_MOST * sizeof(struct conf_item *));
    if (conf_evaluate(l, path)) {
        names_check(l);
        modules_load(l);
        model_build(l);
        filters_open(l);
        milters_judge(l);
        if (complaints->errors == before && !to_try)
            conf_doubt(l);
    }
    close_scratch(l);
    if (complaints->errors > before) {
        conf_drop(conf);
        return NULL;
    }
    generation++; /* configurations with mistakes are not counted */
    return conf;
}

struct conf *conf_load(const char *path, struct complaints *complaints)
{
    return load(path, NULL, false, complaints);
}

struct conf *conf_load_to_try(const char *path, const char *more, struct complaints *complaints)
{
    return load(path ? path : "", more, true, complaints);
}

bool conf_control(const char *path, struct str *control, struct arena *arena, struct complaints *complaints)
{
    struct loader *l = must_alloc(sizeof *l);
    struct conf *conf = l->conf = must_alloc(sizeof *conf);
    conf->smtp.refs = 1;
    conf->smtp.mail.path = arena_str(&conf->smtp.mail.arena, str_of(path));
    l->complaints = complaints;
    l->items = must_alloc(ITEMS_MOST * sizeof(struct conf_item *));
    bool good = conf_evaluate(l, path);
    *control = STR("");
    for (size_t i = 0; i < l->nitems && good; i++)
        if (item_is_a(l->items[i], "control") && l->items[i]->body.type == VALUE_TEXT && l->items[i]->body.text.len)
            *control = arena_str(arena, conf_path(l, l->items[i]->body.text));
    close_scratch(l);
    conf_drop(conf);
    return good;
}

/* ---- sluice check --explain ---- */

static void say_filters(FILE *to, const struct chain *chain)
{
    static const char *const names[] = {
#define STAGE(name, word) [FILTER_##name] = word,
#include "filters/stages.def"
#undef STAGE
    };
    for (unsigned stage = FILTER_CONNECT; stage <= FILTER_REPLY; stage++) {
        unsigned n = 0;
        for (size_t i = 0; i < chain->nfilters; i++) {
            const struct filter *f = chain->filters[i];
            if (!(f->stages & 1u << stage))
                continue;
            if (!n++)
                fprintf(to, "    %-10s", names[stage]);
            fprintf(to, " %.*s%s%s", STR_ARGS(f->name), f->observe ? " (observe)" : "",
                    f->only.given || f->except.given ? " (conditional)" : "");
        }
        if (n)
            fputc('\n', to);
    }
}

static void say_bits(FILE *to, const char *what, const struct milter_bit *bits, uint32_t set)
{
    fprintf(to, "    %-10s", what);
    for (; bits->name; bits++)
        if (set & bits->bit)
            fprintf(to, " %s", bits->name);
    fputc('\n', to);
}

static void say_milter(FILE *to, const struct milter_conf *m)
{
    struct milter_needs needs = milter_needs(m->visit.chain);
    fprintf(to, "milter \"%.*s\"", STR_ARGS(m->visit.name));
    for (size_t k = 0; k < m->naddresses; k++)
        fprintf(to, " %.*s", STR_ARGS(m->addresses[k].text));
    fprintf(to, "\n    chain      %.*s\n", STR_ARGS(m->visit.chain->nfilters ? m->visit.chain->name : STR("without filters")));
    say_filters(to, m->visit.chain);
    say_bits(to, "actions", milter_actions, needs.actions);
    say_bits(to, "protocol", milter_steps, needs.steps);
    fprintf(to, "    body       %s\n", milter_say(m->visit.chain) == WHEN_AT_VERDICT ? "is held" : "is not held");
}

void conf_say_order(FILE *to, const struct conf *conf)
{
    for (size_t i = 0; i < conf->smtp.nlistens; i++) {
        const struct listen_conf *l = &conf->smtp.listens[i];
        fprintf(to, "listen \"%.*s\"", STR_ARGS(l->visit.name));
        for (size_t k = 0; k < l->naddresses; k++)
            fprintf(to, " %.*s", STR_ARGS(l->addresses[k].text));
        fprintf(to, "\n    backend    %.*s at %.*s\n", STR_ARGS(l->backend->hop.name), STR_ARGS(l->backend->address.text));
        fprintf(to, "    chain      %.*s\n", STR_ARGS(l->visit.chain->nfilters ? l->visit.chain->name : STR("without filters")));
        say_filters(to, l->visit.chain);
        fprintf(to, "    DATA       %s\n", chain_data_when_name(l->visit.chain));
    }
    for (size_t i = 0; i < conf->nmilters; i++)
        say_milter(to, &conf->milters[i]);
}
