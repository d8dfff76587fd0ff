/* received.c - the trace field: ours put on top (RFC 5321 4.4), and those that are there counted (6.3: loops).
 *
 * `with` is a word of RFC 3848, or of RFC 6531 4.3 where the envelope is SMTPUTF8. The TLS clause and `for` are as
 * Postfix writes them: `for` names the recipient only where there is just one, so that no recipient learns of another.
 * Never edits a field that came along. */
#include "smtp/front/session.h"
#include <time.h>

static const char *with(const struct session *s)
{
    static const char *const words[2][2][2] = {{{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
                                               {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}}};
    if (!s->visit.esmtp)
        return "SMTP";
    return words[s->tx->message.params.smtputf8][session_is_secure(s)][session_is_authenticated(s)];
}

/* The one recipient there is; NULL: none or several. */
static const struct path *only_rcpt(const struct transaction *tx)
{
    const struct path *only = NULL;
    for (uint32_t i = 0; i < tx->message.nrcpts; i++) {
        const struct rcpt *r = &tx->message.rcpts[i];
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
static struct str from_name(struct session *s)
{
    struct str name = arena_str(&s->tx->message.arena, s->visit.client->helo[0] ? str_of(s->visit.client->helo) : STR("unknown"));
    char *at = (char *)name.at; /* a copy of our own */
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)at[i] < 128 && !char_is_alnum(at[i]) && !strchr("-_.[]:", at[i]))
            at[i] = '?';
    return name;
}

void received_add(struct session *s)
{
    struct transaction *tx = s->tx;
    const char *date = date_of((time_t)(loop_wall(s->worker->mail.loop) / 1000000));
    bool v6 = s->visit.client->ip.len && memchr(s->visit.client->ip.at, ':', s->visit.client->ip.len);
    struct str tls = STR(""), whom = STR(""), ip = STR("unknown"), name = from_name(s);
    if (s->visit.client->ip.len)
        ip = arena_print(&tx->message.arena, "[%s%.*s]", v6 ? "IPv6:" : "", STR_ARGS(s->visit.client->ip));
    if (session_is_secure(s) && *s->visit.client->tls.version)
        tls = arena_print(&tx->message.arena, "\r\n\t(using %s with cipher %s)", s->visit.client->tls.version, s->visit.client->tls.cipher);
    const struct path *only = only_rcpt(tx);
    if (only)
        whom = arena_print(&tx->message.arena, "\r\n\tfor <%.*s>", STR_ARGS(only->address));
    struct str value = arena_print(
        &tx->message.arena, "from %.*s (%.*s)%.*s\r\n\tby %.*s (Sluice) with %s id %s.%u%.*s;\r\n\t%s", STR_ARGS(name),
        STR_ARGS(ip), STR_ARGS(tls), STR_ARGS(s->listen->visit.hostname), with(s), s->visit.id, tx->message.number, STR_ARGS(whom), date);
    bool changed = tx->message.headers.changed;
    struct field *field = headers_add(&tx->message.headers, NULL, true, STR("Received"), value);
    if (field)
        headers_hide(&tx->message.headers, field);
    tx->message.headers.changed = changed;
}

bool received_is_loop(struct session *s)
{
    struct transaction *tx = s->tx;
    const struct limits *l = &s->listen->visit.limits;
    struct str ours = arena_join(&tx->message.arena, 3, (struct str[]){STR("by "), s->listen->visit.hostname, STR(" (Sluice) ")});
    uint32_t hops = 0, loops = 0;
    for (const struct field *f = NULL; (f = headers_next(&tx->message.headers, f, STR("Received")));) {
        struct str value = header_unfold(f->value, &tx->message.arena);
        hops++;
        loops += str_find(value, ours) < value.len;
    }
    return (l->hops && hops > l->hops) || (l->loops && loops > l->loops);
}
