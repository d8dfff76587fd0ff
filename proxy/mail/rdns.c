/* rdns.c - PTR, then the address of that name must be the client's own (what Postfix does before it believes a name). */
#include "mail/client.h"

enum { RDNS_TIME = 5000 };

static bool is_loopback(struct str ip)
{
    return str_starts(ip, STR("127.")) || str_equal(ip, STR("::1"));
}

void rdns_start(struct client *c, struct dns *dns, struct task *task)
{
    struct rdns *n = &c->rdns;
    if (n->state != RDNS_NONE)
        return;
    n->state = RDNS_FAIL;
    if (!c->ip.len)
        return;
    if (is_loopback(c->ip)) { /* no resolver knows more of it than we do */
        if (str_equal(c->ip, STR("127.0.0.1")) || str_equal(c->ip, STR("::1"))) {
            text_set(&n->ptr, STR("localhost"));
            n->state = RDNS_OK;
        }
        return;
    }
    if (!dns)
        return;
    n->state = RDNS_PTR;
    n->query = dns_ask(dns, "ptr", c->ip, RDNS_TIME, task);
}

static bool is_temporary(enum failure error)
{
    return error == FAILURE_TIMEOUT || error == FAILURE_SERVFAIL || error == FAILURE_REFUSED;
}

/* A name that goes into a command line: what RFC 1123 lets stand in one, nothing else. */
static bool is_hostname(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!char_is_alnum(name.at[i]) && name.at[i] != '-' && name.at[i] != '.' && name.at[i] != '_')
            return false;
    return name.len > 0 && name.len < 254;
}

static void ask_forward(struct client *c, struct dns *dns, struct task *task)
{
    struct rdns *n = &c->rdns;
    bool v6 = memchr(c->ip.at, ':', c->ip.len) != NULL;
    dns_drop(&n->query);
    n->state = RDNS_FAIL;
    if (!n->ptr[0])
        return;
    n->state = RDNS_FORWARD;
    n->query = dns_ask(dns, v6 ? "aaaa" : "a", str_of(n->ptr), RDNS_TIME, task);
}

static void take_answer(struct client *c, struct dns *dns, struct task *task)
{
    struct rdns *n = &c->rdns;
    const struct dns_query *q = n->query;
    const struct filter_value *list = q->error ? NULL : value_get(&q->value, STR("list"));
    if (q->error) {
        n->state = is_temporary(q->error) ? RDNS_TEMP : n->state == RDNS_PTR ? RDNS_FAIL : RDNS_FORGED;
        dns_drop(&n->query);
        return;
    }
    if (n->state == RDNS_PTR) {
        for (size_t i = 0; list && i < list->count && !n->ptr[0]; i++)
            if (is_hostname(list->items[i].text))
                text_set(&n->ptr, list->items[i].text);
        ask_forward(c, dns, task);
        return;
    }
    n->state = RDNS_FORGED;
    for (size_t i = 0; list && i < list->count; i++)
        if (str_equal(list->items[i].text, c->ip))
            n->state = RDNS_OK;
    dns_drop(&n->query);
}

bool rdns_is_done(struct client *c, struct dns *dns, struct task *task)
{
    struct rdns *n = &c->rdns;
    while (n->query && n->query->done)
        take_answer(c, dns, task);
    return n->state >= RDNS_OK;
}

void rdns_stop(struct rdns *n)
{
    dns_drop(&n->query);
}

void rdns_set(struct rdns *n, enum rdns_state state, struct str ptr)
{
    rdns_stop(n);
    n->state = state;
    text_set(&n->ptr, ptr);
}

const char *rdns_name(const struct rdns *n)
{
    return n->state == RDNS_OK ? n->ptr : NULL;
}

const char *rdns_xclient(const struct rdns *n)
{
    return n->state == RDNS_OK ? n->ptr : n->state == RDNS_TEMP ? "[TEMPUNAVAIL]" : "[UNAVAILABLE]";
}

const char *rdns_xclient_reverse(const struct rdns *n)
{
    return n->ptr[0] ? n->ptr : n->state == RDNS_TEMP ? "[TEMPUNAVAIL]" : "[UNAVAILABLE]";
}

const char *rdns_resolve(const struct rdns *n)
{
    switch (n->state) {
    case RDNS_OK: return "ok";
    case RDNS_FORGED: return "forged";
    case RDNS_TEMP: return "temp";
    case RDNS_FAIL: return "fail";
    default: return NULL;
    }
}
