/* plant.c - bugs on purpose, put between the files of the gateway by the linker (--wrap): what the simulation must
 * find.
 *
 * Only sim_planted is linked with it. Each is rare, as real ones are: it happens once in so many times, by the dice.
 *   early      a 250 to the end of mail data although the backend has not answered
 *   dot        the connection of a client that left amid content is ended with CRLF.CRLF
 *   swapped    two replies to the client change places
 *   octet      an octet of the content is another one
 *   stale      a filter's call is resumed with the end of an op that an earlier one waited for
 *   kept       a transaction that was given up is given to the pool without RSET: it is owed and forgotten
 *   accepted   a rcpt that the backend refused is told accepted
 *   mixed      some octets of the letter before are in front of the next one's
 *   unbound    a connection bound to one client, by AUTH or identity, is given to another
 *   asleep     a wake-up is lost: a session sleeps on though there is news
 *   clockless  a wait has no clock: who waits for a peer that hangs waits for ever
 *   unedited   an emission of a filter that rewrites bodies is dropped
 *   unnamed    XFORWARD is not said: the client of the transaction before is the client of this one
 *   stalled    content that begins to be dropped, or to leave by BDAT, while all pipes are full goes on only when
 * somebody else wakes the session (a bug that was) unflushed  what was said, or room to read on, waits for the next
 * turn misled     a quarantine is forgotten: the message goes where it would have gone
 *
 * Of the milter front, where asleep, clockless, stale and unedited are found as well:
 *   unanswered an answer to an MTA is lost
 *   repeated   one is said twice
 *   unsaid     an edit of a field or of the envelope is dropped
 *   forgotten  the refusal of a message, by a filter or a limit, is forgotten */
#include "world.h"
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "mail/call.h"
#include "wire/milter.h"
#include "smtp/back/identity.h"
#include "smtp/front/session.h"

bool plant_choose(const char *name);
/* clang-format off */
enum backend_took __real_backend_reply(struct backend *, struct arena *, struct expected *, struct reply *);
enum backend_took __wrap_backend_reply(struct backend *, struct arena *, struct expected *, struct reply *);
void __real_backend_abort(struct backend **);                                      void __wrap_backend_abort(struct backend **);
void __real_reply_put(const struct reply *, struct pipe *, bool);                  void __wrap_reply_put(const struct reply *, struct pipe *, bool);
void __real_pool_leave(struct backend **, bool);                                   void __wrap_pool_leave(struct backend **, bool);
bool __real_encoder_step(struct encoder *, struct pipe *, struct pipe *, size_t);  bool __wrap_encoder_step(struct encoder *, struct pipe *, struct pipe *, size_t);
bool __real_call_resume(struct filter_call *, enum filter_verdict *);              bool __wrap_call_resume(struct filter_call *, enum filter_verdict *);
void __real_envelope_leave(struct delivery *, enum leave);                          void __wrap_envelope_leave(struct delivery *, enum leave);
bool __real_visit_turn(struct visit *);                                            bool __wrap_visit_turn(struct visit *);
void __real_task_wake(struct task *);                                              void __wrap_task_wake(struct task *);
void __real_alarm_set(struct alarm *, struct task *, uint64_t);                    void __wrap_alarm_set(struct alarm *, struct task *, uint64_t);
bool __real_flow_emit(struct visit *, struct str);                                 bool __wrap_flow_emit(struct visit *, struct str);
bool __real_delivery_open(struct delivery *);                                           bool __wrap_delivery_open(struct delivery *);
void __real_stream_flush_soon(struct stream *);                                    void __wrap_stream_flush_soon(struct stream *);
void __real_milter_say_kind(struct milter *, char);                                void __wrap_milter_say_kind(struct milter *, char);
void __real_milter_say_packet(struct milter *, const struct milter_packet *);      void __wrap_milter_say_packet(struct milter *, const struct milter_packet *);
void __real_message_refuse(struct message *, enum author, const struct reply *);   void __wrap_message_refuse(struct message *, enum author, const struct reply *);
bool __real_identity_put_xforward(const struct visit *, uint32_t, uint32_t *, struct pipe *);
bool __wrap_identity_put_xforward(const struct visit *, uint32_t, uint32_t *, struct pipe *);
/* clang-format on */

static const char *const names[] = {"none",     "early",    "dot",      "swapped", "octet",     "stale",
                                    "kept",     "accepted", "mixed",    "unbound", "asleep",    "clockless",
                                    "unedited", "unnamed",  "misled",   "stalled", "unflushed", "unanswered",
                                    "repeated", "unsaid",   "forgotten"};
enum plant {
    NONE,
    EARLY,
    DOT,
    SWAPPED,
    OCTET,
    STALE,
    KEPT,
    ACCEPTED,
    MIXED,
    UNBOUND,
    ASLEEP,
    CLOCKLESS,
    UNEDITED,
    UNNAMED,
    MISLED,
    STALLED,
    UNFLUSHED,
    UNANSWERED,
    REPEATED,
    UNSAID,
    FORGOTTEN
};
static enum plant plant;

