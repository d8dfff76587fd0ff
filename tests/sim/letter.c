/* letter.c - the reference: what a letter is, and what it must be when filters have edited it.
 *
 * Nothing here is the gateway's code. A filter writes down an edit when the gateway took it; what a backend took is
 * compared with the client's content plus those edits, in their order: fields in the order of time, bodies in that of
 * the chain. */
#include "world.h"

struct letter *letter_new(struct world *w, struct sim_client *c)
{
    if (w->nletters == w->letters_room) {
        w->letters_room = w->letters_room ? w->letters_room * 2 : 16;
        w->letters = must_grow(w->letters, w->letters_room * sizeof(struct letter *));
    }
    struct letter *l = w->letters[w->nletters++] = must_alloc(sizeof *l);
    l->number = w->nletters;
    l->client = c;
    l->route = PLACE_NONE;
    for (unsigned i = 0; i < RCPTS_MOST; i++)
        l->routes[i] = PLACE_NONE;
    return l;
}

struct letter *letter_numbered(struct world *w, unsigned number)
{
    return number && number <= w->nletters ? w->letters[number - 1] : NULL;
}

void letters_free(struct world *w)
{
    for (unsigned i = 0; i < w->nletters; i++) {
        struct letter *l = w->letters[i];
        octets_free(&l->content);
        for (unsigned f = 0; f < FILTERS_MOST; f++) {
            octets_free(&l->bodies[f].saw);
            octets_free(&l->bodies[f].out);
            octets_free(&l->bodies[f].late);
        }
        free(l);
    }
    free(w->letters);
}

/* ---- content */

static void put_text(struct octets *o, const char *text)
{
    octets_put(o, text, strlen(text));
}

static void write_bare(struct letter *l)
{
    static const char *const bare[] = {"\n.\r\n", "\r\n.\n", "\r.\r\n", "\n.\n", "\n", "\r\r\n"};
    put_text(&l->content, bare[sim_random(countof(bare))]);
    put_text(&l->content, "MAIL FROM:<inside@x.test>\r\n");
    l->bare = true;
}

/* Lines that look like ends, commands and replies; each is inside content and nowhere else. */
void letter_write(struct letter *l)
{
    static const char *const lines[] = {
        "", ".", "..", ".x", "MAIL FROM:<inside@x.test>", "QUIT", "RSET", "250 2.0.0 yes1-1", "..\t.", "DATA"};
    static const char *const fields[] = {"X-More: inside\r\n", "X-Long: inside\r\n\tQUIT\r\n .\r\n",
                                         "subject: inside again\r\n"};
    static const size_t sizes[] = {0, 20, 300, 5000, 40000};
    size_t size = sim_random(sizes[sim_lesser(countof(sizes), countof(sizes))] + 1);
    if (sim_may(F_LARGE, l->binary ? 20 : 1))
        size = 60000 + sim_random(300000);
    size_t heavy = world_played->heavy ? 400000 + sim_random(900000) : 0;
    size = heavy ? 20000 : size;
    char line[120];
    for (size_t n = sim_may(F_MBOX, 5) ? 1 + sim_random(2) : 0; n; n--)
        put_text(&l->content, n % 2 ? "From inside@x.test  Tue May 10 14:55:10 2016\r\n" : ">From inside\r\n");
    snprintf(line, sizeof line, "X-Sim: %u\r\nSubject: inside\r\n", l->number);
    put_text(&l->content, line);
    for (size_t n = sim_random(4); n; n--)
        put_text(&l->content, fields[sim_random(countof(fields))]);
    put_text(&l->content, "\r\n");
    size_t body = l->content.len;
    unsigned words = sim_chance(10) ? 2 : 60; /* nearly nothing but line ends: they are cut wherever anything is */
    while (l->content.len < size) {
        if (sim_chance(100 - words)) {
            put_text(&l->content, words == 2 ? "" : lines[sim_random(countof(lines))]);
        } else {
            size_t n = sim_random(sizeof line);
            for (size_t i = 0; i < n; i++)
                line[i] = (char)(l->binary ? sim_random(256) : 'a' + sim_random(26));
            octets_put(&l->content, line, n);
        }
        put_text(&l->content, "\r\n");
    }
    for (size_t once = l->content.len - body;
         heavy > l->content.len;) /* the same lines over and over: dice cost time */
        octets_copy(&l->content, body, once);
    if (sim_may(F_BARE, 5))
        write_bare(l);
}

