/* fuzz_session.c - whole sessions: the input is what clients, backends and filters do, on the simulated net of
 * tests/sim.
 *
 * Claims: a client hears one reply to each command, in order, and nothing behind the last word; a 250 to its content
 * has a backend's 250 to the very same content, each of them once; what backends take as whole mail data some client
 * has ended, and not more often; none of it has a bare CR or LF; nothing but commands of the gateway is said to a
 * backend outside of content; nobody is forgotten for 15 virtual minutes, and nothing is left behind. What was sent and
 * said is read by dialogue.c. */
#include "dialogue.h"
#include "fuzz.h"
#include "filters/filter.h"
#include "smtp/back/backend.h"
#include "tests/sim/world.h"
#include "smtp/front/connections.h"

enum { CLIENTS = 3, OVERRIDES = 64, VERDICTS = 64, STEPS = 400 };

struct guest { /* a client */
    struct wire *wire;
    struct dialogue talk;
    bool over, last_word, said_end;
};
struct host { /* a backend's connection */
    struct host *next;
    struct wire *wire;
    struct dialogue talk;
    bool begun, hangs, over;
};
static struct {
    struct str input;
    unsigned steps;
    struct world world; /* only what conf.c and filters want of it */
    struct event step, watch;
    struct guest guests[CLIENTS];
    unsigned nguests;
    struct host *hosts;
    struct str overrides[OVERRIDES]; /* what the next replies of backends are instead */
    unsigned first_override, noverrides;
    uint8_t verdicts[VERDICTS];
    unsigned first_verdict, nverdicts, discards;
    uint8_t flags;
} fuzz;
struct world *world_played;

/* ---- what must hold */

/* The same but for a field that the filter puts on top, and a line end that a last chunk lacked. */
static bool is_same(const struct octets *client, const struct octets *backend)
{
    static const char field[] = "X-Fuzz: yes\r\n";
    const char *at = backend->at;
    size_t n = backend->len, own = client->len;
    for (; n >= strlen(field) && memcmp(at, field, strlen(field)) == 0; n -= strlen(field))
        at += strlen(field);
    if (at != backend->at && n >= own + 2 && memcmp(at, "\r\n", 2) == 0 &&
        (!own || memcmp(client->at, "\r\n", min_size(own, 2)) != 0)) {
        at += 2; /* it had no header section: the field brings the empty line that parts it */
        n -= 2;
    }
    if (n < own || (own && memcmp(at, client->at, own) != 0))
        return false;
    bool open = own < 2 || memcmp(client->at + own - 2, "\r\n", 2) != 0;
    return n == own || (open && n == own + 2 && memcmp(at + own, "\r\n", 2) == 0);
}

static bool has_bare(const struct octets *o)
{
    for (size_t i = 0; i < o->len; i++)
        if ((o->at[i] == '\n' && (!i || o->at[i - 1] != '\r')) ||
            (o->at[i] == '\r' && (i + 1 == o->len || o->at[i + 1] != '\n')))
            return true;
    return false;
}

static void acknowledged(const struct dialogue *d, struct letter_heard *l)
{
    const struct octets *content = dialogue_content(d, l);
    for (struct host *h = fuzz.hosts; h; h = h->next)
        for (size_t i = 0; i < h->talk.nletters; i++) {
            struct letter_heard *taken = h->talk.letters[i];
            if (!taken->matched && dialogue_has(&h->talk, taken) &&
                is_same(content, dialogue_content(&h->talk, taken))) {
                taken->matched = true;
                return;
            }
        }
    if (fuzz.discards)
        fuzz.discards--;
    else
        sim_violation("a client is told 250 for %zu octets of content that no backend has said 250 for", content->len);
}

static bool is_alike(const struct octets *a, const struct octets *b)
{
    return a->len == b->len && (!a->len || memcmp(a->at, b->at, a->len) == 0);
}

/* Some client has ended the very same, as often as backends heard its end. Asked at the end of all: what a client has
 * said is content when it has heard the 354. */
