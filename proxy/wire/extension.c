/* extension.c - EHLO keywords to bits and back, and xtext: RFC 5321 4.1.1.1, RFC 1870 (SIZE), RFC 3461 4 (xtext).
 *
 * A keyword that is not in the table below is passed over, so nothing we do not know can ever be advertised. */
#include "wire/extension.h"

static const struct {
    const char *name;
    uint32_t bit;
    bool said; /* by us, in this order */
} keywords[] = {
    {"PIPELINING", EXT_PIPELINING, true}, {"SIZE", EXT_SIZE, true},
    {"STARTTLS", EXT_STARTTLS, true},     {"ENHANCEDSTATUSCODES", EXT_ENHANCED, true},
    {"8BITMIME", EXT_8BITMIME, true},     {"DSN", EXT_DSN, true},
    {"SMTPUTF8", EXT_SMTPUTF8, true},     {"CHUNKING", EXT_CHUNKING, true},
    {"BINARYMIME", EXT_BINARYMIME, true}, {"XCLIENT", EXT_XCLIENT, false},
    {"XFORWARD", EXT_XFORWARD, false},    {"AUTH", EXT_AUTH, false}, /* with whom it is offered, the session knows */
};

static const struct {
    const char *name;
    uint32_t bit;
} attributes[] = {
    {"NAME", XATTR_NAME},         {"ADDR", XATTR_ADDR},
    {"PORT", XATTR_PORT},         {"PROTO", XATTR_PROTO},
    {"HELO", XATTR_HELO},         {"LOGIN", XATTR_LOGIN},
    {"SOURCE", XATTR_SOURCE},     {"REVERSE_NAME", XATTR_REVERSE_NAME},
    {"DESTADDR", XATTR_DESTADDR}, {"DESTPORT", XATTR_DESTPORT},
    {"IDENT", XATTR_IDENT},
};

static uint32_t parse_attributes(struct str words)
{
    uint32_t bits = 0;
    for (struct str word = str_word(&words); word.at; word = str_word(&words))
        for (size_t i = 0; i < countof(attributes); i++)
            if (str_equal_nocase(word, str_of(attributes[i].name)))
                bits |= attributes[i].bit;
    return bits;
}

static bool has_word(const char *words, struct str word)
{
    struct str rest = str_of(words);
    for (struct str one = str_word(&rest); one.at; one = str_word(&rest))
        if (str_equal_nocase(one, word))
            return true;
    return false;
}

/* Mechanisms that bind the user to the channel, or take the certificate for him, end at us: what the backend would see of both is ours. */
static bool can_be_relayed(struct str mechanism)
{
    for (size_t i = 0; i < mechanism.len; i++)
        if (!char_is_alnum(mechanism.at[i]) && mechanism.at[i] != '-' && mechanism.at[i] != '_')
            return false;
    return mechanism.len <= 20 && !str_equal_nocase(mechanism, STR("EXTERNAL")) && !str_ends_nocase(mechanism, STR("-PLUS"));
}

static void add_mechanism(struct capabilities *c, struct str word)
{
    size_t n = strlen(c->auth);
    if (n + 1 + word.len >= sizeof c->auth || has_word(c->auth, word))
        return;
    if (n)
        c->auth[n++] = ' ';
    for (size_t i = 0; i < word.len; i++)
        c->auth[n++] = word.at[i] >= 'a' && word.at[i] <= 'z' ? (char)(word.at[i] - 32) : word.at[i];
    c->auth[n] = 0;
}

static void parse_line(struct str line, struct capabilities *c)
{
    struct str word = str_word(&line);
    if (str_starts_nocase(word, STR("AUTH="))) { /* what Microsoft's early servers said */
        struct str first = str_part(word, 5, word.len);
        if (first.len && can_be_relayed(first))
            add_mechanism(c, first);
        word.len = 4;
    }
    uint32_t bit = 0;
    for (size_t i = 0; word.at && i < countof(keywords); i++)
        if (str_equal_nocase(word, str_of(keywords[i].name)))
            bit = keywords[i].bit;
    c->has |= bit;
    if (bit == EXT_XCLIENT)
        c->xclient |= parse_attributes(line);
    if (bit == EXT_XFORWARD)
        c->xforward |= parse_attributes(line);
    for (struct str m; bit == EXT_AUTH && (m = str_word(&line)).at;)
        if (can_be_relayed(m))
            add_mechanism(c, m);
    if (bit == EXT_SIZE && !str_number(str_word(&line), &c->size))
        c->size = 0; /* RFC 1870 3: without a number, nothing is known; more than 64 bits is no limit */
}

void capabilities_parse(struct str text, struct capabilities *c)
{
    *c = (struct capabilities){0};
    str_cut(&text, '\n'); /* the domain */
    while (text.at)
        parse_line(str_cut(&text, '\n'), c);
    if (!(c->has & EXT_CHUNKING)) /* RFC 3030 3: the one needs the other */
        c->has &= ~(uint32_t)EXT_BINARYMIME;
}

struct capabilities capabilities_common(struct capabilities a, struct capabilities b)
{
    uint64_t size = a.size && b.size ? min_u64(a.size, b.size) : a.size + b.size;
    struct capabilities both = {a.has & b.has, a.xclient & b.xclient, a.xforward & b.xforward, size, ""};
    struct str rest = str_of(a.auth);
    for (struct str m; (m = str_word(&rest)).at;)
        if (has_word(b.auth, m))
            add_mechanism(&both, m);
    return both;
}

struct str capabilities_text(struct capabilities c, struct arena *arena)
{
    char text[256];
    size_t n = 0;
    for (size_t i = 0; i < countof(keywords); i++) {
        if (!keywords[i].said || !(c.has & keywords[i].bit))
            continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? "\n" : "", keywords[i].name);
        if (keywords[i].bit == EXT_SIZE && c.size)
            n += (size_t)snprintf(text + n, sizeof text - n, " %llu", (unsigned long long)c.size);
    }
    must(n < sizeof text);
    return arena_str(arena, (struct str){text, n});
}

/* RFC 3461 4: xchar is any of "!" to "~" but "+" and "="; hexchar is "+" and two of 0-9, A-F. */
static bool is_xchar(char c)
{
    return c >= '!' && c <= '~' && c != '+' && c != '=';
}

void xtext_put(struct str s, struct pipe *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len;) {
        size_t run = i;
        while (run < s.len && is_xchar(s.at[run]))
            run++;
        pipe_copy(out, s.at + i, run - i);
        for (i = run; i < s.len && !is_xchar(s.at[i]); i++) {
            unsigned char c = (unsigned char)s.at[i];
            pipe_copy(out, (char[]){'+', digits[c >> 4], digits[c & 15]}, 3);
        }
    }
}

static bool is_hex_upper(char c)
{
    return char_is_digit(c) || (c >= 'A' && c <= 'F');
}

bool xtext_is_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (is_xchar(s.at[i]))
            continue;
        if (s.at[i] != '+' || s.len - i < 3 || !is_hex_upper(s.at[i + 1]) || !is_hex_upper(s.at[i + 2]))
            return false;
        i += 2;
    }
    return true;
}
