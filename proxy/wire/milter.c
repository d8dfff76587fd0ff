/* milter.c - reads and writes packets of the milter protocol by a table that lists the parts of each kind. There is no standard; the
 * references are libmilter (mfdef.h) and Postfix (milter8.c).
 *
 * Every length and octet of a peer is checked before it is used; a packet that is not completely valid is a fault. */
#include "wire/milter.h"

enum { LENGTH_OCTETS = 4, OPTION_OCTETS = 12 };

/* Parts, in their order: n name, F name of a field, v value, V value or the end, u value whose NUL may be missing,
 * o of, f family and address, i index, t texts, p pairs of texts, b octets, O option. */
static const struct shape {
    char kind;
    enum milter_side side;
    bool body; /* most_body bounds it */
    const char *parts;
} shapes[] = {
    {'O', MILTER_FROM_MTA, 0, "O"},      {'D', MILTER_FROM_MTA, 0, "op"},    {'C', MILTER_FROM_MTA, 0, "nf"},
    {'H', MILTER_FROM_MTA, 0, "n"},      {'M', MILTER_FROM_MTA, 0, "nt"},    {'R', MILTER_FROM_MTA, 0, "nt"},
    {'T', MILTER_FROM_MTA, 0, ""},       {'L', MILTER_FROM_MTA, 0, "Fv"},    {'N', MILTER_FROM_MTA, 0, ""},
    {'B', MILTER_FROM_MTA, 1, "b"},      {'E', MILTER_FROM_MTA, 0, "b"},     {'U', MILTER_FROM_MTA, 0, "v"},
    {'A', MILTER_FROM_MTA, 0, ""},       {'Q', MILTER_FROM_MTA, 0, ""},      {'K', MILTER_FROM_MTA, 0, ""},
    {'O', MILTER_FROM_FILTER, 0, "O"},   {'c', MILTER_FROM_FILTER, 0, ""},   {'a', MILTER_FROM_FILTER, 0, ""},
    {'r', MILTER_FROM_FILTER, 0, ""},    {'t', MILTER_FROM_FILTER, 0, ""},   {'d', MILTER_FROM_FILTER, 0, ""},
    {'p', MILTER_FROM_FILTER, 0, ""},    {'s', MILTER_FROM_FILTER, 0, ""},   {'4', MILTER_FROM_FILTER, 0, ""},
    {'f', MILTER_FROM_FILTER, 0, ""},    {'y', MILTER_FROM_FILTER, 0, "u"},  {'q', MILTER_FROM_FILTER, 0, "u"},
    {'+', MILTER_FROM_FILTER, 0, "n"},   {'-', MILTER_FROM_FILTER, 0, "n"},  {'2', MILTER_FROM_FILTER, 0, "nV"},
    {'e', MILTER_FROM_FILTER, 0, "nV"},  {'h', MILTER_FROM_FILTER, 0, "Fv"}, {'i', MILTER_FROM_FILTER, 0, "iFv"},
    {'m', MILTER_FROM_FILTER, 0, "iFv"}, {'b', MILTER_FROM_FILTER, 1, "b"},
};

#define BIT(name)                                                                                                      \
    {                                                                                                                  \
#name, MILTER_##name                                                                                           \
    }
const struct milter_bit milter_actions[] = {
    BIT(ADDHDRS),    BIT(CHGBODY), BIT(ADDRCPT),     BIT(DELRCPT),    BIT(CHGHDRS),
    BIT(QUARANTINE), BIT(CHGFROM), BIT(ADDRCPT_PAR), BIT(SETSYMLIST), {NULL, 0},
};
const struct milter_bit milter_steps[] = {
    BIT(NOCONNECT), BIT(NOHELO),  BIT(NOMAIL),      BIT(NORCPT),  BIT(NOBODY),  BIT(NOHDRS),
    BIT(NOEOH),     BIT(NR_HDR),  BIT(NOUNKNOWN),   BIT(NODATA),  BIT(SKIP),    BIT(RCPT_REJ),
    BIT(NR_CONN),   BIT(NR_HELO), BIT(NR_MAIL),     BIT(NR_RCPT), BIT(NR_DATA), BIT(NR_UNKN),
    BIT(NR_EOH),    BIT(NR_BODY), BIT(HDR_LEADSPC), {NULL, 0},
};
#undef BIT

