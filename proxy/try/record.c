/* record.c - events become calls with what belongs to them. All memory is in the record's arena. */
#include "try/record.h"

const char *stage_name(enum filter_stage stage)
{
    static const char *const names[] = {"connect", "tls",  "helo", "auth",    "mail",  "rcpt",  "data",
                                        "headers", "body", "part", "message", "reply", "reset", "disconnect"};
    return stage < countof(names) ? names[stage] : "?";
}

const char *verdict_name(enum filter_verdict verdict)
{
    static const char *const names[] = {"continue", "suspend", "skip",    "accept",     "pass",   "reject",
                                        "defer",    "drop",    "discard", "quarantine", "reword", "error"};
    return verdict < countof(names) ? names[verdict] : "?";
}

const char *edit_name(enum edit_kind kind)
{
    static const char *const names[] = {"field_add", "field_set", "field_remove", "field_rename", "body",
                                        "from",      "rcpt_add",  "rcpt_set",     "rcpt_remove",  "route"};
    return names[kind];
}

/* The call of this number; made when it is heard of first. Nearly always the last one. */
static struct kept_call *call_of(struct record *r, const struct trace_event *e)
{
    for (struct kept_call *c = r->last; c; c = c->prev)
        if (c->n == e->call)
            return c;
    struct kept_call *c = arena_alloc(&r->arena, sizeof *c);
    const struct chain *chain = r->visit->conf->chain;
    *c = (struct kept_call){.n = e->call, .rcpt = e->rcpt, .stage = e->stage, .filter = e->filter, .prev = r->last};
    while (c->place < chain->nfilters && chain->filters[c->place] != e->filter)
        c->place++;
    c->place++;
    if (r->last)
        r->last->next = c;
    else
        r->first = c;
    r->last = c;
    return c;
}

/* "x.lua:26" in front of ": what is wrong". */
static struct str place_in(struct str why)
{
    struct str rest = why, file = str_cut(&rest, ':'), line = str_cut(&rest, ':');
    uint64_t n;
    bool is = rest.at && file.len && !memchr(file.at, ' ', file.len) && str_number(line, &n);
    return is ? str_part(why, 0, file.len + 1 + line.len) : STR_NONE;
}

static uint64_t since_began(const struct record *r)
{
    return loop_micros(r->visit->filters->worker->loop) - r->began;
}

static void take_verdict(struct record *r, struct kept_call *c, const struct trace_event *e)
{
    const struct message *m = r->visit->message;
    c->ended = true;
    c->said = e->verdict.said;
    c->over = e->verdict.over;
    c->service = e->verdict.service;
    c->reply = reply_keep(&r->arena, &e->verdict.reply);
    c->why = arena_str(&r->arena, e->verdict.why);
    c->at = c->said == VERDICT_ERROR ? place_in(c->why) : STR_NONE;
    c->run = e->verdict.run;
    c->waited = e->verdict.waited;
    c->t = since_began(r);
    c->score = m ? m->score - r->score : 0;
    r->score += c->score;
    if (c->over)
        r->decided = c;
}

static void take_edit(struct record *r, struct kept_call *c, const struct trace_event *e)
{
    struct kept_edit *edit = arena_alloc(&r->arena, sizeof *edit), **end = &c->edits;
    *edit = (struct kept_edit){.n = ++r->nedits,
                               .call = c->n,
                               .index = e->edit.index,
                               .filter = c->filter,
                               .kind = e->edit.kind,
                               .name = arena_str(&r->arena, e->edit.name),
                               .before = arena_str(&r->arena, e->edit.before),
                               .after = arena_str(&r->arena, e->edit.after),
                               .octets_before = e->edit.octets_before,
                               .octets_after = e->edit.octets_after,
                               .t = since_began(r),
                               .applied = e->edit.applied};
    while (*end)
        end = &(*end)->of_call;
    *end = edit;
    *r->edits_end = edit;
    r->edits_end = &edit->next;
}

#define APPEND(list, type, ...)                                                                                        \
    do {                                                                                                               \
        type **end_ = &(list);                                                                                         \
        while (*end_)                                                                                                  \
            end_ = &(*end_)->next;                                                                                     \
        *end_ = arena_alloc(&r->arena, sizeof **end_);                                                                 \
        **end_ = (type){__VA_ARGS__};                                                                                  \
    } while (0)

static void take(struct trace *trace, const struct trace_event *e)
{
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    struct record *r = (struct record *)trace; /* its first member */
    struct kept_call *c = call_of(r, e);
    switch (e->kind) {
    case TRACE_CALL: take_verdict(r, c, e); break;
    case TRACE_EDIT: take_edit(r, c, e); break;
    case TRACE_WAIT:
        APPEND(c->waits, struct kept_wait, .op = e->wait.op, .what = arena_str(&r->arena, e->wait.what),
               .took = e->wait.took, .result = e->wait.result);
        break;
    case TRACE_NOTE:
        APPEND(c->notes, struct kept_note, .name = arena_str(&r->arena, e->note.name),
               .value = arena_str(&r->arena, e->note.value));
        break;
    case TRACE_LOG:
        APPEND(c->logs, struct kept_log, .level = levels[e->log.level], .text = arena_str(&r->arena, e->log.text));
        break;
    }
}

void record_start(struct record *r, const struct visit *v, uint64_t now)
{
    *r = (struct record){.trace = {.take = take}, .visit = v, .began = now, .arena = {.first = 8192}};
    r->edits_end = &r->edits;
}

void record_free(struct record *r)
{
    arena_reset(&r->arena);
}

static bool is_listed(const struct services *s, struct str name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (str_equal(s->names[i], name))
            return true;
    return false;
}

void record_services(const struct record *r, struct services *s)
{
    for (const struct kept_call *c = r->first; c; c = c->next)
        for (const struct kept_wait *w = c->waits; w; w = w->next) {
            if (strcmp(w->op, "dial") != 0 || w->result || is_listed(s, w->what))
                continue;
            if (s->n == s->room)
                s->names = must_grow(s->names, (s->room = s->room ? s->room * 2 : 8) * sizeof *s->names);
            s->names[s->n++] = arena_str(&s->arena, w->what);
        }
}

void services_free(struct services *s)
{
    free(s->names);
    arena_reset(&s->arena);
}
