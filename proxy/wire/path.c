/* path.c - the grammar of paths: RFC 5321 4.1.2 (Path, Mailbox, Dot-string, Quoted-string), 4.1.3 (address literals),
 * 4.5.3.1 (lengths), RFC 6531 3.3 (UTF-8 in local parts and domains).
 *
 * The strict parser follows the grammar, with two exceptions: underscores in domains are accepted, and source routes are accepted and
 * dropped (RFC 5321 appendix C). A path in this form is forwarded as it was typed. A path that only the lenient parser accepts is written
 * again from the parsed address, so that the backend reads the same address as the filters. An empty quoted local part is refused although
 * the grammar allows it, because "@domain" is the key of a whole domain in tables. */
#include "wire/path.h"
#include "base/idn.h"
#include <arpa/inet.h>

/* The position of the parser: the rest of the text, and the reply for the first error. */
struct cursor {
    struct str left;
    bool too_long;
};

static char peek(const struct cursor *c)
{
    return c->left.len ? c->left.at[0] : 0; /* NUL is legal nowhere, so it may stand for the end */
}

static void step(struct cursor *c, size_t n)
{
    c->left = str_part(c->left, n, c->left.len);
}

static bool take(struct cursor *c, char octet)
{
    if (!c->left.len || c->left.at[0] != octet)
        return false;
    step(c, 1);
    return true;
}

/* ATEXT: RFC 5322 3.2.3, and by RFC 6531 3.3 all octets above 127 (valid UTF-8 is checked for the whole path).
 * LABEL: what the label of a domain is made of. */
enum { ATEXT = 1, LABEL = 2, DOT = 4, BOTH = ATEXT | LABEL };
static const uint8_t class[256] = {
    ['0' ... '9'] = BOTH, ['A' ... 'Z'] = BOTH, ['a' ... 'z'] = BOTH, [128 ... 255] = BOTH, ['-'] = BOTH,   ['_'] = BOTH,
    ['!'] = ATEXT,        ['#'] = ATEXT,        ['$'] = ATEXT,        ['%'] = ATEXT,        ['&'] = ATEXT,  ['\''] = ATEXT,
    ['*'] = ATEXT,        ['+'] = ATEXT,        ['/'] = ATEXT,        ['='] = ATEXT,        ['?'] = ATEXT,  ['^'] = ATEXT,
    ['`'] = ATEXT,        ['{'] = ATEXT,        ['|'] = ATEXT,        ['}'] = ATEXT,        ['~'] = ATEXT,  ['.'] = DOT};

static inline unsigned class_of(char c)
{
    return class[(unsigned char)c];
}

/* How many octets at the head are atext or dots. */
static size_t dotted_length(struct str s)
{
    size_t n = 0;
    while (n < s.len && class_of(s.at[n]) & (ATEXT | DOT))
        n++;
    return n;
}

static bool is_dot_string(struct str s)
{
    bool after_dot = true;
    for (size_t i = 0; i < s.len; i++) {
        unsigned is = class_of(s.at[i]);
        if (is & DOT ? after_dot : !(is & ATEXT))
            return false;
        after_dot = is & DOT;
    }
    return !after_dot;
}

/* ---- domains --------------------------------------------------------------------------------------------------------
 */

static bool label_is_valid(struct str s)
{
    size_t characters = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!(class_of(s.at[i]) & LABEL))
            return false;
        characters += ((unsigned char)s.at[i] & 0xC0) != 0x80;
    }
    /* RFC 1035 2.3.4: 63 octets. A U-label is counted in characters here, since the limit applies to its A-label. */
    return s.len && characters <= 63 && s.at[0] != '-' && s.at[s.len - 1] != '-';
}

static bool domain_is_valid(struct str s)
{
    if (!s.len || s.len > PATH_DOMAIN_MOST)
        return false;
    while (s.at)
        if (!label_is_valid(str_cut(&s, '.')))
            return false;
    return true;
}

