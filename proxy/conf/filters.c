/* filters.c - modules, filters and chains of the configuration: finds the definition of a filter by its name, finds scripts, separates the
 * options of the core from the filter's own, and opens the filters.
 *
 * A module stays loaded for the life of the process, because sessions of an older configuration may still use it. */
#include "conf/parts.h"
#include "filters/builtin.h"
#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

/* ---- definitions ---- */

static bool is_suffix(const struct filter_def *d)
{
    return d->name[0] == '.';
}

static void def_add(struct loader *l, const struct conf_item *item, const char *from, const struct filter_def *given)
{
    struct filter_def *d = arena_alloc(&l->conf->smtp.mail.arena, sizeof *d);
    if (given->size < offsetof(struct filter_def, stop) || given->abi != FILTER_ABI) {
        item_complain(l, item, NULL, "%s: built for filter ABI %u, this is %u", from, given->abi, (unsigned)FILTER_ABI);
        return;
    }
    memcpy(d, given, min_size(given->size, sizeof *d));
    if (!d->name || !*d->name || !d->hook) {
        item_complain(l, item, NULL, "%s: a filter without a name or a hook", from);
        return;
    }
    /* not for scripts: the Lua host refuses on.part itself */
    if (d->name[0] != '.' && (d->stages & 1u << FILTER_PART)) {
        item_complain(l, item, NULL, "%s: filter \"%s\" asks for FILTER_PART, which comes in a later version", from,
                      d->name);
        return;
    }
    for (size_t i = 0; i < l->ndefs; i++)
        if (strcmp(l->defs[i]->name, d->name) == 0) {
            item_complain(l, item, NULL, "%s: there is a filter \"%s\" already", from, d->name);
            return;
        }
    if (l->ndefs == l->defs_room)
        l->defs = must_grow(l->defs, (l->defs_room = l->defs_room ? l->defs_room * 2 : 32) * sizeof *l->defs);
    l->defs[l->ndefs++] = d;
}

/* The functions of the contract that this version does not have. If one of them is the symbol that a module lacks, the message names it. */
static const char *later_function(const char *why)
{
    static const char *const names[] = {"filter_http", "filter_redis", "filter_metric", "filter_parts", "filter_part"};
    const char *symbol = why ? strstr(why, "undefined symbol: ") : NULL;
    for (size_t i = 0; symbol && i < countof(names); i++)
        if (strstr(symbol, names[i]))
            return names[i];
    return NULL;
}

static void module_load(struct loader *l, const struct conf_item *item)
{
    struct filter_value path_value;
    if (!value_convert(&l->conf->smtp.mail, l->complaints, &item->body, TYPE_TEXT, TYPE_NONE, "module", &path_value))
        return;
    const char *path = conf_path(l, path_value.text).at;
    /* RTLD_NOW: a module built for a newer host fails here, by the name of the missing function. */
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) {
        const char *why = dlerror();
        const char *later = later_function(why);
        if (later)
            item_complain(l, item, NULL, "module: %s uses %s, which comes in a later version", path, later);
        else
            item_complain(l, item, NULL, "module: %s", why);
        return;
    }
    const struct filter_def *const *(*filters)(unsigned);
    void *symbol = dlsym(module, "sluice_filters");
    memcpy(&filters, &symbol, sizeof filters);
    const struct filter_def *const *list = filters ? filters(FILTER_ABI) : NULL;
    if (!filters)
        item_complain(l, item, NULL, "module: %s does not export sluice_filters: it is no module", path);
    else if (!list)
        item_complain(l, item, NULL, "module: %s has no filters for filter ABI %u", path, (unsigned)FILTER_ABI);
    for (; list && *list; list++)
        def_add(l, item, path, *list);
    dlclose(module);
}

void modules_load(struct loader *l)
{
    for (const struct filter_def *const *d = builtin_filters(); *d; d++)
        def_add(l, NULL, "built-in", *d);
    for (size_t i = 0; i < l->nitems; i++)
        if (strcmp(l->items[i]->directive->name, "module") == 0)
            module_load(l, l->items[i]);
}

static const struct filter_def *def_find(const struct loader *l, struct str name)
{
    for (size_t i = 0; i < l->ndefs; i++) {
        struct str given = str_of(l->defs[i]->name);
        if (str_equal(given, name) || (is_suffix(l->defs[i]) && name.len > given.len && str_ends_nocase(name, given)))
            return l->defs[i];
    }
    return NULL;
}

