/* replies.c - what a reply of the backend means to the transaction, by what it is owed for.
 *
 * Applies, and says nothing: the rcpts that are final are told by envelope.c, the end by verdict_turn. What the client hears
 * are the backend's own words, or ours where its words would mislead; a reply that shows that we and the backend have lost each
 * other ends the connection. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/lmtp.h"

/* A yes is a yes only in its own words: 220 to an envelope or to content is none. */
static bool is_yes(const struct reply *r, unsigned wanted)
{
    return reply_class(r) == wanted && (wanted != 2 || (r->code >= 250 && r->code <= 252));
}

/* Whether such an answer to what we said shows that we and the peer do not speak of the same thing any more; we keep the order,
 * so 503 does. */
static bool is_desync(const struct reply *r, unsigned wanted)
{
    unsigned class = reply_class(r);
    return r->code == 503 || (!is_yes(r, wanted) && class != 4 && class != 5);
}

/* What the client is not told in the backend's words is told to the postmaster. */
static struct reply replaced(struct delivery *d, const struct reply *r, enum reply_name name)
{
    const struct backend_conf *b = d->transfer.route;
    log_rare(LOG_WARNING, "replaced", "%s.%u: backend %.*s (%.*s) said %u %.*s", d->visit->id, d->visit->message->number,
             STR_ARGS(b->hop.name), STR_ARGS(b->address.text), r->code, STR_ARGS(r->text));
    return reply_named(name);
}

static struct reply relayed(struct delivery *d, const struct reply *r, unsigned wanted)
{
    if (r->code == 421)
        return replaced(d, r, REPLY_BACKEND_CLOSING);
    if (is_desync(r, wanted))
        return replaced(d, r, REPLY_BACKEND_NONSENSE);
    if (r->code == 530 || r->code == 538 || r->code == 535)
        return replaced(d, r, REPLY_BACKEND_MISCONFIGURED);
    struct reply said = reply_keep(&d->visit->message->arena, r);
    reply_complete(&said);
    return said;
}

/* RFC 5321 4.5.3.1.10: 552 in reply to RCPT would be read as "too many recipients". */
struct reply replies_refusal(struct delivery *d, const struct reply *r)
{
    struct reply said = relayed(d, r, 2);
    if (said.code == 552)
        said.code = 554;
    return said;
}

/* ---- by what is expected ----------------------------------------------------------------------------------------------------- */

static void apply_xforward(struct delivery *d, const struct reply *r)
{
    if (r->code == 421)
        return;
    if (reply_class(r) != 2)
        backend_break(d->backend, REPLY_BACKEND_MISCONFIGURED, "XFORWARD was refused");
}

static void apply_mail(struct delivery *d, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    t->mail_reply = replies_refusal(d, r);
    if (is_desync(r, 2))
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to MAIL");
    visit_reply(d->visit, FILTER_MAIL, &t->mail_reply, 0);
}

static void apply_rcpt(struct delivery *d, uint32_t i, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    must(i < m->nrcpts && m->rcpts[i].fate == FATE_ASKED);
    struct rcpt *rcpt = &m->rcpts[i];
    bool mail_refused = envelope_mail_is_refused(t);
    rcpt->reply = mail_refused ? t->mail_reply : relayed(d, r, 2);
    rcpt->fate = reply_class(&rcpt->reply) == 2 ? FATE_ACCEPTED : FATE_REFUSED;
    if (rcpt->fate == FATE_ACCEPTED) {
        m->accepted++;
        lmtp_accepted(d, i);
    }
    if (!mail_refused && is_desync(r, 2))
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to RCPT");
    visit_reply(d->visit, FILTER_RCPT, &rcpt->reply, i);
}

/* Leaves out an optional added recipient that the backend refused. False: nobody else is left, the message fails instead. */
static bool drop_added(struct delivery *d, struct rcpt *added, const struct reply *r)
{
    if (added->fate != FATE_DROPPED) { /* by a filter, since it was said */
        added->fate = FATE_DROPPED;
        if (message_is_empty(d->visit->message)) {
            added->fate = FATE_ASKED;
            return false;
        }
    }
    log_say(LOG_WARNING, "%s.%u: added recipient <%.*s> refused by the backend: %u %.*s", d->visit->id, d->visit->message->number,
            STR_ARGS(added->path.address), r->code, STR_ARGS(r->text));
    return true;
}

static void apply_again(struct delivery *d, const struct expected *owed, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    must(t->again_owed > 0);
    t->again_owed--;
    bool good = is_yes(r, 2);
    if (good && owed->what != EXPECT_MAIL_AGAIN)
        lmtp_accepted(d, owed->rcpt);
    if (owed->what == EXPECT_RCPT_ADDED) {
        struct rcpt *added = &m->rcpts[owed->rcpt];
        if (good && added->fate == FATE_ASKED)
            added->fate = FATE_ACCEPTED;
        if (!good && !added->needed && drop_added(d, added, r))
            return;
    }
    if (good || t->anew_failure.code)
        return;
    if (is_desync(r, 2))
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to an envelope said anew");
    /* An accepted rcpt cannot be dropped in silence: the whole message gets this. A 5yz stays one only where it was said for
     * what the client named. */
    bool for_client = t->losses == 0 && owed->what != EXPECT_RCPT_ADDED && reply_class(r) == 5;
    t->anew_failure = for_client ? relayed(d, r, 2) : reply_named(t->losses ? REPLY_BACKEND_CHANGED : REPLY_BACKEND_NONSENSE);
    log_say(LOG_WARNING, "%s.%u: the envelope said anew was refused: %u %.*s", d->visit->id, m->number, r->code,
            STR_ARGS(r->text));
}

