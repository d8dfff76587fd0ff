/* str.c - views of octets: compare, cut, find. */
#include "base/str.h"

bool str_equal_nocase(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (char_lower(a.at[i]) != char_lower(b.at[i]))
            return false;
    return true;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.at, prefix.at, prefix.len) == 0);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_equal_nocase(str_part(s, 0, prefix.len), prefix);
}

bool str_ends_nocase(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_equal_nocase(str_part(s, s.len - suffix.len, s.len), suffix);
}

struct str str_trim(struct str s)
{
    while (s.len && (s.at[0] == ' ' || s.at[0] == '\t'))
        s.at++, s.len--;
    while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

struct str str_cut(struct str *rest, char by)
{
    if (!rest->at)
        return STR_NONE;
    const char *found = rest->len ? memchr(rest->at, by, rest->len) : NULL;
    struct str head = *rest;
    if (!found) {
        *rest = STR_NONE;
        return head;
    }
    head.len = (size_t)(found - rest->at);
    *rest = (struct str){found + 1, rest->len - head.len - 1};
    return head;
}

struct str str_word(struct str *rest)
{
    while (rest->len && rest->at[0] == ' ')
        rest->at++, rest->len--;
    if (!rest->len)
        return STR_NONE;
    struct str word = {rest->at, 0};
    while (rest->len && rest->at[0] != ' ')
        rest->at++, rest->len--, word.len++;
    return word;
}

size_t str_find(struct str in, struct str what)
{
    if (what.len == 0)
        return 0;
    const char *found = in.len ? memmem(in.at, in.len, what.at, what.len) : NULL;
    return found ? (size_t)(found - in.at) : in.len;
}

bool str_number(struct str s, uint64_t *value)
{
    uint64_t n = 0;
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!char_is_digit(s.at[i]))
            return false;
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(s.at[i] - '0'), &n))
            return false;
    }
    *value = n;
    return true;
}

/* Combines both halves of the 128-bit product, so that without the seed nobody can construct texts that collide. */
static uint64_t multiplied(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Eight octets at a time; the last eight may overlap the ones before. */
uint64_t str_hash(struct str s, uint64_t seed)
{
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u ^ (s.len * 0xD6E8FEB86659FD93u), x = 0;
    for (size_t i = 0; i < s.len && s.len >= sizeof x; i += sizeof x) {
        memcpy(&x, s.at + min_size(i, s.len - sizeof x), sizeof x);
        h = multiplied(h ^ x, 0xA0761D6478BD642Fu);
    }
    if (s.len < sizeof x)
        for (size_t i = 0; i < s.len; i++)
            x = x << 8 | (unsigned char)s.at[i];
    return multiplied(multiplied(h ^ x, 0xE7037ED1A0B428DBu), 0xD6E8FEB86659FD93u);
}

int char_hex(char c)
{
    if (char_is_digit(c))
        return c - '0';
    c = char_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool str_is_ascii(struct str s)
{
    const uint64_t high = UINT64_MAX / 255 * 128;
    size_t i = 0;
    for (uint64_t x; i + sizeof x <= s.len; i += sizeof x) {
        memcpy(&x, s.at + i, sizeof x);
        if (x & high)
            return false;
    }
    for (; i < s.len; i++)
        if ((unsigned char)s.at[i] > 127)
            return false;
    return true;
}

/* Eight octets at a time, since every reply and many facts are checked. */
bool str_has_control(struct str s)
{
    const uint64_t ones = UINT64_MAX / 255, high = ones * 128;
    size_t i = 0;
    for (uint64_t x; i + sizeof x <= s.len; i += sizeof x) {
        memcpy(&x, s.at + i, sizeof x);
        uint64_t below = (x - ones * ' ') & ~x, del = x ^ ones * 127; /* at the top bit of an octet */
        if ((below | ((del - ones) & ~del)) & high)
            return true;
    }
    for (; i < s.len; i++)
        if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
            return true;
    return false;
}

/* RFC 3629 section 4: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool str_is_utf8(struct str s)
{
    if (str_is_ascii(s))
        return true;
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.at[i++];
        if (c < 0x80)
            continue;
        unsigned more = c >= 0xC2 && c <= 0xDF ? 1 : (c & 0xF0) == 0xE0 ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0;
        if (!more || s.len - i < more)
            return false;
        unsigned char next = (unsigned char)s.at[i];
        if ((c == 0xE0 && next < 0xA0) || (c == 0xED && next > 0x9F) || (c == 0xF0 && next < 0x90) ||
            (c == 0xF4 && next > 0x8F))
            return false;
        while (more--)
            if (((unsigned char)s.at[i++] & 0xC0) != 0x80)
                return false;
    }
    return true;
}

char text_none[1];

void text_set(char **text, struct str s)
{
    char *copy = text_none;
    if (s.len) {
        copy = must_alloc(s.len + 1);
        memcpy(copy, s.at, s.len);
    }
    if (*text != text_none)
        free(*text);
    *text = copy;
}

struct str str_decimal(char room[DECIMAL_ROOM], uint64_t n)
{
    size_t at = DECIMAL_ROOM;
    do
        room[--at] = (char)('0' + n % 10);
    while (n /= 10);
    return (struct str){room + at, DECIMAL_ROOM - at};
}
