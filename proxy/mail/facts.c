/* facts.c - facts by name (filters/facts.def): a getter for each, looked up by halves. */
#include "mail/call.h"
#include "mail/outlet.h"

struct filter_text fact_of_text(struct str s)
{
    return (struct filter_text){s.at, s.len};
}

typedef struct filter_text getter(struct filter_call *);

static const struct filter_text absent = {NULL, 0};

static struct filter_text said(struct str s)
{
    return s.len ? fact_of_text(s) : absent;
}

static struct filter_text printed(struct filter_call *c, const char *format, long long n)
{
    char text[64];
    int len = snprintf(text, sizeof text, format, n);
    return fact_of_text(arena_str(&c->arena, (struct str){text, (size_t)len}));
}
static struct filter_text number(struct filter_call *c, long long n)
{
    return printed(c, "%lld", n);
}
static struct filter_text words(const char *text)
{
    return text ? (struct filter_text){text, strlen(text)} : absent;
}

#define GET(name, expression)                                                                                          \
    static struct filter_text fact_##name(struct filter_call *c)                                                       \
    {                                                                                                                  \
        struct visit *v = c->visit;                                                                                \
        struct message *message = c->message;                                                                                \
        (void)v, (void)message;                                                                                             \
        return expression;                                                                                             \
    }
#define WITH_S(e) (v ? (e) : absent)
#define WITH_TX(e) (message ? (e) : absent)
#define WITH_TLS(e) (v && v->client->secure != CLIENT_CLEAR ? (e) : absent)
#define WITH_AUTH(e) (v && v->client->authenticated ? (e) : absent)
#define WITH_REPLY(e) (c->replied ? (e) : absent)

GET(session_id, WITH_S(words(v->id)))
GET(session_started, WITH_S(number(c, v->started_wall_us)))
GET(session_listen, WITH_S(fact_of_text(v->conf->name)))
GET(session_messages, WITH_S(number(c, v->messages)))
GET(session_errors, WITH_S(number(c, v->errors)))
GET(session_esmtp, WITH_S(number(c, v->esmtp)))
GET(client_ip, WITH_S(fact_of_text(v->client->ip)))
GET(client_name, WITH_S(words(rdns_name(&v->client->rdns))))
GET(client_ptr, WITH_S(words(v->client->rdns.ptr[0] ? v->client->rdns.ptr : NULL)))
GET(client_resolve, WITH_S(words(rdns_resolve(&v->client->rdns))))
GET(client_port, WITH_S(number(c, v->client->port)))
GET(server_ip, WITH_S(fact_of_text(v->client->local_ip)))
GET(server_port, WITH_S(number(c, v->client->local_port)))
GET(server_name, words(v ? v->conf->hostname.at : c->set->conf->hostname.at))
GET(helo_esmtp, WITH_S(number(c, c->stage == FILTER_HELO ? v->subject.ehlo : v->esmtp)))
GET(tls_version, WITH_TLS(words(v->client->tls.version)))
GET(tls_cipher, WITH_TLS(words(v->client->tls.cipher)))
GET(tls_bits, WITH_TLS(number(c, v->client->tls.bits)))
GET(tls_sni, WITH_TLS(fact_of_text(v->client->tls.sni)))
GET(tls_verified, WITH_TLS(number(c, v->client->tls.verified)))
GET(tls_subject, WITH_TLS(said(v->client->tls.subject)))
GET(tls_issuer, WITH_TLS(said(v->client->tls.issuer)))
GET(tls_fingerprint, WITH_TLS(said(v->client->tls.fingerprint)))
GET(auth_user, WITH_AUTH(words(v->client->user)))
GET(auth_method, WITH_AUTH(words(v->client->method)))
GET(tls_alpn, WITH_TLS(fact_of_text(v->client->tls.alpn)))
GET(transaction_id, WITH_TX(fact_of_text(arena_print(&c->arena, "%s.%u", v->id, message->number))))
GET(transaction_end, WITH_TX(message->end ? words(transaction_end_name(message->end)) : absent))
GET(mail_size, WITH_TX(number(c, (long long)message->params.size)))
GET(mail_smtputf8, WITH_TX(number(c, message->params.smtputf8)))
GET(mail_ret, WITH_TX(fact_of_text(message->params.ret)))
GET(mail_envid, WITH_TX(fact_of_text(message->params.envid)))
GET(mail_requiretls, WITH_TX(number(c, message->params.requiretls)))
GET(mail_priority, WITH_TX(fact_of_text(message->params.priority)))
GET(mail_by, WITH_TX(fact_of_text(message->params.by)))
GET(mail_hold, WITH_TX(fact_of_text(message->params.hold)))
GET(content_octets, WITH_TX(number(c, (long long)message->octets)))
GET(content_fields, WITH_TX(number(c, message->headers.count)))
GET(reply_code, WITH_REPLY(number(c, c->replied->code)))
GET(reply_text, WITH_REPLY(fact_of_text(c->replied->text)))
GET(reply_stage, WITH_REPLY(words(c->replied_to == FILTER_MAIL ? "mail" : c->replied_to == FILTER_RCPT ? "rcpt" : "message")))
GET(score, WITH_TX(fact_of_text(arena_print(&c->arena, "%g", message->score))))
GET(tick_id, c->stage == FILTER_TICK ? number(c, c->tick) : absent)

