/* stream_tls.c - the TLS state of a channel: OpenSSL with a BIO of our own that reads and writes TLS records.
 *
 * The BIO reads directly from the current read and writes into a pipe. A memory BIO would keep the memory of a record for each idle
 * session. Octets are decrypted into one shared block, and encrypted only while there is room for records, so both directions are bounded.
 * The error queue of OpenSSL is cleared before each call: a thread has only one, and an old entry of one peer would fail another. */
#include "net/channel.h"
#include <pthread.h>
#include <time.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static BIO_METHOD *method;
static pthread_once_t method_made = PTHREAD_ONCE_INIT;

/* ---- the BIO */

static int take_records(BIO *bio, char *to, int room)
{
    struct tls_end *e = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (room <= 0)
        return 0;
    size_t n = min_size(e->in.octets, (size_t)room);
    if (n) {
        pipe_peek(&e->in, 0, to, n);
        pipe_drop(&e->in, n);
        return (int)n;
    }
    n = min_size(e->window.len, (size_t)room);
    if (n) {
        memcpy(to, e->window.at, n);
        e->window = str_part(e->window, n, e->window.len);
        return (int)n;
    }
    if (e->wire_ended)
        return 0;
    BIO_set_retry_read(bio);
    return -1;
}

static int put_records(BIO *bio, const char *from, int n)
{
    struct tls_end *e = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    pipe_copy(&e->out, from, (size_t)n);
    return n;
}

static long control(BIO *bio, int what, long number, void *ptr)
{
    struct tls_end *e = BIO_get_data(bio);
    switch (what) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return e->wire_ended && !e->in.octets && !e->window.len;
    default: return 0;
    }
}

static int create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void make_method(void)
{
    method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "pipes");
    must(method != NULL);
    BIO_meth_set_read(method, take_records);
    BIO_meth_set_write(method, put_records);
    BIO_meth_set_ctrl(method, control);
    BIO_meth_set_create(method, create);
}

/* ---- failing */

static void fail(struct channel *c, const char *text)
{
    c->end->failed = true;
    channel_die(c, FAILURE_TLS, str_of(text));
    pipe_clear(&c->s.out);
}

static void fail_of_ssl(struct channel *c)
{
    SSL *ssl = c->end->ssl;
    unsigned long code = ERR_peek_error();
    long verdict = SSL_get_verify_result(ssl);
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (code && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        reason = X509_verify_cert_error_string(verdict);
    else if (!reason && c->end->wire_ended)
        reason =
            c->s.tls == STREAM_HANDSHAKE ? "the peer closed the connection during the handshake" : "the peer closed it";
    fail(c, reason ? reason : "unknown error");
    ERR_clear_error();
    channel_send(c); /* the alert */
}

/* ---- the handshake */

static bool begin(struct channel *c)
{
    struct tls_end *e = c->end;
    if (!c->s.connected || !pipe_is_empty(&c->s.out) || c->in_flight)
        return false;
    ERR_clear_error();
    e->waiting = false;
    c->s.tls = STREAM_HANDSHAKE;
    e->ssl = tls_new_ssl(e->tls, e->server, e->name);
    if (!e->ssl) {
        fail(c, "the name to verify is none");
        return false;
    }
    pthread_once(&method_made, make_method);
    BIO *bio = BIO_new(method);
    must(bio != NULL);
    BIO_set_data(bio, e);
    SSL_set_bio(e->ssl, bio, bio);
    return true;
}

static void shake(struct channel *c)
{
    struct tls_end *e = c->end;
    size_t before = e->in.octets + e->window.len;
    ERR_clear_error();
    int r = SSL_do_handshake(e->ssl);
    e->handshake += before - e->in.octets - e->window.len;
    if (r == 1) {
        c->s.tls = STREAM_TLS;
        channel_wake(c);
        return;
    }
    int why = SSL_get_error(e->ssl, r);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail_of_ssl(c);
    else if (e->wire_ended)
        fail_of_ssl(c);
    else if (e->handshake > HANDSHAKE_MOST)
        fail(c, "the handshake is too long");
}

/* ---- the octets */

/* Decrypts records into the plain block. False: the available records give no more octets. */
static bool decrypt_block(struct channel *c)
{
    struct tls_end *e = c->end;
    struct block *b = loop_plain_block(c->loop);
    size_t have = 0, n;
    int r = 1;
    while (have < b->size) {
        ERR_clear_error();
        r = SSL_read_ex(e->ssl, b->octets + have, b->size - have, &n);
        if (r != 1)
            break;
        have += n;
    }
    int why = r == 1 ? SSL_ERROR_NONE : SSL_get_error(e->ssl, r);
    if (have) {
        loop_give_plain(c->loop, &c->s.in, have);
        channel_wake(c);
    }
    if (why == SSL_ERROR_NONE)
        return true;
    if (why == SSL_ERROR_ZERO_RETURN) { /* close_notify, or the end of the wire */
        c->s.ended = c->s.in.ended = true;
        pipe_clear(&e->in);
        e->window = STR_NONE;
        channel_wake(c);
    } else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        fail_of_ssl(c);
    }
    return false;
}

