/* plant.c - bugs on purpose, put between the files of the gateway by the linker (--wrap): what the simulation must
 * find.
 *
 * Only sim_planted is linked with it. Each is rare, as real ones are: it happens once in so many times, by the dice.
 *   early     a 250 to the end of mail data although the backend has not answered
 *   dot       the connection of a client that left amid content is ended with CRLF.CRLF
 *   swapped   two replies to the client change places
 *   octet     an octet of the content is another one
 *   stale     a filter's call is resumed with the end of an op that an earlier one waited for
 *   kept      a transaction that was given up is given to the pool without RSET */
#include "world.h"
#include "relay/backend.h"
#include "relay/host.h"
#include "relay/session.h"

bool plant_choose(const char *name);
enum backend_took __real_backend_reply(struct backend *, struct arena *, struct debt *, struct reply *);
enum backend_took __wrap_backend_reply(struct backend *, struct arena *, struct debt *, struct reply *);
void __real_backend_abort(struct backend **);
void __wrap_backend_abort(struct backend **);
void __real_reply_put(const struct reply *, struct pipe *, bool);
void __wrap_reply_put(const struct reply *, struct pipe *, bool);
void __real_pool_leave(struct backend **, bool);
void __wrap_pool_leave(struct backend **, bool);
bool __real_encoder_step(struct encoder *, struct pipe *, struct pipe *, size_t);
bool __wrap_encoder_step(struct encoder *, struct pipe *, struct pipe *, size_t);
bool __real_call_resume(struct filter_call *, enum filter_verdict *);
bool __wrap_call_resume(struct filter_call *, enum filter_verdict *);

enum plant { NONE, EARLY, DOT, SWAPPED, OCTET, KEPT, STALE, PLANTS };
static enum plant plant;

bool plant_choose(const char *name)
{
    static const char *const names[PLANTS] = {"none", "early", "dot", "swapped", "octet", "kept", "stale"};
    for (unsigned i = 0; i < PLANTS; i++)
        if (!strcmp(name, names[i])) {
            plant = (enum plant)i;
            return true;
        }
    return false;
}

static bool blooms(enum plant which)
{
    return plant == which && sim_chance(2);
}

enum backend_took __wrap_backend_reply(struct backend *b, struct arena *arena, struct debt *debt, struct reply *reply)
{
    bool due = b->step == BACKEND_READY && b->count && b->sent && b->asked[b->first].what == DEBT_END;
    if (!due || !blooms(EARLY))
        return __real_backend_reply(b, arena, debt, reply);
    *debt = b->asked[b->first];
    *reply = reply_named(REPLY_OK);
    b->first = (uint8_t)((b->first + 1) % DEBTS);
    b->count--;
    b->sent--;
    return TOOK_REPLY;
}

void __wrap_backend_abort(struct backend **at)
{
    struct backend *b = *at;
    bool amid = b && b->stream && b->session && b->session->tx && b->session->tx->flow.data == DATA_OPEN;
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
    if (blooms(OCTET))
        pipe_copy(out, "x", 1);
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
