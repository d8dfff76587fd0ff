/* str.h - octets with a length: a view that owns nothing. Case folding is ASCII only, as SMTP's is (RFC 5321 2.4). */
#ifndef BASE_STR_H
#define BASE_STR_H
#include "base/defs.h"

struct str {
    const char *at; /* NULL: there is none; at != NULL with len 0 is a value */
    size_t len;
};

#define STR(literal) ((struct str){("" literal), sizeof(literal) - 1})
#define STR_NONE ((struct str){NULL, 0})
#define STR_ARGS(s) (int)(s).len, (s).at ? (s).at : "" /* for "%.*s" */

static inline struct str str_of(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}
static inline struct str str_part(struct str s, size_t from, size_t to) /* clamped to s */
{
    to = to > s.len ? s.len : to;
    from = from > to ? to : from;
    return (struct str){s.at + from, to - from};
}
static inline bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}
bool str_equal_nocase(struct str, struct str); /* ASCII letters of either case are the same */
bool str_starts(struct str, struct str prefix);
bool str_starts_nocase(struct str, struct str prefix);
bool str_ends_nocase(struct str, struct str suffix);
struct str str_trim(struct str);                     /* without SP and HTAB at both ends */
/* Cuts *rest at the first `by`: returns what is before it, leaves what is behind. *rest becomes STR_NONE at the end. */
struct str str_cut(struct str *rest, char by);
struct str str_word(struct str *rest);               /* the next run without SP; STR_NONE when there is none */
size_t str_find(struct str in, struct str what);     /* in.len when absent */
bool str_number(struct str, uint64_t *value);        /* decimal digits only, no overflow, not empty */
enum { DECIMAL_ROOM = 20 };
struct str str_decimal(char room[DECIMAL_ROOM], uint64_t); /* its digits, in that room; without a NUL behind them */
uint64_t str_hash(struct str, uint64_t seed);        /* for tables in memory; not for keys from peers without a seed */
static inline char char_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline bool char_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool char_is_alpha(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
static inline bool char_is_alnum(char c)
{
    return char_is_digit(c) || char_is_alpha(c);
}
int char_hex(char); /* 0..15, or -1 */
/* A text that can be set again and again, in memory of its own: *text begins as text_none (""), which costs nothing. */
extern char text_none[1];
void text_set(char **text, struct str);
bool str_has_control(struct str); /* an octet below SP, HTAB among them, or DEL */
bool str_is_utf8(struct str);  /* well formed, RFC 3629 */
bool str_is_ascii(struct str); /* no octet above 127 */
#endif
