/* plan.c - what a client is going to say: greetings, AUTH, claims, messages whole or given up, junk, QUIT.
 *
 * A plan is a row of lines and contents; each but the PROXY header is due one reply. Content is dotted here by a few
 * lines of its own, as RFC 5321 4.5.2 says it. */
#include "client.h"
#include <stdarg.h>

void plan_free(struct sim_client *c)
{
    for (unsigned i = 0; i < c->planned; i++)
        octets_free(&c->plan[i].text);
    free(c->plan);
    c->plan = NULL;
    c->at = c->planned = 0;
}

static struct item *add(struct sim_client *c, enum kind kind, bool waits, const char *format, ...)
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

/* RSET, for the transaction may still be there, and the next MAIL would be refused. */
void plan_give_up(struct sim_client *c)
{
    unsigned keep = c->at + (c->at < c->planned && c->plan[c->at].said ? 1 : 0);
    for (unsigned i = keep; i < c->planned; i++)
        octets_free(&c->plan[i].text);
    c->planned = keep;
    add(c, RSET, true, "RSET\r\n");
}

/* ---- messages */

static void put_dotted(struct octets *to, const struct octets *from)
{
    for (size_t at = 0, end; at < from->len; at = end) {
        end = octets_line(from, at);
        end = end ? end : from->len;
        if (from->at[at] == '.')
            octets_put(to, ".", 1);
        octets_put(to, from->at + at, end - at);
    }
    octets_put(to, ".\r\n", 3);
}

/* False: it is given up between two chunks. */
static bool plan_chunks(struct sim_client *c, struct letter *l, bool together)
{
    bool costs = c->world->calm && c->authenticated; /* the connection that knows it: the next MAIL would hear 421 */
    bool gives_up = sim_may(F_ABANDON, 8) && !costs;
    if (!l->bare && !l->binary && sim_chance(20))
        l->content.len -= 2; /* a chunk may end anywhere */
    size_t from = 0;
    for (bool last = false; !last;) {
        last = sim_chance(40) || c->planned > 14;
        if (last && gives_up)
            return false;
        size_t n = last ? l->content.len - from : sim_random(l->content.len - from + 1);
        struct item *i = add(c, last ? END : CHUNK, !together, "BDAT %zu%s\r\n", n, last ? " LAST" : "");
        i->letter = l;
        octets_put(&i->text, l->content.at + from, n);
        from += n;
    }
    return true;
}

static void plan_hello(struct sim_client *c)
{
    bool esmtp = !sim_may(F_HELO, 15);
    c->hello = true;
    c->esmtp = esmtp;
    add(c, HELLO, true, esmtp ? "EHLO c%u.test\r\n" : "HELO c%u.test\r\n", c->number);
}

static void plan_abandon(struct sim_client *c, bool amid_chunks) /* where EHLO is out of place */
{
    switch (sim_random(4)) {
    case 0:
        if (amid_chunks)
            add(c, RSET, true, "RSET\r\n");
        else
            plan_hello(c);
        break;
    case 1: add(c, QUIT, true, "QUIT\r\n"); break;
    default: add(c, RSET, true, "RSET\r\n"); break;
    }
}

