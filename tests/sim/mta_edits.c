/* mta_edits.c - what an MTA makes of a letter by the edits that are said to it, as Postfix does; and whether that is
 * what the filters decided: the reference is letter.c, written down edit by edit when the gateway took them. */
#include "mta.h"

/* ---- the letter as it came ---- */

static size_t field_end(const struct octets *o, size_t from)
{
    size_t end = octets_line(o, from);
    while (end < o->len && (o->at[end] == ' ' || o->at[end] == '\t'))
        end = octets_line(o, end);
    return end;
}

void mta_letter_begin(struct mta *m)
{
    const struct octets *o = &m->letter->content;
    size_t at = 0;
    for (unsigned i = 0; i < MTA_FIELDS_MOST; i++)
        octets_free(&m->fields[i]);
    memset(m->fields, 0, sizeof m->fields);
    octets_free(&m->body);
    m->body = (struct octets){0};
    m->nfields = m->nrcpts = m->named = 0;
    m->skip = m->quarantined = false;
    m->edit = 0;
    while (memcmp(o->at + at, "\r\n", 2) != 0) {
        size_t end = field_end(o, at);
        must(m->nfields < MTA_FIELDS_MOST);
        octets_put(&m->fields[m->nfields++], o->at + at, end - at);
        at = end;
    }
    octets_put(&m->body, o->at + at + 2, o->len - at - 2);
    snprintf(m->sender, sizeof m->sender, "<m%u@c%u.test>", m->letter->number, m->number);
}

/* ---- fields ---- */

static bool is_named(const struct octets *f, const char *name)
{
    size_t n = strlen(name);
    return f->len > n && f->at[n] == ':' && strncasecmp(f->at, name, n) == 0;
}

/* As an MTA writes it: a blank of its own where values are said without. */
static void write_field(const struct mta *m, struct octets *f, const char *name, const char *value)
{
    octets_free(f);
    *f = (struct octets){0};
    octets_put(f, name, strlen(name));
    octets_put(f, ": ", m->agreed.protocol & MILTER_HDR_LEADSPC ? 1 : 2);
    for (; *value; value++)
        octets_put(f, *value == '\n' ? "\r\n" : value, *value == '\n' ? 2 : 1);
    octets_put(f, "\r\n", 2);
}

static void change_field(struct mta *m, uint32_t index, const char *name, const char *value)
{
    unsigned i = 0;
    for (uint32_t n = 0; i < m->nfields; i++)
        if (is_named(&m->fields[i], name) && ++n == index)
            break;
    if (i == m->nfields) {
        sim_violation("letter %u: field %u of name %s is changed, and there is none", m->letter->number, index, name);
        return;
    }
    if (*value) {
        write_field(m, &m->fields[i], name, value);
        return;
    }
    octets_free(&m->fields[i]);
    m->nfields--;
    memmove(&m->fields[i], &m->fields[i + 1], (m->nfields - i) * sizeof m->fields[0]);
    m->fields[m->nfields] = (struct octets){0};
}

static void insert_field(struct mta *m, uint32_t index, const char *name, const char *value)
{
    unsigned at = index ? index - 1 : 0;
    must(m->nfields < MTA_FIELDS_MOST);
    if (at > m->nfields)
        at = m->nfields;
    memmove(&m->fields[at + 1], &m->fields[at], (m->nfields - at) * sizeof m->fields[0]);
    m->fields[at] = (struct octets){0};
    m->nfields++;
    write_field(m, &m->fields[at], name, value);
}

/* ---- the envelope ---- */

static unsigned find_rcpt(const struct mta *m, const char *address)
{
    unsigned i = 0;
    while (i < m->nrcpts && strcmp(m->rcpts[i], address) != 0)
        i++;
    return i;
}

static void remove_rcpt(struct mta *m, const char *address)
{
    unsigned i = find_rcpt(m, address);
    if (i == m->nrcpts)
        sim_violation("letter %u: %s is taken out, and is not there", m->letter->number, address);
    else
        memmove(m->rcpts[i], m->rcpts[i + 1], (--m->nrcpts - i) * sizeof m->rcpts[0]);
}

static void add_rcpt(struct mta *m, const char *address)
{
    must(m->nrcpts < MTA_RCPTS_MOST - 1);
    if (find_rcpt(m, address) < m->nrcpts)
        sim_violation("letter %u: %s is added, and is there", m->letter->number, address);
    snprintf(m->rcpts[m->nrcpts++], MTA_ADDRESS, "%s", address);
}

