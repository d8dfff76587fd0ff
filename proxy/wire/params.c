/* params.c - parameters of MAIL and RCPT: esmtp-param of RFC 5321 4.1.2, with the values of RFC 1870 4 (SIZE), RFC 6152 2 (BODY), RFC 3030 3
 * (BINARYMIME), RFC 8689, 6710, 2852, 4865 (REQUIRETLS, MT-PRIORITY, BY, HOLDFOR and HOLDUNTIL), RFC 6531 3.4 (SMTPUTF8), RFC 3461 4 (RET,
 * ENVID, NOTIFY, ORCPT), RFC 4954 5 (AUTH).
 *
 * A table says to which command and extension each parameter belongs; a parameter of no offered extension is 555. Parameters for a backend
 * are written from the parsed form. */
#include "wire/params.h"

enum { ENVID_MOST = 100, ORCPT_MOST = 500 }; /* RFC 3461 4.4, 4.2 */
enum { ORCPT_LENIENT = 1200 };               /* so that RCPT with the longest path and NOTIFY still fits into Postfix' line of 2048 octets */

struct parsing {
    struct params *params;
    enum syntax syntax;
    bool vouched;  /* AUTH= has named a user */
    bool repaired; /* something was corrected to the form of the RFCs */
    struct capabilities can;
    struct arena *arena;
};
typedef int value_reader(struct parsing *, struct str value); /* value STR_NONE: no "=" */

static int read_size(struct parsing *p, struct str value)
{
    /* RFC 1870 6: up to 20 digits, which is more than 64 bits hold; beyond them it is too large, not malformed. */
    if (!value.len || value.len > 20)
        return REPLY_PARAM_BAD;
    for (size_t i = 0; i < value.len; i++)
        if (!char_is_digit(value.at[i]))
            return REPLY_PARAM_BAD;
    if (!str_number(value, &p->params->size))
        p->params->size = UINT64_MAX;
    return 0;
}

static int read_body(struct parsing *p, struct str value)
{
    if (!value.len)
        return REPLY_PARAM_BAD;
    if (str_equal_nocase(value, STR("7BIT")))
        p->params->body = BODY_7BIT;
    else if (str_equal_nocase(value, STR("8BITMIME")))
        p->params->body = BODY_8BITMIME;
    else if (str_equal_nocase(value, STR("BINARYMIME")) && (p->can.has & EXT_BINARYMIME))
        p->params->body = BODY_BINARYMIME;
    else
        return REPLY_PARAM_VALUE;
    return 0;
}

static int read_smtputf8(struct parsing *p, struct str value)
{
    p->params->smtputf8 = true;
    return value.at ? REPLY_PARAM_BAD : 0;
}

static int read_ret(struct parsing *p, struct str value)
{
    bool full = str_equal_nocase(value, STR("FULL"));
    if (!full && !str_equal_nocase(value, STR("HDRS")))
        return REPLY_PARAM_BAD;
    p->params->ret = full ? STR("FULL") : STR("HDRS");
    return 0;
}

/* True: *value is xtext, or was corrected to xtext (LENIENT). */
static bool is_xtext(struct parsing *p, struct str *value)
{
    if (xtext_is_valid(*value))
        return true;
    if (p->syntax == SYNTAX_STRICT || !xtext_repair(*value, p->arena, value))
        return false;
    p->repaired = true;
    return true;
}

static int read_envid(struct parsing *p, struct str value)
{
    bool too_long = value.len > ENVID_MOST && p->syntax == SYNTAX_STRICT;
    if (!value.len || too_long || !is_xtext(p, &value))
        return REPLY_PARAM_BAD;
    p->params->envid = arena_str(p->arena, value);
    return 0;
}

static int read_auth(struct parsing *p, struct str value)
{
    /* RFC 4954 5: a server that offers AUTH must accept it. The backend decides whether it trusts the value. */
    if (p->vouched)
        return REPLY_PARAM_TWICE;
    p->vouched = !str_equal(value, STR("<>"));
    if (!(p->can.has & EXT_AUTH)) { /* some clients always send AUTH=<>: accept and drop it */
        p->repaired = true;
        return 0;
    }
    if (!value.len || !is_xtext(p, &value))
        return REPLY_PARAM_BAD;
    p->params->auth = arena_str(p->arena, value);
    return 0;
}

static int read_requiretls(struct parsing *p, struct str value)
{
    p->params->requiretls = true;
    return value.at ? REPLY_PARAM_BAD : 0;
}

