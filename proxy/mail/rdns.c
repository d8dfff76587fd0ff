/* rdns.c - PTR, then the address of that name must be the client's own (what Postfix does before it believes a name). */
#include "mail/rdns.h"
#include "smtp/front/session.h"

enum { NAMING_TIME = 5000 };

static bool is_loopback(struct str ip)
{
    return str_starts(ip, STR("127.")) || str_equal(ip, STR("::1"));
}

void naming_start(struct session *s)
{
    struct naming *n = &s->naming;
    if (n->state != NAMING_NONE)
        return;
    n->state = NAMING_FAIL;
    if (!s->ip.len)
        return;
    if (is_loopback(s->ip)) { /* no resolver knows more of it than we do */
        if (str_equal(s->ip, STR("127.0.0.1")) || str_equal(s->ip, STR("::1"))) {
            text_set(&n->ptr, STR("localhost"));
            n->state = NAMING_OK;
        }
        return;
    }
    if (!s->generation->dns)
        return;
    n->state = NAMING_PTR;
    n->query = dns_ask(s->generation->dns, "ptr", s->ip, NAMING_TIME, &s->task);
}

static bool is_temporary(const char *error)
{
    return !strcmp(error, "timeout") || !strcmp(error, "servfail") || !strcmp(error, "refused");
}

/* A name that goes into a command line: what RFC 1123 lets stand in one, nothing else. */
static bool is_hostname(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!char_is_alnum(name.at[i]) && name.at[i] != '-' && name.at[i] != '.' && name.at[i] != '_')
            return false;
    return name.len > 0 && name.len < 254;
}

static void ask_forward(struct session *s)
{
    struct naming *n = &s->naming;
    bool v6 = memchr(s->ip.at, ':', s->ip.len) != NULL;
    dns_drop(&n->query);
    n->state = NAMING_FAIL;
    if (!n->ptr[0])
        return;
    n->state = NAMING_FORWARD;
    n->query = dns_ask(s->generation->dns, v6 ? "aaaa" : "a", str_of(n->ptr), NAMING_TIME, &s->task);
}

static void take_answer(struct session *s)
{
    struct naming *n = &s->naming;
    const struct dns_query *q = n->query;
    const struct filter_value *list = q->error ? NULL : value_get(&q->value, STR("list"));
    if (q->error) {
        n->state = is_temporary(q->error) ? NAMING_TEMP : n->state == NAMING_PTR ? NAMING_FAIL : NAMING_FORGED;
        dns_drop(&n->query);
        return;
    }
    if (n->state == NAMING_PTR) {
        for (size_t i = 0; list && i < list->count && !n->ptr[0]; i++)
            if (is_hostname(list->items[i].text))
                text_set(&n->ptr, list->items[i].text);
        ask_forward(s);
        return;
    }
    n->state = NAMING_FORGED;
    for (size_t i = 0; list && i < list->count; i++)
        if (str_equal(list->items[i].text, s->ip))
            n->state = NAMING_OK;
    dns_drop(&n->query);
}

bool naming_is_done(struct session *s)
{
    struct naming *n = &s->naming;
    while (n->query && n->query->done)
        take_answer(s);
    return n->state >= NAMING_OK;
}

void naming_stop(struct naming *n)
{
    dns_drop(&n->query);
}

const char *naming_name(const struct naming *n)
{
    return n->state == NAMING_OK ? n->ptr : NULL;
}

const char *naming_xclient(const struct naming *n)
{
    return n->state == NAMING_OK ? n->ptr : n->state == NAMING_TEMP ? "[TEMPUNAVAIL]" : "[UNAVAILABLE]";
}

const char *naming_xclient_reverse(const struct naming *n)
{
    return n->ptr[0] ? n->ptr : n->state == NAMING_TEMP ? "[TEMPUNAVAIL]" : "[UNAVAILABLE]";
}

const char *naming_resolve(const struct naming *n)
{
    switch (n->state) {
    case NAMING_OK: return "ok";
    case NAMING_FORGED: return "forged";
    case NAMING_TEMP: return "temp";
    case NAMING_FAIL: return "fail";
    default: return NULL;
    }
}
