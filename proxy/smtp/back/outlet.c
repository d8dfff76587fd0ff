/* outlet.c - a backend as where a message goes: what mail asks of it (mail/outlet.h). */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/route.h"

static struct delivery *owner(const struct outlet *o)
{
    return holder_of(o, struct delivery, outlet);
}

static void stale(struct outlet *o, const struct rcpt *r)
{
    struct transfer *t = &owner(o)->transfer;
    t->stale |= r ? r->fate == FATE_ASKED || r->fate == FATE_ACCEPTED : t->envelope != ENVELOPE_UNSAID;
}

static const struct next_hop *hop(struct outlet *o, struct str name)
{
    const struct smtp_conf *conf = owner(o)->generation->conf;
    for (size_t i = 0; i < conf->nbackends; i++)
        if (str_equal(conf->backends[i].hop.name, name))
            return &conf->backends[i].hop;
    return NULL;
}

static const char *route(struct outlet *o, const struct next_hop *to, int64_t rcpt)
{
    struct delivery *d = owner(o);
    struct transfer *t = &d->transfer;
    if (rcpt != ROUTE_ALL) {
        if (!route_take(d, (uint32_t)rcpt, backend_of(to)))
            return "another recipient of this transaction goes elsewhere";
        d->visit->message->rcpts[rcpt].routed = true;
        return NULL;
    }
    t->routed = ROUTE_BY_FILTER;
    t->stale |= t->route != backend_of(to) && t->envelope != ENVELOPE_UNSAID;
    t->route = t->default_route = backend_of(to);
    return NULL;
}

static bool quarantine(struct outlet *o, const struct next_hop *to)
{
    struct transfer *t = &owner(o)->transfer;
    if (t->data >= DATA_ASKED)
        return false;
    if (t->route != backend_of(to)) {
        t->route = backend_of(to);
        t->stale = true;
    }
    return true;
}

static void where(const struct outlet *o, struct str *name, struct str *address, struct str *server)
{
    const struct transfer *t = &owner(o)->transfer;
    *name = t->route->hop.name;
    *address = t->route->address.text;
    *server = t->server;
}

static bool take(struct outlet *o)
{
    return delivery_take(owner(o));
}

static void abandon(struct outlet *o)
{
    struct delivery *d = owner(o);
    envelope_leave(d, delivery_way_out(d));
    d->transfer.data = DATA_UNSAID;
}

const struct outlet_ops delivery_outlet = {stale, hop, route, quarantine, where, take, abandon};
