/* words.c - decodes encoded words, and converts any octets to clean text. See words.h. */
#include "wire/words.h"
#include "wire/words_find.h"
#include "wire/codec.h"

/* ---- octets to clean text -------------------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t len, room;
    bool control; /* a run of control characters has just been written as a space */
};

/* The output has room for three octets per input octet (U+FFFD), and grows for charset conversions that need more. */
static void text_room(struct text *t, size_t octets, struct arena *arena)
{
    if (t->room - t->len > octets * 3)
        return;
    char *old = t->at;
    t->room = t->room * 2 + octets * 3 + 1;
    t->at = arena_space(arena, t->room);
    if (t->len)
        memcpy(t->at, old, t->len);
}

/* Length of the UTF-8 character at the head of s (RFC 3629). *whole false: it is invalid, and the length is that of the octets that one
 * U+FFFD replaces: the truncated beginning of a character, else a single octet (Unicode 3.9, maximal subparts). */
static size_t character(struct str s, bool *whole)
{
    unsigned char c = (unsigned char)s.at[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xC2 && c < 0xE0 ? 2
               : c >= 0xE0 && c < 0xF0 ? 3
               : c >= 0xF0 && c < 0xF5 ? 4
                                       : 0,
           have = 1;
    unsigned char least = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, most = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    while (have < n && have < s.len && (unsigned char)s.at[have] >= least && (unsigned char)s.at[have] <= most) {
        have++;
        least = 0x80;
        most = 0xBF;
    }
    *whole = have == n;
    return have;
}

static bool is_control(struct str c)
{
    unsigned char first = (unsigned char)c.at[0];
    return first < ' ' || first == 127 || (c.len == 2 && first == 0xC2 && (unsigned char)c.at[1] < 0xA0);
}

static void text_put(struct text *t, struct str octets, struct arena *arena)
{
    text_room(t, octets.len, arena);
    for (size_t i = 0; i < octets.len;) {
        bool whole;
        size_t n = character(str_part(octets, i, octets.len), &whole);
        struct str c = whole ? str_part(octets, i, i + n) : STR("\xef\xbf\xbd");
        bool control = is_control(c);
        if (control && !t->control) {
            t->at[t->len++] = ' ';
        } else if (!control) {
            memcpy(t->at + t->len, c.at, c.len);
            t->len += c.len;
        }
        t->control = control;
        i += n;
    }
}

struct str words_clean(struct str octets, struct arena *arena)
{
    struct text t = {0};
    text_room(&t, octets.len, arena);
    text_put(&t, octets, arena);
    t.at[t.len] = 0;
    return (struct str){t.at, t.len};
}

/* ---- encoded words --------------------------------------------------------------------------------------------- */

/* RFC 2047 2: "=?" charset ["*" language] "?" encoding "?" text "?=", of any length; white space in the text is accepted, since some senders
 * write it. *end caches the offset of a "?=", so that it is searched once for all possible beginnings before it. */
bool words_find(struct str s, size_t from, size_t *end, struct encoded_word *w)
{
    size_t at = from + 2, charset = at;
    if (s.len - from < 2 || s.at[from] != '=' || s.at[from + 1] != '?')
        return false;
    while (at < s.len && at - charset <= WORD_CHARSET_MOST && s.at[at] != '?' && (unsigned char)s.at[at] > ' ')
        at++;
    if (s.len - at < 4 || s.at[at] != '?' || s.at[at + 2] != '?')
        return false;
    char encoding = char_lower(s.at[at + 1]);
    struct str name = str_part(s, charset, at);
    w->charset = str_cut(&name, '*');
    w->q = encoding == 'q';
    if (encoding != 'q' && encoding != 'b')
        return false;
    at += 3;
    if (*end < at) {
        *end = at + str_find(str_part(s, at, s.len), STR("?="));
        if (*end == s.len)
            *end = SIZE_MAX; /* none from here on */
    }
    if (*end == SIZE_MAX)
        return false;
    w->text = str_part(s, at, *end);
    w->len = *end + 2 - from;
    return str_find(w->text, STR("=?")) == w->text.len; /* else this word is not complete, and another one begins inside it */
}

static size_t decode_q(struct str text, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        int high = c == '=' && text.len - i > 2 ? char_hex(text.at[i + 1]) : -1;
        int low = high >= 0 ? char_hex(text.at[i + 2]) : -1;
        if (low >= 0) {
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        to[n++] = c;
    }
    return n;
}

/* Decodes base64 or Q of a word; false: it is malformed. */
static bool decode_word(const struct encoded_word *w, struct text *octets, struct arena *arena)
{
    struct str got;
    if (!w->q && !base64_decode_any(w->text, arena, &got))
        return false;
    text_room(octets, w->text.len, arena);
    if (w->q) {
        octets->len += decode_q(w->text, octets->at + octets->len);
    } else {
        memcpy(octets->at + octets->len, got.at, got.len);
        octets->len += got.len;
    }
    return true;
}

bool words_is_readable(const struct encoded_word *w, words_convert *convert, struct arena *arena)
{
    struct str none;
    struct text octets = {0};
    return convert(STR(""), w->charset, arena, &none) && decode_word(w, &octets, arena);
}

/* Decodes the sequence of encoded words that begins at s.at[i]: joins those of one charset, then converts. Returns the offset of its end. */
static size_t take_row(struct str s, size_t i, size_t *end, struct text *t, words_convert *convert, struct arena *arena)
{
    struct text octets = {0};
    struct str charset = STR_NONE;
    struct encoded_word w;
    size_t row = i; /* behind the last word that was taken; white space behind it stays unless another word follows */
    while (i < s.len && words_find(s, i, end, &w) && (!charset.at || str_equal_nocase(charset, w.charset))) {
        struct str none;
        if ((!charset.at && !convert(STR(""), w.charset, arena, &none)) || !decode_word(&w, &octets, arena))
            break;
        charset = w.charset;
        row = i += w.len;
        while (i < s.len && (s.at[i] == ' ' || s.at[i] == '\t'))
            i++;
    }
    if (charset.at) {
        struct str utf8 = STR("");
        convert((struct str){octets.at ? octets.at : "", octets.len}, charset, arena, &utf8);
        text_put(t, utf8, arena);
    }
    return row;
}

struct str words_decode(struct str value, words_convert *convert, struct arena *arena)
{
    struct text t = {0};
    size_t end = 0, plain = 0;
    bool in_row = false; /* what is between plain and i is white space behind a word */
    text_room(&t, value.len, arena);
    for (size_t i = 0; i < value.len;) {
        size_t gap = i;
        while (in_row && gap < value.len && (value.at[gap] == ' ' || value.at[gap] == '\t'))
            gap++;
        const char *next = memchr(value.at + i, '=', value.len - i);
        if (!next)
            break;
        size_t at = (size_t)(next - value.at);
        if (!in_row || at != gap) {
            text_put(&t, str_part(value, plain, at), arena);
            plain = at;
        }
        i = take_row(value, at, &end, &t, convert, arena);
        in_row = i != at;
        if (!in_row)
            text_put(&t, str_part(value, plain, i = at + 1), arena);
        plain = i;
    }
    text_put(&t, str_part(value, plain, value.len), arena);
    t.at[t.len] = 0;
    return str_trim((struct str){t.at, t.len});
}
