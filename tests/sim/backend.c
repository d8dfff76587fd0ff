/* backend.c - a backend out of dice: it answers, refuses, is late, hangs, says 421, goes before, amid or behind a
 * reply.
 *
 * It reads strictly, decodes mail data with its own few lines and compares it with the letter that the transaction is
 * of. All that clients say inside content bears "inside" or "X-Sim" at its front, so whatever of it becomes a command
 * is seen. */
#include "world.h"
#include <stdarg.h>

enum mode { COMMANDS, CONTENT, CHUNK };
enum fate { FATE_SAYS, FATE_HANGS, FATE_GOES_BEFORE, FATE_GOES_AMID, FATE_GOES_BEHIND };

struct backend_peer {
    struct backend_peer *next, **link;
    struct world *world;
    struct wire *wire;
    enum mode mode;
    enum fate fate;
    struct event talk, idle;
    bool pipelining, chunking, helo_only, greeted, has_mail, leaves;
    unsigned letter, session; /* of MAIL; letters and clients begin at 1 */
    uint32_t accepted;
    struct octets chunks; /* of BDAT so far */
    size_t chunk;
    bool last, chunk_bad;
    unsigned faults;
    char reply[400]; /* that is due */
};

static void hear(struct backend_peer *);

static void go(struct backend_peer *b)
{
    event_stop(&b->talk);
    event_stop(&b->idle);
    wire_leave(&b->wire);
    *b->link = b->next;
    if (b->next)
        b->next->link = b->link;
    octets_free(&b->chunks);
    free(b);
}

static void say(struct backend_peer *b, const char *text, size_t n)
{
    wire_send(b->wire, text, n);
}

static void talk(struct event *e)
{
    struct backend_peer *b = holder_of(e, struct backend_peer, talk);
    size_t n = strlen(b->reply);
    switch (b->fate) {
    case FATE_HANGS: return; /* the gateway has to end this */
    case FATE_GOES_BEFORE: n = 0; break;
    case FATE_GOES_AMID: n = sim_random(n); break;
    default: break;
    }
    say(b, b->reply, n);
    if (b->fate != FATE_SAYS || b->leaves) {
        if (sim_chance(30))
            wire_reset(&b->wire);
        go(b);
        return;
    }
    b->reply[0] = 0;
    hear(b);
}

static void gone_idle(struct event *e)
{
    struct backend_peer *b = holder_of(e, struct backend_peer, idle);
    if (b->reply[0] || b->mode != COMMANDS)
        return;
    sim_trace("b%u has enough", b->wire->number);
    if (sim_chance(60))
        say(b, "421 4.3.2 closing\r\n", 19);
    go(b);
}

/* What it would say, before fate has its turn. True: it does say yes, as far as it is concerned. */
static bool answer(struct backend_peer *b, bool may_refuse, const char *mark, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->reply, sizeof b->reply, format, args);
    va_end(args);
    bool yes = b->reply[0] == '2' || b->reply[0] == '3';
    b->fate = FATE_SAYS;
    uint64_t in = sim_chance(85) ? sim_random(3) : sim_random(1500);
    if (sim_random(100) < b->faults) {
        unsigned what = (unsigned)sim_random(8);
        if (what < 4) {
            b->fate = FATE_HANGS + what;
        } else if (what == 4) {
            snprintf(b->reply, sizeof b->reply, "421 4.3.2 closing %s\r\n", mark);
            b->leaves = true;
            yes = false;
        } else if (what == 5) {
            in = sim_random(100000); /* late, perhaps too late */
        } else if (what == 6) {
            snprintf(b->reply, sizeof b->reply, "nonsense\r\n");
            yes = false;
        }
    }
    if (yes && may_refuse && b->fate == FATE_SAYS && sim_chance(8)) {
        bool two = sim_chance(30);
        snprintf(b->reply, sizeof b->reply, "%s%s no %s\r\n", two ? "550-5.7.1 first line\r\n" : "",
                 two || sim_chance(50) ? "550 5.7.1" : "450 4.2.0", mark);
        yes = false;
    }
    event_set(&b->talk, in, talk);
    if (sim_random(1000) < b->faults)
        event_set(&b->idle, sim_random(90000), gone_idle);
    return yes;
}

/* ---- mail data */

/* What filters.c adds in front is no part of the letter; a last line that BDAT left open may have been ended. */
static bool is_whole(const struct letter *l, const struct octets *heard)
{
    static const char added[] = "X-Added: yes\r\n";
    const char *at = heard->at;
    size_t n = heard->len, own = l->content.len;
    for (; n > strlen(added) && memcmp(at, added, strlen(added)) == 0; n -= strlen(added))
        at += strlen(added);
    if (n < own || memcmp(at, l->content.at, own) != 0)
        return false;
    bool open = own < 2 || memcmp(l->content.at + own - 2, "\r\n", 2) != 0;
    return n == own || (open && n == own + 2 && memcmp(at + own, "\r\n", 2) == 0);
}

