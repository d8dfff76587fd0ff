/* call.c - the call itself as filters see it: verdicts, memory, clocks, words (filters/filter.h). Mail is in edits.c,
 * facts in facts.c, waits in waits.c.
 *
 * Every text that a filter gives is copied; every text it gets lives at least until its hook returns. */
#include "mail/trace.h"
#include <openssl/rand.h>
#include <stdarg.h>

static _Thread_local struct filter_call *spare;
static _Thread_local unsigned spares;

struct filter_call *call_open(struct filter_set *set, struct visit *v, const struct filter *f, struct slot *slot,
                              enum filter_stage stage)
{
    struct filter_call *call = spare;
    if (call) {
        spare = (struct filter_call *)call->memory;
        spares--;
        memset(call, 0, sizeof *call);
    } else {
        call = must_alloc(sizeof *call);
    }
    call->magic = CALL_MAGIC;
    call->set = set;
    call->worker = set->worker;
    call->visit = v;
    call->message = v ? v->message : NULL;
    call->filter = f;
    call->slot = slot;
    call->stage = stage;
    call->task = v ? v->task : NULL;
    call->headers = call->message ? &call->message->headers : NULL;
    call->rcpt = v ? v->subject.rcpt : 0;
    call->number = call_is_traced(call) ? ++v->trace->calls : 0;
    return call;
}

void call_close(struct filter_call *call)
{
    must(call->magic == CALL_MAGIC);
    while (call->ops)
        filter_op_cancel(call, 0);
    slot_close_streams(call->slot, LIFE_CALL);
    arena_reset(&call->arena);
    call->magic = 0;
    if (spares >= 64) {
        free(call);
        return;
    }
    call->memory = spare;
    spare = call;
    spares++;
}

void call_forget(void)
{
    while (spare) {
        struct filter_call *call = spare;
        spare = (struct filter_call *)call->memory;
        free(call);
    }
    spares = 0;
}

static void *slot_memory(struct visit *v, struct slot *slot, const struct filter *f, enum filter_life life)
{
    if (life == LIFE_SESSION) {
        if (!slot->session_memory && f->def->session_memory)
            slot->session_memory = arena_alloc(v->life, f->def->session_memory);
        return slot->session_memory;
    }
    if (!slot->transaction_memory && f->def->transaction_memory && v->message)
        slot->transaction_memory = arena_alloc(&v->message->arena, f->def->transaction_memory);
    return slot->transaction_memory;
}

void *filter_keep(struct filter_call *call, enum filter_life life)
{
    const struct filter_def *def = call->filter->def;
    switch (life) {
    case LIFE_CALL:
        if (!call->memory && def->call_memory)
            call->memory = arena_alloc(&call->arena, def->call_memory);
        return call->memory;
    case LIFE_WORKER: {
        void **slot = &call->set->memory[call->filter->index];
        if (!*slot && def->worker_memory)
            *slot = must_alloc(def->worker_memory);
        return *slot;
    }
    default: return call->visit ? slot_memory(call->visit, call->slot, call->filter, life) : NULL;
    }
}

void *filter_alloc(struct filter_call *call, enum filter_life life, size_t octets)
{
    struct arena *arena = &call->arena;
    if (life == LIFE_TRANSACTION && call->message)
        arena = &call->message->arena;
    else if (life == LIFE_SESSION && call->visit)
        arena = call->visit->life;
    return arena_alloc(arena, octets);
}

const struct filter *filter_of(const struct filter_call *call)
{
    return call->filter;
}

enum filter_stage filter_stage(const struct filter_call *call)
{
    return call->stage;
}

uint64_t filter_serial(const struct filter_call *call)
{
    return call->message ? call->message->serial : call->visit ? call->visit->serial : 0;
}

void filter_progress(struct filter_call *call)
{
    const struct filter *f = call->filter;
    uint64_t limit = call->stage == FILTER_MESSAGE ? f->message_timeout : f->timeout;
    call->deadline = loop_now(call->worker->loop) + limit;
    if (call->message && call->message->end_by_ms)
        call->deadline = min_u64(call->deadline, call->message->end_by_ms);
}

void filter_lessen_rest(struct filter_call *call, enum filter_life life, unsigned stages, unsigned flags)
{
    if (life == LIFE_SESSION) {
        call->slot->lessen |= ~stages;
        call->slot->flags_less |= ~flags;
    } else {
        call->slot->lessen_tx |= ~stages;
        call->slot->flags_less_tx |= ~flags;
    }
}

/* ---- verdicts -------------------------------------------------------------------------------------------------------- */

