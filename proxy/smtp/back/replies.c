/* replies.c - what a reply of the backend means to the transaction, by what it is owed for (engine.md A11, A12).
 *
 * Applies, and says nothing: the rcpts that are final are told by envelope.c, the end by verdict_turn. What the client hears
 * are the backend's own words, or ours where its words would mislead; a reply that shows that we and the backend have lost each
 * other ends the connection. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/lmtp.h"
#include "smtp/front/session.h"

/* A yes is a yes only in its own words: 220 to an envelope or to content is none (protocol.md 4.6). */
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
static struct reply replaced(struct session *s, const struct reply *r, enum reply_name name)
{
    const struct backend_conf *b = s->tx->route;
    log_rare(LOG_WARNING, "replaced", "%s.%u: backend %.*s (%.*s) said %u %.*s", s->visit.id, s->tx->message.number,
             STR_ARGS(b->hop.name), STR_ARGS(b->address.text), r->code, STR_ARGS(r->text));
    return reply_named(name);
}

static struct reply relayed(struct session *s, const struct reply *r, unsigned wanted)
{
    if (r->code == 421)
        return replaced(s, r, REPLY_BACKEND_CLOSING);
    if (is_desync(r, wanted))
        return replaced(s, r, REPLY_BACKEND_NONSENSE);
    if (r->code == 530 || r->code == 538 || r->code == 535)
        return replaced(s, r, REPLY_BACKEND_MISCONFIGURED);
    struct reply said = reply_keep(&s->tx->message.arena, r);
    reply_complete(&said);
    return said;
}

/* RFC 5321 4.5.3.1.10: 552 in reply to RCPT would be read as "too many recipients" (engine.md A10). */
struct reply debt_relayed(struct session *s, const struct reply *r)
{
    struct reply said = relayed(s, r, 2);
    if (said.code == 552)
        said.code = 554;
    return said;
}

/* ---- by debt ----------------------------------------------------------------------------------------------------- */

static void apply_xforward(struct session *s, const struct reply *r)
{
    if (r->code == 421)
        return;
    if (reply_class(r) != 2)
        backend_break(s->backend, REPLY_BACKEND_MISCONFIGURED, "XFORWARD was refused");
}

