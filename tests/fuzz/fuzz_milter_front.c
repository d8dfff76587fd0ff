/* fuzz_milter_front.c - whole conversations of an MTA with a chain of three: the input is what the MTA says and what
 * filters do, on the simulated net of tests/sim.
 *
 * Claims: nothing is said but packets of a milter; none of them without a packet that awaits it; edits and signs of
 * life come behind the end of a message only, and one final answer; the body in one run; nobody is forgotten for 15
 * virtual minutes, and nothing is left behind. */
#include "fuzz.h"
#include "base/log.h"
#include "mail/call.h"
#include "milter/worker.h"
#include "tests/sim/net.h"
#include "wire/milter.h"

enum { VERDICTS = 64, FILTERS = 3, STEPS = 400, PATIENCE = 900000 };
static struct {
    struct str input;
    unsigned steps;
    struct event step, watch;
    struct wire *wire;
    bool over;
    struct octets said;            /* by the MTA, whole packets of it not yet looked at */
    uint32_t protocol;             /* agreed */
    unsigned awaited, ends;        /* answers that are due; of them to an end of a message */
    bool lost, in_body, body_done; /* lost: what was said is no conversation; in_body: amid a run of 'b' */
    uint8_t verdicts[VERDICTS];
    unsigned first_verdict, nverdicts;
    struct mail_worker mail;
    struct filter_set filters;
    struct mail_conf conf;
    struct chain chain;
    struct filter filter[FILTERS], *row[FILTERS];
    struct milter_conf listen;
    struct milter_worker worker;
} fuzz;

/* ---- what must hold */

static bool is_awaited(char kind)
{
    static const char kinds[] = "CHMRTLNB";
    static const uint32_t bits[] = {MILTER_NR_CONN, MILTER_NR_HELO, MILTER_NR_MAIL, MILTER_NR_RCPT,
                                    MILTER_NR_DATA, MILTER_NR_HDR,  MILTER_NR_EOH,  MILTER_NR_BODY};
    const char *at = strchr(kinds, kind);
    return kind == 'E' || kind == 'O' || (kind == 'U' && !(fuzz.protocol & MILTER_NR_UNKN)) ||
           (at && *at && !(fuzz.protocol & bits[at - kinds]));
}

/* What has been said counts when the packet is whole: the machine may answer then. */
static void count_said(void)
{
    const struct milter_reader reader = {MILTER_FROM_MTA, MILTER_BODY_MOST, MILTER_OTHER_MOST};
    struct milter_packet p;
    enum milter_fault fault;
    size_t whole;
    while (!fuzz.lost && fuzz.said.len) {
        enum milter_took took = milter_parse(&reader, (struct str){fuzz.said.at, fuzz.said.len}, &p, &whole, &fault);
        if (took == MILTER_MORE)
            return;
        fuzz.lost = took == MILTER_BROKEN;
        if (fuzz.lost)
            return;
        fuzz.awaited += is_awaited(p.kind);
        fuzz.ends += p.kind == 'E';
        octets_drop(&fuzz.said, whole);
    }
}

static void look_at_answer(const struct milter_packet *p)
{
    if (p->kind == 'O')
        fuzz.protocol = p->option.protocol;
    if (strchr("him+-2eqbp", p->kind)) {
        if (!fuzz.ends)
            sim_violation("'%c' without an end of a message", p->kind);
        if (p->kind == 'b' && fuzz.body_done)
            sim_violation("the body is said in two runs");
        fuzz.body_done |= fuzz.in_body && p->kind != 'b';
        fuzz.in_body = p->kind == 'b';
        return;
    }
    fuzz.in_body = fuzz.body_done = false;
    if (!strchr("Ocadrtys", p->kind))
        sim_violation("'%c' is said", p->kind);
    if (!fuzz.awaited)
        sim_violation("'%c' answers nothing", p->kind);
    fuzz.awaited -= fuzz.awaited > 0;
}

