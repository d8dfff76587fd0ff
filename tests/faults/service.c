/* service.c - a filter that asks a service over TCP, as a milter client would: one dialled connection per transaction, a line and an
 * answer at MAIL and RCPT, the body in pieces, a verdict at the end; back to the pool when it was clean. Built by tests against the
 * installed <sluice/filter.h> alone. Whatever the service does wrong is an error of this filter: on_error decides.
 *
 *   filter "service" { "inet:127.0.0.1:PORT", wait = "300ms" }
 *
 * We say HI, at the start of each transaction, and hear HELLO; MAIL and RCPT are answered by a line each; BODY n and n octets by none;
 * END by the verdict. Answers: OK, REJECT text, DEFER text. */
#include <sluice/filter.h>
#include <stdio.h>
#include <string.h>

enum doing { DIALLING, GREETING, ASKING, FLUSHING };
struct service { char address[200]; unsigned wait; };
struct visit { struct filter_stream *stream; };  /* of a transaction */
struct place { enum doing doing; size_t answers; }; /* of a call */

static bool open_service(struct filter *f)
{
    static const struct filter_option options[] = {
        {.size = sizeof *options, .name = "1", .type = TYPE_LIST, .of = TYPE_TEXT, .preset = "{}", .doc = "its address"},
        {.size = sizeof *options, .name = "wait", .type = TYPE_DURATION, .preset = "\"2s\"", .doc = "for each answer"},
    };
    struct service *s = filter_memory(f);
    const struct filter_value *o = filter_options(f, options, sizeof options / sizeof *options);
    if (!o)
        return false;
    struct filter_text address = filter_value_text(filter_value_at(filter_value_get(o, "1"), 0, NULL));
    snprintf(s->address, sizeof s->address, "%.*s", (int)address.len, address.at ? address.at : "");
    s->wait = (unsigned)(filter_value_number(filter_value_get(o, "wait")) * 1000);
    return *s->address || (filter_complain(f, NULL, NULL, 0, "it needs an address"), false);
}

static const struct service *of(struct filter_call *call)
{
    return filter_memory(filter_of(call));
}

/* What is to be said at this stage. */
static void say(struct filter_call *call, struct filter_stream *to)
{
    struct filter_path path = {.size = sizeof path};
    char line[1200] = "END\n";
    bool mail = filter_stage(call) == FILTER_MAIL;
    if (mail ? filter_reverse_path(call, &path) : filter_stage(call) == FILTER_RCPT && filter_rcpt(call, filter_rcpt_now(call), &path))
        snprintf(line, sizeof line, "%s %.*s\n", mail ? "MAIL" : "RCPT", (int)path.address.len, path.address.at);
    filter_put(to, line, strlen(line));
}

static enum filter_verdict ask(struct filter_call *call, struct filter_stream *of_it)
{
    struct place *place = filter_keep(call, LIFE_CALL);
    place->doing = ASKING;
    say(call, of_it);
    filter_read(call, of_it, 1, of(call)->wait);
    return VERDICT_SUSPEND;
}

static enum filter_verdict give(struct filter_call *call, struct filter_stream *to)
{
    struct filter_chunk chunk = {.size = sizeof chunk};
    struct place *place = filter_keep(call, LIFE_CALL);
    char line[40];
    if (!filter_chunk(call, &chunk) || !chunk.octets.len)
        return VERDICT_CONTINUE;
    snprintf(line, sizeof line, "BODY %zu\n", chunk.octets.len);
    filter_put(to, line, strlen(line));
    if (filter_put(to, chunk.octets.at, chunk.octets.len))
        return VERDICT_CONTINUE;
    place->doing = FLUSHING;
    filter_flush(call, to);
    return VERDICT_SUSPEND;
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    struct visit *visit = filter_keep(call, LIFE_TRANSACTION);
    struct place *place = filter_keep(call, LIFE_CALL);
    if (stage == FILTER_RESET) {
        if (visit)
            filter_stream_close(&visit->stream);
        return VERDICT_CONTINUE;
    }
    if (stage == FILTER_MAIL) {
        struct filter_dial dial = {.size = sizeof dial, .address = of(call)->address, .ms = of(call)->wait, .pooled = true};
        place->doing = DIALLING;
        filter_dial(call, LIFE_TRANSACTION, &dial);
        return VERDICT_SUSPEND;
    }
    if (!visit->stream)
        return filter_error(call, "the connection to the service is gone");
    return stage == FILTER_BODY ? give(call, visit->stream) : ask(call, visit->stream);
}

