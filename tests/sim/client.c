/* client.c - a client out of dice: what it says, when, in which pieces, how it leaves; and what it may hear.
 *
 * It has a plan: lines and contents, each with the reply it is due. Replies must come in that order, one for each. What
 * a backend said bears a mark ("for RCPT 12-3", "yes12-") so that a reply told to the wrong command is seen. */
#include "world.h"
#include <stdarg.h>

enum kind { GREET, HELLO, MAIL, RCPT, DATA, CHUNK, END, RSET, NOOP, VRFY, NONSENSE, QUIT };
static const char *const kinds[] = {"greeting", "hello", "MAIL", "RCPT", "DATA",     "BDAT",
                                    "end",      "RSET",  "NOOP", "VRFY", "nonsense", "QUIT"};

struct item {
    struct octets text;
    size_t said;
    enum kind kind;
    unsigned rcpt;
    bool waits; /* for all replies that are due */
};
struct due {
    enum kind kind;
    struct letter *letter;
    unsigned rcpt;
};
struct client {
    struct world *world;
    unsigned number;
    struct wire *wire;
    struct event act, dog;
    uint64_t delivered, sent;
    struct item *plan;
    unsigned at, planned;
    struct due due[64];
    unsigned ndue;
    struct letter *letter; /* of the plan */
    unsigned messages;     /* still to be sent */
    bool esmtp, pipelining, chunking, hello, bye, silent, half, over, quit;
};

unsigned client_number(const struct client *c)
{
    return c->number;
}

uint64_t client_delivered(const struct client *c)
{
    return c->delivered;
}

static void act(struct event *);

static void soon(struct client *c)
{
    uint64_t in = sim_chance(80) ? sim_random(3) : sim_chance(97) ? sim_random(2000) : sim_random(90000);
    if (!event_is_set(&c->act) && !c->silent)
        event_set(&c->act, in, act);
}

static void bite(struct event *e)
{
    struct client *c = holder_of(e, struct client, dog);
    sim_violation("client %u has heard nothing for %u s (%s is due)", c->number, PATIENCE / 1000,
                  c->ndue ? kinds[c->due[0].kind] : "nothing");
}

static void plan_free(struct client *c)
{
    for (unsigned i = 0; i < c->planned; i++)
        octets_free(&c->plan[i].text);
    free(c->plan);
    c->plan = NULL;
    c->at = c->planned = 0;
}

static void over(struct client *c)
{
    if (c->over)
        return;
    c->over = true;
    event_stop(&c->act);
    event_stop(&c->dog);
    plan_free(c);
    c->world->left--;
}

/* ---- plans */

static struct item *add(struct client *c, enum kind kind, bool waits, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->plan = must_grow(c->plan, (c->planned + 1) * sizeof *c->plan);
    struct item *i = &c->plan[c->planned++];
    *i = (struct item){.kind = kind, .waits = waits};
    octets_put(&i->text, text, (size_t)n);
    return i;
}

static void put_text(struct octets *o, const char *text)
{
    octets_put(o, text, strlen(text));
}

/* Lines that look like ends, commands and replies; each is inside content and nowhere else. */
static void write_content(struct letter *l)
{
    static const char *const lines[] = {
        "", ".", "..", ".x", "MAIL FROM:<inside@x.test>", "QUIT", "RSET", "250 2.0.0 yes1-1", "..\t.", "DATA"};
    static const size_t sizes[] = {0, 20, 300, 5000, 40000};
    size_t size = sim_random(sizes[min_size(sim_random(countof(sizes)), sim_random(countof(sizes)))] + 1);
    char line[120];
    snprintf(line, sizeof line, "X-Sim: %u\r\nSubject: inside\r\n\r\n", l->number);
    put_text(&l->content, line);
    while (l->content.len < size) {
        if (sim_chance(40)) {
            put_text(&l->content, lines[sim_random(countof(lines))]);
        } else {
            size_t n = sim_random(sizeof line);
            for (size_t i = 0; i < n; i++)
                line[i] = (char)('a' + sim_random(26));
            octets_put(&l->content, line, n);
        }
        put_text(&l->content, "\r\n");
    }
    if (sim_chance(5)) {
        static const char *const bare[] = {"\n.\r\n", "\r\n.\n", "\r.\r\n", "\n.\n", "\n", "\r\r\n"};
        put_text(&l->content, bare[sim_random(countof(bare))]);
        put_text(&l->content, "MAIL FROM:<inside@x.test>\r\n");
        l->bare = true;
    }
}

