/* doubts.c - warnings for configurations that are valid but probably not intended. */
#include "conf/parts.h"
#include "milter/model.h"

/* Addresses spread over the whole internet: a network list that contains all of them trusts everybody. */
static bool is_everybody(struct table *table)
{
    static const char *const v4[] = {"1.1.1.1", "99.1.1.1", "150.1.1.1", "203.1.1.1"}, *const v6[] = {"2001:100::1", "2600::1", "2a00::1"};
    bool all4 = table, all6 = table;
    for (size_t i = 0; i < countof(v4) && all4; i++)
        all4 = table_match_ip(table, str_of(v4[i]), NULL);
    for (size_t i = 0; i < countof(v6) && all6; i++)
        all6 = table_match_ip(table, str_of(v6[i]), NULL);
    return all4 || all6;
}

static void doubt_trust(struct loader *l, const struct listen_conf *listen)
{
    const struct {
        const char *key;
        struct table *table;
    } trusts[] = {{"proxy", listen->proxy}, {"xclient", listen->xclient}, {"xforward", listen->xforward}};
    for (size_t i = 0; i < countof(trusts); i++)
        if (is_everybody(trusts[i].table))
            complain(l->complaints, true, listen->file, listen->line,
                     "listen \"%.*s\": \"%s\" trusts the whole internet: anybody may say that he is any other client", STR_ARGS(listen->visit.name),
                     trusts[i].key);
}

static bool can_authenticate(const struct listen_conf *listen)
{
    return listen->auth != AUTH_OFF || listen->xclient; /* XCLIENT LOGIN= */
}

static bool can_be_secure(const struct listen_conf *listen)
{
    return listen->tls || listen->proxy; /* PROXY v2 tells of TLS before it */
}

static bool milter_has(const struct loader *l, const struct chain *chain)
{
    for (size_t i = 0; i < l->conf->nmilters; i++)
        if (l->conf->milters[i].visit.chain == chain)
            return true;
    return false;
}

/* True: no listener with this chain makes it possible. False also when no listener has the chain, or a milter has it, whose clients are those
 * of the MTA. */
static bool never_comes(const struct loader *l, const struct chain *chain, bool (*can)(const struct listen_conf *))
{
    size_t users = 0;
    for (size_t i = 0; i < l->conf->smtp.nlistens; i++) {
        if (l->conf->smtp.listens[i].visit.chain != chain)
            continue;
        users++;
        if (can(&l->conf->smtp.listens[i]))
            return false;
    }
    return users > 0 && !milter_has(l, chain);
}

static void doubt_filter(struct loader *l, const struct chain *chain, const struct filter *f)
{
    bool no_auth = never_comes(l, chain, can_authenticate), no_tls = never_comes(l, chain, can_be_secure);
    const char *why = NULL;
    if (f->only.auth == 1 && no_auth)
        why = "only = { auth = true }, but no listener with this chain offers AUTH";
    else if (f->only.tls == 1 && no_tls)
        why = "only = { tls = true }, but no listener with this chain offers TLS";
    else if (f->except.given && f->except.auth == 0 && no_auth && f->except.tls < 0 && !f->except.client && !f->except.from &&
             !f->except.rcpt && !f->except.nlistens)
        why = "except = { auth = false }, but no listener with this chain offers AUTH";
    else if (f->needs_auth && no_auth)
        why = "it counts by the user who has authenticated, but no listener with this chain offers AUTH";
    if (why)
        complain(l->complaints, true, f->file, f->line, "filter \"%.*s\": it never acts: %s", STR_ARGS(f->name), why);
}

/* Warns of a chain whose filters are never called. */
static void doubt_chain(struct loader *l, const struct chain *chain)
{
    if (milter_has(l, chain))
        return;
    for (size_t i = 0; i < l->conf->smtp.nlistens; i++)
        if (l->conf->smtp.listens[i].visit.chain == chain)
            return;
    if (chain->nfilters)
        complain(l->complaints, true, chain->filters[0]->file, chain->filters[0]->line,
                 "chain \"%.*s\": no listener names it: its filters see no mail", STR_ARGS(chain->name));
}

static bool is_wildcard(struct str ip)
{
    return str_equal(ip, STR("0.0.0.0")) || str_equal(ip, STR("::"));
}

/* True: a connection to `to` reaches the listener at `at`, because the addresses are equal, or because `to` is local and `at` a wildcard. */
static bool leads_to(const struct address *to, const struct address *at, struct arena *arena)
{
    if (to->name.ss_family != at->name.ss_family)
        return false;
    if (str_equal(to->text, at->text))
        return at->port || to->name.ss_family == AF_UNIX;
    struct str there = address_ip(to, arena);
    return to->port == at->port && is_wildcard(address_ip(at, arena)) &&
           (str_starts(there, STR("127.")) || str_equal(there, STR("::1")));
}

static void doubt_circle(struct loader *l, const struct listen_conf *listen)
{
    const struct backend_conf *b = listen->backend;
    for (size_t i = 0; b && i < b->nservers; i++)
        for (size_t k = 0; k < listen->naddresses; k++)
            if (leads_to(&b->servers[i].address, &listen->addresses[k], &l->conf->smtp.mail.arena))
                complain(
                    l->complaints, true, listen->file, listen->line,
                    "listen \"%.*s\": its backend \"%.*s\" is this listener itself (%.*s): mail would go in a circle",
                    STR_ARGS(listen->visit.name), STR_ARGS(b->hop.name), STR_ARGS(b->servers[i].address.text));
}

void conf_doubt(struct loader *l)
{
    for (size_t i = 0; i < l->conf->nmilters; i++)
        if (is_everybody(l->conf->milters[i].clients))
            complain(l->complaints, true, l->conf->milters[i].file, l->conf->milters[i].line,
                     "milter \"%.*s\": \"clients\" trusts the whole internet: anybody may ask the filters in any client's name",
                     STR_ARGS(l->conf->milters[i].visit.name));
    for (size_t i = 0; i < l->conf->smtp.nlistens; i++) {
        doubt_trust(l, &l->conf->smtp.listens[i]);
        doubt_circle(l, &l->conf->smtp.listens[i]);
    }
    for (size_t i = 0; i < l->conf->smtp.mail.nchains; i++)
        doubt_chain(l, &l->conf->smtp.mail.chains[i]);
    for (size_t i = 0; i < l->conf->smtp.mail.nchains; i++)
        for (size_t k = 0; k < l->conf->smtp.mail.chains[i].nfilters; k++)
            doubt_filter(l, &l->conf->smtp.mail.chains[i], l->conf->smtp.mail.chains[i].filters[k]);
}
