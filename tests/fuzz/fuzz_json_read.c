/* fuzz_json_read.c - JSON texts. Claims: a value or a fault, whose line is one of the text's; keys are sorted and each
 * there once; no value is deeper than allowed, and each stands in a line of the text; any octets written as a text are
 * read as the same. */
#include "fuzz.h"
#include "wire/json.h"

static void judge(const struct filter_value *v, uint32_t lines, unsigned deep)
{
    must(deep <= JSON_DEEP && v->line >= 1 && v->line <= lines && v->count <= v->room);
    for (size_t i = 0; i < v->count; i++) {
        if (v->type == VALUE_MAP) {
            must(str_is_utf8(v->keys[i]));
            must(value_get(v, v->keys[i]) == &v->items[i]); /* by a search in what is sorted */
        }
        judge(&v->items[i], lines, deep + 1);
    }
    must(v->type != VALUE_TEXT || str_is_utf8(v->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n);
    struct arena arena = {0};
    struct filter_value value;
    uint32_t line, lines = 1;
    for (size_t i = 0; i < s.len; i++)
        lines += s.at[i] == '\n';
    const char *fault = json_read(s, &arena, &value, &line);
    must(line >= 1 && line <= lines);
    if (!fault)
        judge(&value, lines, 1);

    struct pipe out = {0};
    struct json j = {.out = &out, .arena = &arena};
    json_text(&j, NULL, s);
    must(!json_read(pipe_flat(&out, out.octets, &arena), &arena, &value, &line));
    must(value.type == (str_is_utf8(s) ? VALUE_TEXT : VALUE_MAP));
    if (value.type == VALUE_TEXT)
        fuzz_same(value.text, s);
    pipe_clear(&out);
    arena_reset(&arena);
    return 0;
}
