/* outlet.c - what would have been said to a backend goes into a pipe: fields, then the body from the chain or, held,
 * from the spool.
 *
 * It is as early and as strict as the way to a backend (smtp/back/delivery.c): a verdict that comes too late there
 * comes too late here. */
#include "try/outlet.h"

static struct trial *owner(const struct outlet *o)
{
    return holder_of(o, struct trial, outlet);
}

static void stale(struct outlet *o, const struct rcpt *r)
{
}

static const struct next_hop *hop(struct outlet *o, struct str name)
{
    const struct try_world *w = owner(o)->world;
    for (size_t i = 0; i < w->nhops; i++)
        if (str_equal(w->hops[i].hop->name, name))
            return w->hops[i].hop;
    return NULL;
}

static const char *route(struct outlet *o, const struct next_hop *to, int64_t rcpt)
{
    struct trial *t = owner(o);
    if (t->world->milter)
        return "a milter cannot route: the MTA decides where its mail goes";
    if (rcpt != ROUTE_ALL) {
        if (t->hop != to && t->message.accepted)
            return "another recipient of this transaction goes elsewhere";
        t->message.rcpts[rcpt].routed = true;
    }
    t->hop = to;
    return NULL;
}

static bool quarantine(struct outlet *o, const struct next_hop *to)
{
    struct trial *t = owner(o);
    if (t->world->milter) /* it holds the message itself, at the end */
        return true;
    if (t->open)
        return false;
    t->hop = to;
    return true;
}

static void where(const struct outlet *o, struct str *name, struct str *address, struct str *server)
{
    const struct trial *t = owner(o);
    *name = t->hop ? t->hop->name : t->world->milter ? STR("mta") : STR("");
    *address = *server = STR("");
    for (size_t i = 0; i < t->world->nhops; i++)
        if (t->world->hops[i].hop == t->hop)
            *address = t->world->hops[i].address;
}

/* As for a next hop that offers 8BITMIME; what is binary goes to one that drops nothing. An MTA that asks has its
 * message already. */
static enum guard guard_of(const struct trial *t)
{
    return t->world->milter || t->message.params.body == BODY_BINARYMIME ? GUARD_NONE : GUARD_NUL;
}

/* Whether a backend would have been told DATA by now. */
static bool is_open(struct trial *t)
{
    struct message *m = &t->message;
    struct flow *f = &m->flow;
    bool time =
        flow_is_judged(f) || m->data_when <= WHEN_AFTER_HEADERS || (m->data_when == WHEN_AT_BOUND && pipe_is_full(&f->filtered));
    if (!t->open && time) {
        outgoing_start(&t->outgoing, t->raw ? FRAMING_BINARY : FRAMING_CHUNKS, guard_of(t));
        t->open = true;
    }
    return t->open;
}

static bool take(struct outlet *o)
{
    struct trial *t = owner(o);
    struct message *m = &t->message;
    struct flow *f = &m->flow;
    if (content_is_dropped(m) || !flow_head_is_done(f) || !is_open(t))
        return false;
    return outgoing_take(&t->visit, &t->outgoing, &t->out);
}

static void abandon(struct outlet *o)
{
    pipe_clear(&owner(o)->out);
}

static const struct outlet_ops ops = {stale, hop, route, quarantine, where, take, abandon};

void outlet_start(struct trial *t)
{
    t->outlet.ops = &ops;
    t->outlet.quarantines = t->outlet.routeless = t->world->milter;
    t->hop = t->world->nhops ? t->world->hops[0].hop : NULL;
}

static bool ends_line(const struct pipe *out)
{
    return !out->last || out->last->at[out->last->len - 1] == '\n'; /* the encoder lets no bare LF pass */
}

bool outlet_has_all(struct trial *t)
{
    struct message *m = &t->message;
    if (message_is_empty(m)) {
        m->fate = MESSAGE_DISCARDED;
        m->verdict_why = STR("no recipient is left");
        return false;
    }
    while (take(&t->outlet))
        ;
    if (!outgoing_has_all(&t->visit, &t->outgoing))
        return false;
    encoder_end(&t->outgoing.encoder, &t->out);
    if (!t->raw && !t->world->milter && !ends_line(&t->out)) /* by DATA no content leaves without one */
        pipe_put(&t->out, STR("\r\n"));
    return true;
}
