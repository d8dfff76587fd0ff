/* test_dns.c - the resolver against a small UDP responder that answers, lies, mutilates and keeps silent. */
#include "world.h"

struct responder {
    int fd;
    uint16_t port;
    struct task task;
    uv_poll_t *poll;
    unsigned asked;
    bool ad_seen;
};
static struct responder R;

struct packet {
    unsigned char at[4096];
    size_t n;
};

static void put(struct packet *p, const void *at, size_t n)
{
    memcpy(p->at + p->n, at, n);
    p->n += n;
}
static void put16(struct packet *p, unsigned n)
{
    put(p, (unsigned char[]){(unsigned char)(n >> 8), (unsigned char)n}, 2);
}
static void put32(struct packet *p, uint32_t n)
{
    put16(p, n >> 16);
    put16(p, n & 65535);
}
/* A record of the name asked for. */
static void put_record(struct packet *p, unsigned type, uint32_t ttl, const void *data, size_t n)
{
    put16(p, 0xc00c);
    put16(p, type);
    put16(p, 1);
    put32(p, ttl);
    put16(p, (unsigned)n);
    put(p, data, n);
    p->at[7]++;
}

static bool asks(const char *name, const char *want)
{
    return strcasecmp(name, want) == 0;
}

static void answer_records(struct packet *p, const char *name)
{
    if (asks(name, "host.example")) {
        put_record(p, 1, 300, "\xc0\0\2\1", 4);
        put_record(p, 1, 60, "\xc0\0\2\2", 4);
    } else if (asks(name, "six.example")) {
        put_record(p, 28, 300, "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    } else if (asks(name, "mail.example")) {
        put_record(p, 15, 300, "\0\12\2mx\xc0\x0c", 7);
        put_record(p, 15, 300, "\0\0\0", 3);
    } else if (asks(name, "text.example")) {
        put_record(p, 16, 300, "\3abc\0\3def", 9);
        put_record(p, 16, 300, "\1x", 2);
    } else if (asks(name, "alias.example")) {
        put_record(p, 5, 30, "\4host\xc0\x12", 7);
        put_record(p, 1, 300, "\xc0\0\2\1", 4);
    } else if (asks(name, "1.2.0.192.in-addr.arpa")) {
        put_record(p, 12, 300, "\3ptr\7example\0", 13);
    } else if (asks(name, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa")) {
        put_record(p, 12, 300, "\4ptr6\7example\0", 14);
    } else if (asks(name, "srv.example")) {
        put_record(p, 33, 300, "\0\1\0\2\0\31\1a\0", 9);
    } else if (asks(name, "soa.example")) {
        put_record(p, 6, 300, "\2ns\0\1r\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5", 27);
    } else if (asks(name, "tlsa.example")) {
        put_record(p, 52, 300, "\3\1\1\xde\xad", 5);
    } else if (asks(name, "only-cname.example")) {
        put_record(p, 5, 30, "\4host\xc0\x12", 7);
    } else if (asks(name, "many.example")) {
        for (int i = 0; i < 108; i++) /* of the root, empty: all that fits into 1232 octets */
            put(p, "\0\0\20\0\1\0\0\1\0\0\0", 11);
        p->at[7] = 108;
    } else if (asks(name, "short-a.example")) {
        put_record(p, 1, 300, "\xc0\0\2", 3);
    } else if (asks(name, "torn-text.example")) {
        put_record(p, 16, 300, "\11abc", 4);
    } else if (asks(name, "torn-mx.example")) {
        put_record(p, 15, 300, "\0\1\77a", 4);
    } else if (asks(name, "loop.example")) {
        put_record(p, 15, 300, "\0\1\xc0\x2f", 4);
    }
}

static void respond(uv_poll_t *poll, int status, int events)
{
    struct packet p = {.n = 0};
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(R.fd, p.at, 512, 0, (struct sockaddr *)&from, &len);
    if (n < 17)
        return;
    R.asked++;
    R.ad_seen |= (p.at[3] & 0x20) != 0;
    char name[300] = "";
    size_t at = 12;
    while (at < (size_t)n && p.at[at]) {
        if (*name)
            strcat(name, ".");
        strncat(name, (char *)p.at + at + 1, p.at[at]);
        at += 1u + p.at[at];
    }
    p.n = at + 5;
    p.at[2] = 0x81;
    p.at[3] = 0x80;
    p.at[11] = 0; /* no OPT of ours */
    if (strstr(name, "silent"))
        return;
    answer_records(&p, name);
    if (asks(name, "none.example"))
        p.at[3] |= 3;
    else if (asks(name, "broken.example"))
        p.at[3] |= 2;
    else if (asks(name, "refused.example"))
        p.at[3] |= 5;
    else if (asks(name, "host.example"))
        p.at[3] |= 0x20;
    if (asks(name, "cut.example")) {
        put_record(&p, 1, 300, "\xc0\0\2\1", 4);
        p.n -= 2;
    }
    if (strncmp(name, "mutated", 7) == 0) {
        put_record(&p, 15, 300, "\0\12\2mx\xc0\x0c", 7);
        put_record(&p, 16, 300, "\3abc\3def", 8);
        for (int k = 0; k < 4; k++)
            p.at[at + 5 + (size_t)rand() % (p.n - at - 5)] = (unsigned char)rand();
        p.n -= (size_t)rand() % 4;
    }
    sendto(R.fd, p.at, p.n, 0, (struct sockaddr *)&from, len);
}

static struct dns *open_dns(void)
{
    memset(&R, 0, sizeof R);
    R.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    assert_int_equal(bind(R.fd, (struct sockaddr *)&in, sizeof in), 0);
    getsockname(R.fd, (struct sockaddr *)&in, &len);
    R.poll = malloc(sizeof *R.poll);
    uv_poll_init(loop_uv(W.loop), R.poll, R.fd);
    uv_poll_start(R.poll, UV_READABLE, respond);
    char servers[32], error[256] = "";
    snprintf(servers, sizeof servers, "127.0.0.1:%u", ntohs(in.sin_port));
    struct dns *d = dns_open(W.loop, servers, error, sizeof error);
    assert_string_equal(error, "");
    return d;
}

static void free_poll(uv_handle_t *poll)
{
    free(poll);
}
static void close_dns(struct dns **d)
{
    dns_close(d);
    assert_null(*d);
    uv_poll_stop(R.poll);
    uv_close((uv_handle_t *)R.poll, free_poll);
    close(R.fd);
}

static const char *last_name;
static struct dns_query *ask(struct dns *d, const char *type, const char *name)
{
    W.news = 0;
    last_name = name;
    struct dns_query *q = dns_ask(d, type, str_of(name), 3000, &W.task);
    assert_false(q->done);
    UNTIL(q->done);
    UNTIL(W.news == 1);
    return q;
}

static const struct filter_value *listed(struct dns_query *q, size_t i)
{
    if (q->error)
        fail_msg("%s: %s", last_name, failure_word(q->error));
    const struct filter_value *list = value_get(&q->value, STR("list"));
    assert_non_null(list);
    assert_true(i < list->count);
    return &list->items[i];
}

static void check_text(struct dns *d, const char *type, const char *name, const char *first)
{
    struct dns_query *q = ask(d, type, name);
    assert_str(listed(q, 0)->text, first);
    dns_drop(&q);
    assert_null(q);
}

static void each_type_comes_as_its_value(void **state)
{
    struct dns *d = open_dns();
    struct dns_query *q = ask(d, "a", "host.example");
    assert_str(listed(q, 0)->text, "192.0.2.1");
    assert_str(listed(q, 1)->text, "192.0.2.2");
    assert_int_equal(value_get(&q->value, STR("ttl"))->integer, 60);
    assert_int_equal(value_get(&q->value, STR("authentic"))->integer, 1);
    assert_true(R.ad_seen);
    dns_drop(&q);
    check_text(d, "aaaa", "six.example", "2001:db8::1");
    check_text(d, "txt", "text.example", "abcdef");
    check_text(d, "TXT", "text.example.", "abcdef");
    check_text(d, "ptr", "192.0.2.1", "ptr.example");
    check_text(d, "ptr", "2001:db8::1", "ptr6.example");
    check_text(d, "ptr", "1.2.0.192.in-addr.arpa", "ptr.example");
    check_text(d, "cname", "alias.example", "host.example");
    check_text(d, "tlsa", "tlsa.example", "3 1 1 dead");
    q = ask(d, "mx", "mail.example");
    assert_int_equal(value_get(listed(q, 0), STR("preference"))->integer, 10);
    assert_str(value_get(listed(q, 0), STR("name"))->text, "mx.mail.example");
    assert_str(value_get(listed(q, 1), STR("name"))->text, ".");
    assert_int_equal(value_get(&q->value, STR("authentic"))->integer, 0);
    dns_drop(&q);
    q = ask(d, "srv", "srv.example");
    assert_int_equal(value_get(listed(q, 0), STR("priority"))->integer, 1);
    assert_int_equal(value_get(listed(q, 0), STR("weight"))->integer, 2);
    assert_int_equal(value_get(listed(q, 0), STR("port"))->integer, 25);
    assert_str(value_get(listed(q, 0), STR("name"))->text, "a");
    dns_drop(&q);
    q = ask(d, "soa", "soa.example");
    assert_int_equal(value_get(listed(q, 0), STR("minimum"))->integer, 5);
    dns_drop(&q);
    q = ask(d, "a", "alias.example"); /* through a CNAME; its ttl counts */
    assert_str(listed(q, 0)->text, "192.0.2.1");
    assert_int_equal(value_get(&q->value, STR("ttl"))->integer, 30);
    dns_drop(&q);
    q = ask(d, "txt", "many.example");
    listed(q, 99);
    assert_int_equal(value_get(&q->value, STR("list"))->count, 100);
    dns_drop(&q);
    close_dns(&d);
}

static void check_error(struct dns *d, const char *type, const char *name, enum failure error)
{
    struct dns_query *q = ask(d, type, name);
    if (q->error != error)
        fail_msg("%s %s: %s, not %s", type, name, q->error ? failure_word(q->error) : "no error", failure_word(error));
    dns_drop(&q);
}

static void each_failure_has_its_word(void **state)
{
    struct dns *d = open_dns();
    check_error(d, "a", "none.example", FAILURE_NXDOMAIN);
    check_error(d, "a", "empty.example", FAILURE_NODATA);
    check_error(d, "a", "only-cname.example", FAILURE_NODATA);
    check_error(d, "a", "broken.example", FAILURE_SERVFAIL);
    check_error(d, "a", "refused.example", FAILURE_REFUSED);
    check_error(d, "a", "short-a.example", FAILURE_BAD);
    check_error(d, "txt", "torn-text.example", FAILURE_BAD);
    check_error(d, "mx", "torn-mx.example", FAILURE_BAD);
    check_error(d, "mx", "loop.example", FAILURE_BAD);
    check_error(d, "a", "cut.example", FAILURE_BAD);
    unsigned asked = R.asked;
    check_error(d, "spf", "host.example", FAILURE_BADNAME);
    check_error(d, "a", "", FAILURE_BADNAME);
    check_error(d, "a", "a..b", FAILURE_BADNAME);
    check_error(d, "a", "a b.example", FAILURE_BADNAME);
    check_error(d, "a", "a\\.b.example", FAILURE_BADNAME);
    check_error(d, "a", "1234567890123456789012345678901234567890123456789012345678901234.example", FAILURE_BADNAME);
    char name[300];
    memset(name, 'a', sizeof name);
    for (size_t i = 10; i < sizeof name; i += 10)
        name[i] = '.';
    name[299] = 0;
    check_error(d, "a", name, FAILURE_BADNAME);
    assert_int_equal(R.asked, asked);
    close_dns(&d);
}

static void silence_ends_at_the_querys_own_deadline(void **state)
{
    struct dns *d = open_dns();
    uint64_t begin = millis();
    struct dns_query *q = dns_ask(d, "a", STR("silent.example"), 200, &W.task);
    UNTIL(q->done);
    assert_int_equal(q->error, FAILURE_TIMEOUT);
    assert_in_range(millis() - begin, 195, 400);
    dns_drop(&q);
    close_dns(&d); /* c-ares still waits for it */
}

static void a_lost_question_is_asked_again(void **state)
{
    struct dns *d = open_dns();
    struct dns_query *q = dns_ask(d, "a", STR("silent.example"), 3000, &W.task);
    UNTIL(R.asked >= 2);
    assert_false(q->done);
    dns_drop(&q);
    close_dns(&d);
}

static void a_query_may_be_dropped_at_any_time_and_closing_cancels(void **state)
{
    struct dns *d = open_dns();
    for (int i = 0; i < 50; i++) {
        struct dns_query *q = dns_ask(d, "a", STR("host.example"), 0, &W.task);
        if (i % 3)
            world_step();
        if (i % 5 == 0)
            FOR_MS(2);
        dns_drop(&q);
    }
    struct dns_query *open = dns_ask(d, "a", STR("silent.example"), 0, &W.task);
    struct dns_query *late = dns_ask(d, "a", STR("silent2.example"), 0, NULL);
    world_step();
    close_dns(&d);
    UNTIL(open->done && late->done);
    assert_int_equal(open->error, FAILURE_CANCELLED);
    dns_drop(&open);
    dns_drop(&late);
    dns_drop(&open);
}

static void many_at_once_all_come(void **state)
{
    struct dns *d = open_dns();
    static struct dns_query *q[300];
    for (size_t i = 0; i < countof(q); i++)
        q[i] = dns_ask(d, "a", STR("host.example"), 5000, &W.task);
    for (size_t i = 0; i < countof(q); i++) {
        UNTIL(q[i]->done);
        assert_str(listed(q[i], 1)->text, "192.0.2.2");
        dns_drop(&q[i]);
    }
    close_dns(&d);
}

static void mutilated_answers_break_nothing(void **state)
{
    struct dns *d = open_dns();
    srand(3);
    static struct dns_query *q[100];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < countof(q); i++) {
            char name[64];
            snprintf(name, sizeof name, "mutated%d-%zu.example", round, i);
            q[i] = dns_ask(d, i % 2 ? "mx" : "txt", str_of(name), 2000, &W.task);
        }
        for (size_t i = 0; i < countof(q); i++) {
            UNTIL(q[i]->done);
            dns_drop(&q[i]);
        }
    }
    close_dns(&d);
}

