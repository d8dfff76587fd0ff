/* edits.c - what filters have made of a message, said to the MTA in the fewest actions.
 *
 * Their order is one that Postfix and Sendmail understand alike (tests/interop/milter/table.txt): fields that came are
 * changed and removed, for each name from the last to the first, so that no index moves; then fields are put in at the
 * top, from the top down, and at the bottom; the body in one run; recipients, the sender, the quarantine. All but the
 * body is made before the first word is said: what cannot be said refuses the message. */
#include "milter/milter.h"
#include "base/log.h"

enum { AT_BOTTOM = 0x3fffffff };

static bool leadspc(const struct milter *m)
{
    return m->agreed.protocol & MILTER_HDR_LEADSPC;
}

/* ---- fields ---- */

void milter_keep_fields(struct milter *m)
{
    const struct headers *h = &m->message.headers;
    m->was = arena_alloc(&m->message.arena, (m->fields + 1) * sizeof *m->was);
    for (uint32_t i = 0; i < m->fields; i++)
        m->was[i] = (struct was){h->by_handle[i]->name, h->by_handle[i]->value};
}

struct plan {
    struct milter *m;
    struct planned *first, **end;
    bool failed; /* something of it cannot be said */
};

static void plan_add(struct plan *plan, struct milter_packet packet)
{
    struct planned *one = arena_alloc(&plan->m->message.arena, sizeof *one);
    one->packet = packet;
    *plan->end = one;
    plan->end = &one->next;
    if (milter_size(&packet, MILTER_FROM_FILTER))
        return;
    plan->failed = true;
    log_say(LOG_ERROR, "%s.%u: an edit cannot be said to the MTA: '%c' of \"%.*s\", %zu octets", plan->m->visit.id,
            plan->m->message.number, packet.kind, (int)min_size(packet.name.len, 100),
            packet.name.at ? packet.name.at : "", packet.value.len);
}

static bool is_blank(struct str s)
{
    return str_trim(s).len == 0;
}

/* An empty value would remove the field: a blank stands for it. */
static struct str value_said(struct plan *plan, struct str raw)
{
    return is_blank(raw) ? STR(" ") : milter_value_out(raw, leadspc(plan->m), &plan->m->message.arena);
}

/* Its octets are hashed in lower case: names are one in any case of letters. */
static uint64_t hash_of(struct str name, struct arena *arena)
{
    return str_hash(arena_lower(arena, name), 0x6d696c7465720001u);
}

/* For each field that came its number among those of its name, from 1. In the scratch arena. */
static uint32_t *number_fields(struct milter *m)
{
    size_t size = 16;
    while (size < 2u * m->fields)
        size *= 2;
    struct name_count {
        const struct was *of;
        uint32_t n;
    } *counts = arena_alloc(&m->scratch, size * sizeof *counts);
    uint32_t *numbers = arena_alloc(&m->scratch, (m->fields + 1) * sizeof *numbers);
    for (uint32_t i = 0; i < m->fields; i++) {
        size_t at = hash_of(m->was[i].name, &m->scratch) & (size - 1);
        while (counts[at].of && !str_equal_nocase(counts[at].of->name, m->was[i].name))
            at = (at + 1) & (size - 1);
        counts[at].of = &m->was[i];
        numbers[i] = ++counts[at].n;
    }
    return numbers;
}

static bool is_left(const struct milter *m, const struct field *f)
{
    return f->handle <= m->fields && !f->removed && str_equal_nocase(f->name, m->was[f->handle - 1].name);
}

/* How many fields may be put in at the top: where the MTA shows us none of its own, those that filters put there; they
 * stand first. */
static uint32_t top_most(const struct milter *m)
{
    uint32_t n = 0;
    if (!(m->agreed.protocol & MILTER_NOHDRS))
        return UINT32_MAX;
    for (const struct queued_field *q = m->message.queued; q; q = q->next)
        n += q->top;
    return n;
}

static void plan_fields(struct plan *plan)
{
    struct milter *m = plan->m;
    const struct headers *h = &m->message.headers;
    uint32_t *numbers = number_fields(m);
    for (uint32_t i = m->fields; i-- > 0;) {
        const struct field *f = h->by_handle[i];
        if (!is_left(m, f))
            plan_add(plan, (struct milter_packet){
                               .kind = 'm', .index = numbers[i], .name = m->was[i].name, .value = STR("")});
        else if (!str_equal(f->value, m->was[i].value))
            plan_add(plan, (struct milter_packet){.kind = 'm',
                                                  .index = numbers[i],
                                                  .name = m->was[i].name,
                                                  .value = value_said(plan, f->value)});
    }
    uint32_t top = 1, most = top_most(m);
    bool below = false;
    for (const struct field *f = h->first; f; f = f->next) {
        below |= is_left(m, f) || top > most;
        if (!is_left(m, f))
            plan_add(plan, (struct milter_packet){.kind = 'i',
                                                  .index = below ? AT_BOTTOM : top++,
                                                  .name = f->name,
                                                  .value = value_said(plan, f->value)});
    }
}

/* ---- envelope ---- */

static struct str words(struct milter *m, const char *one, struct str a, const char *other, struct str b)
{
    struct str text = a.len ? arena_print(&m->message.arena, "%s=%.*s", one, STR_ARGS(a)) : STR("");
    return b.len ? arena_print(&m->message.arena, "%.*s%s%s=%.*s", STR_ARGS(text), text.len ? " " : "", other,
                               STR_ARGS(b))
                 : text;
}