/* As RFC 5321 4.5.2 says it, octet by octet; not with the gateway's own code. */
static void put_dotted(struct octets *to, const struct octets *from)
{
    bool fresh = true;
    for (size_t i = 0; i < from->len; i++) {
        if (fresh && from->at[i] == '.')
            octets_put(to, ".", 1);
        octets_put(to, &from->at[i], 1);
        fresh = i > 0 && from->at[i] == '\n' && from->at[i - 1] == '\r';
    }
    octets_put(to, ".\r\n", 3);
}

static void plan_chunks(struct client *c, bool together)
{
    struct letter *l = c->letter;
    if (!l->bare && sim_chance(20))
        l->content.len -= 2; /* a chunk may end anywhere */
    size_t from = 0;
    for (bool last = false; !last;) {
        last = sim_chance(40) || c->planned > 14;
        size_t n = last ? l->content.len - from : sim_random(l->content.len - from + 1);
        struct item *i = add(c, last ? END : CHUNK, !together, "BDAT %zu%s\r\n", n, last ? " LAST" : "");
        octets_put(&i->text, l->content.at + from, n);
        from += n;
    }
}

static void plan_message(struct client *c)
{
    struct letter *l = c->letter = letter_new(c->world, c);
    bool together = c->pipelining && sim_chance(60);
    l->nrcpts = 1 + (unsigned)sim_random(RCPTS_MOST);
    write_content(l);
    add(c, MAIL, true, "MAIL FROM:<m%u@c%u.test>%s\r\n", l->number, c->number,
        c->esmtp && sim_chance(30) ? " SIZE=100" : "");
    for (unsigned k = 0; k < l->nrcpts; k++)
        add(c, RCPT, !together, "RCPT TO:<r%u-%u@y.test>\r\n", l->number, k)->rcpt = k;
    if (c->chunking && sim_chance(40)) {
        plan_chunks(c, together);
        return;
    }
    add(c, DATA, !together, "DATA\r\n");
    put_dotted(&add(c, END, true, "%s", "")->text, &l->content);
}

static void plan_next(struct client *c)
{
    plan_free(c);
    if (!c->hello) {
        c->hello = true;
        c->esmtp = sim_chance(85);
        add(c, HELLO, true, c->esmtp ? "EHLO c%u.test\r\n" : "HELO c%u.test\r\n", c->number);
    } else if (sim_chance(8)) {
        static const struct {
            enum kind kind;
            const char *text;
        } junk[] = {{RSET, "RSET\r\n"},
                    {NOOP, "NOOP\r\n"},
                    {VRFY, "VRFY x\r\n"},
                    {NONSENSE, "inside\r\n"},
                    {NONSENSE, "RCPT TO:<inside@y.test>\r\n"},
                    {NONSENSE, "DATA\r\n"}};
        size_t which = sim_random(countof(junk));
        add(c, junk[which].kind, true, "%s", junk[which].text);
    } else if (c->messages) {
        c->messages--;
        plan_message(c);
    } else {
        add(c, QUIT, true, "QUIT\r\n");
    }
}

/* What is not begun is not said any more. RSET, for the transaction may still be there, and the next MAIL would be
 * refused. */
static void give_up_plan(struct client *c)
{
    unsigned keep = c->at + (c->at < c->planned && c->plan[c->at].said ? 1 : 0);
    for (unsigned i = keep; i < c->planned; i++)
        octets_free(&c->plan[i].text);
    c->planned = keep;
    add(c, RSET, true, "RSET\r\n");
}

/* ---- saying */