static void apply_data(struct delivery *d, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (r->code == 354) {
        t->data_reply = reply_keep(&m->arena, r);
        t->data = DATA_OPEN;
        outgoing_start(&t->outgoing, FRAMING_DOTS, delivery_guard(d->backend));
        d->backend->deadline = 0;
        return;
    }
    t->data_reply = relayed(d, r, 3);
    if (reply_class(&t->data_reply) < 4)
        t->data_reply = reply_named(REPLY_BACKEND_NONSENSE); /* a 3yz that is not 354 */
    t->data = DATA_UNSAID;
    if (is_desync(r, 3) || reply_class(r) == 3)
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to DATA");
}

/* Of a chunk that was not the last one. Its refusal is told at the end as said. */
static void apply_chunk(struct delivery *d, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    must(t->chunks_owed > 0);
    t->chunks_owed--;
    if (t->data == DATA_ENDED) /* whatever comes before the last reply, that one has its own time */
        d->backend->deadline = m->end_at_ms + d->listen->timeouts.end_reply;
    if (is_yes(r, 2))
        return;
    struct reply said = relayed(d, r, 2);
    if (is_desync(r, 2))
        d->backend->closing = true;
    if (t->data != DATA_ENDED)
        flow_refuse(d->visit, BY_BACKEND, &said);
    else if (!t->end_said_by_chunk.code)
        t->end_said_by_chunk = said;
}

/* No reply to the end of mail data: whether the message was taken is unknown then. */
static bool is_no_final_reply(const struct reply *r)
{
    unsigned class = reply_class(r);
    return class == 3 || r->code == 503 || (class == 2 && r->code != 250);
}

static struct reply end_said(struct delivery *d, const struct reply *r, bool unclear)
{
    if (!unclear)
        return relayed(d, r, 2);
    d->visit->message->end = END_UNCERTAIN;
    d->backend->closing = true;
    return replaced(d, r, REPLY_BACKEND_NONSENSE);
}

/* One of several. Nothing else is owed then, so the next one is owed like the first. */
static void apply_lmtp_end(struct delivery *d, const struct reply *r)
{
    struct message *m = d->visit->message;
    struct reply said = end_said(d, r, is_no_final_reply(r));
    if (lmtp_end(d, &said, &m->end_reply)) {
        visit_reply(d->visit, FILTER_MESSAGE, &m->end_reply, 0);
    } else {
        backend_owe(d->backend, EXPECT_END, m->serial);
        d->backend->deadline = m->end_at_ms + d->listen->timeouts.end_reply;
    }
}

static void apply_end(struct delivery *d, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (t->lmtp) {
        apply_lmtp_end(d, r);
        return;
    }
    bool unclear = is_no_final_reply(r);
    if (t->end_said_by_chunk.code) { /* 503 then is all it can say to the last one */
        unclear = reply_class(r) == 2;
        r = &t->end_said_by_chunk;
    }
    m->end_reply = end_said(d, r, unclear);
    visit_reply(d->visit, FILTER_MESSAGE, &m->end_reply, 0);
}

/* What the client hears of a reply that answers nothing: a refusal is told as said, anything else is nonsense. */
static struct reply said_unasked(struct delivery *d, const struct reply *r)
{
    unsigned class = reply_class(r);
    return class == 4 || class == 5 ? relayed(d, r, 2) : replaced(d, r, REPLY_BACKEND_NONSENSE);
}

/* Our end has not left yet, so this is no answer to it; and now it shall not: whatever the backend means, it has no message. */
static void end_unasked(struct delivery *d, const struct reply *r)
{
    struct message *m = d->visit->message;
    m->end_reply = said_unasked(d, r);
    visit_reply(d->visit, FILTER_MESSAGE, &m->end_reply, 0);
    backend_abort(&d->backend);
}

void replies_apply(struct delivery *d, const struct expected *owed, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (owed->what == EXPECT_AUTH) {
        d->login_said(d, r);
        return;
    }
    if (owed->what == EXPECT_RSET) {
        if (reply_class(r) != 2)
            backend_break(d->backend, REPLY_BACKEND_NONSENSE, "RSET was refused");
        return;
    }
    if (!m || owed->serial != m->serial)
        return; /* of a transaction that is no more */
    t->envelope = ENVELOPE_ANSWERED;
    switch (owed->what) {
    case EXPECT_XFORWARD: apply_xforward(d, r); break;
    case EXPECT_MAIL: apply_mail(d, r); break;
    case EXPECT_RCPT: apply_rcpt(d, owed->rcpt, r); break;
    case EXPECT_MAIL_AGAIN:
    case EXPECT_RCPT_AGAIN:
    case EXPECT_RCPT_ADDED: apply_again(d, owed, r); break;
    case EXPECT_DATA: apply_data(d, r); break;
    case EXPECT_CHUNK: apply_chunk(d, r); break;
    case EXPECT_END:
        if (pipe_is_empty(&d->backend->stream->out))
            apply_end(d, r);
        else
            end_unasked(d, r);
        break;
    }
    if (r->code == 421 && d->backend)
        backend_break(d->backend, REPLY_BACKEND_CLOSING, "it closes the service (421)");
}

void replies_unasked(struct delivery *d, const struct reply *r)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (m && t->data == DATA_OPEN && flow_has_begun(&m->flow) && !content_is_dropped(m)) {
        struct reply said = said_unasked(d, r);
        flow_refuse(d->visit, BY_BACKEND, &said);
        return;
    }
    backend_break(d->backend, r->code == 421 ? REPLY_BACKEND_CLOSING : REPLY_BACKEND_NONSENSE, "it spoke unasked");
}
