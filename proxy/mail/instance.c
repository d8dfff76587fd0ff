/* instance.c - how an instance of a filter comes to be: its options checked against what the filter declares, then open.
 *
 * Everything here runs on the loader's thread, one filter at a time. Owns nothing: values stand in the arena of the
 * conf, tables are kept by it. Presets (struct filter_option.preset) are text, converted by the option's type: "30s",
 * "10M", "100", "true", a text with or without quotes, an address, the path of a table; lists are "{}" or { "a", "b" },
 * maps only "{}". A table named only by a preset may be missing: it is then empty, and the check warns. NULL: the
 * option is absent. */
#include "base/log.h"
#include "net/address.h"
#include "mail/model.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <unistd.h>

enum { NAMES_MOST = 256 };

static _Thread_local struct {     /* of the filter being opened */
    struct str names[NAMES_MOST]; /* what filter_options was asked for, in all its calls */
    size_t nnames;
    bool asked;
} opening;

/* ---- conversion ---- */

struct wanted { /* what a value is to become, and who wants it */
    struct mail_conf *conf;
    struct complaints *complaints;
    enum filter_type type, of;
    const char *what;
    bool preset, dialled; /* an address that is for dialling */
};

static bool refuse(const struct wanted *w, const struct filter_value *v, const char *format, ...) PRINTF_LIKE(3, 4);
static bool refuse(const struct wanted *w, const struct filter_value *v, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct str file = v->file ? str_of(v->file) : w->conf->path;
    if (w->complaints)
        complain(w->complaints, false, file, v->line, "%s%s%s", w->what, *w->what ? ": " : "", text);
    return false;
}

const char *value_shown(const struct filter_value *v)
{
    switch (v->type) {
    case VALUE_TEXT: return "the text";
    case VALUE_MAP: return v->count ? "a map of names and values" : "{}";
    case VALUE_LIST: return v->count ? "a list" : "{}";
    case VALUE_NUMBER: return "the number";
    case VALUE_BOOL: return v->integer ? "true" : "false";
    case VALUE_ANY: return "a block";
    default: return value_type_name(v->type);
    }
}

static bool expected(const struct wanted *w, const struct filter_value *v, const char *hint)
{
    const char *name = value_type_name((enum value_type)w->type);
    if (v->type == VALUE_TEXT)
        return refuse(w, v, "expected %s, got the text \"%.*s\"%s", name, (int)min_size(v->text.len, 60), v->text.at,
                      hint);
    if (v->type == VALUE_NUMBER)
        return refuse(w, v, "expected %s, got the number %.14g%s", name, v->number, hint);
    return refuse(w, v, "expected %s, got %s%s", name, value_shown(v), hint);
}

/* What a table complains of: a line each. */
static bool refuse_lines(const struct wanted *w, const struct filter_value *v, char *error, const char *hint)
{
    for (char *line = error, *end; line; line = end) {
        end = strchr(line, '\n');
        if (end)
            *end++ = 0;
        refuse(w, v, "%s%s", line, hint);
    }
    return false;
}

/* Texts of a list, or keys and texts of a map, made a table. */
static bool table_of_items(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    struct str *keys = must_alloc((v->count + 1) * sizeof *keys), *values = must_alloc((v->count + 1) * sizeof *values);
    bool map = v->type == VALUE_MAP && v->count > 0, good = true;
    for (size_t i = 0; i < v->count; i++) {
        const struct filter_value *item = v->items + i;
        keys[i] = map ? v->keys[i] : item->text;
        values[i] = item->text;
        const char *why;
        struct cidr cidr;
        if (item->type != VALUE_TEXT)
            good = refuse(w, item, "element %zu: expected a text, got %s", i + 1, value_shown(item));
        else if (w->type == TYPE_CIDR && !cidr_parse(keys[i], &cidr, &why))
            good = refuse(w, item, "\"%.*s\": %s", (int)min_size(keys[i].len, 60), keys[i].at, why);
    }
    size_t one, other;
    if (good && map && table_twins(keys, v->count, &one, &other)) {
        const struct filter_value *a = v->items + one, *b = v->items + other;
        good = refuse(w, a->line > b->line ? a : b, "\"%.*s\" and \"%.*s\" are one and the same key",
                      STR_ARGS(keys[one]), STR_ARGS(keys[other]));
    }
    char error[4096];
    struct table *t = good ? table_of(keys, map ? values : NULL, v->count, error, sizeof error) : NULL;
    free(keys);
    free(values);
    if (!t)
        return good ? refuse_lines(w, v, error, "") : false;
    conf_keep_table(w->conf, t);
    to->table = t;
    return true;
}

