/* tickets.c - the keys that encrypt session tickets (RFC 5077 4, RFC 8446 4.6.1). They belong to the process, not to a TLS context.
 *
 * So a client can resume its session after a reload, a change of the certificate, or an upgrade of the binary. A key encrypts tickets for
 * eight hours and decrypts them for sixteen hours more, which is longer than a session may be resumed. */
#include "net/channel.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

enum { KEYS = 3, SEALS_SECONDS = 8 * 3600 };
static const char head[16] = "sluice tickets 1";

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
    int64_t made; /* seconds since 1970; 0: none */
};
static struct ticket_key keys[KEYS]; /* the first one encrypts, all decrypt */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void make_key(struct ticket_key *k, int64_t now)
{
    must(RAND_bytes(k->name, sizeof k->name) == 1 && RAND_bytes(k->cipher, sizeof k->cipher) == 1 &&
         RAND_bytes(k->mac, sizeof k->mac) == 1);
    k->made = now;
}

static struct ticket_key sealing(void) /* under the lock */
{
    int64_t now = (int64_t)time(NULL);
    int64_t age = now - keys[0].made;
    if (age < 0 || age >= SEALS_SECONDS) {
        memmove(keys + 1, keys, (KEYS - 1) * sizeof *keys);
        make_key(&keys[0], now);
    }
    return keys[0];
}

static int find(const unsigned char *name, struct ticket_key *k) /* called under the lock; -1: unknown, or too old */
{
    int64_t now = (int64_t)time(NULL);
    for (int i = 0; i < KEYS; i++)
        if (keys[i].made && now - keys[i].made < KEYS * (int64_t)SEALS_SECONDS && memcmp(keys[i].name, name, 16) == 0) {
            *k = keys[i];
            return i;
        }
    return -1;
}

static bool use(const struct ticket_key *k, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                int encrypt)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)k->mac, sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv, encrypt) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* Returns as OpenSSL requires: 1: the ciphers are set up; 2: the same, and the client gets a new ticket; 0: unknown key; -1: failed. */
int tickets_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                int encrypt)
{
    struct ticket_key k = {0};
    int at = 0;
    pthread_mutex_lock(&lock);
    if (encrypt)
        k = sealing();
    else
        at = find(name, &k);
    pthread_mutex_unlock(&lock);
    if (at < 0)
        return 0;
    if (encrypt) {
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        memcpy(name, k.name, sizeof k.name);
    }
    bool good = use(&k, iv, cipher, mac, encrypt);
    OPENSSL_cleanse(&k, sizeof k);
    /* A ticket of TLS 1.3 should be used once (RFC 8446 C.4), so a client that uses one gets a new one. */
    return !good ? -1 : at == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

/* ---- from process to process ---- */

int tls_tickets_pass(void)
{
    int fd = memfd_create("sluice-tickets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    pthread_mutex_lock(&lock);
    bool good =
        write(fd, head, sizeof head) == (ssize_t)sizeof head && write(fd, keys, sizeof keys) == (ssize_t)sizeof keys;
    pthread_mutex_unlock(&lock);
    if (good && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
        return fd;
    close(fd);
    return -1;
}

bool tls_tickets_take(int fd)
{
    struct {
        char head[sizeof head];
        struct ticket_key keys[KEYS];
    } read_in;
    bool good = pread(fd, &read_in, sizeof read_in, 0) == (ssize_t)sizeof read_in &&
                memcmp(read_in.head, head, sizeof head) == 0;
    close(fd);
    if (good) {
        pthread_mutex_lock(&lock);
        memcpy(keys, read_in.keys, sizeof keys);
        pthread_mutex_unlock(&lock);
    }
    OPENSSL_cleanse(&read_in, sizeof read_in);
    return good;
}
