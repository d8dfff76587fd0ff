/* reply.c - replies made, taken off a backend's pipe, and written: RFC 5321 4.2, 4.2.1 (multi-line), 4.5.3.1.5
 * (length), RFC 2034 4 (enhanced codes in the text), RFC 3463 2 (their form).
 *
 * Owns the table of our own reply texts. Every text is cleaned when it is written, so that no octet of a peer or filter can become a line
 * end. */
#include "wire/reply.h"
#include <stdarg.h>

enum { LINE_MOST = 500, TEXT_LINES = 20, TEXT_LINE_MOST = 400 };

static const struct {
    uint16_t code;
    const char *enhanced;
    struct str text;
} sentences[REPLY_COUNT] = {
#define REPLY(name, number, dotted, words) [REPLY_##name] = {number, dotted, {words, sizeof words - 1}},
#include "wire/replies.def"
#undef REPLY
};

static inline bool is_control(char c)
{
    return ((unsigned char)c < ' ' && c != '\t') || c == 127;
}

/* Copies and replaces control octets by "?". Returns the number of octets. */
static size_t put_clean(char *to, struct str s)
{
    memcpy(to, s.len ? s.at : "", s.len);
    if (str_has_control(s))
        for (size_t i = 0; i < s.len; i++)
            if (is_control(to[i]))
                to[i] = '?';
    return s.len;
}

/* "5.7.1" and then a space or the end (RFC 3463 2: class 2, 4 or 5, one to three digits each). Returns how many octets
 * it takes, one space behind it included; 0: it is none. */
static size_t dotted(struct str s, uint16_t code[3])
{
    size_t i = 0;
    uint16_t parts[3] = {0};
    for (int part = 0; part < 3; part++) {
        size_t digits = 0;
        for (; i < s.len && char_is_digit(s.at[i]) && digits < 4; i++, digits++)
            parts[part] = (uint16_t)(parts[part] * 10 + (s.at[i] - '0'));
        if (digits == 0 || digits > (part ? 3u : 1u))
            return 0;
        if (part < 2 && (i == s.len || s.at[i++] != '.'))
            return 0;
    }
    if ((i < s.len && s.at[i] != ' ') || (parts[0] != 2 && parts[0] != 4 && parts[0] != 5))
        return 0;
    memcpy(code, parts, sizeof parts);
    return i < s.len ? i + 1 : i;
}

struct reply reply_named(enum reply_name name)
{
    must((unsigned)name < REPLY_COUNT);
    struct reply r = {.code = sentences[name].code, .text = sentences[name].text};
    dotted(str_of(sentences[name].enhanced), r.enhanced);
    return r;
}

struct reply reply_print(struct arena *arena, enum reply_name name, ...)
{
    struct reply r = reply_named(name);
    va_list args;
    va_start(args, name);
    r.text = arena_vprint(arena, r.text.at, args);
    va_end(args);
    char *at = (char *)r.text.at; /* the arena's, and ours */
    for (size_t i = 0; i < r.text.len; i++)
        if (is_control(at[i]))
            at[i] = '?';
    return r;
}

/* ---- out ------------------------------------------------------------------------------------------------------------
 */

/* At most `most` octets of s, not cut within a UTF-8 character. */
static size_t cut(struct str s, size_t most)
{
    if (s.len <= most)
        return s.len;
    size_t n = most;
    while (n > most - 3 && ((unsigned char)s.at[n] & 0xC0) == 0x80)
        n--;
    return ((unsigned char)s.at[n] & 0xC0) == 0x80 ? most : n;
}

static void put_line(const struct reply *r, struct str text, bool last, bool enhanced, struct pipe *out)
{
    char line[LINE_MOST + 32];
    size_t at = 4;
    line[0] = (char)('0' + r->code / 100);
    line[1] = (char)('0' + r->code / 10 % 10);
    line[2] = (char)('0' + r->code % 10);
    line[3] = last ? ' ' : '-';
    for (size_t i = 0; enhanced && r->enhanced[0] && i < 3; i++) {
        char room[DECIMAL_ROOM];
        struct str digits = str_decimal(room, r->enhanced[i]);
        memcpy(line + at, digits.at, digits.len);
        at += digits.len;
        line[at++] = i < 2 ? '.' : ' ';
    }
    at += put_clean(line + at, text);
    line[at++] = '\r';
    line[at++] = '\n';
    pipe_copy(out, line, at);
}

