/* envelope.c - the back: what the backend is told of the envelope, saying it anew, and its loss.
 *
 * The rcpts are the queue: replies are applied to them in the order they are owed (replies.c), and leave while they are final. Words are
 * made only for a backend that is READY, so that they fit what it can do; until then rcpts wait as PASSED. */
#include "smtp/back/envelope.h"
#include "smtp/back/backend.h"
#include "smtp/back/identity.h"
#include "smtp/back/lmtp.h"
#include "smtp/back/pool.h"
#include "smtp/back/route.h"

bool envelope_is_said_anew(const struct transfer *t)
{
    return t->saying_again || t->again_owed;
}

bool envelope_mail_is_refused(const struct transfer *t)
{
    return t->mail_reply.code && reply_class(&t->mail_reply) != 2;
}

bool delivery_is_refused(const struct delivery *d)
{
    const struct message *m = d->visit->message;
    return envelope_mail_is_refused(&d->transfer) || (!m->accepted && !m->discarded);
}

const struct reply *delivery_failure(const struct delivery *d)
{
    return d->transfer.anew_failure.code ? &d->transfer.anew_failure : NULL;
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

static bool waits_for_name(struct delivery *d)
{
    if (d->transfer.envelope != ENVELOPE_UNSAID || d->backend->conf->identity != IDENTITY_XFORWARD || !(d->backend->can.xforward & XATTR_NAME))
        return false;
    visit_look_up(d->visit);
    return !visit_has_looked_up(d->visit);
}

static void say_mail(struct delivery *d, enum expect what)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct backend *b = d->backend;
    struct pipe *words = backend_words(b);
    uint32_t said = 0;
    while (says_xforward(b) && identity_put_xforward(d->visit, b->can.xforward, &said, words))
        backend_say(b, EXPECT_XFORWARD, m->serial, 0);
    lmtp_begin(d);
    pipe_put(words, STR("MAIL FROM:"));
    path_put(&m->from, words);
    params_put_mail(&m->params, b->can, m->params.size ? m->params.size + visit_adds(d->visit->conf) : 0, words);
    pipe_put(words, STR("\r\n"));
    backend_say(b, what, m->serial, 0);
    for (uint32_t i = 0; i < m->nrcpts; i++) { /* whatever another one has heard of those that were added */
        struct rcpt *r = &m->rcpts[i];
        if (rcpt_is_added(r) && r->fate != FATE_DROPPED)
            r->fate = FATE_PASSED;
    }
    t->envelope = ENVELOPE_SAID;
}

static void say_rcpt(struct delivery *d, enum expect what, uint32_t i)
{
    struct pipe *words = backend_words(d->backend);
    const struct rcpt *r = &d->visit->message->rcpts[i];
    pipe_put(words, STR("RCPT TO:"));
    path_put(&r->path, words);
    params_put_rcpt(&r->params, d->backend->can, words);
    pipe_put(words, STR("\r\n"));
    backend_say(d->backend, what, d->visit->message->serial, i);
}

static bool ring_has_room(const struct backend *b)
{
    return b->count < EXPECTED_MOST - 2;
}

static bool is_to_be_added(const struct rcpt *r)
{
    return rcpt_is_added(r) && r->fate == FATE_PASSED;
}

static void say_added(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    for (uint32_t i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        if (!is_to_be_added(r) || !ring_has_room(d->backend))
            continue;
        say_rcpt(d, EXPECT_RCPT_ADDED, i);
        r->fate = FATE_ASKED;
        t->again_owed++;
    }
}

/* The envelope that was accepted, on a connection that knows nothing of it: in one write, or as the ring of expected replies has room. */
static void say_again(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (t->envelope == ENVELOPE_UNSAID) {
        say_mail(d, EXPECT_MAIL_AGAIN);
        t->again_owed = 1;
        t->again_next = 0;
    }
    for (; t->again_next < m->nrcpts; t->again_next++) {
        struct rcpt *r = &m->rcpts[t->again_next];
        if (rcpt_is_added(r) || !rcpt_stands(r))
            continue;
        if (!ring_has_room(d->backend))
            return;
        say_rcpt(d, EXPECT_RCPT_AGAIN, t->again_next);
        t->again_owed++;
    }
    t->saying_again = false;
    say_added(d);
}

/* Whether recipients that the client named wait for a reply. */
static bool has_unsettled(struct transfer *t, const struct message *m)
{
    for (; t->settled < m->nrcpts; t->settled++) {
        const struct rcpt *r = &m->rcpts[t->settled];
        if (!rcpt_is_added(r) && (r->fate == FATE_HELD || r->fate == FATE_PASSED || r->fate == FATE_ASKED))
            return true;
    }
    return false;
}

