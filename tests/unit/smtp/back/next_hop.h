/* next_hop.h - a delivery without a front, before a backend whose every word the test says: real sockets on loopback, one thread.
 *
 * hop_begin makes it; `hop_says` and `hop_hears` are the backend's side, in the order the test writes them; hop_end demands that nothing
 * is left. */
#ifndef TEST_BACK_NEXT_HOP_H
#define TEST_BACK_NEXT_HOP_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include "mail/call.h"
#include "net/channel.h"
#include "smtp/back/backend.h"

enum { HOPS = 2, HEARD_ROOM = 65536, PATIENCE = 5000 /* milliseconds until a test gives up */ };
struct next_hop_test {
    struct worker worker;
    struct generation generation;
    struct smtp_conf conf;
    struct backend_conf backends[HOPS];
    struct server_conf servers[HOPS];
    struct listen_conf listen;
    struct chain chain;
    struct task task, owner;
    struct client client;
    struct visit visit;
    struct message message;
    struct delivery delivery;
    struct arena life, scratch, texts;
    int listener[HOPS], peer; /* peer: the connection the test speaks on; -1: none */
    char heard[HEARD_ROOM];
    size_t nheard;
};
static struct next_hop_test H;

static void hop_woken(struct task *t)
{
}

static inline uint64_t hop_now(void)
{
    return uv_hrtime() / 1000000;
}

/* One turn of the front's: what has come is settled, what was said leaves. */
static inline void hop_turn(void)
{
    uv_run(loop_uv(H.worker.mail.loop), UV_RUN_NOWAIT);
    delivery_settle(&H.delivery);
    delivery_flush(&H.delivery);
    uv_run(loop_uv(H.worker.mail.loop), UV_RUN_NOWAIT);
    poll(NULL, 0, 1);
}