static void heard(void *data)
{
    const struct milter_reader reader = {MILTER_FROM_FILTER, MILTER_BODY_MOST, MILTER_OTHER_MOST};
    struct octets *in = &fuzz.wire->in;
    struct milter_packet p;
    enum milter_fault fault;
    size_t whole;
    enum milter_took took = MILTER_MORE;
    while (in->len &&
           (took = milter_parse(&reader, (struct str){in->at, in->len}, &p, &whole, &fault)) == MILTER_PACKET) {
        look_at_answer(&p);
        octets_drop(in, whole);
        count_said(); /* what was said ahead of the negotiation is known now */
    }
    if (took == MILTER_BROKEN)
        sim_violation("what is said is no packet of a milter");
    if (fuzz.wire->ended && !fuzz.over) {
        fuzz.over = true;
        wire_leave(&fuzz.wire);
    }
}

static void mta_says(struct str octets)
{
    if (fuzz.over || !octets.len)
        return;
    octets_put(&fuzz.said, octets.at, octets.len);
    count_said();
    wire_send(fuzz.wire, octets.at, octets.len);
}

/* ---- filters */

static void edit(struct filter_call *call, uint8_t what)
{
    uint32_t field = filter_field_next(call, 0, what & 1 ? "A" : NULL);
    switch (what % 11) {
    case 0: filter_field_add(call, FILTER_TOP, "N", (struct filter_text){"top", 3}); break;
    case 1: filter_field_add(call, FILTER_BOTTOM, "A", (struct filter_text){"b\nc", 3}); break;
    case 2: filter_field_remove(call, field); break;
    case 3: filter_field_set(call, field, (struct filter_text){"", 0}); break;
    case 4: filter_field_rename(call, field, "R"); break;
    case 5: filter_add_rcpt(call, "added@x.test", what & 16 ? "NOTIFY=NEVER" : NULL, true); break;
    case 6: filter_drop_rcpt(call, what >> 4 & 3); break;
    case 7: filter_set_reverse_path(call, what & 16 ? "" : "s@x.test", NULL); break;
    case 8: filter_set_rcpt(call, filter_rcpt_now(call), "other@x.test"); break;
    case 9:
        if (filter_stage(call) == FILTER_BODY || filter_stage(call) == FILTER_MESSAGE)
            filter_emit(call, "new\r", what & 16 ? 4 : 0);
        break;
    default: filter_field_add(call, FILTER_BOTTOM, "", (struct filter_text){"\0", 1}); break; /* refused */
    }
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    while (fuzz.nverdicts && stage != FILTER_RESET && stage != FILTER_DISCONNECT) {
        uint8_t what = fuzz.verdicts[fuzz.first_verdict++ % VERDICTS];
        fuzz.nverdicts--;
        switch (what % 14) {
        case 0: return filter_reject(call, NULL);
        case 1: return filter_defer(call, NULL);
        case 2: return filter_drop(call, NULL);
        case 3: return filter_discard(call, "fuzz");
        case 4: return VERDICT_ERROR;
        case 5: return VERDICT_SKIP;
        case 6: return VERDICT_PASS;
        case 7: filter_timer(call, what * 100u); return VERDICT_SUSPEND;
        case 8: return filter_quarantine(call, "fuzz");
        case 9: return filter_reject(call, "550 5.7.1 a\nb\n%%");
        case 10: return VERDICT_ACCEPT;
        default: edit(call, fuzz.verdicts[fuzz.first_verdict % VERDICTS]); break;
        }
    }
    return VERDICT_CONTINUE;
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *event)
{
    return VERDICT_CONTINUE;
}