/* ---- the reference */

void letter_edit(struct letter *l, int how, const char *name, const char *value)
{
    if (l->nedits == EDITS_MOST) {
        sim_violation("a letter is edited more often than filters of the simulation do");
        return;
    }
    struct edit *e = &l->edits[l->nedits++];
    e->how = how;
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->value, sizeof e->value, "%s", value);
}

/* Where the body begins: behind the empty line, or at the end when there is none. */
static size_t head_of(const struct octets *o)
{
    for (size_t from = 0, end; (end = octets_line(o, from)) != 0; from = end)
        if (end - from == 2)
            return end;
    return o->len;
}

static bool is_named(const char *at, size_t n, const char *name)
{
    size_t len = strlen(name);
    return n > len && at[len] == ':' && strncasecmp(at, name, len) == 0;
}

/* The end of the field that begins at `from`: its last line that no line continues. */
static size_t field_end(const struct octets *o, size_t from, size_t head)
{
    size_t end = from;
    do {
        size_t next = octets_line(o, end);
        end = next && next <= head ? next : head;
    } while (end < head && (o->at[end] == ' ' || o->at[end] == '\t'));
    return end;
}

/* The first field of that name; false: there is none. */
static bool find_field(const struct octets *o, const char *name, size_t *from, size_t *end)
{
    size_t head = head_of(o);
    for (size_t at = 0; at < head; at = *end) {
        *end = field_end(o, at, head);
        *from = at;
        if (is_named(o->at + at, *end - at, name))
            return true;
    }
    return false;
}

static void replace(struct octets *o, size_t from, size_t end, const char *text)
{
    struct octets rest = {0};
    octets_put(&rest, o->at + end, o->len - end);
    o->len = from;
    put_text(o, text);
    octets_put(o, rest.at, rest.len);
    octets_free(&rest);
}

/* Behind the last field, before the empty line if there is one. */
static size_t bottom_of(const struct octets *o)
{
    size_t head = head_of(o);
    bool parted = head >= 2 && (head == 2 || (head >= 4 && memcmp(o->at + head - 4, "\r\n", 2) == 0)) &&
                  memcmp(o->at + head - 2, "\r\n", 2) == 0;
    return parted ? head - 2 : head;
}

/* Behind the mbox lines. */
static size_t top_of(const struct octets *o)
{
    size_t at = 0;
    while (o->len - at > 6 && (memcmp(o->at + at, "From ", 5) == 0 || memcmp(o->at + at, ">From ", 6) == 0))
        at = octets_line(o, at);
    return at;
}

static void apply(const struct edit *e, struct octets *o)
{
    char text[80];
    size_t from = 0, end = 0;
    snprintf(text, sizeof text, "%s: %s\r\n", e->name, e->value);
    switch (e->how) {
    case EDIT_TOP: replace(o, top_of(o), top_of(o), text); return;
    case EDIT_BOTTOM:
        from = bottom_of(o);
        replace(o, from, from, text);
        return;
    case EDIT_SET:
    case EDIT_REMOVE:
        if (!find_field(o, e->name, &from, &end))
            return;
        if (e->how == EDIT_SET) { /* the name stays as it is written */
            size_t len = strlen(e->name);
            memcpy(text, o->at + from, len);
        }
        replace(o, from, end, e->how == EDIT_SET ? text : "");
    }
}

