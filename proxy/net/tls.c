/* tls.c - one SSL_CTX per certificate, all with the same settings, so that a session ticket fits whichever name was
 * asked for.
 *
 * A context is immutable once open and shared by all threads; the count is the one thing that moves. RFC 8314 3, RFC
 * 7525. Owns no connection: stream_tls.c does. Never asks for a passphrase: a key that wants one is refused with a
 * sentence. */
#include "net/inside.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct tls {
    atomic_uint holders;
    bool server, verify;
    size_t count;
    SSL_CTX *contexts[]; /* server: one per certificate, the first is the default */
};

#define FORWARD_SECRET                                                                                                 \
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:!aNULL:!PSK:!SRP:!DSS:!AESCCM"

/* OpenSSL stacks its errors: the first is the cause, what lies on it only says which library passed it on. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    return text ? text : "unknown error";
}

static bool refuse(char *error, size_t room, const char *what, const char *file, const char *why)
{
    snprintf(error, room, "%s %s: %s", what, file, why);
    ERR_clear_error();
    return false;
}

static int no_passphrase(char *into, int size, int writing, void *data)
{
    *(bool *)data = true;
    return -1;
}

static bool readable(const char *what, const char *file, char *error, size_t room)
{
    FILE *f = fopen(file, "re");
    struct stat st;
    int saved = errno;
    bool ok = f && fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode);
    if (f)
        fclose(f);
    return ok || refuse(error, room, what, file, f ? "not a file" : strerror(saved));
}

static bool load(SSL_CTX *ctx, const struct tls_certificate *c, char *error, size_t room)
{
    char chain[4096], key[4096];
    struct stat st;
    bool folder = c->certificate && stat(c->certificate, &st) == 0 && S_ISDIR(st.st_mode);
    snprintf(chain, sizeof chain, folder ? "%s/fullchain.pem" : "%s", c->certificate ? c->certificate : "");
    if (c->key)
        snprintf(key, sizeof key, "%s", c->key);
    else
        snprintf(key, sizeof key, folder ? "%s/privkey.pem" : "%s", c->certificate ? c->certificate : "");
    if (!readable("certificate", chain, error, room) || !readable("key", key, error, room))
        return false;
    bool secret = false;
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &secret);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, chain) != 1) {
        bool none = ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE;
        return refuse(error, room, "certificate", chain, none ? "no certificate in it" : reason());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        unsigned long code = ERR_peek_error();
        int why = ERR_GET_REASON(code);
        if (why == X509_R_KEY_VALUES_MISMATCH || why == X509_R_KEY_TYPE_MISMATCH)
            return refuse(error, room, "key", key, "does not match the certificate");
        bool none = why == PEM_R_NO_START_LINE || ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER;
        return refuse(error, room, "key", key, secret ? "is encrypted" : none ? "no private key in it" : reason());
    }
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    return true;
}

static bool set_up(SSL_CTX *ctx, const struct tls_settings *t, char *error, size_t room)
{
    int version = TLS1_2_VERSION;
    if (t->minimum && strcmp(t->minimum, "TLSv1.3") == 0)
        version = TLS1_3_VERSION;
    else if (t->minimum && strcmp(t->minimum, "TLSv1.2") != 0)
        return refuse(error, room, "minimum", t->minimum, "expected TLSv1.2 or TLSv1.3");
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (t->prefer_server)
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (SSL_CTX_set_cipher_list(ctx, t->ciphers ? t->ciphers : FORWARD_SECRET) != 1)
        return refuse(error, room, "ciphers", t->ciphers ? t->ciphers : "", "no cipher of this list is known");
    if (t->ca_file) {
        if (!readable("ca_file", t->ca_file, error, room))
            return false;
        if (SSL_CTX_load_verify_file(ctx, t->ca_file) != 1)
            return refuse(error, room, "ca_file", t->ca_file, "no certificate in it");
    }
    return true;
}

static struct tls *make(size_t count, bool server)
{
    struct tls *t = must_alloc(sizeof *t + count * sizeof(SSL_CTX *));
    atomic_init(&t->holders, 1);
    t->server = server;
    t->count = count;
    for (size_t i = 0; i < count; i++)
        must((t->contexts[i] = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())) != NULL);
    return t;
}

/* A name that is written out goes before a wildcard, the first certificate before later ones. */
static int pick(SSL *ssl, int *alert, void *data)
{
    struct tls *t = data;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    for (int wild = 0; wild < 2; wild++)
        for (size_t i = 0; i < t->count; i++) {
            X509 *x = SSL_CTX_get0_certificate(t->contexts[i]);
            unsigned flags = wild ? X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS : X509_CHECK_FLAG_NO_WILDCARDS;
            if (x && X509_check_host(x, name, 0, flags, NULL) == 1) {
                if (i)
                    SSL_set_SSL_CTX(ssl, t->contexts[i]);
                return SSL_TLSEXT_ERR_OK;
            }
        }
    return SSL_TLSEXT_ERR_OK;
}

