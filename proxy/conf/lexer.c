/* lexer.c - scans the braces of a configuration file for what Lua does not report: the line of each key, and keys that are written twice
 * (Lua keeps the last one without an error).
 *
 * It knows strings, comments, braces, `key =` and functions, and nothing else of Lua; it runs only on files that Lua has accepted. For a
 * table that is not written in place (a variable, a call), values get the place of the directive. */
#include "conf/parts.h"

enum token { END, NAME, TEXT, NUMBER, MARK };
struct lexer {
    struct loader *loader;
    struct conf_source *source;
    const char *at, *end;
    uint32_t line;
    struct braces **tail;
    unsigned depth;
    /* the current token and the two before it, to recognize what precedes a brace */
    struct piece {
        enum token kind;
        struct str text;
        uint32_t line;
        char mark;
    } now, last, before;
};

/* The end of a long bracket "[==[ ... ]==]" whose opening is at `at`, or NULL when there is none. */
static const char *long_end(const struct lexer *x, const char *at, const char **inside)
{
    const char *p = at + 1;
    while (p < x->end && *p == '=')
        p++;
    if (p >= x->end || *p != '[')
        return NULL;
    size_t level = (size_t)(p - at - 1);
    *inside = p + 1;
    for (p++; p < x->end; p++)
        if (*p == ']') {
            const char *q = p + 1;
            while (q < x->end && *q == '=')
                q++;
            if (q < x->end && *q == ']' && (size_t)(q - p - 1) == level)
                return q + 1;
        }
    return x->end;
}

static void count_lines(struct lexer *x, const char *to)
{
    for (; x->at < to; x->at++)
        x->line += *x->at == '\n';
}

static void skip_blank(struct lexer *x)
{
    const char *inside, *end;
    for (;;) {
        while (x->at < x->end && strchr(" \t\r\n\f\v", *x->at))
            x->line += *x->at++ == '\n';
        if (x->end - x->at < 2 || x->at[0] != '-' || x->at[1] != '-')
            return;
        x->at += 2;
        if (x->at < x->end && *x->at == '[' && (end = long_end(x, x->at, &inside)))
            count_lines(x, end);
        else
            while (x->at < x->end && *x->at != '\n')
                x->at++;
    }
}

static void next(struct lexer *x)
{
    const char *inside = NULL, *end;
    x->before = x->last;
    x->last = x->now;
    skip_blank(x);
    const char *from = x->at;
    x->now = (struct piece){END, STR_NONE, x->line, 0};
    if (from >= x->end)
        return;
    if (char_is_alpha(*from) || *from == '_') {
        while (x->at < x->end && (char_is_alnum(*x->at) || *x->at == '_'))
            x->at++;
        x->now.kind = NAME;
        x->now.text = (struct str){from, (size_t)(x->at - from)};
    } else if (char_is_digit(*from)) {
        while (x->at < x->end && (char_is_alnum(*x->at) || *x->at == '.'))
            x->at++;
        x->now.kind = NUMBER;
        x->now.text = (struct str){from, (size_t)(x->at - from)};
    } else if (*from == '"' || *from == '\'') {
        for (x->at++; x->at < x->end && *x->at != *from; x->at++) {
            if (*x->at == '\\' && x->at + 1 < x->end)
                x->at++;
            x->line += *x->at == '\n';
        }
        x->now.kind = TEXT;
        x->now.text = (struct str){from + 1, (size_t)(x->at - from - 1)};
        x->at += x->at < x->end;
    } else if (*from == '[' && (end = long_end(x, from, &inside))) {
        x->now.kind = TEXT;
        x->now.text = (struct str){inside, (size_t)(end - inside)};
        count_lines(x, end);
    } else {
        x->now.kind = MARK;
        x->now.mark = *x->at++;
    }
}

static bool is_mark(const struct lexer *x, char c)
{
    return x->now.kind == MARK && x->now.mark == c;
}

static bool is_word(const struct lexer *x, const char *word)
{
    return x->now.kind == NAME && str_equal(x->now.text, str_of(word));
}

/* Skips from `function` to after its `end`. `for` and `while` are not counted, because their `do` is. */
static void skip_function(struct lexer *x)
{
    unsigned open = 1;
    for (next(x); x->now.kind != END && open; next(x)) {
        if (is_word(x, "function") || is_word(x, "do") || is_word(x, "if") || is_word(x, "repeat"))
            open++;
        else if (is_word(x, "end") || is_word(x, "until"))
            open--;
        if (!open)
            break;
    }
}

static struct braces *walk_group(struct lexer *x);

/* Takes the key, if the entry has one; the next token is then the first of the value. */
static void take_key(struct lexer *x, struct braces *g, struct braces_key *e, unsigned *unnamed)
{
    struct lexer back = *x;
    struct piece first = x->now;
    e->line = first.line;
    if (first.kind == NAME) {
        next(x);
        if (is_mark(x, '=') && !(x->at < x->end && *x->at == '=')) {
            e->key = first.text;
            e->named = true;
            next(x);
            return;
        }
    } else if (is_mark(x, '[')) {
        next(x);
        struct piece key = x->now;
        next(x);
        bool closed = is_mark(x, ']');
        next(x);
        if (is_mark(x, '=') && !(x->at < x->end && *x->at == '=')) {
            e->key = closed && (key.kind == TEXT || key.kind == NUMBER) ? key.text : STR_NONE;
            e->named = true;
            next(x);
            return;
        }
    }
    *x = back;
    e->key = arena_print(&x->loader->conf->smtp.mail.arena, "%u", ++*unnamed);
}

