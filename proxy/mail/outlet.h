/* outlet.h - what mail asks of where a message goes: a backend, an MTA that gave it to us as a milter, or nobody. */
#ifndef MAIL_OUTLET_H
#define MAIL_OUTLET_H
#include "mail/message.h"
#include "mail/model.h"

enum { ROUTE_ALL = -1 };

struct outlet { /* embedded in what implements it; lives as long as the visit */
    const struct outlet_ops *ops;
    bool quarantines; /* it keeps quarantined mail itself: the chain needs no quarantine backend */
    bool routeless;   /* there is one way only: `route` always refuses, and a filter is told REFUSED_NO_ROUTES */
};

struct outlet_ops {
    /* A filter changed the sender (rcpt NULL) or left this recipient out: a next hop that was told otherwise is to hear the envelope anew. */
    void (*stale)(struct outlet *, const struct rcpt *);
    const struct next_hop *(*hop)(struct outlet *, struct str name); /* NULL: there is none of this name */
    /* A filter sends the message there: all of it (rcpt ROUTE_ALL), or at the RCPT of the recipient with this index. NULL: done; else why it
     * cannot be. */
    const char *(*route)(struct outlet *, const struct next_hop *, int64_t rcpt);
    /* The message goes to the chain's quarantine instead (NULL: the chain has none). False: too late, part of it is elsewhere. */
    bool (*quarantine)(struct outlet *, const struct next_hop *);
    /* The next hop for facts and the log: its name, an address of it, and the server of it that has heard of this message ("": none). */
    void (*where)(const struct outlet *, struct str *name, struct str *address, struct str *server);
    bool (*take)(struct outlet *); /* takes what there is of fields and body (outgoing.h). True: something moved */
    void (*abandon)(struct outlet *); /* the content was refused or discarded: nothing more of it is to leave, and no end of mail data */
};
#endif