static const char *const fault_texts[MILTER_FAULTS] = {
    [MILTER_GOOD] = "is well formed",
#define FAULT(name, text) [MILTER_##name] = text,
#include "wire/milter_faults.def"
#undef FAULT
};

static const struct shape *shape_of(char kind, enum milter_side side)
{
    for (size_t i = 0; i < countof(shapes); i++)
        if (shapes[i].kind == kind && shapes[i].side == side)
            return &shapes[i];
    return NULL;
}

static uint32_t number(const char *at)
{
    const unsigned char *u = (const unsigned char *)at;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static bool is_family(char c)
{
    return c == 'U' || c == 'L' || c == '4' || c == '6';
}

static bool is_field_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] < 33 || s.at[i] > 126 || s.at[i] == ':')
            return false;
    return s.len > 0;
}

/* ---- replies --------------------------------------------------------------------------------------------------------
 */

/* "%%" becomes '%', and a single '%' is removed. Stops when `room` octets are written. */
static size_t unescape(struct str s, char *to, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len && n < room; i++) {
        if (s.at[i] == '%' && (++i == s.len || s.at[i] != '%')) {
            i--;
            continue;
        }
        to[n++] = s.at[i];
    }
    return n;
}

/* The class of the enhanced code the text begins with (RFC 3463 2; two, four or five); 0: it begins with none. */
static char enhanced_class(struct str s)
{
    size_t i = 1;
    if (!s.len || (s.at[0] != '2' && s.at[0] != '4' && s.at[0] != '5'))
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        if (i == s.len || s.at[i++] != '.')
            return 0;
        for (; i < s.len && char_is_digit(s.at[i]); i++)
            digits++;
        if (!digits || digits > 3)
            return 0;
    }
    return i == s.len || s.at[i] == ' ' ? s.at[0] : 0;
}

/* Checks a line: "554", followed by nothing (in the last line only) or by `separator` and text. `code`: that of the first line. */
static bool is_reply_line(struct str line, const char *code, char separator, bool escaped)
{
    char head[12]; /* an enhanced code and what stands behind it */
    if (line.len < 3 || (line.at[0] != '4' && line.at[0] != '5') || !char_is_digit(line.at[1]) ||
        !char_is_digit(line.at[2]) || memcmp(line.at, code, 3) != 0)
        return false;
    if (line.len == 3)
        return separator == ' ';
    for (size_t i = 3; i < line.len; i++)
        if ((unsigned char)line.at[i] < ' ' && line.at[i] != '\t')
            return false;
    struct str text = str_part(line, 4, line.len);
    if (escaped)
        text = (struct str){head, unescape(text, head, sizeof head)};
    char class = enhanced_class(text);
    return line.at[3] == separator && (!class || class == line.at[0]);
}

/* Cuts the first line off y. */
static struct str cut_line(struct str *y)
{
    size_t n = str_find(*y, STR("\r\n"));
    struct str line = str_part(*y, 0, n);
    *y = n == y->len ? STR_NONE : str_part(*y, n + 2, y->len);
    return line;
}

static bool is_reply(struct str y)
{
    const char *code = y.at;
    for (size_t n = 0; y.at; n++) {
        struct str line = cut_line(&y);
        if (n == MILTER_LINES || !is_reply_line(line, code, y.at ? '-' : ' ', true))
            return false;
    }
    return true;
}