/* ---- scripts ---- */

enum { FOLDERS = 4 };
static void folders_of(struct loader *l, struct str folders[FOLDERS])
{
    folders[0] = conf_path(l, STR("."));
    folders[1] = conf_path(l, STR("filters"));
    folders[2] = STR(SLUICE_DATA_DIR "/scripts/filters");
    folders[3] = STR(SLUICE_SOURCE_DIR "/scripts/filters");
}

static struct str script_find(struct loader *l, struct str name)
{
    struct str folders[FOLDERS], path = arena_str(&l->conf->smtp.mail.arena, name);
    if (name.at[0] == '/')
        return access(path.at, R_OK) == 0 ? path : STR_NONE;
    folders_of(l, folders);
    for (size_t i = 0; i < FOLDERS; i++) {
        path = i == 0 ? conf_path(l, name) : arena_print(&l->conf->smtp.mail.arena, "%s/%.*s", folders[i].at, STR_ARGS(name));
        if (access(path.at, R_OK) == 0)
            return path;
    }
    return STR_NONE;
}

/* Names for the suggestion: those of filters, and the file names of scripts. */
static struct str filter_near(struct loader *l, struct str name)
{
    enum { MOST = 512 };
    const char *names[MOST];
    struct str folders[FOLDERS];
    size_t n = 0;
    for (size_t i = 0; i < l->ndefs && n < MOST; i++)
        if (!is_suffix(l->defs[i]))
            names[n++] = l->defs[i]->name;
    folders_of(l, folders);
    for (size_t i = 0; i < FOLDERS; i++) {
        DIR *dir = opendir(folders[i].at);
        for (struct dirent *e; dir && n < MOST && (e = readdir(dir));)
            for (size_t k = 0; k < l->ndefs; k++)
                if (is_suffix(l->defs[k]) && str_ends_nocase(str_of(e->d_name), str_of(l->defs[k]->name))) {
                    if (str_equal(str_part(str_of(e->d_name), 0, name.len), name) &&
                        strcmp(e->d_name + name.len, l->defs[k]->name) == 0) { /* "greylist" for "greylist.lua" */
                        names[0] = arena_str(&l->conf->smtp.mail.arena, str_of(e->d_name)).at;
                        closedir(dir);
                        return str_of(names[0]);
                    }
                    names[n++] = arena_str(&l->conf->smtp.mail.arena, str_of(e->d_name)).at;
                    break;
                }
        if (dir)
            closedir(dir);
    }
    return nearest_name(name, names, n);
}

static void complain_no_filter(struct loader *l, const struct conf_item *item, const struct filter_def *def)
{
    struct str near = filter_near(l, item->name);
    const char *front = near.at ? " (did you mean \"" : "", *back = near.at ? "\"?)" : "";
    if (def && item->name.at[0] != '/')
        item_complain(l, item, NULL,
                      "filter \"%.*s\": no such file beside the configuration, in its filters/, or in %s%s%s%s",
                      STR_ARGS(item->name), SLUICE_DATA_DIR "/scripts/filters", front, near.at ? near.at : "", back);
    else if (def)
        item_complain(l, item, NULL, "filter \"%.*s\": the file cannot be read", STR_ARGS(item->name));
    else
        item_complain(l, item, NULL, "there is no filter \"%.*s\"%s%s%s", STR_ARGS(item->name), front,
                      near.at ? near.at : "", back);
}

/* ---- conditions ---- */

static void condition_build(struct loader *l, const struct conf_item *item, const struct filter_value *body,
                            const char *title, struct condition *c)
{
    *c = (struct condition){.auth = -1, .tls = -1};
    if (!body)
        return;
    const struct filter_value *block = block_check(l, item, body, IN_CONDITION, title, false);
    c->given = true;
    c->auth = value_get(block, STR("auth")) ? (int8_t)block_true(block, "auth") : -1;
    c->tls = value_get(block, STR("tls")) ? (int8_t)block_true(block, "tls") : -1;
    c->client = block_table(block, "client");
    c->from = block_table(block, "from");
    c->rcpt = block_table(block, "rcpt");
    const struct filter_value *listens = value_get(block, STR("listen"));
    struct str *names = arena_alloc(&l->conf->smtp.mail.arena, (listens ? listens->count : 0) * sizeof *names + 1);
    for (size_t i = 0; listens && i < listens->count; i++) {
        names[c->nlistens++] = listens->items[i].text;
        if (!item_named(l, "listen", listens->items[i].text) && !item_named(l, "milter", listens->items[i].text))
            complain_no_name(l, item, listens->items + i, "listen", listens->items[i].text);
    }
    c->listens = names;
    if (!body->count)
        item_complain(l, item, body, "%s: an empty condition says nothing", title);
}

