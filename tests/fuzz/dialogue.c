/* dialogue.c - see dialogue.h. */
#include "dialogue.h"
#include <ctype.h>

static struct unit *add(struct dialogue *d, enum unit_kind kind, const char *line)
{
    if (d->nunits == d->units_room) {
        d->units_room = d->units_room ? d->units_room * 2 : 32;
        d->units = must_grow(d->units, d->units_room * sizeof *d->units);
    }
    struct unit *u = &d->units[d->nunits++];
    *u = (struct unit){.kind = kind};
    snprintf(u->line, sizeof u->line, "%s", line);
    if (d->nunits <= d->nreplies)
        u->code = d->codes[d->nunits - 1];
    return u;
}

void dialogue_open(struct dialogue *d, bool banner)
{
    *d = (struct dialogue){0};
    if (banner)
        add(d, UNIT_BANNER, "");
}

void dialogue_close(struct dialogue *d)
{
    octets_free(&d->said);
    octets_free(&d->answered);
    octets_free(&d->chunk_octets);
    for (size_t i = 0; i < d->nunits; i++)
        octets_free(&d->units[i].piece);
    for (size_t i = 0; i < d->nletters; i++) {
        octets_free(&d->letters[i]->content);
        free(d->letters[i]);
    }
    free(d->letters);
    free(d->units);
    free(d->codes);
}

/* ---- replies */

static void take_reply(struct dialogue *d, unsigned code)
{
    if (d->nreplies == d->codes_room) {
        d->codes_room = d->codes_room ? d->codes_room * 2 : 32;
        d->codes = must_grow(d->codes, d->codes_room * sizeof *d->codes);
    }
    d->codes[d->nreplies++] = code;
    if (d->nreplies <= d->nunits)
        d->units[d->nreplies - 1].code = code;
}

static void read_replies(struct dialogue *d)
{
    struct octets *in = &d->answered;
    size_t from = 0;
    for (size_t end; !d->bad_reply && (end = octets_line(in, from)) != 0; from = end) {
        const char *at = in->at + from;
        size_t n = end - from - 2;
        d->bad_reply = n < 3 || !isdigit((unsigned char)at[0]) || !isdigit((unsigned char)at[1]) ||
                       !isdigit((unsigned char)at[2]) || (n > 3 && at[3] != ' ' && at[3] != '-');
        if (!d->bad_reply && !(n > 3 && at[3] == '-'))
            take_reply(d, (unsigned)(at[0] - '0') * 100 + (unsigned)(at[1] - '0') * 10 + (unsigned)(at[2] - '0'));
    }
    octets_drop(in, from);
}

/* ---- commands and content */

static void take_letter(struct dialogue *d, const char *at, size_t n, bool by_chunks)
{
    struct letter_heard *l = must_alloc(sizeof *l);
    *l = (struct letter_heard){.first = d->nunits, .replies = d->lmtp ? d->accepted : 1, .by_chunks = by_chunks};
    octets_put(&l->content, at, n);
    d->letters = must_grow(d->letters, (d->nletters + 1) * sizeof(struct letter_heard *));
    d->letters[d->nletters++] = l;
    for (size_t i = 0; i < l->replies; i++)
        add(d, UNIT_END, "")->letter = l;
    d->accepted = 0;
}

/* Up to CRLF.CRLF, dots undone; false: not there yet. */
static bool read_content(struct dialogue *d)
{
    struct octets *in = &d->said, content = {0};
    for (size_t from = 0, end; (end = octets_line(in, from)) != 0; from = end) {
        bool dot = in->at[from] == '.';
        if (dot && end - from == 3) {
            take_letter(d, content.at, content.len, false);
            octets_drop(in, end);
            octets_free(&content);
            d->content = false;
            return true;
        }
        octets_put(&content, in->at + from + dot, end - from - dot);
    }
    octets_free(&content);
    return false;
}

static bool read_chunk(struct dialogue *d)
{
    size_t n = d->said.len < d->chunk ? d->said.len : d->chunk;
    octets_put(&d->chunk_octets, d->said.at, n);
    octets_drop(&d->said, n);
    d->chunk -= n;
    if (d->chunk)
        return false;
    d->in_chunk = false;
    if (!d->last) {
        add(d, UNIT_CHUNK, "BDAT")->piece = d->chunk_octets;
        d->chunk_octets = (struct octets){0};
        return true;
    }
    take_letter(d, d->chunk_octets.at, d->chunk_octets.len, true);
    octets_drop(&d->chunk_octets, d->chunk_octets.len);
    return true;
}

