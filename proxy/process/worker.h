/* worker.h - the threads: one loop each, listeners on sockets that main owns, sessions handed to smtp/front, an orderly end.
 *
 * Used from main's thread only. What changes is changed by an order that each worker carries out in a turn of its own loop; the
 * call returns when all have (or after ten seconds, with a word in the log: it is carried out all the same). */
#ifndef PROCESS_WORKER_H
#define PROCESS_WORKER_H
#include "process/ports.h"

struct workers;
struct worker_order;
/* Starts conf->workers threads; NULL: none could be. on_end is called from a worker's thread when it has come to its end. */
struct workers *workers_start(struct conf *, const struct ports_plan *, void (*on_end)(void *), void *data);
/* What a switch needs, descriptors above all; NULL: they are not to be had, `error` says why, and nothing has changed. */
struct worker_order *workers_prepare(struct workers *, struct conf *, const struct ports_plan *, char *error, size_t room);
/* New sessions begin under this configuration, at the plan's addresses. Where an address is gone, what was queued there is
 * accepted and asked to leave like the sessions that are there. The order is the workers' from here on. */
void workers_switch(struct workers *, struct worker_order *);
/* No new clients, sessions are asked to leave; each worker ends when its sessions have, or after the grace. Sockets of ours
 * that main has closed are closed with it. */
void workers_drain(struct workers *);
void workers_drain_listeners(struct workers *, const uint32_t *listen_ids, size_t n); /* those; the rest goes on */
/* Another process has the sockets: sessions have timeouts.drain to come to their end unasked, then it is a drain. */
void workers_retire(struct workers *);
void workers_stop(struct workers *);  /* at once: sessions are cut off */
bool workers_ended(struct workers *); /* all threads have come to their end */
/* True when every worker's loop has turned since the last call. */
bool workers_turn(struct workers *);
/* Joins the threads and frees everything; false when sessions were cut off (what they held is then left to the process' end). */
bool workers_close(struct workers **);

struct worker_status { /* as the workers told it, summed up */
    struct { unsigned generation; uint32_t sessions; } generations[64];
    size_t ngenerations;
    struct { uint32_t listen_id, sessions; } listen_ids[256];
    size_t nlisten_ids;
    uint32_t sessions, paused, workers; /* paused: so many workers accept nobody for want of room */
    struct status_backend { char name[64]; uint32_t idle, busy; } backends[64];
    size_t nbackends;
    struct status_server { char backend[64], address[80], why[160]; bool up, checked; unsigned connections, in_use; } servers[64];
    size_t nservers; /* of the configuration of new sessions; their numbers are those of the whole process */
};
bool workers_status(struct workers *, struct worker_status *); /* false: not all have told */
#endif
