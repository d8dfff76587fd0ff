/* command.c - takes a line off the pipe of a client and finds its verb: RFC 5321 2.3.8 (only CRLF ends a line), 2.4 (verbs in any case),
 * 4.1.1.
 *
 * Whether a command is allowed in the present state is not checked here but by the session. A line that is too long is dropped as it comes
 * and costs no memory. */
#include "wire/command.h"

static const struct str verbs[VERB_COUNT] = {
#define VERB(name, ...) [VERB_##name] = {#name, sizeof #name - 1},
#include "wire/verbs.def"
#undef VERB
};

const char *verb_name(enum verb v)
{
    return (unsigned)v < VERB_COUNT && v != VERB_NONE ? verbs[v].at : "unknown";
}

/* ---- lines ----------------------------------------------------------------------------------------------------------
 */

/* Looks for a line end at or behind `from`, its LF at `to` at most. True: *at is the LF's offset, *cr tells a CR before
 * it. */
static bool find_end(const struct pipe *in, size_t from, size_t to, bool bare_lf_ends, size_t *at, bool *cr)
{
    for (;;) {
        size_t lf = pipe_find(in, from, '\n');
        if (lf >= in->octets || lf > to)
            return false;
        char before = 0;
        if (lf)
            pipe_peek(in, lf - 1, &before, 1);
        *at = lf;
        *cr = before == '\r';
        if (*cr || bare_lf_ends)
            return true;
        from = lf + 1;
    }
}

/* Drops what belongs to a line that is too long. */
static enum line_took skip(struct line_reader *r, struct pipe *in, bool bare_lf_ends)
{
    while (in->octets) {
        /* One span at a time, and drop it after each search, so that a pipe full of bare LF is scanned only once. */
        size_t n = in->first->len;
        const char *found = memchr(in->first->at, '\n', n);
        if (found) {
            size_t lf = (size_t)(found - in->first->at);
            bool cr = lf ? found[-1] == '\r' : r->last_was_cr;
            pipe_drop(in, lf + 1);
            r->last_was_cr = false;
            if (!cr && !bare_lf_ends)
                continue;
            *r = (struct line_reader){0};
            return LINE_TOO_LONG;
        }
        r->last_was_cr = in->first->at[n - 1] == '\r';
        pipe_drop(in, n);
    }
    return LINE_MORE;
}

static bool is_clean(struct str line)
{
    return line.len == 0 ||
           (!memchr(line.at, '\r', line.len) && !memchr(line.at, '\n', line.len) && !memchr(line.at, 0, line.len));
}

enum line_took line_take(struct line_reader *r, struct pipe *in, size_t most, bool bare_lf_ends, struct arena *arena,
                         struct str *line)
{
    if (r->skipping)
        return skip(r, in, bare_lf_ends);
    size_t lf;
    bool cr;
    if (!find_end(in, r->scanned, most + 1, bare_lf_ends, &lf, &cr)) {
        if (in->octets > most + 1) { /* `most` octets and a CR may still become a line */
            r->skipping = true;
            r->last_was_cr = false;
            return skip(r, in, bare_lf_ends);
        }
        r->scanned = in->octets;
        pipe_compact(in);
        return LINE_MORE;
    }
    *r = (struct line_reader){0};
    size_t len = lf - cr;
    if (len > most) {
        pipe_drop(in, lf + 1);
        return LINE_TOO_LONG;
    }
    char *copy = arena_space(arena, len + 1); /* a copy, since dropping the octets may free their block */
    pipe_peek(in, 0, copy, len);
    copy[len] = 0;
    pipe_drop(in, lf + 1);
    *line = (struct str){copy, len};
    return is_clean(*line) ? LINE_TAKEN : LINE_BAD;
}

/* ---- words ----------------------------------------------------------------------------------------------------------
 */

static bool is_blank(char c, enum syntax syntax)
{
    return c == ' ' || (c == '\t' && syntax == SYNTAX_LENIENT);
}

void command_parse(struct str line, enum syntax syntax, struct command *c)
{
    size_t len = 0;
    while (syntax == SYNTAX_LENIENT && line.len && is_blank(line.at[0], syntax))
        line = str_part(line, 1, line.len);
    while (len < line.len && !is_blank(line.at[len], syntax))
        len++;
    *c = (struct command){.verb = VERB_NONE, .word = str_part(line, 0, len), .rest = str_part(line, len, line.len)};
    while (c->rest.len && is_blank(c->rest.at[0], syntax))
        c->rest = str_part(c->rest, 1, c->rest.len);
    /* RFC 5321 4.1.1: white space before the end of a line is to be tolerated. */
    while (c->rest.len && (c->rest.at[c->rest.len - 1] == ' ' || c->rest.at[c->rest.len - 1] == '\t'))
        c->rest.len--;
    for (int v = VERB_NONE + 1; v < VERB_COUNT; v++)
        if (c->word.len == verbs[v].len && c->word.len && (c->word.at[0] & ~0x20) == verbs[v].at[0] &&
            str_equal_nocase(c->word, verbs[v]))
            c->verb = (enum verb)v;
}

bool command_is_http(struct str line)
{
    static const char *const methods[] = {"GET ",   "POST ",    "HEAD ",  "PUT ",   "DELETE ",
                                          "PATCH ", "OPTIONS ", "TRACE ", "PRI * ", "CONNECT "};
    for (size_t i = 0; i < countof(methods); i++)
        if (str_starts_nocase(line, str_of(methods[i])))
            return true;
    /* A field of a header section: a token, a colon, and then a space or nothing. No verb of SMTP has its colon there.
     */
    size_t n = 0;
    while (n < line.len && (char_is_alnum(line.at[n]) || line.at[n] == '-' || line.at[n] == '_'))
        n++;
    return n > 0 && n < line.len && line.at[n] == ':' && (n + 1 == line.len || line.at[n + 1] == ' ');
}

bool helo_is_valid(struct str s)
{
    if (s.len == 0 || s.len > 255 || !str_is_utf8(s)) /* RFC 6531 3.7.1: U-labels may be there */
        return false;
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] <= ' ' || s.at[i] == 127 || s.at[i] == '<' || s.at[i] == '>')
            return false;
    return true;
}

bool helo_take(struct str s, enum syntax syntax, struct arena *arena, struct str *name)
{
    size_t n = 0;
    char *text = arena_space(arena, s.len + 1);
    if (syntax == SYNTAX_STRICT ? !helo_is_valid(s) : (!s.len || s.len > 255 || !str_is_utf8(s)))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        bool blank = s.at[i] == ' ' || s.at[i] == '\t', control = (unsigned char)s.at[i] < ' ' || s.at[i] == 127;
        if (!blank || !n || text[n - 1] != ' ')
            text[n++] = blank ? ' ' : control ? '?' : s.at[i];
    }
    text[n] = 0;
    *name = (struct str){text, n};
    return true;
}

bool bdat_parse(struct str rest, uint64_t *octets, bool *last)
{
    struct str size = str_word(&rest), word = str_word(&rest), more = str_word(&rest);
    *last = word.at != NULL;
    if (!size.len || !char_is_digit(size.at[0]) || !str_number(size, octets))
        return false;
    return !more.at && (!*last || str_equal_nocase(word, STR("LAST")));
}
