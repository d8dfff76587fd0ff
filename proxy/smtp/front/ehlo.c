/* ehlo.c - what a client is offered: what we can do ourselves, what the next hop can do and we pass on, the lesser of both
 * limits. Nothing else is ever advertised, and a parameter that was not offered is 555. */
#include "smtp/back/pool.h"
#include "smtp/front/proxied.h"
#include "smtp/front/session.h"

/* What only passes on, as the next hop says it. */
enum { PASSED_ON = EXT_8BITMIME | EXT_SMTPUTF8 | EXT_DSN | EXT_MT_PRIORITY | EXT_DELIVERBY | EXT_FUTURERELEASE };

/* What every backend can that a route may choose; one of which nothing is known has no say, its mail will be deferred anyhow. */
static struct capabilities next_hop(struct session *s)
{
    const struct route *route = s->listen->route;
    struct capabilities all = *pool_can(pool_of(s->generation, s->listen->backend));
    for (size_t i = 0; route && i < route->nbackends; i++) {
        const struct capabilities *one = pool_can(pool_of(s->generation, route->backends[i]));
        if (!one->has || route->backends[i] == s->listen->backend)
            continue;
        struct capabilities auth = all;
        all = all.has ? capabilities_common(all, *one) : *one;
        memcpy(all.auth, auth.auth, sizeof all.auth); /* AUTH is the affair of the one that is asked */
    }
    return all;
}

struct capabilities session_offer(struct session *s)
{
    const struct limits *l = &s->listen->visit.limits;
    struct capabilities theirs = next_hop(s);
    struct capabilities ours = {.has = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCED | EXT_LIMITS | PASSED_ON,
                                .size = l->size, .mail_max = l->messages, .rcpt_max = l->recipients};
    memcpy(ours.priority, theirs.priority, sizeof ours.priority);
    if (s->listen->chunking && (theirs.has & EXT_8BITMIME) && chain_is_binary_safe(s->listen->visit.chain))
        ours.has |= EXT_BINARYMIME;
    if (session_is_secure(s)) /* RFC 8689 2: what came in the clear is past helping */
        ours.has |= EXT_REQUIRETLS;
    if (!(theirs.has & EXT_SIZE))
        theirs.size = 0;
    else if (theirs.size > 2 * visit_adds(&s->listen->visit))
        theirs.size -= visit_adds(&s->listen->visit);
    theirs.has |= EXT_PIPELINING | EXT_ENHANCED | EXT_SIZE | EXT_LIMITS;
    theirs.mail_max = 0; /* kept by the pool, for whichever sessions a connection serves */
    struct capabilities can = capabilities_common(ours, theirs);
    if (s->listen->tls && !session_is_secure(s))
        can.has |= EXT_STARTTLS;
    if (s->listen->chunking)
        can.has |= EXT_CHUNKING;
    if (s->listen->auth && pool_can(pool_of(s->generation, s->listen->backend))->auth[0] && (session_is_secure(s) || s->listen->auth_without_tls))
        can.has |= EXT_AUTH;
    return can;
}

struct str session_offer_text(struct session *s)
{
    struct capabilities can = session_offer(s);
    struct str text = capabilities_text(can, &s->line);
    if (can.has & EXT_AUTH)
        text = arena_print(&s->line, "%.*s\nAUTH %s", STR_ARGS(text),
                           pool_can(pool_of(s->generation, s->listen->backend))->auth);
    if (s->may_xclient)
        text = arena_print(&s->line, "%.*s\nXCLIENT%s", STR_ARGS(text),
                           xattrs_text(proxied_attributes(s, false), &s->line).at);
    if (s->may_xforward)
        text = arena_print(&s->line, "%.*s\nXFORWARD%s", STR_ARGS(text),
                           xattrs_text(proxied_attributes(s, true), &s->line).at);
    return text;
}