/* An end of mail data was heard: of which letter, is it whole, has its client said so? */
static void take(struct backend_peer *b, const struct octets *heard)
{
    struct letter *l = letter_numbered(b->world, b->letter);
    char mark[40];
    snprintf(mark, sizeof mark, "no-%u", b->letter);
    if (!b->has_mail || !l) {
        sim_violation("a backend hears an end of mail data without a transaction");
        return;
    }
    if (!is_whole(l, heard))
        sim_violation("letter %u: the backend took %zu octets that are not the %zu the client sent", l->number,
                      heard->len, l->content.len);
    else if (!l->end_at || client_delivered(l->client) < l->end_at)
        sim_violation("letter %u: an end of mail data that the client has not said", l->number);
    else if (l->bare)
        sim_violation("letter %u holds a bare line end and was passed on", l->number);
    else if (l->discarded)
        sim_violation("letter %u was discarded and is passed on", l->number);
    else if (++l->ends > 1)
        sim_violation("letter %u: a second end of mail data", l->number);
    else if (!b->accepted)
        sim_violation("letter %u: mail data for nobody", l->number);
    b->has_mail = false;
    if (answer(b, true, mark, "250 2.0.0 yes%u-%u\r\n", l->number, b->wire->number)) {
        l->taken++;
        l->accepted = b->accepted;
    }
}

/* The octets behind the end, or 0: it is not there. Undoes the dots on the way. */
static size_t read_dotted(const struct octets *in, struct octets *to)
{
    for (size_t from = 0, end; (end = octets_line(in, from)) != 0; from = end) {
        bool dot = in->at[from] == '.';
        if (dot && end - from == 3)
            return end;
        octets_put(to, in->at + from + dot, end - from - dot);
    }
    return 0;
}

static bool hear_content(struct backend_peer *b)
{
    struct octets heard = {0};
    size_t end = b->wire->in.len > 2 ? read_dotted(&b->wire->in, &heard) : 0;
    if (end) {
        octets_drop(&b->wire->in, end);
        b->mode = COMMANDS;
        take(b, &heard);
    }
    octets_free(&heard);
    return end != 0;
}

static bool hear_chunk(struct backend_peer *b)
{
    if (b->wire->in.len < b->chunk)
        return false;
    octets_put(&b->chunks, b->wire->in.at, b->chunk);
    octets_drop(&b->wire->in, b->chunk);
    b->mode = COMMANDS;
    if (b->chunk_bad || !b->has_mail || !b->accepted) {
        answer(b, false, "", "503 5.5.1 no chunk now\r\n");
    } else if (b->last) {
        take(b, &b->chunks);
    } else {
        b->chunk_bad = !answer(b, true, "chunk", "250 2.0.0 chunk\r\n");
        return true;
    }
    octets_drop(&b->chunks, b->chunks.len);
    return true;
}

/* ---- commands */

static void hear_mail(struct backend_peer *b, const char *line)
{
    unsigned number = 0;
    char mark[40];
    struct letter *l = sscanf(line, "MAIL FROM:<m%u@", &number) == 1 ? letter_numbered(b->world, number) : NULL;
    if (!l) {
        sim_violation("a backend hears of a sender nobody has: %s", line);
        return;
    }
    if (b->has_mail)
        sim_violation("a backend hears MAIL for letter %u amid the transaction of letter %u", number, b->letter);
    b->letter = number;
    b->session = client_number(l->client);
    b->accepted = 0;
    b->chunk_bad = false;
    octets_drop(&b->chunks, b->chunks.len);
    snprintf(mark, sizeof mark, "for MAIL %u", number);
    b->has_mail = answer(b, true, mark, "250 2.1.0 Ok %s\r\n", mark);
}

static void hear_rcpt(struct backend_peer *b, const char *line)
{
    unsigned number, k;
    char mark[40];
    if (sscanf(line, "RCPT TO:<r%u-%u@", &number, &k) != 2 || number != b->letter || k >= RCPTS_MOST) {
        sim_violation("a backend hears of a rcpt that is not of letter %u: %s", b->letter, line);
        return;
    }
    snprintf(mark, sizeof mark, "for RCPT %u-%u", number, k);
    if (!b->has_mail)
        answer(b, false, mark, "503 5.5.1 no MAIL %s\r\n", mark);
    else if (answer(b, true, mark, "250 2.1.5 Ok %s\r\n", mark))
        b->accepted |= 1u << k;
}

