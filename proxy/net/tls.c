/* tls.c - TLS contexts: one SSL_CTX per certificate, all with the same settings, so that a session ticket is valid for every server name.
 *
 * A set of contexts is immutable and shared by all threads; when files change, a new set is made, which new handshakes use. A handshake
 * holds a reference to the first context of its set, which keeps the whole set alive. RFC 8314 3, RFC 7525. Connections are in
 * stream_tls.c. A key with a passphrase is refused with an error message. */
#include "net/channel.h"
#include "base/fault.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct contexts { /* a set, freed with its first context, in whose ex_data it stands */
    size_t count;
    char first_name[256]; /* first DNS name of the first certificate, for clients without SNI; "": it has none */
    SSL_CTX *at[];        /* server: one per certificate, the first is the default */
};

enum { STAMPS_MOST = 2 * 64 + 1 };
struct stamps { /* state of the files, to detect changes */
    size_t count;
    struct tls_stamp {
        dev_t device;
        ino_t file;
        off_t size;
        struct timespec modified, changed;
    } at[STAMPS_MOST];
};

struct tls {
    atomic_uint holders;
    bool server, verify;
    pthread_mutex_t lock; /* protects `first` */
    SSL_CTX *first;       /* the first context of the set for new handshakes */
    struct arena arena;
    struct tls_settings settings; /* a copy */
    /* used by tls_refresh: files as last read, as last read without success, and as found at the last check */
    struct stamps read, tried, seen;
    int64_t expiry_told; /* time of the last warning about expiry, in seconds; at first that of opening, when the loader has checked */
};

static int contexts_index;

/* Ciphers with forward secrecy and AEAD (RFC 9325 4.2). Towards backends CBC is also allowed: an old backend may have nothing else, and with
 * opportunistic TLS the alternative would be plain text. */
#define FOR_CLIENTS "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK:!SRP:!DSS:!AESCCM"
/* AES-128 first, as RFC 9325 4.2 recommends: its handshake uses SHA-256, which costs half of SHA-384. */
#define FOR_CLIENTS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define FOR_BACKENDS FOR_CLIENTS ":ECDHE+AES:DHE+AES"

/* Of the errors in OpenSSL's queue the first one is the cause; later ones come from functions that passed it on. */
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
    FILE *f = fault_strikes(FAULT_FILE) ? NULL : fopen(file, "re");
    struct stat st;
    int saved = errno;
    bool ok = f && fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode);
    if (f)
        fclose(f);
    return ok || refuse(error, room, what, file, f ? "not a file" : strerror(saved));
}

struct paths {
    char chain[4096], key[4096];
};

static struct paths paths_of(const struct tls_certificate *c)
{
    struct paths p;
    struct stat st;
    const char *certificate = c->certificate ? c->certificate : "";
    bool folder = stat(certificate, &st) == 0 && S_ISDIR(st.st_mode);
    snprintf(p.chain, sizeof p.chain, folder ? "%s/fullchain.pem" : "%s", certificate);
    if (c->key)
        snprintf(p.key, sizeof p.key, "%s", c->key);
    else
        snprintf(p.key, sizeof p.key, folder ? "%s/privkey.pem" : "%s", certificate);
    return p;
}

static bool load(SSL_CTX *ctx, const struct tls_certificate *c, char *error, size_t room)
{
    struct paths paths = paths_of(c);
    const char *chain = paths.chain, *key = paths.key;
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

static bool set_up(SSL_CTX *ctx, const struct tls_settings *t, bool server, char *error, size_t room)
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
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    const char *usual = server ? FOR_CLIENTS : FOR_BACKENDS;
    if (SSL_CTX_set_cipher_list(ctx, t->ciphers ? t->ciphers : usual) != 1)
        return refuse(error, room, "ciphers", t->ciphers ? t->ciphers : "", "no cipher of this list is known");
    if (server)
        must(SSL_CTX_set_ciphersuites(ctx, FOR_CLIENTS_13) == 1);
    if (t->ca_file) {
        if (!readable("ca_file", t->ca_file, error, room))
            return false;
        if (SSL_CTX_load_verify_file(ctx, t->ca_file) != 1)
            return refuse(error, room, "ca_file", t->ca_file, "no certificate in it");
    }
    return true;
}

