/* worker.h - the worker threads: each has a loop, listens on duplicates of main's sockets, and passes connections to smtp/front or milter.
 *
 * These functions are called from the main thread only. A change is an order, which each worker carries out on its own loop; the call
 * returns when all have done so. After ten seconds it returns with a warning in the log, and slow workers carry the order out later. */
#ifndef PROCESS_WORKER_H
#define PROCESS_WORKER_H
#include "process/ports.h"

struct workers;
struct worker_order;
/* Starts conf->workers threads; NULL: no thread could be started. on_end(data) is called from a worker's thread when it ends. */
struct workers *workers_start(struct conf *, const struct ports_plan *, void (*on_end)(void *), void *data);
/* Prepares an order for workers_switch, with duplicates of all sockets. NULL: `error` says why (usually no descriptors), and nothing has
 * changed. */
struct worker_order *workers_prepare(struct workers *, struct conf *, const struct ports_plan *, char *error, size_t room);
/* From now on sessions begin under this configuration, at the addresses of the plan. At an address that is no longer in it, queued
 * connections are accepted and then asked to leave (421), as are the sessions that came in there. The order belongs to the workers. */
void workers_switch(struct workers *, struct worker_order *);
/* Accepts no new clients and asks sessions to leave (421). A worker ends with its last session, or when timeouts.drain is over. Duplicates of
 * sockets that main has closed are closed too. */
void workers_drain(struct workers *);
void workers_drain_listeners(struct workers *, const uint32_t *listen_ids, size_t n); /* the same for some listeners; workers go on */
/* After an upgrade, when another process has the sockets: sessions may go on for timeouts.drain, and then it is a workers_drain. */
void workers_retire(struct workers *);
void workers_stop(struct workers *);  /* ends workers at once, closing their sessions without a reply */
bool workers_ended(struct workers *); /* true: all threads have ended */
/* True when every worker's loop has made a round since the last call; for the watchdog. */
bool workers_turn(struct workers *);
/* Joins the threads, frees everything and sets the pointer to NULL. False: sessions were cut off, and their memory is not freed. */
bool workers_close(struct workers **);

struct worker_status { /* sums over all workers */
    struct { unsigned generation; uint32_t sessions; } generations[64];
    size_t ngenerations;
    struct { uint32_t listen_id, sessions; } listen_ids[256];
    size_t nlisten_ids;
    uint32_t sessions, paused, workers; /* paused: workers that do not accept, because they have no room for another session */
    struct status_backend { char name[64]; uint32_t idle, busy; } backends[64];
    size_t nbackends;
    struct status_server { char backend[64], address[80], why[160]; bool up, checked; unsigned connections, in_use; } servers[64];
    size_t nservers; /* servers of the current configuration; their counters are those of the whole process */
};
bool workers_status(struct workers *, struct worker_status *); /* false: not every worker has answered */
#endif