static void taken(const struct dialogue *of, struct letter_heard *l)
{
    unsigned ended = 0, ends = 0;
    const struct octets *content = dialogue_content(of, l);
    if (has_bare(content) && !l->binary)
        sim_violation("a backend is given %zu octets with a bare CR or LF", content->len);
    for (unsigned i = 0; i < fuzz.nguests; i++) {
        const struct dialogue *d = &fuzz.guests[i].talk;
        for (size_t k = 0; k < d->nletters; k++)
            ended += is_same(dialogue_content(d, d->letters[k]), content);
        if (d->lost || d->said.len) /* what else it may have ended nobody knows */
            return;
    }
    for (const struct host *h = fuzz.hosts; h; h = h->next)
        for (size_t k = 0; k < h->talk.nletters; k++)
            ends += is_alike(dialogue_content(&h->talk, h->talk.letters[k]), content);
    if (ends > ended)
        sim_violation("%u ends of mail data were said of %zu octets that clients have ended %u times", ends,
                      content->len, ended);
}

static bool may_be_said(const char *line)
{
    static const char *const verbs[] = {"EHLO ", "HELO ", "LHLO ", "MAIL FROM:<", "RCPT TO:<", "DATA",  "BDAT ",
                                        "RSET",  "QUIT",  "AUTH ", "XCLIENT ",    "XFORWARD ", "PROXY "};
    for (size_t i = 0; i < countof(verbs); i++)
        if (!strncmp(line, verbs[i], strlen(verbs[i])))
            return true;
    return false;
}

/* ---- backends */

static struct str auto_reply(const struct host *h, const struct unit *u)
{
    static const struct str hello[] = {
        STR("250-b\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n"
            "250-XFORWARD NAME ADDR PORT PROTO HELO SOURCE IDENT\r\n250 XCLIENT NAME ADDR PORT PROTO HELO\r\n"),
        STR("250-b\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")};
    switch (u->kind) {
    case UNIT_BANNER: return STR("220 b\r\n");
    case UNIT_DATA: return STR("354 go\r\n");
    case UNIT_AUTH: return strchr(u->line, ' ') && strlen(u->line) < 12 ? STR("334 \r\n") : STR("235 ok\r\n");
    default: break;
    }
    if (!strncmp(u->line, "EHLO", 4) || !strncmp(u->line, "LHLO", 4))
        return hello[fuzz.flags & 1];
    if (!strncmp(u->line, "XCLIENT", 7))
        return STR("220 b\r\n");
    return !strncmp(u->line, "QUIT", 4) ? STR("221 bye\r\n") : STR("250 ok\r\n");
}

static void host_says(struct host *h, struct str text)
{
    if (h->over || !text.len)
        return;
    dialogue_answer(&h->talk, text.at, text.len);
    wire_send(h->wire, text.at, text.len);
}

static void host_goes(struct host *h, bool reset)
{
    if (h->over)
        return;
    h->over = true;
    if (reset)
        wire_reset(&h->wire);
    else
        wire_leave(&h->wire);
}

static void host_answers(struct host *h, const struct unit *u)
{
    struct str text = auto_reply(h, u);
    if (fuzz.noverrides && u->kind != UNIT_BANNER) {
        text = fuzz.overrides[fuzz.first_override++ % OVERRIDES];
        fuzz.noverrides--;
        h->hangs |= !text.len;
    }
    if (!h->hangs)
        host_says(h, text);
}

/* A PROXY header is no command, and is owed no reply. False: it is not all there. */
static bool drop_preface(struct octets *o)
{
    static const char v2[] = "\r\n\r\n\0\r\nQUIT\n";
    size_t n = 0;
    if (o->len && !memcmp(o->at, "PROXY ", min_size(o->len, 6)))
        n = octets_line(o, 0);
    else if (o->len >= 16 && !memcmp(o->at, v2, 12))
        n = 16 + ((size_t)(unsigned char)o->at[14] << 8 | (unsigned char)o->at[15]);
    else if (o->len && memcmp(o->at, v2, min_size(o->len, 12)) != 0)
        return true;
    if (!n || n > o->len)
        return false;
    octets_drop(o, n);
    return true;
}

