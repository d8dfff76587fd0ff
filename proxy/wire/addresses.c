/* addresses.c - reads the addresses of a field in one pass, one mailbox per call. See addresses.h. */
#include "wire/addresses.h"
#include "wire/token.h"
#include "wire/words.h"

void addresses_start(struct addresses *a, struct str value, struct arena *arena)
{
    size_t room = value.len + 1;
    char *text = arena_space(arena, room * 4);
    *a = (struct addresses){.arena = arena,
                            .rest = value.at ? value : STR(""),
                            .text = text,
                            .quoted = text + room,
                            .inside = text + room * 2,
                            .inside_quoted = text + room * 3};
}

static bool is_white(char c)
{
    return c == ' ' || (unsigned char)c < ' ' || c == 127;
}

/* Omits white space at the beginning of angle brackets, whose content is scanned several times. */
static void letter(struct addresses *a, char c, bool quoted)
{
    if (a->in_angle && !a->inside_len && !quoted && is_white(c))
        return;
    if (a->in_angle) {
        a->inside[a->inside_len] = c;
        a->inside_quoted[a->inside_len++] = quoted;
    } else {
        a->text[a->len] = c;
        a->quoted[a->len++] = quoted;
    }
}

/* ---- one address ------------------------------------------------------------------------------------------------- */

struct address_spec { /* octets, and which of them were quoted and so have no special meaning */
    const char *at, *quoted;
    size_t len;
};

static bool is_plain(struct address_spec s, size_t i, char c)
{
    return s.at[i] == c && !s.quoted[i];
}

static bool is_gap(struct address_spec s, size_t i)
{
    return !s.quoted[i] && is_white(s.at[i]);
}

/* Drops white space at both ends and around "@" and "." (obs-local-part, obs-domain); *at: the last "@", or SIZE_MAX.
 */
static struct str squeeze(struct address_spec s, struct arena *arena, size_t *at)
{
    char *text = arena_space(arena, s.len + 1);
    size_t n = 0;
    *at = SIZE_MAX;
    bool glue = true; /* no white space is kept after the octet written last */
    for (size_t i = 0; i < s.len; i++) {
        if (is_gap(s, i)) {
            size_t next = i;
            while (next < s.len && is_gap(s, next))
                next++;
            if (!glue && next < s.len && !is_plain(s, next, '@') && !is_plain(s, next, '.'))
                text[n++] = ' ';
            i = next - 1;
            continue;
        }
        glue = is_plain(s, i, '@') || is_plain(s, i, '.');
        if (is_plain(s, i, '@'))
            *at = n;
        text[n++] = s.at[i];
    }
    text[n] = 0;
    return (struct str){text, n};
}

static void make(struct address_spec s, struct str name, struct arena *arena, struct mailbox *m)
{
    size_t at;
    struct str all = squeeze(s, arena, &at);
    struct str local = at == SIZE_MAX ? all : str_part(all, 0, at);
    struct str domain = at == SIZE_MAX ? STR("") : str_part(all, at + 1, all.len);
    if (domain.len && domain.at[domain.len - 1] == '.')
        domain.len--;
    m->local = words_clean(local, arena);
    m->domain = arena_lower(arena, words_clean(domain, arena));
    struct str pieces[] = {m->local, STR("@"), m->domain};
    m->address = at == SIZE_MAX ? m->local : arena_join(arena, 3, pieces);
    m->name = str_trim(name);
}

/* Outside of angle brackets, words without "@" next to an address are not part of it: "Rose a@example.com". White space next to "@" or "."
 * does not separate words. Gives the next word that has an "@"; if no word has one, the whole text, once. */
static bool next_word(struct addresses *a, struct mailbox *m)
{
    struct address_spec s = {a->text, a->quoted, a->len};
    if (!a->has_at) {
        bool first = !a->words_at;
        a->words_at = s.len;
        if (first)
            make(s, STR(""), a->arena, m);
        return first && m->address.len;
    }
    while (a->words_at < s.len) {
        size_t from = a->words_at, i = from;
        bool has = false, glue = true;
        for (; i < s.len; i++) {
            if (!is_gap(s, i)) {
                has = has || is_plain(s, i, '@');
                glue = is_plain(s, i, '@') || is_plain(s, i, '.');
                continue;
            }
            size_t next = i;
            while (next < s.len && is_gap(s, next))
                next++;
            if (!glue && next < s.len && !is_plain(s, next, '@') && !is_plain(s, next, '.'))
                break;
            i = next - 1;
        }
        a->words_at = i;
        while (a->words_at < s.len && is_gap(s, a->words_at))
            a->words_at++;
        if (has) {
            make((struct address_spec){s.at + from, s.quoted + from, i - from}, STR(""), a->arena, m);
            return true;
        }
    }
    return false;
}

