/* str.h - a pointer and a length: a view of octets that somebody else owns. Case is folded for ASCII letters only, as in SMTP
 * (RFC 5321 2.4). */
#ifndef BASE_STR_H
#define BASE_STR_H
#include "base/defs.h"

struct str {
    const char *at; /* NULL: absent (STR_NONE); not NULL with len 0: the empty text. Not NUL-terminated unless said */
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
bool str_equal_nocase(struct str, struct str); /* ASCII letters compare without case */
bool str_starts(struct str, struct str prefix);
bool str_starts_nocase(struct str, struct str prefix);
bool str_ends_nocase(struct str, struct str suffix);
struct str str_trim(struct str);                     /* removes SP and HTAB at both ends */
/* Splits *rest at the first `by`: returns the part before it and leaves the part after it in *rest. Without a `by`, returns all of *rest,
 * which becomes STR_NONE. */
struct str str_cut(struct str *rest, char by);
struct str str_word(struct str *rest);               /* the next run without SP; STR_NONE when there is none */
size_t str_find(struct str in, struct str what);     /* in.len when absent */
bool str_number(struct str, uint64_t *value);        /* decimal digits only, no overflow, not empty */
enum { DECIMAL_ROOM = 20 };
struct str str_decimal(char room[DECIMAL_ROOM], uint64_t); /* its decimal digits, in `room`; not NUL-terminated */
uint64_t str_hash(struct str, uint64_t seed);        /* for hash tables; keys that a peer chooses need a random seed */
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
int char_hex(char); /* the value of a hexadecimal digit; -1: it is none */
/* Replaces the string *text by an allocated copy, NUL-terminated, and frees the old one. *text must start as text_none, a "" that is
 * not allocated; setting it to an empty text frees the last copy. */
extern char text_none[1];
void text_set(char **text, struct str);
bool str_has_control(struct str); /* has an octet below SP (HTAB included), or DEL */
bool str_is_utf8(struct str);  /* well formed, RFC 3629 */
bool str_is_ascii(struct str); /* no octet above 127 */
#endif