/* Says all that is waiting to be said, if the backend is ready to hear it. */
static void pump(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct backend *b = d->backend;
    if (!m || !m->named || !b || b->step != BACKEND_READY) /* before the first rcpt there is nothing to say to the one that is bound */
        return;
    t->server = b->at->conf->address.text;
    if (!has_unsettled(t, m) && !t->saying_again && t->data != DATA_WANTED)
        return;
    if (params_need_more(&m->params, b->can)) {
        backend_break(b, REPLY_BACKEND_CANNOT, "it lacks an extension that was offered to the client");
        return;
    }
    if (waits_for_name(d))
        return;
    if (t->saying_again)
        say_again(d);
    if (t->saying_again)
        return;
    for (uint32_t i = t->settled; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        if (rcpt_is_added(r) || r->fate != FATE_PASSED)
            continue;
        if (t->envelope == ENVELOPE_UNSAID)
            say_mail(d, EXPECT_MAIL);
        if (!ring_has_room(b))
            return;
        say_rcpt(d, EXPECT_RCPT, i);
        r->fate = FATE_ASKED;
    }
    if (t->data == DATA_WANTED && !t->again_owed && !t->anew_failure.code) {
        pipe_put(backend_words(b), STR("DATA\r\n"));
        backend_say(b, EXPECT_DATA, m->serial, 0);
        t->data = DATA_ASKED;
        t->data_reply = (struct reply){0};
    }
}

/* ---- connections, recipients ----------------------------------------------------------------------------------------------- */

/* The connection that was logged in as this user is lost, and this transaction would need it. */
bool envelope_is_forgotten(const struct delivery *d)
{
    return d->transfer.route == d->listen->backend && delivery_login_is_lost(d);
}

/* Keeps the connection that is logged in for the next transaction: it waits, and RSET has it forget this one. */
static void park(struct delivery *d)
{
    envelope_leave(d, LEAVE_ENVELOPE);
    if (d->backend)
        backend_flush(d->backend);
    d->parked = d->backend;
    d->backend = NULL;
}

static void unpark(struct delivery *d)
{
    struct backend *b = d->backend = d->parked;
    d->parked = NULL;
    if (b->sent) /* its replies were not read meanwhile: its timeout begins anew */
        b->deadline = loop_now(d->generation->worker->mail.loop) + backend_timeout(b, b->asked[b->first].what);
    task_wake(d->visit->task); /* what it may have said has not been read either */
}

static void take_backend(struct delivery *d, bool fresh)
{
    struct transfer *t = &d->transfer;
    if (d->backend && d->backend->conf != t->route) {
        if (login_holds(d, d->backend))
            park(d);
        else
            backend_close(&d->backend);
        t->envelope = ENVELOPE_UNSAID; /* the next connection has heard nothing */
    }
    if (!d->backend && d->parked && d->parked->conf == t->route)
        unpark(d);
    if (!d->backend)
        d->backend = pool_take(pool_of(d->generation, t->route), d, fresh);
    else if (t->envelope == ENVELOPE_UNSAID && d->backend->was_ready)
        d->backend->pooled = true; /* bound by identity: it has been idle since the transaction before */
    t->server = t->route->address.text;
}

static void refuse_rcpt(struct delivery *d, struct rcpt *r, const struct reply *why)
{
    r->fate = FATE_REFUSED;
    r->reply = reply_keep(&d->visit->message->arena, why);
}

/* What ASKED rcpts and, when nothing can be said any more, PASSED ones hear. */
void envelope_refuse_waiting(struct delivery *d, const struct reply *why)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    for (uint32_t i = t->settled; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        if (!rcpt_is_added(r) && (r->fate == FATE_ASKED || r->fate == FATE_PASSED))
            refuse_rcpt(d, r, why);
    }
}

/* Another rcpt before it is, or may yet be, accepted. */
static bool has_company(const struct message *m, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        const struct rcpt *r = &m->rcpts[k];
        if (!rcpt_is_added(r) && r->fate < FATE_REFUSED)
            return true;
    }
    return false;
}

/* Says MAIL and every accepted rcpt again, in one write, on a clean connection to where the message goes. */
static void envelope_anew(struct delivery *);

static void ask(struct delivery *d, uint32_t i)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    struct rcpt *r = &m->rcpts[i];
    if (m->fate == MESSAGE_DISCARDED || r->fate == FATE_DISCARDED) {
        r->fate = FATE_DISCARDED;
        r->reply = reply_named(REPLY_RCPT_OK);
        m->discarded++;
        return;
    }
    r->fate = FATE_PASSED;
    if (envelope_mail_is_refused(t))
        refuse_rcpt(d, r, &t->mail_reply);
    else if (t->anew_failure.code)
        refuse_rcpt(d, r, &t->anew_failure);
    else if (t->no_backend.code)
        refuse_rcpt(d, r, &t->no_backend);
    if (r->fate == FATE_REFUSED)
        return;
    if (envelope_is_forgotten(d)) {
        struct reply why = reply_named(REPLY_BACKEND_LOST);
        t->no_backend = why;
        refuse_rcpt(d, r, &why);
        return;
    }
    if (t->route->separate && has_company(m, i)) {
        struct reply why = reply_named(REPLY_TOO_MANY_RCPTS);
        refuse_rcpt(d, r, &why);
        return;
    }
    if (t->stale && !envelope_is_said_anew(t))
        envelope_anew(d);
    if (t->anew_failure.code) {
        refuse_rcpt(d, r, &t->anew_failure);
        return;
    }
    take_backend(d, t->losses > 0);
    pump(d);
}

