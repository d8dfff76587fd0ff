/* filters.c - filters out of dice, by the contract of filters/filter.h: they wait, refuse, defer, drop, fail, hold
 * content, add a field.
 *
 * The field stands in front of all others, where backend.c knows it; nothing else is edited. What they say bears no
 * mark of a backend. A wait may come at any stage that may have one. */
#include "world.h"
#include "filters/filter.h"
#include "relay/chain.h"

#define ON(stage) (1u << FILTER_##stage)

static enum filter_verdict discard(struct filter_call *call)
{
    struct filter_path from = {.size = sizeof from};
    unsigned number;
    enum filter_stage stage = filter_stage(call);
    if (stage < FILTER_MAIL || stage == FILTER_RCPT || !filter_reverse_path(call, &from) ||
        sscanf(from.local.at, "m%u", &number) != 1)
        return VERDICT_CONTINUE;
    struct letter *l = letter_numbered(world_played, number);
    if (l && !filter_of(call)->observe)
        l->discarded = true;
    return filter_discard(call, "by the dice");
}

static enum filter_verdict judge(struct filter_call *call)
{
    switch (sim_random(50)) {
    case 0: return filter_reject(call, "550 5.7.1 not by the filter");
    case 1: return filter_defer(call, "451 4.7.1 later, says the filter");
    case 2: return filter_drop(call, "421 4.7.0 enough, says the filter");
    case 3: return VERDICT_SKIP;
    case 4: return VERDICT_ERROR;
    case 5: return discard(call);
    default: return VERDICT_CONTINUE;
    }
}

static void work(void *data)
{
    ++*(unsigned *)data;
}

/* Memory of a call: the one op it waits for, so that an end that is not its own is seen. */
struct waiting {
    uint64_t op;
};

static enum filter_verdict wait_for(struct filter_call *call, uint64_t op)
{
    ((struct waiting *)filter_keep(call, LIFE_CALL))->op = op;
    return VERDICT_SUSPEND;
}

static enum filter_verdict wait_for_something(struct filter_call *call)
{
    struct filter_store count = {.size = sizeof count, .op = "incr", .key = {"k", 1}, .n = 1, .ttl = 60};
    switch (sim_random(5)) {
    case 0: return wait_for(call, filter_dns(call, "a", "x.test", 3000));
    case 1: return wait_for(call, filter_store(call, &count));
    case 2: return wait_for(call, filter_work(call, work, free, must_alloc(sizeof(unsigned))));
    default: return wait_for(call, filter_timer(call, (unsigned)sim_random(sim_chance(90) ? 200 : 20000)));
    }
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    if (stage == FILTER_RESET || stage == FILTER_DISCONNECT)
        return VERDICT_CONTINUE;
    bool adds = stage == FILTER_HEADERS || (stage == FILTER_MESSAGE && (filter_of(call)->flags & FILTER_LATE_FIELDS));
    if (adds && sim_chance(30))
        filter_field_add(call, FILTER_TOP, "X-Added", (struct filter_text){"yes", 3});
    if (stage != FILTER_BODY && sim_chance(70))
        return VERDICT_CONTINUE;
    if (!sim_chance(stage == FILTER_BODY ? 2 : 20))
        return stage == FILTER_BODY || stage == FILTER_CONNECT ? VERDICT_CONTINUE : judge(call);
    return wait_for_something(call);
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *event)
{
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    if (!mine->op || event->op != mine->op)
        sim_violation("a filter's call is told the end of an op that is not its own");
    mine->op = 0;
    if (sim_chance(20))
        return wait_for(call, filter_timer(call, (unsigned)sim_random(100)));
    return filter_stage(call) == FILTER_CONNECT ? VERDICT_CONTINUE : judge(call);
}

/* clang-format off */
static const struct filter_def defs[] = {
    {sizeof defs[0], FILTER_ABI, "envelope", .hook = hook, .resume = resume, .call_memory = sizeof(struct waiting),
     .stages = ON(CONNECT) | ON(HELO) | ON(MAIL) | ON(RCPT) | ON(DATA) | ON(RESET) | ON(DISCONNECT)},
    {sizeof defs[0], FILTER_ABI, "content", .hook = hook, .resume = resume, .call_memory = sizeof(struct waiting),
     .stages = ON(RCPT) | ON(HEADERS) | ON(BODY) | ON(MESSAGE) | ON(RESET)},
    {sizeof defs[0], FILTER_ABI, "late", .hook = hook, .resume = resume, .call_memory = sizeof(struct waiting), .flags = FILTER_LATE_FIELDS,
     .stages = ON(HEADERS) | ON(MESSAGE)},
};
/* clang-format on */

void filters_fill(struct conf *conf)
{
    struct chain *chain = conf->chains;
    size_t n = sim_chance(50) ? 0 : 1 + sim_random(3);
    conf->filters = chain->filters = arena_alloc(&conf->arena, (n + 1) * sizeof(struct filter *));
    conf->nfilters = chain->nfilters = n;
    for (size_t i = 0; i < n; i++) {
        const struct filter_def *def = &defs[sim_random(countof(defs))];
        struct filter *f = chain->filters[i] = arena_alloc(&conf->arena, sizeof *f);
        *f = (struct filter){.def = def,
                             .conf = conf,
                             .index = (unsigned)i,
                             .name = str_of(def->name),
                             .source = str_of(def->name),
                             .prefix = str_of(def->name),
                             .file = STR("sim"),
                             .stages = def->stages,
                             .flags = def->flags,
                             .timeout = 10000,
                             .message_timeout = 30000,
                             .opened = true};
        f->on_error = (enum on_error)sim_random(3);
        f->observe = sim_chance(10);
    }
}
