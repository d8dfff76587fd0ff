/* test_stream_tls.c - TLS on streams: upgrade, bounds, SNI, verification, resumption, and handshakes that go wrong. */
#include "world.h"

struct two {
    struct stream *server, *client;
};

static struct two join(struct tls *server, struct tls *client, const char *name)
{
    int fds[2];
    tcp_pair(fds);
    struct two t = {stream_open(W.loop, fds[0], &W.task), stream_open(W.loop, fds[1], &W.task)};
    if (server)
        stream_tls_server(t.server, server);
    if (client)
        stream_tls_client(t.client, client, str_of(name));
    return t;
}

static void part(struct two *t)
{
    stream_close(&t->client, CLOSE_ABORT);
    stream_close(&t->server, CLOSE_ABORT);
}

static void shaken(struct two *t)
{
    UNTIL((t->server->tls == STREAM_TLS && t->client->tls == STREAM_TLS) || t->server->dead || t->client->dead);
    if (t->server->dead || t->client->dead)
        fail_msg("%.*s / %.*s", STR_ARGS(t->server->why_text), STR_ARGS(t->client->why_text));
}

static void octets_go_both_ways_and_the_end_is_an_end(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    shaken(&t);
    struct tls_facts f;
    assert_true(stream_tls_facts(t.server, &f));
    assert_string_equal(f.version, "TLSv1.3");
    assert_str(f.sni, "mx.example");
    assert_true(f.bits >= 128);
    assert_false(f.verified);
    assert_false(f.resumed);
    say(t.client, "EHLO x\r\n");
    UNTIL(t.server->in.octets == 8);
    assert_str(in_text(t.server), "EHLO x\r\n");
    assert_true(t.server->in.held <= 600);
    pipe_clear(&t.server->in);
    assert_true(stream_in_is_empty(t.server));
    say(t.server, "221 y\r\n");
    stream_close(&t.server, CLOSE_GRACEFUL);
    UNTIL(t.client->ended);
    assert_false(t.client->dead);
    assert_str(in_text(t.client), "221 y\r\n");
    stream_close(&t.client, CLOSE_GRACEFUL);
    UNTIL(stream_count() == 0);
    tls_drop(server);
    tls_drop(client);
}

/* ---- a peer that is plain OpenSSL, in a thread */

struct peer {
    int fd, version;
    const char *sni;
    SSL_SESSION *session;
    char heard[64];
    char cn[64];
    bool shaken, resumed, unclean;
};

static void *be_peer(void *data)
{
    struct peer *p = data;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, p->version);
    SSL_CTX_set_max_proto_version(ctx, p->version);
    /* so that it forgets a ticket of TLS 1.3 once it was used */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, p->fd);
    if (p->sni)
        SSL_set_tlsext_host_name(ssl, p->sni);
    if (p->session)
        SSL_set_session(ssl, p->session);
    if (SSL_connect(ssl) == 1) {
        p->shaken = true;
        p->resumed = SSL_session_reused(ssl);
        X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(ssl)), NID_commonName, p->cn,
                                  sizeof p->cn);
        SSL_write(ssl, "EHLO p\r\n", 8);
        int n = 0, r;
        while (n < (int)sizeof p->heard - 1 && (r = SSL_read(ssl, p->heard + n, (int)sizeof p->heard - 1 - n)) > 0)
            n += r;
        if (p->session)
            SSL_SESSION_free(p->session);
        p->session = SSL_get1_session(ssl);
        if (!p->unclean)
            SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(p->fd);
    return NULL;
}

