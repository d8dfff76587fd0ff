/* proxied.c - PROXY, XCLIENT and XFORWARD from peers that the listener trusts.
 *
 * Owns what was seen while XFORWARD covers it. Trust is a matter of the peer's own address (behind a PROXY header: of
 * the one it names), never of a claim by XCLIENT, and unix peers are trusted wherever the listener names any network:
 * whoever can open the socket was let in by its folder. */
#include "smtp/front/proxied.h"
#include "smtp/back/backend.h"
#include "wire/preface.h"

struct forwarded {
    bool active;
    char ip[sizeof((struct session *)0)->ip_text], *helo;
    uint16_t port;
    struct naming naming;
    bool esmtp, protocol_known, local;
    char ident[256];
};

static bool is_trusted(const struct session *s, struct table *networks)
{
    return networks && (!s->ip.len || table_match_ip(networks, s->ip, NULL));
}

static void set_ip(struct session *s, struct str ip, uint16_t port)
{
    snprintf(s->ip_text, sizeof s->ip_text, "%.*s", STR_ARGS(ip));
    s->ip = str_of(s->ip_text);
    s->port = port;
}

static void set_name(struct naming *n, enum naming_state state, struct str ptr)
{
    naming_stop(n);
    n->state = state;
    text_set(&n->ptr, ptr);
}

/* A connection that was told of another client, or shows its address, is of no use to this one. What AUTH opened stays
 * as long as it is the same client's. */
static void leave_bound(struct session *s)
{
    if (s->backend && s->backend->bound && !auth_holds(s, s->backend))
        backend_close(&s->backend);
    if (!session_is_authenticated(s))
        backend_close(&s->parked);
}

/* ---- PROXY ---------------------------------------------------------------------------------------------------------- */

bool claim_is_due(const struct session *s)
{
    return is_trusted(s, s->listen->proxy);
}

static void set_local(struct session *s, struct str ip, uint16_t port)
{
    if (!ip.len)
        return;
    snprintf(s->local_ip, sizeof s->local_ip, "%.*s", STR_ARGS(ip));
    s->local_port = port;
}

static void take_tls(struct session *s, const struct preface *p)
{
    if (!p->tls)
        return;
    s->tls_vouched = true;
    s->tls = (struct tls_facts){.version = p->tls_version.at,
                                .cipher = p->tls_cipher.at,
                                .sni = p->authority,
                                .alpn = STR(""),
                                .subject = p->tls_subject,
                                .common_name = p->tls_subject,
                                .issuer = STR(""),
                                .fingerprint = STR(""),
                                .verified = p->verified};
}

enum next claim_proxy(struct session *s)
{
    struct preface p;
    switch (preface_take(&s->client->in, &s->arena, &p)) {
    case PREFACE_MORE:
        if (s->client->ended || s->client->dead)
            return session_end(s, WHY_LEFT, NULL);
        return NEXT_WAIT;
    case PREFACE_BAD:
        log_rare(LOG_WARNING, "preface", "%s: %s is to send a PROXY header and does not", s->id,
                 s->ip.len ? s->ip.at : "a unix peer");
        return session_end(s, WHY_PREFACE, NULL);
    case PREFACE_TAKEN: break;
    }
    if (!p.local) {
        set_ip(s, p.source, p.source_port);
        set_local(s, p.target, p.target_port);
        take_tls(s, &p);
    }
    session_begin(s);
    return NEXT_MORE;
}

/* ---- XCLIENT -------------------------------------------------------------------------------------------------------- */

uint32_t claim_attributes(const struct session *s, bool forward)
{
    if (forward)
        return s->may_xforward
                   ? XATTR_NAME | XATTR_ADDR | XATTR_PORT | XATTR_PROTO | XATTR_HELO | XATTR_IDENT | XATTR_SOURCE
                   : 0;
    return s->may_xclient ? XATTR_NAME | XATTR_REVERSE_NAME | XATTR_ADDR | XATTR_PORT | XATTR_PROTO | XATTR_HELO |
                                XATTR_LOGIN | XATTR_DESTADDR | XATTR_DESTPORT
                          : 0;
}

void claim_trust(struct session *s)
{
    s->may_xclient = is_trusted(s, s->listen->xclient);
    s->may_xforward = is_trusted(s, s->listen->xforward);
}

/* A name that is told needs no looking up; an address without one does. */
static void take_name(struct naming *n, const struct xattrs *x)
{
    if (x->known & XATTR_NAME)
        set_name(n, NAMING_OK, x->name);
    else if (x->given & XATTR_NAME)
        set_name(n,
                 x->name_temporary     ? NAMING_TEMP
                 : x->reverse_name.len ? NAMING_FORGED
                                       : NAMING_FAIL,
                 x->reverse_name);
    else if (x->given & XATTR_ADDR)
        set_name(n, NAMING_NONE, STR(""));
}