static bool end_angle(struct addresses *a, struct mailbox *m)
{
    a->in_angle = false;
    a->had_angle = true;
    make((struct address_spec){a->inside, a->inside_quoted, a->inside_len}, (struct str){a->text, a->len}, a->arena, m);
    m->name = arena_str(a->arena, m->name);
    a->inside_len = a->len = 0;
    return true;
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

/* Returns how many octets of the quoted string were taken; 0: it has no end. */
static size_t take_quoted(struct addresses *a)
{
    struct str s = a->rest;
    size_t end = 1;
    while (end < s.len && s.at[end] != '"')
        end += s.at[end] == '\\' ? 2 : 1;
    if (end >= s.len)
        return 0;
    for (size_t i = 1; i < end; i++) {
        i += s.at[i] == '\\';
        letter(a, s.at[i], true);
    }
    return end + 1;
}

static bool in_literal(const struct addresses *a) /* within [...] behind "@": its ":" is its own */
{
    const char *text = a->in_angle ? a->inside : a->text, *quoted = a->in_angle ? a->inside_quoted : a->quoted;
    size_t len = a->in_angle ? a->inside_len : a->len, i = len;
    while (i && len - i < 64 && text[i - 1] != '[' && text[i - 1] != ']' && !is_white(text[i - 1]))
        i--;
    return i > 1 && text[i - 1] == '[' && !quoted[i - 1] && text[i - 2] == '@';
}

/* What is inside of the angles so far is a route (RFC 5322 4.4): "@one.example,@two.example". */
static bool in_route(const struct addresses *a)
{
    return a->inside_len && a->inside[0] == '@' && !a->inside_quoted[0];
}

enum address_step { GO_ON, GIVE, END_OF_MAILBOX };

static enum address_step take_inside(struct addresses *a, char c, struct mailbox *m)
{
    if (c == '>' || (c == ',' && !in_route(a)) || (c == '<' && a->inside_len)) {
        end_angle(a, m);
        a->in_angle = c == '<';
        a->had_angle = c != ',';
        return GIVE;
    }
    if ((c == ',' || c == ':') && in_route(a) && !in_literal(a))
        a->inside_len = 0;
    else if (c != '<')
        letter(a, c, false);
    return GO_ON;
}

static enum address_step take_outside(struct addresses *a, char c)
{
    if (c == '<') {
        a->in_angle = true;
    } else if (c == ',' || c == ';') {
        return END_OF_MAILBOX;
    } else if (c == ':' && !in_literal(a)) {
        a->len = 0; /* the name of a group */
    } else if (c != '>') {
        letter(a, c, false);
    }
    return GO_ON;
}

/* Takes the next octet, quoted string or comment. */
static enum address_step take(struct addresses *a, struct mailbox *m)
{
    char c = a->rest.at[0];
    size_t n = 1;
    enum address_step step = GO_ON;
    if (c == '(') {
        n = min_size(token_comment(a->rest), a->rest.len);
        letter(a, ' ', false); /* a comment separates words as white space does */
    } else if (c == '"' && !a->no_quotes && (n = take_quoted(a))) {
        ;
    } else if (c == '\\' && a->rest.len > 1) {
        letter(a, '\\', true);
        letter(a, a->rest.at[1], true);
        n = 2;
    } else {
        a->no_quotes = a->no_quotes || c == '"'; /* there is no unescaped one behind it either */
        n = 1;
        step = a->in_angle ? take_inside(a, c, m) : take_outside(a, c);
    }
    a->rest = str_part(a->rest, n, a->rest.len);
    return step;
}

bool addresses_next(struct addresses *a, struct mailbox *m)
{
    for (;;) {
        if (a->in_words) {
            if (next_word(a, m))
                return true;
            a->in_words = a->had_angle = false;
            a->words_at = a->len = 0;
        }
        enum address_step step = a->rest.len ? take(a, m) : END_OF_MAILBOX;
        if (step == GIVE)
            return true;
        if (step != END_OF_MAILBOX)
            continue;
        if (a->in_angle)
            return end_angle(a, m);
        /* after angle brackets only a complete address counts: "<a@b> text" is one address */
        bool at_end = !a->rest.len && !a->len;
        if (at_end)
            return false;
        if (a->had_angle && !memchr(a->text, '@', a->len))
            a->len = 0;
        a->has_at = false;
        for (size_t i = 0; i < a->len && !a->has_at; i++)
            a->has_at = a->text[i] == '@' && !a->quoted[i];
        a->in_words = a->len > 0;
        a->had_angle = a->in_words && a->had_angle;
    }
}