static void serve_peer(struct tls *server, struct peer *p)
{
    int fds[2];
    pthread_t thread;
    tcp_pair(fds);
    p->fd = fds[1];
    memset(p->heard, 0, sizeof p->heard);
    struct stream *s = stream_open(W.loop, fds[0], &W.task);
    stream_tls_server(s, server);
    pthread_create(&thread, NULL, be_peer, p);
    UNTIL(s->in.octets == 8 || s->dead);
    if (s->dead)
        fail_msg("%.*s", STR_ARGS(s->why_text));
    struct tls_facts f;
    assert_true(stream_tls_facts(s, &f));
    assert_string_equal(f.version, p->version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
    say(s, "250 p\r\n");
    stream_close(&s, CLOSE_GRACEFUL);
    UNTIL_MS(1500, stream_count() == 0); /* the peer closes: no waiting for the clock */
    pthread_join(thread, NULL);
    assert_string_equal(p->heard, "250 p\r\n");
}

static void both_versions_speak_with_openssl_and_resume_by_ticket(void **state)
{
    struct tls *server = make_server(NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer p = {.version = version, .sni = "mx.example"};
        serve_peer(server, &p);
        assert_false(p.resumed);
        for (int again = 0; again < 3; again++) { /* each resumption brings what the next one needs */
            serve_peer(server, &p);
            assert_true(p.resumed);
        }
        SSL_SESSION_free(p.session);
    }
    tls_drop(server);
}

static void sni_picks_the_certificate(void **state)
{
    struct tls_certificate c[] = {make_certificate("first.example", "DNS:first.example,DNS:*.wild.example"),
                                  make_certificate("second.example", "DNS:second.example,DNS:exact.wild.example"),
                                  make_certificate("*.cn.example", NULL)};
    char error[512];
    struct tls *server = tls_server_open(&(struct tls_settings){c, 3}, error, sizeof error);
    assert_non_null(server);
    static const struct {
        const char *sni, *cn;
    } cases[] = {{NULL, "first.example"},
                 {"unknown.example", "first.example"},
                 {"second.example", "second.example"},
                 {"SECOND.example", "second.example"},
                 {"a.wild.example", "first.example"},
                 {"exact.wild.example", "second.example"},
                 {"x.cn.example", "*.cn.example"},
                 {"a.b.cn.example", "first.example"}};
    for (size_t i = 0; i < countof(cases); i++) {
        struct peer p = {.version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION, .sni = cases[i].sni};
        serve_peer(server, &p);
        assert_string_equal(p.cn, cases[i].cn);
        SSL_SESSION_free(p.session);
    }
    tls_drop(server);
}

static void a_verifying_client_wants_chain_and_name(void **state)
{
    struct tls *server = make_server(NULL);
    struct tls *with_ca = make_client(TLS_VERIFIED, in_folder("mx.example.pem"));
    struct tls *without = make_client(TLS_VERIFIED, NULL);
    struct tls *easy = make_client(TLS_OPPORTUNISTIC, in_folder("mx.example.pem"));
    struct tls_facts f;
    struct two t = join(server, with_ca, "mx.example.");
    shaken(&t);
    assert_true(stream_tls_facts(t.client, &f));
    assert_true(f.verified);
    part(&t);
    t = join(server, with_ca, "other.example");
    UNTIL(t.client->dead && t.server->dead);
    assert_int_equal(t.client->why, FAILURE_TLS);
    assert_str(t.client->why_text, "hostname mismatch");
    assert_int_equal(t.server->why, FAILURE_TLS); /* the alert arrived */
    part(&t);
    t = join(server, without, "mx.example");
    UNTIL(t.client->dead);
    assert_true(str_find(t.client->why_text, STR("self-signed")) < t.client->why_text.len);
    part(&t);
    t = join(server, with_ca, "");
    UNTIL(t.client->dead);
    part(&t);
    t = join(server, easy, "other.example");
    shaken(&t);
    assert_true(stream_tls_facts(t.client, &f));
    assert_false(f.verified);
    part(&t);
    tls_drop(server);
    tls_drop(with_ca);
    tls_drop(without);
    tls_drop(easy);
}

/* What the server says behind the handshake carries the ticket. */
static bool resumes(struct tls *server, struct tls *client, const char *name)
{
    struct tls_facts at_client, at_server;
    struct two t = join(server, client, name);
    shaken(&t);
    assert_true(stream_tls_facts(t.client, &at_client) && stream_tls_facts(t.server, &at_server));
    assert_int_equal(at_client.resumed, at_server.resumed);
    assert_true(at_client.verified);
    say(t.server, "220 y\r\n");
    UNTIL(t.client->in.octets == 7);
    bool resumed = at_client.resumed;
    part(&t);
    UNTIL(stream_count() == 0);
    return resumed;
}

static void a_client_takes_up_its_session_with_that_name_again_and_with_no_other(void **state)
{
    struct tls *server = make_server(NULL);
    struct tls *client = make_client(TLS_VERIFIED, in_folder("mx.example.pem"));
    struct tls *other = make_client(TLS_VERIFIED, in_folder("mx.example.pem"));
    assert_false(resumes(server, client, "mx.example"));
    assert_true(resumes(server, client, "mx.example"));
    assert_true(resumes(server, client, "mx.example"));
    assert_false(resumes(server, client, "a.example.org"));
    assert_true(resumes(server, client, "mx.example"));
    assert_false(resumes(server, other, "mx.example")); /* other authorities may stand behind it */
    struct two t = join(server, client, "other.example"); /* a good session with one name is none with another */
    UNTIL(t.client->dead);
    part(&t);
    UNTIL(stream_count() == 0);
    for (int i = 0; i < 40; i++) { /* more names than are kept */
        char name[64];
        snprintf(name, sizeof name, "n%d.example.org", i);
        assert_false(resumes(server, client, name));
    }
    assert_true(resumes(server, client, "n39.example.org"));
    tls_drop(server);
    tls_drop(client);
    tls_drop(other);
}

/* ---- STARTTLS */

static void starttls_midstream_waits_until_the_220_has_left(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(NULL, NULL, NULL);
    say(t.client, "STARTTLS\r\n");
    UNTIL(t.server->in.octets == 10);
    pipe_clear(&t.server->in);
    t.server->out.mark = 0;
    static char long_reply[6 << 20]; /* more than the kernel takes: the handshake has to wait */
    pipe_copy(&t.server->out, long_reply, sizeof long_reply);
    stream_tls_server(t.server, server);
    assert_int_equal(t.server->tls, STREAM_PLAIN);
    assert_false(pipe_is_empty(&t.server->out));
    size_t got = 0;
    while (got < sizeof long_reply) {
        got += t.client->in.octets;
        pipe_clear(&t.client->in);
        stream_flush(t.client);
        world_step();
    }
    assert_int_equal(got, sizeof long_reply);
    UNTIL(t.server->tls == STREAM_HANDSHAKE);
    stream_tls_client(t.client, client, STR("mx.example"));
    shaken(&t);
    say(t.client, "EHLO x\r\n");
    UNTIL(t.server->in.octets == 8);
    assert_str(in_text(t.server), "EHLO x\r\n");
    part(&t);
    tls_drop(server);
    tls_drop(client);
}

static void what_follows_starttls_in_plain_is_seen_and_never_taken(void **state)
{
    struct tls *server = make_server(NULL);
    int fds[2];
    tcp_pair(fds);
    struct stream *s = stream_open(W.loop, fds[0], &W.task);
    assert_int_equal(write(fds[1], "STARTTLS\r\nRSET\r\n", 16), 16);
    UNTIL(s->in.octets == 16);
    pipe_drop(&s->in, 10);
    assert_false(stream_in_is_empty(s)); /* the owner refuses here */
    pipe_clear(&s->in);
    assert_true(stream_in_is_empty(s));
    assert_int_equal(write(fds[1], "RSET\r\n", 6), 6); /* not read when TLS begins: it becomes a broken handshake */
    stream_tls_server(s, server);
    UNTIL(s->dead);
    assert_int_equal(s->why, FAILURE_TLS);
    assert_true(pipe_is_empty(&s->in));
    stream_close(&s, CLOSE_GRACEFUL);
    close(fds[1]);
    tls_drop(server);
}

static void octets_behind_the_handshake_are_not_lost(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    pipe_put(&t.client->out, STR("EHLO early\r\n")); /* before the handshake is done */
    stream_flush(t.client);
    UNTIL(t.server->in.octets == 12);
    part(&t);
    tls_drop(server);
    tls_drop(client);
}

/* ---- bounds */

static void two_hundred_megabytes_cost_a_few_marks(void **state)
{
    enum { STREAMED = 200 << 20 };
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    shaken(&t);
    static char octets[16384];
    for (size_t i = 0; i < sizeof octets; i++)
        octets[i] = (char)(i * 31);
    size_t given = 0, taken = 0, peak = 0;
    uint64_t begin = millis();
    unsigned stalled = 0;
    for (bool reading = false; taken < STREAMED;) {
        for (; given < STREAMED && !pipe_is_full(&t.client->out); given += sizeof octets)
            pipe_copy(&t.client->out, octets, sizeof octets);
        stream_flush(t.client);
        if (!reading && stalled < 20 && millis() < begin + 10000) {
            stalled = pipe_is_full(&t.client->out) ? stalled + 1 : 0;
            world_step();
            continue;
        }
        if (!reading) {
            assert_true(t.server->in.octets <= 2 * 65536);
            assert_true(pipe_is_full(&t.client->out));
            reading = true;
        }
        peak = max_size(peak, block_total());
        for (size_t n; (n = min_size(t.server->in.first ? t.server->in.first->len : 0, 16384 - taken % 16384)) > 0;) {
            if (memcmp(t.server->in.first->at, octets + taken % 16384, n) != 0)
                fail_msg("differs near %zu", taken);
            pipe_drop(&t.server->in, n);
            taken += n;
        }
        stream_flush(t.server);
        world_step();
    }
    assert_true(peak < W.blocks + 12 * 65536);
    part(&t);
    tls_drop(server);
    tls_drop(client);
}

static void a_reader_who_stops_gets_the_rest_and_then_the_end(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    shaken(&t);
    static char octets[500000];
    t.client->out.mark = 0;
    pipe_copy(&t.client->out, octets, sizeof octets);
    stream_close(&t.client, CLOSE_GRACEFUL);
    FOR_MS(50);
    size_t got = 0;
    uint64_t end = millis() + 10000;
    while (!(t.server->ended && pipe_is_empty(&t.server->in)) && millis() < end) {
        got += t.server->in.octets;
        pipe_clear(&t.server->in);
        stream_flush(t.server);
        world_step();
    }
    assert_int_equal(got, sizeof octets);
    stream_close(&t.server, CLOSE_GRACEFUL);
    UNTIL(stream_count() == 0);
    tls_drop(server);
    tls_drop(client);
}

static void an_end_without_close_notify_is_an_end(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    shaken(&t);
    say(t.client, "QUIT\r\n");
    UNTIL(t.server->in.octets == 6);
    FOR_MS(10);
    stream_close(&t.client, CLOSE_ABORT);
    UNTIL(t.server->ended);
    assert_false(t.server->dead);
    part(&t);
    tls_drop(server);
    tls_drop(client);
}

/* ---- handshakes that go wrong */

/* A ClientHello as OpenSSL makes it. */
static size_t client_hello(unsigned char *into, size_t room)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    SSL_set_tlsext_host_name(ssl, "mx.example");
    SSL_set_connect_state(ssl);
    SSL_do_handshake(ssl);
    int n = BIO_read(out, into, (int)room);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    assert_true(n > 100);
    return (size_t)n;
}

