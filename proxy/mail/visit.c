/* visit.c - one stage at a time over the row of filters; verdicts, failures and their scope.
 *
 * Owns the order and the outcome, never a filter's memory (call.c). While a filter's circuit breaker is open, on_error is
 * applied without running it. */
#include "mail/visit.h"
#include "mail/outlet.h"
#include "mail/trace.h"

static const char *const stage_names[] = {
#define STAGE(name, word) [FILTER_##name] = word,
#include "filters/stages.def"
#undef STAGE
};

/* ---- what a chain declares ------------------------------------------------------------------------------------------- */

static bool may(const struct filter *f, enum filter_stage stage)
{
    return f->stages & (1u << stage);
}

bool chain_has(const struct chain *chain, enum filter_stage stage)
{
    for (size_t i = 0; i < chain->nfilters; i++)
        if (may(chain->filters[i], stage))
            return true;
    return false;
}

static const unsigned late = FILTER_LATE_FIELDS | FILTER_LATE_BODY | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE | FILTER_READS_BACK;

enum data_when chain_data_when(const struct chain *chain)
{
    enum data_when say = WHEN_AT_DATA;
    for (size_t i = 0; i < chain->nfilters; i++) {
        const struct filter *f = chain->filters[i];
        if (f->flags & FILTER_READS_BACK)
            say = WHEN_AT_VERDICT; /* also under observe: it reads what is held */
        if (f->observe)
            continue;
        if (f->flags & late)
            say = WHEN_AT_VERDICT;
        else if (say < WHEN_AT_BOUND && (may(f, FILTER_BODY) || may(f, FILTER_MESSAGE) || may(f, FILTER_PART)))
            say = WHEN_AT_BOUND;
        else if (say < WHEN_AFTER_HEADERS && may(f, FILTER_HEADERS))
            say = WHEN_AFTER_HEADERS;
    }
    return say;
}

bool chain_is_binary_safe(const struct chain *chain)
{
    const unsigned content = 1u << FILTER_HEADERS | 1u << FILTER_BODY | 1u << FILTER_PART | 1u << FILTER_MESSAGE;
    for (size_t i = 0; i < chain->nfilters; i++)
        if ((chain->filters[i]->stages & content) && !(chain->filters[i]->flags & FILTER_BINARY_SAFE))
            return false;
    return true;
}

const char *chain_data_when_name(const struct chain *chain)
{
    static const char *const names[] = {"at DATA", "after the header section", "when 256 KiB are held or the verdict is in",
                                        "at the verdict (the content is held)"};
    return names[chain_data_when(chain)];
}

/* Behind each filter that edits fields or body late, unless it is the last or only watches. */
static bool cuts(const struct chain *chain, size_t i)
{
    const struct filter *f = chain->filters[i];
    return i + 1 < chain->nfilters && !f->observe && (f->flags & (FILTER_LATE_FIELDS | FILTER_LATE_BODY)) &&
           may(f, FILTER_MESSAGE);
}

uint16_t chain_passes(const struct chain *chain)
{
    uint16_t n = 1;
    for (size_t i = 0; i < chain->nfilters; i++)
        n = (uint16_t)(n + cuts(chain, i));
    return n;
}

uint16_t chain_pass_end(const struct chain *chain, uint16_t pass)
{
    for (size_t i = 0; i < chain->nfilters; i++)
        if (cuts(chain, i) && pass-- == 0)
            return (uint16_t)(i + 1);
    return (uint16_t)chain->nfilters;
}

/* ---- who is called --------------------------------------------------------------------------------------------------- */

/* At RCPT: the recipient in hand. At stages of the whole message: the recipients in the envelope, without those that a filter left out, `all`
 * of them or any one. So a sender cannot switch a filter off for others by adding one exempt recipient. */
