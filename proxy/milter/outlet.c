/* outlet.c - an MTA as where a message goes (mail/outlet.h): it has the message already, and is told what to change in
 * the end. */
#include "milter/milter.h"

static struct milter *owner(const struct outlet *o)
{
    return holder_of(o, struct milter, outlet);
}

static void stale(struct outlet *o, const struct rcpt *r)
{
}

static const struct next_hop *hop(struct outlet *o, struct str name)
{
    static const struct next_hop mta = {STR("mta")};
    return &mta;
}

static const char *route(struct outlet *o, const struct next_hop *to, int64_t rcpt)
{
    return "a milter cannot route: the MTA decides where its mail goes";
}

static bool quarantine(struct outlet *o, const struct next_hop *to)
{
    return true; /* 'q', at the end */
}

static void where(const struct outlet *o, struct str *name, struct str *address, struct str *server)
{
    const struct milter *m = owner(o);
    *name = STR("mta");
    *address = milter_macro(m, MACRO_V);
    *server = m->peer;
}

/* The MTA keeps the body. What is held here is so by the flow itself. */
static bool take(struct outlet *o)
{
    struct message *m = &owner(o)->message;
    if (m->data_when == WHEN_AT_VERDICT || pipe_is_empty(&m->flow.filtered))
        return false;
    pipe_clear(&m->flow.filtered);
    return true;
}

static void leave(struct outlet *o)
{
}

const struct outlet_ops milter_outlet = {stale, hop, route, quarantine, where, take, leave};
