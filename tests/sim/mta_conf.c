/* mta_conf.c - the milter listener of a configuration out of dice, and its front as proxy/process hands it a
 * configuration. */
#include "mta.h"

void mta_conf_fill(struct world *w, struct smtp_conf *c)
{
    const struct str all = STR("0.0.0.0/0");
    char why[200];
    struct milter_conf *m = w->milter_conf = arena_alloc(&c->mail.arena, sizeof *m);
    c->mail.chains[0].quarantine = NULL; /* it is the MTA's */
    *m = (struct milter_conf){
        .visit = {.name = STR("mta"), .hostname = STR("mx.test"), .chain = c->mail.chains, .limits = c->limits},
        .file = STR("sim"),
        .connections = sim_may(F_LIMITS, 5) ? 2 : 1000,
        .progress = 5000,
        .timeouts = {.packet = 60000, .idle = 120000, .write = 60000, .command = 25000, .end_by = 60000}};
    m->visit.limits.hops = m->visit.limits.loops = 0;
    m->clients = table_of(&all, NULL, 1, why, sizeof why);
    must(m->clients);
    conf_keep_table(&c->mail, m->clients);
    for (size_t i = 0; i < c->mail.nfilters; i++) { /* as proxy/conf cuts them */
        struct filter *f = c->mail.filters[i];
        f->timeout = min_u64(f->timeout, m->timeouts.command);
        f->message_timeout = min_u64(f->message_timeout, m->timeouts.end_by);
    }
}

void mta_conf_switch(struct world *w)
{
    w->milters.mail = &w->worker.mail;
    w->milters.filters = &w->worker.generation->filters;
    w->milters.confs = w->milter_conf;
    w->milters.nconfs = 1;
}