static bool rcpts_match(const struct visit *v, struct table *table, enum filter_stage stage, bool all)
{
    const struct message *message = v->message;
    uint32_t n = 0, matching = 0;
    if (!message || stage < FILTER_RCPT)
        return false;
    if (stage == FILTER_RCPT)
        return message->nrcpts && table_match(table, message->rcpts[v->subject.rcpt].path.address, NULL);
    for (uint32_t i = 0; i < message->nrcpts; i++) {
        const struct rcpt *r = &message->rcpts[i];
        bool stands = rcpt_stands(r);
        n += stands;
        matching += stands && table_match(table, r->path.address, NULL);
    }
    return all ? n && matching == n : matching;
}

/* All keys that were given must hold; any element of a key does. all_rcpts: see rcpts_match. */
static bool holds(const struct visit *v, const struct condition *c, enum filter_stage stage, bool all_rcpts)
{
    if (c->auth >= 0 && c->auth != v->client->authenticated)
        return false;
    if (c->tls >= 0 && c->tls != (v->client->secure != CLIENT_CLEAR))
        return false;
    if (c->client && !table_match_ip(c->client, v->client->ip, NULL))
        return false;
    if (c->nlistens) {
        bool found = false;
        for (size_t i = 0; i < c->nlistens && !found; i++)
            found = str_equal(c->listens[i], v->conf->name);
        if (!found)
            return false;
    }
    if (c->from && (!v->message || !table_match(c->from, v->message->from.address, NULL)))
        return false;
    return !c->rcpt || rcpts_match(v, c->rcpt, stage, all_rcpts);
}

static bool allowed(const struct visit *v, const struct condition *only, const struct condition *except,
                    enum filter_stage stage)
{
    return (!only->given || holds(v, only, stage, false)) && (!except->given || !holds(v, except, stage, true));
}

static struct slot *visit_slot(struct visit *v, const struct filter *f)
{
    const struct chain *chain = v->conf->chain;
    if (!v->slots)
        v->slots = arena_alloc(v->life, chain->nfilters * sizeof *v->slots);
    for (size_t i = 0; i < chain->nfilters; i++)
        if (chain->filters[i] == f)
            return &v->slots[i];
    never("a filter of another chain");
}

/* What a filter says at a stage, or that it failed there, holds for the message from MAIL on, before it for the visit: of EHLO amid a
 * transaction too. */
static bool is_of_message(const struct visit *v, enum filter_stage stage)
{
    return v->message && stage >= FILTER_MAIL && stage != FILTER_DISCONNECT;
}

static void skip(const struct visit *v, struct slot *slot, enum filter_stage stage)
{
    if (is_of_message(v, stage))
        slot->skip_tx = true;
    else
        slot->skip = true;
}

static bool wants(struct visit *v, size_t i, enum filter_stage stage)
{
    const struct chain *chain = v->conf->chain;
    const struct filter *f = chain->filters[i];
    if (!may(f, stage))
        return false;
    const struct slot *slot = v->slots ? &v->slots[i] : NULL;
    bool of_message = is_of_message(v, stage);
    unsigned less = !slot ? 0 : slot->lessen | (of_message ? slot->lessen_tx : 0);
    if (slot && (slot->skip || (of_message && slot->skip_tx) || (less & (1u << stage))))
        return false;
    if (v->passed || (of_message && v->message->passed))
        return false;
    return allowed(v, &chain->only, &chain->except, stage) && allowed(v, &f->only, &f->except, stage);
}

bool visit_wants(struct visit *v, enum filter_stage stage)
{
    for (size_t i = 0; i < v->conf->chain->nfilters; i++)
        if (wants(v, i, stage))
            return true;
    return false;
}

/* ---- failure --------------------------------------------------------------------------------------------------------- */

static struct arena *verdict_arena(struct visit *v)
{
    return v->message ? &v->message->arena : v->scratch;
}

