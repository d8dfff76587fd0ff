/* edits.c - envelope, fields and body as filters see and change them (filters/filter.h).
 *
 * An edit of a filter under `observe` is taken and thrown away; one that was not declared, or comes too late for what the
 * backend has been told, is refused with a reason. */
#include "mail/trace.h"
#include "mail/outlet.h"
#include "base/idn.h"

static bool refused_as(struct filter_call *call, enum filter_refused kind, const char *why)
{
    call->refused = kind;
    call->edit_error = str_of(why);
    return false;
}

static bool refused(struct filter_call *call, const char *why)
{
    return refused_as(call, REFUSED_HERE, why);
}

static unsigned flags_of(const struct filter_call *call)
{
    return call->filter->flags & ~(call->slot->flags_less | call->slot->flags_less_tx);
}

struct filter_text filter_refusal(const struct filter_call *call)
{
    return (struct filter_text){call->edit_error.at ? call->edit_error.at : "", call->edit_error.len};
}

enum filter_refused filter_refused(const struct filter_call *call)
{
    return call->refused;
}

static void edited(struct filter_call *call)
{
    call->slot->edited = true;
    call->message->edits++;
}

/* ---- envelope -------------------------------------------------------------------------------------------------------- */

/* One spelling for one domain: that of the envelope stays as it came. */
static struct filter_text folded(struct filter_call *call, const struct path *path)
{
    char room[IDN_ROOM];
    return fact_of_text(path->utf8 ? arena_str(&call->arena, idn_fold(path->domain, room)) : path->domain);
}

static void show_path(struct filter_call *call, const struct path *path, const struct params *params, unsigned state,
                      struct filter_path *out)
{
    struct filter_path shown = {
        .size = sizeof shown,
        .address = fact_of_text(path->address),
        .local = fact_of_text(path->local),
        .domain = folded(call, path),
        .raw = fact_of_text(path->raw),
        .params = fact_of_text(params->text),
    };
    shown.state = state;
    size_t size = out->size;
    memcpy(out, &shown, min_size(size ? size : sizeof shown, sizeof shown));
    out->size = size;
}

bool filter_reverse_path(struct filter_call *call, struct filter_path *out)
{
    if (!call->message)
        return refused(call, "there is no transaction");
    show_path(call, &call->message->from, &call->message->params, RCPT_ACCEPTED, out);
    return true;
}

size_t filter_rcpt_count(struct filter_call *call)
{
    return call->message ? call->message->nrcpts : 0;
}

bool filter_rcpt(struct filter_call *call, size_t i, struct filter_path *out)
{
    static const unsigned states[] = {
        [FATE_HELD] = RCPT_PENDING,     [FATE_PASSED] = RCPT_PENDING,  [FATE_ASKED] = RCPT_PENDING,
        [FATE_ACCEPTED] = RCPT_ACCEPTED, [FATE_REFUSED] = RCPT_REFUSED, [FATE_DISCARDED] = RCPT_DROPPED,
        [FATE_DROPPED] = RCPT_DROPPED};
    if (!call->message)
        return refused(call, "there is no transaction");
    if (i >= call->message->nrcpts)
        return refused_as(call, REFUSED_INPUT, "there is no such recipient");
    const struct rcpt *r = &call->message->rcpts[i];
    unsigned state = rcpt_is_added(r) && r->fate != FATE_DROPPED ? RCPT_ADDED : states[r->fate];
    show_path(call, &r->path, &r->params, state, out);
    return true;
}

size_t filter_rcpt_now(struct filter_call *call)
{
    return call->rcpt;
}

/* May the envelope still be changed by this filter at this stage? */
static bool may_edit_envelope(struct filter_call *call)
{
    if (!call->message || call->stage < FILTER_MAIL)
        return refused(call, "there is no transaction");
    if (call->stage >= FILTER_REPLY)
        return refused(call, "too late for edits");
    if (call->stage > FILTER_DATA && !(flags_of(call) & FILTER_LATE_ENVELOPE))
        return refused_as(call, REFUSED_UNDECLARED, "envelope edits after DATA were not declared");
    return true;
}

static bool parse_address(struct filter_call *call, const char *address, enum path_kind kind, struct path *path)
{
    if (path_from_address(str_of(address), kind, &call->message->arena, path))
        return refused_as(call, REFUSED_INPUT, "not an address");
    if (path->utf8 && !call->message->params.smtputf8)
        return refused_as(call, REFUSED_INPUT, "a non-ASCII address, and the message has no SMTPUTF8");
    return true;
}

static struct capabilities all_of_them(void)
{
    return (struct capabilities){.has = EXT_SIZE | EXT_8BITMIME | EXT_SMTPUTF8 | EXT_DSN};
}