static struct reply otherwise(const struct filter_call *call, enum filter_verdict v)
{
    if (v == VERDICT_DEFER)
        return reply_named(REPLY_FILTER_DEFER);
    if (v == VERDICT_DROP)
        return reply_named(REPLY_FILTER_DROP);
    if (call->stage == FILTER_CONNECT)
        return reply_named(REPLY_FILTER_REJECT_CONNECT);
    return reply_named(call->stage >= FILTER_DATA ? REPLY_FILTER_REJECT_DATA : REPLY_FILTER_REJECT);
}

static enum filter_verdict fail(struct filter_call *call, const char *why)
{
    call->verdict.why = arena_print(&call->arena, "%s", why);
    return VERDICT_ERROR;
}

static enum filter_verdict refuse(struct filter_call *call, enum filter_verdict v, const char *format, va_list args)
{
    struct reply preset = otherwise(call, v);
    if (!format) {
        call->verdict.reply = preset;
        return v;
    }
    struct str text = arena_vprint(&call->arena, format, args);
    unsigned class = preset.code / 100;
    if (v == VERDICT_DROP && text.len >= 3 && text.at[0] == '5') /* 421, 521 or 554 */
        class = 5;
    if (v == VERDICT_REWORD) {
        class = call->replied ? reply_class(call->replied) : 4;
        if (class != 2 && text.len && (text.at[0] == '4' || text.at[0] == '5'))
            class = (unsigned)(text.at[0] - '0');
        if (call->replied)
            preset = *call->replied;
    }
    if (!reply_from_text(text, class, preset, &call->arena, &call->verdict.reply))
        return fail(call, "the code of the reply is not of the verdict's class");
    unsigned code = call->verdict.reply.code;
    if (v == VERDICT_DROP && code != 421 && code != 521 && code != 554)
        return fail(call, "drop takes 421, 521 or 554");
    return v;
}

#define REFUSAL(name, verdict)                                                                                         \
    enum filter_verdict name(struct filter_call *call, const char *format, ...)                                        \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        enum filter_verdict v = refuse(call, verdict, format, args);                                                   \
        va_end(args);                                                                                                  \
        return v;                                                                                                      \
    }
REFUSAL(filter_reject, VERDICT_REJECT)
REFUSAL(filter_defer, VERDICT_DEFER)
REFUSAL(filter_drop, VERDICT_DROP)
REFUSAL(filter_reword, VERDICT_REWORD)
#undef REFUSAL

enum filter_verdict filter_discard(struct filter_call *call, const char *why)
{
    filter_because(call, why);
    return VERDICT_DISCARD;
}

enum filter_verdict filter_quarantine(struct filter_call *call, const char *why)
{
    filter_because(call, why);
    return VERDICT_QUARANTINE;
}

enum filter_verdict filter_error(struct filter_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    call->verdict.why = arena_vprint(&call->arena, format, args);
    va_end(args);
    return VERDICT_ERROR;
}

void filter_because(struct filter_call *call, const char *why)
{
    call->verdict.why = arena_str(&call->arena, why ? str_of(why) : STR(""));
}

/* ---- notes, score, clocks, words ------------------------------------------------------------------------------------- */

struct str note_of(const struct visit *v, struct str name)
{
    for (const struct note *n = v->message ? v->message->notes : NULL; n; n = n->next)
        if (str_equal(n->name, name))
            return n->value;
    for (const struct note *n = v->notes; n; n = n->next)
        if (str_equal(n->name, name))
            return n->value;
    return STR_NONE;
}

enum { NOTES_MOST = 64, NOTE_OCTETS = 1024 };

/* Session notes live in slots that are replaced: a name's memory is taken once. */
void filter_note(struct filter_call *call, enum filter_life life, const char *name, struct filter_text value)
{
    struct visit *v = call->visit;
    if (!v)
        return;
    bool session = life == LIFE_SESSION || !call->message;
    struct note **list = session ? &v->notes : &call->message->notes;
    struct arena *arena = session ? v->life : &call->message->arena;
    size_t len = min_size(value.len, NOTE_OCTETS);
    if (call_is_traced(call))
        trace_note(call, str_of(name), value.at ? (struct str){value.at, len} : STR_NONE);
    unsigned n = 0;
    struct note *found = NULL;
    for (struct note *note = *list; note; note = note->next, n++)
        if (str_equal(note->name, str_of(name)))
            found = note;
    if (!found && (n >= NOTES_MOST || !value.at))
        return;
    if (!found) {
        found = arena_alloc(arena, sizeof *found);
        found->name = arena_str(arena, str_of(name));
        found->session = session;
        found->next = *list;
        *list = found;
        found->space = arena_space(arena, session ? NOTE_OCTETS + 1 : len + 1);
        found->room = session ? NOTE_OCTETS : len;
    } else if (len > found->room) {
        found->space = arena_space(arena, NOTE_OCTETS + 1);
        found->room = NOTE_OCTETS;
    }
    if (!value.at) {
        found->value = STR_NONE;
        return;
    }
    memcpy(found->space, value.at, len);
    found->space[len] = 0;
    found->value = (struct str){found->space, len};
}