static void apply_mail(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    tx->mail_reply = debt_relayed(s, r);
    if (is_desync(r, 2))
        backend_break(s->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to MAIL");
    visit_reply(&s->visit, FILTER_MAIL, &tx->mail_reply, 0);
}

static void apply_rcpt(struct session *s, uint32_t i, const struct reply *r)
{
    struct transaction *tx = s->tx;
    must(i < tx->message.nrcpts && tx->message.rcpts[i].fate == FATE_ASKED);
    struct rcpt *rcpt = &tx->message.rcpts[i];
    bool mail_refused = envelope_mail_is_refused(tx);
    rcpt->reply = mail_refused ? tx->mail_reply : relayed(s, r, 2);
    rcpt->fate = reply_class(&rcpt->reply) == 2 ? FATE_ACCEPTED : FATE_REFUSED;
    if (rcpt->fate == FATE_ACCEPTED) {
        tx->message.accepted++;
        lmtp_accepted(s, i);
    }
    if (!mail_refused && is_desync(r, 2))
        backend_break(s->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to RCPT");
    visit_reply(&s->visit, FILTER_RCPT, &rcpt->reply, i);
}

/* Leaves out an optional added recipient that the backend refused. False: nobody else is left, the message fails instead. */
static bool drop_added(struct session *s, struct rcpt *added, const struct reply *r)
{
    if (added->fate != FATE_DROPPED) { /* by a filter, since it was said */
        added->fate = FATE_DROPPED;
        if (envelope_is_empty(s->tx)) {
            added->fate = FATE_ASKED;
            return false;
        }
    }
    log_say(LOG_WARNING, "%s.%u: added recipient <%.*s> refused by the backend: %u %.*s", s->visit.id, s->tx->message.number,
            STR_ARGS(added->path.address), r->code, STR_ARGS(r->text));
    return true;
}

static void apply_again(struct session *s, const struct debt *d, const struct reply *r)
{
    struct transaction *tx = s->tx;
    must(tx->again_owed > 0);
    tx->again_owed--;
    bool good = is_yes(r, 2);
    if (good && d->what != DEBT_MAIL_AGAIN)
        lmtp_accepted(s, d->rcpt);
    if (d->what == DEBT_RCPT_ADDED) {
        struct rcpt *added = &tx->message.rcpts[d->rcpt];
        if (good && added->fate == FATE_ASKED)
            added->fate = FATE_ACCEPTED;
        if (!good && !added->needed && drop_added(s, added, r))
            return;
    }
    if (good || tx->failed.code)
        return;
    if (is_desync(r, 2))
        backend_break(s->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to an envelope said anew");
    /* An accepted rcpt cannot be dropped in silence: the whole message gets this. A 5yz stays one only where it was said for
     * what the client named (engine.md A12). */
    bool for_client = tx->losses == 0 && d->what != DEBT_RCPT_ADDED && reply_class(r) == 5;
    tx->failed = for_client ? relayed(s, r, 2) : reply_named(tx->losses ? REPLY_BACKEND_CHANGED : REPLY_BACKEND_NONSENSE);
    log_say(LOG_WARNING, "%s.%u: the envelope said anew was refused: %u %.*s", s->visit.id, tx->message.number, r->code,
            STR_ARGS(r->text));
}

static void apply_data(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    if (r->code == 354) {
        tx->data_reply = reply_keep(&tx->message.arena, r);
        tx->message.flow.data = DATA_OPEN;
        encoder_start(&tx->message.flow.encoder, FRAMING_DOTS, delivery_guard(s->backend));
        s->backend->deadline = 0;
        return;
    }
    tx->data_reply = relayed(s, r, 3);
    if (reply_class(&tx->data_reply) < 4)
        tx->data_reply = reply_named(REPLY_BACKEND_NONSENSE); /* a 3yz that is not 354 */
    tx->message.flow.data = DATA_UNSAID;
    if (is_desync(r, 3) || reply_class(r) == 3)
        backend_break(s->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to DATA");
}

/* Of a chunk that was not the last one. Its refusal is told at the end as said. */
static void apply_chunk(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    must(tx->message.flow.chunks_owed > 0);
    tx->message.flow.chunks_owed--;
    if (tx->message.flow.data == DATA_ENDED) /* whatever comes before the last reply, that one has its own time */
        s->backend->deadline = tx->message.end_at + s->listen->timeouts.end_reply;
    if (is_yes(r, 2))
        return;
    struct reply said = relayed(s, r, 2);
    if (is_desync(r, 2))
        s->backend->closing = true;
    if (tx->message.flow.data != DATA_ENDED)
        flow_refuse(&s->visit, &said);
    else if (!tx->chunk_refused.code)
        tx->chunk_refused = said;
}

/* No reply to the end of mail data: whether the message was taken is unknown then. */
static bool is_no_final_reply(const struct reply *r)
{
    unsigned class = reply_class(r);
    return class == 3 || r->code == 503 || (class == 2 && r->code != 250);
}

static struct reply end_said(struct session *s, const struct reply *r, bool unclear)
{
    if (!unclear)
        return relayed(s, r, 2);
    s->tx->message.end = END_UNCERTAIN;
    s->backend->closing = true;
    return replaced(s, r, REPLY_BACKEND_NONSENSE);
}

/* One of several. Nothing else is owed then, so the next one is owed like the first. */
static void apply_lmtp_end(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    struct reply said = end_said(s, r, is_no_final_reply(r));
    if (lmtp_end(s, &said, &tx->message.end_reply)) {
        visit_reply(&s->visit, FILTER_MESSAGE, &tx->message.end_reply, 0);
    } else {
        backend_owe(s->backend, DEBT_END, tx->message.serial);
        s->backend->deadline = tx->message.end_at + s->listen->timeouts.end_reply;
    }
}

static void apply_end(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    if (tx->lmtp) {
        apply_lmtp_end(s, r);
        return;
    }
    bool unclear = is_no_final_reply(r);
    if (tx->chunk_refused.code) { /* 503 then is all it can say to the last one */
        unclear = reply_class(r) == 2;
        r = &tx->chunk_refused;
    }
    tx->message.end_reply = end_said(s, r, unclear);
    visit_reply(&s->visit, FILTER_MESSAGE, &tx->message.end_reply, 0);
}

/* What the client hears of a reply that answers nothing: a refusal is told as said, anything else is nonsense. */
static struct reply said_unasked(struct session *s, const struct reply *r)
{
    unsigned class = reply_class(r);
    return class == 4 || class == 5 ? relayed(s, r, 2) : replaced(s, r, REPLY_BACKEND_NONSENSE);
}

/* Our end has not left yet, so this is no answer to it; and now it shall not: whatever the backend means, it has no message. */
static void end_unasked(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    tx->message.end_reply = said_unasked(s, r);
    visit_reply(&s->visit, FILTER_MESSAGE, &tx->message.end_reply, 0);
    backend_abort(&s->backend);
}

void debt_apply(struct session *s, const struct debt *d, const struct reply *r)
{
    struct transaction *tx = s->tx;
    if (d->what == DEBT_AUTH) {
        auth_apply(s, r);
        return;
    }
    if (d->what == DEBT_RSET) {
        if (reply_class(r) != 2)
            backend_break(s->backend, REPLY_BACKEND_NONSENSE, "RSET was refused");
        return;
    }
    if (!tx || d->serial != tx->message.serial)
        return; /* of a transaction that is no more */
    tx->answered = true;
    switch (d->what) {
    case DEBT_XFORWARD: apply_xforward(s, r); break;
    case DEBT_MAIL: apply_mail(s, r); break;
    case DEBT_RCPT: apply_rcpt(s, d->rcpt, r); break;
    case DEBT_MAIL_AGAIN:
    case DEBT_RCPT_AGAIN:
    case DEBT_RCPT_ADDED: apply_again(s, d, r); break;
    case DEBT_DATA: apply_data(s, r); break;
    case DEBT_CHUNK: apply_chunk(s, r); break;
    case DEBT_END:
        if (pipe_is_empty(&s->backend->stream->out))
            apply_end(s, r);
        else
            end_unasked(s, r);
        break;
    }
    if (r->code == 421 && s->backend)
        backend_break(s->backend, REPLY_BACKEND_CLOSING, "it closes the service (421)");
}

void debt_unasked(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    if (tx && tx->message.flow.data == DATA_OPEN && s->step != STEP_BACKEND && !tx->message.sink) {
        struct reply said = said_unasked(s, r);
        flow_refuse(&s->visit, &said);
        return;
    }
    backend_break(s->backend, r->code == 421 ? REPLY_BACKEND_CLOSING : REPLY_BACKEND_NONSENSE, "it spoke unasked");
}