bool filter_set_reverse_path(struct filter_call *call, const char *address, const char *params)
{
    struct path path;
    struct params parsed;
    struct str word;
    if (!may_edit_envelope(call) || !parse_address(call, address, PATH_REVERSE, &path))
        return false;
    if (params && params_parse_mail(str_of(params), SYNTAX_STRICT, all_of_them(), &call->message->arena, &parsed, &word))
        return refused_as(call, REFUSED_INPUT, "bad ESMTP parameters");
    if (call_is_traced(call))
        trace_envelope(call, EDIT_FROM, 0, call->message->from.address, path.address);
    if (call->filter->observe)
        return true;
    call->message->from = path;
    if (params) {
        parsed.size = call->message->params.size;
        parsed.body = call->message->params.body;
        parsed.smtputf8 = call->message->params.smtputf8;
        call->message->params = parsed;
    }
    call->visit->outlet->ops->stale(call->visit->outlet, NULL);
    edited(call);
    return true;
}

bool filter_add_rcpt(struct filter_call *call, const char *address, const char *params, bool needed)
{
    struct message *message = call->message;
    struct path path;
    struct params parsed = {.text = STR("")};
    struct str word;
    if (!may_edit_envelope(call) || !parse_address(call, address, PATH_FORWARD, &path))
        return false;
    if (params && params_parse_rcpt(str_of(params), SYNTAX_STRICT, all_of_them(), &message->arena, &parsed, &word))
        return refused_as(call, REFUSED_INPUT, "bad ESMTP parameters");
    if (message->nrcpts - message->named >= RCPTS_ADDED_MOST)
        return refused_as(call, REFUSED_INPUT, "too many recipients were added");
    if (call_is_traced(call))
        trace_envelope(call, EDIT_RCPT_ADD, message->nrcpts, STR_NONE, path.address);
    if (call->filter->observe)
        return true;
    *message_rcpt(message) = (struct rcpt){
        .path = path, .params = parsed, .added_by = call->filter->name, .needed = needed, .fate = FATE_PASSED};
    edited(call);
    return true;
}

bool filter_set_rcpt(struct filter_call *call, size_t i, const char *address)
{
    struct path path;
    if (!may_edit_envelope(call))
        return false;
    if (i >= call->message->nrcpts)
        return refused_as(call, REFUSED_INPUT, "there is no such recipient");
    if (!parse_address(call, address, PATH_FORWARD, &path))
        return false;
    struct rcpt *r = &call->message->rcpts[i];
    bool in_hand = r->fate == FATE_HELD || (r->fate == FATE_DISCARDED && !r->reply.code);
    if (rcpt_is_added(r) || !in_hand)
        return refused(call, "a recipient can be rewritten only in its own rcpt hook, before the backend is asked");
    if (call_is_traced(call))
        trace_envelope(call, EDIT_RCPT_SET, (uint32_t)i, r->path.address, path.address);
    if (call->filter->observe)
        return true;
    r->path = path;
    edited(call);
    return true;
}

bool filter_drop_rcpt(struct filter_call *call, size_t i)
{
    struct message *message = call->message;
    if (!may_edit_envelope(call))
        return false;
    if (i >= message->nrcpts)
        return refused_as(call, REFUSED_INPUT, "there is no such recipient");
    struct rcpt *r = &message->rcpts[i];
    bool asked = !rcpt_is_added(r) && (r->fate == FATE_ASKED || r->fate == FATE_PASSED);
    if (call_is_traced(call) && (call->filter->observe || !asked))
        trace_envelope(call, EDIT_RCPT_REMOVE, (uint32_t)i, r->path.address, STR_NONE);
    if (call->filter->observe)
        return true;
    if (rcpt_is_added(r)) {
        call->visit->outlet->ops->stale(call->visit->outlet, r);
        r->fate = FATE_DROPPED;
    } else if (r->fate == FATE_HELD) {
        r->fate = FATE_DISCARDED;
    } else if (asked) {
        return refused(call, "the backend is being asked about this recipient");
    } else if (r->fate == FATE_ACCEPTED) {
        call->visit->outlet->ops->stale(call->visit->outlet, r);
        r->fate = FATE_DROPPED;
    }
    edited(call);
    return true;
}

