/* json.h - JSON (RFC 8259): a writer that appends to a pipe, on one line, and a reader that builds a tree. A text that is not valid UTF-8 is
 * written as {"b64": "..."}. Pure. */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H
#include "base/pipe.h"
#include "base/value.h"

enum { JSON_DEEP = 31 };
struct json {
    struct pipe *out;
    struct arena *arena;      /* for base64 */
    uint32_t filled;          /* bit i: the object or list at depth i has an element already */
    unsigned depth;
};
/* Each writes one element. key: an ASCII literal, written without escapes; NULL in a list and at the top level. */
void json_open(struct json *, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *, char bracket);                 /* '}' or ']' */
void json_text(struct json *, const char *key, struct str);   /* STR_NONE: null */
void json_named(struct json *, struct str key, struct str);   /* for a key from outside: it is escaped, invalid UTF-8 becomes U+FFFD */
void json_integer(struct json *, const char *key, int64_t);
void json_seconds(struct json *, const char *key, uint64_t microseconds); /* 0.042, at most six decimals */
void json_real(struct json *, const char *key, double);       /* NaN and infinities, which JSON has no numbers for, become null */
void json_bool(struct json *, const char *key, bool);
void json_null(struct json *, const char *key);

/* json_read.c: parses one value, with white space around it; null becomes VALUE_NONE. Each value has its line, counted from 1, and no file.
 * More than JSON_DEEP levels and duplicate keys are errors. The tree stands in the arena and may point into `text`. Returns NULL, and
 * *value is the result; or a constant sentence that says what is wrong at *line. */
const char *json_read(struct str text, struct arena *, struct filter_value *value, uint32_t *line);
#endif
