/* model.h - a milter listener of the configuration: where MTAs come to have a chain judge their mail. proxy/conf builds it; nothing here is
 * changed after loading. Durations in milliseconds. */
#ifndef MILTER_MODEL_H
#define MILTER_MODEL_H
#include "mail/model.h"
#include "net/address.h"

struct milter_timeouts {
    uint64_t packet;  /* 60s: from a packet's first octet to its last, and to the next packet of content */
    uint64_t idle;    /* 2h: the MTA's next packet otherwise */
    uint64_t write;   /* 60s: until the MTA takes an octet of our answer */
    uint64_t command; /* 25s: our answer, but for the end of a message; then filters are timed out */
    uint64_t end_by;  /* 240s: our answer to the end of a message; then filters are timed out */
};
struct milter_conf {
    struct visit_conf visit; /* the first member; received: false. Of its limits header_size, hold_memory, held, memory and recipients count */
    struct str file; uint32_t line; /* where it stands in the configuration */
    struct address *addresses; size_t naddresses;
    struct table *clients;   /* networks whose MTAs are believed; a unix socket is guarded by its mode */
    unsigned mode;           /* of a unix socket */
    struct str group;        /* of a unix socket, by name; STR_NONE: the process's own */
    uint32_t connections;    /* of this process; mail that comes by more of them hears 451 */
    uint64_t progress;       /* between two progress packets while the end of a message is at work */
    struct milter_timeouts timeouts;
};
/* What of the protocol a chain cannot do without, and what of the conversation it does not want: the two words of our 'O', before they are
 * cut down to what the MTA offers. */
struct milter_needs { uint32_t actions, steps; };
struct milter_needs milter_needs(const struct chain *);
enum data_when milter_say(const struct chain *); /* as chain_data_when, but the MTA holds the message: only what reads or writes the body again holds it here */
#endif
