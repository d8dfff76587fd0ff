/* words_encode.c - writes text as encoded words, token by token. See words.h.
 *
 * Octets of an unknown charset are written unchanged and without a charset: with a wrong one the text could not be recovered, without one
 * the reader may still guess it. */
#include "wire/codec.h"
#include "wire/words.h"
#include "wire/token.h"
#include "wire/words_find.h"

struct words_out {
    char *at;
    size_t len, room;
    size_t word; /* where the last encoded word ends, if nothing but white space follows it; SIZE_MAX: it does not */
    struct arena *arena;
};

static void put(struct words_out *o, struct str s)
{
    if (o->room - o->len <= s.len) {
        char *old = o->at;
        o->room = o->room * 2 + s.len + 64;
        o->at = arena_space(o->arena, o->room);
        if (o->len)
            memcpy(o->at, old, o->len);
    }
    if (s.len)
        memcpy(o->at + o->len, s.at, s.len);
    o->len += s.len;
    o->at[o->len] = 0;
}

static struct str out_str(const struct words_out *o)
{
    return o->at ? (struct str){o->at, o->len} : STR("");
}

/* Encodes words of at most 45 octets of text: 60 base64 digits and 12 octets around them, within the 75 of RFC 2047 2. No character is
 * divided (RFC 2047 5). */
static void put_words(struct words_out *o, struct str text)
{
    enum { OCTETS = 45 };
    for (bool first = true; text.len; first = false) {
        size_t len = min_size(OCTETS, text.len);
        for (size_t back = 0; back < 3 && len < text.len && ((unsigned char)text.at[len] & 0xC0) == 0x80; back++)
            len--;
        put(o, first ? STR("=?UTF-8?B?") : STR(" =?UTF-8?B?"));
        put(o, base64_encode(str_part(text, 0, len), o->arena));
        put(o, STR("?="));
        text = str_part(text, len, text.len);
    }
    o->word = o->len;
}

/* Control octets become spaces; those that UTF-8 writes in two octets (C1) too. */
static struct str without_controls(struct str s, struct arena *arena)
{
    char *text = arena_space(arena, s.len + 1);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i], next = i + 1 < s.len ? (unsigned char)s.at[i + 1] : 0;
        text[i] = c < ' ' || c == 127 ? ' ' : (char)c;
        if (c == 0xC2 && next >= 0x80 && next < 0xA0)
            text[i] = text[i + 1] = ' ', i++;
    }
    text[s.len] = 0;
    return (struct str){text, s.len};
}

/* ---- unstructured text ------------------------------------------------------------------------------------------- */

struct scan { /* searches the text for parts that would be read as encoded words */
    struct str text;
    size_t from, end, word_from,
        word_to; /* the readable word at or behind `from`; word_from == SIZE_MAX: there is none */
    bool ascii;
    words_convert *convert;
    struct arena *arena;
};

/* The first readable word that ends behind `at`. */
static void scan_to(struct scan *s, size_t at)
{
    struct encoded_word w;
    while (s->word_from != SIZE_MAX && s->word_to <= at) {
        const char *next = s->from < s->text.len ? memchr(s->text.at + s->from, '=', s->text.len - s->from) : NULL;
        if (!next) {
            s->word_from = SIZE_MAX;
            return;
        }
        s->from = (size_t)(next - s->text.at);
        if (words_find(s->text, s->from, &s->end, &w) && words_is_readable(&w, s->convert, s->arena)) {
            s->word_from = s->from;
            s->word_to = s->from += w.len;
        } else {
            s->from++;
        }
    }
}

/* Between encoded words, the beginning of an incomplete one would be read together with the next. */
static bool is_unfinished(struct str token)
{
    size_t at = str_find(token, STR("=?"));
    return at < token.len && str_find(str_part(token, at + 2, token.len), STR("?=")) == token.len - at - 2;
}

static bool is_to_encode(struct scan *s, size_t from, size_t to)
{
    struct str token = str_part(s->text, from, to);
    scan_to(s, from);
    if (!str_is_utf8(token)) /* unknown charset: not encoded */
        return false;
    return s->word_from < to || !str_is_ascii(token) || (!s->ascii && is_unfinished(token));
}

static size_t token_end(struct str s, size_t i, bool of_spaces)
{
    while (i < s.len && (s.at[i] == ' ') == of_spaces)
        i++;
    return i;
}

