/* json.c - writes JSON values in sequence; the only state is the depth and where a comma is needed. */
#include "wire/json.h"
#include "wire/codec.h"
#include <math.h>

static void quote(struct json *j, struct str s)
{
    bool utf8 = str_is_utf8(s);
    size_t from = 0;
    pipe_put(j->out, STR("\""));
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        bool odd = c > 127 && !utf8;
        if (c >= ' ' && c != '"' && c != '\\' && c != 127 && !odd)
            continue;
        pipe_put(j->out, str_part(s, from, i));
        from = i + 1;
        if (odd)
            pipe_put(j->out, STR("\\ufffd"));
        else if (c == '"' || c == '\\')
            pipe_print(j->out, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            pipe_print(j->out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else
            pipe_print(j->out, "\\u%04x", c);
    }
    pipe_put(j->out, str_part(s, from, s.len));
    pipe_put(j->out, STR("\""));
}

static void begin(struct json *j, const char *key)
{
    if (j->filled & (1u << j->depth))
        pipe_put(j->out, STR(","));
    j->filled |= 1u << j->depth;
    if (key)
        pipe_print(j->out, "\"%s\":", key);
}

void json_open(struct json *j, const char *key, char bracket)
{
    begin(j, key);
    must(j->depth < JSON_DEEP);
    j->depth++;
    j->filled &= ~(1u << j->depth);
    pipe_copy(j->out, &bracket, 1);
}

void json_close(struct json *j, char bracket)
{
    must(j->depth > 0);
    j->depth--;
    pipe_copy(j->out, &bracket, 1);
}

static void put_text(struct json *j, struct str s)
{
    if (!s.at) {
        pipe_put(j->out, STR("null"));
    } else if (str_is_utf8(s)) {
        quote(j, s);
    } else {
        pipe_put(j->out, STR("{\"b64\":\""));
        pipe_put(j->out, base64_encode(s, j->arena));
        pipe_put(j->out, STR("\"}"));
    }
}

void json_text(struct json *j, const char *key, struct str s)
{
    begin(j, key);
    put_text(j, s);
}

void json_named(struct json *j, struct str key, struct str s)
{
    begin(j, NULL);
    quote(j, key);
    pipe_put(j->out, STR(":"));
    put_text(j, s);
}

void json_integer(struct json *j, const char *key, int64_t n)
{
    begin(j, key);
    pipe_print(j->out, "%lld", (long long)n);
}

void json_seconds(struct json *j, const char *key, uint64_t microseconds)
{
    char text[40];
    int n = snprintf(text, sizeof text, "%llu.%06llu", (unsigned long long)(microseconds / 1000000),
                     (unsigned long long)(microseconds % 1000000));
    while (n > 1 && text[n - 1] == '0')
        n--;
    if (n > 1 && text[n - 1] == '.')
        n--;
    begin(j, key);
    pipe_copy(j->out, text, (size_t)n);
}

void json_real(struct json *j, const char *key, double n)
{
    begin(j, key);
    if (isfinite(n))
        pipe_print(j->out, "%.10g", n);
    else
        pipe_put(j->out, STR("null"));
}

void json_bool(struct json *j, const char *key, bool is)
{
    begin(j, key);
    pipe_put(j->out, is ? STR("true") : STR("false"));
}

void json_null(struct json *j, const char *key)
{
    begin(j, key);
    pipe_put(j->out, STR("null"));
}