static void decide(struct visit *v, enum filter_verdict kind, const struct reply *r, const struct filter *by, struct str why)
{
    struct arena *arena = verdict_arena(v);
    v->run.verdict = (struct verdict){.kind = kind, .by = by, .why = arena_str(arena, why)};
    if (r)
        v->run.verdict.reply = reply_keep(arena, r);
}

/* on_error. True: the stage is decided. */
static bool failed(struct visit *v, const struct filter *f, struct slot *slot, enum filter_stage stage, struct str why)
{
    struct reply r = reply_named(REPLY_FILTER_FAILED);
    if (f->observe || (f->on_error == ON_ERROR_CONTINUE && !slot->edited)) {
        skip(v, slot, stage);
        return false;
    }
    enum filter_verdict kind = VERDICT_DEFER;
    if (f->on_error == ON_ERROR_REJECT) {
        r = reply_named(REPLY_FILTER_REJECT);
        kind = VERDICT_REJECT;
    }
    decide(v, kind, &r, f, why.len ? why : STR("filter error"));
    return true;
}

static void log_error(struct visit *v, const struct filter *f, enum filter_stage stage, struct str why)
{
    char key[256];
    snprintf(key, sizeof key, "%.*s/%s/%.*s", STR_ARGS(f->name), stage_names[stage], STR_ARGS(why));
    log_rare(LOG_ERROR, key, "filter %.*s failed at %s (session %s): %.*s", STR_ARGS(f->name), stage_names[stage], v->id,
             STR_ARGS(why));
}

/* ---- verdicts -------------------------------------------------------------------------------------------------------- */

static bool is_legal(enum filter_verdict said, enum filter_stage stage, const struct visit *v)
{
    switch (said) {
    case VERDICT_PASS: return stage != FILTER_RCPT;
    case VERDICT_DISCARD: return stage >= FILTER_MAIL;
    case VERDICT_QUARANTINE: return stage >= FILTER_HEADERS && (v->conf->chain->quarantine || v->outlet->quarantines);
    case VERDICT_REWORD: return false;
    default: return true;
    }
}

static void observed(struct visit *v, const struct filter *f, enum filter_stage stage, const struct verdict *said)
{
    static const char *const kinds[] = {
#define VERDICT_NAME(name, word, who) [VERDICT_##name] = word,
#include "filters/verdicts.def"
#undef VERDICT_NAME
    };
    log_begin(LOG_INFO, "observe");
    log_text("id", str_of(v->id));
    log_text("filter", f->name);
    log_text("stage", str_of(stage_names[stage]));
    log_text("verdict", str_of(kinds[said->kind]));
    if (said->reply.code)
        log_number("code", said->reply.code);
    if (said->reply.text.len)
        log_text("reply", said->reply.text);
    if (said->why.len)
        log_text("why", said->why);
    log_end();
}

static void note(struct message *message, const struct filter *by, enum filter_stage stage, struct str why)
{
    message->verdict_by = by->name;
    message->verdict_stage = str_of(stage_names[stage]);
    message->verdict_why = arena_str(&message->arena, why);
}

void visit_note(struct visit *v)
{
    const struct verdict *said = &v->run.verdict;
    if (v->message && said->by)
        note(v->message, said->by, v->run.stage, said->why);
}

/* What it says, or ERROR when it may not say that here. */
static enum filter_verdict checked(struct visit *v, struct filter_call *call, enum filter_verdict said)
{
    struct run *run = &v->run;
    if (call->undeclared) {
        call->verdict.why = call->edit_error;
        said = VERDICT_ERROR;
    }
    if (said != VERDICT_ERROR && !is_legal(said, run->stage, v)) {
        call->verdict.why = said == VERDICT_QUARANTINE && run->stage >= FILTER_HEADERS
                                ? STR("quarantine, but the chain names no quarantine backend")
                                : STR("a verdict that this stage does not know");
        said = VERDICT_ERROR;
    }
    return said;
}

