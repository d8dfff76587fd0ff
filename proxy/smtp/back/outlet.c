/* outlet.c - a backend as where a message goes: what mail asks of it (mail/outlet.h). */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/route.h"
#include "smtp/front/session.h"

static struct session *owner(const struct outlet *o)
{
    return holder_of(o, struct session, outlet);
}

static void stale(struct outlet *o, const struct rcpt *r)
{
    struct transaction *tx = owner(o)->tx;
    tx->need_anew |= r ? r->fate == FATE_ASKED || r->fate == FATE_ACCEPTED : tx->asked;
}

static const struct next_hop *hop(struct outlet *o, struct str name)
{
    const struct conf *conf = owner(o)->generation->conf;
    for (size_t i = 0; i < conf->nbackends; i++)
        if (str_equal(conf->backends[i].hop.name, name))
            return &conf->backends[i].hop;
    return NULL;
}

static const char *route(struct outlet *o, const struct next_hop *to, int64_t rcpt)
{
    struct transaction *tx = owner(o)->tx;
    if (rcpt != ROUTE_ALL) {
        if (!route_take(tx, (uint32_t)rcpt, backend_of(to)))
            return "another recipient of this transaction goes elsewhere";
        tx->message.rcpts[rcpt].routed = true;
        return NULL;
    }
    tx->routed = true;
    tx->need_anew |= tx->route != backend_of(to) && tx->asked;
    tx->route = tx->default_route = backend_of(to);
    return NULL;
}

static bool quarantine(struct outlet *o, const struct next_hop *to)
{
    struct transaction *tx = owner(o)->tx;
    if (tx->message.flow.data >= DATA_ASKED)
        return false;
    if (tx->route != backend_of(to)) {
        tx->route = backend_of(to);
        tx->need_anew = true;
    }
    return true;
}

static void where(const struct outlet *o, struct str *name, struct str *address, struct str *server)
{
    const struct transaction *tx = owner(o)->tx;
    *name = tx->route->hop.name;
    *address = tx->route->address.text;
    *server = tx->backend_server;
}

static bool take(struct outlet *o)
{
    return delivery_take(owner(o));
}

static void abandon(struct outlet *o)
{
    struct session *s = owner(o);
    envelope_leave(s, delivery_way_out(s));
}

const struct outlet_ops delivery_outlet = {stale, hop, route, quarantine, where, take, abandon};
