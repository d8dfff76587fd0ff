/* outgoing.h - what leaves of a message: its fields as filters left them, then its body from the chain or, held, from the spool, encoded for
 * whoever takes it. For outlets that send content on; one in each. */
#ifndef MAIL_OUTGOING_H
#define MAIL_OUTGOING_H
#include "mail/visit.h"

struct outgoing {
    struct headers_sender fields;
    struct encoder encoder;
    struct pipe unencoded; /* rendered fields, or what was read from the spool; freed by outgoing_clear */
};
/* The next hop is ready: nothing has left so far. What had been rendered for another one is dropped. */
void outgoing_start(struct outgoing *, enum framing, enum guard);
void outgoing_clear(struct outgoing *);
/* Puts into `to` at most FLOW_OCTETS of fields and as many of the body, if the head is done. Content that the encoder does not let pass is
 * refused. True: something moved. */
bool outgoing_take(struct visit *, struct outgoing *, struct pipe *to);
/* Judged content: all of it has been taken, and may end here; else it is refused. False: not yet, or refused. */
bool outgoing_has_all(struct visit *, struct outgoing *);
#endif
