/* trace.c - events handed to the listener of a visit. Keeps nothing. */
#include "mail/trace.h"

static struct trace_event event_of(const struct filter_call *call, enum trace_kind kind)
{
    return (struct trace_event){
        .kind = kind, .call = call->number, .stage = call->stage, .filter = call->filter, .rcpt = call->rcpt};
}

static void tell(const struct filter_call *call, const struct trace_event *event)
{
    call->visit->trace->take(call->visit->trace, event);
}

void trace_call(const struct filter_call *call, enum filter_verdict said, bool over, const struct reply *reply)
{
    struct trace_event e = event_of(call, TRACE_CALL);
    e.verdict.said = said;
    e.verdict.over = over;
    e.verdict.service = call->service_failed;
    e.verdict.reply = *reply;
    e.verdict.why = call->verdict.why;
    e.verdict.run = call->ran;
    e.verdict.waited = call->waited;
    tell(call, &e);
}

void trace_wait(const struct filter_call *call, const char *op, struct str what, uint64_t took, const char *result)
{
    struct trace_event e = event_of(call, TRACE_WAIT);
    e.wait.op = op;
    e.wait.what = what;
    e.wait.took = took;
    e.wait.result = result;
    tell(call, &e);
}

/* Those of the same name above it. */
static uint32_t index_of(const struct filter_call *call, const struct field *field)
{
    uint32_t n = 0;
    for (const struct field *f = field; (f = headers_back(&call->message->headers, f, field->name));)
        n++;
    return n;
}

void trace_field(const struct filter_call *call, enum edit_kind kind, const struct field *field, struct str before,
                 struct str after)
{
    struct trace_event e = event_of(call, TRACE_EDIT);
    e.edit.kind = kind;
    e.edit.name = field->name;
    e.edit.index = field->handle ? index_of(call, field) : 0;
    e.edit.before = before;
    e.edit.after = after;
    e.edit.applied = !call->filter->observe;
    tell(call, &e);
}

void trace_envelope(const struct filter_call *call, enum edit_kind kind, uint32_t rcpt, struct str before,
                    struct str after)
{
    struct trace_event e = event_of(call, TRACE_EDIT);
    e.edit.kind = kind;
    e.edit.index = rcpt;
    e.edit.before = before;
    e.edit.after = after;
    e.edit.applied = !call->filter->observe;
    tell(call, &e);
}

void trace_body(const struct filter_call *call, uint64_t before, uint64_t after)
{
    struct trace_event e = event_of(call, TRACE_EDIT);
    e.edit.kind = EDIT_BODY;
    e.edit.octets_before = before;
    e.edit.octets_after = after;
    e.edit.applied = !call->filter->observe;
    tell(call, &e);
}

void trace_note(const struct filter_call *call, struct str name, struct str value)
{
    struct trace_event e = event_of(call, TRACE_NOTE);
    e.note.name = name;
    e.note.value = value;
    tell(call, &e);
}

void trace_log(const struct filter_call *call, enum filter_level level, struct str text)
{
    struct trace_event e = event_of(call, TRACE_LOG);
    e.log.level = level;
    e.log.text = text;
    tell(call, &e);
}