static void free_contexts(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long l, void *p)
{
    struct contexts *set = data;
    for (size_t i = 1; set && i < set->count; i++)
        SSL_CTX_free(set->at[i]);
    free(set);
}

static void make_index(void)
{
    must((contexts_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_contexts)) >= 0);
}

static struct contexts *make(size_t count, bool server)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_index);
    struct contexts *set = must_alloc(sizeof *set + count * sizeof(SSL_CTX *));
    set->count = count;
    for (size_t i = 0; i < count; i++)
        must((set->at[i] = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())) != NULL);
    must(SSL_CTX_set_ex_data(set->at[0], contexts_index, set) == 1);
    return set;
}

static bool is_for(const SSL_CTX *ctx, const char *name, bool wild)
{
    unsigned flags = wild ? X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS : X509_CHECK_FLAG_NO_WILDCARDS;
    X509 *x = SSL_CTX_get0_certificate(ctx);
    return x && X509_check_host(x, name, 0, flags, NULL) == 1;
}

/* Certificates of the same name with keys of other kinds (RSA beside EC): OpenSSL chooses what the client can use. The
 * first of a kind counts. */
static void add_other_kinds(SSL *ssl, const struct contexts *set, size_t chosen, const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        STACK_OF(X509) *chain = NULL;
        if (i == chosen || (!is_for(set->at[i], name, false) && !is_for(set->at[i], name, true)))
            continue;
        SSL_CTX_get0_chain_certs(set->at[i], &chain);
        SSL_use_cert_and_key(ssl, SSL_CTX_get0_certificate(set->at[i]), SSL_CTX_get0_privatekey(set->at[i]), chain, 0);
        ERR_clear_error(); /* there is one of that kind already */
    }
}

/* An exact name takes precedence over a wildcard, an earlier certificate over a later one. */
static int pick(SSL *ssl, int *alert, void *data)
{
    const struct contexts *set = data;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    size_t chosen = 0;
    bool found = false;
    for (int wild = 0; name && wild < 2 && !found; wild++)
        for (size_t i = 0; i < set->count && !found; i++)
            if (is_for(set->at[i], name, wild)) {
                chosen = i;
                found = true;
            }
    if (chosen)
        SSL_set_SSL_CTX(ssl, set->at[chosen]);
    if (set->count > 1)
        add_other_kinds(ssl, set, chosen, found ? name : set->first_name);
    return name ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static void note_first_name(struct contexts *set)
{
    X509 *x = SSL_CTX_get0_certificate(set->at[0]);
    GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !*set->first_name; i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(names, i);
        if (one->type == GEN_DNS)
            snprintf(set->first_name, sizeof set->first_name, "%.*s", ASN1_STRING_length(one->d.dNSName),
                     (const char *)ASN1_STRING_get0_data(one->d.dNSName));
    }
    GENERAL_NAMES_free(names);
    if (x && !*set->first_name)
        X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, set->first_name, sizeof set->first_name);
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
    return 1; /* accept an optional certificate; filters check tls_facts.verified */
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
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       required ? NULL : look_on);
}

/* Ties tickets to the settings for client certificates, so that a session of one listener is not resumed at another with stricter ones. */
static void name_sessions(SSL_CTX *ctx, const struct tls_settings *t)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    struct stat st = {0};
    char text[8192];
    if (t->ca_file)
        stat(t->ca_file, &st);
    int n = snprintf(text, sizeof text, "sluice\n%d\n%s\n%s\n%s %lld %lld", (int)t->client,
                     t->minimum ? t->minimum : "", t->ciphers ? t->ciphers : "", t->ca_file ? t->ca_file : "",
                     (long long)st.st_size, (long long)st.st_mtime);
    must(EVP_Digest(text, min_size((size_t)n, sizeof text - 1), digest, &len, EVP_sha256(), NULL) == 1);
    must(SSL_CTX_set_session_id_context(ctx, digest, SSL_MAX_SID_CTX_LENGTH) == 1);
}