static void plan_added(struct plan *plan, const struct rcpt *r)
{
    struct milter *m = plan->m;
    struct str params = words(m, "NOTIFY", r->params.notify, "ORCPT", r->params.orcpt);
    bool with = params.len && (m->agreed.actions & MILTER_ADDRCPT_PAR);
    plan_add(plan, (struct milter_packet){.kind = with ? '2' : '+',
                                          .name = path_print(&r->path, &m->message.arena),
                                          .value = with ? params : STR_NONE});
}

static bool is_out(const struct rcpt *r)
{
    return r->fate == FATE_DROPPED || r->fate == FATE_DISCARDED;
}

static void plan_rcpts(struct plan *plan)
{
    struct milter *m = plan->m;
    const struct message *message = &m->message;
    for (const struct heard *at = m->heard; at; at = at->next) {
        const struct rcpt *r = &message->rcpts[at->rcpt];
        if (is_out(r) || (r->fate == FATE_ACCEPTED && !str_equal(r->path.raw, at->path)))
            plan_add(plan, (struct milter_packet){.kind = '-', .name = at->raw});
    }
    for (const struct heard *at = m->heard; at; at = at->next) {
        const struct rcpt *r = &message->rcpts[at->rcpt];
        if (r->fate == FATE_ACCEPTED && !str_equal(r->path.raw, at->path))
            plan_added(plan, r);
    }
    for (uint32_t i = 0; i < message->nrcpts; i++)
        if (rcpt_is_added(&message->rcpts[i]) && message->rcpts[i].fate != FATE_DROPPED)
            plan_added(plan, &message->rcpts[i]);
}

static void plan_sender(struct plan *plan)
{
    struct milter *m = plan->m;
    const struct message *message = &m->message;
    if (str_equal(message->from.raw, m->from.raw) && str_equal(message->params.text, m->from_params))
        return;
    struct str params = words(m, "RET", message->params.ret, "ENVID", message->params.envid);
    plan_add(plan, (struct milter_packet){.kind = 'e',
                                          .name = path_print(&message->from, &m->message.arena),
                                          .value = params.len ? params : STR_NONE});
}

static void plan_quarantine(struct plan *plan)
{
    const struct message *message = &plan->m->message;
    enum { REASON_MOST = 200 };
    char reason[REASON_MOST];
    size_t n = min_size(message->verdict_why.len, REASON_MOST);
    if (!message->quarantined)
        return;
    for (size_t i = 0; i < n; i++)
        reason[i] =
            message->verdict_why.at[i] >= ' ' && message->verdict_why.at[i] < 127 ? message->verdict_why.at[i] : '?';
    struct str text = arena_str(&plan->m->message.arena, (struct str){reason, n});
    plan_add(plan, (struct milter_packet){.kind = 'q', .value = text.len ? text : STR("quarantined by a filter")});
}

/* ---- said ---- */

static void say_all(struct milter *m, const struct planned *one)
{
    for (; one; one = one->next)
        milter_say_packet(m, &one->packet);
}

static bool refuse(struct milter *m)
{
    flow_refuse_named(&m->visit, REPLY_FILTER_FAILED);
    return true;
}

/* Nothing instead of nothing is no edit: an MTA would put an empty line behind fields that came without. */
static bool is_body_changed(const struct milter *m)
{
    const struct flow *f = &m->message.flow;
    return f->emitted && (m->message.octets > m->head_octets || spool_octets(f->spool));
}

static bool begin(struct milter *m)
{
    struct plan fields = {.m = m}, last = {.m = m};
    fields.end = &fields.first;
    last.end = &last.first;
    plan_fields(&fields);
    plan_rcpts(&last);
    plan_sender(&last);
    plan_quarantine(&last);
    if (fields.failed || last.failed)
        return false;
    say_all(m, fields.first);
    m->planned = last.first;
    m->edit = is_body_changed(m) ? EDIT_BODY : EDIT_LAST;
    return true;
}

/* As much as there is room for. True: all of it has been said, or cannot be. */
static bool say_body(struct milter *m)
{
    struct flow *f = &m->message.flow;
    bool all = false;
    if (!spool_octets(f->spool)) {
        milter_say_packet(m, &(struct milter_packet){.kind = 'b'});
        return true;
    }
    while (!all && !pipe_is_full(&m->stream->out)) {
        all = spool_take(f->spool, &m->said_body) || spool_failed(f->spool);
        while (m->said_body.octets >= (all ? 1 : MILTER_DATA_MOST)) {
            size_t n = min_size(m->said_body.octets, MILTER_DATA_MOST);
            struct arena flat = {0};
            milter_say_packet(m, &(struct milter_packet){.kind = 'b', .rest = pipe_flat(&m->said_body, n, &flat)});
            pipe_drop(&m->said_body, n);
            arena_reset(&flat);
        }
        pipe_compact(&m->said_body); /* it has room again for a whole packet */
    }
    return all;
}

bool milter_edits(struct milter *m)
{
    if (m->edit == EDIT_NOT_BEGUN && !begin(m))
        return refuse(m);
    if (m->edit == EDIT_BODY) {
        if (!say_body(m))
            return false;
        if (spool_failed(m->message.flow.spool))
            return refuse(m);
        m->edit = EDIT_LAST;
    }
    say_all(m, m->planned);
    return true;
}
