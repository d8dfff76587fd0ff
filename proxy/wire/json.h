/* json.h - JSON (RFC 8259) written as it goes, no tree, one line, and read into a tree. A text that is no UTF-8 is written as {"b64": "..."}. Pure. */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H
#include "base/pipe.h"
#include "base/value.h"

enum { JSON_DEEP = 31 };
struct json {
    struct pipe *out;
    struct arena *arena;      /* for base64 */
    uint32_t filled;          /* bit i: something stands in the braces or brackets at depth i */
    unsigned depth;
};
/* Keys are ASCII literals of ours, written as they are; NULL in a list and at the top. */
void json_open(struct json *, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *, char bracket);                 /* '}' or ']' */
void json_text(struct json *, const char *key, struct str);   /* NONE: null */
void json_named(struct json *, struct str key, struct str);   /* a key that anybody made; one that is no UTF-8: each odd octet as U+FFFD */
void json_integer(struct json *, const char *key, int64_t);
void json_seconds(struct json *, const char *key, uint64_t microseconds); /* 0.042, at most six decimals */
void json_real(struct json *, const char *key, double);       /* what JSON has no number for is null */
void json_bool(struct json *, const char *key, bool);
void json_null(struct json *, const char *key);

/* json_read.c: one value, white space around it; null is VALUE_NONE. Each value knows its line, from 1, but no file. At most JSON_DEEP levels;
 * a key that is there twice is a fault. All of it stands in the arena, but for `text`. NULL: *value is it; else what is wrong at *line. */
const char *json_read(struct str text, struct arena *, struct filter_value *value, uint32_t *line);
#endif
