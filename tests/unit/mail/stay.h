/* stay.h - one client's visit without a front and a back: a chain of filters that a test plays, a message put together by hand, and an
 * outlet of forty lines that keeps what it is given. One stay per test; stay_end demands that nothing is left. */
#ifndef TEST_MAIL_STAY_H
#define TEST_MAIL_STAY_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "mail/outlet.h"
#include "mail/call.h"
#include "net/channel.h"

#define ON(stage) (1u << FILTER_##stage)

struct stay {
    struct loop *loop;
    struct task task, owner;
    struct mail_worker worker;
    struct mail_conf conf;
    struct filter_set set;
    struct filter *filters[8];
    struct chain chain;
    struct visit_conf listen;
    struct client client;
    struct visit visit;
    struct message message;
    struct arena life, scratch;
    struct outlet outlet;
    struct headers_sender fields;
    struct pipe out;        /* rendered fields and body, as they are taken */
    struct arena texts;
    bool abandoned;
    unsigned stale;         /* how often the envelope was */
    const struct next_hop *went;
    bool late;              /* quarantine is too late */
    char calls[400];        /* "1.mail 2.mail ...": who was called, in order */
};
static struct stay S;

/* ---- the outlet ---- */
static void stay_stale(struct outlet *o, const struct rcpt *r)
{
    S.stale++;
}
static struct next_hop stay_hops[] = {{STR("elsewhere")}, {STR("jail")}};
static const struct next_hop *stay_hop(struct outlet *o, struct str name)
{
    return str_equal(name, STR("elsewhere")) ? &stay_hops[0] : NULL;
}
static const char *stay_route(struct outlet *o, const struct next_hop *to, int64_t rcpt)
{
    S.went = to;
    return NULL;
}
static bool stay_quarantine(struct outlet *o, const struct next_hop *to)
{
    S.went = to;
    return !S.late;
}
static void stay_where(const struct outlet *o, struct str *name, struct str *address, struct str *server)
{
    *name = STR("here");
    *address = *server = STR("");
}
static bool stay_take(struct outlet *o)
{
    struct flow *f = &S.message.flow;
    size_t before = S.out.octets;
    if (!flow_head_is_done(f) || (S.message.data_when > WHEN_AFTER_HEADERS && !flow_is_judged(f)))
        return false;
    if (!S.fields.done)
        headers_send(&S.message.headers, &S.fields, &S.out);
    else if (f->spool)
        spool_take(f->spool, &S.out);
    else
        pipe_move(&f->filtered, &S.out, f->filtered.octets);
    return S.out.octets != before;
}
static void stay_abandon(struct outlet *o)
{
    S.abandoned = true;
}
static const struct outlet_ops stay_outlet = {stay_stale, stay_hop, stay_route, stay_quarantine, stay_where, stay_take, stay_abandon};

/* ---- the stay ---- */
static void stay_woken(struct task *t)
{
}

#define STAY(...) stay_begin((struct filter *[]){__VA_ARGS__}, countof(((struct filter *[]){__VA_ARGS__})))
static inline void stay_begin(struct filter **given, size_t n)
{
    memset(&S, 0, sizeof S);
    struct filter **filters = memcpy(S.filters, given, n * sizeof *given);
    S.loop = loop_open();
    task_start(&S.task, S.loop, stay_woken);
    task_start(&S.owner, S.loop, stay_woken);
    S.worker = (struct mail_worker){.loop = S.loop};
    S.conf = (struct mail_conf){.hostname = STR("mx.test"), .filters = filters, .nfilters = n};
    S.chain = (struct chain){.name = STR("c"), .filters = filters, .nfilters = n, .quarantine = &stay_hops[1]};
    S.listen = (struct visit_conf){.name = STR("l"), .hostname = STR("mx.test"), .chain = &S.chain,
                                   .limits = {.header_size = 262144, .hold_memory = 262144, .held = 1 << 30}};
    for (size_t i = 0; i < n; i++) {
        filters[i]->index = (unsigned)i;
        filters[i]->name = arena_print(&S.texts, "%zu", i + 1);
        filters[i]->stages = filters[i]->stages ? filters[i]->stages : filters[i]->def->stages;
        filters[i]->flags = filters[i]->def->flags;
        if (!filters[i]->timeout)
            filters[i]->timeout = filters[i]->message_timeout = 60000;
        filters[i]->only.auth = filters[i]->only.tls = filters[i]->except.auth = filters[i]->except.tls = -1;
    }
    filter_set_open(&S.set, &S.worker, &S.conf, &S.owner);
    S.set.current = true;
    filter_set_enter(&S.set);
    client_start(&S.client);
    client_set_ip(&S.client, STR("192.0.2.1"), 25);
    S.outlet.ops = &stay_outlet;
    S.visit = (struct visit){.serial = ++S.worker.serial, .id = "stay", .filters = &S.set, .conf = &S.listen, .client = &S.client,
                             .outlet = &S.outlet, .task = &S.task, .life = &S.life, .scratch = &S.scratch};
}

