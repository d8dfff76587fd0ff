/* proxied.c - PROXY, XCLIENT and XFORWARD from peers that the listener trusts.
 *
 * Owns what was seen while XFORWARD covers it. Trust is a matter of the peer's own address (behind a PROXY header: of
 * the one it names), never of a claim by XCLIENT, and unix peers are trusted wherever the listener names any network:
 * whoever can open the socket was let in by its folder. */
#include "smtp/front/proxied.h"
#include "smtp/front/connections.h"
#include "wire/preface.h"

enum { IDENT_MOST = 255 };

static bool is_trusted(const struct session *s, struct table *networks)
{
    return networks && (!s->visit.client->ip.len || table_match_ip(networks, s->visit.client->ip, NULL));
}

/* ---- PROXY ---------------------------------------------------------------------------------------------------------- */

bool proxied_is_due(const struct session *s)
{
    return is_trusted(s, s->listen->proxy);
}

static void take_tls(struct session *s, const struct preface *p)
{
    if (!p->tls)
        return;
    s->visit.client->secure = CLIENT_VOUCHED;
    s->visit.client->tls = (struct tls_facts){.version = p->tls_version.at,
                                .cipher = p->tls_cipher.at,
                                .sni = p->authority,
                                .alpn = STR(""),
                                .subject = p->tls_subject,
                                .common_name = p->tls_subject,
                                .issuer = STR(""),
                                .fingerprint = STR(""),
                                .verified = p->verified};
}

enum next proxied_preface(struct session *s)
{
    struct preface p;
    switch (preface_take(&s->stream->in, &s->arena, &p)) {
    case PREFACE_MORE:
        if (s->stream->ended || s->stream->dead)
            return session_end(s, WHY_LEFT, NULL);
        return NEXT_WAIT;
    case PREFACE_BAD:
        log_rare(LOG_WARNING, "preface", "%s: %s is to send a PROXY header and does not", s->visit.id,
                 s->visit.client->ip.len ? s->visit.client->ip.at : "a unix peer");
        return session_end(s, WHY_PREFACE, NULL);
    case PREFACE_TAKEN: break;
    }
    if (!p.local) {
        client_set_ip(s->visit.client, p.source, p.source_port);
        if (p.target.len)
            client_set_local(s->visit.client, p.target, p.target_port);
        take_tls(s, &p);
    }
    session_begin(s);
    return NEXT_MORE;
}

/* ---- XCLIENT -------------------------------------------------------------------------------------------------------- */

uint32_t proxied_attributes(const struct session *s, bool forward)
{
    if (forward)
        return s->may_xforward
                   ? XATTR_NAME | XATTR_ADDR | XATTR_PORT | XATTR_PROTO | XATTR_HELO | XATTR_IDENT | XATTR_SOURCE
                   : 0;
    return s->may_xclient ? XATTR_NAME | XATTR_REVERSE_NAME | XATTR_ADDR | XATTR_PORT | XATTR_PROTO | XATTR_HELO |
                                XATTR_LOGIN | XATTR_DESTADDR | XATTR_DESTPORT
                          : 0;
}

void proxied_trust(struct session *s)
{
    s->may_xclient = is_trusted(s, s->listen->xclient);
    s->may_xforward = is_trusted(s, s->listen->xforward);
}

/* A name that is told needs no looking up; an address without one does. */
static void take_name(struct rdns *n, const struct xattrs *x)
{
    if (x->known & XATTR_NAME)
        rdns_set(n, RDNS_OK, x->name);
    else if (x->given & XATTR_NAME)
        rdns_set(n,
                 x->name_temporary     ? RDNS_TEMP
                 : x->reverse_name.len ? RDNS_FORGED
                                       : RDNS_FAIL,
                 x->reverse_name);
    else if (x->given & XATTR_ADDR)
        rdns_set(n, RDNS_NONE, STR(""));
}

static bool count_under(struct session *s, const struct xattrs *x)
{
    if (s->entered)
        connections_leave(s->worker->connections, s->visit.client->ip);
    s->entered = false;
    client_set_ip(s->visit.client, x->ip, x->given & XATTR_PORT ? x->port : 0);
    return session_enter(s);
}

enum next proxied_xclient(struct session *s)
{
    struct xattrs x;
    struct str word;
    int why = xattrs_parse(s->command.rest, proxied_attributes(s, false), &s->line, &x, &word);
    if (why) {
        struct reply r = reply_print(&s->line, (enum reply_name)why, word.at);
        return verb_answer(s, &r);
    }
    proxied_restore(s);
    visit_again(&s->visit);
    session_logout(s);
    delivery_leave_bound(&s->delivery);
    if ((x.given & XATTR_ADDR) && !count_under(s, &x))
        return NEXT_MORE;
    if (!(x.given & XATTR_ADDR) && (x.given & XATTR_PORT))
        s->visit.client->port = x.port;
    take_name(&s->visit.client->rdns, &x);
    if ((x.known & XATTR_DESTADDR) && x.target_ip.len)
        client_set_local(s->visit.client, x.target_ip, x.target_port);
    text_set(&s->visit.client->helo, x.helo);
    auth_told(s, x.login);
    s->said_hello = s->visit.esmtp = s->visit.passed = false;
    s->connect_refusal = (struct reply){0};
    s->state = STATE_GREETING;
    return session_hook(s, FILTER_CONNECT);
}

/* ---- XFORWARD ------------------------------------------------------------------------------------------------------- */

static bool is_covered(const struct session *s)
{
    return s->visit.client != &s->self;
}

/* The first one of a transaction presets all that may be told to "not known". */
static void cover(struct session *s)
{
    if (!s->covered) {
        s->covered = must_alloc(sizeof *s->covered);
        client_start(s->covered);
    }
    if (is_covered(s))
        return;
    rdns_stop(&s->self.rdns);
    if (s->self.rdns.state < RDNS_OK) /* a look-up under way has been given up: it begins anew when it is wanted */
        rdns_set(&s->self.rdns, RDNS_NONE, STR(""));
    client_cover(s->covered, &s->self);
    s->visit.client = s->covered;
}

struct reply proxied_xforward(struct session *s)
{
    struct xattrs x;
    struct str word;
    int why = xattrs_parse(s->command.rest, proxied_attributes(s, true), &s->line, &x, &word);
    if (why)
        return reply_print(&s->line, (enum reply_name)why, word.at);
    cover(s);
    delivery_leave_bound(&s->delivery);
    struct client *c = s->covered;
    if (x.given & XATTR_ADDR)
        client_set_ip(c, x.ip, c->port);
    if (x.given & XATTR_PORT)
        c->port = x.port;
    take_name(&c->rdns, &x);
    if (x.given & XATTR_HELO)
        text_set(&c->helo, x.helo);
    if (x.known & XATTR_PROTO)
        c->protocol = x.esmtp ? PROTOCOL_ESMTP : PROTOCOL_SMTP;
    if (x.given & XATTR_SOURCE)
        c->local = x.local;
    if (x.given & XATTR_IDENT)
        text_set(&c->ident, str_part(x.ident, 0, IDENT_MOST));
    return reply_named(REPLY_OK);
}

void proxied_restore(struct session *s)
{
    if (!is_covered(s))
        return;
    delivery_leave_bound(&s->delivery);
    rdns_stop(&s->visit.client->rdns);
    s->visit.client = &s->self;
}

void proxied_free(struct session *s)
{
    if (s->covered)
        client_end(s->covered);
    free(s->covered);
    s->covered = NULL;
}