static void leave(struct client *c)
{
    sim_trace("c%u leaves", c->wire->number);
    if (sim_chance(30)) { /* it says no more, but listens */
        wire_end(c->wire);
        c->half = c->silent = true;
        return;
    }
    if (sim_chance(50))
        wire_reset(&c->wire);
    else
        wire_leave(&c->wire);
    over(c);
}

static void say(struct client *c, struct item *i)
{
    size_t n = i->text.len - i->said;
    if (n > 1 && sim_chance(30))
        n = 1 + sim_random(n);
    wire_send(c->wire, i->text.at + i->said, n);
    i->said += n;
    c->sent += n;
    if (i->said < i->text.len)
        return;
    if (i->kind == END)
        c->letter->end_at = c->sent;
    must(c->ndue < countof(c->due));
    c->due[c->ndue++] = (struct due){i->kind, c->letter, i->rcpt};
    c->at++;
}

static void act(struct event *e)
{
    struct client *c = holder_of(e, struct client, act);
    if (sim_random(1000) < c->world->leaving) {
        leave(c);
        return;
    }
    if (sim_random(1000) < c->world->leaving / 3) {
        c->silent = true; /* the gateway has to end this */
        return;
    }
    if (c->bye)
        return;
    if (c->at == c->planned && !c->ndue && !c->quit)
        plan_next(c);
    if (c->at == c->planned || (c->plan[c->at].waits && c->ndue && !c->plan[c->at].said))
        return;
    event_set(&c->dog, PATIENCE, bite);
    say(c, &c->plan[c->at]);
    soon(c);
}

/* ---- hearing */

static bool is_told_right(const struct due *d, const char *text)
{
    unsigned a, b;
    const char *at;
    if ((at = strstr(text, "for MAIL ")) !=
        NULL) /* a refusal is told to what follows, when MAIL was answered in advance */
        return (d->kind == MAIL || text[0] != '2') && d->letter && sscanf(at, "for MAIL %u", &a) == 1 &&
               a == d->letter->number;
    if ((at = strstr(text, "for RCPT ")) != NULL)
        return d->kind == RCPT && sscanf(at, "for RCPT %u-%u", &a, &b) == 2 && a == d->letter->number && b == d->rcpt;
    if ((at = strstr(text, "for DATA ")) != NULL) /* an end, when DATA had been answered before the backend was asked */
        return (d->kind == DATA || d->kind == END || d->kind == CHUNK) && sscanf(at, "for DATA %u", &a) == 1 &&
               a == d->letter->number;
    if ((at = strstr(text, "yes")) != NULL || (at = strstr(text, "no-")) != NULL)
        return d->kind == END && sscanf(at + 3, "%u", &a) == 1 && a == d->letter->number;
    return true;
}

static void hear_end(struct client *c, const struct letter *l, unsigned code, const char *text)
{
    if (code / 100 != 2)
        return;
    c->world->acknowledged++;
    if (l->discarded && !l->taken)
        return;
    if (l->taken != 1)
        sim_violation("letter %u was acknowledged (%s) and taken %u times", l->number, text, l->taken);
    else if (!strstr(text, "yes"))
        sim_violation("letter %u was acknowledged with what no backend said: %s", l->number, text);
    else if (l->told != l->accepted)
        sim_violation("letter %u: the client was told of rcpts %x, taken for %x", l->number, l->told, l->accepted);
    else if (l->bare)
        sim_violation("letter %u has a bare line end and was acknowledged", l->number);
}

static void hear_hello(struct client *c, const char *text)
{
    c->pipelining = strstr(text, "PIPELINING") != NULL;
    c->chunking = strstr(text, "CHUNKING") != NULL;
}

static bool fits(enum kind kind, unsigned code)
{
    unsigned class = code / 100;
    switch (kind) {
    case GREET: return code == 220 || code == 554;
    case DATA: return code == 354 || class == 4 || class == 5;
    case QUIT: return code == 221;
    case NONSENSE: return class == 5 || class == 4;
    default: return class == 2 || class == 4 || class == 5;
    }
}

