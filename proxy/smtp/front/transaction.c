/* transaction.c - the life of one transaction (engine.md A5): born when MAIL has passed CHECK, ended by transaction_reset and
 * nothing else. Its arena dies with it; what is logged is logged here. */
#include "smtp/front/transaction.h"
#include "smtp/back/backend.h"
#include "smtp/front/proxied.h"
#include "smtp/back/envelope.h"
#include "mail/maillog.h"
#include "smtp/front/session.h"

const char *transaction_end_name(enum transaction_end end)
{
    static const char *const names[] = {"none", "forwarded", "rejected", "deferred", "discarded", "quarantined", "aborted",
                                        "uncertain"};
    return names[end];
}

struct transaction *transaction_start(struct session *s, struct arena *arena)
{
    must(!s->tx);
    struct transaction *tx = must_alloc(sizeof *tx);
    tx->magic = TRANSACTION_MAGIC;
    tx->number = ++s->visit.messages;
    tx->serial = ++s->worker->mail.serial;
    tx->arena = *arena;
    *arena = (struct arena){0};
    tx->started = loop_micros(s->worker->mail.loop);
    tx->route = tx->home = s->listen->backend;
    tx->say = chain_say(s->listen->visit.chain);
    tx->passed = s->visit.passed;
    s->tx = s->visit.tx = tx;
    headers_start(&tx->headers, &tx->arena);
    return tx;
}

struct rcpt *transaction_rcpt(struct transaction *tx)
{
    if (tx->nrcpts == tx->room) {
        uint32_t room = tx->room ? tx->room * 2 : 4;
        struct rcpt *rcpts = arena_alloc(&tx->arena, room * sizeof *rcpts);
        if (tx->nrcpts)
            memcpy(rcpts, tx->rcpts, tx->nrcpts * sizeof *rcpts);
        tx->rcpts = rcpts;
        tx->room = room;
    }
    return &tx->rcpts[tx->nrcpts++];
}

bool transaction_is_settled(const struct transaction *tx)
{
    return tx->told == tx->nrcpts;
}

struct reply reply_keep(struct arena *arena, const struct reply *r)
{
    struct reply kept = *r;
    kept.text = arena_str(arena, r->text);
    return kept;
}

void transaction_refuse(struct session *s, const struct reply *r)
{
    struct transaction *tx = s->tx;
    if (tx->flow.data == DATA_ENDED)
        return; /* our end has been said: only the backend's word counts now */
    visit_stop(&s->visit, CANCEL_CLIENT_GONE); /* nobody waits any more for the filter that is suspended */
    if (!tx->refusal.code)
        tx->refusal = reply_keep(&tx->arena, r);
    tx->sink = true;
    envelope_leave(s, flow_way_out(s));
    tx->flow.data = DATA_UNSAID;
}

enum transaction_end transaction_end_of(const struct reply *r)
{
    return reply_class(r) == 2 ? END_FORWARDED : reply_class(r) == 5 ? END_REJECTED : END_DEFERRED;
}

void transaction_told(struct transaction *tx)
{
    tx->refusal_told = true;
    if (!tx->accepted && !tx->discarded)
        return;
    tx->end_reply = tx->refusal;
    tx->end = transaction_end_of(&tx->refusal);
}

void transaction_reset(struct session *s, enum transaction_end end)
{
    struct transaction *tx = s->tx;
    if (!tx)
        return;
    must(tx->magic == TRANSACTION_MAGIC);
    if (tx->end == END_NONE)
        tx->end = end;
    visit_stop(&s->visit, CANCEL_CLIENT_GONE);
    visit_reset(&s->visit);
    journal_transaction(s);
    visit_forget_waits(&s->visit);
    if (s->backend) {
        bool answered = tx->end_reply.code && tx->flow.data == DATA_ENDED;
        /* RFC 3030 2: behind a BDAT that was refused its state is indeterminate, RSET must be sent before another transaction. */
        bool unsure = tx->flow.chunked && reply_class(&tx->end_reply) != 2;
        envelope_leave(s, !answered ? flow_way_out(s) : unsure ? LEAVE_ENVELOPE : LEAVE_CLEAN);
    }
    claim_restore(s);
    flow_free(&tx->flow);
    arena_reset(&tx->arena);
    tx->magic = 0;
    free(tx);
    s->tx = s->visit.tx = NULL;
}