static struct filter_text where(struct filter_call *c, bool server)
{
    struct str name, address, unused;
    if (!c->message)
        return absent;
    c->visit->outlet->ops->where(c->visit->outlet, &name, &address, &unused);
    return fact_of_text(server ? address : name);
}
static struct filter_text fact_backend_name(struct filter_call *c)
{
    return where(c, false);
}
static struct filter_text fact_backend_server(struct filter_call *c)
{
    return where(c, true);
}

static struct filter_text fact_helo_name(struct filter_call *c)
{
    if (!c->visit)
        return absent;
    if (c->stage == FILTER_HELO)
        return fact_of_text(arena_str(&c->arena, c->visit->subject.helo));
    return c->visit->client->helo[0] ? words(c->visit->client->helo) : absent;
}

static struct filter_text fact_transaction_end_by(struct filter_call *c)
{
    if (!c->message || !c->message->end_by_ms)
        return absent;
    int64_t left = (int64_t)(c->message->end_by_ms - loop_now(c->worker->loop)) * 1000;
    return number(c, left > 0 ? left : 0);
}

static struct filter_text fact_mail_body(struct filter_call *c)
{
    static const char *const names[] = {NULL, "7BIT", "8BITMIME", "BINARYMIME"};
    return c->message ? words(names[c->message->params.body]) : absent;
}

static struct filter_text fact_reply_enhanced(struct filter_call *c)
{
    const struct reply *r = c->replied;
    if (!r || !r->enhanced[0])
        return absent;
    return fact_of_text(arena_print(&c->arena, "%u.%u.%u", r->enhanced[0], r->enhanced[1], r->enhanced[2]));
}

struct str reply_queue_id(const struct reply *r)
{
    size_t at = str_find(r->text, STR("queued as "));
    if (at == r->text.len)
        return STR("");
    struct str id = str_part(r->text, at + 10, r->text.len);
    id = str_cut(&id, '\n');
    return str_word(&id);
}

static struct filter_text fact_reply_queue_id(struct filter_call *c)
{
    if (!c->replied || c->replied_to != FILTER_MESSAGE)
        return absent;
    return fact_of_text(arena_str(&c->arena, reply_queue_id(c->replied)));
}

static const struct fact { const char *name; getter *get; } facts[] = { /* sorted, for bsearch */
#define FACT(id, name, doc) {name, fact_##id},
#include "filters/facts.def"
#undef FACT
};

static int compare(const void *key, const void *fact)
{
    return strcmp(key, ((const struct fact *)fact)->name);
}

struct filter_text filter_fact(struct filter_call *call, const char *name)
{
    if (!strncmp(name, "note.", 5))
        return call->visit ? fact_of_text(note_of(call->visit, str_of(name + 5))) : absent;
    const struct fact *f = bsearch(name, facts, countof(facts), sizeof *facts, compare);
    return f ? f->get(call) : absent;
}

int64_t filter_fact_integer(struct filter_call *call, const char *name, int64_t otherwise)
{
    struct filter_text t = filter_fact(call, name);
    if (!t.at)
        return otherwise;
    char *end;
    long long n = strtoll(t.at, &end, 10);
    return end == t.at ? otherwise : n;
}