bool plant_choose(const char *name)
{
    for (unsigned i = 0; i < countof(names); i++)
        if (!strcmp(name, names[i])) {
            plant = (enum plant)i;
            return true;
        }
    return false;
}

static bool blooms(enum plant which) /* what seldom has a chance need not be rare itself */
{
    return plant == which && sim_chance(which == MIXED || which == MISLED ? 50 : 2);
}

enum backend_took __wrap_backend_reply(struct backend *b, struct arena *arena, struct expected *expected,
                                       struct reply *reply)
{
    bool due = b->step == BACKEND_READY && b->count && b->sent && b->asked[b->first].what == EXPECT_END;
    if (!due || !blooms(EARLY)) {
        enum backend_took took = __real_backend_reply(b, arena, expected, reply);
        if (took == TOOK_REPLY && expected->what == EXPECT_RCPT && reply->code >= 400 && blooms(ACCEPTED))
            *reply = reply_named(REPLY_RCPT_OK);
        return took;
    }
    *expected = b->asked[b->first];
    *reply = reply_named(REPLY_OK);
    b->first = (uint8_t)((b->first + 1) % EXPECTED_MOST);
    b->count--;
    b->sent--;
    return TOOK_REPLY;
}

void __wrap_backend_abort(struct backend **at)
{
    struct backend *b = *at;
    bool amid = b && b->stream && b->delivery && b->delivery->transfer.data == DATA_OPEN;
    if (amid && blooms(DOT)) {
        pipe_put(&b->stream->out, STR("\r\n.\r\n"));
        stream_flush(b->stream);
    }
    __real_backend_abort(at);
}

void __wrap_reply_put(const struct reply *r, struct pipe *out, bool enhanced)
{
    struct pipe before = {0};
    if (r->code / 100 == 2 && blooms(SWAPPED)) /* in front of what waits to leave */
        pipe_move(out, &before, out->octets);
    __real_reply_put(r, out, enhanced);
    pipe_move(&before, out, before.octets);
}

bool __wrap_encoder_step(struct encoder *e, struct pipe *in, struct pipe *out, size_t most)
{
    static char before[24];
    static size_t nbefore;
    if (blooms(OCTET))
        pipe_copy(out, "x", 1);
    if (nbefore && !e->octets && blooms(MIXED))
        pipe_copy(out, before, nbefore);
    nbefore = plant == MIXED ? min_size(in->octets, sizeof before) : 0;
    pipe_peek(in, 0, before, nbefore);
    return __real_encoder_step(e, in, out, most);
}

void __wrap_pool_leave(struct backend **at, bool clean)
{
    __real_pool_leave(at, clean || ((*at)->count == 0 && blooms(KEPT)));
}

bool __wrap_call_resume(struct filter_call *call, enum filter_verdict *verdict)
{
    struct filter_event old = {.size = sizeof old, .op = 1};
    if (!call_has_ops(call) || !blooms(STALE))
        return __real_call_resume(call, verdict);
    *verdict = call->filter->def->resume(call, &old);
    return true;
}

void __wrap_envelope_leave(struct delivery *d, enum leave how)
{
    if (d->backend && d->backend->bound && d->backend->step == BACKEND_READY && blooms(UNBOUND))
        d->backend->bound = false;
    __real_envelope_leave(d, how);
}

bool __wrap_visit_turn(struct visit *v)
{
    bool over = __real_visit_turn(v);
    if (over && v->run.verdict.kind == VERDICT_QUARANTINE && blooms(MISLED))
        v->run.verdict.kind = VERDICT_CONTINUE;
    return over;
}

void __wrap_task_wake(struct task *t)
{
    if (plant != ASLEEP || sim_random(500))
        __real_task_wake(t);
}

void __wrap_alarm_set(struct alarm *a, struct task *t, uint64_t at)
{
    __real_alarm_set(a, t, blooms(CLOCKLESS) ? 0 : at);
}

bool __wrap_flow_emit(struct visit *v, struct str octets)
{
    return blooms(UNEDITED) || __real_flow_emit(v, octets);
}

bool __wrap_identity_put_xforward(const struct visit *v, uint32_t can, uint32_t *said, struct pipe *out)
{
    return !blooms(UNNAMED) && __real_identity_put_xforward(v, can, said, out);
}

bool __wrap_delivery_open(struct delivery *d)
{
    return __real_delivery_open(d) && plant != STALLED;
}

void __wrap_stream_flush_soon(struct stream *s)
{
    if (!blooms(UNFLUSHED))
        __real_stream_flush_soon(s);
}

void __wrap_milter_say_kind(struct milter *m, char kind)
{
    if (!blooms(UNANSWERED))
        __real_milter_say_kind(m, kind);
    if (blooms(REPEATED))
        __real_milter_say_kind(m, kind);
}

void __wrap_milter_say_packet(struct milter *m, const struct milter_packet *p)
{
    if (p->kind == 'O' || p->kind == 'b' || !blooms(UNSAID))
        __real_milter_say_packet(m, p);
}

void __wrap_message_refuse(struct message *m, enum author by, const struct reply *r)
{
    if (!blooms(FORGOTTEN))
        __real_message_refuse(m, by, r);
}