double filter_score(struct filter_call *call, double add, const char *name)
{
    if (!call->message || call->filter->observe)
        return call->message ? call->message->score : 0;
    return call->message->score += add;
}

int64_t filter_now(const struct filter_call *call, bool wall)
{
    return wall ? loop_wall(call->worker->loop) : (int64_t)loop_micros(call->worker->loop);
}

void filter_random(struct filter_call *call, void *octets, size_t n)
{
    must(RAND_bytes(octets, (int)n) == 1);
}

/* ---- the log --------------------------------------------------------------------------------------------------------- */

enum { PAIRS_MOST = 32, KEY_OCTETS = 64, MSG_ROOM = 1100, PAIRS_ROOM = 4000 };

/* The keys of docs/log.md: what a filter says is never taken for what we say. */
static const char *const own_keys[] = {
    "accepted", "auth",     "backend",   "by",      "changed",  "client", "code",    "detail", "dropped",
    "ecode",    "errors",   "event",     "filter",  "from",     "helo",   "id",      "last",   "level",
    "listen",   "messages", "method",    "mid",     "more",     "msg",    "nrcpt",   "op",     "packets",
    "port",     "qid",      "rdns",      "refused", "replies",  "reply",  "result",  "score",  "size",
    "stage",    "subject",  "t_backend", "t_data",  "t_filter", "t_run",  "t_total", "tags",   "tls",
    "to",       "ts",       "uncertain", "user",    "verdict",  "waited", "what",    "why"};

static size_t key_write(char to[KEY_OCTETS + 3], const char *key)
{
    bool own = !*key;
    size_t n = 0;
    for (size_t i = 0; i < countof(own_keys); i++)
        own |= strcmp(key, own_keys[i]) == 0;
    for (; n < KEY_OCTETS && key[n]; n++) {
        char c = char_lower(key[n]);
        bool fits = char_is_alnum(c) || c == '_';
        own |= c != key[n] || !fits;
        to[n + 2] = fits ? c : '_';
    }
    to[n + 2] = 0;
    memcpy(to, "x_", 2);
    if (!own)
        memmove(to, to + 2, n + 1);
    return own ? n + 2 : n;
}

/* The first octets whose escapes fit into the room; what they take is subtracted. */
static struct str fitting(struct str text, size_t *room)
{
    size_t n = 0;
    for (; n < text.len; n++) {
        unsigned char c = (unsigned char)text.at[n];
        size_t takes = c < ' ' || c > '~' || c == '"' || c == '\\' ? 6 : 1;
        if (takes > *room)
            break;
        *room -= takes;
    }
    return str_part(text, 0, n);
}

static void log_pair(const struct filter_pair *pair, size_t *room)
{
    char key[KEY_OCTETS + 3];
    size_t overhead = key_write(key, pair->key) + 32; /* quotes, or the digits of a number */
    if (*room < overhead)
        return;
    *room -= overhead;
    if (pair->is_number)
        log_real(key, pair->number);
    else
        log_text(key, fitting((struct str){pair->text.at ? pair->text.at : "", pair->text.len}, room));
}

void filter_log_with(struct filter_call *call, enum filter_level level, const char *msg,
                     const struct filter_pair *pairs, size_t n)
{
    if (call_is_traced(call))
        trace_log(call, level, str_of(msg));
    if (!log_wants((enum log_level)level))
        return;
    size_t msg_room = n ? MSG_ROOM : SIZE_MAX, room = PAIRS_ROOM;
    log_begin((enum log_level)level, "script");
    if (call->visit) {
        char id[48];
        snprintf(id, sizeof id, call->message ? "%s.%u" : "%s", call->visit->id, call->message ? call->message->number : 0);
        log_text("id", str_of(id));
    }
    log_text("filter", call->filter->name);
    log_text("msg", fitting(str_of(msg), &msg_room));
    for (size_t i = 0; i < n && i < PAIRS_MOST; i++)
        log_pair((const struct filter_pair *)((const char *)pairs + i * pairs->size), &room);
    log_end();
}

void filter_log(struct filter_call *call, enum filter_level level, const char *format, ...)
{
    if (!log_wants((enum log_level)level) && !call_is_traced(call))
        return;
    va_list args;
    va_start(args, format);
    struct arena arena = {0}; /* not the call's: it may log for as long as it lives */
    struct str text = arena_vprint(&arena, format, args);
    va_end(args);
    filter_log_with(call, level, text.at, NULL, 0);
    arena_reset(&arena);
}