static bool to_table(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    if (v->type == VALUE_LIST || (v->type == VALUE_MAP && (w->type == TYPE_TABLE || !v->count)))
        return table_of_items(w, v, to);
    if (v->type != VALUE_TEXT || !v->text.len)
        return expected(w, v, w->type == TYPE_CIDR ? "" : ", or a list like { \"example.org\" }");
    struct cidr cidr;
    const char *why;
    char error[4096];
    struct table *t;
    if (cidr_parse(v->text, &cidr, &why)) {
        t = table_of(&v->text, NULL, 1, error, sizeof error);
    } else {
        struct str path = conf_beside(w->conf, v->text);
        t = table_open(path.at, error, sizeof error);
        if (!t && w->preset && access(path.at, F_OK) != 0 && errno == ENOENT) {
            if (w->complaints)
                complain(w->complaints, true, v->file ? str_of(v->file) : STR_NONE, v->line,
                         "%s: %s is not there: the table is empty", w->what, path.at);
            t = table_of(NULL, NULL, 0, error, sizeof error);
        }
        if (!t)
            return refuse_lines(
                w, v, error,
                memchr(v->text.at, '/', v->text.len) ? "" : "; a list of elements is written { \"...\", \"...\" }");
    }
    if (!t)
        return refuse(w, v, "%s", error);
    conf_keep_table(w->conf, t);
    to->table = t;
    to->text = v->text;
    return true;
}

static bool number_of(struct str s, double *number)
{
    char text[64], *end;
    if (!s.len || s.len >= sizeof text || !(char_is_digit(s.at[0]) || s.at[0] == '-' || s.at[0] == '.'))
        return false;
    memcpy(text, s.at, s.len);
    text[s.len] = 0;
    *number = strtod(text, &end);
    return *end == 0 && isfinite(*number);
}

static bool to_number(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    double number = v->number;
    if (v->type == VALUE_NUMBER ? !isfinite(number) : v->type != VALUE_TEXT || !number_of(v->text, &number))
        return expected(w, v, "");
    to->number = number;
    to->integer = v->type == VALUE_NUMBER ? v->integer : (int64_t)fmax(fmin(number, 9e18), -9e18);
    to->text = v->type == VALUE_TEXT ? v->text : STR_NONE;
    return true;
}

static bool to_duration(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    double seconds = v->number;
    if (v->type == VALUE_TEXT ? !value_parse_duration(v->text, &seconds) : v->type != VALUE_NUMBER)
        return expected(w, v, "");
    if (!(seconds >= 0 && seconds <= 1e10))
        return refuse(w, v, "a duration must be 0 or more");
    to->number = seconds;
    to->integer = (int64_t)seconds;
    to->text = v->type == VALUE_TEXT ? v->text : STR_NONE;
    return true;
}

static bool to_size(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    uint64_t octets = 0;
    if (v->type == VALUE_TEXT ? !value_parse_size(v->text, &octets) : v->type != VALUE_NUMBER)
        return expected(w, v, "");
    if (v->type == VALUE_NUMBER) {
        if (!(v->number >= 0 && v->number <= 9e15 && floor(v->number) == v->number))
            return refuse(w, v, "a size must be a whole number, 0 or more");
        octets = (uint64_t)v->number;
    }
    to->number = (double)octets;
    to->integer = (int64_t)octets;
    to->text = v->type == VALUE_TEXT ? v->text : STR_NONE;
    return true;
}

static bool to_address(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    struct address address;
    const char *why;
    if (v->type != VALUE_TEXT)
        return expected(w, v, "");
    if (!address_parse(v->text, &w->conf->arena, &address, &why))
        return refuse(w, v, "\"%.*s\" is no address: %s", (int)min_size(v->text.len, 60), v->text.at, why);
    if (w->dialled && (address_is_both(v->text) || (address.name.ss_family != AF_UNIX && !address.port)))
        return refuse(w, v, "\"%.*s\" cannot be dialled: expected HOST:PORT", STR_ARGS(v->text));
    to->text = address.text;
    return true;
}

static bool convert(const struct wanted *w, const struct filter_value *from, struct filter_value *to);