static struct braces_key **bucket_of(const struct braces *g, struct str key)
{
    return &g->buckets[str_hash(key, 0) & (g->nbuckets - 1)];
}

static void index_entry(struct braces *g, struct braces_key *e)
{
    struct braces_key **at = bucket_of(g, e->key);
    e->before = *at;
    *at = e;
}

/* Uses a hash table, since tables with many thousand keys may be written in place. */
static void note_key(struct lexer *x, struct braces *g, struct braces_key *e)
{
    if (!e->key.at)
        return;
    if (g->count++ < g->nbuckets) {
        index_entry(g, e);
        return;
    }
    g->nbuckets = g->nbuckets ? g->nbuckets * 4 : 8;
    g->buckets = arena_alloc(&x->loader->conf->smtp.mail.arena, g->nbuckets * sizeof(struct braces_key *));
    for (struct braces_key *o = g->first; o; o = o->next)
        if (o->key.at)
            index_entry(g, o);
}

static void refuse_twice(struct lexer *x, const struct braces *g, const struct braces_key *e)
{
    const struct braces_key *first = NULL;
    if (!e->named || !e->key.at)
        return;
    for (const struct braces_key *o = e->before; o; o = o->before)
        if (o->named && str_equal(o->key, e->key))
            first = o;
    if (first)
        complain(x->loader->complaints, false, x->source->path, e->line,
                 "\"%.*s\" is written twice in the same braces, first in line %u", STR_ARGS(e->key), first->line);
}

/* Scans from after '{' to after its '}'. */
static struct braces *walk_group(struct lexer *x)
{
    struct arena *a = &x->loader->conf->smtp.mail.arena;
    struct braces *g = arena_alloc(a, sizeof *g);
    unsigned unnamed = 0;
    g->line = x->now.line;
    if (x->last.kind == TEXT && x->before.kind == NAME) {
        g->word = x->before.text;
        g->name = x->last.text;
        g->line = x->before.line;
    } else if (x->last.kind == NAME) {
        g->word = x->last.text;
        g->line = x->last.line;
    }
    *x->tail = g;
    x->tail = &g->next;
    x->depth++;
    next(x);
    while (x->now.kind != END && !is_mark(x, '}')) {
        if (is_mark(x, ',') || is_mark(x, ';')) {
            next(x);
            continue;
        }
        struct braces_key *e = arena_alloc(a, sizeof *e);
        if (g->last)
            g->last->next = e;
        else
            g->first = e;
        g->last = e;
        take_key(x, g, e, &unnamed);
        note_key(x, g, e);
        refuse_twice(x, g, e);
        unsigned parens = 0;
        while (x->now.kind != END && (parens || (!is_mark(x, ',') && !is_mark(x, ';') && !is_mark(x, '}')))) {
            if (is_mark(x, '(') || is_mark(x, '['))
                parens++;
            else if ((is_mark(x, ')') || is_mark(x, ']')) && parens)
                parens--;
            if (is_word(x, "function")) {
                skip_function(x);
            } else if (is_mark(x, '{') && x->depth < 64) {
                struct braces *inner = walk_group(x);
                if (!parens && !e->value)
                    e->value = inner;
                continue; /* the lexer is after the brace already */
            }
            next(x);
        }
    }
    next(x);
    x->depth--;
    return g;
}

void source_walk(struct loader *l, struct conf_source *source)
{
    struct lexer x = {.loader = l,
                      .source = source,
                      .at = source->text.at,
                      .end = source->text.at + source->text.len,
                      .line = 1,
                      .tail = &source->groups};
    next(&x);
    while (x.now.kind != END)
        if (is_mark(&x, '{'))
            walk_group(&x);
        else
            next(&x);
}

/* ---- places for values ---- */

static const struct braces_key *entry_find(const struct braces *g, struct str key)
{
    const struct braces_key *e = g->nbuckets ? *bucket_of(g, key) : NULL;
    while (e && !str_equal(e->key, key))
        e = e->before;
    return e;
}

static void place_values(struct filter_value *v, const struct braces *g)
{
    for (size_t i = 0; i < v->count; i++) {
        char number[24];
        struct str key;
        if (v->type == VALUE_MAP) {
            key = v->keys[i];
        } else {
            snprintf(number, sizeof number, "%zu", i + 1);
            key = str_of(number);
        }
        const struct braces_key *e = entry_find(g, key);
        if (!e)
            continue;
        v->items[i].line = e->line;
        if (e->value && (v->items[i].type == VALUE_MAP || v->items[i].type == VALUE_LIST))
            place_values(v->items + i, e->value);
    }
}

void item_place(struct loader *l, struct conf_item *item)
{
    struct str word = str_of(item->directive->name);
    for (struct braces *g = l->sources[item->source].groups; g; g = g->next) {
        bool same = g->line == item->line && !g->taken && str_equal(g->word, word);
        bool escaped = g->name.len && memchr(g->name.at, '\\', g->name.len);
        if (!same || (item->name.at && !escaped && !str_equal(g->name, item->name)))
            continue;
        g->taken = true;
        if (item->body.type == VALUE_MAP)
            place_values(&item->body, g);
        return;
    }
}