static void mutated_handshakes_die_or_wait_and_nothing_breaks(void **state)
{
    struct tls *server = make_server(NULL);
    unsigned char hello[2048], bad[2048];
    size_t n = client_hello(hello, sizeof hello);
    srand(11);
    unsigned died = 0;
    for (int i = 0; i < 600; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        struct stream *s = stream_open(W.loop, fds[0], &W.task);
        stream_tls_server(s, server);
        memcpy(bad, hello, n);
        size_t len = i % 5 == 0 ? (size_t)rand() % n : n;
        for (int k = rand() % 8; k >= 0; k--)
            bad[(size_t)rand() % n] = (unsigned char)rand();
        size_t cut = (size_t)rand() % (len + 1);
        assert_int_equal(write(fds[1], bad, cut), cut);
        if (i % 2)
            world_step();
        assert_int_equal(write(fds[1], bad + cut, len - cut), len - cut);
        shutdown(fds[1], SHUT_WR);
        UNTIL(s->dead); /* no handshake survives its peer's end */
        assert_int_equal(s->why, FAILURE_TLS);
        assert_true(s->why_text.len > 0);
        died++;
        stream_close(&s, i % 3 ? CLOSE_ABORT : CLOSE_GRACEFUL);
        close(fds[1]);
    }
    assert_int_equal(died, 600);
    tls_drop(server);
}