static bool to_items(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    struct wanted inner = *w;
    inner.type = w->of == TYPE_NONE ? TYPE_ANY : w->of;
    inner.of = TYPE_NONE;
    bool good = true;
    if (w->type == TYPE_MAP) {
        if (v->type != VALUE_MAP && !(v->type == VALUE_LIST && v->count == 0))
            return expected(w, v, ", write { name = value }");
        to->type = VALUE_MAP;
        for (size_t i = 0; i < v->count; i++) {
            struct filter_value item;
            char what[200];
            snprintf(what, sizeof what, "%s: \"%.*s\"", w->what, (int)min_size(v->keys[i].len, 60), v->keys[i].at);
            inner.what = what;
            if (convert(&inner, v->items + i, &item))
                value_put(&w->conf->arena, to, v->keys[i], item);
            else
                good = false;
        }
        return good;
    }
    if (v->type == VALUE_MAP && v->count)
        return expected(w, v, ", write { \"...\", \"...\" }");
    to->type = VALUE_LIST;
    bool one = v->type != VALUE_LIST && v->type != VALUE_MAP; /* a single element needs no braces */
    for (size_t i = 0; i < (one ? 1 : v->count); i++) {
        struct filter_value item;
        if (convert(&inner, one ? v : v->items + i, &item))
            value_add(&w->conf->arena, to, item);
        else
            good = false;
    }
    return good;
}

static bool convert(const struct wanted *w, const struct filter_value *v, struct filter_value *to)
{
    *to = (struct filter_value){.type = (enum value_type)w->type, .line = v->line, .file = v->file};
    switch (w->type) {
    case TYPE_BOOL:
        if (v->type == VALUE_TEXT && (str_equal(v->text, STR("true")) || str_equal(v->text, STR("false"))))
            to->integer = v->text.len == 4; /* of env() */
        else if (v->type == VALUE_BOOL)
            to->integer = v->integer;
        else
            return expected(w, v, "");
        to->number = (double)to->integer;
        return true;
    case TYPE_NUMBER: return to_number(w, v, to);
    case TYPE_TEXT:
        if (v->type != VALUE_TEXT)
            return expected(w, v, "");
        to->text = v->text;
        return true;
    case TYPE_DURATION: return to_duration(w, v, to);
    case TYPE_SIZE: return to_size(w, v, to);
    case TYPE_ADDRESS: return to_address(w, v, to);
    case TYPE_CIDR:
    case TYPE_TABLE: return to_table(w, v, to);
    case TYPE_LIST:
    case TYPE_MAP: return to_items(w, v, to);
    case TYPE_ANY:
        if (v->type == VALUE_ANY)
            return refuse(w, v, "a block cannot stand here");
        *to = *v;
        return true;
    default: return refuse(w, v, "no value is expected here");
    }
}

bool value_convert(struct mail_conf *conf, struct complaints *complaints, const struct filter_value *from,
                   enum filter_type type, enum filter_type of, const char *what, struct filter_value *to)
{
    struct wanted w = {conf, complaints, type, of, what, false, false};
    return convert(&w, from, to);
}

/* ---- presets ---- */

static struct str unquote(struct str s)
{
    s = str_trim(s);
    return s.len >= 2 && s.at[0] == '"' && s.at[s.len - 1] == '"' ? str_part(s, 1, s.len - 1) : s;
}

static bool preset_convert(struct filter *f, const struct filter_option *o, const char *what, struct filter_value *to)
{
    struct wanted w = {f->conf, f->complaints, o->type, o->of, what, true, true};
    struct str text = str_trim(arena_str(&f->conf->arena, str_of(o->preset)));
    struct filter_value from = value_text(arena_str(&f->conf->arena, unquote(text)));
    if (text.len >= 2 && text.at[0] == '{' && text.at[text.len - 1] == '}') {
        struct str rest = str_trim(str_part(text, 1, text.len - 1));
        from = (struct filter_value){.type = VALUE_LIST};
        while (rest.len)
            value_add(&f->conf->arena, &from, value_text(arena_str(&f->conf->arena, unquote(str_cut(&rest, ',')))));
    } else if (o->type == TYPE_ANY) { /* nothing says what it is: a number or truth if it reads like one */
        double n;
        if (number_of(text, &n))
            from = value_number(n);
        else if (str_equal(text, STR("true")) || str_equal(text, STR("false")))
            from = value_bool(text.len == 4);
    }
    from.file = f->file.at;
    from.line = f->line;
    return convert(&w, &from, to);
}

/* ---- the functions of filters/filter.h that are legal in open ---- */

void filter_needs_auth(struct filter *f)
{
    f->needs_auth = true;
}

void *filter_memory(const struct filter *f)
{
    return f->memory;
}

struct filter_text filter_source(const struct filter *f)
{
    return (struct filter_text){f->source.at, f->source.len};
}

static void remember(struct str name)
{
    for (size_t i = 0; i < opening.nnames; i++)
        if (str_equal(opening.names[i], name))
            return;
    if (opening.nnames < NAMES_MOST)
        opening.names[opening.nnames++] = name;
}