static void fill_chain(uint8_t flags)
{
    static const struct filter_def def = {.size = sizeof def,
                                          .abi = FILTER_ABI,
                                          .name = "fuzz",
                                          .hook = hook,
                                          .resume = resume,
                                          .stages = ~0u,
                                          .flags = ~0u};
    static const unsigned stages[] = {~0u, 0x7f, 1u << FILTER_RCPT | 1u << FILTER_HEADERS,
                                      1u << FILTER_BODY | 1u << FILTER_MESSAGE},
                          flag_sets[] = {0, FILTER_EDITS_BODY, FILTER_LATE_FIELDS | FILTER_LATE_ENVELOPE,
                                         FILTER_LATE_BODY | FILTER_LATE_ENVELOPE};
    fuzz.chain = (struct chain){.name = STR("c"), .filters = fuzz.row, .nfilters = flags & 3};
    fuzz.conf.filters = fuzz.row;
    fuzz.conf.nfilters = fuzz.chain.nfilters;
    for (unsigned i = 0; i < fuzz.chain.nfilters; i++) {
        struct filter *f = fuzz.row[i] = &fuzz.filter[i];
        uint8_t how = fuzz_octet(&fuzz.input);
        *f = (struct filter){.def = &def,
                             .conf = &fuzz.conf,
                             .index = i,
                             .name = STR("fuzz"),
                             .prefix = STR("fuzz"),
                             .timeout = 10000,
                             .message_timeout = 30000,
                             .opened = true};
        f->stages =
            stages[how & 3] & ~(1u << FILTER_REPLY | 1u << FILTER_PART | 1u << FILTER_START | 1u << FILTER_TICK);
        f->flags = flag_sets[how >> 2 & 3];
        f->observe = how >> 4 & 1;
        f->on_error = (enum on_error)((how >> 5 & 3) % 3);
    }
}

/* ---- the input */

static void packet(char kind, struct str data)
{
    char octets[300];
    size_t n = min_size(data.len, 200) + 1;
    for (int i = 0; i < 4; i++)
        octets[i] = (char)(n >> (24 - 8 * i));
    octets[4] = kind;
    memcpy(octets + 5, data.at ? data.at : "", n - 1);
    mta_says((struct str){octets, n + 4});
}

#define TEXTS(t) ((struct str){t, sizeof(t) - 1})
static const struct {
    char kind;
    struct str data;
} packets[] = {{'O', TEXTS("\0\0\0\6\0\0\1\xff\0\x1f\xff\xff")},
               {'O', TEXTS("\0\0\0\2\0\0\0\x7f\0\0\0\x7f")},
               {'C', TEXTS("c.test\0"
                           "4\0\31192.0.2.1\0")},
               {'C', TEXTS("x\0U")},
               {'H', TEXTS("c.test\0")},
               {'M', TEXTS("<a@x.test>\0SIZE=1\0")},
               {'M', TEXTS("<>\0")},
               {'R', TEXTS("<1@y.test>\0")},
               {'R', TEXTS("<2@y.test>\0NOTIFY=NEVER\0")},
               {'R', TEXTS("what\0")},
               {'T', TEXTS("")},
               {'L', TEXTS("A\0 1\0")},
               {'L', TEXTS("A\0 2\n\tx\0")},
               {'L', TEXTS("Subject\0\0")},
               {'N', TEXTS("")},
               {'B', TEXTS("body\r\n")},
               {'B', TEXTS("x\n.\r\n")},
               {'E', TEXTS("")},
               {'E', TEXTS("rest")},
               {'A', TEXTS("")},
               {'K', TEXTS("")},
               {'Q', TEXTS("")},
               {'U', TEXTS("XYZ\0")},
               {'D', TEXTS("Mi\0Q\0{auth_type}\0PLAIN\0")},
               {'D', TEXTS("H{tls_version}\0TLSv1.3\0{cipher}\0X\0")},
               {'D', TEXTS("C_\0p [192.0.2.1]\0j\0mta\0")}};
static const unsigned whole[] = {5, 7, 8, 10, 11, 12, 14, 15, 17}; /* a message */

static struct str piece(void)
{
    size_t n = fuzz_octet(&fuzz.input);
    struct str s = str_part(fuzz.input, 0, n);
    fuzz.input = str_part(fuzz.input, s.len, fuzz.input.len);
    return s;
}

