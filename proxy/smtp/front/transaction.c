/* transaction.c - the life of one transaction: born when MAIL has passed CHECK, ended by transaction_reset and
 * nothing else. Its arena dies with it; what is logged is logged here. */
#include "smtp/front/transaction.h"
#include "smtp/front/proxied.h"
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
    tx->message.started_us = loop_micros(s->worker->mail.loop);
    tx->message.data_when = chain_data_when(s->listen->visit.chain);
    tx->message.passed = s->visit.passed;
    s->tx = tx;
    s->visit.message = &tx->message;
    delivery_message_start(&s->delivery);
    headers_start(&tx->message.headers, &tx->message.arena);
    return tx;
}

bool transaction_is_settled(const struct transaction *tx)
{
    return tx->told_named == tx->message.named;
}

void transaction_tell(struct session *s)
{
    struct transaction *tx = s->tx;
    /* HELD: its filters are at work; what a route has said of it already is not the last word. */
    while (tx->told < tx->message.nrcpts) {
        struct rcpt *rcpt = &tx->message.rcpts[tx->told];
        if (rcpt_is_added(rcpt)) {
            tx->told++;
            continue;
        }
        if (rcpt->fate == FATE_HELD || !rcpt->reply.code)
            return;
        if (!s->visit.esmtp && !stream_in_is_empty(s->stream)) { /* no pipelining was offered to it */
            struct reply r = reply_named(REPLY_SYNCHRONIZATION);
            session_end(s, WHY_PIPELINING, &r);
            return;
        }
        tx->told++;
        tx->told_named++;
        if (reply_class(&rcpt->reply) == 5)
            s->visit.errors++;
        if (reply_class(&rcpt->reply) != 2)
            maillog_rcpt(&s->visit, rcpt);
        session_count_refusal(s, VERB_RCPT, &rcpt->reply);
        session_reply(s, &rcpt->reply);
    }
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
    delivery_message_end(&s->delivery);
    proxied_restore(s);
    flow_free(&tx->message.flow);
    arena_reset(&tx->message.arena);
    tx->magic = 0;
    free(tx);
    s->tx = NULL;
    s->visit.message = NULL;
}