static bool move_in_census(struct session *s, const struct xattrs *x)
{
    if (s->entered)
        census_leave(s->worker->census, s->ip);
    s->entered = false;
    set_ip(s, x->ip, x->given & XATTR_PORT ? x->port : 0);
    return session_enter(s);
}

bool claim_xclient(struct session *s, struct reply *reply)
{
    struct xattrs x;
    struct str word;
    int why = xattrs_parse(s->command.rest, claim_attributes(s, false), &s->line, &x, &word);
    if (why) {
        *reply = reply_print(&s->line, (enum reply_name)why, word.at);
        return false;
    }
    claim_restore(s);
    chain_again(s);
    if (s->auth)
        s->auth->done = false;
    leave_bound(s);
    if ((x.given & XATTR_ADDR) && !move_in_census(s, &x))
        return true;
    if (!(x.given & XATTR_ADDR) && (x.given & XATTR_PORT))
        s->port = x.port;
    take_name(&s->naming, &x);
    if (x.known & XATTR_DESTADDR)
        set_local(s, x.target_ip, x.target_port);
    text_set(&s->helo, x.helo);
    session_login(s, x.login, STR("XCLIENT"));
    s->said_hello = s->esmtp = s->greeted = s->passed = false;
    s->refusal = (struct reply){0};
    s->state = STATE_HELLO;
    return true;
}

/* ---- XFORWARD ------------------------------------------------------------------------------------------------------- */

/* The first one of a transaction presets all that may be told to "not known". */
static struct forwarded *cover(struct session *s)
{
    struct forwarded *f = s->forwarded ? s->forwarded : (s->forwarded = must_alloc(sizeof *f));
    if (f->active)
        return f;
    memcpy(f->ip, s->ip_text, sizeof f->ip);
    f->helo = s->helo;
    s->helo = text_none;
    f->port = s->port;
    naming_stop(&s->naming);
    if (s->naming.state < NAMING_OK) /* a look-up under way has been given up: it begins anew when it is wanted */
        set_name(&s->naming, NAMING_NONE, STR(""));
    f->naming = s->naming;
    s->naming.ptr = text_none;
    f->active = true;
    f->protocol_known = f->local = false;
    f->ident[0] = 0;
    set_ip(s, STR(""), 0);
    set_name(&s->naming, NAMING_FAIL, STR(""));
    return f;
}

struct reply claim_xforward(struct session *s)
{
    struct xattrs x;
    struct str word;
    int why = xattrs_parse(s->command.rest, claim_attributes(s, true), &s->line, &x, &word);
    if (why)
        return reply_print(&s->line, (enum reply_name)why, word.at);
    struct forwarded *f = cover(s);
    leave_bound(s);
    if (x.given & XATTR_ADDR)
        set_ip(s, x.ip, s->port);
    if (x.given & XATTR_PORT)
        s->port = x.port;
    take_name(&s->naming, &x);
    if (x.given & XATTR_HELO)
        text_set(&s->helo, x.helo);
    if (x.known & XATTR_PROTO) {
        f->protocol_known = true;
        f->esmtp = x.esmtp;
    }
    if (x.given & XATTR_SOURCE)
        f->local = x.local;
    if (x.given & XATTR_IDENT)
        snprintf(f->ident, sizeof f->ident, "%.*s", STR_ARGS(x.ident));
    return reply_named(REPLY_OK);
}

void claim_restore(struct session *s)
{
    struct forwarded *f = s->forwarded;
    if (!f || !f->active)
        return;
    leave_bound(s);
    naming_stop(&s->naming);
    f->active = false;
    set_ip(s, str_of(f->ip), f->port);
    text_set(&s->helo, STR_NONE);
    text_set(&s->naming.ptr, STR_NONE);
    s->helo = f->helo;
    s->naming = f->naming;
}

void claim_free(struct session *s)
{
    free(s->forwarded);
    s->forwarded = NULL;
}

const char *claim_protocol(const struct session *s)
{
    const struct forwarded *f = s->forwarded;
    bool esmtp = f && f->active && f->protocol_known ? f->esmtp : s->esmtp;
    return esmtp ? "ESMTP" : "SMTP";
}

struct str claim_ident(const struct session *s)
{
    return s->forwarded && s->forwarded->active ? str_of(s->forwarded->ident) : STR("");
}

bool claim_is_local(const struct session *s)
{
    return s->forwarded && s->forwarded->active && s->forwarded->local;
}
