/* filter_set.h - the filters of one configuration in one worker: their worker memory, circuit breakers, idle streams, and the calls that
 * belong to no visit (START, TICK). Counted by its users; all fronts of the worker share it. */
#ifndef MAIL_FILTER_SET_H
#define MAIL_FILTER_SET_H
#include "mail/model.h"
#include "net/dns.h"
#include "net/loop.h"

struct solo;
struct filter_stream;

struct mail_worker { /* one thread as mail sees it */
    struct loop *loop;
    unsigned number;
    uint64_t serial;  /* of visits and messages, never used twice */
    bool draining;    /* the process is to end: no idle connection is kept */
};

struct filter_set {
    struct mail_worker *worker;
    const struct mail_conf *conf;
    struct dns *dns;                  /* NULL: every question fails. Whoever opened the set closes it */
    void **memory;                    /* [filter.index]: worker memory, at first use */
    struct breaker *breakers;         /* [filter.index]: made at the first failure */
    struct solo *solos;
    struct filter_stream *streams;    /* idle ones that filters dialled */
    uint32_t users;                   /* visits, and work that filters began on other threads */
    bool offline;                     /* every dial of a filter is refused at once, and a filter that fails by that lets the message go on */
    bool no_dns;                      /* dns is NULL on purpose: every question ends "timeout" */
    bool current;                     /* new visits begin with it; it ticks */
    struct task *owner;               /* woken when the last user leaves a set that is not current; NULL: no task */
};
void filter_set_open(struct filter_set *, struct mail_worker *, const struct mail_conf *, struct task *owner);
void filter_set_start(struct filter_set *);  /* START hooks are called, and TICK hooks on worker 0 while the set is current */
void filter_set_stop(struct filter_set *);   /* `stop` of each filter is called, worker memory is freed. Before the loop closes */
void filter_set_free(struct filter_set *);   /* the rest; the loop may have closed */
void filter_set_enter(struct filter_set *);  /* one user more; each needs its leave */
void filter_set_leave(struct filter_set *);

/* breaker.c: a filter whose services keep failing (dial, answer, store) is not run for a while. */
bool breaker_is_open(struct filter_set *, const struct filter *);
void breaker_count(struct filter_set *, const struct filter *, bool failed); /* a call has ended. failed: a service it waited for did */
#endif
