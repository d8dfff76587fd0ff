/* filters.c - filters out of dice, by the contract of filters/filter.h: they wait, refuse, defer, drop, discard,
 * quarantine, fail, pass, and edit (edits.c). What they say bears no mark of a backend. A wait may come at any stage
 * that may have one. */
#include "filters.h"
#include "mail/call.h"
#include "mail/visit.h"

#define ON(stage) (1u << FILTER_##stage)

struct letter *filter_letter(struct filter_call *call)
{
    struct filter_path from = {.size = sizeof from};
    unsigned number;
    if (filter_stage(call) < FILTER_MAIL || !filter_reverse_path(call, &from) ||
        sscanf(from.local.at, "m%u", &number) != 1)
        return NULL;
    return letter_numbered(world_played, number);
}

unsigned filter_letter_rcpt(struct filter_call *call)
{
    struct filter_path path = {.size = sizeof path};
    unsigned number, k = 0;
    char how;
    must(filter_rcpt(call, filter_rcpt_now(call), &path) && sscanf(path.local.at, "%c%u-%u", &how, &number, &k) == 3);
    must(k < RCPTS_MOST);
    return k;
}

/* ---- who has heard DISCONNECT */

static uint64_t stay_of(const struct filter_call *call)
{
    return call->visit->serial << 4 | call->filter->index;
}

/* In the worlds of MTAs a visit has a serial of its own for each client. */
static void look_for_ghost(struct filter_call *call)
{
    struct world *w = world_played;
    for (size_t i = 0; w->milter && i < w->ngone; i++)
        if (w->gone[i] == stay_of(call))
            sim_violation("a filter is called behind its DISCONNECT");
    if (!w->milter || filter_stage(call) != FILTER_DISCONNECT)
        return;
    if (w->ngone == w->gone_room) {
        w->gone_room = w->gone_room ? 2 * w->gone_room : 64;
        w->gone = must_grow(w->gone, w->gone_room * sizeof *w->gone);
    }
    w->gone[w->ngone++] = stay_of(call);
}

/* ---- verdicts */

static void note_refusal(struct filter_call *call, struct letter *l, unsigned which)
{
    bool fails = which == 4 && filter_of(call)->on_error != ON_ERROR_CONTINUE;
    if (!l || filter_of(call)->observe || (which > 2 && !fails))
        return;
    if (filter_stage(call) == FILTER_RCPT)
        l->refused_rcpts |= 1u << filter_letter_rcpt(call);
    else
        l->refused = true;
}

static enum filter_verdict discard(struct filter_call *call, struct letter *l)
{
    if (!l)
        return VERDICT_CONTINUE;
    if (!filter_of(call)->observe) {
        if (filter_stage(call) == FILTER_RCPT)
            l->left_out |= 1u << filter_letter_rcpt(call);
        else
            l->discarded = true;
    }
    return filter_discard(call, "by the dice");
}

static enum filter_verdict quarantine(struct filter_call *call, struct letter *l)
{
    if (!l || filter_stage(call) < FILTER_HEADERS)
        return VERDICT_CONTINUE;
    l->quarantined |= !filter_of(call)->observe;
    return filter_quarantine(call, "by the dice");
}

static enum filter_verdict judge(struct filter_call *call)
{
    struct letter *l = filter_letter(call);
    unsigned which = (unsigned)sim_random(60);
    if (which < 8 || which == 10)
        sim_trace("filter %u judges %u at stage %u", filter_of(call)->index, which, filter_stage(call));
    if (which == 10 && sim_may(F_QUARANTINE, 100))
        return quarantine(call, l);
    if (!sim_may(F_VERDICTS, 100))
        return VERDICT_CONTINUE;
    note_refusal(call, l, which);
    switch (which) {
    case 0: return filter_reject(call, "550 5.7.1 not by the filter");
    case 1: return filter_defer(call, "451 4.7.1 later, says the filter");
    case 2: return filter_drop(call, "421 4.7.0 enough, says the filter");
    case 3: return VERDICT_SKIP;
    case 4: return VERDICT_ERROR;
    case 5: return discard(call, l);
    case 6: return VERDICT_ACCEPT;
    case 7: return filter_stage(call) == FILTER_RCPT ? VERDICT_CONTINUE : VERDICT_PASS;
    default: return VERDICT_CONTINUE;
    }
}

/* ---- waits */

static void work(void *data)
{
    ++*(unsigned *)data;
}

enum filter_verdict filter_wait(struct filter_call *call, uint64_t op)
{
    ((struct waiting *)filter_keep(call, LIFE_CALL))->op = op;
    return VERDICT_SUSPEND;
}

static enum filter_verdict wait_for_something(struct filter_call *call)
{
    struct filter_store count = {.size = sizeof count, .op = "incr", .key = {"k", 1}, .n = 1, .ttl = 60};
    uint64_t long_wait = sim_random(sim_chance(90) ? 200 : 20000);
    switch (sim_random(5)) {
    case 0: return filter_wait(call, filter_dns(call, "a", "x.test", 3000));
    case 1: return filter_wait(call, filter_store(call, &count));
    case 2: return filter_wait(call, filter_work(call, work, free, must_alloc(sizeof(unsigned))));
    default:
        return filter_wait(call,
                           filter_timer(call, (unsigned)(sim_may(F_LONG_LAGS, 100) ? long_wait : long_wait % 200)));
    }
}

/* ---- a service */

static enum filter_verdict ask(struct filter_call *call)
{
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    struct filter_dial dial = {
        .size = sizeof dial, .address = "inet:192.0.2.1:2600", .ms = 2000, .pooled = sim_chance(70)};
    enum filter_life life = filter_stage(call) >= FILTER_MAIL && sim_chance(50) ? LIFE_TRANSACTION : LIFE_CALL;
    mine->asks = true;
    mine->question = 0;
    return filter_wait(call, filter_dial(call, sim_chance(30) ? LIFE_SESSION : life, &dial));
}