static void endless_handshake_octets_die(void **state)
{
    struct tls *server = make_server(NULL);
    int fds[2];
    tcp_pair(fds);
    struct stream *s = stream_open(W.loop, fds[0], &W.task);
    stream_tls_server(s, server);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    /* records of one octet of a hello that announces 16 MiB less one */
    static const unsigned char first[] = {22, 3, 1, 0, 4, 1, 0x01, 0xff, 0xff}, more[] = {22, 3, 1, 0, 1, 0};
    size_t sent = 0;
    assert_int_equal(write(fds[1], first, sizeof first), sizeof first);
    UNTIL((sent += (size_t)max_size(0, write(fds[1], more, sizeof more) > 0 ? sizeof more : 0), s->dead));
    assert_int_equal(s->why, FAILURE_TLS);
    assert_true(sent < (1 << 20));
    stream_close(&s, CLOSE_GRACEFUL);
    close(fds[1]);
    tls_drop(server);
}

static void a_stalled_handshake_may_be_closed(void **state)
{
    struct tls *server = make_server(NULL);
    for (int how = 0; how < 3; how++) {
        int fds[2];
        tcp_pair(fds);
        struct stream *s = stream_open(W.loop, fds[0], &W.task);
        stream_tls_server(s, server);
        unsigned char hello[2048];
        size_t n = client_hello(hello, sizeof hello);
        assert_int_equal(write(fds[1], hello, n / 2), n / 2);
        FOR_MS(10);
        assert_int_equal(s->tls, STREAM_HANDSHAKE);
        assert_false(s->dead);
        stream_close(&s, how);
        close(fds[1]);
        UNTIL_MS(1000, stream_count() == 0);
    }
    tls_drop(server);
}