static void host_hears(void *data)
{
    struct host *h = data;
    struct octets *in = &h->wire->in;
    if (!h->begun)
        h->begun = drop_preface(in);
    if (h->begun) {
        dialogue_say(&h->talk, in->at, in->len);
        octets_drop(in, in->len);
    }
    for (size_t at; (at = dialogue_read(&h->talk)) < h->talk.nunits && !h->over;)
        for (; at < h->talk.nunits && !h->over; at++) {
            struct unit *u = &h->talk.units[at];
            if (u->kind != UNIT_END && u->kind != UNIT_AUTH && u->kind != UNIT_CHUNK && u->kind != UNIT_BANNER &&
                !may_be_said(u->line))
                sim_violation("a backend hears \"%s\"", u->line);
            host_answers(h, u);
        }
    if (h->wire && h->wire->ended)
        host_goes(h, false);
}

static enum dialled host_dialled(void *data, struct wire *wire)
{
    struct host *h = must_alloc(sizeof *h);
    h->next = fuzz.hosts;
    fuzz.hosts = h;
    h->wire = wire;
    wire->heard = host_hears;
    wire->peer = h;
    dialogue_open(&h->talk, true);
    host_says(h, STR("220 b\r\n"));
    return DIAL_ACCEPTED;
}

static struct host *host_at(unsigned i) /* the newest first, of those that are there */
{
    struct host *h = fuzz.hosts;
    while (h && (h->over || i--))
        h = h->next;
    return h;
}

/* ---- clients */

static void guest_goes(struct guest *g, bool reset)
{
    if (g->over)
        return;
    g->over = true;
    if (reset)
        wire_reset(&g->wire);
    else
        wire_leave(&g->wire);
}

/* A reply ahead of its command is the last word: 421, or a refusal before all of the content has come. */
static void look_at_replies(struct guest *g)
{
    struct dialogue *d = &g->talk;
    if (d->bad_reply)
        sim_violation("a client hears what is no reply");
    if (d->nreplies > d->nunits && !d->lost) {
        unsigned code = d->codes[d->nunits];
        if (d->nreplies > d->nunits + 1 || code < 400)
            sim_violation("a client hears %zu replies to %zu commands, the last is %u", d->nreplies, d->nunits, code);
    }
}

static void guest_reads(struct guest *g)
{
    size_t told = g->talk.nreplies;
    dialogue_read(&g->talk);
    look_at_replies(g);
    for (size_t i = told; i < g->talk.nreplies && i < g->talk.nunits; i++)
        if (g->talk.units[i].kind == UNIT_END && g->talk.units[i].code / 100 == 2)
            acknowledged(&g->talk, g->talk.units[i].letter);
}

static void guest_hears(void *data)
{
    struct guest *g = data;
    struct octets *in = &g->wire->in;
    dialogue_answer(&g->talk, in->at, in->len);
    octets_drop(in, in->len);
    guest_reads(g);
    if (g->wire->ended)
        guest_goes(g, false);
}

static void guest_says(struct guest *g, struct str text)
{
    if (g->over || g->said_end || !text.len)
        return;
    dialogue_say(&g->talk, text.at, text.len);
    dialogue_read(&g->talk);
    wire_send(g->wire, text.at, text.len);
}

static void guest_arrives(void)
{
    if (fuzz.nguests == CLIENTS)
        return;
    struct guest *g = &fuzz.guests[fuzz.nguests++];
    struct stream *s;
    const struct smtp_conf *conf = fuzz.world.worker.generation->conf;
    g->wire = wire_open(fuzz.world.worker.mail.loop, fuzz.nguests, &s);
    g->wire->heard = guest_hears;
    g->wire->peer = g;
    dialogue_open(&g->talk, true);
    session_start(&fuzz.world.worker, &conf->listens[0], 1, s);
    if (conf->listens[0].proxy)
        wire_send(g->wire, "PROXY TCP4 198.51.100.1 192.0.2.250 1 25\r\n", 42);
}