static SSL_CTX *open_server(const struct tls_settings *settings, char *error, size_t room)
{
    struct contexts *set = make(settings->ncertificates, true);
    for (size_t i = 0; i < set->count; i++) {
        SSL_CTX *ctx = set->at[i];
        if (!set_up(ctx, settings, true, error, room) || !load(ctx, &settings->certificates[i], error, room)) {
            SSL_CTX_free(set->at[0]);
            return NULL;
        }
        SSL_CTX_set_dh_auto(ctx, 1);
        /* Tickets carry the session, so the memory of sessions is with the clients. One ticket: nobody dials us twice
         * at once with both, and each costs a record. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ctx, 1);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tickets_key);
        name_sessions(ctx, settings);
        SSL_CTX_set_tlsext_servername_callback(ctx, pick);
        SSL_CTX_set_tlsext_servername_arg(ctx, set);
        SSL_CTX_set_alpn_select_cb(ctx, agree, NULL);
        ask_clients(ctx, settings);
    }
    note_first_name(set);
    return set->at[0];
}

static SSL_CTX *open_client(const struct tls_settings *settings, bool verify, char *error, size_t room)
{
    SSL_CTX *ctx = make(1, false)->at[0];
    bool ok = set_up(ctx, settings, false, error, room);
    if (ok && settings->ncertificates)
        ok = load(ctx, &settings->certificates[0], error, room);
    if (!ok) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    /* Not SSL_CTX_set_default_verify_paths: its third source reads through the whole folder for each unknown issuer. */
    if (!settings->ca_file) {
        SSL_CTX_set_default_verify_file(ctx);
        SSL_CTX_set_default_verify_dir(ctx);
    }
    ERR_clear_error();
    tls_remember(ctx);
    SSL_CTX_set_verify(ctx, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return ctx;
}

/* ---- opening, and reading again ---- */

static void stamp(struct stamps *to, const char *path)
{
    struct stat st = {0};
    struct tls_stamp one;
    memset(&one, 0, sizeof one);
    if (to->count == STAMPS_MOST || stat(path, &st) != 0)
        st = (struct stat){0};
    one.device = st.st_dev;
    one.file = st.st_ino;
    one.size = st.st_size;
    one.modified = st.st_mtim;
    one.changed = st.st_ctim;
    if (to->count < STAMPS_MOST)
        to->at[to->count++] = one;
}

static void stamps_take(struct stamps *to, const struct tls_settings *t)
{
    memset(to, 0, sizeof *to);
    for (size_t i = 0; i < t->ncertificates; i++) {
        struct paths p = paths_of(&t->certificates[i]);
        stamp(to, p.chain);
        stamp(to, p.key);
    }
    if (t->ca_file)
        stamp(to, t->ca_file);
}

static bool same(const struct stamps *a, const struct stamps *b)
{
    return a->count == b->count && memcmp(a->at, b->at, a->count * sizeof *a->at) == 0;
}

static const char *keep_text(struct tls *t, const char *text)
{
    return text ? arena_str(&t->arena, str_of(text)).at : NULL;
}

static SSL_CTX *read_files(const struct tls *t, char *error, size_t room)
{
    return t->server ? open_server(&t->settings, error, room) : open_client(&t->settings, t->verify, error, room);
}

static struct tls *open_tls(const struct tls_settings *settings, bool server, bool verify, char *error, size_t room)
{
    struct tls *t = must_alloc(sizeof *t);
    atomic_init(&t->holders, 1);
    pthread_mutex_init(&t->lock, NULL);
    t->server = server;
    t->verify = verify;
    t->settings = *settings;
    t->settings.minimum = keep_text(t, settings->minimum);
    t->settings.ciphers = keep_text(t, settings->ciphers);
    t->settings.ca_file = keep_text(t, settings->ca_file);
    struct tls_certificate *copy =
        arena_alloc(&t->arena, max_size(settings->ncertificates, 1) * sizeof(struct tls_certificate));
    for (size_t i = 0; i < settings->ncertificates; i++)
        copy[i] = (struct tls_certificate){keep_text(t, settings->certificates[i].certificate),
                                           keep_text(t, settings->certificates[i].key)};
    t->settings.certificates = copy;
    stamps_take(&t->read, &t->settings); /* before reading, so that a change during it is noticed at the next check */
    t->seen = t->read;
    t->expiry_told = (int64_t)time(NULL);
    t->first = read_files(t, error, room);
    if (t->first)
        return t;
    tls_drop(t);
    return NULL;
}

struct tls *tls_server_open(const struct tls_settings *settings, char *error, size_t room)
{
    if (settings->ncertificates)
        return open_tls(settings, true, false, error, room);
    snprintf(error, room, "no certificate is given");
    return NULL;
}

struct tls *tls_client_open(const struct tls_settings *settings, enum tls_verify verify, char *error, size_t room)
{
    return open_tls(settings, false, verify == TLS_VERIFIED, error, room);
}

bool tls_is_readable(const struct tls *t, char *error, size_t room)
{
    for (size_t i = 0; i < t->settings.ncertificates; i++) {
        struct paths p = paths_of(&t->settings.certificates[i]);
        if (!readable("certificate", p.chain, error, room) || !readable("key", p.key, error, room))
            return false;
    }
    return !t->settings.ca_file || readable("ca_file", t->settings.ca_file, error, room);
}

int64_t tls_expires(struct tls *t, char *file, size_t room)
{
    int64_t first = INT64_MAX;
    pthread_mutex_lock(&t->lock);
    SSL_CTX *ctx = t->first;
    SSL_CTX_up_ref(ctx);
    pthread_mutex_unlock(&t->lock);
    const struct contexts *set = SSL_CTX_get_ex_data(ctx, contexts_index);
    for (size_t i = 0; set && i < set->count; i++) {
        struct tm tm;
        X509 *x = SSL_CTX_get0_certificate(set->at[i]);
        int64_t ends = x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
        if (ends >= first)
            continue;
        first = ends;
        snprintf(file, room, "%s", paths_of(&t->settings.certificates[i]).chain);
    }
    SSL_CTX_free(ctx);
    return first == INT64_MAX ? 0 : first;
}

bool tls_expiry_is_due(struct tls *t, char *file, size_t room)
{
    int64_t now = (int64_t)time(NULL);
    if (now < t->expiry_told + 86400)
        return false;
    t->expiry_told = now;
    int64_t ends = tls_expires(t, file, room);
    return ends && ends <= now + TLS_EXPIRY_WARNING;
}

enum tls_news tls_refresh(struct tls *t, char *error, size_t room)
{
    struct stamps now;
    stamps_take(&now, &t->settings);
    bool still = same(&now, &t->seen);
    t->seen = now;
    if (!still || same(&now, &t->read) || same(&now, &t->tried))
        return TLS_AS_IT_WAS;
    SSL_CTX *next = read_files(t, error, room);
    if (!next) {
        t->tried = now;
        return TLS_UNFIT;
    }
    t->read = now;
    memset(&t->tried, 0, sizeof t->tried);
    pthread_mutex_lock(&t->lock);
    SSL_CTX *old = t->first;
    t->first = next;
    pthread_mutex_unlock(&t->lock);
    SSL_CTX_free(old);
    return TLS_RENEWED;
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
    SSL_CTX_free(t->first);
    arena_reset(&t->arena);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void *tls_new_ssl(struct tls *t, bool server, const char *name)
{
    must(t->server == server);
    pthread_mutex_lock(&t->lock);
    SSL_CTX *ctx = t->first;
    SSL_CTX_up_ref(ctx);
    pthread_mutex_unlock(&t->lock);
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    must(ssl != NULL);
    if (fault_strikes(FAULT_TLS)) {
        SSL_free(ssl);
        return NULL;
    }
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
    if (ok) {
        tls_resume(ssl, named ? name : "");
        return ssl;
    }
    SSL_free(ssl);
    return NULL;
}