void reply_put(const struct reply *r, struct pipe *out, bool enhanced)
{
    must(r->code >= 200 && r->code <= 599);
    struct str rest = r->text.at ? r->text : STR("");
    do {
        struct str line = str_cut(&rest, '\n');
        for (;;) { /* RFC 5321 4.5.3.1.5: 512 octets, code and CRLF included */
            size_t n = cut(line, LINE_MOST);
            bool last = n == line.len && !rest.at;
            put_line(r, str_part(line, 0, n), last, enhanced, out);
            if (n == line.len)
                break;
            line = str_part(line, n, line.len);
        }
    } while (rest.at);
}

/* ---- in -------------------------------------------------------------------------------------------------------------
 */

struct line {
    struct str text; /* behind the code and its separator */
    bool last;
};

/* Parses one line at the head of s. MORE: it is incomplete, and valid so far. */
static enum reply_took take_line(struct str s, uint16_t *code, struct line *line, size_t *taken)
{
    uint16_t number = 0;
    for (size_t i = 0; i < 3; i++) {
        if (i >= s.len)
            return REPLY_MORE;
        if (!char_is_digit(s.at[i]) || (i == 0 && (s.at[0] < '2' || s.at[0] > '5')))
            return REPLY_BAD;
        number = (uint16_t)(number * 10 + (s.at[i] - '0'));
    }
    if (*code && number != *code) /* RFC 5321 4.2.1: the code of each line is the same */
        return REPLY_BAD;
    *code = number;
    if (s.len < 4)
        return REPLY_MORE;
    if (s.at[3] != ' ' && s.at[3] != '-' && s.at[3] != '\r')
        return REPLY_BAD;
    size_t begin = s.at[3] == '\r' ? 3 : 4;
    line->last = s.at[3] != '-';
    const char *from = s.at + begin, *end = s.at + s.len, *lf = memchr(from, '\n', (size_t)(end - from));
    const char *cr = memchr(from, '\r', (size_t)((lf ? lf : end) - from));
    if (!cr || cr + 1 == end)
        return lf ? REPLY_BAD : REPLY_MORE;
    if (cr[1] != '\n')
        return REPLY_BAD;
    line->text = (struct str){from, (size_t)(cr - from)};
    *taken = (size_t)(cr + 2 - s.at);
    return REPLY_TAKEN;
}

/* Joins the lines of a reply. If the first line has an enhanced code, it is removed from every line that has one. */
static struct str join(const struct line *lines, size_t count, struct reply *r, struct arena *arena)
{
    size_t room = 1, at = 0;
    for (size_t i = 0; i < count; i++)
        room += lines[i].text.len + 1;
    char *text = arena_space(arena, room);
    for (size_t i = 0; i < count; i++) {
        struct str s = lines[i].text;
        uint16_t code[3];
        size_t skip = i == 0 || r->enhanced[0] ? dotted(s, code) : 0;
        if (skip && code[0] == r->code / 100) {
            if (i == 0)
                memcpy(r->enhanced, code, sizeof code);
            s = str_part(s, skip, s.len);
        }
        if (i)
            text[at++] = '\n';
        at += put_clean(text + at, s);
    }
    text[at] = 0;
    return (struct str){text, at};
}

enum reply_took reply_take(struct pipe *in, struct arena *arena, struct reply *r)
{
    char octets[REPLY_OCTETS];
    struct str seen = {octets, min_size(in->octets, REPLY_OCTETS)};
    struct line lines[REPLY_LINES];
    pipe_peek(in, 0, octets, seen.len);
    uint16_t code = 0;
    size_t at = 0;
    for (size_t count = 0; count < REPLY_LINES; count++) {
        size_t taken = 0;
        enum reply_took took = take_line(str_part(seen, at, seen.len), &code, &lines[count], &taken);
        if (took == REPLY_MORE && in->octets < REPLY_OCTETS) {
            pipe_compact(in);
            return REPLY_MORE;
        }
        if (took != REPLY_TAKEN)
            return REPLY_BAD;
        at += taken;
        if (!lines[count].last)
            continue;
        *r = (struct reply){.code = code};
        r->text = join(lines, count + 1, r, arena);
        pipe_drop(in, at);
        return REPLY_TAKEN;
    }
    return REPLY_BAD;
}