/* ---- filters */

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    if (!fuzz.nverdicts || stage == FILTER_RESET || stage == FILTER_DISCONNECT)
        return VERDICT_CONTINUE;
    uint8_t what = fuzz.verdicts[fuzz.first_verdict++ % VERDICTS];
    fuzz.nverdicts--;
    switch (what % 12) {
    case 0: return filter_reject(call, NULL);
    case 1: return filter_defer(call, NULL);
    case 2: return filter_drop(call, NULL);
    case 3: fuzz.discards++; return filter_discard(call, "fuzz");
    case 4: return VERDICT_ERROR;
    case 5: return VERDICT_SKIP;
    case 6: return VERDICT_PASS;
    case 7: filter_timer(call, what); return VERDICT_SUSPEND;
    case 8: filter_field_add(call, FILTER_TOP, "X-Fuzz", (struct filter_text){"yes", 3}); return VERDICT_CONTINUE;
    case 9: return filter_quarantine(call, "fuzz");
    case 10: filter_dns(call, "a", "x.test", 1000); return VERDICT_SUSPEND;
    default: return VERDICT_CONTINUE;
    }
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *event)
{
    return VERDICT_CONTINUE;
}

void filters_fill(struct world *w, struct smtp_conf *conf)
{
    static const struct filter_def def = {.size = sizeof def,
                                          .abi = FILTER_ABI,
                                          .name = "fuzz",
                                          .hook = hook,
                                          .resume = resume,
                                          .stages = ~0u,
                                          .flags = ~0u};
    static const unsigned stages[] = {~0u, 0x1f, 1u << FILTER_RCPT | 1u << FILTER_HEADERS,
                                      1u << FILTER_BODY | 1u << FILTER_MESSAGE};
    struct chain *chain = conf->mail.chains;
    size_t n = fuzz.flags & 2 ? 1 + (fuzz.flags >> 2 & 1) : 0;
    conf->mail.filters = chain->filters = arena_alloc(&conf->mail.arena, (n + 1) * sizeof(struct filter *));
    conf->mail.nfilters = chain->nfilters = n;
    for (size_t i = 0; i < n; i++) {
        struct filter *f = chain->filters[i] = arena_alloc(&conf->mail.arena, sizeof *f);
        *f = (struct filter){.def = &def,
                             .conf = &conf->mail,
                             .index = (unsigned)i,
                             .name = STR("fuzz"),
                             .source = STR("fuzz"),
                             .prefix = STR("fuzz"),
                             .file = STR("fuzz"),
                             .timeout = 10000,
                             .message_timeout = 30000,
                             .opened = true};
        f->stages =
            stages[(fuzz.flags >> 3 & 1) + 2 * i] & ~(1u << FILTER_REPLY | 1u << FILTER_START | 1u << FILTER_TICK);
        f->flags =
            (fuzz.flags & 16 ? FILTER_LATE_FIELDS | FILTER_LATE_ROUTE : 0) | (fuzz.flags & 32 ? FILTER_BINARY_SAFE : 0);
        f->on_error = (enum on_error)sim_random(3);
    }
}

/* ---- the input */

static const struct str lines[] = {STR("EHLO c.test\r\n"),
                                   STR("HELO c.test\r\n"),
                                   STR("MAIL FROM:<a@x.test>\r\n"),
                                   STR("RCPT TO:<1@y.test>\r\n"),
                                   STR("DATA\r\n"),
                                   STR("S: x\r\n\r\nhi\r\n"),
                                   STR(".\r\n"),
                                   STR("RSET\r\n"),
                                   STR("QUIT\r\n"),
                                   STR("NOOP\r\n"),
                                   STR("BDAT 6\r\nS: x\r\n"),
                                   STR("BDAT 6 LAST\r\n\r\nhi\r\n"),
                                   STR("BDAT 0 LAST\r\n"),
                                   STR("MAIL FROM:<b@x.test> BODY=BINARYMIME\r\n"),
                                   STR("AUTH PLAIN AGEAYg==\r\n"),
                                   STR("AUTH LOGIN\r\n"),
                                   STR("YQ==\r\n"),
                                   STR("*\r\n"),
                                   STR("XFORWARD ADDR=203.0.113.9\r\n"),
                                   STR("XCLIENT ADDR=203.0.113.9\r\n"),
                                   STR("MAIL FROM:<a@x.test>\r\nRCPT TO:<1@y.test>\r\nRCPT TO:<2@y.test>\r\nDATA\r\n"),
                                   STR("..\r\n"),
                                   STR("\n.\r\n"),
                                   STR("\r\n.\n"),
                                   STR("S: y\r\n\r\n..a\r\n.\r\n"),
                                   STR("VRFY x\r\n"),
                                   STR("MAIL FROM:<>\r\nRCPT TO:<1@y.test>\r\n"),
                                   STR("RCPT TO:<2@y.test>\r\n")};
