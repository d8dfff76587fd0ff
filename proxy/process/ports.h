/* ports.h - the addresses that clients come to: bound once, open for life, handed from process to process.
 *
 * The main thread owns the sockets, workers listen on duplicates. A socket whose address stays in the configuration is never
 * closed, neither by a reload nor by an upgrade of the binary: closing one of an SO_REUSEPORT group resets what waits in its
 * queue. Main's thread only. */
#ifndef PROCESS_PORTS_H
#define PROCESS_PORTS_H
#include "conf/conf.h"

struct port { /* one address */
    struct port *next;
    uint32_t listen_id; /* its number, never used again in this process; from 1 */
    uint32_t was;  /* its number in the process before us; 0: none */
    char *key;     /* the address as the configuration says it: with port 0 the kernel chooses once, and it stays */
    int *fds;      /* TCP: one per worker, they share the port; unix, or passed by a supervisor: maybe fewer */
    unsigned nfds;
    bool local, ours; /* ours: bound by us or a process before us, not by a supervisor */
    bool open;        /* the workers listen */
    uint64_t device, file; /* of a unix socket's path, so that nobody else's is unlinked */
};
struct ports {
    struct port *first;
    unsigned user; /* who we are to become, (unsigned)-1: nobody else */
    uint32_t last_listen_id;
    bool lent; /* the process before us may go on: paths of what it left us are still its own */
};
struct inlet { /* who speaks with those that come in: one of the two, the other is NULL */
    const struct listen_conf *listen;
    const struct milter_conf *milter;
};
static inline const struct visit_conf *inlet_conf(struct inlet i)
{
    return i.milter ? &i.milter->visit : &i.listen->visit;
}
static inline const char *inlet_kind(struct inlet i) /* as the configuration calls it */
{
    return i.milter ? "milter" : "listen";
}
static inline size_t inlet_addresses(struct inlet i, const struct address **at)
{
    *at = i.milter ? i.milter->addresses : i.listen->addresses;
    return i.milter ? i.milter->naddresses : i.listen->naddresses;
}
bool inlet_group(const struct milter_conf *, unsigned *group); /* of its unix sockets; (unsigned)-1: as they are made. False: there is none of that name */
struct inlet inlet_at(const struct conf *, size_t i); /* all of a configuration, those of SMTP first; both NULL: there are no more */
struct inlet inlet_named(const struct conf *, struct str name);

struct port_place { /* an address of a configuration, and where it is bound */
    struct inlet inlet;
    struct port *port; /* NULL: drained */
    uint32_t listen_id; /* its number, drained or not */
};
struct ports_plan {
    struct port_place *places;
    size_t nplaces;
};

/* Sockets that the process before us (SLUICE_PORTS) or a supervisor (LISTEN_FDS, sd_listen_fds(3)) left open for us. Takes the
 * variables out of the environment. */
void ports_inherit(struct ports *);
/* SLUICE_PORTS for the next process: "FD DOOR ours|theirs ADDRESS" lines of everything that is open. The caller frees it. */
char *ports_list(const struct ports *);
/* Every address of the configuration is there or bound now, for so many workers. False: complained of, nothing has changed. */
bool ports_plan(struct ports *, const struct conf *, unsigned workers, struct ports_plan *, struct complaints *);
void ports_forgo(struct ports *, struct ports_plan *);        /* it does not come to that: what was bound for it is closed */
void ports_keep(struct ports *, const struct ports_plan *);   /* what the plan does not name is closed, a unix socket's path goes first */
void ports_opened(struct ports *, const struct ports_plan *); /* the workers listen at what it names */
void ports_close(struct ports *, const struct visit_conf *, const struct ports_plan *); /* those of one listener; NULL: all */
void ports_release(struct ports *); /* another process has them: paths stay */
void plan_clear(struct ports_plan *);
#endif