bool milter_reply_pack(const struct str *lines, size_t n, struct arena *arena, struct str *y)
{
    size_t room = 1, at = 0;
    for (size_t i = 0; i < n; i++) {
        if (lines[i].len > MILTER_LINE_MOST || !is_reply_line(lines[i], lines[0].at, ' ', false))
            return false;
        room += 2 * lines[i].len + 3;
    }
    if (n == 0 || n > MILTER_LINES)
        return false;
    char *to = arena_space(arena, room);
    for (size_t i = 0; i < n; i++) {
        bool last = i + 1 == n;
        memcpy(to + at, lines[i].at, 3);
        to[at + 3] = last ? ' ' : '-';
        at += 4;
        for (size_t k = 4; k < lines[i].len; k++) {
            to[at++] = lines[i].at[k];
            if (lines[i].at[k] == '%')
                to[at++] = '%';
        }
        if (!last) {
            memcpy(to + at, "\r\n", 2);
            at += 2;
        }
    }
    to[at] = 0;
    *y = (struct str){to, at};
    return true;
}

bool milter_reply_unpack(struct str y, struct arena *arena, struct str *lines, size_t *n)
{
    *n = 0;
    if (!y.at || !is_reply(y))
        return false;
    while (y.at) {
        struct str line = cut_line(&y);
        char *to = arena_space(arena, line.len + 1);
        size_t len = unescape(line, to, line.len);
        if (len > 3)
            to[3] = ' ';
        to[len] = 0;
        lines[(*n)++] = (struct str){to, len};
    }
    return true;
}

/* ---- read -----------------------------------------------------------------------------------------------------------
 */

/* The next text up to its NUL. */
static enum milter_fault take_text(struct str *rest, struct str *text)
{
    if (!rest->len)
        return MILTER_SHORT;
    const char *nul = memchr(rest->at, 0, rest->len);
    if (!nul)
        return MILTER_NO_NUL;
    *text = (struct str){rest->at, (size_t)(nul - rest->at)};
    *rest = str_part(*rest, text->len + 1, rest->len);
    return MILTER_GOOD;
}

static enum milter_fault take_number(struct str *rest, uint32_t *value)
{
    if (rest->len < 4)
        return MILTER_SHORT;
    *value = number(rest->at);
    *rest = str_part(*rest, 4, rest->len);
    return MILTER_GOOD;
}

static enum milter_fault take_open_text(struct str *rest, struct str *text)
{
    const char *nul = rest->len ? memchr(rest->at, 0, rest->len) : NULL;
    *text = str_part(*rest, 0, nul ? (size_t)(nul - rest->at) : rest->len);
    *rest = str_part(*rest, text->len + (nul ? 1 : 0), rest->len);
    return MILTER_GOOD;
}

static enum milter_fault take_family(struct str *rest, struct milter_packet *p)
{
    if (!rest->len)
        return MILTER_SHORT;
    p->of = rest->at[0];
    *rest = str_part(*rest, 1, rest->len);
    if (!is_family(p->of))
        return MILTER_BAD_FAMILY;
    if (p->of == 'U' && !rest->len)
        return MILTER_GOOD;
    if (rest->len < 2)
        return MILTER_SHORT;
    p->port = (uint16_t)((unsigned char)rest->at[0] << 8 | (unsigned char)rest->at[1]);
    *rest = str_part(*rest, 2, rest->len);
    return take_text(rest, &p->value);
}

static enum milter_fault take_texts(struct str *rest, struct milter_packet *p, bool paired)
{
    size_t texts = 0;
    p->rest = *rest;
    *rest = str_part(*rest, rest->len, rest->len);
    if (p->rest.len && p->rest.at[p->rest.len - 1])
        return MILTER_NO_NUL;
    if (paired)
        for (struct str left = p->rest, text; milter_next(&left, &text);)
            texts++;
    return texts % 2 ? MILTER_ODD : MILTER_GOOD;
}

