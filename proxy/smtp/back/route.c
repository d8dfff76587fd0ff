/* route.c - the listener's route: a table from addresses to backends. The first recipient that
 * is not refused decides for the transaction; another one that belongs elsewhere hears 451 and comes in a transaction
 * of its own, never at the wrong backend. */
#include "smtp/back/route.h"

static const struct backend_conf *look_up(const struct delivery *d, struct str address)
{
    struct str found;
    uint64_t index;
    if (!table_match(d->listen->route->table, address, &found) || !str_number(found, &index))
        return d->listen->route_falls_back ? d->listen->backend : NULL;
    must(index < d->generation->conf->nbackends);
    return &d->generation->conf->backends[index];
}

void delivery_route_by_sender(struct delivery *d)
{
    const struct route *route = d->listen->route;
    if (!route || !route->by_sender || d->transfer.routed == ROUTE_BY_FILTER)
        return;
    const struct backend_conf *to = look_up(d, d->visit->message->from.address);
    if (!to) /* every rcpt hears so */
        d->transfer.routed = ROUTE_NOWHERE;
    else
        d->transfer.route = d->transfer.default_route = to;
}

bool route_take(struct delivery *d, uint32_t rcpt, const struct backend_conf *route)
{
    struct transfer *t = &d->transfer;
    const struct message *m = d->visit->message;
    bool others = false;
    for (uint32_t i = 0; t->route != route && !others && i < rcpt; i++) {
        const struct rcpt *r = &m->rcpts[i];
        others = !rcpt_is_added(r) && r->fate != FATE_REFUSED && r->fate != FATE_DISCARDED;
    }
    if (others) {
        m->rcpts[rcpt].reply = reply_named(REPLY_SEPARATE);
        return false;
    }
    if (t->route != route) /* what the one before said of MAIL, or that it was away, is not the word of this one */
        t->mail_reply = t->no_backend = (struct reply){0};
    t->route = route;
    return true;
}

bool route_by_rcpt(struct delivery *d, uint32_t rcpt)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct rcpt *r = &m->rcpts[rcpt];
    const struct route *route = d->listen->route;
    const struct backend_conf *to = t->default_route; /* not where an earlier recipient was routed */
    if (r->routed)
        to = t->route;
    else if (t->routed == ROUTE_NOWHERE)
        to = NULL;
    else if (route && !route->by_sender && t->routed != ROUTE_BY_FILTER)
        to = look_up(d, r->path.address);
    if (to)
        return route_take(d, rcpt, to);
    r->reply = reply_named(REPLY_RELAY_DENIED);
    return false;
}
