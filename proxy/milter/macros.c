/* macros.c - what an MTA tells beside its packets, and the client as mail knows it made from that (mail/client.h). */
#include "milter/milter.h"
#include "wire/ip.h"
#include <arpa/inet.h>

static const char *const names[MACROS] = {[MACRO_J] = "j",
                                          [MACRO_PEER] = "_",
                                          [MACRO_V] = "v",
                                          [MACRO_DAEMON_ADDR] = "{daemon_addr}",
                                          [MACRO_DAEMON_PORT] = "{daemon_port}",
                                          [MACRO_CLIENT_PTR] = "{client_ptr}",
                                          [MACRO_CLIENT_RESOLVE] = "{client_resolve}",
                                          [MACRO_R] = "r",
                                          [MACRO_TLS_VERSION] = "{tls_version}",
                                          [MACRO_CIPHER] = "{cipher}",
                                          [MACRO_CIPHER_BITS] = "{cipher_bits}",
                                          [MACRO_CERT_SUBJECT] = "{cert_subject}",
                                          [MACRO_CERT_ISSUER] = "{cert_issuer}",
                                          [MACRO_VERIFY] = "{verify}",
                                          [MACRO_TLS_SNI] = "{tls_sni}",
                                          [MACRO_AUTH_TYPE] = "{auth_type}",
                                          [MACRO_AUTH_AUTHEN] = "{auth_authen}",
                                          [MACRO_I] = "i"};

#define OF_SESSION                                                                                                     \
    "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer} {verify} {tls_sni} {auth_type} {auth_authen} "  \
    "i r"
const char *const milter_macro_lists[MILTER_WHERES] = {
    [MILTER_AT_CONNECT] = "j _ v {daemon_name} {daemon_addr} {daemon_port} {client_name} {client_ptr} {client_addr} "
                          "{client_port} {client_resolve}",
    [MILTER_AT_HELO] = OF_SESSION,
    [MILTER_AT_MAIL] = OF_SESSION,
    [MILTER_AT_RCPT] = "i",
    [MILTER_AT_DATA] = "i",
    [MILTER_AT_EOM] = "i",
    [MILTER_AT_EOH] = "i"};

enum { MACRO_MOST = 1000 }; /* octets of a value that are kept */

struct str milter_macro(const struct milter *m, enum macro macro)
{
    return str_of(m->macros[macro]);
}

/* The client's TLS views the texts of the macros: made anew whenever these are. */
static void see_tls(struct milter *m)
{
    struct str version = milter_macro(m, MACRO_TLS_VERSION), subject = milter_macro(m, MACRO_CERT_SUBJECT);
    uint64_t bits = 0;
    m->client.tls = (struct tls_facts){.sni = STR(""),
                                       .alpn = STR(""),
                                       .subject = STR(""),
                                       .issuer = STR(""),
                                       .common_name = STR(""),
                                       .fingerprint = STR("")};
    m->client.secure = version.len ? CLIENT_TLS : CLIENT_CLEAR;
    if (!version.len)
        return;
    str_number(milter_macro(m, MACRO_CIPHER_BITS), &bits);
    m->client.tls.version = version.at;
    m->client.tls.cipher = milter_macro(m, MACRO_CIPHER).at;
    m->client.tls.bits = (int)bits;
    m->client.tls.sni = milter_macro(m, MACRO_TLS_SNI);
    m->client.tls.subject = subject;
    m->client.tls.issuer = milter_macro(m, MACRO_CERT_ISSUER);
    m->client.tls.verified = subject.len || str_equal(milter_macro(m, MACRO_VERIFY), STR("OK"));
}

void milter_macros_forget(struct milter *m, enum macro from)
{
    for (size_t i = from; i < MACROS; i++)
        text_set(&m->macros[i], STR_NONE);
    see_tls(m);
}

