/* test_front.c - the conversation of an MTA with the machine of proxy/milter: cut at every octet the answers are the
 * same, whether filters wait or not; and what a chain makes of the negotiation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "mail/call.h"
#include "milter/worker.h"
#include "net/channel.h"
#include <uv.h>
#include "store/store.h"
#include "wire/milter.h"
#include <sys/socket.h>
#include <unistd.h>

#define ON(stage) (1u << FILTER_##stage)

static struct house {
    struct loop *loop;
    struct task tick;
    struct alarm alarm;
    struct mail_worker mail;
    struct filter_set filters;
    struct mail_conf conf;
    struct chain chain;
    struct filter filter, *row[1];
    struct milter_conf listen;
    struct milter_worker worker;
} H;
static bool waits; /* every hook does, for a moment */

/* ---- a filter that does a little of everything ---- */

static enum filter_verdict work(struct filter_call *call)
{
    struct filter_path path;
    switch (filter_stage(call)) {
    case FILTER_MAIL:
        assert_false(filter_route(call, "mta"));
        assert_int_equal(filter_refused(call), REFUSED_NO_ROUTES);
        filter_field_add(call, FILTER_TOP, "Early", (struct filter_text){"e", 1});
        break;
    case FILTER_RCPT:
        assert_false(filter_route(call, "mta"));
        assert_int_equal(filter_refused(call), REFUSED_NO_ROUTES);
        path.size = sizeof path;
        if (filter_rcpt(call, filter_rcpt_now(call), &path) && path.local.len && path.local.at[0] == 'x')
            return filter_reject(call, "550 5.1.1 no such");
        if (path.local.len && path.local.at[0] == 'd')
            return filter_discard(call, "d");
        break;
    case FILTER_HEADERS:
        filter_field_remove(call, filter_field_next(call, 0, "A"));
        filter_field_set(call, filter_field_next(call, 0, "Subject"), (struct filter_text){"new", 3});
        break;
    case FILTER_BODY: {
        struct filter_chunk chunk;
        if (filter_chunk(call, &chunk) && chunk.last)
            filter_emit(call, "body", 4);
        break;
    }
    case FILTER_MESSAGE:
        filter_field_add(call, FILTER_BOTTOM, "Late", (struct filter_text){"l", 1});
        filter_add_rcpt(call, "added@example.net", NULL, true);
        return filter_quarantine(call, "q");
    default: break;
    }
    return VERDICT_CONTINUE;
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    if (!waits || stage == FILTER_RESET || stage == FILTER_DISCONNECT)
        return stage == FILTER_RESET || stage == FILTER_DISCONNECT ? VERDICT_CONTINUE : work(call);
    filter_timer(call, 1);
    return VERDICT_SUSPEND;
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *event)
{
    return work(call);
}

static const struct filter_def def = {
    .size = sizeof def, .abi = FILTER_ABI, .name = "test", .hook = hook, .resume = resume, .stages = ~0u, .flags = ~0u};

/* ---- the house ---- */

static void tick(struct task *t)
{
}

static int open_house(void **state)
{
    static const struct str everybody[] = {STR("0.0.0.0/0"), STR("::/0")};
    char error[200];
    memset(&H, 0, sizeof H);
    H.loop = loop_open();
    task_start(&H.tick, H.loop, tick);
    H.mail = (struct mail_worker){.loop = H.loop, .serial = 1};
    H.filter =
        (struct filter){.def = &def,
                        .conf = &H.conf,
                        .name = STR("test"),
                        .prefix = STR("test"),
                        .timeout = 10000,
                        .message_timeout = 10000,
                        .opened = true,
                        .flags = FILTER_EDITS_BODY | FILTER_LATE_FIELDS | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE};
    H.filter.stages = ON(CONNECT) | ON(HELO) | ON(MAIL) | ON(RCPT) | ON(DATA) | ON(HEADERS) | ON(BODY) | ON(MESSAGE) |
                      ON(RESET) | ON(DISCONNECT);
    H.row[0] = &H.filter;
    H.chain = (struct chain){.name = STR("c"), .filters = H.row, .nfilters = 1};
    H.conf.hostname = STR("mx.example");
    H.conf.filters = H.row;
    H.conf.nfilters = 1;
    filter_set_open(&H.filters, &H.mail, &H.conf, NULL);
    H.listen.visit = (struct visit_conf){.name = STR("mta"), .hostname = STR("mx.example"), .chain = &H.chain};
    H.listen.visit.limits = (struct limits){
        .header_size = 65536, .hold_memory = 65536, .memory = 1 << 30, .held = 1 << 30, .recipients = 100};
    H.listen.clients = table_of(everybody, NULL, countof(everybody), error, sizeof error);
    H.listen.connections = 10;
    H.listen.progress = 20000;
    H.listen.timeouts = (struct milter_timeouts){10000, 10000, 10000, 10000, 10000};
    H.worker = (struct milter_worker){.mail = &H.mail, .filters = &H.filters, .confs = &H.listen, .nconfs = 1};
    return 0;
}