/* RFC 5321 4.1.3; with its brackets. */
static bool literal_is_valid(struct str s)
{
    if (s.len < 3 || s.len > PATH_DOMAIN_MOST || s.at[0] != '[' || s.at[s.len - 1] != ']')
        return false;
    s = str_part(s, 1, s.len - 1);
    bool six = str_starts_nocase(s, STR("IPv6:"));
    struct str number = six ? str_part(s, 5, s.len) : s;
    char text[64], into[16];
    if (number.len < sizeof text && !memchr(number.at, 0, number.len)) {
        memcpy(text, number.at, number.len);
        text[number.len] = 0;
        if (inet_pton(six ? AF_INET6 : AF_INET, text, into) == 1)
            return true;
    }
    size_t colon = str_find(s, STR(":"));
    if (six || colon == 0 || colon + 1 >= s.len || s.at[colon - 1] == '-')
        return false;
    for (size_t i = 0; i < colon; i++) /* Standardized-tag = Ldh-str */
        if (!char_is_alnum(s.at[i]) && s.at[i] != '-')
            return false;
    for (size_t i = colon + 1; i < s.len; i++) /* dcontent */
        if (s.at[i] < 33 || s.at[i] > 126 || (s.at[i] >= '[' && s.at[i] <= ']'))
            return false;
    return true;
}

/* A domain or a literal at the cursor. */
static bool take_domain(struct cursor *c, struct str *domain)
{
    if (peek(c) == '[')
        *domain = str_part(c->left, 0, str_find(c->left, STR("]")) + 1);
    else
        *domain = str_part(c->left, 0, dotted_length(c->left));
    step(c, domain->len);
    if (domain->len > PATH_DOMAIN_MOST) {
        c->too_long = true;
        return false;
    }
    return domain->len && domain->at[0] == '[' ? literal_is_valid(*domain) : domain_is_valid(*domain);
}

/* ---- local parts ----------------------------------------------------------------------------------------------------
 */

/* RFC 5321 4.1.2 Quoted-string: the octets it means. */
static bool take_quoted(struct cursor *c, struct arena *arena, struct str *local)
{
    char *text = arena_space(arena, c->left.len + 1);
    size_t n = 0;
    step(c, 1);
    while (!take(c, '"')) {
        bool pair = take(c, '\\');
        if (!c->left.len)
            return false;
        char octet = peek(c);
        /* quoted-pairSMTP is ASCII only; qtextSMTP may be UTF-8 (RFC 6531 3.3). */
        if ((unsigned char)octet < ' ' || octet == 127 || (pair && (unsigned char)octet > 127))
            return false;
        text[n++] = octet;
        step(c, 1);
    }
    text[n] = 0;
    *local = (struct str){text, n};
    return n > 0;
}

static bool take_local(struct cursor *c, struct arena *arena, struct str *local)
{
    if (peek(c) == '"') {
        if (!take_quoted(c, arena, local))
            return false;
    } else {
        *local = str_part(c->left, 0, dotted_length(c->left));
        step(c, local->len);
        if (!is_dot_string(*local))
            return false;
    }
    c->too_long = local->len > PATH_LOCAL_MOST;
    return !c->too_long;
}

/* ---- whole paths ----------------------------------------------------------------------------------------------------
 */

static int wrong(enum path_kind kind, const struct cursor *c)
{
    return c && c->too_long ? REPLY_PATH_TOO_LONG : kind == PATH_REVERSE ? REPLY_SENDER_SYNTAX : REPLY_RCPT_SYNTAX;
}

/* All spellings of one address literal are one key. */
static struct str literal_key(struct str domain, struct arena *arena)
{
    char room[IDN_ROOM];
    return domain.len && domain.at[0] == '[' ? arena_str(arena, idn_fold(domain, room)) : domain;
}

