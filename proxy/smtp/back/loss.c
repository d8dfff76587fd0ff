/* loss.c - a connection to the next hop is lost amid a message: who hears what of it, and what is said again on another one
 * (RFC 5321 4.2.4.2 and 6.1: no reply is a reply that may come yet).
 *
 * Three questions: was it a connection of this message at all; how far was the content (nothing said, open, ended); and may what was said
 * be said again without anybody noticing. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/pool.h"

/* The same words again on a fresh connection, for the one that was lost had been idle and had not answered a word. */
static void repeat(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    t->spent = true;
    envelope_forget_asked(d);
    if (t->data == DATA_ASKED)
        t->data = DATA_WANTED;
    d->backend = pool_take(pool_of(d->generation, t->route), d, true);
}

static void lost_before_data(struct delivery *d, struct reply why, bool was_ready)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    envelope_refuse_waiting(d, &why);
    bool said_anew = envelope_is_said_anew(t);
    if (said_anew || !was_ready)
        t->no_backend = why;
    if (said_anew)
        t->anew_failure = why;
    t->saying_again = false;
    t->again_owed = 0;
    t->envelope = ENVELOPE_UNSAID;
    bool waiting_for_data = t->data == DATA_ASKED || t->data == DATA_WANTED;
    t->data = DATA_UNSAID;
    if (was_ready && t->losses > 1)
        t->no_backend = why;
    if (m->accepted && !t->anew_failure.code) {
        if (t->spent)
            t->anew_failure = why;
        else
            t->stale = t->spent = true;
    }
    if (waiting_for_data && !flow_has_begun(&m->flow))
        t->data_reply = why;
}

/* Our end has been said: nobody knows whether the message was taken. */
static void lost_behind_the_end(struct delivery *d, enum reply_name failure)
{
    struct message *m = d->visit->message;
    if (m->end_reply.code)
        return;
    m->end_reply = reply_named(failure == REPLY_BACKEND_NONSENSE ? failure : REPLY_BACKEND_LOST);
    m->end = END_UNCERTAIN;
}

/* DATA or BDAT had been said. Before the first octet of content nothing is lost, and another connection may have it all. */
static void lost_in_content(struct delivery *d, const struct reply *why)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    bool again = !t->outgoing.encoder.octets && !t->spent && !content_is_dropped(m) && !envelope_is_forgotten(d);
    t->data = DATA_UNSAID;
    if (!again) {
        flow_refuse(d->visit, BY_BACKEND, why);
        return;
    }
    t->spent = t->stale = true;
    t->envelope = ENVELOPE_UNSAID;
    t->chunked = false;
}

/* May what was said be said again as it was? Only if the connection had been idle before and answered nothing, once. */
static bool may_repeat(const struct delivery *d, bool unheard)
{
    const struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    return unheard && !t->spent && !envelope_is_said_anew(t) && !m->accepted;
}

static void lost_in_envelope(struct delivery *d, struct reply why, bool was_ready, bool unheard)
{
    struct transfer *t = &d->transfer;
    if (envelope_is_forgotten(d)) {
        t->spent = true;
        t->no_backend = why;
    }
    if (may_repeat(d, unheard))
        repeat(d);
    else
        lost_before_data(d, why, was_ready);
}

void envelope_lost(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct backend *b = d->backend;
    if (m && b->conf != t->route) { /* of the transaction before, or of the way this one no longer goes */
        backend_abort(&d->backend);
        t->envelope = ENVELOPE_UNSAID;
        return;
    }
    if (pool_again(d)) /* it has heard nothing: another server may */
        return;
    enum reply_name failure = b->failure;
    struct reply why = m && b->refusal.code ? replies_refusal(d, &b->refusal) : reply_named(failure);
    bool was_ready = b->was_ready, unheard = b->pooled && m && t->envelope != ENVELOPE_ANSWERED && !b->slow;
    backend_abort(&d->backend);
    if (!m)
        return;
    struct flow *f = &m->flow;
    t->losses++;
    if (t->data == DATA_OPEN && !flow_has_begun(f)) {
        /* Its 354 has not been told: it never shall be, or content would be read as commands (promise 3). */
        t->data = DATA_ASKED;
        t->data_reply = (struct reply){0};
    }
    if (t->data == DATA_ENDED)
        lost_behind_the_end(d, failure);
    else if (t->data == DATA_OPEN)
        lost_in_content(d, &why);
    else
        lost_in_envelope(d, why, was_ready, unheard);
}

