/* route.c - the listener's route: a table from addresses to backends (contract.md 4, routes). The first recipient that
 * is not refused decides for the transaction; another one that belongs elsewhere hears 451 and comes in a transaction
 * of its own, never at the wrong backend. */
#include "smtp/back/route.h"
#include "smtp/front/session.h"

static const struct backend_conf *look_up(const struct session *s, struct str address)
{
    struct str found;
    uint64_t index;
    if (!table_match(s->listen->route->table, address, &found) || !str_number(found, &index))
        return s->listen->route_falls_back ? s->listen->backend : NULL;
    must(index < s->generation->conf->nbackends);
    return &s->generation->conf->backends[index];
}

void route_by_sender(struct session *s)
{
    const struct route *route = s->listen->route;
    if (!route || !route->by_sender || s->tx->routed)
        return;
    const struct backend_conf *to = look_up(s, s->tx->message.from.address);
    s->tx->unroutable = !to; /* every rcpt hears so */
    if (to)
        s->tx->route = s->tx->default_route = to;
}

bool route_take(struct transaction *tx, uint32_t rcpt, const struct backend_conf *route)
{
    bool others = false;
    for (uint32_t i = 0; tx->route != route && !others && i < rcpt; i++) {
        const struct rcpt *r = &tx->message.rcpts[i];
        others = !rcpt_is_added(r) && r->fate != FATE_REFUSED && r->fate != FATE_DISCARDED;
    }
    if (others) {
        tx->message.rcpts[rcpt].reply = reply_named(REPLY_SEPARATE);
        return false;
    }
    if (tx->route != route) /* what the one before said of MAIL, or that it was away, is not the word of this one */
        tx->mail_reply = tx->backend_failed = (struct reply){0};
    tx->route = route;
    return true;
}

bool route_by_rcpt(struct session *s, uint32_t rcpt)
{
    struct transaction *tx = s->tx;
    struct rcpt *r = &tx->message.rcpts[rcpt];
    const struct route *route = s->listen->route;
    const struct backend_conf *to = tx->default_route; /* not where an earlier recipient was routed */
    if (r->routed)
        to = tx->route;
    else if (tx->unroutable && !tx->routed)
        to = NULL;
    else if (route && !route->by_sender && !tx->routed)
        to = look_up(s, r->path.address);
    if (to)
        return route_take(tx, rcpt, to);
    r->reply = reply_named(REPLY_RELAY_DENIED);
    return false;
}
