/* worker_thread.h - a worker: its thread, its listeners, and the orders that main gives it. Included only by worker.c, which runs on the
 * worker's thread, and by workers.c, which runs on main's. */
#ifndef PROCESS_WORKER_THREAD_H
#define PROCESS_WORKER_THREAD_H
#include "process/worker.h"
#include "milter/worker.h"
#include "smtp/worker.h"
#include <pthread.h>

struct worker_listener { /* one listening socket in one worker */
    struct worker_listener *next;
    struct worker_thread *thread;
    struct inlet inlet; /* of the worker's current generation */
    uint32_t listen_id;
    struct listener *listener;
};
struct assignment { /* what a worker is to listen at */
    struct inlet inlet;
    uint32_t listen_id;
    int fd; /* the worker owns it from now on; -1: the worker listens there already */
};
struct worker_order { /* carried out by each worker on its own loop; main waits until all have done so */
    void (*run)(struct worker_thread *, struct worker_order *);
    struct conf *conf;      /* of a switch: the new configuration, with a reference */
    struct assignment **assignments; /* of a switch: a list for each worker */
    size_t *nassignments;
    uint32_t listen_ids[64]; /* of a drain: the listeners; none: all */
    size_t nlisten_ids;
    struct worker_status *status;  /* of a status request */
    unsigned left, holders; /* left: workers that have not done it; holders: references. Both under the lock */
};
struct worker_thread {
    alignas(CACHE_LINE) struct worker worker; /* padded to whole cache lines: only its own thread writes here */
    struct milter_worker milters;
    struct workers *all;
    pthread_t thread;
    struct worker_listener *listeners;
    struct task task;
    struct alarm alarm;
    uint64_t next_tick;
    struct smtp_conf *refreshed; /* used by the pool thread while `refreshing` */
    uint64_t drain_at;      /* after an upgrade: when its sessions are asked to leave (loop_now); 0: not */
    uint64_t end_by;        /* when a drain ends its last sessions (loop_now); 0: not draining */
    uint32_t places;        /* how many of all->places it has: its sessions, and connections that are being accepted */
    uint32_t peak;          /* the highest all->places that it has seen since the last malloc_trim */
    bool leaving;           /* it accepts no new clients and ends with its last session */
    bool paused, refreshing, stopped, cut_off, started;
    bool give_back;         /* the pool thread is to return memory to the system; used by that thread while `refreshing` */
    bool ended;             /* under the lock: its loop may have been freed */
    unsigned ticked;        /* atomic: the last tick of the watchdog that its loop has answered */
};
struct workers {
    struct connections *connections;
    struct worker_thread *threads;
    unsigned n;
    size_t descriptors; /* of one worker */
    unsigned ticks;     /* ticks of the watchdog so far; used by main's thread only */
    void (*on_end)(void *);
    void *on_end_data;
    unsigned running; /* atomic */
    pthread_mutex_t lock;
    pthread_cond_t ready; /* a thread has started, an order is done */
    unsigned nready;
    /* On a cache line of its own, since each session changes it, and the members above change rarely. */
    alignas(CACHE_LINE) uint32_t places; /* atomic: sessions of all workers, limited by limits.connections */
};

void *worker_thread_work(void *); /* the main function of the thread */
/* The orders, as worker_order.run. */
void worker_thread_switch(struct worker_thread *, struct worker_order *); /* to another configuration and its addresses */
void worker_thread_drain(struct worker_thread *, struct worker_order *);
void worker_thread_retire(struct worker_thread *, struct worker_order *);
void worker_thread_stop(struct worker_thread *, struct worker_order *);
void worker_thread_tell(struct worker_thread *, struct worker_order *);
#endif
