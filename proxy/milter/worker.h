/* worker.h - the milter front of one thread, as proxy/process sees it. */
#ifndef MILTER_WORKER_H
#define MILTER_WORKER_H
#include "mail/filter_set.h"
#include "milter/model.h"
#include "net/stream.h"

struct milter;
struct milter_worker {
    struct mail_worker *mail;
    struct filter_set *filters;         /* of the current configuration: each new client begins with it, on a connection that is there too */
    const struct milter_conf *confs; size_t nconfs; /* of the current configuration */
    struct milter *first;               /* connections, newest first */
    uint32_t n;                         /* how many */
    uint64_t drain_by;                  /* loop_now, see milter_drain; 0: none */
};
/* An MTA came; listen_id: the number that the caller gives a bound address. */
void milter_start(struct milter_worker *, const struct milter_conf *, uint32_t listen_id, struct stream *);
/* Connections are asked to leave: between two messages at the next packet that is answered, from `by` (loop_now) on wherever they are. listen_id
 * 0: all of them; else those that came in there. */
void milter_drain(struct milter_worker *, uint32_t listen_id, uint64_t by);
/* How many connections came in at each address. */
void milter_count(const struct milter_worker *, void (*count)(void *data, uint32_t listen_id), void *data);
#endif