static bool is_verb(const char *line, const char *verb)
{
    size_t n = strlen(verb);
    return !strncasecmp(line, verb, n) && (line[n] == ' ' || !line[n]);
}

/* "BDAT n" or "BDAT n LAST", one space between; of any other form where it ends is unknown. */
static void begin_chunk(struct dialogue *d, const char *line)
{
    char last[8] = "";
    size_t digits = strspn(line + 4 + (line[4] == ' '), "0123456789");
    const char *rest = line + 5 + digits;
    bool plain = line[4] == ' ' && digits > 0 && digits < 7 && (!*rest || !strcasecmp(rest, " LAST"));
    if (!plain) {
        d->lost = true;
        return;
    }
    sscanf(line + 5, "%zu %7s", &d->chunk, last);
    d->last = last[0] != 0;
    d->in_chunk = true;
}

static void read_command(struct dialogue *d, const char *line)
{
    if (is_verb(line, "BDAT")) {
        begin_chunk(d, line);
        return;
    }
    d->lmtp |= is_verb(line, "LHLO");
    add(d,
        is_verb(line, "RCPT")   ? UNIT_RCPT
        : is_verb(line, "DATA") ? UNIT_DATA
        : is_verb(line, "AUTH") ? UNIT_AUTH
                                : UNIT_COMMAND,
        line);
}

/* What follows DATA and AUTH is known when they have been answered. */
static bool waits_for_reply(struct dialogue *d)
{
    const struct unit *u = d->nunits ? &d->units[d->nunits - 1] : NULL;
    if (!u || (u->kind != UNIT_DATA && u->kind != UNIT_AUTH))
        return false;
    if (!u->code)
        return true;
    d->content = u->kind == UNIT_DATA && u->code == 354;
    d->response = u->kind == UNIT_AUTH && u->code == 334;
    return false;
}

static bool read_one(struct dialogue *d)
{
    if (d->lost)
        return false;
    if (d->in_chunk)
        return read_chunk(d);
    if (!d->content && waits_for_reply(d))
        return false;
    if (d->content)
        return read_content(d);
    size_t end = octets_line(&d->said, 0);
    if (!end)
        return false;
    char *line = must_alloc(end);
    memcpy(line, d->said.at, end - 2);
    line[end - 2] = 0;
    octets_drop(&d->said, end);
    if (d->response) {
        d->response = false;
        add(d, UNIT_AUTH, "response");
    } else {
        read_command(d, line);
    }
    free(line);
    return true;
}

void dialogue_say(struct dialogue *d, const void *at, size_t n)
{
    octets_put(&d->said, at, n);
}

void dialogue_answer(struct dialogue *d, const void *at, size_t n)
{
    octets_put(&d->answered, at, n);
}

static unsigned count_accepted(const struct dialogue *d)
{
    unsigned n = 0;
    for (size_t i = d->nunits; i-- > 0 && !is_verb(d->units[i].line, "MAIL");)
        n += d->units[i].kind == UNIT_RCPT && d->units[i].code / 100 == 2;
    return n;
}

size_t dialogue_read(struct dialogue *d)
{
    size_t before = d->nunits;
    read_replies(d);
    do
        d->accepted = count_accepted(d);
    while (read_one(d));
    return before;
}

const struct octets *dialogue_content(const struct dialogue *d, struct letter_heard *l)
{
    struct octets all = {0};
    size_t from = l->first;
    if (l->whole)
        return &l->content;
    while (from > 0 && d->units[from - 1].kind != UNIT_END)
        from--;
    for (size_t i = from; i < l->first; i++) {
        const struct unit *u = &d->units[i];
        bool yes = u->code / 100 == 2, begins = is_verb(u->line, "MAIL");
        bool resets = is_verb(u->line, "RSET") || is_verb(u->line, "EHLO") || is_verb(u->line, "HELO");
        if (yes && u->kind == UNIT_COMMAND && (begins || resets))
            octets_drop(&all, all.len);
        if (yes && u->kind == UNIT_COMMAND && begins)
            l->binary = strstr(u->line, "BINARYMIME") != NULL;
        if (u->kind == UNIT_CHUNK && (yes || !u->code))
            octets_put(&all, u->piece.at, u->piece.len);
    }
    if (l->by_chunks) {
        octets_put(&all, l->content.at, l->content.len);
        octets_free(&l->content);
        l->content = all;
    } else {
        octets_free(&all);
    }
    l->whole = true;
    return &l->content;
}

bool dialogue_has(const struct dialogue *d, const struct letter_heard *l)
{
    for (size_t i = 0; i < l->replies; i++)
        if (d->units[l->first + i].code != 250)
            return false;
    return l->replies > 0;
}
