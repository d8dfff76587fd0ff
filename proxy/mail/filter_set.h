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
    bool draining;    /* nothing is kept for later */
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
    bool offline;                     /* who dials is refused at once; a filter that fails by it lets the message go on */
    bool no_dns;                      /* dns is NULL on purpose: every question ends "timeout" */
    bool current;                     /* new visits begin with it; it ticks */
    struct task *owner;               /* woken when the last user of one that is not current leaves; NULL: nobody is */
};
void filter_set_open(struct filter_set *, struct mail_worker *, const struct mail_conf *, struct task *owner);
void filter_set_start(struct filter_set *);  /* filters hear START, and TICK on worker 0 while it is current */
void filter_set_stop(struct filter_set *);   /* they hear STOP, their memory goes. Needs the loop */
void filter_set_free(struct filter_set *);   /* what needs no loop */
void filter_set_enter(struct filter_set *);
void filter_set_leave(struct filter_set *);

/* breaker.c: a filter whose services keep failing (dial, answer, store) is not run for a while. */
bool breaker_is_open(struct filter_set *, const struct filter *);
void breaker_count(struct filter_set *, const struct filter *, bool failed); /* a call has ended. failed: what it waited for */
#endif