/* RFC 6710 4: "0", or a digit of 1 to 9, perhaps with "-" before it. */
static int read_priority(struct parsing *p, struct str value)
{
    bool minus = value.len == 2 && value.at[0] == '-';
    if (value.len != (minus ? 2u : 1u) || !char_is_digit(value.at[minus]) || (minus && value.at[1] == '0'))
        return REPLY_PARAM_BAD;
    p->params->priority = arena_str(p->arena, value);
    return 0;
}

/* RFC 2852 4: by-time ";" by-mode ["T"]; mode R requires a by-time above 0. */
static int read_by(struct parsing *p, struct str value)
{
    struct str mode = value, time = str_cut(&mode, ';');
    bool sign = time.len && (time.at[0] == '-' || time.at[0] == '+');
    struct str digits = str_part(time, sign, time.len);
    uint64_t n;
    if (digits.len > 9 || !str_number(digits, &n) || !mode.len || mode.len > 2)
        return REPLY_PARAM_BAD;
    bool returns = mode.at[0] == 'R' || mode.at[0] == 'r', notifies = mode.at[0] == 'N' || mode.at[0] == 'n';
    bool traces = mode.len == 1 || mode.at[1] == 'T' || mode.at[1] == 't';
    if ((!returns && !notifies) || !traces || (returns && (!n || time.at[0] == '-')))
        return REPLY_PARAM_BAD;
    p->params->by = arena_str(p->arena, value);
    return 0;
}

/* RFC 4865 4: one of them, and no more than was offered. */
static int read_holdfor(struct parsing *p, struct str value)
{
    uint64_t n;
    if (p->params->hold.at)
        return REPLY_PARAM_TWICE;
    if (!value.len || value.len > 9 || !str_number(value, &n) || !n || (p->can.hold_most && n > p->can.hold_most))
        return REPLY_PARAM_BAD;
    p->params->hold = arena_print(p->arena, "HOLDFOR=%.*s", STR_ARGS(value));
    return 0;
}

static int read_holduntil(struct parsing *p, struct str value)
{
    if (p->params->hold.at)
        return REPLY_PARAM_TWICE;
    if (!date_is_valid(value))
        return REPLY_PARAM_BAD;
    p->params->hold = arena_print(p->arena, "HOLDUNTIL=%.*s", STR_ARGS(value));
    return 0;
}

static int read_notify(struct parsing *p, struct str value)
{
    static const char *const words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    struct str rest = value;
    char *text = arena_space(p->arena, value.len + 1);
    size_t n = 0, count = 0;
    bool never = false;
    while (rest.at) {
        struct str word = str_cut(&rest, ',');
        size_t i = 0;
        if (!word.len && p->syntax == SYNTAX_LENIENT)
            continue;
        while (i < countof(words) && !str_equal_nocase(word, str_of(words[i])))
            i++;
        if (i == countof(words))
            return REPLY_PARAM_BAD;
        never |= i == 0;
        if (count++)
            text[n++] = ',';
        memcpy(text + n, word.at, word.len);
        n += word.len;
    }
    text[n] = 0;
    if (!count || (never && count > 1)) /* RFC 3461 4.1: only by itself */
        return REPLY_PARAM_BAD;
    p->repaired |= n < value.len;
    p->params->notify = (struct str){text, n};
    return 0;
}

/* RFC 6533 3: an address of type utf-8 may be UTF-8 as it is where SMTPUTF8 was offered. */
static bool is_utf8_text(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] <= ' ' || s.at[i] == 127 || s.at[i] == '+' || s.at[i] == '=')
            return false;
    return str_is_utf8(s);
}

static int read_orcpt(struct parsing *p, struct str value)
{
    size_t semicolon = str_find(value, STR(";"));
    size_t most = p->syntax == SYNTAX_STRICT ? ORCPT_MOST : ORCPT_LENIENT;
    if (!value.len || semicolon == 0 || semicolon == value.len || value.len > most)
        return REPLY_PARAM_BAD;
    struct str type = str_part(value, 0, semicolon), address = str_part(value, semicolon + 1, value.len);
    for (size_t i = 0; i < type.len; i++)
        if (!char_is_alnum(type.at[i]) && type.at[i] != '-' && (type.at[i] != '_' || p->syntax == SYNTAX_STRICT))
            return REPLY_PARAM_BAD;
    bool utf8 = str_equal_nocase(type, STR("utf-8")) && (p->can.has & EXT_SMTPUTF8);
    if (!(utf8 && is_utf8_text(address)) && !is_xtext(p, &address))
        return REPLY_PARAM_BAD;
    if (type.len + 1 + address.len > most)
        return REPLY_PARAM_BAD;
    p->params->orcpt = arena_join(p->arena, 3, (struct str[]){type, STR(";"), address});
    return 0;
}