/* said: the part of raw that is sent to a backend. */
static void fill(struct path *p, struct str raw, struct str said, struct str local, struct str domain,
                 struct arena *arena)
{
    *p = (struct path){.raw = arena_str(arena, raw)};
    p->said = str_part(p->raw, raw.len - said.len, raw.len);
    domain = literal_key(domain, arena);
    p->local = arena_str(arena, local.at ? local : STR(""));
    p->domain = STR("");
    p->null = !local.len;
    p->utf8 = !str_is_ascii(raw);
    if (!domain.len) {
        p->address = p->null ? STR("") : arena_lower(arena, local);
        return;
    }
    char *text = arena_space(arena, local.len + 1 + domain.len + 1), *at = text + local.len;
    if (local.len)
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it has a length */
        memcpy(text, local.at, local.len);
    *at++ = '@';
    for (size_t i = 0; i < domain.len; i++) /* ASCII only: U-labels stay as they are */
        at[i] = char_lower(domain.at[i]);
    at[domain.len] = 0;
    p->domain = (struct str){at, domain.len};
    p->address = (struct str){text, local.len + 1 + domain.len};
}

/* RFC 5321 4.1.2: quoted only where it must be, pairs only for the two octets that need them. */
static struct str in_quotes(struct str local, struct arena *arena)
{
    if (!local.len || is_dot_string(local))
        return local;
    char *text = arena_space(arena, 2 * local.len + 3);
    size_t n = 0;
    text[n++] = '"';
    for (size_t i = 0; i < local.len; i++) {
        if (local.at[i] == '"' || local.at[i] == '\\')
            text[n++] = '\\';
        text[n++] = local.at[i];
    }
    text[n++] = '"';
    text[n] = 0;
    return (struct str){text, n};
}

/* In the form of RFC 5321 whatever it came in. */
static void fill_anew(struct path *p, struct str local, struct str domain, struct arena *arena)
{
    struct str pieces[] = {in_quotes(local, arena), domain.len ? STR("@") : STR(""), domain};
    struct str raw = arena_join(arena, countof(pieces), pieces);
    fill(p, raw, raw, local, domain, arena);
}

/* A-d-l of RFC 5321 4.1.2: "@a,@b:". */
static bool take_route(struct cursor *c)
{
    struct str domain;
    do {
        if (!take(c, '@') || !take_domain(c, &domain))
            return false;
    } while (take(c, ','));
    return take(c, ':');
}

/* Mailbox, or Postmaster alone. */
static bool take_mailbox(struct cursor *c, enum path_kind kind, struct arena *arena, struct str *local,
                         struct str *domain)
{
    bool quoted = peek(c) == '"';
    *domain = STR("");
    if (!take_local(c, arena, local))
        return false;
    if (take(c, '@'))
        return take_domain(c, domain);
    /* RFC 5321 4.1.1.3: the one name without a domain, in any case. */
    return kind == PATH_FORWARD && !quoted && str_equal_nocase(*local, STR("postmaster"));
}

static int parse_strict(struct str *rest, enum path_kind kind, struct arena *arena, struct path *p)
{
    struct cursor c = {*rest, false};
    struct str local = STR(""), domain = STR("");
    if (!take(&c, '<'))
        return wrong(kind, NULL);
    struct str whole = c.left, said = whole;
    bool routed = peek(&c) == '@';
    if (kind == PATH_FORWARD || routed || peek(&c) != '>') {
        if (routed && !take_route(&c))
            return wrong(kind, &c);
        said = c.left;
        if (!take_mailbox(&c, kind, arena, &local, &domain) || (routed && !domain.len))
            return wrong(kind, &c);
    }
    struct str raw = {whole.at, whole.len - c.left.len};
    said.len -= c.left.len;
    if (!take(&c, '>') || (c.left.len && c.left.at[0] != ' '))
        return wrong(kind, NULL);
    if (raw.len > PATH_MOST)
        return REPLY_PATH_TOO_LONG;
    if (!str_is_utf8(raw))
        return wrong(kind, NULL);
    fill(p, raw, said, local, domain, arena);
    *rest = c.left;
    return 0;
}

/* ---- the lenient parser ---- */

