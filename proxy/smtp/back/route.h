/* route.h - which backend a transaction goes to: by its recipients, by its sender, or by a filter, which comes first. */
#ifndef SMTP_BACK_ROUTE_H
#define SMTP_BACK_ROUTE_H
#include "smtp/back/delivery.h"

/* The last rcpt has passed its filters. False: its reply says why it goes nowhere, or not together with those before it. */
bool route_by_rcpt(struct delivery *, uint32_t rcpt);
/* The last rcpt belongs to `route`: the first one that counts decides for the transaction. False: in a transaction of its own. */
bool route_take(struct delivery *, uint32_t rcpt, const struct backend_conf *route);
#endif