static const struct str replies[] = {STR("250 ok\r\n"),
                                     STR("550 5.1.1 no\r\n"),
                                     STR("450 later\r\n"),
                                     STR("421 bye\r\n"),
                                     STR("354 go\r\n"),
                                     STR("250-one\r\n250 two\r\n"),
                                     STR("25"),
                                     STR("503 what\r\n"),
                                     STR("220 b\r\n"),
                                     STR("334 \r\n"),
                                     STR("250 ok\r\n250 ok\r\n"),
                                     STR(""),
                                     STR("451 4.3.0 no\r\n"),
                                     STR("235 ok\r\n"),
                                     STR("x\r\n"),
                                     STR("251 ok\r\n")};

static struct str piece(void)
{
    size_t n = fuzz_octet(&fuzz.input);
    struct str s = str_part(fuzz.input, 0, n);
    fuzz.input = str_part(fuzz.input, s.len, fuzz.input.len);
    return s;
}

static void override(struct str text)
{
    if (fuzz.noverrides == OVERRIDES)
        return;
    fuzz.overrides[(fuzz.first_override + fuzz.noverrides++) % OVERRIDES] = text;
}

static void reload(void)
{
    struct smtp_conf *fresh = conf_new(&fuzz.world, fuzz.world.conf->generation + 1);
    fresh->listens[0].visit.received = false;
    smtp_conf_take_over(fresh, fuzz.world.conf);
    worker_switch(&fuzz.world.worker, fresh);
    smtp_conf_drop(fuzz.world.conf);
    fuzz.world.conf = fresh;
}

/* One thing that somebody does. How long until the next one, in milliseconds. */
static uint64_t act(void)
{
    uint8_t op = fuzz_octet(&fuzz.input);
    struct guest *g = &fuzz.guests[(op >> 4) % (fuzz.nguests ? fuzz.nguests : 1)];
    struct host *h = host_at(op >> 4 & 3);
    switch (op & 15) {
    case 0:
    case 1:
    case 2: guest_says(g, lines[fuzz_octet(&fuzz.input) % countof(lines)]); return op & 2 ? 0 : 20;
    case 3: guest_says(g, piece()); return 0;
    case 4: override(replies[fuzz_octet(&fuzz.input) % countof(replies)]); return 0;
    case 5: override(piece()); return 0;
    case 6:
        if (h)
            host_says(h, piece());
        return 0;
    case 7:
        if (fuzz.nverdicts < VERDICTS)
            fuzz.verdicts[(fuzz.first_verdict + fuzz.nverdicts++) % VERDICTS] = fuzz_octet(&fuzz.input);
        return 0;
    case 8: return 1ull << fuzz_octet(&fuzz.input) % 17;
    case 9:
        if (!g->over && !g->said_end && fuzz.nguests) {
            wire_end(g->wire);
            g->said_end = true;
        }
        return 0;
    case 10:
        if (fuzz.nguests)
            guest_goes(g, op & 128);
        return 0;
    case 11:
        if (h)
            host_goes(h, op & 128);
        return 0;
    case 12: guest_arrives(); return op & 128 ? 0 : 50;
    case 13:
        if (op & 128)
            reload();
        return 0;
    case 14:
        if (op & 128 && h)
            wire_break(h->wire);
        else if (fuzz.nguests && !g->over)
            wire_break(g->wire);
        return 0;
    default: return 5;
    }
}

