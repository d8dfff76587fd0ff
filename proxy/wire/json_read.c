/* json_read.c - parses JSON (RFC 8259) into a tree of values, each with its line. Strict: what parsers treat differently (duplicate keys,
 * half a surrogate pair, invalid UTF-8) is an error. Depth is limited; time is linear except for sorting keys. */
#include "wire/json.h"
#include <stdlib.h>

struct reader {
    const char *at, *end;
    uint32_t line;
    unsigned depth;
    struct arena *arena;
    const char *fault; /* NULL: none yet */
};

static bool wrong(struct reader *r, const char *fault)
{
    r->fault = r->fault ? r->fault : fault;
    return false;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n'))
        r->line += *r->at++ == '\n';
}

/* Skips white space; if this octet is next, takes it and returns true. */
static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* ---- texts */

static bool read_hex(struct reader *r, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        int digit = r->at < r->end ? char_hex(*r->at) : -1;
        if (digit < 0)
            return wrong(r, "\\u needs four hexadecimal digits");
        *code = *code * 16 + (unsigned)digit;
    }
    return true;
}

static char *put_utf8(char *to, unsigned code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else {
        *to++ = (char)(code < 0x10000 ? 0xe0 | code >> 12 : 0xf0 | code >> 18);
        if (code >= 0x10000)
            *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

/* Parses the four digits after "\u". */
static bool read_code(struct reader *r, char **to)
{
    unsigned code, low;
    if (!read_hex(r, &code))
        return false;
    if (code >= 0xdc00 && code < 0xe000)
        return wrong(r, "half a surrogate pair");
    if (code >= 0xd800 && code < 0xdc00) {
        if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
            return wrong(r, "half a surrogate pair");
        r->at += 2;
        if (!read_hex(r, &low))
            return false;
        if (low < 0xdc00 || low >= 0xe000)
            return wrong(r, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *to = put_utf8(*to, code);
    return true;
}

static bool read_escape(struct reader *r, char **to)
{
    static const char names[] = "\"\\/bfnrt", octets[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->end ? *r->at++ : 0;
    const char *found = c ? strchr(names, c) : NULL;
    if (c == 'u')
        return read_code(r, to);
    if (!found)
        return wrong(r, "an unknown escape in a text");
    *(*to)++ = octets[found - names];
    return true;
}

/* Parses a text after its opening quote. The result is never longer than the text with its escapes. */
static bool read_text(struct reader *r, struct str *text)
{
    const char *close = r->at;
    while (close < r->end && *close != '"')
        close += *close == '\\' && r->end - close > 1 ? 2 : 1;
    if (close >= r->end)
        return wrong(r, "a text without its closing quote");
    char *from = arena_space(r->arena, (size_t)(close - r->at) + 1), *to = from;
    while (r->at < close) {
        unsigned char c = (unsigned char)*r->at++;
        if (c < ' ')
            return wrong(r, "a control octet in a text");
        if (c != '\\')
            *to++ = (char)c;
        else if (!read_escape(r, &to))
            return false;
    }
    r->at = close + 1;
    *to = 0;
    *text = (struct str){from, (size_t)(to - from)};
    return str_is_utf8(*text) || wrong(r, "a text that is no UTF-8");
}

/* ---- numbers and words */

static size_t digits(struct reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && char_is_digit(*r->at))
        r->at++;
    return (size_t)(r->at - from);
}

static bool read_number(struct reader *r, struct filter_value *v)
{
    const char *from = r->at;
    char room[64], *stop;
    r->at += *r->at == '-';
    bool zero = r->at < r->end && *r->at == '0', whole = true;
    size_t n = digits(r);
    if (!n || (zero && n > 1))
        return wrong(r, "expected a value");
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        whole = false;
        if (!digits(r))
            return wrong(r, "a number that ends with its point");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        whole = false;
        r->at += r->at < r->end && (*r->at == '+' || *r->at == '-');
        if (!digits(r))
            return wrong(r, "a number without its exponent");
    }
    size_t len = (size_t)(r->at - from);
    if (len >= sizeof room)
        return wrong(r, "a number of more than 63 digits");
    memcpy(room, from, len);
    room[len] = 0;
    *v = whole && len < 19 ? value_integer(strtoll(room, &stop, 10)) : value_number(strtod(room, &stop));
    return true;
}

static bool read_word(struct reader *r, struct filter_value *v)
{
    struct str rest = {r->at, (size_t)(r->end - r->at)};
    static const struct {
        struct str word;
        struct filter_value value;
    } words[] = {{{"true", 4}, {.type = VALUE_BOOL, .number = 1, .integer = 1}},
                 {{"false", 5}, {.type = VALUE_BOOL}},
                 {{"null", 4}, {.type = VALUE_NONE}}};
    for (size_t i = 0; i < countof(words); i++)
        if (str_starts(rest, words[i].word)) {
            *v = words[i].value;
            r->at += words[i].word.len;
            return true;
        }
    return wrong(r, "expected a value");
}

/* ---- lists and maps */

static bool read_value(struct reader *, struct filter_value *);

static bool read_list(struct reader *r, struct filter_value *v)
{
    *v = (struct filter_value){.type = VALUE_LIST};
    if (take(r, ']'))
        return true;
    do {
        struct filter_value item;
        if (!read_value(r, &item))
            return false;
        value_add(r->arena, v, item);
    } while (take(r, ','));
    return take(r, ']') || wrong(r, "expected , or ]");
}

struct member {
    struct str key;
    struct filter_value value;
};

static int by_key(const void *a, const void *b)
{
    struct str x = ((const struct member *)a)->key, y = ((const struct member *)b)->key;
    int order = min_size(x.len, y.len) ? memcmp(x.at, y.at, min_size(x.len, y.len)) : 0;
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

/* Builds a map from its members; they are sorted once, not at each insertion. */
static bool make_map(struct reader *r, struct member *members, size_t n, struct filter_value *v)
{
    if (n > 1)
        qsort(members, n, sizeof *members, by_key);
    v->items = arena_alloc(r->arena, (n + 1) * sizeof *v->items);
    v->keys = arena_alloc(r->arena, (n + 1) * sizeof *v->keys);
    v->count = v->room = n;
    for (size_t i = 0; i < n; i++) {
        if (i && str_equal(members[i].key, members[i - 1].key)) {
            r->line =
                members[i].value.line > members[i - 1].value.line ? members[i].value.line : members[i - 1].value.line;
            return wrong(r, "a key that is there twice");
        }
        v->keys[i] = members[i].key;
        v->items[i] = members[i].value;
    }
    return true;
}

static bool read_map(struct reader *r, struct filter_value *v)
{
    struct member *members = NULL;
    size_t n = 0, room = 0;
    *v = (struct filter_value){.type = VALUE_MAP};
    if (take(r, '}'))
        return true;
    do {
        if (n == room) {
            struct member *more = arena_alloc(r->arena, (room = room ? room * 2 : 4) * sizeof *more);
            if (n)
                memcpy(more, members, n * sizeof *more);
            members = more;
        }
        if (!take(r, '"'))
            return wrong(r, "expected a key in quotes");
        if (!read_text(r, &members[n].key))
            return false;
        if (!take(r, ':'))
            return wrong(r, "expected : behind a key");
        if (!read_value(r, &members[n++].value))
            return false;
    } while (take(r, ','));
    return take(r, '}') ? make_map(r, members, n, v) : wrong(r, "expected , or }");
}

static bool read_value(struct reader *r, struct filter_value *v)
{
    bool good;
    skip_space(r);
    uint32_t line = r->line;
    if (r->at == r->end)
        return wrong(r, "the text ends too early");
    if (r->depth == JSON_DEEP)
        return wrong(r, "more than 31 levels");
    r->depth++;
    if (take(r, '{')) {
        good = read_map(r, v);
    } else if (take(r, '[')) {
        good = read_list(r, v);
    } else if (take(r, '"')) {
        struct str text;
        good = read_text(r, &text);
        *v = value_text(good ? text : STR(""));
    } else {
        good = *r->at == '-' || char_is_digit(*r->at) ? read_number(r, v) : read_word(r, v);
    }
    r->depth--;
    v->line = line;
    return good;
}

const char *json_read(struct str text, struct arena *arena, struct filter_value *value, uint32_t *line)
{
    struct reader r = {.at = text.at, .end = text.at + text.len, .line = 1, .arena = arena};
    *value = (struct filter_value){.type = VALUE_NONE};
    if (read_value(&r, value)) {
        skip_space(&r);
        if (r.at < r.end)
            wrong(&r, "something stands behind the value");
    }
    *line = r.line;
    return r.fault;
}
