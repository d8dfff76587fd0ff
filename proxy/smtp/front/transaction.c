/* transaction.c - the life of one transaction (engine.md A5): born when MAIL has passed CHECK, ended by transaction_reset and
 * nothing else. Its arena dies with it; what is logged is logged here. */
#include "smtp/front/transaction.h"
#include "smtp/back/backend.h"
#include "smtp/front/proxied.h"
#include "smtp/back/envelope.h"
#include "mail/maillog.h"
#include "smtp/front/session.h"

struct transaction *transaction_start(struct session *s, struct arena *arena)
{
    must(!s->tx);
    struct transaction *tx = must_alloc(sizeof *tx);
    tx->magic = TRANSACTION_MAGIC;
    tx->message.number = ++s->visit.messages;
    tx->message.serial = ++s->worker->mail.serial;
    tx->message.arena = *arena;
    *arena = (struct arena){0};
    tx->message.started = loop_micros(s->worker->mail.loop);
    tx->route = tx->default_route = s->listen->backend;
    tx->message.say = chain_say(s->listen->visit.chain);
    tx->message.passed = s->visit.passed;
    s->tx = tx;
    s->visit.message = &tx->message;
    headers_start(&tx->message.headers, &tx->message.arena);
    return tx;
}

bool transaction_is_settled(const struct transaction *tx)
{
    return tx->told_named == tx->message.named;
}

void transaction_told(struct transaction *tx)
{
    tx->refusal_told = true;
    if (!tx->message.accepted && !tx->message.discarded)
        return;
    tx->message.end_reply = tx->message.refusal;
    tx->message.end = transaction_end_of(&tx->message.refusal);
}

void transaction_reset(struct session *s, enum transaction_end end)
{
    struct transaction *tx = s->tx;
    if (!tx)
        return;
    must(tx->magic == TRANSACTION_MAGIC);
    if (tx->message.end == END_NONE)
        tx->message.end = end;
    visit_stop(&s->visit, CANCEL_CLIENT_GONE);
    visit_reset(&s->visit);
    maillog_message(&s->visit);
    visit_forget_waits(&s->visit);
    if (s->backend) {
        bool answered = tx->message.end_reply.code && tx->message.flow.data == DATA_ENDED;
        /* RFC 3030 2: behind a BDAT that was refused its state is indeterminate, RSET must be sent before another transaction. */
        bool unsure = tx->message.flow.chunked && reply_class(&tx->message.end_reply) != 2;
        envelope_leave(s, !answered ? delivery_way_out(s) : unsure ? LEAVE_ENVELOPE : LEAVE_CLEAN);
    }
    claim_restore(s);
    flow_free(&tx->message.flow);
    arena_reset(&tx->message.arena);
    tx->magic = 0;
    free(tx);
    s->tx = NULL;
    s->visit.message = NULL;
}