enum { ON_MAIL = 1, ON_RCPT = 2 };
static const struct known_param {
    const char *name;
    unsigned on;
    uint32_t needs;
    value_reader *read;
    bool again; /* LENIENT accepts it more than once, and the last one counts */
} known[] = {
    {"SIZE", ON_MAIL, EXT_SIZE, read_size, true},
    {"BODY", ON_MAIL, EXT_8BITMIME, read_body, true},
    {"RET", ON_MAIL, EXT_DSN, read_ret},
    {"SMTPUTF8", ON_MAIL, EXT_SMTPUTF8, read_smtputf8, true},
    {"ENVID", ON_MAIL, EXT_DSN, read_envid},
    {"AUTH", ON_MAIL, EXT_AUTH, read_auth, true},
    {"REQUIRETLS", ON_MAIL, EXT_REQUIRETLS, read_requiretls},
    {"MT-PRIORITY", ON_MAIL, EXT_MT_PRIORITY, read_priority},
    {"BY", ON_MAIL, EXT_DELIVERBY, read_by},
    {"HOLDFOR", ON_MAIL, EXT_FUTURERELEASE, read_holdfor},
    {"HOLDUNTIL", ON_MAIL, EXT_FUTURERELEASE, read_holduntil},
    {"NOTIFY", ON_RCPT, EXT_DSN, read_notify},
    {"ORCPT", ON_RCPT, EXT_DSN, read_orcpt},
};

/* esmtp-keyword: letters and digits, then hyphens too. */
static bool is_keyword(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!char_is_alnum(s.at[i]) && (i == 0 || s.at[i] != '-'))
            return false;
    return s.len > 0;
}

static int read_one(struct parsing *p, struct str text, unsigned on, unsigned *seen, struct str *word)
{
    struct str value = text, keyword = str_cut(&value, '=');
    *word = arena_str(p->arena, str_part(keyword, 0, 64));
    if (!is_keyword(keyword)) {
        *word = STR("syntax");
        return REPLY_PARAM_BAD;
    }
    for (size_t i = 0; i < countof(known); i++) {
        if (!str_equal_nocase(keyword, str_of(known[i].name)))
            continue;
        bool lenient = p->syntax == SYNTAX_LENIENT;
        if (!(known[i].on & on) || (!(p->can.has & known[i].needs) && !(lenient && known[i].needs == EXT_AUTH)))
            break;
        if (*seen & 1u << i && !(lenient && known[i].again))
            return REPLY_PARAM_TWICE;
        p->repaired |= (*seen & 1u << i) != 0;
        *seen |= 1u << i;
        return known[i].read(p, value);
    }
    return REPLY_PARAM_UNKNOWN;
}

static void put_word(struct pipe *out, struct str name, struct str value)
{
    if (!value.at)
        return;
    pipe_put(out, name);
    pipe_put(out, value);
}

void params_put_mail(const struct params *p, struct capabilities can, uint64_t size, struct pipe *out)
{
    if ((can.has & EXT_SIZE) && size)
        pipe_print(out, " SIZE=%llu", (unsigned long long)size);
    if ((can.has & EXT_8BITMIME) && p->body == BODY_7BIT)
        pipe_put(out, STR(" BODY=7BIT"));
    if ((can.has & EXT_8BITMIME) && p->body == BODY_8BITMIME)
        pipe_put(out, STR(" BODY=8BITMIME"));
    if ((can.has & EXT_BINARYMIME) && p->body == BODY_BINARYMIME)
        pipe_put(out, STR(" BODY=BINARYMIME"));
    if ((can.has & EXT_SMTPUTF8) && p->smtputf8)
        pipe_put(out, STR(" SMTPUTF8"));
    if (can.has & EXT_AUTH)
        put_word(out, STR(" AUTH="), p->auth);
    if (can.has & EXT_DSN) {
        put_word(out, STR(" RET="), p->ret);
        put_word(out, STR(" ENVID="), p->envid);
    }
    if ((can.has & EXT_REQUIRETLS) && p->requiretls)
        pipe_put(out, STR(" REQUIRETLS"));
    if (can.has & EXT_MT_PRIORITY)
        put_word(out, STR(" MT-PRIORITY="), p->priority);
    if (can.has & EXT_DELIVERBY)
        put_word(out, STR(" BY="), p->by);
    if (can.has & EXT_FUTURERELEASE)
        put_word(out, STR(" "), p->hold);
}