static void decrypt(struct channel *c)
{
    while (!c->s.dead && !c->s.ended && !pipe_is_full(&c->s.in))
        if (!decrypt_block(c))
            return;
    if (c->s.ended) /* octets after close_notify are ignored */
        c->end->window = STR_NONE;
}

/* Long spans are encrypted without a copy; short ones are joined first, because each record costs 22 octets and an encryption. */
static void encrypt(struct channel *c)
{
    struct tls_end *e = c->end;
    struct pipe *out = &c->s.out;
    while (!c->s.dead && out->octets && !pipe_is_full(&e->out)) {
        char joined[RECORD_MOST];
        size_t n = min_size(out->octets, RECORD_MOST), done;
        const char *at = out->first->at;
        if (out->first->len >= RECORD_MOST / 2) {
            n = min_size(out->first->len, RECORD_MOST);
        } else if (out->first->len < n) {
            pipe_peek(out, 0, joined, n);
            at = joined;
        }
        ERR_clear_error();
        int r = SSL_write_ex(e->ssl, at, n, &done);
        if (r != 1) {
            int why = SSL_get_error(e->ssl, r);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
                fail_of_ssl(c);
            return;
        }
        pipe_drop(out, done);
    }
}

void end_pump(struct channel *c)
{
    struct tls_end *e = c->end;
    if (c->s.dead || e->failed || (c->leave != STAYS && c->s.tls != STREAM_TLS) || (e->waiting && !begin(c)))
        return;
    if (c->s.tls == STREAM_HANDSHAKE)
        shake(c);
    if (c->s.tls == STREAM_TLS) {
        if (c->leave == STAYS)
            decrypt(c);
        if (!e->shut)
            encrypt(c);
    }
    channel_send(c);
}

/* ---- start and end of TLS */

static void start(struct stream *s, struct tls *tls, bool server, bool behind, struct str name)
{
    struct channel *c = channel_of(s);
    must(!c->end && s->tls == STREAM_PLAIN);
    must(behind || pipe_is_empty(&s->in)); /* RFC 3207 4.2: octets received before TLS must not be taken as received over TLS */
    if (s->dead)
        return;
    struct tls_end *e = c->end = must_alloc(sizeof *e);
    e->channel = c;
    e->tls = tls_hold(tls);
    e->server = server;
    e->waiting = true;
    e->wire_ended = c->wire_ended;
    e->in.mark = e->out.mark = PIPE_MARK;
    pipe_move(&s->in, &e->in, s->in.octets);
    if (!server) {
        if (name.len && name.at[name.len - 1] == '.')
            name.len--;
        e->name = must_alloc(name.len + 1);
        if (name.len)
            memcpy(e->name, name.at, name.len);
    }
    if (s->connected)
        channel_progress(c);
}

void stream_tls_server(struct stream *s, struct tls *tls)
{
    start(s, tls, true, false, STR_NONE);
}