static void reply(struct client *c, unsigned code, const char *text)
{
    if (c->bye || c->quit) {
        sim_violation("client %u hears more behind the last word: %s", c->number, text);
        return;
    }
    if (code == 421) {
        c->bye = true;
        return;
    }
    if (!c->ndue) {
        sim_violation("client %u hears a reply to nothing: %s", c->number, text);
        return;
    }
    struct due d = c->due[0];
    memmove(c->due, c->due + 1, --c->ndue * sizeof *c->due);
    if (!fits(d.kind, code) || !is_told_right(&d, text)) {
        sim_violation("client %u hears in answer to %s: %s", c->number, kinds[d.kind], text);
        return;
    }
    if (d.kind == GREET && code == 554) { /* refused: all that is left to say is QUIT (RFC 5321 3.1) */
        c->hello = true;
        c->messages = 0;
    }
    if (d.kind == HELLO)
        hear_hello(c, text);
    if (d.kind == RCPT && code / 100 == 2)
        d.letter->told |= 1u << d.rcpt;
    if (d.kind == END)
        hear_end(c, d.letter, code, text);
    c->quit = d.kind == QUIT;
    bool failed = (d.kind == MAIL || d.kind == CHUNK) && code / 100 != 2;
    failed |= d.kind == DATA && code != 354;
    if (failed)
        give_up_plan(c);
    soon(c);
}

/* One whole reply, all its lines; false: not there yet. */
static bool take_reply(struct client *c)
{
    struct octets *in = &c->wire->in;
    for (size_t from = 0, end; (end = octets_line(in, from)) != 0; from = end) {
        if (end - from < 6) {
            sim_violation("client %u hears a line that is no reply", c->number);
            return false;
        }
        if (in->at[from + 3] == '-')
            continue;
        char text[1200];
        size_t n = min_size(end, sizeof text - 1);
        memcpy(text, in->at, n);
        text[n] = 0;
        while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
            text[--n] = 0;
        unsigned code = (unsigned)atoi(in->at + from);
        octets_drop(in, end);
        reply(c, code, text);
        return !sim_violated();
    }
    return false;
}

static void heard(void *data)
{
    struct client *c = data;
    event_set(&c->dog, PATIENCE, bite);
    while (take_reply(c))
        ;
    if (!c->wire->ended)
        return;
    bool turned_away =
        c->world->worker.draining && c->ndue && c->due[0].kind == GREET; /* its banner was still kept back */
    if (!c->bye && !c->quit && !c->half && !turned_away)
        sim_violation("client %u was left without a word", c->number);
    if (c->wire->in.len)
        sim_violation("client %u was left amid a reply", c->number);
    wire_leave(&c->wire);
    over(c);
}

/* ---- life */

static void arrive(struct event *e)
{
    struct client *c = holder_of(e, struct client, act);
    struct stream *s;
    c->wire = wire_open(c->world->worker.loop, c->number, &s);
    c->wire->heard = heard;
    c->wire->peer = c;
    c->wire->delivered = &c->delivered;
    c->due[c->ndue++] = (struct due){.kind = GREET};
    event_set(&c->dog, PATIENCE, bite);
    session_start(&c->world->worker, &c->world->worker.generation->conf->listens[0], 1, s);
    if (sim_chance(3))
        soon(c); /* it may leave before the banner */
}

struct client *clients_new(struct world *w, unsigned n)
{
    static const uint64_t spread[] = {1, 500, 60000};
    uint64_t within = spread[sim_random(countof(spread))];
    struct client *all = must_alloc(n * sizeof *all);
    for (unsigned i = 0; i < n; i++) {
        all[i].world = w;
        all[i].number = i + 1;
        all[i].messages = (unsigned)sim_random(5);
        event_set(&all[i].act, sim_random(within), arrive);
    }
    w->left = n;
    return all;
}

void clients_free(struct world *w)
{
    for (unsigned i = 0; i < w->nclients; i++)
        over(&w->clients[i]);
    free(w->clients);
}