/* RFC 6533 3: for a server that does not offer SMTPUTF8, a non-ASCII character is written as "\x{...}" with its code point in hexadecimal. */
static void put_ascii(struct pipe *out, struct str utf8)
{
    for (size_t i = 0; i < utf8.len;) {
        unsigned char first = (unsigned char)utf8.at[i];
        size_t more = first < 0xC0 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3; /* well formed: it was parsed */
        unsigned long point = more ? first & (0x3F >> more) : first;
        for (size_t k = 1; k <= more; k++)
            point = point << 6 | ((unsigned char)utf8.at[i + k] & 0x3F);
        if (more)
            pipe_print(out, "\\x{%lX}", point);
        else
            pipe_copy(out, utf8.at + i, 1);
        i += more + 1;
    }
}

void params_put_rcpt(const struct params *p, struct capabilities can, struct pipe *out)
{
    if (!(can.has & EXT_DSN))
        return;
    put_word(out, STR(" NOTIFY="), p->notify);
    if ((can.has & EXT_SMTPUTF8) || str_is_ascii(p->orcpt)) {
        put_word(out, STR(" ORCPT="), p->orcpt);
    } else {
        struct pipe text = {0};
        put_ascii(&text, p->orcpt);
        if (text.octets <= ORCPT_MOST) { /* else leave ORCPT out: it only serves delivery reports, and RCPT must not fail for it */
            pipe_put(out, STR(" ORCPT="));
            pipe_move(&text, out, text.octets);
        }
        pipe_clear(&text);
    }
}

static struct str put_text(unsigned on, const struct params *params, struct capabilities can, struct arena *arena)
{
    struct pipe out = {0};
    if (on & ON_MAIL)
        params_put_mail(params, can, params->size, &out);
    else
        params_put_rcpt(params, can, &out);
    struct str text = str_trim(pipe_flat(&out, out.octets, arena));
    text = arena_str(arena, text.len ? text : STR(""));
    pipe_clear(&out);
    return text;
}

/* Tabs are blanks too. */
static struct str with_spaces(struct str s, struct arena *arena)
{
    if (!s.len || !memchr(s.at, '\t', s.len))
        return s;
    char *text = arena_space(arena, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        text[i] = s.at[i] == '\t' ? ' ' : s.at[i];
    return (struct str){text, s.len};
}

static int parse(struct str s, unsigned on, enum syntax syntax, struct capabilities can, struct arena *arena,
                 struct params *params, struct str *word)
{
    struct parsing p = {.params = params, .syntax = syntax, .can = can, .arena = arena};
    char *text = arena_space(arena, s.len + 1);
    size_t n = 0;
    unsigned seen = 0;
    *params = (struct params){.ret = STR_NONE};
    if (syntax == SYNTAX_LENIENT)
        s = with_spaces(s, arena);
    for (struct str one = str_word(&s); one.at; one = str_word(&s)) {
        int reply = read_one(&p, one, on, &seen, word);
        if (reply)
            return reply;
        if (n)
            text[n++] = ' ';
        memcpy(text + n, one.at, one.len);
        n += one.len;
    }
    text[n] = 0;
    params->text = p.repaired ? put_text(on, params, can, arena) : (struct str){text, n};
    return 0;
}

int params_parse_mail(struct str s, enum syntax syntax, struct capabilities can, struct arena *arena, struct params *p,
                      struct str *word)
{
    return parse(s, ON_MAIL, syntax, can, arena, p, word);
}

int params_parse_rcpt(struct str s, enum syntax syntax, struct capabilities can, struct arena *arena, struct params *p,
                      struct str *word)
{
    return parse(s, ON_RCPT, syntax, can, arena, p, word);
}

bool params_need_more(const struct params *p, struct capabilities can)
{
    uint32_t needs = (p->body == BODY_8BITMIME ? EXT_8BITMIME : 0) | (p->body == BODY_BINARYMIME ? EXT_BINARYMIME : 0) |
                     (p->smtputf8 ? EXT_SMTPUTF8 : 0) |
                     (p->requiretls ? EXT_REQUIRETLS : 0) | (p->priority.at ? EXT_MT_PRIORITY : 0) |
                     (p->by.at ? EXT_DELIVERBY : 0) | (p->hold.at ? EXT_FUTURERELEASE : 0) |
                     (p->ret.at || p->envid.at || p->notify.at || p->orcpt.at ? EXT_DSN : 0);
    return (needs & ~can.has) != 0;
}