/* ---- from filters and configuration ---------------------------------------------------------------------------------
 */

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_white(struct str s, size_t at)
{
    while (at < s.len && is_white(s.at[at]))
        at++;
    return at;
}

struct reply_front reply_front(struct str s)
{
    struct reply_front front = {0};
    size_t at = 0;
    if (s.len >= 3 && char_is_digit(s.at[0]) && char_is_digit(s.at[1]) && char_is_digit(s.at[2]) &&
        (s.len == 3 || is_white(s.at[3]))) {
        front.has_code = true;
        front.code = (uint16_t)((s.at[0] - '0') * 100 + (s.at[1] - '0') * 10 + (s.at[2] - '0'));
        at = skip_white(s, 3); /* it may stand alone on its line */
    }
    struct str rest = str_part(s, at, s.len);
    size_t line = str_find(rest, STR("\n"));
    front.enhanced_at = at;
    front.octets = at + dotted(str_part(rest, 0, line && rest.at[line - 1] == '\r' ? line - 1 : line), front.enhanced);
    front.octets = skip_white(s, front.octets);
    return front;
}

static struct str clean_text(struct str s, struct arena *arena)
{
    char *text = arena_space(arena, min_size(s.len, TEXT_LINES * (TEXT_LINE_MOST + 1)) + 1);
    size_t at = 0, kept = 0;
    struct str rest = s.at ? s : STR("");
    for (int lines = 0; rest.at && lines < TEXT_LINES; lines++) {
        struct str line = str_cut(&rest, '\n');
        line.len = cut(line, TEXT_LINE_MOST);
        if (lines)
            text[at++] = '\n';
        for (size_t i = 0; i < line.len; i++)
            if (!is_control(line.at[i])) {
                text[at++] = line.at[i];
                kept = at; /* drops empty lines at the end */
            }
    }
    text[kept] = 0;
    return (struct str){text, kept};
}

bool reply_from_text(struct str s, unsigned class, struct reply otherwise, struct arena *arena, struct reply *r)
{
    s = str_trim(s.at ? s : STR(""));
    struct reply_front front = reply_front(s);
    struct reply made = {.code = front.code};
    memcpy(made.enhanced, front.enhanced, sizeof made.enhanced);
    if (front.has_code && (made.code < 200 || made.code > 599 || reply_class(&made) != class))
        return false;
    if (front.enhanced[0] && front.enhanced[0] != class)
        return false;
    made.text = clean_text(str_part(s, front.octets, s.len), arena);
    if (!made.code)
        made.code = reply_class(&otherwise) == class ? otherwise.code : (uint16_t)(class == 4 ? 451 : class * 100 + 50);
    if (!made.enhanced[0] && otherwise.enhanced[0] == class)
        memcpy(made.enhanced, otherwise.enhanced, sizeof made.enhanced);
    if (!made.enhanced[0])
        made.enhanced[0] = (uint16_t) class;
    if (!made.text.len && otherwise.text.at)
        made.text = otherwise.text;
    *r = made;
    return true;
}

void reply_complete(struct reply *r)
{
    static const struct {
        uint16_t code, subject, detail;
    } exact[] = {
        {235, 7, 0}, {251, 1, 5}, {252, 5, 2},              /* authenticated; forwards; cannot verify */
        {452, 3, 1}, {454, 7, 0},                           /* storage; TLS or AUTH not now */
        {500, 5, 2}, {501, 5, 4}, {502, 5, 1}, {503, 5, 1}, /* syntax; arguments; not implemented; sequence */
        {504, 5, 4}, {530, 7, 0}, {534, 7, 9}, {535, 7, 8}, /* RFC 4954 6 */
        {551, 1, 6}, {553, 1, 3}, {555, 5, 4},
    };
    unsigned class = reply_class(r);
    if (r->enhanced[0] || (class != 2 && class != 4 && class != 5)) /* RFC 2034 4: none on 3yz */
        return;
    r->enhanced[0] = (uint16_t) class;
    r->enhanced[1] = r->enhanced[2] = 0;
    for (size_t i = 0; i < countof(exact); i++)
        if (exact[i].code == r->code) {
            r->enhanced[1] = exact[i].subject;
            r->enhanced[2] = exact[i].detail;
        }
}