static void skip_blanks(struct cursor *c)
{
    while (peek(c) == ' ' || peek(c) == '\t')
        step(c, 1);
}

static size_t blanks_behind(struct str s)
{
    size_t n = 0;
    while (n < s.len && (s.at[s.len - 1 - n] == ' ' || s.at[s.len - 1 - n] == '\t'))
        n++;
    return n;
}

/* Offset of the next unquoted angle bracket after `from`, or outside of brackets also of white space, or the end. SIZE_MAX: a quote is not
 * closed. */
static size_t token_end(struct str s, size_t from, bool bracketed)
{
    bool quoted = false;
    size_t n = from;
    for (; n < s.len; n++) {
        char octet = s.at[n];
        if (octet == '\\' && quoted && n + 1 < s.len)
            n++;
        else if (octet == '"')
            quoted = !quoted;
        else if (!quoted && (octet == '<' || octet == '>'))
            break;
        else if (!quoted && !bracketed && (octet == ' ' || octet == '\t'))
            break;
    }
    return quoted ? SIZE_MAX : n;
}

/* True for a display name before an address (RFC 5322 3.2.5), with dots, that could not be an address itself. */
static bool is_phrase(struct str s)
{
    bool quoted = false, any = false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '"')
            quoted = !quoted;
        else if (quoted)
            i += s.at[i] == '\\';
        else if (s.at[i] != ' ' && s.at[i] != '\t' && !(class_of(s.at[i]) & (ATEXT | DOT)))
            return false;
        any = any || (s.at[i] != ' ' && s.at[i] != '\t');
    }
    return any;
}

/* One word at the head of *rest, up to white space outside of quotes and brackets; with brackets, the text between them. Some clients send
 * "<NAME <ADDRESS>>". */
static bool take_token(struct str *rest, struct str *inside)
{
    bool bracketed = rest->len && rest->at[0] == '<';
    size_t from = bracketed, n = token_end(*rest, from, bracketed);
    bool named = bracketed && n < rest->len && rest->at[n] == '<' && is_phrase(str_part(*rest, 1, n));
    if (named)
        n = token_end(*rest, from = n + 1, true);
    if (n == SIZE_MAX || (n < rest->len && rest->at[n] == '<') || bracketed != (n < rest->len && rest->at[n] == '>'))
        return false;
    *inside = str_part(*rest, from, n);
    size_t end = n + bracketed;
    while (named && end < rest->len && (rest->at[end] == ' ' || rest->at[end] == '\t'))
        end++;
    if (named && (!inside->len || inside->at[0] == '@' || end >= rest->len || rest->at[end++] != '>'))
        return false;
    *rest = str_part(*rest, end, rest->len);
    return (bracketed || inside->len) && (!rest->len || rest->at[0] == ' ' || rest->at[0] == '\t');
}

/* Words with dots between them, at the ends or side by side (RFC 5322 4.4, and carriers in Japan); a word may be
 * quoted. A colon is no more than itself here. */
static bool take_words(struct cursor *c, struct arena *arena, struct str *local)
{
    char *text = arena_space(arena, c->left.len + 1);
    size_t n = 0;
    bool after_dot = true;
    while (c->left.len && peek(c) != '@' && peek(c) != ' ' && peek(c) != '\t') {
        struct str piece = str_part(c->left, 0, 1);
        bool quoted = peek(c) == '"';
        if (quoted && (!after_dot || !take_quoted(c, arena, &piece)))
            return false;
        if (!quoted) {
            if (!(class_of(peek(c)) & (ATEXT | DOT)) && peek(c) != ':')
                return false;
            step(c, 1);
        }
        memcpy(text + n, piece.at, piece.len);
        n += piece.len;
        after_dot = !quoted && piece.at[0] == '.';
        if (quoted && c->left.len && !strchr("@. \t", peek(c)))
            return false;
    }
    text[n] = 0;
    *local = (struct str){text, n};
    c->too_long = n > PATH_LOCAL_MOST;
    return n > 0 && !c->too_long;
}

