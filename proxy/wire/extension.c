/* extension.c - EHLO keywords to bits and back, and xtext: RFC 5321 4.1.1.1, RFC 1870 (SIZE), RFC 3461 4 (xtext).
 *
 * Keywords that are not in the table below are ignored, so an unknown extension is never advertised. */
#include "wire/extension.h"

static const struct {
    const char *name;
    uint32_t bit;
    bool said; /* we advertise it, in this order */
} keywords[] = {
    {"PIPELINING", EXT_PIPELINING, true}, {"SIZE", EXT_SIZE, true},
    {"STARTTLS", EXT_STARTTLS, true},     {"ENHANCEDSTATUSCODES", EXT_ENHANCED, true},
    {"8BITMIME", EXT_8BITMIME, true},     {"DSN", EXT_DSN, true},
    {"SMTPUTF8", EXT_SMTPUTF8, true},     {"CHUNKING", EXT_CHUNKING, true},
    {"BINARYMIME", EXT_BINARYMIME, true}, {"XCLIENT", EXT_XCLIENT, false},
    {"REQUIRETLS", EXT_REQUIRETLS, true}, {"LIMITS", EXT_LIMITS, true},
    {"MT-PRIORITY", EXT_MT_PRIORITY, true}, {"DELIVERBY", EXT_DELIVERBY, true},
    {"FUTURERELEASE", EXT_FUTURERELEASE, true},
    {"XFORWARD", EXT_XFORWARD, false},    {"AUTH", EXT_AUTH, false}, /* the session decides whether to offer it */
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

/* Mechanisms that use channel binding or the client's certificate cannot be relayed: the backend sees our TLS channel and our certificate. */
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

static bool keep_word(struct str word, char *into, size_t room)
{
    for (size_t i = 0; i < word.len; i++)
        if (!char_is_alnum(word.at[i]) && !strchr("-_.:+", word.at[i]))
            return false;
    if (word.len >= room)
        return false;
    memcpy(into, word.len ? word.at : "", word.len);
    into[word.len] = 0;
    return true;
}

/* RFC 9422 4: NAME=value of 1 to 6 digits, not 0. What is malformed or unknown is passed over. */
static void parse_limits(struct str words, struct capabilities *c)
{
    for (struct str word; (word = str_word(&words)).at;) {
        struct str value = word, name = str_cut(&value, '=');
        uint64_t n;
        if (!value.len || value.len > 6 || !str_number(value, &n) || !n)
            continue;
        if (str_equal_nocase(name, STR("MAILMAX")))
            c->mail_max = (uint32_t)n;
        else if (str_equal_nocase(name, STR("RCPTMAX")))
            c->rcpt_max = (uint32_t)n;
        else if (str_equal_nocase(name, STR("RCPTDOMAINMAX")))
            c->rcpt_domain_max = (uint32_t)n;
    }
}

/* RFC 2852 2: optionally the least by-time, perhaps with more behind a comma. */
static bool parse_deliver_by(struct str words, struct capabilities *c)
{
    struct str rest = str_word(&words), number = str_cut(&rest, ',');
    uint64_t n = 0;
    if (number.len && (number.len > 9 || !str_number(number, &n)))
        return false;
    c->deliver_by = (uint32_t)n;
    return true;
}

/* RFC 4865 3: the longest interval and the latest date-time. A malformed line does not change values of an earlier line. */
static bool parse_future(struct str words, struct capabilities *c)
{
    struct str interval = str_word(&words), until = str_word(&words);
    uint64_t most;
    if (interval.len > 9 || !str_number(interval, &most) || !most || !date_is_valid(until) ||
        !keep_word(until, c->hold_until, sizeof c->hold_until))
        return false;
    c->hold_most = most;
    return true;
}

static void parse_line(struct str line, struct capabilities *c)
{
    struct str word = str_word(&line);
    if (str_starts_nocase(word, STR("AUTH="))) { /* an obsolete form of early Microsoft servers */
        struct str first = str_part(word, 5, word.len);
        if (first.len && can_be_relayed(first))
            add_mechanism(c, first);
        word.len = 4;
    }
    uint32_t bit = 0;
    for (size_t i = 0; word.at && i < countof(keywords); i++)
        if (str_equal_nocase(word, str_of(keywords[i].name)))
            bit = keywords[i].bit;
    if ((bit == EXT_DELIVERBY && !parse_deliver_by(line, c)) || (bit == EXT_FUTURERELEASE && !parse_future(line, c)))
        return;
    if (bit == EXT_LIMITS)
        parse_limits(line, c);
    if (bit == EXT_MT_PRIORITY && !keep_word(str_word(&line), c->priority, sizeof c->priority))
        return;
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

static uint64_t stricter(uint64_t a, uint64_t b)
{
    return a && b ? min_u64(a, b) : a + b;
}

struct capabilities capabilities_common(struct capabilities a, struct capabilities b)
{
    struct capabilities both = {.has = a.has & b.has, .xclient = a.xclient & b.xclient, .xforward = a.xforward & b.xforward};
    both.size = stricter(a.size, b.size);
    both.mail_max = (uint32_t)stricter(a.mail_max, b.mail_max);
    both.rcpt_max = (uint32_t)stricter(a.rcpt_max, b.rcpt_max);
    both.rcpt_domain_max = (uint32_t)stricter(a.rcpt_domain_max, b.rcpt_domain_max);
    both.hold_most = stricter(a.hold_most, b.hold_most);
    both.deliver_by = a.deliver_by > b.deliver_by ? a.deliver_by : b.deliver_by;
    /* Of two date-times, the one that sorts first as text. They usually have the same zone; the next hop checks the value again. */
    bool first = a.hold_until[0] && (!b.hold_until[0] || strcmp(a.hold_until, b.hold_until) < 0);
    memcpy(both.hold_until, first ? a.hold_until : b.hold_until, sizeof both.hold_until);
    if (!strcmp(a.priority, b.priority))
        memcpy(both.priority, a.priority, sizeof both.priority);
    struct str rest = str_of(a.auth);
    for (struct str m; (m = str_word(&rest)).at;)
        if (has_word(b.auth, m))
            add_mechanism(&both, m);
    return both;
}

/* What stands behind the keyword, a SP before it; "": nothing. */
static struct str argument(const struct capabilities *c, uint32_t bit, struct arena *arena)
{
    struct str text = STR("");
    char room[DECIMAL_ROOM];
    switch (bit) {
    case EXT_SIZE:
        return c->size ? arena_join(arena, 2, (struct str[]){STR(" "), str_decimal(room, c->size)}) : text;
    case EXT_LIMITS:
        if (c->mail_max)
            text = arena_print(arena, " MAILMAX=%u", c->mail_max);
        if (c->rcpt_max)
            text = arena_print(arena, "%.*s RCPTMAX=%u", STR_ARGS(text), c->rcpt_max);
        if (c->rcpt_domain_max)
            text = arena_print(arena, "%.*s RCPTDOMAINMAX=%u", STR_ARGS(text), c->rcpt_domain_max);
        return text;
    case EXT_MT_PRIORITY: return c->priority[0] ? arena_print(arena, " %s", c->priority) : text;
    case EXT_DELIVERBY: return c->deliver_by ? arena_print(arena, " %u", c->deliver_by) : text;
    case EXT_FUTURERELEASE: return arena_print(arena, " %llu %s", (unsigned long long)c->hold_most, c->hold_until);
    default: return text;
    }
}

struct str capabilities_text(struct capabilities c, struct arena *arena)
{
    char text[512];
    size_t n = 0;
    if (!c.mail_max && !c.rcpt_max && !c.rcpt_domain_max)
        c.has &= ~(uint32_t)EXT_LIMITS;
    for (size_t i = 0; i < countof(keywords); i++) {
        if (!keywords[i].said || !(c.has & keywords[i].bit))
            continue;
        struct str value = argument(&c, keywords[i].bit, arena);
        struct str pieces[] = {n ? STR("\n") : STR(""), str_of(keywords[i].name), value};
        for (size_t k = 0; k < countof(pieces); k++) {
            must(n + pieces[k].len < sizeof text);
            memcpy(text + n, pieces[k].len ? pieces[k].at : "", pieces[k].len);
            n += pieces[k].len;
        }
    }
    return arena_str(arena, (struct str){text, n});
}

/* True: s begins with the form of `shape`, where "d" stands for a digit and every other octet for itself. */
static bool has_shape(struct str s, const char *shape)
{
    for (size_t i = 0; shape[i]; i++)
        if (i >= s.len || (shape[i] == 'd' ? !char_is_digit(s.at[i]) : s.at[i] != shape[i]))
            return false;
    return true;
}

bool date_is_valid(struct str s)
{
    if (!has_shape(s, "dddd-dd-ddTdd:dd:dd"))
        return false;
    s = str_part(s, 19, s.len);
    if (s.len > 1 && s.at[0] == '.' && char_is_digit(s.at[1]))
        for (s = str_part(s, 1, s.len); s.len && char_is_digit(s.at[0]);)
            s = str_part(s, 1, s.len);
    return str_equal(s, STR("Z")) || (s.len == 6 && (has_shape(s, "+dd:dd") || has_shape(s, "-dd:dd")));
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

bool xtext_repair(struct str s, struct arena *arena, struct str *right)
{
    char *text = arena_space(arena, s.len + 1);
    size_t n = 0;
    if (!str_is_utf8(s) || str_has_control(s))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] != '+') {
            text[n++] = s.at[i];
            continue;
        }
        if (s.len - i < 3 || char_hex(s.at[i + 1]) < 0 || char_hex(s.at[i + 2]) < 0)
            return false;
        text[n++] = (char)(char_hex(s.at[i + 1]) << 4 | char_hex(s.at[i + 2]));
        i += 2;
    }
    struct pipe out = {0};
    xtext_put((struct str){text, n}, &out);
    *right = arena_str(arena, pipe_flat(&out, out.octets, arena));
    pipe_clear(&out);
    return true;
}