void stream_tls_behind(struct stream *s, struct tls *tls)
{
    start(s, tls, true, true, STR_NONE);
}

void stream_tls_client(struct stream *s, struct tls *tls, struct str server_name)
{
    start(s, tls, false, false, server_name);
}

void end_shut(struct channel *c)
{
    struct tls_end *e = c->end;
    if (e->shut || e->failed || c->s.tls != STREAM_TLS)
        return;
    e->shut = true;
    ERR_clear_error();
    SSL_shutdown(e->ssl);
    ERR_clear_error();
}

bool end_is_empty(const struct channel *c)
{
    const struct tls_end *e = c->end;
    return !e || (!e->in.octets && !e->window.len && !(e->ssl && SSL_has_pending(e->ssl)));
}

void end_free(struct channel *c)
{
    struct tls_end *e = c->end;
    if (!e)
        return;
    SSL_free(e->ssl);
    tls_drop(e->tls);
    pipe_clear(&e->in);
    pipe_clear(&e->out);
    free(e->name);
    free(e);
    c->end = NULL;
}

static bool is_verified(SSL *ssl)
{
    return SSL_get0_peer_certificate(ssl) && SSL_get_verify_result(ssl) == X509_V_OK;
}

static struct str name_text(X509_NAME *name, struct arena *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct str text = STR("");
    char *at;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
        long n = BIO_get_mem_data(bio, &at);
        text = arena_str(arena, (struct str){at, min_size((size_t)n, 1000)});
    }
    BIO_free(bio);
    return text;
}

static struct str common_name(X509_NAME *name, struct arena *arena)
{
    struct str text = STR("");
    unsigned char *utf8;
    int at = -1;
    for (int next; (next = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;)
        at = next;
    int n = at < 0 ? -1 : ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (n >= 0) {
        text = arena_str(arena, (struct str){(const char *)utf8, min_size((size_t)n, 255)});
        OPENSSL_free(utf8);
    }
    return text;
}

static void certificate_facts(X509 *x, struct arena *arena, struct tls_facts *facts)
{
    unsigned char digest[32];
    unsigned n = sizeof digest;
    if (!x || X509_digest(x, EVP_sha256(), digest, &n) != 1)
        return;
    char *hex = arena_space(arena, 2 * n + 1);
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    facts->fingerprint = (struct str){hex, 2 * n};
    facts->subject = name_text(X509_get_subject_name(x), arena);
    facts->common_name = common_name(X509_get_subject_name(x), arena);
    facts->issuer = name_text(X509_get_issuer_name(x), arena);
}

bool stream_tls_facts(const struct stream *s, struct tls_facts *facts)
{
    struct channel *c = channel_of(s);
    const struct str none = STR("");
    *facts = (struct tls_facts){.sni = none, .alpn = none, .subject = none, .issuer = none, .fingerprint = none,
                                .common_name = none};
    if (s->tls != STREAM_TLS)
        return false;
    SSL *ssl = c->end->ssl;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const unsigned char *alpn = NULL;
    unsigned len = 0;
    facts->version = SSL_get_version(ssl);
    facts->cipher = cipher ? SSL_CIPHER_get_name(cipher) : "";
    facts->bits = cipher ? SSL_CIPHER_get_bits(cipher, NULL) : 0;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name)
        facts->sni = str_of(name);
    SSL_get0_alpn_selected(ssl, &alpn, &len);
    if (len)
        facts->alpn = (struct str){(const char *)alpn, len};
    certificate_facts(SSL_get0_peer_certificate(ssl), &c->arena, facts);
    facts->verified = is_verified(ssl);
    X509 *peer = SSL_get0_peer_certificate(ssl);
    struct tm end;
    if (peer && ASN1_TIME_to_tm(X509_get0_notAfter(peer), &end) == 1)
        facts->expires = (int64_t)timegm(&end);
    if (peer && !facts->verified)
        facts->doubt = X509_verify_cert_error_string(SSL_get_verify_result(ssl));
    facts->resumed = SSL_session_reused(ssl) == 1;
    return true;
}
