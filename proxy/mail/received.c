/* received.c - the trace field: ours put on top (RFC 5321 4.4), and those that are there counted (6.3: loops).
 *
 * `with` is a word of RFC 3848, or of RFC 6531 4.3 where the envelope is SMTPUTF8. The TLS clause and `for` are as
 * Postfix writes them: `for` names the recipient only where there is just one, so that no recipient learns of another.
 * Never edits a field that came along. */
#include "mail/visit.h"
#include <time.h>

enum { ADDED_MOST = 1024 }; /* octets of our field, and that filters may add to the header section */

static const char *with(const struct visit *v)
{
    static const char *const words[2][2][2] = {{{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
                                               {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}}};
    if (!v->esmtp)
        return "SMTP";
    return words[v->message->params.smtputf8][(v->client->secure != CLIENT_CLEAR)][v->client->authenticated];
}

/* The one recipient there is; NULL: none or several. */
static const struct path *only_rcpt(const struct message *m)
{
    const struct path *only = NULL;
    for (uint32_t i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];
        if (!rcpt_stands(r))
            continue;
        if (only || rcpt_is_added(r))
            return NULL;
        only = &r->path;
    }
    return only;
}

/* Made anew once a second: libc takes a lock of the whole process for it. */
static const char *date_of(time_t now)
{
    static _Thread_local char text[64];
    static _Thread_local time_t of;
    struct tm tm;
    if (now != of || !*text) {
        gmtime_r(&now, &tm);
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm);
        of = now;
    }
    return text;
}

/* Domain or address literal (RFC 5321 4.4): a name with other octets in it could pretend to be more than the name. */
static struct str from_name(struct visit *v)
{
    struct str name = arena_str(&v->message->arena, v->client->helo[0] ? str_of(v->client->helo) : STR("unknown"));
    char *at = (char *)name.at; /* a copy of our own */
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)at[i] < 128 && !char_is_alnum(at[i]) && !strchr("-_.[]:", at[i]))
            at[i] = '?';
    return name;
}

void received_add(struct visit *v)
{
    struct message *m = v->message;
    const char *date = date_of((time_t)(loop_wall(v->filters->worker->loop) / 1000000));
    bool v6 = v->client->ip.len && memchr(v->client->ip.at, ':', v->client->ip.len);
    struct str tls = STR(""), whom = STR(""), ip = STR("unknown"), name = from_name(v);
    if (v->client->ip.len)
        ip = arena_print(&m->arena, "[%s%.*s]", v6 ? "IPv6:" : "", STR_ARGS(v->client->ip));
    if ((v->client->secure != CLIENT_CLEAR) && *v->client->tls.version)
        tls = arena_print(&m->arena, "\r\n\t(using %s with cipher %s)", v->client->tls.version, v->client->tls.cipher);
    const struct path *only = only_rcpt(m);
    if (only)
        whom = arena_print(&m->arena, "\r\n\tfor <%.*s>", STR_ARGS(only->address));
    struct str value = arena_print(
        &m->arena, "from %.*s (%.*s)%.*s\r\n\tby %.*s (Sluice) with %s id %s.%u%.*s;\r\n\t%s", STR_ARGS(name),
        STR_ARGS(ip), STR_ARGS(tls), STR_ARGS(v->conf->hostname), with(v), v->id, m->number, STR_ARGS(whom), date);
    bool changed = m->headers.changed;
    struct field *field = headers_add(&m->headers, NULL, true, STR("Received"), value);
    if (field)
        headers_hide(&m->headers, field);
    m->headers.changed = changed;
}

bool received_is_loop(struct visit *v)
{
    struct message *m = v->message;
    const struct limits *l = &v->conf->limits;
    struct str ours = arena_join(&m->arena, 3, (struct str[]){STR("by "), v->conf->hostname, STR(" (Sluice) ")});
    uint32_t hops = 0, loops = 0;
    for (const struct field *f = NULL; (f = headers_next(&m->headers, f, STR("Received")));) {
        struct str value = header_unfold(f->value, &m->arena);
        hops++;
        loops += str_find(value, ours) < value.len;
    }
    return (l->hops && hops > l->hops) || (l->loops && loops > l->loops);
}

uint64_t visit_adds(const struct visit_conf *conf)
{
    bool edits = chain_data_when(conf->chain) != WHEN_AT_DATA;
    return (conf->received ? ADDED_MOST : 0) + (edits ? ADDED_MOST : 0);
}