static bool is_element(struct str key)
{
    uint64_t n;
    return str_number(key, &n);
}

/* The unnamed elements as one list, in their order ("10" sorts before "2" in a map). */
static struct filter_value elements_of(struct filter *f)
{
    struct filter_value list = {.type = VALUE_LIST, .file = f->file.at, .line = f->line};
    for (unsigned i = 1;; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        const struct filter_value *v = value_get(f->raw, str_of(key));
        if (!v)
            return list;
        if (i == 1) {
            list.line = v->line;
            list.file = v->file;
        }
        value_add(&f->conf->arena, &list, *v);
    }
}

/* What every filter has: taken out by the loader, so a filter that declared one would never see it. Those of scripts are left in, for
 * their host. */
static const struct core_option { const char *name; enum { ALL, SCRIPTS, LATER } whose; } core_options[] = {
#define CORE_OPTION(name, whose, ...) {#name, whose},
#include "filters/core_options.def"
#undef CORE_OPTION
};

static const struct core_option *core_option(struct str name)
{
    for (size_t i = 0; i < countof(core_options); i++)
        if (str_equal(name, str_of(core_options[i].name)))
            return &core_options[i];
    return NULL;
}

static bool is_script_host(const struct filter *f)
{
    return f->def->name[0] == '.';
}

/* Something that no option is called was written for it: complain_unknown says so, with this name. */
static bool is_misspelt(const struct filter *f, const char *name)
{
    for (size_t i = 0; i < f->raw->count; i++) {
        bool known = is_element(f->raw->keys[i]);
        for (size_t k = 0; k < opening.nnames && !known; k++)
            known = str_equal(f->raw->keys[i], opening.names[k]);
        if (!known && nearest_name(f->raw->keys[i], &name, 1).at)
            return true;
    }
    return false;
}

static bool option_take(struct filter *f, const struct filter_option *o, struct filter_value *map)
{
    struct str name = str_of(o->name);
    bool unnamed = str_equal(name, STR("1"));
    const struct filter_value *raw = value_get(f->raw, name);
    struct filter_value list, value;
    char what[200];
    snprintf(what, sizeof what, "filter \"%.*s\": %s \"%s\"", STR_ARGS(f->name), unnamed ? "element" : "option",
             o->name);
    remember(arena_str(&f->conf->arena, name));
    const struct core_option *core = core_option(name);
    if (core && !(core->whose == SCRIPTS && is_script_host(f))) {
        filter_complain(f, NULL, NULL, 0, "declares the option \"%s\", which every filter has already", o->name);
        return false;
    }
    if (raw && unnamed && o->type == TYPE_LIST) {
        list = elements_of(f);
        raw =
            list.count == 1 && list.items[0].type == VALUE_LIST ? list.items : &list; /* filter "x" { { "a", "b" } } */
        raw = memcpy(arena_alloc(&f->conf->arena, sizeof *raw), raw, sizeof *raw);
    } else if (raw && unnamed && value_get(f->raw, STR("2"))) {
        filter_complain(f, value_get(f->raw, STR("2")), NULL, 0, "takes one unnamed element: %s",
                        value_type_name((enum value_type)o->type));
        return false;
    }
    if (raw) {
        struct wanted w = {f->conf, f->complaints, o->type, o->of, what, false, true};
        if (!convert(&w, raw, &value))
            return false;
    } else if (o->required && is_misspelt(f, o->name)) {
        return false; /* it is told so at what was written in its place */
    } else if (o->required) {
        const char *type = value_type_name((enum value_type)o->type), *doc = o->doc ? o->doc : "";
        if (unnamed)
            filter_complain(f, NULL, NULL, 0, "an element is missing, %s%s%s", type, *doc ? ": " : "", doc);
        else
            filter_complain(f, NULL, NULL, 0, "option \"%s\" is missing, %s%s%s", o->name, type, *doc ? ": " : "", doc);
        return false;
    } else if (!o->preset) {
        return true;
    } else if (!preset_convert(f, o, what, &value)) {
        return false;
    }
    value_put(&f->conf->arena, map, name, value);
    return true;
}

const struct filter_value *filter_options(struct filter *f, const struct filter_option *options, size_t n)
{
    struct filter_value *map = arena_alloc(&f->conf->arena, sizeof *map);
    *map = (struct filter_value){.type = VALUE_MAP, .file = f->file.at, .line = f->line};
    bool good = true;
    const char *at = (const char *)options;
    for (size_t i = 0; i < n; i++) {
        struct filter_option o = {0}; /* a module's may be shorter or longer than ours */
        size_t size = ((const struct filter_option *)(const void *)at)->size;
        must(size >= offsetof(struct filter_option, type));
        memcpy(&o, at, min_size(size, sizeof o));
        good &= option_take(f, &o, map);
        at += size;
    }
    opening.asked = true;
    if (!good)
        return NULL;
    f->options = map;
    return map;
}

