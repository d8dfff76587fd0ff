/* tls_resume.c - resumes TLS sessions with backends: a resumed handshake exchanges no certificates, which saves most of its CPU on both
 * sides.
 *
 * Sessions are cached in the context that made them, so a context with other authorities or another certificate starts without any. Only
 * sessions of accepted handshakes are cached, under the server name that was checked. A ticket is used until the server sends a new one:
 * RFC 8446 C.4 recommends using a ticket once, so that observers cannot link connections of a client, but the address of a gateway is
 * known anyway. */
#include "net/channel.h"
#include <pthread.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

enum { NAMES_MOST = 32 };

struct remembered {
    pthread_mutex_t lock;
    unsigned oldest;
    struct {
        char name[256];
        SSL_SESSION *session; /* NULL: none */
    } at[NAMES_MOST];
};

static pthread_once_t indexes_made = PTHREAD_ONCE_INIT;
static int of_context, of_connection;

static void free_remembered(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    struct remembered *r = value;
    for (size_t i = 0; r && i < NAMES_MOST; i++)
        SSL_SESSION_free(r->at[i].session);
    if (r)
        pthread_mutex_destroy(&r->lock);
    free(r);
}

static void free_name(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    free(value);
}

static void make_indexes(void)
{
    of_context = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_remembered);
    of_connection = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_name);
    must(of_context >= 0 && of_connection >= 0);
}

/* Called under the lock: the index of the sessions of that name, or NAMES_MOST. */
static size_t find(const struct remembered *r, const char *name)
{
    size_t i = 0;
    while (i < NAMES_MOST && !(r->at[i].session && strcmp(r->at[i].name, name) == 0))
        i++;
    return i;
}

static int remember(SSL *ssl, SSL_SESSION *session)
{
    struct remembered *r = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), of_context);
    const char *name = SSL_get_ex_data(ssl, of_connection);
    /* Uses copies of the session, because OpenSSL invalidates the session of a connection that ends without close_notify. */
    SSL_SESSION *copy = r && name && SSL_SESSION_is_resumable(session) ? SSL_SESSION_dup(session) : NULL;
    if (!copy)
        return 0;
    pthread_mutex_lock(&r->lock);
    size_t i = find(r, name);
    if (i == NAMES_MOST) {
        i = r->oldest;
        r->oldest = (r->oldest + 1) % NAMES_MOST;
    }
    SSL_SESSION_free(r->at[i].session);
    r->at[i].session = copy;
    snprintf(r->at[i].name, sizeof r->at[i].name, "%s", name);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

void tls_remember(void *context)
{
    pthread_once(&indexes_made, make_indexes);
    struct remembered *r = must_alloc(sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    must(SSL_CTX_set_ex_data(context, of_context, r) == 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, remember);
}

void tls_resume(void *ssl, const char *name)
{
    struct remembered *r = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), of_context);
    size_t room = strlen(name) + 1;
    if (!r || room == 1 || room > sizeof r->at[0].name)
        return;
    char *kept = must_alloc(room);
    memcpy(kept, name, room);
    must(SSL_set_ex_data(ssl, of_connection, kept) == 1);
    pthread_mutex_lock(&r->lock);
    size_t i = find(r, name);
    SSL_SESSION *copy = i < NAMES_MOST ? SSL_SESSION_dup(r->at[i].session) : NULL;
    pthread_mutex_unlock(&r->lock);
    if (copy)
        SSL_set_session(ssl, copy);
    SSL_SESSION_free(copy);
    ERR_clear_error();
}