static void hear_data(struct backend_peer *b)
{
    char mark[40];
    snprintf(mark, sizeof mark, "for DATA %u", b->letter);
    if (!b->has_mail || !b->accepted)
        answer(b, false, mark, "554 5.5.1 nobody %s\r\n", mark);
    else if (answer(b, true, mark, "354 go on %s\r\n", mark))
        b->mode = CONTENT;
}

static void hear_hello(struct backend_peer *b, bool esmtp)
{
    b->has_mail = false;
    if (esmtp && b->helo_only)
        answer(b, false, "", "502 5.5.1 what\r\n");
    else if (esmtp)
        answer(b, false, "", "250-b.test\r\n250-SIZE 1000000\r\n%s%s250 8BITMIME\r\n",
               b->pipelining ? "250-PIPELINING\r\n" : "", b->chunking ? "250-CHUNKING\r\n" : "");
    else
        answer(b, false, "", "250 b.test\r\n");
}

static void command(struct backend_peer *b, const char *line)
{
    char last[8] = "";
    if (strstr(line, "inside") || strstr(line, "X-Sim"))
        sim_violation("content became a command: %s", line);
    else if (!strncmp(line, "EHLO ", 5) || !strncmp(line, "HELO ", 5))
        hear_hello(b, line[0] == 'E');
    else if (!strncmp(line, "MAIL FROM:", 10))
        hear_mail(b, line);
    else if (!strncmp(line, "RCPT TO:", 8))
        hear_rcpt(b, line);
    else if (!strcmp(line, "DATA"))
        hear_data(b);
    else if (sscanf(line, "BDAT %zu %5s", &b->chunk, last) >= 1 && b->chunking) {
        b->mode = CHUNK;
        b->last = !strcmp(last, "LAST");
    } else if (!strcmp(line, "RSET")) {
        if (answer(b, false, "", "250 2.0.0 reset\r\n"))
            b->has_mail = false;
    } else if (!strcmp(line, "QUIT")) {
        b->leaves = true;
        answer(b, false, "", "221 2.0.0 bye\r\n");
    } else
        sim_violation("a backend hears what no client and no gateway says: %s", line);
}

static bool hear_command(struct backend_peer *b)
{
    char line[1024];
    size_t end = octets_line(&b->wire->in, 0);
    if (!end)
        return false;
    size_t n = min_size(end - 2, sizeof line - 1);
    memcpy(line, b->wire->in.at, n);
    line[n] = 0;
    octets_drop(&b->wire->in, end);
    command(b, line);
    return true;
}

/* While a reply is due to one client nobody else's MAIL may be on the way: the connection was given back and owed it.
 */
static void look_ahead(const struct backend_peer *b)
{
    const struct octets *in = &b->wire->in;
    for (size_t from = 0, end; b->mode == COMMANDS && (end = octets_line(in, from)) != 0; from = end) {
        unsigned number;
        char line[64];
        snprintf(line, sizeof line, "%.*s", (int)min_size(end - from, sizeof line - 1), in->at + from);
        if (!strncmp(line, "BDAT", 4))
            return;
        const struct letter *l =
            sscanf(line, "MAIL FROM:<m%u@", &number) == 1 ? letter_numbered(b->world, number) : NULL;
        if (l && b->session && client_number(l->client) != b->session)
            sim_violation("client %u was given a connection that still owes client %u", client_number(l->client),
                          b->session);
    }
}

static void hear(struct backend_peer *b)
{
    while (!b->reply[0] && !sim_violated()) {
        bool more = b->mode == CONTENT ? hear_content(b) : b->mode == CHUNK ? hear_chunk(b) : hear_command(b);
        if (!more)
            break;
    }
    if (b->reply[0])
        look_ahead(b);
}

static void heard(void *data)
{
    struct backend_peer *b = data;
    hear(b);
    if (b->wire->ended) /* what is still due is said to nobody */
        go(b);
}

enum dialled backend_dialled(void *data, struct wire *wire)
{
    struct world *w = data;
    unsigned luck = (unsigned)sim_random(100);
    if (luck < w->faults)
        return luck % 3 ? DIAL_REFUSED : DIAL_UNANSWERED;
    struct backend_peer *b = must_alloc(sizeof *b);
    *b = (struct backend_peer){.world = w, .wire = wire, .next = w->backends, .link = &w->backends};
    if (b->next)
        b->next->link = &b->next;
    w->backends = b;
    b->faults = sim_chance(60) ? w->faults : 0;
    b->pipelining = w->servers_pipeline && !sim_chance(5);
    b->chunking = w->servers_chunk && !sim_chance(5);
    b->helo_only = sim_chance(3);
    wire->heard = heard;
    wire->peer = b;
    answer(b, b->faults > 0, "banner", "220 b.test ESMTP\r\n");
    return DIAL_ACCEPTED;
}