static void a_resolver_that_cannot_be_says_why(void **state)
{
    char error[256] = "";
    assert_null(dns_open(W.loop, "not an address", error, sizeof error));
    assert_non_null(strstr(error, "not an address"));
    struct dns *d = dns_open(W.loop, NULL, error, sizeof error);
    assert_non_null(d);
    dns_close(&d);
    dns_close(&d);
}

static void a_port_where_nobody_is_fails_soon(void **state)
{
    struct dns *d = open_dns();
    uv_poll_stop(R.poll);
    close(R.fd); /* ICMP: connection refused */
    struct dns_query *q = dns_ask(d, "a", STR("host.example"), 4000, &W.task);
    UNTIL(q->done);
    assert_true(q->error == FAILURE_SERVFAIL || q->error == FAILURE_TIMEOUT);
    dns_drop(&q);
    R.fd = socket(AF_INET, SOCK_DGRAM, 0);
    close_dns(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(each_type_comes_as_its_value),
        CLAIM(each_failure_has_its_word),
        CLAIM(silence_ends_at_the_querys_own_deadline),
        CLAIM(a_lost_question_is_asked_again),
        CLAIM(a_query_may_be_dropped_at_any_time_and_closing_cancels),
        CLAIM(many_at_once_all_come),
        CLAIM(mutilated_answers_break_nothing),
        CLAIM(a_resolver_that_cannot_be_says_why),
        CLAIM(a_port_where_nobody_is_fails_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
