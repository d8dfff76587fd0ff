/* envelope.c - the back: what the backend is told of the envelope, saying it anew, and its loss (engine.md B).
 *
 * The rcpts are the queue: replies are applied to them in the order they are owed (replies.c), and leave while they are final. Words are
 * made only for a backend that is READY, so that they fit what it can do; until then rcpts wait as PASSED. */
#include "smtp/back/envelope.h"
#include "mail/maillog.h"
#include "smtp/back/backend.h"
#include "smtp/back/identity.h"
#include "smtp/back/lmtp.h"
#include "smtp/front/session.h"

bool envelope_is_empty(const struct transaction *tx)
{
    for (uint32_t i = 0; i < tx->message.nrcpts; i++)
        if (rcpt_stands(&tx->message.rcpts[i]))
            return false;
    return true;
}

bool envelope_is_said_anew(const struct transaction *tx)
{
    return tx->saying_again || tx->again_owed;
}

bool envelope_mail_is_refused(const struct transaction *tx)
{
    return tx->mail_reply.code && reply_class(&tx->mail_reply) != 2;
}

bool envelope_is_refused(const struct transaction *tx)
{
    return envelope_mail_is_refused(tx) || (!tx->message.accepted && !tx->message.discarded);
}

/* ---- words ---------------------------------------------------------------------------------------------------------- */

/* XFORWARD counts for one transaction, and may be said together with its MAIL. */
static bool says_xforward(const struct backend *b)
{
    if (b->conf->identity != IDENTITY_XFORWARD)
        return false;
    if (!b->can.xforward)
        log_rare(LOG_WARNING, "xforward", "backend %.*s does not offer XFORWARD to us: its log has our address, not the client's",
                 STR_ARGS(b->conf->hop.name));
    return b->can.xforward;
}

static bool waits_for_name(struct session *s)
{
    if (s->tx->asked || s->backend->conf->identity != IDENTITY_XFORWARD || !(s->backend->can.xforward & XATTR_NAME))
        return false;
    visit_look_up(&s->visit);
    return !visit_has_looked_up(&s->visit);
}

static void say_mail(struct session *s, enum debt_what what)
{
    struct transaction *tx = s->tx;
    struct backend *b = s->backend;
    struct pipe *words = backend_words(b);
    uint32_t said = 0;
    while (says_xforward(b) && identity_put_xforward(&s->visit, b->can.xforward, &said, words))
        backend_say(b, DEBT_XFORWARD, tx->message.serial, 0);
    lmtp_begin(s);
    pipe_put(words, STR("MAIL FROM:"));
    path_put(&tx->message.from, words);
    params_put_mail(&tx->message.params, b->can, tx->message.params.size ? tx->message.params.size + visit_adds(s->visit.conf) : 0, words);
    pipe_put(words, STR("\r\n"));
    backend_say(b, what, tx->message.serial, 0);
    for (uint32_t i = 0; i < tx->message.nrcpts; i++) { /* whatever another one has heard of those that were added */
        struct rcpt *r = &tx->message.rcpts[i];
        if (rcpt_is_added(r) && r->fate != FATE_DROPPED)
            r->fate = FATE_PASSED;
    }
    tx->asked = true;
    tx->answered = false;
}

static void say_rcpt(struct session *s, enum debt_what what, uint32_t i)
{
    struct pipe *words = backend_words(s->backend);
    const struct rcpt *r = &s->tx->message.rcpts[i];
    pipe_put(words, STR("RCPT TO:"));
    path_put(&r->path, words);
    params_put_rcpt(&r->params, s->backend->can, words);
    pipe_put(words, STR("\r\n"));
    backend_say(s->backend, what, s->tx->message.serial, i);
}

static bool ring_has_room(const struct backend *b)
{
    return b->count < DEBTS - 2;
}

static bool is_to_be_added(const struct rcpt *r)
{
    return rcpt_is_added(r) && r->fate == FATE_PASSED;
}

