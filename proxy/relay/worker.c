/* worker.c - relay's part of a worker's life: probes at the start, a word to everybody at a drain, what is left at the end. */
#include "relay/worker.h"
#include "relay/backend.h"
#include "relay/host.h"

void worker_open(struct worker *w)
{
    w->pools = must_alloc(max_size(w->conf->nbackends, 1) * sizeof *w->pools);
    w->filter_memory = must_alloc(max_size(w->conf->nfilters, 1) * sizeof *w->filter_memory);
    for (size_t i = 0; i < w->conf->nlistens; i++)
        pool_open(pool_of(w, w->conf->listens[i].backend));
    chain_start_worker(w);
}

void worker_drain(struct worker *w, uint64_t by)
{
    w->draining = true;
    w->drain_by = by;
    for (struct session *s = w->sessions; s; s = s->next)
        task_wake(&s->task);
}

bool worker_owes_a_reply(const struct worker *w)
{
    for (const struct session *s = w->sessions; s; s = s->next)
        if (s->tx && s->tx->flow.data == DATA_ENDED)
            return true;
    return false;
}

void worker_close(struct worker *w)
{
    must(!w->sessions);
    for (size_t i = 0; i < w->conf->nbackends; i++)
        pool_close(&w->pools[i]);
    chain_stop_worker(w);
    call_forget();
    free(w->pools);
    free(w->filter_memory);
}