/* A list with an unknown number is skipped; a truncated list and all after it are ignored, since other MTAs accept such packets. */
static enum milter_fault take_option(struct str *rest, struct milter_option *o)
{
    if (rest->len < OPTION_OCTETS)
        return MILTER_SHORT;
    take_number(rest, &o->version);
    take_number(rest, &o->actions);
    take_number(rest, &o->protocol);
    uint32_t where;
    struct str list;
    while (take_number(rest, &where) == MILTER_GOOD && take_text(rest, &list) == MILTER_GOOD)
        if (where < MILTER_WHERES)
            o->lists[where] = list;
    *rest = str_part(*rest, rest->len, rest->len);
    return MILTER_GOOD;
}

static enum milter_fault take_part(char part, struct str *rest, struct milter_packet *p)
{
    enum milter_fault fault;
    switch (part) {
    case 'n': return take_text(rest, &p->name);
    case 'F': fault = take_text(rest, &p->name); return fault || is_field_name(p->name) ? fault : MILTER_BAD_NAME;
    case 'V':
        if (!rest->len)
            return MILTER_GOOD;
        /* fall through */
    case 'v': return take_text(rest, &p->value);
    case 'u': return take_open_text(rest, &p->value);
    case 'o':
        if (!rest->len)
            return MILTER_SHORT;
        p->of = rest->at[0];
        *rest = str_part(*rest, 1, rest->len);
        return MILTER_GOOD;
    case 'f': return take_family(rest, p);
    case 'i': return take_number(rest, &p->index);
    case 't':
    case 'p': return take_texts(rest, p, part == 'p');
    case 'O': return take_option(rest, &p->option);
    default:
        p->rest = *rest;
        *rest = str_part(*rest, rest->len, rest->len);
        return MILTER_GOOD;
    }
}

/* Checks the length and the kind. PACKET: the packet is complete, and no fault has been found so far. */
static enum milter_took measure(const struct milter_reader *r, struct str held, size_t octets, struct milter_packet *p,
                                size_t *whole, enum milter_fault *fault)
{
    *p = (struct milter_packet){0};
    *fault = MILTER_GOOD;
    *whole = LENGTH_OCTETS;
    if (octets < LENGTH_OCTETS)
        return MILTER_MORE;
    size_t length = number(held.at);
    *whole = LENGTH_OCTETS + length;
    if (!length || length - 1 > max_size(r->most_body, r->most_other)) {
        *fault = length ? MILTER_TOO_LONG : MILTER_LENGTH_ZERO;
        return MILTER_BROKEN;
    }
    if (octets > LENGTH_OCTETS) {
        p->kind = held.at[LENGTH_OCTETS];
        const struct shape *shape = shape_of(p->kind, r->side);
        if (!shape)
            *fault = MILTER_UNKNOWN;
        else if (length - 1 > (shape->body ? r->most_body : r->most_other))
            *fault = MILTER_TOO_LONG;
        if (*fault)
            return MILTER_BROKEN;
    }
    if (octets == LENGTH_OCTETS && length - 1 > min_size(r->most_body, r->most_other))
        *whole = LENGTH_OCTETS + 1; /* its kind says whether that is too long */
    return octets < *whole ? MILTER_MORE : MILTER_PACKET;
}

enum milter_took milter_parse(const struct milter_reader *r, struct str held, struct milter_packet *p, size_t *whole,
                              enum milter_fault *fault)
{
    enum milter_took took = measure(r, held, held.len, p, whole, fault);
    if (took != MILTER_PACKET)
        return took;
    struct str rest = str_part(held, LENGTH_OCTETS + 1, *whole);
    for (const char *part = shape_of(p->kind, r->side)->parts; *part && !*fault; part++)
        *fault = take_part(*part, &rest, p);
    if (!*fault && rest.len)
        *fault = MILTER_TRAILING;
    if (!*fault && p->kind == 'y' && !is_reply(p->value))
        *fault = MILTER_BAD_CODE;
    return *fault ? MILTER_BROKEN : MILTER_PACKET;
}