/* What was asked on the connection that is left is asked again on the next one. */
void envelope_forget_asked(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    for (uint32_t i = t->settled; i < m->nrcpts; i++)
        if (m->rcpts[i].fate == FATE_ASKED && !rcpt_is_added(&m->rcpts[i]))
            m->rcpts[i].fate = FATE_PASSED;
    t->envelope = ENVELOPE_UNSAID;
}

static void envelope_anew(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    envelope_leave(d, LEAVE_ENVELOPE);
    envelope_forget_asked(d);
    t->stale = false;
    if (envelope_is_forgotten(d)) { /* the one that was left could not be kept, or it was lost before */
        t->anew_failure = reply_named(REPLY_BACKEND_LOST);
        envelope_refuse_waiting(d, &t->anew_failure);
        return;
    }
    t->saying_again = true;
    take_backend(d, t->losses > 0);
    pump(d);
}

bool envelope_is_pending(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (t->anew_failure.code)
        return false;
    if (t->stale) {
        envelope_anew(d);
        return !t->anew_failure.code;
    }
    if (envelope_is_said_anew(t))
        return true;
    bool additions = false;
    for (uint32_t i = 0; i < m->nrcpts; i++)
        additions |= is_to_be_added(&m->rcpts[i]);
    if (!additions)
        return false;
    if (!d->backend || t->envelope == ENVELOPE_UNSAID)
        envelope_anew(d);
    else if (d->backend->step == BACKEND_READY)
        say_added(d);
    return !t->anew_failure.code && envelope_is_said_anew(t);
}

void envelope_data(struct delivery *d)
{
    d->transfer.data = DATA_WANTED;
    pump(d);
}

void envelope_leave(struct delivery *d, enum leave how)
{
    struct backend *b = d->backend;
    struct transfer *t = &d->transfer;
    if (!b)
        return;
    if (b->step != BACKEND_READY || how == LEAVE_CONTENT) {
        backend_abort(&d->backend);
        return;
    }
    bool untouched = how == LEAVE_ENVELOPE && t->envelope == ENVELOPE_UNSAID;
    if (!b->bound) {
        pool_leave(&d->backend, how == LEAVE_CLEAN || untouched);
        return;
    }
    /* Kept for what this client may yet send, unless others wait for one that may never be used again. */
    bool wanted = atomic_load(&b->at->server->wanted) && !login_holds(d, b);
    if (b->closing || b->count >= EXPECTED_MOST - 1) {
        backend_abort(&d->backend);
    } else if (how == LEAVE_CLEAN && wanted) {
        backend_close(&d->backend);
    } else if (how == LEAVE_ENVELOPE && !untouched) {
        for (uint8_t i = 0; i < b->count; i++) /* the transaction may go on with it: these answers are not for that envelope */
            b->asked[(b->first + i) % EXPECTED_MOST].serial = 0;
        pipe_put(backend_words(b), STR("RSET\r\n"));
        backend_say(b, EXPECT_RSET, 0, 0);
    }
}

void delivery_ask(struct delivery *d, uint32_t i)
{
    struct message *m = d->visit->message;
    struct rcpt *r = &m->rcpts[i];
    if (!r->reply.code && (m->fate == MESSAGE_DISCARDED || r->fate == FATE_DISCARDED || route_by_rcpt(d, i)))
        ask(d, i);
    else
        r->fate = FATE_REFUSED; /* routed nowhere, or where the transaction does not go */
    if (r->fate == FATE_REFUSED && r->by == BY_BACKEND && !d->transfer.no_backend.code && !d->transfer.mail_reply.code)
        r->by = BY_ROUTE;
}

/* ---- settle --------------------------------------------------------------------------------------------------------- */

void delivery_settle(struct delivery *d)
{
    struct expected expected;
    struct reply reply;
    for (int rounds = 0; d->backend && rounds < 3; rounds++) {
        backend_turn(d->backend);
        pump(d);
        struct arena *arena = d->visit->message ? &d->visit->message->arena : d->visit->scratch;
        enum backend_took took;
        while (d->backend && (took = backend_reply(d->backend, arena, &expected, &reply)) != TOOK_NONE && took != TOOK_BROKEN) {
            if (took == TOOK_UNASKED)
                replies_unasked(d, &reply);
            else
                replies_apply(d, &expected, &reply);
        }
        pump(d);
        if (!d->backend || d->backend->step != BACKEND_BROKEN)
            break;
        envelope_lost(d);
    }
}