static void say_added(struct session *s)
{
    struct transaction *tx = s->tx;
    for (uint32_t i = 0; i < tx->message.nrcpts; i++) {
        struct rcpt *r = &tx->message.rcpts[i];
        if (!is_to_be_added(r) || !ring_has_room(s->backend))
            continue;
        say_rcpt(s, DEBT_RCPT_ADDED, i);
        r->fate = FATE_ASKED;
        tx->again_owed++;
    }
}

/* The envelope that was accepted, on a connection that knows nothing of it: in one write, or as the ring of debts has room. */
static void say_again(struct session *s)
{
    struct transaction *tx = s->tx;
    if (!tx->asked) {
        say_mail(s, DEBT_MAIL_AGAIN);
        tx->again_owed = 1;
        tx->again_next = 0;
    }
    for (; tx->again_next < tx->message.nrcpts; tx->again_next++) {
        struct rcpt *r = &tx->message.rcpts[tx->again_next];
        if (rcpt_is_added(r) || !rcpt_stands(r))
            continue;
        if (!ring_has_room(s->backend))
            return;
        say_rcpt(s, DEBT_RCPT_AGAIN, tx->again_next);
        tx->again_owed++;
    }
    tx->saying_again = false;
    say_added(s);
}

/* Says all that is waiting to be said, if the backend is ready to hear it. */
static void pump(struct session *s)
{
    struct transaction *tx = s->tx;
    struct backend *b = s->backend;
    if (!tx || !tx->message.named || !b || b->step != BACKEND_READY) /* before the first rcpt there is nothing to say to the one that is bound */
        return;
    tx->backend_server = b->berth->conf->address.text;
    if (transaction_is_settled(tx) && !tx->saying_again && tx->message.flow.data != DATA_WANTED)
        return;
    if (params_need_more(&tx->message.params, b->can)) {
        backend_break(b, REPLY_BACKEND_CANNOT, "it lacks an extension that was offered to the client");
        return;
    }
    if (waits_for_name(s))
        return;
    if (tx->saying_again)
        say_again(s);
    if (tx->saying_again)
        return;
    for (uint32_t i = tx->told; i < tx->message.nrcpts; i++) {
        struct rcpt *r = &tx->message.rcpts[i];
        if (rcpt_is_added(r) || r->fate != FATE_PASSED)
            continue;
        if (!tx->asked)
            say_mail(s, DEBT_MAIL);
        if (!ring_has_room(b))
            return;
        say_rcpt(s, DEBT_RCPT, i);
        r->fate = FATE_ASKED;
    }
    if (tx->message.flow.data == DATA_WANTED && !tx->again_owed && !tx->failed.code) {
        pipe_put(backend_words(b), STR("DATA\r\n"));
        backend_say(b, DEBT_DATA, tx->message.serial, 0);
        tx->message.flow.data = DATA_ASKED;
        tx->data_reply = (struct reply){0};
    }
}

/* ---- take, ask, leave ----------------------------------------------------------------------------------------------- */

/* The connection that was logged in as this user is lost, and this transaction would need it. */
static bool is_forgotten(struct session *s)
{
    return s->tx->route == s->listen->backend && session_auth_is_lost(s);
}

/* Keeps the connection that is logged in for the next transaction: it waits, and RSET has it forget this one. */
static void park(struct session *s)
{
    envelope_leave(s, LEAVE_ENVELOPE);
    if (s->backend)
        backend_flush(s->backend);
    s->parked = s->backend;
    s->backend = NULL;
}

static void unpark(struct session *s)
{
    struct backend *b = s->backend = s->parked;
    s->parked = NULL;
    if (b->sent) /* its replies were not read meanwhile: its timeout begins anew */
        b->deadline = loop_now(s->worker->mail.loop) + backend_timeout(b, b->asked[b->first].what);
    task_wake(&s->task); /* what it may have said has not been read either */
}