static void put_text(struct words_out *o, struct str text, struct words_beside beside, words_convert *convert)
{
    struct scan s = {.text = text, .ascii = str_is_ascii(text), .convert = convert, .arena = o->arena};
    for (size_t i = 0; i < text.len;) {
        size_t from = i, to = i;
        /* a run: tokens to encode, and the spaces between them */
        while (i < text.len) {
            size_t end = token_end(text, i, false);
            if (!is_to_encode(&s, i, end))
                break;
            to = end;
            i = token_end(text, end, true);
        }
        if (to > from) {
            struct str pieces[] = {STR(" "), str_part(text, from, to), STR(" ")};
            bool before = beside.word_before && from == 0, after = beside.word_after && to == text.len;
            put_words(o, arena_join(o->arena, 1 + before + after, pieces + !before));
            put(o, str_part(text, to, i));
        } else {
            size_t end = token_end(text, token_end(text, i, false), true);
            put(o, str_part(text, i, end));
            i = end;
        }
    }
}

struct str words_encode(struct str text, struct words_beside beside, words_convert *convert, struct arena *arena)
{
    struct words_out o = {.arena = arena, .word = SIZE_MAX};
    put_text(&o, str_trim(without_controls(text, arena)), beside, convert);
    return out_str(&o);
}

/* ---- fields of addresses ----------------------------------------------------------------------------------------- */

static bool is_foreign(struct str s) /* text that needs encoded words */
{
    return !str_is_ascii(s) && str_is_utf8(s);
}

static bool stands_before_at(struct str s, size_t i)
{
    i = token_end(s, i, true);
    return i < s.len && (s.at[i] == '@' || s.at[i] == '.');
}

/* A word of a name: RFC 2047 5 (3) wants white space on both of its sides. */
static void put_name(struct words_out *o, struct str text, char next)
{
    bool adjacent = o->word != SIZE_MAX;
    if (o->len && o->at[o->len - 1] != ' ')
        put(o, STR(" "));
    struct str pieces[] = {STR(" "), text};
    put_words(o, arena_join(o->arena, 1 + adjacent, pieces + !adjacent));
    if (next && next != ' ') {
        put(o, STR(" "));
        o->word = next == '"' ? o->word : SIZE_MAX;
    }
}

static size_t put_quoted(struct words_out *o, struct str s, size_t i)
{
    size_t end = i + token_quoted(str_part(s, i, s.len)), n = 0;
    if (end > s.len) {
        put(o, STR("\""));
        return i + 1;
    }
    struct str quoted = str_part(s, i, end);
    if (!is_foreign(quoted) || stands_before_at(s, end)) {
        put(o, quoted);
        return end;
    }
    char *text = arena_space(o->arena, quoted.len);
    for (size_t k = 1; k + 1 < quoted.len; k++) {
        k += quoted.at[k] == '\\' && k + 2 < quoted.len;
        text[n++] = quoted.at[k];
    }
    put_name(o, (struct str){text, n}, end < s.len ? s.at[end] : 0);
    return end;
}

static size_t put_comment(struct words_out *o, struct str s, size_t i, words_convert *convert)
{
    size_t end = i + token_comment(str_part(s, i, s.len));
    if (end > s.len || !is_foreign(str_part(s, i, end))) {
        put(o, str_part(s, i, end));
        return min_size(end, s.len);
    }
    put(o, STR("("));
    put_text(o, str_trim(str_part(s, i + 1, end - 1)), (struct words_beside){0}, convert);
    put(o, STR(")"));
    return end;
}

static size_t put_atom(struct words_out *o, struct str s, size_t i)
{
    size_t from = i, to = i;
    while (i < s.len) { /* atoms of a name, in a row */
        size_t end = i;
        while (end < s.len && !strchr(" \"(<,;:", s.at[end]))
            end++;
        struct str atom = str_part(s, i, end);
        if (!is_foreign(atom) || memchr(atom.at, '@', atom.len) || stands_before_at(s, end)) {
            if (to == from) { /* none: the atom as it is */
                put(o, str_part(s, i, max_size(end, i + 1)));
                return max_size(end, i + 1);
            }
            break;
        }
        to = end;
        i = token_end(s, end, true);
    }
    put_name(o, str_part(s, from, to), to < s.len ? s.at[to] : 0);
    return to;
}

struct str words_encode_addresses(struct str text, words_convert *convert, struct arena *arena)
{
    struct words_out o = {.arena = arena, .word = SIZE_MAX};
    struct str s = str_trim(without_controls(text, arena));
    for (size_t i = 0; i < s.len;) {
        size_t before = o.word;
        if (s.at[i] == ' ') {
            put(&o, STR(" "));
            i++;
            continue;
        }
        if (s.at[i] == '"') {
            i = put_quoted(&o, s, i);
        } else if (s.at[i] == '(') {
            i = put_comment(&o, s, i, convert);
        } else if (s.at[i] == '<') {
            size_t end = i + 1;
            while (end < s.len && s.at[end - 1] != '>')
                end++;
            put(&o, str_part(s, i, end));
            i = end;
        } else {
            i = put_atom(&o, s, i);
        }
        if (o.word == before)
            o.word = SIZE_MAX;
    }
    return out_str(&o);
}
