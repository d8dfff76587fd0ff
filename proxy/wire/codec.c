/* codec.c - base64 and Q as mail uses them: RFC 2045 6.7, 6.8 (what to pass over), RFC 2047 2 to 6 (encoded words).
 *
 * Reads leniently, as mail is written; writes strictly. All output is in the arena; nothing is kept. */
#include "wire/codec.h"

/* ---- base64 ---------------------------------------------------------------------------------------------------------
 */

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

/* ---- encoded words, read --------------------------------------------------------------------------------------------
 */

enum charset { UTF8, ASCII, LATIN1, LATIN9, WINDOWS, UNKNOWN };

static enum charset charset_of(struct str name)
{
    static const struct {
        const char *name;
        enum charset charset;
    } names[] = {
        {"utf-8", UTF8},           {"utf8", UTF8},         {"us-ascii", ASCII},
        {"ascii", ASCII},          {"iso-8859-1", LATIN1}, {"latin1", LATIN1},
        {"iso-8859-15", LATIN9},   {"latin-9", LATIN9},    {"latin9", LATIN9},
        {"windows-1252", WINDOWS}, {"cp1252", WINDOWS},
    };
    for (size_t i = 0; i < countof(names); i++)
        if (str_equal_nocase(name, str_of(names[i].name)))
            return names[i].charset;
    return UNKNOWN;
}

static uint32_t codepoint(enum charset charset, unsigned char c)
{
    static const uint16_t windows[32] = {
        0x20AC, '?',    0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
        0x2039, 0x0152, '?',    0x017D, '?',    '?',    0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, '?',    0x017E, 0x0178,
    };
    static const struct {
        unsigned char octet;
        uint16_t is;
    } latin9[] = {{0xA4, 0x20AC}, {0xA6, 0x0160}, {0xA8, 0x0161}, {0xB4, 0x017D},
                  {0xB8, 0x017E}, {0xBC, 0x0152}, {0xBD, 0x0153}, {0xBE, 0x0178}};
    if (charset == ASCII && c > 127)
        return '?';
    if (charset == WINDOWS && c >= 0x80 && c < 0xA0)
        return windows[c - 0x80];
    for (size_t i = 0; charset == LATIN9 && i < countof(latin9); i++)
        if (latin9[i].octet == c)
            return latin9[i].is;
    return c;
}

struct text {
    char *at;
    size_t len;
};

static void add(struct text *t, enum charset charset, char octet)
{
    uint32_t c = charset == UTF8 ? 0 : codepoint(charset, (unsigned char)octet);
    if (charset == UTF8) {
        t->at[t->len++] = octet;
    } else if (c < 0x80) {
        t->at[t->len++] = (char)c;
    } else if (c < 0x800) {
        t->at[t->len++] = (char)(0xC0 | c >> 6);
        t->at[t->len++] = (char)(0x80 | (c & 63));
    } else {
        t->at[t->len++] = (char)(0xE0 | c >> 12);
        t->at[t->len++] = (char)(0x80 | (c >> 6 & 63));
        t->at[t->len++] = (char)(0x80 | (c & 63));
    }
}

struct word { /* one encoded word, taken apart */
    enum charset charset;
    bool q;
    struct str text;
    size_t len; /* of all of it */
};

/* RFC 2047 2: "=?" charset ["*" language] "?" encoding "?" text "?=", without spaces. Lengths over 75 are taken too. */
static bool find_word(struct str s, struct word *w)
{
    if (!str_starts(s, STR("=?")))
        return false;
    struct str rest = str_part(s, 2, s.len);
    /* Each part ends at the next "?", so that a text full of beginnings is still walked once. */
    struct str charset = str_cut(&rest, '?'), encoding = str_cut(&rest, '?');
    w->text = str_cut(&rest, '?');
    if (!rest.at || !rest.len || rest.at[0] != '=' || encoding.len != 1)
        return false;
    for (const char *p = s.at; p < rest.at; p++)
        if ((unsigned char)*p <= ' ')
            return false;
    w->charset = charset_of(str_cut(&charset, '*'));
    w->q = char_lower(encoding.at[0]) == 'q';
    w->len = (size_t)(rest.at + 1 - s.at);
    return w->charset != UNKNOWN && (w->q || char_lower(encoding.at[0]) == 'b');
}