/* The connection is there: it is asked. The answer is there: it must be that to our question. True: that is all. */
static bool hear(struct filter_call *call, const struct filter_event *event)
{
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    struct filter_stream *stream = event->stream;
    unsigned number = 0;
    char text[SERVICE_ANSWER + 1];
    if (event->error || event->ended || !stream) {
        filter_stream_close(&stream);
        return true;
    }
    if (!mine->question) {
        mine->question = ++world_played->questions;
        snprintf(text, sizeof text, "ask %08u\r\n", mine->question);
        filter_put(stream, text, SERVICE_ANSWER);
        filter_wait(call, filter_read(call, stream, SERVICE_ANSWER, 2000));
        return false;
    }
    if (event->octets.len != SERVICE_ANSWER || sscanf(event->octets.at, "ans %u", &number) != 1 ||
        number != mine->question)
        sim_violation("a filter asked %u, and is given %zu octets that answer %u", mine->question, event->octets.len,
                      number);
    filter_consume(stream, SERVICE_ANSWER);
    if (sim_chance(80))
        filter_stream_keep(&stream);
    else
        filter_stream_close(&stream);
    return true;
}

/* ---- hooks */

static bool may_judge(enum filter_stage stage)
{
    return stage != FILTER_CONNECT && stage != FILTER_BODY;
}

static enum filter_verdict finish(struct filter_call *call, enum filter_stage stage)
{
    struct letter *l = filter_letter(call);
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    mine->edits = true;
    if (l && !edit_letter(call, stage, l))
        return VERDICT_SUSPEND;
    return may_judge(stage) && sim_chance(30) ? judge(call) : VERDICT_CONTINUE;
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    look_for_ghost(call);
    if (stage == FILTER_RESET || stage == FILTER_DISCONNECT)
        return VERDICT_CONTINUE;
    if (sim_may(F_WAITS, stage == FILTER_BODY ? 2 : 6))
        return sim_may(F_SERVICES, 30) ? ask(call) : wait_for_something(call);
    return finish(call, stage);
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *event)
{
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    look_for_ghost(call);
    if (!mine->op || event->op != mine->op)
        sim_violation("a filter's call is told the end of an op that is not its own");
    mine->op = 0;
    if (mine->asks && !hear(call, event))
        return VERDICT_SUSPEND;
    mine->asks = false;
    if (mine->edits)
        return edit_resume(call, event) ? VERDICT_CONTINUE : VERDICT_SUSPEND;
    if (sim_may(F_WAITS, 20))
        return filter_wait(call, filter_timer(call, (unsigned)sim_random(100)));
    return finish(call, filter_stage(call));
}

/* ---- the chain */

static const struct filter_def def = {.size = sizeof def,
                                      .abi = FILTER_ABI,
                                      .name = "dice",
                                      .hook = hook,
                                      .resume = resume,
                                      .call_memory = sizeof(struct waiting),
                                      .transaction_memory = sizeof(struct rewriting),
                                      .stages = ~0u,
                                      .flags = ~0u};

/* What it declares: an edit that it may not make is none of its plans. */
static unsigned some_flags(void)
{
    static const struct {
        enum feature needs;
        unsigned flag;
    } flags[] = {{F_BODIES, FILTER_EDITS_BODY},       {F_FIELDS, FILTER_LATE_FIELDS}, {F_BODIES, FILTER_LATE_BODY},
                 {F_ENVELOPES, FILTER_LATE_ENVELOPE}, {F_ROUTES, FILTER_LATE_ROUTE},  {F_READS_BACK, FILTER_READS_BACK},
                 {F_BINARY, FILTER_BINARY_SAFE}};
    unsigned some = 0;
    for (size_t i = 0; i < countof(flags); i++)
        some |= sim_may(flags[i].needs, 25) ? flags[i].flag : 0;
    return some;
}

static unsigned some_stages(void)
{
    static const unsigned stages[] = {ON(CONNECT), ON(HELO), ON(AUTH),    ON(MAIL),   ON(RCPT),
                                      ON(DATA),    ON(BODY), ON(HEADERS), ON(MESSAGE)};
    unsigned some = ON(RESET) | ON(DISCONNECT);
    unsigned envelope = (unsigned)sim_random(100), content = (unsigned)sim_random(100);
    for (size_t i = 0; i < countof(stages); i++)
        some |= sim_random(100) < (i < 6 ? envelope : content) ? stages[i] : 0;
    return some;
}

void filters_fill(struct world *w, struct smtp_conf *conf)
{
    struct chain *chain = conf->mail.chains;
    size_t n = !sim_may(F_FILTERS, 60) ? 0 : 1 + sim_random(FILTERS_MOST);
    conf->mail.filters = chain->filters = arena_alloc(&conf->mail.arena, (n + 1) * sizeof(struct filter *));
    conf->mail.nfilters = chain->nfilters = n;
    for (size_t i = 0; i < n; i++) {
        struct filter *f = chain->filters[i] = arena_alloc(&conf->mail.arena, sizeof *f);
        struct str name = arena_print(&conf->mail.arena, "dice-%zu", i);
        *f = (struct filter){.def = &def,
                             .conf = &conf->mail,
                             .index = (unsigned)i,
                             .name = name,
                             .source = name,
                             .prefix = name,
                             .file = STR("sim"),
                             .stages = some_stages(),
                             .flags = some_flags(),
                             .timeout = 10000,
                             .message_timeout = 30000,
                             .opened = true};
        f->on_error = (enum on_error)sim_random(3);
        f->observe = sim_chance(10);
    }
}