void filter_complain(struct filter *f, const struct filter_value *at, const char *file, unsigned line,
                     const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct str where = f->file;
    uint32_t number = f->line;
    if (at && at->file && at->line) {
        where = str_of(at->file);
        number = at->line;
    } else if (file) {
        where = str_of(file);
        number = line;
    }
    if (f->complaints)
        complain(f->complaints, false, where, number, "filter \"%.*s\": %s", STR_ARGS(f->name), text);
    else
        log_say(LOG_ERROR, "filter \"%.*s\" (%.*s:%u): %s", STR_ARGS(f->name), STR_ARGS(where), number, text);
}

void filter_lessen(struct filter *f, unsigned stages, unsigned flags)
{
    f->stages &= stages;
    f->flags &= flags;
}

void filter_every(struct filter *f, unsigned id, unsigned seconds)
{
    if (f->nticks == countof(f->ticks) || !seconds) {
        filter_complain(f, NULL, NULL, 0,
                        seconds ? "wants more than %zu ticks" : "a tick needs a second at least (of %zu)",
                        countof(f->ticks));
        return;
    }
    f->ticks[f->nticks].id = id;
    f->ticks[f->nticks++].seconds = seconds;
}

const struct filter_value *filter_table(struct filter *f, const char *file)
{
    struct filter_value from = value_text(str_of(file)), *to = arena_alloc(&f->conf->arena, sizeof *to);
    from.file = f->file.at;
    from.line = f->line;
    char what[200];
    snprintf(what, sizeof what, "filter \"%.*s\"", STR_ARGS(f->name));
    return value_convert(f->conf, f->complaints, &from, TYPE_TABLE, TYPE_NONE, what, to) ? to : NULL;
}

/* ---- an instance ---- */

static void complain_unknown(struct filter *f)
{
    const char *names[NAMES_MOST], *of_all[countof(core_options)];
    size_t n = 0, nall = 0;
    for (size_t i = 0; i < countof(core_options); i++)
        if (core_options[i].whose == ALL || (core_options[i].whose == SCRIPTS && is_script_host(f)))
            of_all[nall++] = core_options[i].name;
    bool elements = false;
    for (size_t i = 0; i < opening.nnames; i++) {
        if (is_element(opening.names[i]))
            elements = true;
        else
            names[n++] = opening.names[i].at;
    }
    for (size_t i = 0; i < f->raw->count; i++) {
        struct str key = f->raw->keys[i];
        bool known = false;
        for (size_t k = 0; k < n && !known; k++)
            known = str_equal(key, str_of(names[k]));
        if (known || (is_element(key) && elements))
            continue;
        const struct core_option *core = core_option(key);
        if (core && core->whose == SCRIPTS && is_script_host(f))
            continue;
        struct str near = nearest_name(key, names, n);
        if (!near.at)
            near = nearest_name(key, of_all, nall);
        if (is_element(key))
            filter_complain(f, f->raw->items + i, NULL, 0, "takes no unnamed element: write name = value");
        else if (near.at)
            filter_complain(f, f->raw->items + i, NULL, 0, "unknown option \"%.*s\" (did you mean \"%s\"?)",
                            STR_ARGS(key), near.at);
        else
            filter_complain(f, f->raw->items + i, NULL, 0, "unknown option \"%.*s\"", STR_ARGS(key));
    }
}

bool filter_open(struct filter *f, struct complaints *complaints)
{
    unsigned before = complaints->errors;
    f->stages = f->def->stages;
    f->flags = f->def->flags;
    f->memory = f->def->filter_memory ? must_alloc(f->def->filter_memory) : NULL;
    f->complaints = complaints;
    opening.nnames = 0;
    opening.asked = false;
    bool opened = !f->def->open || f->def->open(f);
    /* Names are checked after open: a filter may ask in several steps, as the host of scripts does. */
    if (opened || opening.asked)
        complain_unknown(f);
    if (!opened && complaints->errors == before)
        filter_complain(f, NULL, NULL, 0, "could not be opened, and did not say why");
    f->opened = opened && complaints->errors == before;
    if (opened && !f->opened && f->def->close)
        f->def->close(f);
    f->complaints = NULL;
    return f->opened;
}

void filter_close(struct filter *f)
{
    if (f->opened && f->def->close)
        f->def->close(f);
    f->opened = false;
    free(f->memory);
    f->memory = NULL;
}