static int close_house(void **state)
{
    assert_int_equal(H.worker.n, 0);
    assert_int_equal(H.filters.users, 0);
    filter_set_stop(&H.filters);
    filter_set_free(&H.filters);
    table_close(H.listen.clients);
    alarm_stop(&H.alarm);
    task_forget(&H.tick);
    loop_close(H.loop);
    assert_int_equal(arena_total(), 0);
    assert_int_equal(block_total(), 0);
    return 0;
}

/* Until nothing has happened for some rounds, or the machine is gone. */
static size_t turn(int fd, char *into, size_t room)
{
    size_t got = 0;
    for (int quiet = 0; quiet < (waits ? 30 : 3);) {
        alarm_set(&H.alarm, &H.tick, loop_now(H.loop) + 1);
        uv_run(loop_uv(H.loop), waits ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        ssize_t n = recv(fd, into + got, room - got, MSG_DONTWAIT);
        quiet = n > 0 ? 0 : quiet + 1;
        got += n > 0 ? (size_t)n : 0;
    }
    return got;
}

static struct str answers(struct str said, size_t cut, size_t other, char *into, size_t room)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    milter_start(&H.worker, &H.listen, 1, stream_open(H.loop, pair[0], NULL));
    size_t ends[] = {cut, other, said.len}, at = 0, got = 0;
    for (size_t i = 0; i < countof(ends); i++) {
        if (ends[i] > at) {
            assert_int_equal(send(pair[1], said.at + at, ends[i] - at, MSG_NOSIGNAL), ends[i] - at);
            at = ends[i];
            got += turn(pair[1], into + got, room - got);
        }
    }
    shutdown(pair[1], SHUT_WR);
    turn(pair[1], NULL, 0);
    close(pair[1]);
    return (struct str){into, got};
}

/* ---- what is said ---- */

struct saying {
    char octets[4096];
    size_t len;
};

static void say(struct saying *s, struct milter_packet p)
{
    size_t size = milter_size(&p, MILTER_FROM_MTA);
    assert_true(size && s->len + size <= sizeof s->octets);
    milter_write(&p, MILTER_FROM_MTA, s->octets + s->len);
    s->len += size;
}

#define TEXTS(t) ((struct str){t, sizeof(t) - 1})

static void say_message(struct saying *s, const char *sender)
{
    say(s, (struct milter_packet){.kind = 'D', .of = 'M', .rest = TEXTS("i\0Q1\0{auth_type}\0PLAIN\0")});
    say(s, (struct milter_packet){.kind = 'M', .name = str_of(sender), .rest = TEXTS("SIZE=10\0")});
    say(s, (struct milter_packet){.kind = 'R', .name = STR("<b@example.net>")});
    say(s, (struct milter_packet){.kind = 'R', .name = STR("<x@example.net>")});
    say(s, (struct milter_packet){.kind = 'R', .name = STR("<d@example.net>")});
    say(s, (struct milter_packet){.kind = 'T'});
    say(s, (struct milter_packet){.kind = 'L', .name = STR("A"), .value = STR(" 1")});
    say(s, (struct milter_packet){.kind = 'L', .name = STR("Subject"), .value = STR(" s\n\tfolded")});
    say(s, (struct milter_packet){.kind = 'N'});
    say(s, (struct milter_packet){.kind = 'B', .rest = STR("x\r\n")});
    say(s, (struct milter_packet){.kind = 'E'});
}

static void say_begin(struct saying *s)
{
    s->len = 0;
    say(s, (struct milter_packet){.kind = 'O', .option = {.version = 6, .actions = 0x1ff, .protocol = 0x1fffff}});
    say(s, (struct milter_packet){.kind = 'D', .of = 'C', .rest = TEXTS("j\0mta\0")});
    say(s,
        (struct milter_packet){.kind = 'C', .name = STR("c.example"), .of = '4', .port = 1, .value = STR("192.0.2.1")});
    say(s, (struct milter_packet){.kind = 'H', .name = STR("c.example")});
}

static void say_all(struct saying *s)
{
    say_begin(s);
    say_message(s, "<a@example.org>");
    say(s, (struct milter_packet){.kind = 'A'});
    say_message(s, "<>");
    say(s, (struct milter_packet){.kind = 'K'});
    say(s, (struct milter_packet){.kind = 'C', .name = STR("d.example"), .of = 'U'});
    say(s, (struct milter_packet){.kind = 'U', .value = STR("XYZ")});
    say_message(s, "<a@example.org>");
    say(s, (struct milter_packet){.kind = 'Q'});
}

/* The kinds of packets, in their order. */
static void kinds_of(struct str octets, char *kinds)
{
    const struct milter_reader reader = {MILTER_FROM_FILTER, MILTER_BODY_MOST, MILTER_OTHER_MOST};
    struct milter_packet p;
    enum milter_fault fault;
    size_t whole;
    while (milter_parse(&reader, octets, &p, &whole, &fault) == MILTER_PACKET) {
        *kinds++ = p.kind;
        octets = str_part(octets, whole, octets.len);
    }
    assert_int_equal(octets.len, 0);
    *kinds = 0;
}

