/* generation.c - one configuration in one worker: its filters and pools, from the switch to it until its last session has ended. */
#include "smtp/worker.h"
#include "smtp/back/backend.h"
#include "mail/call.h"

struct generation *generation_enter(struct generation *g)
{
    must(!g->closed);
    filter_set_enter(&g->filters);
    return g;
}

void generation_leave(struct generation *g)
{
    filter_set_leave(&g->filters);
}

/* Pools, filters' memory: everything that still needs the loop. */
static void close_generation(struct generation *g)
{
    for (size_t i = 0; i < g->conf->nbackends; i++)
        pool_close(&g->pools[i]);
    filter_set_stop(&g->filters);
    dns_close(&g->filters.dns);
    task_forget(&g->task);
    g->filters.owner = NULL;
    g->closed = true;
}

static void free_generation(struct generation *g)
{
    free(g->pools);
    filter_set_free(&g->filters);
    smtp_conf_drop(g->conf);
    free(g);
}

static void generation_turn(struct task *task)
{
    struct generation *g = holder_of(task, struct generation, task);
    if (g->filters.users || g->filters.current)
        return;
    struct generation **at = &g->worker->generation;
    while (*at != g)
        at = &(*at)->older;
    *at = g->older;
    close_generation(g);
    free_generation(g);
}

void worker_switch(struct worker *w, struct smtp_conf *conf)
{
    struct generation *g = must_alloc(sizeof *g), *old = w->generation;
    *g = (struct generation){.worker = w, .conf = smtp_conf_hold(conf), .older = old};
    g->pools = must_alloc(max_size(conf->nbackends, 1) * sizeof *g->pools);
    filter_set_open(&g->filters, &w->mail, &conf->mail, &g->task);
    task_start(&g->task, w->mail.loop, generation_turn);
    char error[256];
    if (!(g->filters.dns = dns_open(w->mail.loop, conf->dns.at, error, sizeof error)))
        log_say(LOG_ERROR, "%s: there is no DNS", error);
    w->generation = g;
    g->filters.current = true;
    if (old)
        old->filters.current = false;
    for (size_t i = 0; i < conf->nlistens; i++)
        pool_open(pool_of(g, conf->listens[i].backend));
    for (size_t i = 0; i < conf->nbackends; i++) /* filters, routes and quarantine choose among all of them */
        if (conf->backends[i].protocol != IS_MAILDIR)
            pool_open(pool_of(g, &conf->backends[i]));
    filter_set_start(&g->filters);
    if (old && !old->filters.users)
        task_wake(&old->task);
}

void worker_close(struct worker *w)
{
    must(!w->sessions);
    for (struct generation *g = w->generation; g; g = g->older)
        close_generation(g);
    call_forget();
}

/* Work on other threads had been waited for: what filters gave it may be of their shared object. */
void worker_forget(struct worker *w)
{
    while (w->generation) {
        struct generation *g = w->generation;
        w->generation = g->older;
        must(!g->filters.users);
        free_generation(g);
    }
}