/* Asks the whole chain until it has answered: the verdict. */
static inline enum filter_verdict stay_ask_about(enum filter_stage stage, struct subject subject)
{
    visit_ask(&S.visit, stage, subject);
    while (!visit_turn(&S.visit)) {
        static struct alarm alarm;
        alarm_set(&alarm, &S.task, loop_now(S.loop) + 5);
        uv_run(loop_uv(S.loop), UV_RUN_ONCE);
        alarm_stop(&alarm);
    }
    return S.visit.run.verdict.kind;
}
static inline enum filter_verdict stay_ask(enum filter_stage stage)
{
    return stay_ask_about(stage, (struct subject){0});
}

static inline void stay_message(const char *from)
{
    struct message *m = &S.message;
    m->serial = ++S.worker.serial;
    m->number = ++S.visit.messages;
    m->data_when = chain_data_when(&S.chain);
    m->passed = S.visit.passed;
    assert_int_equal(path_from_address(str_of(from), PATH_REVERSE, &m->arena, &m->from), 0);
    headers_start(&m->headers, &m->arena);
    S.visit.message = m;
}

/* A recipient passes its hooks and is accepted. */
static inline enum filter_verdict stay_rcpt(const char *to)
{
    struct message *m = &S.message;
    struct path path;
    assert_int_equal(path_from_address(str_of(to), PATH_FORWARD, &m->arena, &path), 0);
    uint32_t i = m->nrcpts;
    *message_rcpt(m) = (struct rcpt){.path = path};
    m->named++;
    enum filter_verdict v = stay_ask_about(FILTER_RCPT, (struct subject){.rcpt = i});
    if (m->rcpts[i].fate == FATE_HELD)
        m->rcpts[i].fate = v == VERDICT_CONTINUE ? FATE_ACCEPTED : FATE_REFUSED;
    m->accepted += m->rcpts[i].fate == FATE_ACCEPTED;
    return v;
}

/* Content in pieces of so many octets; then judged, and taken by the outlet. What left, or NULL: it was refused or discarded. */
static inline const char *stay_content(const char *text, size_t piece)
{
    struct message *m = &S.message;
    size_t len = strlen(text);
    flow_start(&S.visit);
    for (size_t at = 0; at < len && !content_is_dropped(m); at += piece) {
        pipe_put(&m->flow.content, (struct str){text + at, min_size(piece, len - at)});
        flow_run(&S.visit);
    }
    m->flow.content.ended = true;
    while (!content_is_dropped(m) && !flow_judge(&S.visit))
        uv_run(loop_uv(S.loop), UV_RUN_NOWAIT);
    flow_run(&S.visit);
    if (content_is_dropped(m))
        return NULL;
    char *out = arena_space(&S.texts, S.out.octets + 1);
    pipe_peek(&S.out, 0, out, S.out.octets);
    out[S.out.octets] = 0;
    return out;
}

static inline void stay_message_end(void)
{
    visit_stop(&S.visit, CANCEL_CLIENT_GONE);
    visit_reset(&S.visit);
    flow_free(&S.message.flow);
    arena_reset(&S.message.arena);
    memset(&S.message, 0, sizeof S.message);
    pipe_clear(&S.out);
    S.fields = (struct headers_sender){0};
    S.visit.message = NULL;
}

static inline void stay_end(void)
{
    if (S.visit.message)
        stay_message_end();
    visit_stop(&S.visit, CANCEL_SHUTDOWN);
    visit_end(&S.visit);
    filter_set_leave(&S.set);
    filter_set_stop(&S.set);
    filter_set_free(&S.set);
    client_end(&S.client);
    arena_reset(&S.life);
    arena_reset(&S.scratch);
    arena_reset(&S.texts);
    task_forget(&S.task);
    task_forget(&S.owner);
    call_forget();
    loop_close(S.loop);
    block_forget();
    assert_int_equal(arena_total(), 0);
    assert_int_equal(block_total(), 0);
}

/* A filter notes its call: "1.mail ". */
static inline void stay_called(struct filter_call *call)
{
    static const char *const names[] = {"connect", "tls", "helo", "auth", "mail", "rcpt", "data", "headers",
                                        "body", "part", "message", "reply", "reset", "disconnect"};
    size_t at = strlen(S.calls);
    snprintf(S.calls + at, sizeof S.calls - at, "%s%.*s.%s", at ? " " : "", STR_ARGS(filter_of(call)->name), names[filter_stage(call)]);
}
#endif