bool filter_route(struct filter_call *call, const char *backend)
{
    struct message *message = call->message;
    if (!message || call->stage >= FILTER_REPLY)
        return refused(call, "there is no transaction");
    struct outlet *outlet = call->visit->outlet;
    const struct next_hop *hop = outlet->ops->hop(outlet, str_of(backend));
    if (!hop)
        return refused_as(call, REFUSED_INPUT, "there is no backend of this name");
    if (call->stage > FILTER_DATA && !(flags_of(call) & FILTER_LATE_ROUTE))
        return refused_as(call, REFUSED_UNDECLARED, "a route after DATA was not declared");
    if (message->quarantined) /* whatever another filter thinks of it: nobody frees it again */
        return refused(call, "the message goes to quarantine");
    const char *why = NULL;
    if (!call->filter->observe)
        why = outlet->ops->route(outlet, hop, call->stage == FILTER_RCPT ? (int64_t)call->rcpt : ROUTE_ALL);
    if (call_is_traced(call) && !why)
        trace_envelope(call, EDIT_ROUTE, call->rcpt, STR_NONE, hop->name);
    enum filter_refused kind = outlet->routeless              ? REFUSED_NO_ROUTES
                               : call->stage == FILTER_RCPT ? REFUSED_ELSEWHERE
                                                            : REFUSED_HERE;
    return !why || refused_as(call, kind, why);
}

/* ---- fields ---------------------------------------------------------------------------------------------------------- */

static struct headers *fields_of(struct filter_call *call)
{
    return call->message && call->stage >= FILTER_HEADERS ? &call->message->headers : NULL;
}

static bool may_edit_fields(struct filter_call *call)
{
    if (!call->message || call->stage < FILTER_MAIL || call->stage >= FILTER_REPLY)
        return refused(call, "fields cannot be edited at this stage");
    if (call->stage < FILTER_HEADERS)
        return refused(call, "before the headers stage fields can only be added");
    if (call->stage > FILTER_HEADERS && !(flags_of(call) & FILTER_LATE_FIELDS))
        return refused_as(call, REFUSED_UNDECLARED, "field edits after the headers stage were not declared: edit in headers, or edits_late()");
    return true;
}

uint32_t filter_field_next(struct filter_call *call, uint32_t after, const char *name)
{
    struct headers *h = fields_of(call);
    struct field *from = h && after ? headers_field(h, after) : NULL;
    if (!h || (after && !from))
        return 0;
    struct field *f = headers_next(h, from, name ? str_of(name) : STR_NONE);
    return f ? f->handle : 0;
}

uint32_t filter_field_back(struct filter_call *call, uint32_t before, const char *name)
{
    struct headers *h = fields_of(call);
    struct field *from = h && before ? headers_field(h, before) : NULL;
    if (!h || (before && !from))
        return 0;
    struct field *f = headers_back(h, from, name ? str_of(name) : STR_NONE);
    return f ? f->handle : 0;
}

bool filter_field(struct filter_call *call, uint32_t handle, struct filter_field *out)
{
    struct headers *h = fields_of(call);
    struct field *f = h ? headers_field(h, handle) : NULL;
    if (!f || f->hidden)
        return refused_as(call, REFUSED_INPUT, "there is no such field");
    out->name = fact_of_text(f->name);
    out->value = fact_of_text(f->value);
    return true;
}

/* Before the headers stage an added field waits in the transaction: it is put in when the section is whole. */
/* What a filter writes there in one transaction, what it overwrites again included: that memory is the transaction's.
 */
static bool may_write(struct filter_call *call, size_t octets)
{
    if (call->slot->added + octets > call->visit->conf->limits.header_size)
        return refused_as(call, REFUSED_INPUT, "this filter has written more than limits.header_size into the header section");
    call->slot->added += octets;
    return true;
}

uint32_t filter_field_add(struct filter_call *call, uint32_t before, const char *name, struct filter_text value)
{
    struct message *message = call->message;
    if (!message || call->stage < FILTER_MAIL || call->stage >= FILTER_REPLY)
        return refused(call, "fields cannot be added at this stage");
    if (call->stage > FILTER_HEADERS && !(flags_of(call) & FILTER_LATE_FIELDS))
        return refused_as(call, REFUSED_UNDECLARED, "field edits after the headers stage were not declared: edit in headers, or edits_late()");
    struct str octets = {value.at ? value.at : "", value.len};
    if (call->filter->observe) {
        if (call_is_traced(call))
            trace_field(call, EDIT_FIELD_ADD, &(struct field){.name = str_of(name)}, STR_NONE,
                        arena_print(&call->arena, "%s: %.*s\r\n", name, STR_ARGS(octets)));
        return 1;
    }
    if (!may_write(call, strlen(name) + value.len + 4)) /* ": " and CRLF */
        return 0;
    if (call->stage < FILTER_HEADERS) {
        struct queued_field *q = arena_alloc(&message->arena, sizeof *q);
        *q = (struct queued_field){.top = before != FILTER_BOTTOM,
                                   .name = arena_str(&message->arena, str_of(name)),
                                   .value = arena_str(&message->arena, octets)};
        struct queued_field **end = &message->queued;
        unsigned n = 0;
        for (; *end; end = &(*end)->next)
            n++;
        if (n >= 100)
            return refused_as(call, REFUSED_INPUT, "too many fields were added before the headers stage");
        *end = q;
        edited(call);
        if (call_is_traced(call))
            trace_field(call, EDIT_FIELD_ADD, &(struct field){.name = q->name}, STR_NONE,
                        arena_print(&call->arena, "%s: %.*s\r\n", name, STR_ARGS(octets)));
        return UINT32_MAX - 1 - n;
    }
    struct field *at = before && before != FILTER_TOP ? headers_field(&message->headers, before) : NULL;
    if (before && before != FILTER_TOP && !at)
        return refused_as(call, REFUSED_INPUT, "there is no such field");
    struct field *f = headers_add(&message->headers, at, before == FILTER_TOP, str_of(name), octets);
    if (!f)
        return refused_as(call, REFUSED_INPUT, "bad field name or value");
    edited(call);
    if (call_is_traced(call))
        trace_field(call, EDIT_FIELD_ADD, f, STR_NONE, f->raw);
    return f->handle;
}

