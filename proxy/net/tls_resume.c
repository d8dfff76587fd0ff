/* tls_resume.c - sessions with backends are taken up again where they were left: the next handshake with the same name needs no
 * certificates, which saves most of its CPU at both ends.
 *
 * They stand with the context that made them, so other authorities or another certificate of ours begin with none; only what a
 * handshake found good is kept, for the name it was found good for. A ticket serves until the next one comes: RFC 8446 C.4 would
 * have it used once, so that nobody on the way can tell two connections to be of one client; everybody knows who we are. */
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

/* Under the lock: where sessions of that name stand, or NAMES_MOST. */
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
    /* Copies, here and there: OpenSSL makes the session itself useless when its connection is closed without ceremony. */
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
