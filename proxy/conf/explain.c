/* explain.c - prints the table of directives for people (`sluice check --defaults`) and for programs (--json, from which the manual page is
 * made). */
#include "conf/parts.h"

static const char *place_title(int place)
{
    return place == AT_TOP ? "At the top of the file:" : place_name((enum conf_place)place);
}

static struct str shown_name(const struct directive *d, char *room, size_t size)
{
    const char *format = d->kind == KIND_NAMED ? "%s \"NAME\" { }" : d->kind == KIND_BLOCK ? "%s { }" : "%s";
    snprintf(room, size, format, strcmp(d->name, "1") ? d->name : "(unnamed)");
    return str_of(room);
}

/* The default as it would be written in a file. "": none. */
static struct str shown_preset(const struct directive *d, char *room, size_t size)
{
    bool quoted = d->preset &&
                  (d->kind == KIND_CHOICE || d->type == TYPE_TEXT || d->type == TYPE_ANY || d->type == TYPE_DURATION ||
                   (d->type == TYPE_SIZE && !char_is_digit(d->preset[strlen(d->preset) - 1])));
    snprintf(room, size, quoted ? "\"%s\"" : "%s", d->preset ? d->preset : "");
    return str_of(room);
}

/* Writes the choices, `"off", "offer", "require": `, before the explanation. */
static void say_choices(FILE *to, const struct directive *d)
{
    struct str rest = str_of(d->choices ? d->choices : ""), word;
    for (int n = 0; (word = str_word(&rest)).at; n++)
        fprintf(to, "%s\"%.*s\"", n ? ", " : "", STR_ARGS(word));
    if (d->choices)
        fputs(": ", to);
}

void conf_say_defaults(FILE *to)
{
    char name[64], preset[160];
    for (int place = 0; place < PLACES; place++) {
        fprintf(to, "%s%s\n", place ? "\n" : "", place_title(place));
        for (size_t i = 0; directive_at(i); i++) {
            const struct directive *d = directive_at(i);
            bool block = d->kind == KIND_NAMED || d->kind == KIND_BLOCK;
            if ((int)d->where != place || d->later)
                continue;
            struct str value = shown_preset(d, preset, sizeof preset);
            fprintf(to, "    %-24s %-14s ", shown_name(d, name, sizeof name).at,
                    value.len     ? value.at
                    : block       ? ""
                    : d->required ? "(required)"
                                  : "-");
            say_choices(to, d);
            fprintf(to, "%s\n", d->doc);
        }
    }
}

/* ---- JSON ---- */

static void put_json(FILE *to, struct str text)
{
    fputc('"', to);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < ' ')
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

static void put_key(FILE *to, const char *key, struct str value)
{
    fprintf(to, ", \"%s\": ", key);
    put_json(to, value);
}

static void put_directive(FILE *to, const struct directive *d)
{
    char name[64], preset[160];
    struct str rest = str_of(d->choices ? d->choices : ""), word;
    fputs("  {\"where\": ", to);
    put_json(to, str_of(place_title((int)d->where)));
    put_key(to, "name", shown_name(d, name, sizeof name));
    put_key(to, "default", shown_preset(d, preset, sizeof preset));
    fprintf(to, ", \"required\": %s, \"values\": [", d->required ? "true" : "false");
    for (int n = 0; (word = str_word(&rest)).at; n++) {
        fputs(n ? ", " : "", to);
        put_json(to, word);
    }
    fputs("]", to);
    put_key(to, "doc", str_of(d->doc));
    fputs("}", to);
}

void conf_say_defaults_json(FILE *to)
{
    bool first = true;
    fputs("[\n", to);
    for (int place = 0; place < PLACES; place++)
        for (size_t i = 0; directive_at(i); i++) {
            const struct directive *d = directive_at(i);
            if ((int)d->where != place || d->later)
                continue;
            fputs(first ? "" : ",\n", to);
            put_directive(to, d);
            first = false;
        }
    fputs("\n]\n", to);
}