/* ---- edits ---- */

/* Their order: fields that came, fields that are put in, the body in one run, recipients taken out and put in, the
 * sender, the quarantine. */
static bool is_in_order(char last, char kind)
{
    static const char order[] = "mib-+2eq";
    const char *at = strchr(order, kind), *before = last ? strchr(order, last) : order;
    bool again = kind != 'e' && kind != 'q';
    return at > before || (at == before && (again || !last)) || (strchr("+2", kind) && last && strchr("+2", last));
}

static uint32_t action_of(char kind)
{
    static const char edits[] = "mib-+2eq";
    static const uint32_t actions[] = {MILTER_CHGHDRS, MILTER_ADDHDRS,     MILTER_CHGBODY, MILTER_DELRCPT,
                                       MILTER_ADDRCPT, MILTER_ADDRCPT_PAR, MILTER_CHGFROM, MILTER_QUARANTINE};
    return actions[strchr(edits, kind) - edits];
}

void mta_edit(struct mta *m, char kind, const char *data, size_t n)
{
    bool field = kind == 'm' || kind == 'i';
    uint32_t index = 0;
    for (int i = 0; field && i < 4; i++)
        index = index << 8 | (unsigned char)data[i];
    const char *name = field ? data + 4 : data, *value = field ? name + strlen(name) + 1 : "";
    if (!(m->agreed.actions & action_of(kind)))
        sim_violation("letter %u: '%c' is said, which was not agreed upon", m->letter->number, kind);
    if (!is_in_order(m->edit, kind))
        sim_violation("letter %u: '%c' is said behind '%c'", m->letter->number, kind, m->edit);
    if (kind == 'b' && m->edit != 'b')
        m->body.len = 0;
    m->edit = kind;
    switch (kind) {
    case 'm': change_field(m, index, name, value); return;
    case 'i': insert_field(m, index, name, value); return;
    case 'b': octets_put(&m->body, data, n); return;
    case '-': remove_rcpt(m, data); return;
    case '+':
    case '2': add_rcpt(m, data); return;
    case 'e': snprintf(m->sender, sizeof m->sender, "%s", data); return;
    default: m->quarantined = true; return;
    }
}

/* ---- the message as it is accepted ---- */

static void check_rcpt(const struct mta *m, unsigned *seen, const char *how, unsigned k, const char *domain)
{
    char address[MTA_ADDRESS];
    snprintf(address, sizeof address, "<%s%u-%u@%s>", how, m->letter->number, k, domain);
    if (find_rcpt(m, address) == m->nrcpts)
        sim_violation("letter %u is accepted without %s", m->letter->number, address);
    ++*seen;
}

static void check_envelope(const struct mta *m)
{
    const struct letter *l = m->letter;
    char sender[MTA_ADDRESS];
    unsigned seen = 0;
    for (unsigned k = 0; k < l->nrcpts; k++)
        if ((l->told & ~l->left_out) >> k & 1)
            check_rcpt(m, &seen, l->renamed >> k & 1 ? "w" : "r", k, l->renamed >> k & 1 ? "filter.test" : "y.test");
    for (unsigned i = 0; i < l->nadded; i++)
        if (!(l->added_dropped >> i & 1))
            check_rcpt(m, &seen, "a", i, "filter.test");
    if (seen != m->nrcpts)
        sim_violation("letter %u is accepted for %u rcpts, and filters left %u", l->number, m->nrcpts, seen);
    snprintf(sender, sizeof sender, l->sender ? "<m%u.s%u@filter.test>" : "<m%u@c%u.test>", l->number,
             l->sender ? l->sender : m->number);
    if (strcmp(sender, m->sender) != 0)
        sim_violation("letter %u is accepted from %s, and filters said %s", l->number, m->sender, sender);
}

void mta_accept(struct mta *m, char answer)
{
    const struct letter *l = m->letter;
    struct octets whole = {0};
    if (l->refused)
        sim_violation("letter %u is accepted ('%c') though a filter refused it", l->number, answer);
    if (l->quarantined != m->quarantined)
        sim_violation("letter %u is %s, and filters said otherwise", l->number,
                      m->quarantined ? "quarantined" : "accepted");
    for (unsigned i = 0; i < m->nfields; i++)
        octets_put(&whole, m->fields[i].at, m->fields[i].len);
    octets_put(&whole, "\r\n", 2);
    if (m->body.len)
        octets_put(&whole, m->body.at, m->body.len);
    letter_check(l, &whole);
    octets_free(&whole);
    check_envelope(m);
}