enum milter_took milter_read(const struct milter_reader *r, struct pipe *in, struct arena *flat,
                             struct milter_packet *p, size_t *whole, enum milter_fault *fault)
{
    char head[LENGTH_OCTETS + 1];
    struct str seen = {head, min_size(in->octets, sizeof head)};
    pipe_peek(in, 0, head, seen.len);
    enum milter_took took = measure(r, seen, in->octets, p, whole, fault);
    if (took == MILTER_PACKET)
        return milter_parse(r, pipe_flat(in, *whole, flat), p, whole, fault);
    if (took == MILTER_MORE)
        pipe_compact(in);
    return took;
}

struct str milter_fault_print(enum milter_fault fault, const struct milter_packet *p, size_t whole, struct arena *arena)
{
    must(fault < MILTER_FAULTS);
    unsigned char kind = (unsigned char)p->kind;
    size_t octets = whole > LENGTH_OCTETS ? whole - LENGTH_OCTETS : 0;
    struct str of = !kind                      ? STR("")
                    : kind > ' ' && kind < 127 ? arena_print(arena, " of kind '%c'", kind)
                                               : arena_print(arena, " of kind 0x%02x", kind);
    return arena_print(arena, "a packet%.*s (%zu octets) %s", STR_ARGS(of), octets, fault_texts[fault]);
}

bool milter_next(struct str *rest, struct str *text)
{
    return take_text(rest, text) == MILTER_GOOD;
}

/* ---- written --------------------------------------------------------------------------------------------------------
 */

enum { CANNOT = MILTER_DATA_MOST + 1 }; /* as the octets of a part: no packet has it */

static size_t text_size(struct str s)
{
    return s.len > MILTER_DATA_MOST || (s.len && memchr(s.at, 0, s.len)) ? CANNOT : s.len + 1;
}

static size_t texts_size(struct str row, bool paired)
{
    size_t texts = 0;
    struct str left = row, text;
    while (paired && milter_next(&left, &text))
        texts++;
    return (row.len && row.at[row.len - 1]) || texts % 2 ? CANNOT : row.len;
}

static size_t family_size(const struct milter_packet *p)
{
    if (!is_family(p->of))
        return CANNOT;
    return p->of == 'U' && !p->value.at ? 1 : 3 + text_size(p->value);
}

static size_t option_size(const struct milter_option *o)
{
    size_t n = OPTION_OCTETS;
    for (size_t i = 0; i < MILTER_WHERES; i++)
        if (o->lists[i].at)
            n += 4 + text_size(o->lists[i]);
    return n;
}

static size_t part_size(char part, const struct milter_packet *p)
{
    switch (part) {
    case 'n': return text_size(p->name);
    case 'F': return is_field_name(p->name) ? text_size(p->name) : CANNOT;
    case 'V': return p->value.at ? text_size(p->value) : 0;
    case 'v':
    case 'u': return text_size(p->value);
    case 'o': return 1;
    case 'f': return family_size(p);
    case 'i': return 4;
    case 't':
    case 'p': return texts_size(p->rest, part == 'p');
    case 'O': return option_size(&p->option);
    default: return p->rest.len;
    }
}

size_t milter_size(const struct milter_packet *p, enum milter_side side)
{
    const struct shape *shape = shape_of(p->kind, side);
    size_t octets = 0;
    if (!shape || (p->kind == 'y' && (!p->value.at || !is_reply(p->value))))
        return 0;
    for (const char *part = shape->parts; *part; part++) {
        size_t n = part_size(*part, p);
        if (n > MILTER_DATA_MOST)
            return 0;
        octets += n;
    }
    return octets > MILTER_DATA_MOST ? 0 : LENGTH_OCTETS + 1 + octets;
}

static char *put(char *to, struct str s)
{
    memcpy(to, s.len ? s.at : "", s.len);
    return to + s.len;
}