static struct field *field_to_edit(struct filter_call *call, uint32_t handle)
{
    if (!may_edit_fields(call))
        return NULL;
    struct field *f = headers_field(&call->message->headers, handle);
    if (!f || f->hidden)
        refused_as(call, REFUSED_INPUT, "there is no such field");
    return f && !f->hidden ? f : NULL;
}

bool filter_field_set(struct filter_call *call, uint32_t handle, struct filter_text value)
{
    struct field *f = field_to_edit(call, handle);
    if (!f)
        return false;
    struct str before = f->raw, octets = {value.at ? value.at : "", value.len};
    if (call->filter->observe) {
        if (call_is_traced(call))
            trace_field(call, EDIT_FIELD_SET, f, before, arena_print(&call->arena, "%.*s: %.*s\r\n", STR_ARGS(f->name), STR_ARGS(octets)));
        return true;
    }
    if (!may_write(call, value.len))
        return false;
    if (!headers_set(&call->message->headers, f, octets))
        return refused_as(call, REFUSED_INPUT, "bad field value");
    edited(call);
    if (call_is_traced(call))
        trace_field(call, EDIT_FIELD_SET, f, before, f->raw);
    return true;
}

bool filter_field_rename(struct filter_call *call, uint32_t handle, const char *name)
{
    struct field *f = field_to_edit(call, handle);
    if (!f)
        return false;
    struct str before = f->raw;
    if (call->filter->observe) {
        if (call_is_traced(call))
            trace_field(call, EDIT_FIELD_RENAME, f, before, arena_print(&call->arena, "%s:%.*s\r\n", name, STR_ARGS(f->value)));
        return true;
    }
    if (!may_write(call, strlen(name)))
        return false;
    if (!headers_rename(&call->message->headers, f, str_of(name)))
        return refused_as(call, REFUSED_INPUT, "bad field name");
    edited(call);
    if (call_is_traced(call))
        trace_field(call, EDIT_FIELD_RENAME, f, before, f->raw);
    return true;
}

bool filter_field_remove(struct filter_call *call, uint32_t handle)
{
    struct field *f = field_to_edit(call, handle);
    if (!f)
        return false;
    if (call_is_traced(call))
        trace_field(call, EDIT_FIELD_REMOVE, f, f->raw, STR_NONE);
    if (!call->filter->observe) {
        headers_remove(&call->message->headers, f);
        edited(call);
    }
    return true;
}

/* ---- body ------------------------------------------------------------------------------------------------------------ */

bool filter_chunk(struct filter_call *call, struct filter_chunk *out)
{
    if (call->stage != FILTER_BODY)
        return refused(call, "a chunk is there in the body stage only");
    const struct flow *f = &call->message->flow;
    out->octets = (struct filter_text){f->chunk_octets.at, f->chunk_octets.len};
    out->offset = f->chunk_offset;
    out->last = f->chunk_last;
    return true;
}

bool filter_emit(struct filter_call *call, const void *octets, size_t n)
{
    unsigned flags = flags_of(call);
    bool legal = (call->stage == FILTER_BODY && (flags & FILTER_EDITS_BODY)) ||
                 (call->stage == FILTER_MESSAGE && (flags & FILTER_LATE_BODY));
    if (!legal || n > 1048576) {
        call->undeclared = true;
        return refused_as(call, legal ? REFUSED_INPUT : REFUSED_UNDECLARED,
                          legal ? "more than 1 MiB in one call" : "emitting was not declared for this stage");
    }
    call->emitted_octets += n;
    if (!call->emitted && !call->filter->observe)
        edited(call);
    call->emitted = true;
    if (call->filter->observe)
        return true;
    return flow_emit(call->visit, (struct str){octets ? octets : "", n});
}
