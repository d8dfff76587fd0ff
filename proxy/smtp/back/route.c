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
        s->tx->route = s->tx->home = to;
}

bool route_take(struct transaction *tx, const struct backend_conf *route)
{
    bool others = false;
    for (uint32_t i = 0; tx->route != route && !others && i + 1 < tx->message.nrcpts; i++)
        others = tx->message.rcpts[i].fate != FATE_REFUSED && !tx->message.rcpts[i].discarded;
    if (others) {
        tx->message.rcpts[tx->message.nrcpts - 1].reply = reply_named(REPLY_SEPARATE);
        return false;
    }
    if (tx->route != route) /* what the one before said of MAIL, or that it was away, is not the word of this one */
        tx->mail_reply = tx->backend_failed = (struct reply){0};
    tx->route = route;
    return true;
}

bool route_by_rcpt(struct session *s)
{
    struct transaction *tx = s->tx;
    struct rcpt *r = &tx->message.rcpts[tx->message.nrcpts - 1];
    const struct route *route = s->listen->route;
    const struct backend_conf *to = tx->home; /* not where another rcpt was sent, be it refused or not */
    if (r->routed)
        to = tx->route;
    else if (tx->unroutable && !tx->routed)
        to = NULL;
    else if (route && !route->by_sender && !tx->routed)
        to = look_up(s, r->path.address);
    if (to)
        return route_take(tx, to);
    r->reply = reply_named(REPLY_RELAY_DENIED);
    return false;
}