static enum filter_verdict judge(struct filter_call *call, const char *at, size_t len)
{
    struct visit *visit = filter_keep(call, LIFE_TRANSACTION);
    bool last = filter_stage(call) == FILTER_MESSAGE;
    if (len >= 2 && !memcmp(at, "OK", 2)) {
        if (last)
            filter_stream_keep(&visit->stream);
        return VERDICT_CONTINUE;
    }
    if (len > 7 && !memcmp(at, "REJECT ", 7))
        return filter_reject(call, "%.*s", (int)(len - 7), at + 7);
    if (len > 6 && !memcmp(at, "DEFER ", 6))
        return filter_defer(call, "%.*s", (int)(len - 6), at + 6);
    filter_stream_close(&visit->stream);
    return filter_error(call, "the service talks nonsense");
}

static enum filter_verdict heard(struct filter_call *call, const struct filter_event *e)
{
    struct visit *visit = filter_keep(call, LIFE_TRANSACTION);
    struct place *place = filter_keep(call, LIFE_CALL);
    const char *end = e->octets.len ? memchr(e->octets.at, '\n', e->octets.len) : NULL;
    if (!end && (e->ended || e->octets.len > 1000)) {
        filter_stream_close(&visit->stream);
        return filter_error(call, e->ended ? "the service closed" : "the service has no line end");
    }
    if (!end) {
        filter_read(call, visit->stream, e->octets.len + 1, of(call)->wait);
        return VERDICT_SUSPEND;
    }
    char line[1001];
    size_t len = (size_t)(end - e->octets.at);
    len = len < sizeof line ? len : sizeof line - 1;
    memcpy(line, e->octets.at, len);
    filter_consume(visit->stream, (size_t)(end - e->octets.at) + 1);
    if (place->doing != GREETING)
        return judge(call, line, len);
    if (len == 5 && !memcmp(line, "HELLO", 5))
        return ask(call, visit->stream);
    filter_stream_close(&visit->stream);
    return filter_error(call, "this is no such service");
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *e)
{
    struct visit *visit = filter_keep(call, LIFE_TRANSACTION);
    struct place *place = filter_keep(call, LIFE_CALL);
    if (e->error) {
        filter_stream_close(&visit->stream);
        return filter_error(call, "%.*s", (int)e->why.len, e->why.at ? e->why.at : "");
    }
    if (place->doing == DIALLING) {
        visit->stream = e->stream;
        place->doing = GREETING;
        filter_put(visit->stream, "HI\n", 3);
        filter_read(call, visit->stream, 1, of(call)->wait);
        return VERDICT_SUSPEND;
    }
    return place->doing == FLUSHING ? VERDICT_CONTINUE : heard(call, e);
}

static void cancel(struct filter_call *call, enum filter_cancel why)
{
    struct visit *visit = filter_keep(call, LIFE_TRANSACTION);
    (void)why;
    if (visit)
        filter_stream_close(&visit->stream);
}

static const struct filter_def service = {
    .size = sizeof service, .abi = FILTER_ABI, .name = "service", .doc = "asks a service",
    .stages = 1u << FILTER_MAIL | 1u << FILTER_RCPT | 1u << FILTER_BODY | 1u << FILTER_MESSAGE | 1u << FILTER_RESET,
    .filter_memory = sizeof(struct service), .transaction_memory = sizeof(struct visit), .call_memory = sizeof(struct place),
    .open = open_service, .hook = hook, .resume = resume, .cancel = cancel,
};

const struct filter_def *const *sluice_filters(unsigned host_abi)
{
    static const struct filter_def *const list[] = {&service, NULL};
    return host_abi >= FILTER_ABI ? list : NULL;
}