/* Those of MAIL tell all that is known of the login and the message: what is not among them is not so any more. */
void milter_macros_take(struct milter *m, const struct milter_packet *p)
{
    struct str rest = p->rest, name, value;
    if (p->of == 'M')
        milter_macros_forget(m, MACRO_AUTH_TYPE);
    m->macros_of = p->of;
    while (milter_next(&rest, &name) && milter_next(&rest, &value))
        for (size_t i = 0; i < MACROS; i++)
            if (str_equal(name, str_of(names[i])))
                text_set(&m->macros[i], str_part(value, 0, MACRO_MOST));
    see_tls(m);
}

/* In one spelling; "": it is no address. */
static struct str ip_of(struct str text, struct arena *arena)
{
    char octets[16];
    if (str_starts_nocase(text, STR("IPv6:")))
        text = str_part(text, 5, text.len);
    text = arena_str(arena, text);
    if (inet_pton(AF_INET, text.at, octets) == 1)
        return ip_text(AF_INET, octets, arena);
    return inet_pton(AF_INET6, text.at, octets) == 1 ? ip_text(AF_INET6, octets, arena) : STR("");
}

static bool is_name(struct str s)
{
    return s.len && s.at[0] != '[' && !str_equal_nocase(s, STR("unknown"));
}

/* The name of the client, as the MTA has found it out: by {client_resolve}, or by "name [address] (may be forged)". */
static void client_name(struct milter *m, struct str host)
{
    static const struct {
        const char *word;
        enum rdns_state state;
    } words[] = {{"OK", RDNS_OK}, {"FORGED", RDNS_FORGED}, {"TEMP", RDNS_TEMP}, {"FAIL", RDNS_FAIL}};
    struct str resolve = milter_macro(m, MACRO_CLIENT_RESOLVE), ptr = milter_macro(m, MACRO_CLIENT_PTR),
               peer = milter_macro(m, MACRO_PEER);
    struct str rest = peer, first = str_word(&rest);
    enum rdns_state state = str_find(peer, STR("may be forged")) < peer.len ? RDNS_FORGED
                            : is_name(host)                                 ? RDNS_OK
                                                                            : RDNS_FAIL;
    for (size_t i = 0; i < countof(words); i++)
        if (str_equal_nocase(resolve, str_of(words[i].word)))
            state = words[i].state;
    if (!is_name(ptr))
        ptr = is_name(first) ? first : STR("");
    if (state == RDNS_OK && !is_name(host))
        state = RDNS_FAIL;
    rdns_set(&m->client.rdns, state, state == RDNS_OK ? host : ptr);
}

void milter_client(struct milter *m, const struct milter_packet *p)
{
    uint64_t port = 0;
    struct str name = milter_macro(m, MACRO_J);
    bool net = p->of == '4' || p->of == '6';
    struct str ip = net ? ip_of(p->value, &m->scratch) : STR("");
    client_set_ip(&m->client, ip, ip.len ? p->port : 0);
    str_number(milter_macro(m, MACRO_DAEMON_PORT), &port);
    client_set_local(&m->client, ip_of(milter_macro(m, MACRO_DAEMON_ADDR), &m->scratch), (uint16_t)port);
    client_name(m, p->name);
    if (name.len)
        m->conf.hostname = arena_str(&m->life, name);
}

bool milter_client_tls(struct milter *m)
{
    const struct tls_facts *tls = &m->client.tls;
    if (m->client.secure != CLIENT_TLS)
        return false;
    struct str told = arena_print(&m->scratch, "%s %s %.*s", tls->version, tls->cipher, STR_ARGS(tls->subject));
    bool news = !str_equal(told, str_of(m->tls_told));
    text_set(&m->tls_told, told);
    return news;
}

bool milter_client_auth(struct milter *m)
{
    struct client *c = &m->client;
    struct str user = milter_macro(m, MACRO_AUTH_AUTHEN), method = milter_macro(m, MACRO_AUTH_TYPE);
    if (!user.len && !method.len) {
        client_logout(c);
        return false;
    }
    bool known = c->authenticated && str_equal(user, str_of(c->user)) && str_equal(method, str_of(c->method));
    if (!known)
        client_login(c, user, method);
    return !known;
}