void letter_body(const struct letter *l, struct octets *to)
{
    size_t head = head_of(&l->content);
    octets_put(to, l->content.at + head, l->content.len - head);
    for (unsigned f = 0; f < FILTERS_MOST; f++) {
        const struct body_edit *b = &l->bodies[f];
        if (b->used) {
            if (b->saw.len > to->len || (b->saw.len && memcmp(b->saw.at, to->at, b->saw.len) != 0))
                sim_violation("letter %u: filter %u saw a body that is not what those before it let through", l->number,
                              f);
            struct octets now = {0};
            octets_put(&now, b->out.at, b->out.len);
            if (b->saw.len < to->len)
                octets_put(&now, to->at + b->saw.len, to->len - b->saw.len);
            octets_free(to);
            *to = now;
        }
        if (b->replaced) {
            to->len = 0;
            octets_put(to, b->late.at, b->late.len);
        }
    }
}

static void letter_whole(const struct letter *l, struct octets *to)
{
    octets_put(to, l->content.at, head_of(&l->content));
    for (unsigned i = 0; i < l->nedits; i++)
        apply(&l->edits[i], to);
    struct octets body = {0};
    letter_body(l, &body);
    if (body.len && head_of(&l->content) == l->content.len && bottom_of(to) == to->len) { /* filters wrote a body where there was none */
        if (to->len && to->at[to->len - 1] != '\n')
            put_text(to, "\r\n");
        put_text(to, "\r\n");
    }
    octets_put(to, body.at, body.len);
    octets_free(&body);
}

/* Our own trace field is not among the edits; it stands once or not at all. */
static void drop_received(struct octets *o)
{
    size_t from, end;
    if (find_field(o, "Received", &from, &end))
        replace(o, from, end, "");
}

void letter_check(const struct letter *l, const struct octets *heard)
{
    struct octets wanted = {0}, had = {0};
    letter_whole(l, &wanted);
    octets_put(&had, heard->at, heard->len);
    drop_received(&had);
    bool open = !l->binary && (wanted.len < 2 || memcmp(wanted.at + wanted.len - 2, "\r\n", 2) != 0);
    if (open && had.len == wanted.len + 2) /* a last line that BDAT left open may have been ended */
        put_text(&wanted, "\r\n");
    size_t same = 0;
    while (same < had.len && same < wanted.len && had.at[same] == wanted.at[same])
        same++;
    if (same != had.len || same != wanted.len)
        sim_violation(
            "letter %u: a backend took %zu octets that are not the %zu of the client and its filters, from %zu on",
            l->number, had.len, wanted.len, same);
    octets_free(&wanted);
    octets_free(&had);
}

/* Where a rcpt goes of whom no filter says more. A filter's word for the transaction comes before the listener's route.
 */
static enum place home_of(const struct letter *l, unsigned i)
{
    if (l->route != PLACE_NONE)
        return l->route;
    switch (client_routing(l->client)) {
    case ROUTING_BY_SENDER: return !l->sender_first && client_number(l->client) % 2 ? PLACE_OTHER : PLACE_MAIN;
    case ROUTING_BY_RCPT: return !(l->renamed >> i & 1) && (l->elsewhere >> i & 1) ? PLACE_OTHER : PLACE_MAIN;
    default: return PLACE_MAIN;
    }
}

enum place letter_place(const struct letter *l, uint32_t accepted)
{
    enum place is = PLACE_NONE;
    if (l->quarantined || l->routed_late)
        return l->quarantined ? PLACE_JAIL : l->route;
    for (unsigned i = 0; i < l->nrcpts; i++) {
        if (!(accepted >> i & 1))
            continue;
        enum place wants = l->routes[i] != PLACE_NONE ? l->routes[i] : home_of(l, i);
        if (is != PLACE_NONE && is != wants)
            sim_violation("letter %u: rcpt %u belongs elsewhere than those before it", l->number, i);
        is = wants;
    }
    return is;
}

bool letter_needs_nobody(const struct letter *l)
{
    return l->discarded || (!(l->told & ~l->left_out) && !(l->added_must & ~l->added_dropped));
}