/* ---- filters ---- */

static bool name_is_taken(const struct loader *l, struct str name)
{
    for (size_t i = 0; i < l->conf->smtp.mail.nfilters; i++)
        if (str_equal(l->conf->smtp.mail.filters[i]->name, name))
            return true;
    return false;
}

/* The file name without directory and suffix. */
static struct str stem_of(struct arena *a, struct str path, const struct filter_def *def)
{
    size_t from = path.len;
    while (from > 0 && path.at[from - 1] != '/')
        from--;
    path = str_part(path, from, path.len);
    return arena_str(a, is_suffix(def) ? str_part(path, 0, path.len - strlen(def->name)) : path);
}

static void name_give(struct loader *l, struct filter *f, const struct conf_item *item, const struct filter_value *core)
{
    struct arena *a = &l->conf->smtp.mail.arena;
    struct str said = block_text(core, "name"), base = said.len ? said : stem_of(a, f->source, f->def);
    f->name = base;
    if (said.len && name_is_taken(l, said) && item->used < 2)
        item_complain(l, item, value_get(core, STR("name")), "there is another filter named \"%.*s\"", STR_ARGS(said));
    if (str_has_control(said))
        item_complain(l, item, value_get(core, STR("name")), "filter \"%.*s\": \"name\" holds no control characters",
                      STR_ARGS(item->name));
    for (unsigned n = 2; name_is_taken(l, f->name); n++)
        f->name = arena_print(a, "%.*s-%u", STR_ARGS(base), n);
    struct str prefix = block_text(core, "prefix");
    f->prefix = prefix.at ? prefix : stem_of(a, f->source, f->def);
}

static bool holds_item(const struct filter_value *v)
{
    if (value_is_item(v))
        return true;
    for (size_t i = 0; i < v->count; i++)
        if (holds_item(v->items + i))
            return true;
    return false;
}

/* The filter's own options: all except the core's. The Lua host also gets `memory` and `cpu`. */
static const struct filter_value *raw_of(struct loader *l, const struct conf_item *item, const struct filter_def *def)
{
    struct filter_value *raw = arena_alloc(&l->conf->smtp.mail.arena, sizeof *raw);
    *raw = (struct filter_value){.type = VALUE_MAP, .file = item->file.at, .line = item->line};
    for (size_t i = 0; i < item->body.count; i++) {
        struct str key = item->body.keys[i];
        const struct directive *core = directive_find(IN_FILTER, key);
        if (core && core->scripts && !is_suffix(def))
            item_complain(l, item, item->body.items + i, "%s: \"%s\" is for scripts: this filter is none",
                          item_title(l, item), core->name);
        if (core && !(core->scripts && is_suffix(def)))
            continue;
        if (holds_item(item->body.items + i))
            item_complain(l, item, item->body.items + i, "a block cannot be an option of a filter");
        else
            value_put(&l->conf->smtp.mail.arena, raw, key, item->body.items[i]);
    }
    return raw;
}