static void take_backend(struct session *s, bool fresh)
{
    struct transaction *tx = s->tx;
    if (s->backend && s->backend->conf != tx->route) {
        if (auth_holds(s, s->backend))
            park(s);
        else
            backend_close(&s->backend);
        tx->asked = false; /* the next connection has heard nothing */
    }
    if (!s->backend && s->parked && s->parked->conf == tx->route)
        unpark(s);
    if (!s->backend)
        s->backend = pool_take(pool_of(s->generation, tx->route), s, fresh);
    else if (!tx->asked && s->backend->was_ready)
        s->backend->pooled = true; /* bound by identity: it has been idle since the transaction before */
    tx->backend_server = tx->route->address.text;
}

static void refuse_rcpt(struct session *s, struct rcpt *r, const struct reply *why)
{
    r->fate = FATE_REFUSED;
    r->reply = reply_keep(&s->tx->message.arena, why);
}

/* What ASKED rcpts and, when nothing can be said any more, PASSED ones hear. */
static void refuse_waiting(struct session *s, const struct reply *why)
{
    struct transaction *tx = s->tx;
    for (uint32_t i = tx->told; i < tx->message.nrcpts; i++) {
        struct rcpt *r = &tx->message.rcpts[i];
        if (!rcpt_is_added(r) && (r->fate == FATE_ASKED || r->fate == FATE_PASSED))
            refuse_rcpt(s, r, why);
    }
}

/* Another rcpt before it is, or may yet be, accepted. */
static bool has_company(const struct transaction *tx, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        const struct rcpt *r = &tx->message.rcpts[k];
        if (!rcpt_is_added(r) && r->fate < FATE_REFUSED)
            return true;
    }
    return false;
}

/* Says MAIL and every accepted rcpt again, in one write, on a clean connection to tx->route. */
static void envelope_anew(struct session *);

void envelope_ask(struct session *s, uint32_t i)
{
    struct transaction *tx = s->tx;
    struct rcpt *r = &tx->message.rcpts[i];
    s->state = STATE_RCPT;
    if (tx->message.discard || r->fate == FATE_DISCARDED) {
        r->fate = FATE_DISCARDED;
        r->reply = reply_named(REPLY_RCPT_OK);
        tx->message.discarded++;
        return;
    }
    r->fate = FATE_PASSED;
    if (envelope_mail_is_refused(tx))
        refuse_rcpt(s, r, &tx->mail_reply);
    else if (tx->failed.code)
        refuse_rcpt(s, r, &tx->failed);
    else if (tx->backend_failed.code)
        refuse_rcpt(s, r, &tx->backend_failed);
    if (r->fate == FATE_REFUSED)
        return;
    if (is_forgotten(s)) {
        struct reply why = reply_named(REPLY_BACKEND_LOST);
        tx->backend_failed = why;
        refuse_rcpt(s, r, &why);
        return;
    }
    if (tx->route->separate && has_company(tx, i)) {
        struct reply why = reply_named(REPLY_TOO_MANY_RCPTS);
        refuse_rcpt(s, r, &why);
        return;
    }
    if (tx->need_anew && !envelope_is_said_anew(tx))
        envelope_anew(s);
    if (tx->failed.code) {
        refuse_rcpt(s, r, &tx->failed);
        return;
    }
    take_backend(s, tx->losses > 0);
    pump(s);
}

/* What was asked on the connection that is left is asked again on the next one. */
static void forget_asked(struct transaction *tx)
{
    for (uint32_t i = tx->told; i < tx->message.nrcpts; i++)
        if (tx->message.rcpts[i].fate == FATE_ASKED && !rcpt_is_added(&tx->message.rcpts[i]))
            tx->message.rcpts[i].fate = FATE_PASSED;
    tx->asked = false;
}

static void envelope_anew(struct session *s)
{
    struct transaction *tx = s->tx;
    envelope_leave(s, LEAVE_ENVELOPE);
    forget_asked(tx);
    tx->need_anew = false;
    if (is_forgotten(s)) { /* the one that was left could not be kept, or it was lost before */
        tx->failed = reply_named(REPLY_BACKEND_LOST);
        refuse_waiting(s, &tx->failed);
        return;
    }
    tx->saying_again = true;
    take_backend(s, tx->losses > 0);
    pump(s);
}

