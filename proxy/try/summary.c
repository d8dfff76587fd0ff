/* summary.c - what many messages came to: how many of each verdict, and per filter what it did and how long it took. */
#include "try/report.h"

struct filter_tally {
    struct str name;
    uint32_t calls, refused, observed, edits, errors;
    uint32_t *took;
    size_t ntook, room; /* microseconds of each call */
};

void summary_start(struct summary *s, const struct chain *chain)
{
    *s = (struct summary){.ntallies = chain->nfilters};
    s->tallies = must_alloc((chain->nfilters + 1) * sizeof *s->tallies);
    for (size_t i = 0; i < chain->nfilters; i++)
        s->tallies[i] = (struct filter_tally){.name = chain->filters[i]->name};
}

static void add_call(struct filter_tally *t, const struct kept_call *c)
{
    bool refused = c->said == VERDICT_REJECT || c->said == VERDICT_DEFER || c->said == VERDICT_DROP;
    t->calls++;
    t->refused += refused && !c->filter->observe;
    t->observed +=
        c->filter->observe && c->said != VERDICT_CONTINUE && c->said != VERDICT_SKIP && c->said != VERDICT_ERROR;
    t->errors += c->said == VERDICT_ERROR;
    for (const struct kept_edit *e = c->edits; e; e = e->of_call)
        t->edits++;
    if (t->ntook == t->room)
        t->took = must_grow(t->took, (t->room = t->room ? t->room * 2 : 64) * sizeof *t->took);
    t->took[t->ntook++] = (uint32_t)min_u64(c->run + c->waited, UINT32_MAX);
}

void summary_add(struct summary *s, const struct trial *t)
{
    s->messages++;
    s->fates[t->fate]++;
    s->took += t->took;
    record_services(&t->record, &s->services);
    for (const struct kept_call *c = t->record.first; c; c = c->next)
        if (c->place <= s->ntallies && c->stage < FILTER_RESET)
            add_call(&s->tallies[c->place - 1], c);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double at(const struct show *show, const struct filter_tally *t, unsigned percent)
{
    size_t i = t->ntook ? (t->ntook - 1) * percent / 100 : 0;
    return show->stable || !t->ntook ? 0 : (double)t->took[i] / 1000;
}

void summary_put(const struct show *show, struct summary *s)
{
    put_number(show->to, s->messages);
    fprintf(show->to, " message%s in %.1f s:", s->messages == 1 ? "" : "s", show->stable ? 0 : (double)s->took / 1e6);
    const char *parted = "";
    for (int i = 0; i < FATES; i++)
        if (s->fates[i] || i == FORWARDED || i == FAILED) {
            fprintf(show->to, "%s ", parted);
            put_number(show->to, s->fates[i]);
            fprintf(show->to, " %s", fate_name((enum fate)i));
            parted = ",";
        }
    put_services(show->to, &s->services, "; ");
    fprintf(show->to, "\n%-20s %8s %8s %8s %8s %8s %9s %9s\n", "filter", "calls", "refused", "observed", "edits",
            "errors", "p50 ms", "p99 ms");
    for (size_t i = 0; i < s->ntallies; i++) {
        struct filter_tally *t = &s->tallies[i];
        if (t->ntook)
            qsort(t->took, t->ntook, sizeof *t->took, by_size);
        fprintf(show->to, "%-20.*s %8u %8u %8u %8u %8u %9.1f %9.1f\n", STR_ARGS(t->name), t->calls, t->refused,
                t->observed, t->edits, t->errors, at(show, t, 50), at(show, t, 99));
    }
}

void summary_free(struct summary *s)
{
    for (size_t i = 0; i < s->ntallies; i++)
        free(s->tallies[i].took);
    free(s->tallies);
    services_free(&s->services);
}