/* What a final verdict of the filter at hand means for the stage. True: the stage is over. */
static bool take_verdict(struct visit *v, struct filter_call *call, enum filter_verdict said)
{
    struct run *run = &v->run;
    const struct filter *f = call->filter;
    struct slot *slot = call->slot;
    /* What a message can provoke (errors of a script, its limits, a refused edit) never takes the filter from others'
     * mail. */
    breaker_count(v->filters, f, said == VERDICT_ERROR && call->service_failed && !v->filters->offline);
    if (said == VERDICT_ERROR) {
        log_error(v, f, run->stage, call->verdict.why);
        if (v->filters->offline && call->service_failed) {
            slot->skip_tx = v->message != NULL;
            slot->skip |= !v->message;
            return false;
        }
        return failed(v, f, slot, run->stage, call->verdict.why);
    }
    if (f->observe && said != VERDICT_CONTINUE && said != VERDICT_SKIP) {
        call->verdict.kind = said;
        observed(v, f, run->stage, &call->verdict);
        return false;
    }
    switch (said) {
    case VERDICT_CONTINUE: return false;
    case VERDICT_SKIP: skip(v, slot, run->stage); return false;
    case VERDICT_ACCEPT: return true;
    case VERDICT_PASS:
        if (is_of_message(v, run->stage)) {
            v->message->passed = true;
            note(v->message, f, run->stage, call->verdict.why);
        } else {
            v->passed = true;
        }
        return true;
    default: decide(v, said, &call->verdict.reply, f, call->verdict.why); return true;
    }
}

