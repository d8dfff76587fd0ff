/* login.c - AUTH on a connection of the client's own: it is bound to this client from the first word on, and after a success no other one
 * can be told who this is (RFC 4954). Kept aside while a message goes to another backend. */
#include "smtp/back/backend.h"
#include "smtp/back/envelope.h"
#include "smtp/back/pool.h"

bool login_holds(const struct delivery *d, const struct backend *b)
{
    return d->visit->client->authenticated && d->logged_in && !d->parked && b->conf == d->listen->backend;
}

bool delivery_login_is_lost(const struct delivery *d)
{
    const struct backend_conf *conf = d->listen->backend;
    const struct client *c = d->visit->client;
    if (!c->authenticated || !d->logged_in || d->parked)
        return false;
    if (d->backend && d->backend->conf == conf)
        return false;
    bool told = conf->identity == IDENTITY_XCLIENT && c->user[0]; /* XCLIENT LOGIN */
    return !told || !(pool_can(pool_of(d->generation, conf))->xclient & XATTR_LOGIN);
}

void delivery_login_begin(struct delivery *d)
{
    const struct backend_conf *conf = d->listen->backend;
    if (d->backend && d->backend->conf != conf)
        backend_close(&d->backend);
    if (!d->backend)
        d->backend = pool_take(pool_of(d->generation, conf), d, false);
    d->backend->bound = true;
}

bool delivery_login(struct delivery *d, struct pipe *words)
{
    struct backend *b = d->backend;
    if (!b || b->step != BACKEND_READY || b->count)
        return false;
    pipe_move(words, backend_words(b), words->octets);
    backend_say(b, EXPECT_AUTH, 0, 0);
    return true;
}

void delivery_login_nonsense(struct delivery *d)
{
    if (d->backend)
        backend_break(d->backend, REPLY_BACKEND_NONSENSE, "unexpected reply to AUTH");
}

void delivery_login_refused(struct delivery *d)
{
    backend_close(&d->backend);
}

void delivery_leave_bound(struct delivery *d)
{
    if (d->backend && d->backend->bound && !login_holds(d, d->backend))
        backend_close(&d->backend);
    if (!d->visit->client->authenticated)
        backend_close(&d->parked);
}
