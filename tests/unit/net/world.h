/* world.h - what the tests of net/ stand on: a loop that runs until a claim holds, peers on plain descriptors,
 * certificates made on the spot in a folder of their own. One world per test; world_close demands that no stream and no
 * block is left. */
#ifndef TEST_NET_WORLD_H
#define TEST_NET_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "net/channel.h"
#include "net/dns.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct world {
    struct loop *loop;
    struct task tick, task; /* task: counts the news of the streams */
    struct alarm alarm;
    struct arena arena;
    unsigned news;
    size_t blocks;
    char folder[64];
};
static struct world W;

static inline void world_tick(struct task *t)
{
}
static inline void world_news(struct task *t)
{
    W.news++;
}

static inline uint64_t millis(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void world_step(void)
{
    alarm_set(&W.alarm, &W.tick, loop_now(W.loop) + 10);
    uv_run(loop_uv(W.loop), UV_RUN_ONCE);
}

#define UNTIL_MS(ms, claim)                                                                                            \
    do {                                                                                                               \
        uint64_t deadline_ = millis() + (ms);                                                                          \
        while (!(claim)) {                                                                                             \
            if (millis() > deadline_)                                                                                  \
                fail_msg("not within %d ms: %s", (int)(ms), #claim);                                                   \
            world_step();                                                                                              \
        }                                                                                                              \
    } while (0)
#define UNTIL(claim) UNTIL_MS(10000, claim)
#define FOR_MS(ms)                                                                                                     \
    for (uint64_t end_ = millis() + (ms); millis() < end_;)                                                            \
    world_step()

static inline int world_open(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    memset(&W, 0, sizeof W);
    W.blocks = block_total();
    W.loop = loop_open();
    task_start(&W.tick, W.loop, world_tick);
    task_start(&W.task, W.loop, world_news);
    strcpy(W.folder, "/tmp/net-test-XXXXXX");
    assert_non_null(mkdtemp(W.folder));
    return 0;
}

static inline bool loop_is_lingering(void) /* loop_close has to end these */
{
    return *loop_leaving(W.loop) != NULL;
}

static inline int world_close(void **state)
{
    uint64_t end = millis() + 3000;
    while (stream_count() && !loop_is_lingering() && millis() < end)
        world_step();
    if (stream_count() && !loop_is_lingering())
        fail_msg("%zu streams are left: the loop cannot be closed", stream_count());
    alarm_stop(&W.alarm);
    task_forget(&W.tick);
    task_forget(&W.task);
    loop_close(W.loop);
    arena_reset(&W.arena);
    assert_int_equal(stream_count(), 0);
    assert_int_equal(block_total(), W.blocks);
    block_forget();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", W.folder);
    return system(command);
}
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)

/* Two connected TCP sockets on 127.0.0.1; [0] for a stream, [1] for the test. Their buffers do not grow: how much the kernel would
 * take without a reader is nothing to rely on. */
static inline void tcp_pair(int fds[2])
{
    const int room = 262144;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    assert_int_equal(bind(l, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(l, 1), 0);
    getsockname(l, (struct sockaddr *)&in, &len);
    fds[1] = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&in, sizeof in), 0);
    fds[0] = accept(l, NULL, NULL);
    assert_true(fds[0] >= 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    close(l);
}

static inline struct str in_text(struct stream *s)
{
    return pipe_flat(&s->in, s->in.octets, &W.arena);
}
#define assert_str(s, text)                                                                                            \
    do {                                                                                                               \
        struct str s_ = (s);                                                                                           \
        if (!str_equal(s_, str_of(text)))                                                                              \
            fail_msg("\"%.*s\" is not \"%s\"", STR_ARGS(s_), text);                                                    \
    } while (0)

static inline void say(struct stream *s, const char *text)
{
    pipe_put(&s->out, str_of(text));
    stream_flush(s);
}

/* ---- certificates */

static inline char *in_folder(const char *name)
{
    return (char *)arena_print(&W.arena, "%s/%s", W.folder, name).at;
}

static inline EVP_PKEY *write_key(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    return key;
}

/* names: "DNS:a.example,DNS:*.b.example", or NULL for a CN alone */
static inline void write_certificate(const char *path, EVP_PKEY *key, const char *cn, const char *names)
{
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), rand());
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, name);
    if (names) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
}

static inline struct tls_certificate make_certificate(const char *cn, const char *names)
{
    struct tls_certificate c = {in_folder(arena_print(&W.arena, "%s.pem", cn).at),
                                in_folder(arena_print(&W.arena, "%s.key", cn).at)};
    EVP_PKEY *key = write_key(c.key);
    write_certificate(c.certificate, key, cn, names);
    EVP_PKEY_free(key);
    return c;
}

static inline struct tls *make_server(const char *minimum)
{
    struct tls_certificate c = make_certificate("mx.example", "DNS:mx.example,DNS:*.example.org");
    char error[512] = "";
    struct tls *t = tls_server_open(&(struct tls_settings){&c, 1, .minimum = minimum}, error, sizeof error);
    assert_string_equal(error, "");
    return t;
}

static inline struct tls *make_client(enum tls_verify verify, const char *ca)
{
    char error[512] = "";
    struct tls *t = tls_client_open(&(struct tls_settings){.ca_file = ca}, verify, error, sizeof error);
    assert_string_equal(error, "");
    return t;
}
#endif