/* Accepts a name without a domain, for a local user of the backend. Refuses forms in which only the backend might see a domain:
 * "user%domain", "domain!user", "user@domain" in quotes. */
static bool is_plain_name(struct str name)
{
    return is_dot_string(name) && !memchr(name.at, '%', name.len) && !memchr(name.at, '!', name.len);
}

static bool take_loose(struct cursor *c, struct arena *arena, struct str *local, struct str *domain)
{
    bool routed = peek(c) == '@', quoted; /* not behind a blank: Postfix reads that as something else */
    if (routed && !take_route(c))
        return false;
    skip_blanks(c);
    quoted = peek(c) == '"';
    if (!take_words(c, arena, local))
        return false;
    skip_blanks(c);
    if (!c->left.len)
        return !routed && !quoted && is_plain_name(*local);
    if (!take(c, '@'))
        return false;
    skip_blanks(c);
    *domain = c->left;
    if (domain->len > 1 && domain->at[domain->len - 1] == '.')
        domain->len--; /* remove the dot of the root domain */
    c->too_long = domain->len > PATH_DOMAIN_MOST;
    return domain->len && domain->at[0] == '[' ? literal_is_valid(*domain) : domain_is_valid(*domain);
}

static int parse_lenient(struct str *rest, enum path_kind kind, struct arena *arena, struct path *p)
{
    struct cursor c = {*rest, false};
    struct str left, local = STR(""), domain = STR("");
    skip_blanks(&c);
    left = c.left;
    if (!take_token(&left, &c.left) || !str_is_utf8(c.left))
        return wrong(kind, NULL);
    if (c.left.len > PATH_MOST)
        return REPLY_PATH_TOO_LONG;
    c.left.len -= blanks_behind(c.left);
    if ((kind == PATH_FORWARD || c.left.len) && !take_loose(&c, arena, &local, &domain))
        return wrong(kind, &c);
    fill_anew(p, local, domain, arena);
    *rest = left;
    return 0;
}

int path_parse(struct str *rest, enum path_kind kind, enum syntax syntax, struct arena *arena, struct path *p)
{
    int why = parse_strict(rest, kind, arena, p);
    return why && syntax == SYNTAX_LENIENT ? parse_lenient(rest, kind, arena, p) : why;
}

/* Filters pass addresses with an unquoted local part, as they get them: "john doe@example.org" is accepted too. */
static bool split_plain(struct str s, struct str *local, struct str *domain)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it has a length */
    const char *at = s.len ? memrchr(s.at, '@', s.len) : NULL;
    if (!at || at == s.at)
        return false;
    *local = str_part(s, 0, (size_t)(at - s.at));
    *domain = str_part(s, local->len + 1, s.len);
    if (str_has_control(*local))
        return false;
    return domain->len && domain->at[0] == '[' ? literal_is_valid(*domain) : domain_is_valid(*domain);
}

int path_from_address(struct str s, enum path_kind kind, struct arena *arena, struct path *p)
{
    struct cursor c = {s.at ? s : STR(""), false};
    struct str local = STR(""), domain = STR("");
    if (s.len > PATH_MOST)
        return REPLY_PATH_TOO_LONG;
    if (!str_is_utf8(c.left) || (kind == PATH_FORWARD && !s.len))
        return wrong(kind, NULL);
    if (s.len && (!take_mailbox(&c, kind, arena, &local, &domain) || c.left.len)) {
        if (c.too_long || !split_plain(s, &local, &domain))
            return wrong(kind, &c);
        if (local.len > PATH_LOCAL_MOST)
            return REPLY_PATH_TOO_LONG;
    }
    fill_anew(p, local, domain, arena);
    return 0;
}

struct str path_print(const struct path *p, struct arena *arena)
{
    return arena_join(arena, 3, (struct str[]){STR("<"), p->said, STR(">")});
}

void path_put(const struct path *p, struct pipe *out)
{
    pipe_put(out, STR("<"));
    pipe_put(out, p->said);
    pipe_put(out, STR(">"));
}