static inline void hop_listen(unsigned i)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    const char *why;
    H.listener[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(H.listener[i], (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(H.listener[i], 8), 0);
    assert_int_equal(getsockname(H.listener[i], (struct sockaddr *)&at, &len), 0);
    H.servers[i].weight = 1;
    assert_true(address_parse(arena_print(&H.texts, "127.0.0.1:%u", ntohs(at.sin_port)), &H.texts, &H.servers[i].address, &why));
    H.backends[i] = (struct backend_conf){.hop.name = i ? STR("other") : STR("main"), .index = i, .servers = &H.servers[i], .nservers = 1,
                                          .address = H.servers[i].address, .tls_name = STR(""), .helo = STR("mx.test"), .pool = 4,
                                          .pool_uses = 100, .wait = 1000, .rise = 1, .fall = 2, .chunking = true};
}

static inline void hop_begin(void)
{
    memset(&H, 0, sizeof H);
    H.peer = -1;
    H.worker.mail.loop = loop_open();
    H.worker.generation = &H.generation;
    for (unsigned i = 0; i < HOPS; i++)
        hop_listen(i);
    for (uint64_t *t = (uint64_t *)&H.conf.timeouts; t < (uint64_t *)(&H.conf.timeouts + 1); t++)
        *t = 60000;
    H.conf.backends = H.backends;
    H.conf.nbackends = HOPS;
    H.conf.workers = 1;
    H.chain = (struct chain){.name = STR("c")};
    H.listen = (struct listen_conf){.visit = {.name = STR("in"), .hostname = STR("mx.test"), .chain = &H.chain,
                                              .limits = {.header_size = 262144, .hold_memory = 262144, .held = 1 << 30}},
                                    .backend = &H.backends[0], .timeouts = H.conf.timeouts};
    H.generation = (struct generation){.worker = &H.worker, .conf = &H.conf};
    H.generation.pools = must_alloc(HOPS * sizeof(struct pool *));
    task_start(&H.task, H.worker.mail.loop, hop_woken);
    task_start(&H.owner, H.worker.mail.loop, hop_woken);
    filter_set_open(&H.generation.filters, &H.worker.mail, &H.conf.mail, &H.owner);
    filter_set_enter(&H.generation.filters);
    client_start(&H.client);
    client_set_ip(&H.client, STR("192.0.2.1"), 25);
    H.visit = (struct visit){.serial = ++H.worker.mail.serial, .id = "stay", .filters = &H.generation.filters, .conf = &H.listen.visit,
                             .client = &H.client, .outlet = &H.delivery.outlet, .task = &H.task, .life = &H.life, .scratch = &H.scratch,
                             .esmtp = true};
    delivery_start(&H.delivery, &H.visit, &H.generation, &H.listen);
}

/* ---- the client's side, as a front would have it ---- */
static inline void hop_mail(const char *from)
{
    struct message *m = &H.message;
    m->serial = ++H.worker.mail.serial;
    m->number = ++H.visit.messages;
    m->data_when = chain_data_when(&H.chain);
    assert_int_equal(path_from_address(str_of(from), PATH_REVERSE, &m->arena, &m->from), 0);
    headers_start(&m->headers, &m->arena);
    H.visit.message = m;
    delivery_message_start(&H.delivery);
}

static inline struct rcpt *hop_add(const char *to, bool by_filter, bool needed)
{
    struct message *m = &H.message;
    struct path path;
    assert_int_equal(path_from_address(str_of(to), PATH_FORWARD, &m->arena, &path), 0);
    struct rcpt *r = message_rcpt(m);
    *r = (struct rcpt){.path = path, .fate = by_filter ? FATE_PASSED : FATE_HELD, .needed = needed};
    if (by_filter)
        r->added_by = STR("f");
    else
        m->named++;
    return r;
}

static inline uint32_t hop_rcpt(const char *to)
{
    uint32_t i = H.message.nrcpts;
    hop_add(to, false, false);
    delivery_ask(&H.delivery, i);
    return i;
}

/* Turns until the recipient is final: the code of its reply. */
static inline unsigned hop_told(uint32_t i)
{
    for (uint64_t until = hop_now() + PATIENCE; !H.message.rcpts[i].reply.code; hop_turn())
        assert_true(hop_now() < until);
    return H.message.rcpts[i].reply.code;
}

/* DATA, as a front waits for it: the code the client would hear. */
static inline unsigned hop_data(void)
{
    struct reply r;
    enum delivery_says says;
    for (uint64_t until = hop_now() + PATIENCE; (says = delivery_data(&H.delivery, &r)) == DELIVERY_WAITS; hop_turn())
        assert_true(hop_now() < until);
    assert_int_equal(says == DELIVERY_GO, r.code == 354);
    return r.code;
}

/* The client's end of mail data. */
static inline void hop_ends(void)
{
    H.message.flow.content.ended = true;
    H.message.end_at_ms = loop_now(H.worker.mail.loop);
}

/* The whole content, judged, given to the backend; true: our end was said. */
static inline bool hop_content(const char *text)
{
    struct message *m = &H.message;
    flow_start(&H.visit);
    pipe_put(&m->flow.content, str_of(text));
    hop_ends();
    for (uint64_t until = hop_now() + PATIENCE; hop_now() < until; hop_turn()) {
        if (content_is_dropped(m))
            return false;
        if (!flow_judge(&H.visit))
            continue;
        delivery_open(&H.delivery);
        if (delivery_is_open(&H.delivery) && delivery_send(&H.delivery)) {
            delivery_release(&H.delivery);
            hop_turn();
            return m->fate == MESSAGE_RELEASED;
        }
    }
    fail_msg("the content has not left");
    return false;
}

/* What the client hears of a message whose end was said. */
static inline unsigned hop_end_reply(void)
{
    for (uint64_t until = hop_now() + PATIENCE; !H.message.end_reply.code; hop_turn())
        assert_true(hop_now() < until);
    return H.message.end_reply.code;
}

/* ---- the backend's side ---- */
static inline void hop_says(const char *text)
{
    assert_int_equal(write(H.peer, text, strlen(text)), (ssize_t)strlen(text));
    for (int i = 0; i < 5; i++)
        hop_turn();
}

/* Exactly this comes next, and nothing behind it for now. */
static inline void hop_hears(const char *text)
{
    size_t n = strlen(text);
    for (uint64_t until = hop_now() + PATIENCE; H.nheard < n && hop_now() < until; hop_turn()) {
        ssize_t got = read(H.peer, H.heard + H.nheard, sizeof H.heard - 1 - H.nheard);
        H.nheard += got > 0 ? (size_t)got : 0;
    }
    for (int i = 0; i < 3; i++) { /* time for what should not come */
        hop_turn();
        ssize_t got = read(H.peer, H.heard + H.nheard, sizeof H.heard - 1 - H.nheard);
        H.nheard += got > 0 ? (size_t)got : 0;
    }
    H.heard[H.nheard] = 0;
    assert_string_equal(H.heard, text);
    H.nheard = 0;
}

static inline bool hop_is_closed(void)
{
    char octet;
    for (uint64_t until = hop_now() + 500; hop_now() < until; hop_turn())
        if (read(H.peer, &octet, 1) == 0 || (errno != EAGAIN && errno != EINTR))
            return true;
    return false;
}

/* The backend's next connection: banner, EHLO, and what it offers ("" : nothing but its name). */
static inline void hop_accept(unsigned i, const char *offers)
{
    char text[400];
    if (H.peer >= 0)
        close(H.peer);
    H.peer = -1;
    for (uint64_t until = hop_now() + PATIENCE; H.peer < 0; hop_turn()) {
        assert_true(hop_now() < until);
        H.peer = accept4(H.listener[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    hop_says("220 b\r\n");
    hop_hears(H.backends[i].protocol == SPEAKS_LMTP ? "LHLO mx.test\r\n" : "EHLO mx.test\r\n");
    snprintf(text, sizeof text, "250%cb\r\n%s%s%s", *offers ? '-' : ' ', *offers && !strstr(offers, "\r\n") ? "250 " : *offers ? "250-" : "", offers, *offers ? "\r\n" : "");
    hop_says(text);
}

static inline void hop_lose(void)
{
    close(H.peer);
    H.peer = -1;
    for (int i = 0; i < 5; i++)
        hop_turn();
}

static inline void hop_message_end(void)
{
    visit_stop(&H.visit, CANCEL_CLIENT_GONE);
    visit_reset(&H.visit);
    delivery_message_end(&H.delivery);
    flow_free(&H.message.flow);
    arena_reset(&H.message.arena);
    memset(&H.message, 0, sizeof H.message);
    H.visit.message = NULL;
}

static inline void hop_end(void)
{
    if (H.visit.message)
        hop_message_end();
    visit_end(&H.visit);
    delivery_close(&H.delivery);
    for (int i = 0; i < HOPS; i++)
        pool_close(&H.generation.pools[i]);
    filter_set_leave(&H.generation.filters);
    filter_set_stop(&H.generation.filters);
    filter_set_free(&H.generation.filters);
    client_end(&H.client);
    task_forget(&H.task);
    task_forget(&H.owner);
    arena_reset(&H.life);
    arena_reset(&H.scratch);
    arena_reset(&H.texts);
    call_forget();
    for (int i = 0; i < 50; i++) /* QUITs leave */
        uv_run(loop_uv(H.worker.mail.loop), UV_RUN_NOWAIT);
    if (H.peer >= 0)
        close(H.peer);
    for (int i = 0; i < HOPS; i++)
        close(H.listener[i]);
    loop_close(H.worker.mail.loop);
    free(H.generation.pools);
    servers_forget();
    block_forget();
    assert_int_equal(arena_total(), 0);
    assert_int_equal(block_total(), 0);
}
#endif
