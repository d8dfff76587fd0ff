/* negotiate.c - what a chain needs of an MTA, and the answer to its offer: as few events and answers as the chain can
 * do with. */
#include "milter/milter.h"
#include "base/log.h"

#define BIT(stage) (1u << FILTER_##stage)
static const unsigned of_body = BIT(BODY) | BIT(PART), of_content = BIT(HEADERS) | BIT(BODY) | BIT(PART) | BIT(MESSAGE),
                      of_envelope = BIT(MAIL) | BIT(RCPT) | BIT(DATA);

struct hooks {
    unsigned any, live;
}; /* stages at which a filter is called, and at which one decides */

static struct hooks hooks_of(const struct chain *chain)
{
    struct hooks h = {0};
    for (size_t i = 0; i < chain->nfilters; i++) {
        h.any |= chain->filters[i]->stages;
        h.live |= chain->filters[i]->observe ? 0 : chain->filters[i]->stages;
    }
    return h;
}

static unsigned flags_of(const struct chain *chain, bool observed)
{
    unsigned flags = 0;
    for (size_t i = 0; i < chain->nfilters; i++)
        flags |= chain->filters[i]->observe && !observed ? 0 : chain->filters[i]->flags;
    return flags;
}

enum data_when milter_say(const struct chain *chain)
{
    bool holds = (flags_of(chain, true) & FILTER_READS_BACK) ||
                 (flags_of(chain, false) & (FILTER_EDITS_BODY | FILTER_LATE_BODY)) || chain_passes(chain) > 1;
    return holds ? WHEN_AT_VERDICT : WHEN_AT_BOUND;
}

static uint32_t actions_of(const struct chain *chain, struct hooks h)
{
    unsigned flags = flags_of(chain, false);
    uint32_t actions = 0;
    if (h.live & (of_envelope | of_content))
        actions |= MILTER_ADDHDRS | MILTER_CHGHDRS;
    if (flags & (FILTER_EDITS_BODY | FILTER_LATE_BODY))
        actions |= MILTER_CHGBODY;
    if ((h.live & of_envelope) || (flags & FILTER_LATE_ENVELOPE))
        actions |= MILTER_ADDRCPT | MILTER_ADDRCPT_PAR | MILTER_DELRCPT | MILTER_CHGFROM;
    if (h.live & of_content)
        actions |= MILTER_QUARANTINE;
    return actions;
}

/* Connection, HELO, MAIL and RCPT are heard always: facts, conditions and the log live on them. */
static uint32_t steps_of(const struct chain *chain, struct hooks h)
{
    uint32_t steps = MILTER_SKIP | MILTER_HDR_LEADSPC | MILTER_NOUNKNOWN | MILTER_NR_HDR;
    steps |= h.live & BIT(CONNECT) ? 0 : MILTER_NR_CONN;
    steps |= h.live & (BIT(HELO) | BIT(TLS)) ? 0 : MILTER_NR_HELO;
    steps |= h.live & (BIT(MAIL) | BIT(AUTH)) ? 0 : MILTER_NR_MAIL;
    steps |= h.live & BIT(RCPT) ? 0 : MILTER_NR_RCPT;
    steps |= !(h.any & BIT(DATA)) ? MILTER_NODATA : h.live & BIT(DATA) ? 0 : MILTER_NR_DATA;
    steps |= h.any & of_content ? 0 : MILTER_NOHDRS | MILTER_NOEOH;
    steps |= h.live & BIT(HEADERS) ? 0 : MILTER_NR_EOH;
    steps |= h.live & of_body ? 0 : MILTER_NR_BODY;
    bool reads =
        (h.any & (of_body | BIT(MESSAGE))) || (flags_of(chain, true) & FILTER_READS_BACK) || chain_passes(chain) > 1;
    return steps | (reads ? 0 : MILTER_NOBODY);
}

struct milter_needs milter_needs(const struct chain *chain)
{
    struct hooks h = hooks_of(chain);
    return (struct milter_needs){actions_of(chain, h), steps_of(chain, h)};
}

static struct str names_of(const struct milter_bit *bits, uint32_t set, struct arena *arena)
{
    struct str names = STR("");
    for (; bits->name; bits++)
        if (set & bits->bit)
            names = arena_print(arena, "%.*s%s%s", STR_ARGS(names), names.len ? " " : "", bits->name);
    return names;
}

bool milter_negotiate(struct milter *m, const struct milter_option *theirs)
{
    struct milter_needs needs = milter_needs(m->conf.chain);
    uint32_t lacking = needs.actions & ~theirs->actions;
    m->agreed = (struct milter_option){.version = theirs->version < MILTER_VERSION ? theirs->version : MILTER_VERSION,
                                       .actions = (needs.actions | MILTER_SETSYMLIST) & theirs->actions,
                                       .protocol = needs.steps & theirs->protocol};
    if (theirs->version < 2) {
        milter_fault(m, arena_print(&m->scratch, "version %u of the protocol is not spoken", theirs->version));
        return false;
    }
    if (lacking & ~(uint32_t)MILTER_ADDRCPT_PAR) {
        struct str names = names_of(milter_actions, lacking, &m->scratch);
        milter_fault(m, arena_print(&m->scratch, "the MTA does not offer what the chain needs: %.*s", STR_ARGS(names)));
        return false;
    }
    if (lacking)
        log_rare(LOG_WARNING, "milter_addrcpt_par", "milter \"%.*s\": the MTA takes no parameters of added recipients",
                 STR_ARGS(m->conf.name));
    const uint32_t head = MILTER_NOHDRS | MILTER_NOEOH;
    if ((m->agreed.protocol & head) != head) /* both or none */
        m->agreed.protocol &= ~head;
    for (size_t i = 0; i < MILTER_WHERES && (m->agreed.actions & MILTER_SETSYMLIST); i++)
        m->agreed.lists[i] = str_of(milter_macro_lists[i]);
    milter_say_packet(m, &(struct milter_packet){.kind = 'O', .option = m->agreed});
    return true;
}

/* Nothing that it needs is lacking, and nothing that it wants to hear, or to answer, is left out. */
bool milter_is_agreed(const struct milter *m, const struct chain *chain)
{
    struct milter_needs needs = milter_needs(chain);
    return !(needs.actions & ~m->agreed.actions & ~(uint32_t)MILTER_ADDRCPT_PAR) &&
           !(m->agreed.protocol & ~needs.steps);
}

bool milter_is_awaited(const struct milter *m, char kind)
{
    static const struct {
        char kind;
        uint32_t bit;
    } bits[] = {{'C', MILTER_NR_CONN}, {'H', MILTER_NR_HELO}, {'M', MILTER_NR_MAIL},
                {'R', MILTER_NR_RCPT}, {'T', MILTER_NR_DATA}, {'L', MILTER_NR_HDR},
                {'N', MILTER_NR_EOH},  {'B', MILTER_NR_BODY}, {'U', MILTER_NR_UNKN}};
    for (size_t i = 0; i < countof(bits); i++)
        if (bits[i].kind == kind)
            return !(m->agreed.protocol & bits[i].bit);
    return kind == 'E';
}
