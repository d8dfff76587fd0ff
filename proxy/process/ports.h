/* ports.h - the listening sockets: bound once, kept open over reloads, passed to the next process at an upgrade.
 *
 * The main thread owns the sockets, workers listen on duplicates. A socket whose address stays in the configuration is never
 * closed, neither by a reload nor by an upgrade of the binary: closing one of an SO_REUSEPORT group resets what waits in its
 * queue. Main's thread only. */
#ifndef PROCESS_PORTS_H
#define PROCESS_PORTS_H
#include "conf/conf.h"

struct port { /* one address */
    struct port *next;
    uint32_t listen_id; /* its number, from 1; never reused in this process */
    uint32_t was;  /* its number in the process before an upgrade; 0: none */
    char *key;     /* the address as the configuration has it; with port 0, the port that the kernel chose is kept over reloads */
    int *fds;      /* TCP: one per worker, which share the port; a unix socket, or sockets of a supervisor: possibly fewer */
    unsigned nfds;
    bool local, ours; /* local: a unix socket. ours: bound by Sluice, not by a supervisor */
    bool open;        /* the workers listen at it */
    uint64_t device, file; /* device and inode of the path of a unix socket, so that only our own path is unlinked */
};
struct ports {
    struct port *first;
    unsigned user; /* uid that the process will change to; (unsigned)-1: it keeps its user */
    uint32_t last_listen_id;
    bool lent; /* an upgrade is under way and may still fail: paths of inherited unix sockets must not be unlinked */
};
struct inlet { /* which kind of listener handles a connection: exactly one member is not NULL */
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

/* Takes over the sockets that the process before an upgrade (SLUICE_PORTS) or a supervisor (LISTEN_FDS, sd_listen_fds(3)) has passed, and
 * removes these variables from the environment. */
void ports_inherit(struct ports *);
/* The value of SLUICE_PORTS for the next process: a line "FD NUMBER ours|theirs ADDRESS" for each open socket. The caller frees it. */
char *ports_list(const struct ports *);
/* Finds or binds a socket for every address of the configuration and each of so many workers. False: failed with complaints, and nothing
 * has changed. A plan is freed by plan_clear. */
bool ports_plan(struct ports *, const struct conf *, unsigned workers, struct ports_plan *, struct complaints *);
void ports_forgo(struct ports *, struct ports_plan *);        /* abandons the plan: closes the sockets that were bound for it */
void ports_keep(struct ports *, const struct ports_plan *);   /* closes the sockets that the plan does not name; unlinks unix paths first */
void ports_opened(struct ports *, const struct ports_plan *); /* notes that the workers listen at the sockets of the plan */
void ports_close(struct ports *, const struct visit_conf *, const struct ports_plan *); /* closes those of one listener; NULL: all */
void ports_release(struct ports *); /* closes our descriptors after an upgrade; paths stay, since the next process uses them */
void plan_clear(struct ports_plan *);
#endif
