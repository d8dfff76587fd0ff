/* codec.c - base64 as mail uses it: RFC 2045 6.8. All output is in the arena; nothing is kept. */
#include "wire/codec.h"

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (char_is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct str s, struct arena *arena, struct str *out)
{
    char *text = arena_space(arena, s.len / 4 * 3 + 4);
    size_t n = 0, digits = 0, pads = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        int value = sextet(c);
        if (c == '=' && ++pads <= 2)
            continue;
        if (value < 0 || pads) /* nothing may stand behind the padding */
            return false;
        bits = bits << 6 | (uint32_t)value;
        if (++digits % 4 == 0) {
            text[n++] = (char)(bits >> 16);
            text[n++] = (char)(bits >> 8);
            text[n++] = (char)bits;
        }
    }
    size_t left = digits % 4;
    /* Padding may be missing, but not wrong. */
    if (left == 1 || (pads && left + pads != 4))
        return false;
    if (left >= 2)
        text[n++] = (char)(left == 2 ? bits >> 4 : bits >> 10);
    if (left == 3)
        text[n++] = (char)(bits >> 2);
    text[n] = 0;
    *out = (struct str){text, n};
    return true;
}

bool base64_decode_any(struct str s, struct arena *arena, struct str *out)
{
    char *text = arena_space(arena, s.len / 4 * 3 + 4);
    size_t n = 0, digits = 0, all = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i <= s.len; i++) {
        int value = i < s.len ? sextet(s.at[i]) : -1;
        bool ends = i == s.len || s.at[i] == '=';
        if (value >= 0) {
            bits = bits << 6 | (uint32_t)value;
            digits++;
            all++;
        }
        if (digits == 4 || (ends && digits >= 2)) { /* two digits are an octet, three are two */
            bits <<= 6 * (4 - digits);
            for (size_t octet = 0; octet + 1 < digits; octet++)
                text[n++] = (char)(bits >> (16 - 8 * octet));
        }
        if (digits == 4 || ends)
            digits = 0;
    }
    text[n] = 0;
    *out = (struct str){text, n};
    return all || !s.len;
}

static size_t encode(struct str s, char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < s.len; i += 3) {
        size_t have = min_size(3, s.len - i);
        uint32_t bits = (uint32_t)(unsigned char)s.at[i] << 16;
        if (have > 1)
            bits |= (uint32_t)(unsigned char)s.at[i + 1] << 8;
        if (have > 2)
            bits |= (unsigned char)s.at[i + 2];
        text[n++] = digits[bits >> 18];
        text[n++] = digits[bits >> 12 & 63];
        text[n++] = have > 1 ? digits[bits >> 6 & 63] : '=';
        text[n++] = have > 2 ? digits[bits & 63] : '=';
    }
    return n;
}

struct str base64_encode(struct str s, struct arena *arena)
{
    char *text = arena_space(arena, (s.len + 2) / 3 * 4 + 1);
    size_t n = encode(s, text);
    text[n] = 0;
    return (struct str){text, n};
}