static void plan_message(struct sim_client *c, bool behind)
{
    struct letter *l = letter_new(c->world, c);
    bool together = c->pipelining && sim_chance(60), by_chunks = c->chunking && sim_may(F_CHUNKS, 40);
    snprintf(l->address, sizeof l->address, "%s", c->address);
    l->authenticated = c->authenticated;
    l->nrcpts = 1 + (unsigned)sim_random(RCPTS_MOST);
    l->binary = by_chunks && c->binary && sim_may(F_BINARY, 50);
    letter_write(l);
    if (c->may_xforward && !behind && sim_may(F_CLAIMS, 40)) {
        snprintf(l->address, sizeof l->address, "203.0.113.%u", l->number % 250 + 1);
        l->forwarded = true;
        add(c, XFORWARD, true, "XFORWARD ADDR=%s PROTO=ESMTP\r\n", l->address);
    }
    add(c, MAIL, !behind, "MAIL FROM:<m%u@c%u.test>%s%s\r\n", l->number, c->number, l->binary ? " BODY=BINARYMIME" : "",
        c->esmtp && sim_chance(30) ? " SIZE=100" : "")
        ->letter = l;
    bool away = sim_may(F_ROUTES, 30),
         mixed = sim_may(F_ROUTES, 10) && !c->world->calm; /* two ways: some are refused */
    for (unsigned k = 0; k < l->nrcpts; k++) {
        bool there = mixed ? sim_chance(50) : away;
        l->elsewhere |= there ? 1u << k : 0;
        struct item *i = add(c, RCPT, !together, "RCPT TO:<r%u-%u@%c.test>\r\n", l->number, k, there ? 'z' : 'y');
        i->letter = l;
        i->rcpt = k;
    }
    if (sim_may(F_ABANDON, 6)) {
        plan_abandon(c, false);
        return;
    }
    if (by_chunks) {
        if (!plan_chunks(c, l, together)) {
            plan_abandon(c, true);
            return;
        }
    } else {
        add(c, DATA, !together, "DATA\r\n")->letter = l;
        struct item *i = add(c, END, true, "%s", "");
        i->letter = l;
        put_dotted(&i->text, &l->content);
    }
    if (c->pipelining && c->messages && c->planned < 20 && sim_may(F_CHAINED, 25)) {
        c->messages--;
        plan_message(c, true);
    }
}

/* ---- the rest */

static void put_base64(const char *octets, size_t n, char *text) /* of three octets or more, a multiple of three */
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i + 2 < n; i += 3) {
        uint32_t three = (uint32_t)(unsigned char)octets[i] << 16 | (uint32_t)(unsigned char)octets[i + 1] << 8 |
                         (unsigned char)octets[i + 2];
        for (int k = 0; k < 4; k++)
            *text++ = letters[three >> (18 - 6 * k) & 63];
    }
    *text = 0;
}

static void plan_auth(struct sim_client *c)
{
    char octets[16], text[24];
    if (sim_chance(50)) {
        add(c, AUTH, true, "AUTH LOGIN\r\n");
        return;
    }
    memset(octets, 0, sizeof octets);
    snprintf(octets + 1, sizeof octets - 1, "u%04u", c->number);
    memcpy(octets + 7, "pw", 2);
    put_base64(octets, 9, text);
    if (sim_chance(70))
        add(c, AUTH, true, "AUTH PLAIN %s\r\n", text);
    else
        add(c, AUTH, true, "AUTH PLAIN\r\n");
}

void plan_response(struct sim_client *c, const char *challenge)
{
    char octets[16] = "pw-pw-", text[24];
    size_t n = 6;
    if (strstr(challenge, "user")) {
        snprintf(octets, sizeof octets, "u%05u", c->number);
    } else if (!strstr(challenge, "pass")) { /* PLAIN's empty challenge */
        memset(octets, 0, sizeof octets);
        snprintf(octets + 1, sizeof octets - 1, "u%04u", c->number);
        memcpy(octets + 7, "pw", 2);
        n = 9;
    }
    put_base64(octets, n, text);
    if (sim_may(F_VERDICTS, 5))
        add(c, NONSENSE, false, "*\r\n");
    else
        add(c, AUTH, false, "%s\r\n", text);
}

void plan_preface(struct sim_client *c, struct octets *to)
{
    char line[108];
    snprintf(c->address, sizeof c->address, "198.51.100.%u", c->number);
    int n = snprintf(line, sizeof line, "PROXY TCP4 %s 192.0.2.250 %u 25\r\n", c->address, 2000 + c->number);
    octets_put(to, line, (size_t)n);
}

static void plan_junk(struct sim_client *c)
{
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
}

void plan_next(struct sim_client *c)
{
    plan_free(c);
    if (!c->hello) {
        plan_hello(c);
    } else if (sim_may(F_JUNK, 8)) {
        plan_junk(c);
    } else if (c->may_auth && !c->authenticated && sim_may(F_AUTH, 50)) {
        plan_auth(c);
    } else if (c->may_xclient && sim_may(F_CLAIMS, 10)) {
        snprintf(c->claims, sizeof c->claims, "203.0.113.%u", (unsigned)sim_random(250) + 1);
        add(c, XCLIENT, true, "XCLIENT ADDR=%s NAME=[UNAVAILABLE]\r\n", c->claims);
    } else if (c->messages) {
        c->messages--;
        plan_message(c, false);
    } else {
        add(c, QUIT, true, "QUIT\r\n");
    }
}