static void no_common_version_is_said_in_words_on_both_sides(void **state)
{
    struct tls *server = make_server("TLSv1.3");
    struct peer p = {.version = TLS1_2_VERSION};
    int fds[2];
    pthread_t thread;
    tcp_pair(fds);
    p.fd = fds[1];
    struct stream *s = stream_open(W.loop, fds[0], &W.task);
    stream_tls_server(s, server);
    pthread_create(&thread, NULL, be_peer, &p);
    UNTIL(s->dead);
    assert_str(s->why_text, "unsupported protocol");
    stream_close(&s, CLOSE_GRACEFUL);
    pthread_join(thread, NULL);
    assert_false(p.shaken);
    tls_drop(server);
}

static void garbage_amid_records_kills_and_what_was_decrypted_stays(void **state)
{
    struct tls *server = make_server(NULL), *client = make_client(TLS_OPPORTUNISTIC, NULL);
    struct two t = join(server, client, "mx.example");
    shaken(&t);
    say(t.client, "NOOP\r\n");
    UNTIL(t.server->in.octets == 6);
    int fd;
    uv_fileno(&channel_of(t.client)->u.handle, &fd);
    assert_int_equal(write(fd, "plain text\r\n", 12), 12);
    UNTIL(t.server->dead);
    assert_int_equal(t.server->why, FAILURE_TLS);
    assert_str(in_text(t.server), "NOOP\r\n");
    part(&t);
    tls_drop(server);
    tls_drop(client);
}

/* ---- threads */

static _Atomic unsigned shakes;
struct lane {
    struct tls *server, *client;
};

static void *shake_many(void *data)
{
    struct lane *lane = data;
    struct loop *l = loop_open();
    struct task task, tick;
    struct alarm alarm = {0};
    task_start(&task, l, world_tick);
    task_start(&tick, l, world_tick);
    for (int i = 0; i < 20; i++) {
        int fds[2];
        tcp_pair(fds);
        struct stream *a = stream_open(l, fds[0], &task), *b = stream_open(l, fds[1], &task);
        stream_tls_server(a, lane->server);
        stream_tls_client(b, lane->client, STR("mx.example"));
        while ((a->tls != STREAM_TLS || b->tls != STREAM_TLS) && !a->dead && !b->dead) {
            alarm_set(&alarm, &tick, loop_now(l) + 10);
            uv_run(loop_uv(l), UV_RUN_ONCE);
        }
        shakes += !a->dead && !b->dead;
        stream_close(&a, CLOSE_GRACEFUL);
        stream_close(&b, CLOSE_GRACEFUL);
    }
    alarm_stop(&alarm);
    loop_close(l);
    block_forget();
    return NULL;
}

static void one_context_serves_many_threads(void **state)
{
    struct lane lane = {make_server(NULL), make_client(TLS_OPPORTUNISTIC, NULL)};
    pthread_t threads[4];
    shakes = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, shake_many, &lane);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shakes, 80);
    tls_drop(lane.server);
    tls_drop(lane.client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(octets_go_both_ways_and_the_end_is_an_end),
        CLAIM(both_versions_speak_with_openssl_and_resume_by_ticket),
        CLAIM(sni_picks_the_certificate),
        CLAIM(a_verifying_client_wants_chain_and_name),
        CLAIM(a_client_takes_up_its_session_with_that_name_again_and_with_no_other),
        CLAIM(starttls_midstream_waits_until_the_220_has_left),
        CLAIM(what_follows_starttls_in_plain_is_seen_and_never_taken),
        CLAIM(octets_behind_the_handshake_are_not_lost),
        CLAIM(two_hundred_megabytes_cost_a_few_marks),
        CLAIM(a_reader_who_stops_gets_the_rest_and_then_the_end),
        CLAIM(an_end_without_close_notify_is_an_end),
        CLAIM(mutated_handshakes_die_or_wait_and_nothing_breaks),
        CLAIM(endless_handshake_octets_die),
        CLAIM(a_stalled_handshake_may_be_closed),
        CLAIM(no_common_version_is_said_in_words_on_both_sides),
        CLAIM(garbage_amid_records_kills_and_what_was_decrypted_stays),
        CLAIM(one_context_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