static char *put_text(char *to, struct str s)
{
    to = put(to, s);
    *to = 0;
    return to + 1;
}

static char *put_number(char *to, uint32_t n)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *to++ = (char)(n >> shift);
    return to;
}

static char *put_family(char *to, const struct milter_packet *p)
{
    *to++ = p->of;
    if (p->of == 'U' && !p->value.at)
        return to;
    *to++ = (char)(p->port >> 8);
    *to++ = (char)p->port;
    return put_text(to, p->value);
}

static char *put_option(char *to, const struct milter_option *o)
{
    to = put_number(to, o->version);
    to = put_number(to, o->actions);
    to = put_number(to, o->protocol);
    for (uint32_t i = 0; i < MILTER_WHERES; i++)
        if (o->lists[i].at)
            to = put_text(put_number(to, i), o->lists[i]);
    return to;
}

static char *put_part(char part, const struct milter_packet *p, char *to)
{
    switch (part) {
    case 'n':
    case 'F': return put_text(to, p->name);
    case 'V': return p->value.at ? put_text(to, p->value) : to;
    case 'v':
    case 'u': return put_text(to, p->value);
    case 'o': *to = p->of; return to + 1;
    case 'f': return put_family(to, p);
    case 'i': return put_number(to, p->index);
    case 'O': return put_option(to, &p->option);
    default: return put(to, p->rest);
    }
}

void milter_write(const struct milter_packet *p, enum milter_side side, char *into)
{
    size_t whole = milter_size(p, side);
    must(whole);
    char *to = put_number(into, (uint32_t)(whole - LENGTH_OCTETS));
    *to++ = p->kind;
    for (const char *part = shape_of(p->kind, side)->parts; *part; part++)
        to = put_part(*part, p, to);
    must(to == into + whole);
}

/* ---- values of fields -----------------------------------------------------------------------------------------------
 */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str milter_value_out(struct str raw, bool leadspc, struct arena *arena)
{
    if (!leadspc && raw.len && raw.at[0] == ' ')
        raw = str_part(raw, 1, raw.len);
    if (str_find(raw, STR("\r\n")) == raw.len)
        return raw;
    char *to = arena_space(arena, raw.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++)
        if (raw.at[i] != '\r' || i + 1 == raw.len || raw.at[i + 1] != '\n')
            to[n++] = raw.at[i];
    to[n] = 0;
    return (struct str){to, n};
}

/* How many octets at `at` are one line end, or several in a row; 0: none is there. */
static size_t line_end(struct str s, size_t at)
{
    size_t i = at, end = at;
    for (;;) {
        size_t from = i;
        while (i < s.len && s.at[i] == '\r')
            i++;
        if (i < s.len && s.at[i] == '\n')
            end = ++i;
        else if (i > from && (i == s.len || is_blank(s.at[i])))
            return i - at;
        else
            return end - at;
    }
}

struct str milter_value_in(struct str wire, bool leadspc, struct arena *arena)
{
    size_t ends = 0, n = 0;
    for (size_t i = 0; i < wire.len; i++)
        ends += wire.at[i] == '\r' || wire.at[i] == '\n';
    char *to = arena_space(arena, wire.len + 2 * ends + 2); /* an LF becomes CRLF and TAB */
    if (!leadspc)
        to[n++] = ' ';
    for (size_t i = 0; i < wire.len;) {
        size_t end = line_end(wire, i);
        if (!end) {
            for (; i < wire.len && wire.at[i] == '\r'; i++) /* all of a row, which line_end has looked through */
                to[n++] = ' ';
            for (; i < wire.len && wire.at[i] != '\r' && wire.at[i] != '\n'; i++)
                to[n++] = wire.at[i];
            continue;
        }
        i += end;
        if (i == wire.len)
            break;
        to[n++] = '\r';
        to[n++] = '\n';
        if (!is_blank(wire.at[i]))
            to[n++] = '\t';
    }
    to[n] = 0;
    return (struct str){to, n};
}
