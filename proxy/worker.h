/* worker.h - the threads: one loop each, listeners bound beforehand, sessions handed to relay, an orderly end.
 *
 * Used from main's thread only. workers_bind may need privileges; nothing after it does. */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H
#include "relay/conf.h"

struct workers;
/* Binds every address of every listener, for each worker. NULL: error says which and why. Holds the conf. */
struct workers *workers_bind(struct conf *, char *error, size_t room);
/* Starts the threads; false: error. on_end is called from a worker's thread when it has come to its end. */
bool workers_start(struct workers *, void (*on_end)(void *), void *data, char *error, size_t room);
void workers_drain(struct workers *); /* no new clients; each worker ends when its sessions have, or after the grace */
void workers_stop(struct workers *);  /* at once: sessions are cut off */
bool workers_ended(struct workers *); /* all threads have come to their end */
/* Joins the threads and frees everything; false when sessions were cut off (what they held is then left to the process' end). */
bool workers_close(struct workers **);
#endif