static bool decode_word(const struct word *w, struct text *t, struct arena *arena)
{
    if (!w->q) {
        struct str octets;
        if (!base64_decode(w->text, arena, &octets))
            return false;
        for (size_t i = 0; i < octets.len; i++)
            add(t, w->charset, octets.at[i]);
        return true;
    }
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.at[i];
        int high = c == '=' && w->text.len - i > 2 ? char_hex(w->text.at[i + 1]) : -1;
        int low = high >= 0 ? char_hex(w->text.at[i + 2]) : -1;
        if (low >= 0) {
            c = (char)(high << 4 | low);
            i += 2;
        }
        add(t, w->charset, low < 0 && c == '_' ? ' ' : c);
    }
    return true;
}

/* What adjacent words gave is UTF-8 only as a whole: many senders cut within a character. Octets that are not become
 * '?'. */
static void mend(struct text *t, size_t from, size_t to)
{
    for (size_t i = from; i < to;) {
        size_t n = 1;
        while (n <= 4 && i + n <= to && !str_is_utf8((struct str){t->at + i, n}))
            n++;
        if (n > 4 || i + n > to) {
            t->at[i] = '?';
            n = 1;
        }
        i += n;
    }
}

struct str words_decode(struct str s, struct arena *arena)
{
    if (str_find(s, STR("=?")) == s.len)
        return s;
    struct text t = {arena_space(arena, s.len * 3 + 1), 0};
    size_t run = SIZE_MAX; /* where the current row of encoded words began in t */
    size_t gap = 0;        /* where the last of them ended in t; white space may be behind it */
    for (size_t i = 0; i < s.len;) {
        struct word w;
        size_t before = t.len;
        if (s.at[i] == '=' && find_word(str_part(s, i, s.len), &w)) {
            struct text to = {t.at,
                              run == SIZE_MAX ? t.len : gap}; /* RFC 2047 6.2: no white space between two of them */
            if (decode_word(&w, &to, arena)) {
                run = run == SIZE_MAX ? before : run;
                t.len = gap = to.len;
                i += w.len;
                continue;
            }
        }
        if (run != SIZE_MAX && s.at[i] != ' ' && s.at[i] != '\t') {
            mend(&t, run, gap);
            run = SIZE_MAX;
        }
        t.at[t.len++] = s.at[i++];
    }
    if (run != SIZE_MAX)
        mend(&t, run, gap);
    t.at[t.len] = 0;
    return (struct str){t.at, t.len};
}

/* ---- encoded words, written -----------------------------------------------------------------------------------------
 */

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] > 126 || ((unsigned char)s.at[i] < ' ' && s.at[i] != '\t'))
            return false;
    return str_find(s, STR("=?")) == s.len; /* else it would be read as what it is not */
}

struct str words_encode(struct str s, struct arena *arena)
{
    enum { OCTETS = 45 }; /* 60 base64 digits and 12 around them: 72 of the 75 of RFC 2047 2 */
    if (is_plain(s))
        return s;
    char *text = arena_space(arena, (s.len / (OCTETS - 3) + 1) * 76);
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        size_t len = min_size(OCTETS, s.len - i);
        /* RFC 2047 5: no character is parted. */
        for (size_t back = 0; back < 3 && i + len < s.len && ((unsigned char)s.at[i + len] & 0xC0) == 0x80; back++)
            len--;
        memcpy(text + n, n ? " =?UTF-8?B?" : "=?UTF-8?B?", n ? 11 : 10);
        n += n ? 11 : 10;
        n += encode(str_part(s, i, i + len), text + n);
        memcpy(text + n, "?=", 2);
        n += 2;
        i += len;
    }
    text[n] = 0;
    return (struct str){text, n};
}