static struct filter *filter_build(struct loader *l, struct conf_item *item, bool observe)
{
    const char *title = item_title(l, item);
    const struct filter_def *def = def_find(l, item->name);
    struct str source = !def ? STR_NONE : is_suffix(def) ? script_find(l, item->name) : item->name;
    const struct filter_value *core = block_check(l, item, &item->body, IN_FILTER, title, true);
    if (!source.at) {
        if (item->used < 2 || !item->checked)
            complain_no_filter(l, item, def);
        item->checked = core;
        return NULL;
    }
    struct filter *f = arena_alloc(&l->conf->smtp.mail.arena, sizeof *f);
    f->def = def;
    f->conf = &l->conf->smtp.mail;
    f->source = source;
    f->file = item->file;
    f->line = item->line;
    f->stages = def->stages;
    f->flags = def->flags;
    f->timeout = block_milliseconds(core, "timeout");
    f->message_timeout = block_milliseconds(core, "message_timeout");
    struct str on_error = block_text(core, "on_error");
    f->on_error = str_equal(on_error, STR("continue")) ? ON_ERROR_CONTINUE
                  : str_equal(on_error, STR("reject")) ? ON_ERROR_REJECT
                                                       : ON_ERROR_DEFER;
    f->observe = value_get(core, STR("observe")) ? block_true(core, "observe") : observe;
    name_give(l, f, item, core);
    condition_build(l, item, value_get(core, STR("only")), arena_print(&l->conf->smtp.mail.arena, "%s: only", title).at,
                    &f->only);
    condition_build(l, item, value_get(core, STR("except")), arena_print(&l->conf->smtp.mail.arena, "%s: except", title).at,
                    &f->except);
    f->raw = raw_of(l, item, def);
    f->index = (unsigned)l->conf->smtp.mail.nfilters;
    l->conf->smtp.mail.filters[l->conf->smtp.mail.nfilters++] = f;
    return f;
}

/* ---- chains ---- */

static void chain_build(struct loader *l, struct conf_item *item, struct chain *chain)
{
    const char *title = item_title(l, item);
    const struct filter_value *block = block_check(l, item, &item->body, IN_CHAIN, title, false), *element;
    chain->name = item->name;
    chain->filters = arena_alloc(&l->conf->smtp.mail.arena, (item->body.count + 1) * sizeof(struct filter *));
    const struct filter_value *quarantine = value_get(block, STR("quarantine"));
    if (quarantine)
        chain->quarantine = hop_of(backend_named(l, item, quarantine));
    condition_build(l, item, value_get(block, STR("only")), arena_print(&l->conf->smtp.mail.arena, "%s: only", title).at,
                    &chain->only);
    condition_build(l, item, value_get(block, STR("except")), arena_print(&l->conf->smtp.mail.arena, "%s: except", title).at,
                    &chain->except);
    for (size_t i = 1; (element = block_element(&item->body, i)); i++) {
        struct conf_item *inner = value_is_item(element) ? l->items[element->integer] : NULL;
        if (inner && strcmp(inner->directive->name, "filter") == 0) {
            struct filter *f = filter_build(l, inner, block_true(block, "observe"));
            if (f)
                chain->filters[chain->nfilters++] = f;
        } else if (inner) {
            item_complain(l, item, element, "%s: a %s cannot stand in a chain", title, inner->directive->name);
        } else if (element->type == VALUE_TEXT) {
            item_complain(l, item, element, "%s: expected filter \"%.*s\", got the text alone", title,
                          STR_ARGS(element->text));
        } else {
            item_complain(l, item, element, "%s: expected filter \"NAME\" { ... }, got %s", title,
                          value_type_name(element->type));
        }
    }
}

void chains_build(struct loader *l)
{
    size_t chains = 0, filters = 0;
    for (size_t i = 0; i < l->nitems; i++) {
        chains += strcmp(l->items[i]->directive->name, "chain") == 0;
        filters += l->items[i]->used;
        if (strcmp(l->items[i]->directive->name, "filter") == 0 && !l->items[i]->used)
            item_warn(l, l->items[i], NULL, "filter \"%.*s\" stands in no chain", STR_ARGS(l->items[i]->name));
    }
    l->conf->smtp.mail.chains = arena_alloc(&l->conf->smtp.mail.arena, (chains + 1) * sizeof(struct chain));
    l->conf->smtp.mail.filters = arena_alloc(&l->conf->smtp.mail.arena, (filters + 1) * sizeof(struct filter *));
    l->empty_chain = arena_alloc(&l->conf->smtp.mail.arena, sizeof *l->empty_chain);
    *l->empty_chain =
        (struct chain){.name = STR(""), .only = {.auth = -1, .tls = -1}, .except = {.auth = -1, .tls = -1}};
    for (size_t i = 0; i < l->nitems; i++)
        if (strcmp(l->items[i]->directive->name, "chain") == 0)
            chain_build(l, l->items[i], &l->conf->smtp.mail.chains[l->conf->smtp.mail.nchains++]);
}

void filters_open(struct loader *l)
{
    for (size_t i = 0; i < l->conf->smtp.mail.nfilters; i++)
        filter_open(l->conf->smtp.mail.filters[i], l->complaints);
}