/* When, which worker, which one. */
void visit_name(struct visit *v)
{
    static const char letters[] = "0123456789ABCDEFGHJKLMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz";
    const unsigned base = sizeof letters - 1;
    uint64_t n = (uint64_t)v->started_wall_us / 1000 * 64 + v->filters->worker->number % 64;
    n = n * 4096 + v->serial % 4096;
    for (int i = 11; i >= 0; i--, n /= base)
        v->id[i] = letters[n % base];
    v->id[12] = 0;
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

void visit_ask(struct visit *v, enum filter_stage stage, struct subject subject)
{
    v->subject = subject;
    visit_run(v, stage, 0, (uint16_t)v->conf->chain->nfilters);
}

void visit_run(struct visit *v, enum filter_stage stage, uint16_t first, uint16_t end)
{
    must(!v->run.call);
    v->run = (struct run){.stage = stage, .at = first, .end = end, .active = true};
}

static void count_run(struct visit *v, struct filter_call *call, uint64_t from, enum filter_verdict said)
{
    uint64_t now = loop_micros(v->filters->worker->loop);
    if (v->message)
        v->message->filter_run_us += now - from;
    call->ran += now - from;
    call->suspended_at = said == VERDICT_SUSPEND ? now : 0;
}

static void count_wait(struct visit *v, struct filter_call *call)
{
    uint64_t waited = call->suspended_at ? loop_micros(v->filters->worker->loop) - call->suspended_at : 0;
    call->slot->waited_us += waited;
    call->waited += waited;
    if (v->message)
        v->message->filter_waited_us += waited;
    call->suspended_at = 0;
}

static enum filter_verdict run_hook(struct visit *v, struct filter_call *call)
{
    uint64_t from = loop_micros(v->filters->worker->loop);
    enum filter_verdict said = call->filter->def->hook(call, call->stage);
    count_run(v, call, from, said);
    return said;
}

static struct filter_call *begin(struct visit *v, size_t i)
{
    const struct filter *f = v->conf->chain->filters[i];
    struct slot *slot = visit_slot(v, f);
    struct filter_call *call = call_open(v->filters, v, f, slot, v->run.stage);
    uint64_t limit = v->run.stage == FILTER_MESSAGE ? f->message_timeout : f->timeout;
    call->deadline = loop_now(v->filters->worker->loop) + limit;
    slot->called = true;
    slot->called_tx |= is_of_message(v, v->run.stage);
    return call;
}

/* The trace hears what the client would: of a failure that on_error decides, its reply. */
static void tell_call(struct visit *v, struct filter_call *call, enum filter_verdict said, bool over)
{
    const struct flow *f = v->message ? &v->message->flow : NULL;
    if (call->emitted && f)
        trace_body(call, call->stage == FILTER_BODY ? f->chunk_octets.len : f->spool ? spool_octets(f->spool) : 0, call->emitted_octets);
    trace_call(call, said, over, said == VERDICT_ERROR && over ? &v->run.verdict.reply : &call->verdict.reply);
}

static bool close_call(struct visit *v, enum filter_verdict said)
{
    struct filter_call *call = v->run.call;
    said = checked(v, call, said);
    bool over = take_verdict(v, call, said);
    if (v->trace)
        tell_call(v, call, said, over);
    v->run.call = NULL;
    call_close(call);
    v->run.at++;
    return over;
}

/* The suspended call: completions first, then its deadline. False: it goes on waiting. */
static bool go_on(struct visit *v, enum filter_verdict *said)
{
    struct filter_call *call = v->run.call;
    uint64_t from = loop_micros(v->filters->worker->loop);
    bool resumed = call_resume(call, said);
    if (resumed) {
        count_wait(v, call);
        count_run(v, call, from, *said);
    }
    if (!resumed && loop_now(v->filters->worker->loop) >= call->deadline) {
        count_wait(v, call);
        call->service_failed |= call_waits_for_service(call);
        if (v->trace)
            call_trace_open(call, "timeout");
        if (call->filter->def->cancel)
            call->filter->def->cancel(call, CANCEL_TIMEOUT);
        call->verdict.why = STR("timeout");
        *said = VERDICT_ERROR;
        return true;
    }
    if (resumed && *said == VERDICT_SUSPEND && !call_has_ops(call)) {
        call->verdict.why = STR("suspended with nothing to wait for");
        *said = VERDICT_ERROR;
    }
    return resumed;
}

bool visit_turn(struct visit *v)
{
    struct run *run = &v->run;
    while (run->active) {
        enum filter_verdict said;
        if (!run->call) {
            if (run->at >= run->end) {
                run->active = false;
                break;
            }
            if (!wants(v, run->at, run->stage)) {
                run->at++;
                continue;
            }
            run->call = begin(v, run->at);
            if (breaker_is_open(v->filters, run->call->filter)) {
                run->call->verdict.why = STR("circuit breaker");
                run->active = !failed(v, run->call->filter, run->call->slot, run->stage, run->call->verdict.why);
                if (v->trace)
                    tell_call(v, run->call, VERDICT_ERROR, !run->active);
                call_close(run->call);
                run->call = NULL;
                run->at++;
                continue;
            }
            said = run_hook(v, run->call);
            if (said == VERDICT_SUSPEND && !call_has_ops(run->call)) {
                run->call->verdict.why = STR("suspended with nothing to wait for");
                said = VERDICT_ERROR;
            }
        } else if (!go_on(v, &said)) {
            return false;
        }
        if (said == VERDICT_SUSPEND)
            continue;
        if (close_call(v, said))
            run->active = false;
    }
    return true;
}

void visit_stop(struct visit *v, enum filter_cancel why)
{
    struct filter_call *call = v->run.call;
    v->run.active = false;
    v->run.call = NULL;
    if (call)
        count_wait(v, call);
    if (!call)
        return;
    if (call->filter->def->cancel)
        call->filter->def->cancel(call, why);
    call_close(call);
}

uint64_t visit_clock(const struct visit *v)
{
    return v->run.call ? min_u64(v->run.call->deadline, call_clock(v->run.call)) : 0;
}

/* ---- stages that cannot wait ----------------------------------------------------------------------------------------- */

static enum filter_verdict at_once(struct filter_call *call)
{
    uint64_t from = call->number ? loop_micros(call->worker->loop) : 0;
    enum filter_verdict said = call->filter->def->hook(call, call->stage);
    while (said == VERDICT_SUSPEND && call_resume(call, &said)) /* a memory store answers in the same turn */
        ;
    if (said == VERDICT_SUSPEND) {
        if (call->filter->def->cancel)
            call->filter->def->cancel(call, CANCEL_TIMEOUT);
        call->verdict.why = STR("this hook cannot wait");
        said = VERDICT_ERROR;
    }
    if (call->number)
        call->ran = loop_micros(call->worker->loop) - from;
    return said;
}

void visit_reply(struct visit *v, enum filter_stage of, struct reply *reply, uint32_t rcpt)
{
    const struct chain *chain = v->conf->chain;
    for (size_t i = 0; i < chain->nfilters; i++) {
        if (!wants(v, i, FILTER_REPLY))
            continue;
        const struct filter *f = chain->filters[i];
        struct filter_call *call = call_open(v->filters, v, f, visit_slot(v, f), FILTER_REPLY);
        call->replied = reply;
        call->replied_to = of;
        call->rcpt = rcpt;
        enum filter_verdict said = at_once(call);
        if (v->trace)
            trace_call(call, said, false, &call->verdict.reply);
        const struct reply *word = &call->verdict.reply;
        bool good = reply_class(reply) == 2;
        if (said == VERDICT_ERROR)
            log_error(v, f, FILTER_REPLY, call->verdict.why);
        else if (said == VERDICT_REWORD && !f->observe && (reply_class(word) == 2) == good && reply_class(word) != 3)
            *reply = reply_keep(&v->message->arena, word);
        else if (said == VERDICT_REWORD)
            log_error(v, f, FILTER_REPLY, STR("a reword may not turn a refusal into acceptance, or back"));
        call_close(call);
    }
}

static void tell_end(struct visit *v, enum filter_stage stage)
{
    const struct chain *chain = v->conf->chain;
    for (size_t i = 0; v->slots && i < chain->nfilters; i++) {
        const struct filter *f = chain->filters[i];
        struct slot *slot = &v->slots[i];
        bool called = stage == FILTER_RESET ? slot->called_tx : slot->called;
        if (called && may(f, stage)) {
            struct filter_call *call = call_open(v->filters, v, f, slot, stage);
            enum filter_verdict said = at_once(call);
            if (said == VERDICT_ERROR)
                log_error(v, f, stage, call->verdict.why);
            if (v->trace)
                trace_call(call, said, false, &call->verdict.reply);
            call_close(call);
        }
        slot_close_streams(slot, stage == FILTER_RESET ? LIFE_TRANSACTION : LIFE_SESSION);
        if (stage == FILTER_RESET) {
            slot->transaction_memory = NULL;
            slot->added = 0;
            slot->called_tx = slot->skip_tx = slot->edited = false;
            slot->lessen_tx = slot->flags_less_tx = 0;
        }
    }
}

void visit_reset(struct visit *v)
{
    tell_end(v, FILTER_RESET);
}

void visit_forget_waits(struct visit *v)
{
    for (size_t i = 0; v->slots && i < v->conf->chain->nfilters; i++)
        v->slots[i].waited_us = 0;
}

void visit_end(struct visit *v)
{
    tell_end(v, FILTER_DISCONNECT);
}

void visit_again(struct visit *v)
{
    const struct chain *chain = v->conf->chain;
    tell_end(v, FILTER_DISCONNECT);
    for (size_t i = 0; v->slots && i < chain->nfilters; i++) {
        void *memory = v->slots[i].session_memory;
        if (memory)
            memset(memory, 0, chain->filters[i]->def->session_memory);
        v->slots[i] = (struct slot){.session_memory = memory};
    }
    for (struct note *n = v->notes; n; n = n->next) /* their slots are used again: the session's memory is taken once */
        n->value = STR_NONE;
}