static int agree(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned n,
                 void *data)
{
    for (unsigned i = 0; i + 1 <= n && i + 1 + in[i] <= n; i += 1u + in[i])
        if (in[i] == 4 && memcmp(in + i + 1, "smtp", 4) == 0) {
            *out = in + i + 1;
            *len = 4;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_NOACK;
}

static int look_on(int ok, X509_STORE_CTX *store)
{
    return 1; /* an optional certificate is judged by whoever reads tls_facts.verified */
}

static void ask_clients(SSL_CTX *ctx, const struct tls_settings *settings)
{
    if (settings->client == TLS_CLIENT_NONE)
        return;
    bool required = settings->client == TLS_CLIENT_REQUIRED;
    if (settings->ca_file) {
        SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(settings->ca_file));
    } else {
        SSL_CTX_set_default_verify_file(ctx);
        SSL_CTX_set_default_verify_dir(ctx);
        ERR_clear_error();
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), required ? NULL : look_on);
}

struct tls *tls_server_open(const struct tls_settings *settings, char *error, size_t room)
{
    if (!settings->ncertificates) {
        snprintf(error, room, "no certificate is given");
        return NULL;
    }
    struct tls *t = make(settings->ncertificates, true);
    for (size_t i = 0; i < t->count; i++) {
        SSL_CTX *ctx = t->contexts[i];
        if (!set_up(ctx, settings, error, room) || !load(ctx, &settings->certificates[i], error, room)) {
            tls_drop(t);
            return NULL;
        }
        SSL_CTX_set_dh_auto(ctx, 1);
        /* Tickets carry the session, so the memory of sessions is with the clients. One ticket: nobody dials us twice
         * at once with both, and each costs a record. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ctx, 1);
        must(SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"sluice", 6) == 1);
        SSL_CTX_set_tlsext_servername_callback(ctx, pick);
        SSL_CTX_set_tlsext_servername_arg(ctx, t);
        SSL_CTX_set_alpn_select_cb(ctx, agree, NULL);
        ask_clients(ctx, settings);
    }
    return t;
}

struct tls *tls_client_open(const struct tls_settings *settings, enum tls_verify verify, char *error, size_t room)
{
    struct tls *t = make(1, false);
    SSL_CTX *ctx = t->contexts[0];
    t->verify = verify == TLS_VERIFIED;
    bool ok = set_up(ctx, settings, error, room);
    if (ok && settings->ncertificates)
        ok = load(ctx, &settings->certificates[0], error, room);
    if (!ok) {
        tls_drop(t);
        return NULL;
    }
    /* Not SSL_CTX_set_default_verify_paths: its third source reads through the whole folder for each unknown issuer. */
    if (!settings->ca_file) {
        SSL_CTX_set_default_verify_file(ctx);
        SSL_CTX_set_default_verify_dir(ctx);
    }
    ERR_clear_error();
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, t->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return t;
}

struct tls *tls_hold(struct tls *t)
{
    atomic_fetch_add_explicit(&t->holders, 1, memory_order_relaxed);
    return t;
}

void tls_drop(struct tls *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->holders, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < t->count; i++)
        SSL_CTX_free(t->contexts[i]);
    free(t);
}

void *tls_new_ssl(struct tls *t, bool server, const char *name)
{
    must(t->server == server);
    SSL *ssl = SSL_new(t->contexts[0]);
    must(ssl != NULL);
    if (server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    bool named = name && *name;
    bool ip = named && X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    bool ok = named || !t->verify;
    if (named && !ip) { /* RFC 6066 3: no address literal in SNI */
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
    }
    ERR_clear_error();
    if (ok)
        return ssl;
    SSL_free(ssl);
    return NULL;
}