static void cut_everywhere_the_answers_are_the_same(void **state)
{
    static char whole[65536], cut[65536];
    char kinds[500];
    struct saying s;
    say_all(&s);
    struct str said = {s.octets, s.len};
    waits = false;
    struct str expected = answers(said, 0, 0, whole, sizeof whole);
    kinds_of(expected, kinds);
    assert_string_equal(kinds, "Occ" /* O C H */ "ccyccccmmiib-+qc" /* M R R R T N B, E */ "ccyccccmmiib-+qc"
                               "cc" /* C U */ "ccyccccmmiib-+qc");
    for (size_t at = 1; at < said.len; at++) {
        struct str got = answers(said, at, 0, cut, sizeof cut);
        if (!str_equal(got, expected))
            print_error("cut at %zu of %zu\n", at, said.len);
        assert_true(str_equal(got, expected));
    }
    for (size_t at = 1; at + 5 < said.len; at += 7)
        assert_true(str_equal(answers(said, at, at + 5, cut, sizeof cut), expected));
}

/* Only what ends a message or the conversation would not wait for them: none of that stands here. */
static void filters_that_wait_change_no_answer(void **state)
{
    static char whole[65536], other[65536];
    struct saying s;
    say_begin(&s);
    for (int i = 0; i < 3; i++)
        say_message(&s, "<a@example.org>");
    struct str said = {s.octets, s.len};
    waits = false;
    struct str expected = answers(said, 0, 0, whole, sizeof whole);
    waits = true;
    for (size_t at = 0; at < said.len; at += 97)
        assert_true(str_equal(answers(said, at, 0, other, sizeof other), expected));
}

/* ---- what chains need ---- */

#define CHAIN(...)                                                                                                     \
    (&(struct chain){.filters = (struct filter *[]){__VA_ARGS__},                                                      \
                     .nfilters = countof(((struct filter *[]){__VA_ARGS__}))})

static void the_body_is_held_only_for_who_writes_or_reads_it_again(void **state)
{
    struct filter fields = {.stages = ON(MESSAGE), .flags = FILTER_LATE_FIELDS},
                  body = {.stages = ON(BODY), .flags = FILTER_EDITS_BODY};
    struct filter watcher = {.stages = ON(BODY), .flags = FILTER_EDITS_BODY, .observe = true},
                  reader = {.stages = ON(MESSAGE), .flags = FILTER_READS_BACK};
    assert_int_equal(milter_say(&(struct chain){0}), WHEN_AT_BOUND);
    assert_int_equal(milter_say(CHAIN(&fields)), WHEN_AT_BOUND); /* fields and envelope are said at the end anyway */
    assert_int_equal(milter_say(CHAIN(&fields, &watcher)), WHEN_AT_VERDICT); /* whom they are shown to a second time */
    assert_int_equal(milter_say(CHAIN(&watcher)), WHEN_AT_BOUND);
    assert_int_equal(milter_say(CHAIN(&body)), WHEN_AT_VERDICT);
    assert_int_equal(milter_say(CHAIN(&reader)), WHEN_AT_VERDICT);
}

static void needs_are_those_of_filters_that_decide(void **state)
{
    struct filter rcpt = {.stages = ON(RCPT)},
                  watcher = {.stages = ON(RCPT) | ON(DATA) | ON(MESSAGE), .flags = FILTER_LATE_BODY, .observe = true};
    assert_int_equal(milter_needs(&(struct chain){0}).actions, 0);
    struct milter_needs needs = milter_needs(CHAIN(&rcpt));
    assert_true(needs.steps & MILTER_NOBODY && needs.steps & MILTER_NOHDRS && needs.steps & MILTER_NODATA &&
                !(needs.steps & MILTER_NR_RCPT));
    assert_true(needs.actions & MILTER_DELRCPT && !(needs.actions & MILTER_CHGBODY));
    needs = milter_needs(CHAIN(&watcher));
    assert_int_equal(needs.actions, 0);
    assert_true(needs.steps & MILTER_NR_RCPT && needs.steps & MILTER_NR_DATA &&
                !(needs.steps & (MILTER_NOBODY | MILTER_NODATA | MILTER_NOHDRS)));
    assert_false(needs.steps & (MILTER_NOCONNECT | MILTER_NOHELO | MILTER_NOMAIL | MILTER_NORCPT | MILTER_RCPT_REJ));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cut_everywhere_the_answers_are_the_same, open_house, close_house),
        cmocka_unit_test_setup_teardown(filters_that_wait_change_no_answer, open_house, close_house),
        cmocka_unit_test(the_body_is_held_only_for_who_writes_or_reads_it_again),
        cmocka_unit_test(needs_are_those_of_filters_that_decide),
    };
    log_set(&(struct log_settings){.level = LOG_ERROR}, -1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