bool envelope_is_pending(struct session *s)
{
    struct transaction *tx = s->tx;
    if (tx->failed.code)
        return false;
    if (tx->need_anew) {
        envelope_anew(s);
        return !tx->failed.code;
    }
    if (envelope_is_said_anew(tx))
        return true;
    bool additions = false;
    for (uint32_t i = 0; i < tx->message.nrcpts; i++)
        additions |= is_to_be_added(&tx->message.rcpts[i]);
    if (!additions)
        return false;
    if (!s->backend || !tx->asked)
        envelope_anew(s);
    else if (s->backend->step == BACKEND_READY)
        say_added(s);
    return !tx->failed.code && envelope_is_said_anew(tx);
}

void envelope_data(struct session *s)
{
    s->tx->message.flow.data = DATA_WANTED;
    pump(s);
}

void envelope_leave(struct session *s, enum leave how)
{
    struct backend *b = s->backend;
    struct transaction *tx = s->tx;
    if (!b)
        return;
    if (b->step != BACKEND_READY || how == LEAVE_CONTENT) {
        backend_abort(&s->backend);
        return;
    }
    bool untouched = how == LEAVE_ENVELOPE && (!tx || !tx->asked);
    if (!b->bound) {
        pool_leave(&s->backend, how == LEAVE_CLEAN || untouched);
        return;
    }
    /* Kept for what this client may yet send, unless others wait for one that may never be used again. */
    bool wanted = atomic_load(&b->berth->server->wanted) && !auth_holds(s, b);
    if (b->closing || b->count >= DEBTS - 1) {
        backend_abort(&s->backend);
    } else if (how == LEAVE_CLEAN && wanted) {
        backend_close(&s->backend);
    } else if (how == LEAVE_ENVELOPE && !untouched) {
        for (uint8_t i = 0; i < b->count; i++) /* the transaction may go on with it: these answers are not for that envelope */
            b->asked[(b->first + i) % DEBTS].serial = 0;
        pipe_put(backend_words(b), STR("RSET\r\n"));
        backend_say(b, DEBT_RSET, 0, 0);
    }
}

/* ---- loss ----------------------------------------------------------------------------------------------------------- */

/* The same words again on a fresh connection, for the one that was lost had been idle and had not answered a word. */
static void repeat(struct session *s)
{
    struct transaction *tx = s->tx;
    tx->anew_spent = true;
    forget_asked(tx);
    if (tx->message.flow.data == DATA_ASKED)
        tx->message.flow.data = DATA_WANTED;
    s->backend = pool_take(pool_of(s->generation, tx->route), s, true);
}

static void lost_before_data(struct session *s, struct reply why, bool was_ready)
{
    struct transaction *tx = s->tx;
    refuse_waiting(s, &why);
    bool said_anew = envelope_is_said_anew(tx);
    if (said_anew || !was_ready)
        tx->backend_failed = why;
    if (said_anew)
        tx->failed = why;
    tx->saying_again = false;
    tx->again_owed = 0;
    tx->asked = false;
    bool waiting_for_data = tx->message.flow.data == DATA_ASKED || tx->message.flow.data == DATA_WANTED;
    tx->message.flow.data = DATA_UNSAID;
    if (was_ready && tx->losses > 1)
        tx->backend_failed = why;
    if (tx->message.accepted && !tx->failed.code) {
        if (tx->anew_spent)
            tx->failed = why;
        else
            tx->need_anew = tx->anew_spent = true;
    }
    if (waiting_for_data && s->step == STEP_BACKEND)
        tx->data_reply = why;
}

/* Our end has been said: nobody knows whether the message was taken. */
static void lost_behind_the_end(struct session *s, enum reply_name failure)
{
    struct message *m = &s->tx->message;
    if (m->end_reply.code)
        return;
    m->end_reply = reply_named(failure == REPLY_BACKEND_NONSENSE ? failure : REPLY_BACKEND_LOST);
    m->end = END_UNCERTAIN;
}

