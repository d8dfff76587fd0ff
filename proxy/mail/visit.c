/* visit.c - one stage at a time over the row of filters; verdicts, failures and their scope (engine.md A15, A16; contract 2).
 *
 * Owns the order and the outcome, never a filter's memory (call.c). While a filter's circuit breaker is open, on_error is
 * applied without running it. */
#include "mail/visit.h"
#include "mail/call.h"

static const char *const stage_names[] = {"connect", "tls", "helo", "auth", "mail", "rcpt", "data", "headers", "body", "part",
                                          "message", "reply", "reset", "disconnect"};

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

enum say chain_say(const struct chain *chain)
{
    enum say say = SAY_AT_DATA;
    for (size_t i = 0; i < chain->nfilters; i++) {
        const struct filter *f = chain->filters[i];
        if (f->flags & FILTER_READS_BACK)
            say = SAY_AT_VERDICT; /* also under observe: it reads what is held */
        if (f->observe)
            continue;
        if (f->flags & late)
            say = SAY_AT_VERDICT;
        else if (say < SAY_AT_BOUND && (may(f, FILTER_BODY) || may(f, FILTER_MESSAGE) || may(f, FILTER_PART)))
            say = SAY_AT_BOUND;
        else if (say < SAY_AFTER_HEADERS && may(f, FILTER_HEADERS))
            say = SAY_AFTER_HEADERS;
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

const char *chain_say_name(const struct chain *chain)
{
    static const char *const names[] = {"at DATA", "after the header section", "when 256 KiB are held or the verdict is in",
                                        "at the verdict (the content is held)"};
    return names[chain_say(chain)];
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
static bool rcpts_match(const struct session *s, struct table *table, enum filter_stage stage, bool all)
{
    const struct transaction *tx = s->tx;
    uint32_t n = 0, matching = 0;
    if (!tx || stage < FILTER_RCPT)
        return false;
    if (stage == FILTER_RCPT)
        return tx->nrcpts && table_match(table, tx->rcpts[tx->nrcpts - 1].path.address, NULL);
    for (uint32_t i = 0; i < tx->nrcpts; i++) {
        const struct rcpt *r = &tx->rcpts[i];
        bool counts = r->fate == FATE_ACCEPTED && !r->discarded && !r->dropped;
        n += counts;
        matching += counts && table_match(table, r->path.address, NULL);
    }
    for (const struct added *a = tx->added; a; a = a->next) {
        n += !a->dropped;
        matching += !a->dropped && table_match(table, a->path.address, NULL);
    }
    return all ? n && matching == n : matching;
}

/* All keys that were given must hold; any element of a key does (contract.md 4a). all_rcpts: see rcpts_match. */
static bool holds(const struct session *s, const struct condition *c, enum filter_stage stage, bool all_rcpts)
{
    if (c->auth >= 0 && c->auth != session_is_authenticated(s))
        return false;
    if (c->tls >= 0 && c->tls != session_is_secure(s))
        return false;
    if (c->client && !table_match_ip(c->client, s->client->ip, NULL))
        return false;
    if (c->nlistens) {
        bool found = false;
        for (size_t i = 0; i < c->nlistens && !found; i++)
            found = str_equal(c->listens[i], s->listen->visit.name);
        if (!found)
            return false;
    }
    if (c->from && (!s->tx || !table_match(c->from, s->tx->reverse_path.address, NULL)))
        return false;
    return !c->rcpt || rcpts_match(s, c->rcpt, stage, all_rcpts);
}

static bool allowed(const struct session *s, const struct condition *only, const struct condition *except,
                    enum filter_stage stage)
{
    return (!only->given || holds(s, only, stage, false)) && (!except->given || !holds(s, except, stage, true));
}

struct slot *chain_slot(struct session *s, const struct filter *f)
{
    const struct chain *chain = s->listen->visit.chain;
    if (!s->slots)
        s->slots = arena_alloc(&s->arena, chain->nfilters * sizeof *s->slots);
    for (size_t i = 0; i < chain->nfilters; i++)
        if (chain->filters[i] == f)
            return &s->slots[i];
    never("a filter of another chain");
}

static bool wants(struct session *s, size_t i, enum filter_stage stage)
{
    const struct chain *chain = s->listen->visit.chain;
    const struct filter *f = chain->filters[i];
    if (!may(f, stage))
        return false;
    const struct slot *slot = s->slots ? &s->slots[i] : NULL;
    if (slot && (slot->skip || (s->tx && slot->skip_tx) || ((slot->lessen | (s->tx ? slot->lessen_tx : 0)) & (1u << stage))))
        return false;
    if (s->tx ? s->tx->passed : s->passed)
        return false;
    return allowed(s, &chain->only, &chain->except, stage) && allowed(s, &f->only, &f->except, stage);
}

/* ---- failure --------------------------------------------------------------------------------------------------------- */

static struct arena *verdict_arena(struct session *s)
{
    return s->tx ? &s->tx->arena : &s->line;
}

static void decide(struct session *s, enum filter_verdict kind, const struct reply *r, const struct filter *by, struct str why)
{
    struct arena *arena = verdict_arena(s);
    s->run.verdict = (struct verdict){.kind = kind, .by = by, .why = arena_str(arena, why)};
    if (r)
        s->run.verdict.reply = reply_keep(arena, r);
}

/* on_error. True: the stage is decided. */
static bool failed(struct session *s, const struct filter *f, struct slot *slot, enum filter_stage stage, struct str why)
{
    struct reply r = reply_named(REPLY_FILTER_FAILED);
    if (f->observe) {
        slot->skip_tx = s->tx != NULL;
        slot->skip |= !s->tx;
        return false;
    }
    if (f->on_error == ON_ERROR_CONTINUE && !slot->edited) {
        if (s->tx)
            slot->skip_tx = true;
        else
            slot->skip = true;
        return false;
    }
    enum filter_verdict kind = VERDICT_DEFER;
    if (f->on_error == ON_ERROR_REJECT) {
        r = reply_named(REPLY_FILTER_REJECT);
        kind = VERDICT_REJECT;
    }
    decide(s, kind, &r, f, why.len ? why : STR("filter error"));
    return true;
}

static void log_error(struct session *s, const struct filter *f, enum filter_stage stage, struct str why)
{
    char key[256];
    snprintf(key, sizeof key, "%.*s/%s/%.*s", STR_ARGS(f->name), stage_names[stage], STR_ARGS(why));
    log_rare(LOG_ERROR, key, "filter %.*s failed at %s (session %s): %.*s", STR_ARGS(f->name), stage_names[stage], s->id,
             STR_ARGS(why));
}

/* ---- verdicts -------------------------------------------------------------------------------------------------------- */

static bool is_legal(enum filter_verdict v, enum filter_stage stage, const struct session *s)
{
    switch (v) {
    case VERDICT_PASS: return stage != FILTER_RCPT;
    case VERDICT_DISCARD: return stage >= FILTER_MAIL;
    case VERDICT_QUARANTINE: return stage >= FILTER_HEADERS && s->listen->visit.chain->quarantine;
    case VERDICT_REWORD: return false;
    default: return true;
    }
}

static void observed(struct session *s, const struct filter *f, enum filter_stage stage, const struct verdict *v)
{
    static const char *const kinds[] = {"continue", "suspend", "skip",    "accept",     "pass",   "reject",
                                        "defer",    "drop",    "discard", "quarantine", "reword", "error"};
    log_begin(LOG_INFO, "observe");
    log_text("id", str_of(s->id));
    log_text("filter", f->name);
    log_text("stage", str_of(stage_names[stage]));
    log_text("verdict", str_of(kinds[v->kind]));
    if (v->reply.code)
        log_number("code", v->reply.code);
    if (v->reply.text.len)
        log_text("reply", v->reply.text);
    if (v->why.len)
        log_text("why", v->why);
    log_end();
}

static void note(struct transaction *tx, const struct filter *by, enum filter_stage stage, struct str why)
{
    tx->verdict_by = by->name;
    tx->verdict_stage = str_of(stage_names[stage]);
    tx->verdict_why = arena_str(&tx->arena, why);
}

void chain_note(struct session *s)
{
    const struct verdict *v = &s->run.verdict;
    if (s->tx && v->by)
        note(s->tx, v->by, s->run.stage, v->why);
}

/* What a final verdict of the filter at hand means for the stage. True: the stage is over. */
static bool take_verdict(struct session *s, struct filter_call *call, enum filter_verdict v)
{
    struct run *run = &s->run;
    const struct filter *f = call->filter;
    struct slot *slot = call->slot;
    if (call->undeclared) {
        call->verdict.why = call->refusal;
        v = VERDICT_ERROR;
    }
    if (v != VERDICT_ERROR && !is_legal(v, run->stage, s)) {
        call->verdict.why = v == VERDICT_QUARANTINE && run->stage >= FILTER_HEADERS
                                ? STR("quarantine, but the chain names no quarantine backend")
                                : STR("a verdict that this stage does not know");
        v = VERDICT_ERROR;
    }
    /* What a message can provoke (errors of a script, its limits, a refused edit) never takes the filter from others'
     * mail. */
    breaker_count(&s->generation->filters, f, v == VERDICT_ERROR && call->service_failed);
    if (v == VERDICT_ERROR) {
        log_error(s, f, run->stage, call->verdict.why);
        return failed(s, f, slot, run->stage, call->verdict.why);
    }
    if (f->observe && v != VERDICT_CONTINUE && v != VERDICT_SKIP) {
        call->verdict.kind = v;
        observed(s, f, run->stage, &call->verdict);
        return false;
    }
    switch (v) {
    case VERDICT_CONTINUE: return false;
    case VERDICT_SKIP:
        if (s->tx)
            slot->skip_tx = true;
        else
            slot->skip = true;
        return false;
    case VERDICT_ACCEPT: return true;
    case VERDICT_PASS:
        if (s->tx) {
            s->tx->passed = true;
            note(s->tx, f, run->stage, call->verdict.why);
        } else {
            s->passed = true;
        }
        return true;
    default: decide(s, v, &call->verdict.reply, f, call->verdict.why); return true;
    }
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

void chain_start(struct session *s, enum filter_stage stage, uint16_t first, uint16_t end)
{
    must(!s->run.call);
    s->run = (struct run){.stage = stage, .at = first, .end = end, .active = true};
}

static void count_run(struct session *s, struct filter_call *call, uint64_t from, enum filter_verdict v)
{
    uint64_t now = loop_micros(s->worker->mail.loop);
    if (s->tx)
        s->tx->filter_run += now - from;
    call->suspended_at = v == VERDICT_SUSPEND ? now : 0;
}

static void count_wait(struct session *s, struct filter_call *call)
{
    uint64_t waited = call->suspended_at ? loop_micros(s->worker->mail.loop) - call->suspended_at : 0;
    call->slot->waited += waited;
    if (s->tx)
        s->tx->filter_waited += waited;
    call->suspended_at = 0;
}

static enum filter_verdict run_hook(struct session *s, struct filter_call *call)
{
    uint64_t from = loop_micros(s->worker->mail.loop);
    enum filter_verdict v = call->filter->def->hook(call, call->stage);
    count_run(s, call, from, v);
    return v;
}

static struct filter_call *begin(struct session *s, size_t i)
{
    const struct filter *f = s->listen->visit.chain->filters[i];
    struct slot *slot = chain_slot(s, f);
    struct filter_call *call = call_open(&s->generation->filters, s, f, slot, s->run.stage);
    uint64_t limit = s->run.stage == FILTER_MESSAGE ? f->message_timeout : f->timeout;
    call->deadline = loop_now(s->worker->mail.loop) + limit;
    slot->called = true;
    slot->called_tx |= s->tx != NULL;
    return call;
}

static bool close_call(struct session *s, enum filter_verdict v)
{
    struct filter_call *call = s->run.call;
    bool over = take_verdict(s, call, v);
    s->run.call = NULL;
    call_close(call);
    s->run.at++;
    return over;
}

/* The suspended call: completions first, then its deadline. False: it goes on waiting. */
static bool go_on(struct session *s, enum filter_verdict *v)
{
    struct filter_call *call = s->run.call;
    uint64_t from = loop_micros(s->worker->mail.loop);
    bool resumed = call_resume(call, v);
    if (resumed) {
        count_wait(s, call);
        count_run(s, call, from, *v);
    }
    if (!resumed && loop_now(s->worker->mail.loop) >= call->deadline) {
        count_wait(s, call);
        call->service_failed |= call_waits_for_service(call);
        if (call->filter->def->cancel)
            call->filter->def->cancel(call, CANCEL_TIMEOUT);
        call->verdict.why = STR("timeout");
        *v = VERDICT_ERROR;
        return true;
    }
    if (resumed && *v == VERDICT_SUSPEND && !call_has_ops(call)) {
        call->verdict.why = STR("suspended with nothing to wait for");
        *v = VERDICT_ERROR;
    }
    return resumed;
}

bool chain_turn(struct session *s)
{
    struct run *run = &s->run;
    while (run->active) {
        enum filter_verdict v;
        if (!run->call) {
            if (run->at >= run->end) {
                run->active = false;
                break;
            }
            if (!wants(s, run->at, run->stage)) {
                run->at++;
                continue;
            }
            run->call = begin(s, run->at);
            if (breaker_is_open(&s->generation->filters, run->call->filter)) {
                run->active = !failed(s, run->call->filter, run->call->slot, run->stage, STR("circuit breaker"));
                call_close(run->call);
                run->call = NULL;
                run->at++;
                continue;
            }
            v = run_hook(s, run->call);
            if (v == VERDICT_SUSPEND && !call_has_ops(run->call)) {
                run->call->verdict.why = STR("suspended with nothing to wait for");
                v = VERDICT_ERROR;
            }
        } else if (!go_on(s, &v)) {
            return false;
        }
        if (v == VERDICT_SUSPEND)
            continue;
        if (close_call(s, v))
            run->active = false;
    }
    return true;
}

void chain_stop(struct session *s, enum filter_cancel why)
{
    struct filter_call *call = s->run.call;
    s->run.active = false;
    s->run.call = NULL;
    if (call)
        count_wait(s, call);
    if (!call)
        return;
    if (call->filter->def->cancel)
        call->filter->def->cancel(call, why);
    call_close(call);
}

uint64_t chain_clock(const struct session *s)
{
    return s->run.call ? min_u64(s->run.call->deadline, call_clock(s->run.call)) : 0;
}

/* ---- stages that cannot wait ----------------------------------------------------------------------------------------- */

static enum filter_verdict at_once(struct filter_call *call)
{
    enum filter_verdict v = call->filter->def->hook(call, call->stage);
    while (v == VERDICT_SUSPEND && call_resume(call, &v)) /* a memory store answers in the same turn */
        ;
    if (v == VERDICT_SUSPEND) {
        if (call->filter->def->cancel)
            call->filter->def->cancel(call, CANCEL_TIMEOUT);
        call->verdict.why = STR("this hook cannot wait");
        v = VERDICT_ERROR;
    }
    return v;
}

void chain_reply(struct session *s, enum filter_stage of, struct reply *reply, uint32_t rcpt)
{
    const struct chain *chain = s->listen->visit.chain;
    for (size_t i = 0; i < chain->nfilters; i++) {
        if (!wants(s, i, FILTER_REPLY))
            continue;
        const struct filter *f = chain->filters[i];
        struct filter_call *call = call_open(&s->generation->filters, s, f, chain_slot(s, f), FILTER_REPLY);
        call->replied = reply;
        call->replied_to = of;
        call->rcpt = rcpt;
        enum filter_verdict v = at_once(call);
        const struct reply *word = &call->verdict.reply;
        bool good = reply_class(reply) == 2;
        if (v == VERDICT_ERROR)
            log_error(s, f, FILTER_REPLY, call->verdict.why);
        else if (v == VERDICT_REWORD && !f->observe && (reply_class(word) == 2) == good && reply_class(word) != 3)
            *reply = reply_keep(&s->tx->arena, word);
        else if (v == VERDICT_REWORD)
            log_error(s, f, FILTER_REPLY, STR("a reword may not turn a refusal into acceptance, or back"));
        call_close(call);
    }
}

static void tell_end(struct session *s, enum filter_stage stage)
{
    const struct chain *chain = s->listen->visit.chain;
    for (size_t i = 0; s->slots && i < chain->nfilters; i++) {
        const struct filter *f = chain->filters[i];
        struct slot *slot = &s->slots[i];
        bool called = stage == FILTER_RESET ? slot->called_tx : slot->called;
        if (called && may(f, stage)) {
            struct filter_call *call = call_open(&s->generation->filters, s, f, slot, stage);
            if (at_once(call) == VERDICT_ERROR)
                log_error(s, f, stage, call->verdict.why);
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

void chain_reset(struct session *s)
{
    tell_end(s, FILTER_RESET);
}

void chain_forget_waits(struct session *s)
{
    for (size_t i = 0; s->slots && i < s->listen->visit.chain->nfilters; i++)
        s->slots[i].waited = 0;
}

void chain_disconnect(struct session *s)
{
    tell_end(s, FILTER_DISCONNECT);
}

void chain_again(struct session *s)
{
    const struct chain *chain = s->listen->visit.chain;
    tell_end(s, FILTER_DISCONNECT);
    for (size_t i = 0; s->slots && i < chain->nfilters; i++) {
        void *memory = s->slots[i].session_memory;
        if (memory)
            memset(memory, 0, chain->filters[i]->def->session_memory);
        s->slots[i] = (struct slot){.session_memory = memory};
    }
    for (struct note *n = s->notes; n; n = n->next) /* their slots are used again: the session's memory is taken once (engine.md A4) */
        n->value = STR_NONE;
}