static void step(struct event *e)
{
    uint64_t in = 0;
    while (fuzz.input.len && !in && fuzz.steps++ < STEPS)
        in = act();
    if (fuzz.input.len && fuzz.steps < STEPS) {
        event_set(e, in, step);
        return;
    }
    for (unsigned i = 0; i < fuzz.nguests; i++) /* all that they had to say; they listen to the end */
        if (!fuzz.guests[i].over && !fuzz.guests[i].said_end) {
            fuzz.guests[i].said_end = true;
            wire_end(fuzz.guests[i].wire);
        }
}

static void too_long(struct event *e)
{
    sim_violation("%u sessions live on", fuzz.world.worker.nsessions);
}

static void look(void *data)
{
    if (event_is_set(&fuzz.step))
        return;
    if (!fuzz.world.worker.nsessions)
        loop_stop(fuzz.world.worker.mail.loop);
    else if (!event_is_set(&fuzz.watch))
        event_set(&fuzz.watch, PATIENCE, too_long);
}

/* ---- one world */

static void begin(const uint8_t *octets, size_t n)
{
    memset(&fuzz, 0, sizeof fuzz);
    fuzz.input = fuzz_input(octets, n);
    uint64_t seed = fuzz_octet(&fuzz.input);
    seed = seed << 8 | fuzz_octet(&fuzz.input);
    uint8_t without = fuzz_octet(&fuzz.input);
    fuzz.flags = fuzz_octet(&fuzz.input);
    sim_features = ~(1ull << F_BREAKS | 1ull << F_MEMORY | 1ull << F_OUTAGES);
    static const enum feature off[] = {F_CUTS, F_LAGS, F_IDENTITY, F_LMTP, F_AUTH, F_CLAIMS, F_LIMITS, F_CHUNKS};
    for (size_t i = 0; i < countof(off); i++)
        if (without >> i & 1)
            sim_features &= ~(1ull << off[i]);
    world_played = &fuzz.world;
    sim_begin(seed, getenv("FUZZ_TRACE") != NULL);
    struct world *w = &fuzz.world;
    w->conf = conf_new(w, 1);
    w->conf->listens[0].visit.received = false; /* what backends take is compared as it is */
    w->worker.mail.loop = loop_open();
    w->worker.connections = connections_open();
    w->worker.mail.serial = 1ull << 48;
    loop_before_sleep(w->worker.mail.loop, look, NULL);
    net_begin(0, false);
    net_on_dial(host_dialled, NULL);
    worker_switch(&w->worker, w->conf);
    guest_arrives();
    event_set(&fuzz.step, 30, step);
}

static void end(void)
{
    struct world *w = &fuzz.world;
    for (const struct host *h = fuzz.hosts; h; h = h->next)
        for (size_t i = 0; i < h->talk.nletters; i++)
            taken(&h->talk, h->talk.letters[i]);
    event_stop(&fuzz.watch);
    event_stop(&fuzz.step);
    worker_close(&w->worker);
    loop_close(w->worker.mail.loop);
    worker_forget(&w->worker);
    for (unsigned i = 0; i < fuzz.nguests; i++) {
        guest_goes(&fuzz.guests[i], false);
        dialogue_close(&fuzz.guests[i].talk);
    }
    smtp_conf_drop(w->conf);
    connections_close(w->worker.connections);
    servers_forget();
    for (struct host *h = fuzz.hosts, *next; h; h = next) {
        next = h->next;
        host_goes(h, false);
        dialogue_close(&h->talk);
        free(h);
    }
    log_flush();
    if (stream_count() || arena_total() || block_total())
        sim_violation("left behind: %zu streams, %zu octets in arenas, %zu in blocks", stream_count(), arena_total(),
                      block_total());
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static bool quiet;
    if (!quiet)
        log_set(&(struct log_settings){.level = LOG_DEBUG}, -1);
    quiet = true;
    begin(octets, n);
    loop_run(fuzz.world.worker.mail.loop);
    if (!sim_violated())
        end();
    if (sim_violated()) {
        fflush(stdout); /* the trace, with FUZZ_TRACE set */
        print_error("%s\n", sim_violated());
        fail();
    }
    return 0;
}