static uint64_t act(void)
{
    uint8_t op = fuzz_octet(&fuzz.input);
    size_t n;
    switch (op & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        n = fuzz_octet(&fuzz.input) % countof(packets);
        packet(packets[n].kind, packets[n].data);
        return op & 16 ? 20 : 0;
    case 7:
        for (size_t i = 0; i < countof(whole); i++)
            packet(packets[whole[i]].kind, packets[whole[i]].data);
        return op & 16 ? 20 : 0;
    case 8: packet((char)fuzz_octet(&fuzz.input), piece()); return 0;
    case 9: mta_says(piece()); return 0;
    case 10:
    case 11:
    case 12:
        if (fuzz.nverdicts < VERDICTS)
            fuzz.verdicts[(fuzz.first_verdict + fuzz.nverdicts++) % VERDICTS] = fuzz_octet(&fuzz.input);
        return 0;
    case 13: return 1ull << fuzz_octet(&fuzz.input) % 17;
    case 14:
        if (op == 0xfe)
            milter_drain(&fuzz.worker, 0, sim_now() + 1000);
        return 0;
    default:
        if (op == 0xff && !fuzz.over) {
            fuzz.over = true;
            wire_reset(&fuzz.wire);
        }
        return 5;
    }
}

static void step(struct event *e)
{
    uint64_t in = 0;
    while (fuzz.input.len && !in && fuzz.steps++ < STEPS)
        in = act();
    if (fuzz.input.len && fuzz.steps < STEPS)
        event_set(e, in, step);
    else if (!fuzz.over)
        wire_end(fuzz.wire);
}

static void too_long(struct event *e)
{
    sim_violation("a connection lives on");
}

static void look(void *data)
{
    if (event_is_set(&fuzz.step))
        return;
    if (!fuzz.worker.n)
        loop_stop(fuzz.mail.loop);
    else if (!event_is_set(&fuzz.watch))
        event_set(&fuzz.watch, PATIENCE, too_long);
}

/* ---- one conversation */

static void begin(const uint8_t *octets, size_t n)
{
    static const struct str everybody[] = {STR("0.0.0.0/0"), STR("::/0")};
    char error[200];
    struct stream *s;
    memset(&fuzz, 0, sizeof fuzz);
    fuzz.input = fuzz_input(octets, n);
    uint64_t seed = fuzz_octet(&fuzz.input);
    uint8_t flags = fuzz_octet(&fuzz.input);
    sim_features = 1ull << F_CUTS | 1ull << F_LAGS;
    sim_begin(seed, getenv("FUZZ_TRACE") != NULL);
    fuzz.mail = (struct mail_worker){.loop = loop_open(), .serial = 1};
    fuzz.conf.hostname = STR("mx.test");
    fill_chain(flags);
    filter_set_open(&fuzz.filters, &fuzz.mail, &fuzz.conf, NULL);
    fuzz.listen.visit = (struct visit_conf){.name = STR("mta"), .hostname = STR("mx.test"), .chain = &fuzz.chain};
    fuzz.listen.visit.limits = (struct limits){
        .header_size = 4096, .hold_memory = 1024, .memory = flags & 4 ? 1 : 1 << 30, .held = 1 << 30, .recipients = 3};
    fuzz.listen.clients = table_of(everybody, NULL, countof(everybody), error, sizeof error);
    fuzz.listen.connections = flags & 8 ? 0 : 1;
    fuzz.listen.progress = 500;
    fuzz.listen.timeouts = (struct milter_timeouts){60000, 600000, 60000, 5000, 20000};
    fuzz.worker =
        (struct milter_worker){.mail = &fuzz.mail, .filters = &fuzz.filters, .confs = &fuzz.listen, .nconfs = 1};
    loop_before_sleep(fuzz.mail.loop, look, NULL);
    net_begin(0, false);
    fuzz.wire = wire_open(fuzz.mail.loop, 1, &s);
    fuzz.wire->heard = heard;
    milter_start(&fuzz.worker, &fuzz.listen, 1, s);
    event_set(&fuzz.step, 30, step);
}

static void end(void)
{
    event_stop(&fuzz.watch);
    event_stop(&fuzz.step);
    filter_set_stop(&fuzz.filters);
    loop_close(fuzz.mail.loop);
    filter_set_free(&fuzz.filters);
    call_forget();
    if (!fuzz.over)
        wire_leave(&fuzz.wire);
    table_close(fuzz.listen.clients);
    octets_free(&fuzz.said);
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
    loop_run(fuzz.mail.loop);
    if (!sim_violated())
        end();
    if (sim_violated()) {
        fflush(stdout); /* the trace, with FUZZ_TRACE set */
        print_error("%s\n", sim_violated());
        fail();
    }
    return 0;
}