/* DATA or BDAT had been said. Before the first octet of content nothing is lost, and another connection may have it all. */
static void lost_in_content(struct session *s, const struct reply *why)
{
    struct transaction *tx = s->tx;
    struct flow *f = &tx->message.flow;
    bool again = !f->encoder.octets && !tx->anew_spent && !tx->message.sink && !is_forgotten(s);
    f->data = DATA_UNSAID;
    if (!again) {
        flow_refuse(&s->visit, why);
        return;
    }
    tx->anew_spent = tx->need_anew = true;
    tx->asked = false;
    f->sender = (struct headers_sender){0};
    f->chunked = false;
    pipe_clear(&f->outgoing);
}

/* May what was said be said again as it was? Only if the connection had been idle before and answered nothing, once. */
static bool may_repeat(const struct session *s, bool silent)
{
    const struct transaction *tx = s->tx;
    return silent && !tx->anew_spent && !envelope_is_said_anew(tx) && !tx->message.accepted;
}

static void lost_in_envelope(struct session *s, struct reply why, bool was_ready, bool silent)
{
    struct transaction *tx = s->tx;
    if (is_forgotten(s)) {
        tx->anew_spent = true;
        tx->backend_failed = why;
    }
    if (may_repeat(s, silent))
        repeat(s);
    else
        lost_before_data(s, why, was_ready);
}

static void lost(struct session *s)
{
    struct transaction *tx = s->tx;
    struct backend *b = s->backend;
    if (tx && b->conf != tx->route) { /* of the transaction before, or of the way this one no longer goes */
        backend_abort(&s->backend);
        tx->asked = false;
        return;
    }
    if (pool_again(s)) /* it has heard nothing: another server may */
        return;
    enum reply_name failure = b->failure;
    struct reply why = tx && b->refusal.code ? debt_relayed(s, &b->refusal) : reply_named(failure);
    bool was_ready = b->was_ready, silent = b->pooled && tx && !tx->answered && !b->slow;
    backend_abort(&s->backend);
    if (!tx)
        return;
    struct flow *f = &tx->message.flow;
    tx->losses++;
    if (f->data == DATA_OPEN && s->step == STEP_BACKEND) {
        /* Its 354 has not been told: it never shall be, or content would be read as commands (promise 3). */
        f->data = DATA_ASKED;
        tx->data_reply = (struct reply){0};
    }
    if (f->data == DATA_ENDED)
        lost_behind_the_end(s, failure);
    else if (f->data == DATA_OPEN)
        lost_in_content(s, &why);
    else
        lost_in_envelope(s, why, was_ready, silent);
}

/* ---- settle --------------------------------------------------------------------------------------------------------- */

void envelope_tell(struct session *s)
{
    struct transaction *tx = s->tx;
    /* HELD: its filters are at work; what a route has said of it already is not the last word. */
    while (tx->told < tx->message.nrcpts && s->state != STATE_CLOSING) {
        struct rcpt *rcpt = &tx->message.rcpts[tx->told];
        if (rcpt_is_added(rcpt)) {
            tx->told++;
            continue;
        }
        if (rcpt->fate == FATE_HELD || !rcpt->reply.code)
            return;
        if (!s->visit.esmtp && !stream_in_is_empty(s->stream)) { /* no pipelining was offered to it (engine.md A9) */
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

void envelope_settle(struct session *s)
{
    struct debt debt;
    struct reply reply;
    for (int rounds = 0; s->backend && rounds < 3; rounds++) {
        backend_turn(s->backend);
        pump(s);
        struct arena *arena = s->tx ? &s->tx->message.arena : &s->line;
        enum backend_took took;
        while (s->backend && (took = backend_reply(s->backend, arena, &debt, &reply)) != TOOK_NONE && took != TOOK_BROKEN) {
            if (took == TOOK_UNASKED)
                debt_unasked(s, &reply);
            else
                debt_apply(s, &debt, &reply);
        }
        pump(s);
        if (!s->backend || s->backend->step != BACKEND_BROKEN)
            break;
        lost(s);
    }
    if (s->tx)
        envelope_tell(s);
}
