/* delivery.c - the life of a delivery: with its client, and with each message. */
#include "smtp/back/delivery.h"
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"

void delivery_start(struct delivery *d, struct visit *visit, struct generation *generation, const struct listen_conf *listen)
{
    d->outlet.ops = &delivery_outlet;
    d->visit = visit;
    d->generation = generation;
    d->listen = listen;
}

void delivery_close(struct delivery *d)
{
    if (d->logging_in)
        backend_abort(&d->backend);
    backend_close(&d->backend);
    backend_close(&d->parked);
}

void delivery_message_start(struct delivery *d)
{
    d->transfer = (struct transfer){.route = d->listen->backend, .default_route = d->listen->backend};
}

void delivery_message_end(struct delivery *d)
{
    const struct message *m = d->visit->message;
    struct transfer *t = &d->transfer;
    if (d->backend) {
        bool answered = m->end_reply.code && t->data == DATA_ENDED;
        /* RFC 3030 2: behind a BDAT that was refused its state is indeterminate, RSET must be sent before another transaction. */
        bool unsure = t->chunked && reply_class(&m->end_reply) != 2;
        envelope_leave(d, !answered ? delivery_way_out(d) : unsure ? LEAVE_ENVELOPE : LEAVE_CLEAN);
    }
    pipe_clear(&t->packed);
    outgoing_clear(&t->outgoing);
    d->transfer = (struct transfer){0};
}

void delivery_flush(struct delivery *d)
{
    if (d->backend)
        backend_flush(d->backend);
}

uint64_t delivery_clock(const struct delivery *d)
{
    return d->backend ? d->backend->deadline : 0;
}

void delivery_hurry(struct delivery *d, uint64_t by)
{
    if (d->backend)
        d->backend->deadline = min_u64(d->backend->deadline, by);
}

bool delivery_has_backend(const struct delivery *d)
{
    return d->backend;
}
