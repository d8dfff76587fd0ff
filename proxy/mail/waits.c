/* waits.c - what a suspended filter waits for: timers, DNS, stores, streams, threads, room, content (filters/filter.h).
 *
 * An op is data in a list of its call; whether it is done is asked in the turn of the session, so nothing is ever called from
 * net. Each ends exactly once: as one event of resume, or dropped with its call. What a thread works on is its own copy, and
 * outlives the call if it must. */
#include "mail/trace.h"
#include "base/fault.h"
#include "net/stream.h"

enum op_kind { OP_TIMER, OP_ROOM, OP_CONTENT, OP_DNS, OP_STORE, OP_WORK, OP_DIAL, OP_READ, OP_FLUSH, OP_FAILED };

struct work {
    void (*run)(void *);
    void (*drop)(void *);
    void *data;
    struct op *op; /* NULL: the call is gone */
    bool ended;
};

struct op {
    struct op *next;
    uint64_t id;
    enum op_kind kind;
    uint64_t deadline; /* loop_now: TIMER: when it is done; others: "timeout". 0: none */
    uint64_t started;
    struct dns_query *query;
    struct work *work;
    struct filter_stream *stream;
    size_t need;
    enum failure error;
    struct str asked; /* of DNS: the name, for the log */
    struct str what;  /* for the trace; NONE: nobody listens */
    uint64_t began;   /* loop_micros, for the trace */
    struct filter_value value;
    struct str octets;
    bool ended;
    struct arena arena;
};

struct filter_stream {
    struct filter_stream *next;
    struct stream *stream;
    const struct filter *filter;
    struct filter_set *set;
    struct slot *slot;        /* whose list it is in; NULL: the set's idle ones */
    enum filter_life life;
    bool pooled;
    unsigned ops;             /* open ones: it is freed with the last, even if it was closed before */
    char address[200];
    uint64_t idle_since;
};

enum { IDLE_STREAMS = 16, IDLE_MS = 60000 }; /* kept of one instance by one worker, and for how long at most */

static _Thread_local uint64_t last_id;

/* ---- starting -------------------------------------------------------------------------------------------------------- */

static struct op *start(struct filter_call *call, enum op_kind kind, unsigned ms)
{
    struct op *op = must_alloc(sizeof *op);
    op->id = ++last_id;
    op->kind = kind;
    op->started = loop_now(call->worker->loop);
    op->deadline = ms ? op->started + ms : 0;
    if (call->nops >= OPS_MOST || fault_strikes(FAULT_OP)) {
        op->kind = OP_FAILED;
        op->error = FAILURE_LIMIT;
    }
    if (call_is_traced(call))
        op->began = loop_micros(call->worker->loop);
    struct op **end = &call->ops;
    while (*end)
        end = &(*end)->next;
    *end = op;
    call->nops++;
    return op;
}

static uint64_t fail(struct op *op, enum failure error)
{
    op->kind = OP_FAILED;
    op->error = error;
    return op->id;
}

uint64_t filter_timer(struct filter_call *call, unsigned ms)
{
    return start(call, OP_TIMER, ms ? ms : 1)->id;
}

uint64_t filter_room(struct filter_call *call)
{
    return start(call, OP_ROOM, 0)->id;
}

uint64_t filter_content(struct filter_call *call, uint64_t offset, size_t n)
{
    struct op *op = start(call, OP_CONTENT, 0);
    struct spool *spool = call->message ? call->message->flow.spool : NULL;
    if (call->stage != FILTER_MESSAGE || !spool)
        return fail(op, FAILURE_FORBIDDEN);
    n = min_size(n, 1048576);
    char *into = arena_space(&op->arena, n + 1);
    size_t got = spool_read(spool, offset, into, n);
    into[got] = 0;
    op->octets = (struct str){into, got};
    op->ended = offset + got >= spool_octets(spool);
    if (spool_failed(spool))
        op->error = FAILURE_BAD;
    return op->id;
}

uint64_t filter_dns(struct filter_call *call, const char *type, const char *name, unsigned ms)
{
    struct op *op = start(call, OP_DNS, 0);
    if (op->kind == OP_FAILED)
        return op->id;
    op->asked = arena_str(&op->arena, str_of(name));
    if (call_is_traced(call))
        op->what = arena_print(&op->arena, "%s %s", type, name);
    if (!call->set->dns)
        return fail(op, call->set->no_dns ? FAILURE_TIMEOUT : FAILURE_SERVFAIL);
    op->query = dns_ask(call->set->dns, type, str_of(name), ms, call->task);
    return op->id;
}

static const struct store_conf *store_named(const struct filter_call *call, const char *name)
{
    const struct mail_conf *conf = call->set->conf;
    for (size_t i = 0; i < conf->nstores; i++)
        if (str_equal(conf->stores[i].name, str_of(name ? name : "default")))
            return &conf->stores[i];
    return NULL;
}

/* Store prefix, filter prefix, ':', key: octets, a NUL in the key included. */
static struct str store_key(struct op *op, const struct store_conf *sc, const struct filter *f, struct filter_text key)
{
    struct str pieces[] = {sc->prefix, f->prefix, STR(":"), {key.at, key.len}};
    return arena_join(&op->arena, countof(pieces), pieces);
}

uint64_t filter_store(struct filter_call *call, const struct filter_store *want)
{
    struct op *op = start(call, OP_STORE, 0);
    const struct store_conf *sc = store_named(call, want->store);
    struct store_request request = {.n = want->n, .ttl = want->ttl, .limit = want->limit, .window = want->window};
    if (op->kind == OP_FAILED)
        return op->id;
    if (!sc || !store_op_named(want->op, &request.op))
        return fail(op, FAILURE_BAD);
    if (call_is_traced(call))
        op->what = arena_print(&op->arena, "%s %.*s", want->op, STR_ARGS(sc->name));
    request.key = store_key(op, sc, call->filter, want->key);
    request.value = (struct str){want->value.at, want->value.len};
    if ((request.op == STORE_SET || request.op == STORE_ADD) && !want->value.at) { /* get will give an integer back */
        request.value_is_integer = true;
        request.integer = (int64_t)want->n;
        request.n = 0;
    }
    /* The clock that nobody sets: by the wall's, set back a day, who is at his limit would stay there for a day. */
    double now = (double)loop_micros(call->worker->loop) / 1e6;
    op->error = store_now(sc->store, &request, now, &op->arena, &op->value);
    return op->id;
}

static void work_run(void *data)
{
    struct work *work = data;
    work->run(work->data);
}

static void work_free(struct work *work)
{
    if (work->drop)
        work->drop(work->data);
    free(work);
}

struct work_here { struct work work; struct task *task; struct filter_set *set; };

static void work_done(void *data)
{
    struct work_here *here = data;
    here->work.ended = true;
    filter_set_leave(here->set);
    if (here->work.op)
        task_wake(here->task);
    else
        work_free(&here->work);
}

uint64_t filter_work(struct filter_call *call, void (*run)(void *), void (*drop)(void *), void *data)
{
    struct op *op = start(call, OP_WORK, 0);
    if (op->kind == OP_FAILED) {
        if (drop)
            drop(data);
        return op->id;
    }
    struct work_here *here = must_alloc(sizeof *here);
    here->work = (struct work){.run = run, .drop = drop, .data = data, .op = op};
    here->task = call->task;
    here->set = call->set;
    filter_set_enter(call->set);
    op->work = &here->work;
    loop_work(call->worker->loop, work_run, work_done, here);
    return op->id;
}

/* ---- streams --------------------------------------------------------------------------------------------------------- */

static void unlink_stream(struct filter_stream *fs)
{
    struct filter_stream **at = fs->slot ? &fs->slot->streams : &fs->set->streams;
    while (*at && *at != fs)
        at = &(*at)->next;
    must(*at == fs);
    *at = fs->next;
    fs->next = NULL;
}

static void close_stream(struct filter_stream *fs)
{
    unlink_stream(fs);
    stream_close(&fs->stream, CLOSE_GRACEFUL);
    if (!fs->ops)
        free(fs);
}

static void own_stream(struct filter_call *call, struct filter_stream *fs, enum filter_life life)
{
    fs->slot = call->slot;
    fs->life = life == LIFE_WORKER ? LIFE_SESSION : life;
    fs->next = call->slot->streams;
    call->slot->streams = fs;
    fs->stream->task = call->task;
}

static void set_stream(struct op *op, struct filter_stream *fs)
{
    op->stream = fs;
    fs->ops++;
}

static bool is_alive(const struct stream *stream)
{
    return !stream->dead && !stream->ended && pipe_is_empty(&stream->in);
}

/* Those of the list that are of no use any more go; how many of this instance's are left. */
static size_t sort_out_idle(struct filter_set *set, const struct filter *filter)
{
    uint64_t now = loop_now(set->worker->loop);
    size_t left = 0;
    for (struct filter_stream *fs = set->streams, *next; fs; fs = next) {
        next = fs->next;
        if (!is_alive(fs->stream) || now >= fs->idle_since + IDLE_MS)
            close_stream(fs);
        else
            left += fs->filter == filter;
    }
    return left;
}

static struct filter_stream *idle_stream(struct filter_call *call, const char *address)
{
    sort_out_idle(call->set, call->filter);
    for (struct filter_stream *fs = call->set->streams, *next; fs; fs = next) {
        next = fs->next;
        if (fs->filter == call->filter && !strcmp(fs->address, address)) {
            unlink_stream(fs);
            return fs;
        }
    }
    return NULL;
}

uint64_t filter_dial(struct filter_call *call, enum filter_life life, const struct filter_dial *want)
{
    struct op *op = start(call, OP_DIAL, want->ms ? want->ms : 30000);
    struct address address;
    const char *why;
    if (op->kind == OP_FAILED)
        return op->id;
    if (call_is_traced(call))
        op->what = arena_str(&op->arena, str_of(want->address));
    if (call->set->offline) {
        call->service_failed = true;
        return fail(op, FAILURE_REFUSED);
    }
    if (want->tls)
        return fail(op, FAILURE_TLS);
    if (strlen(want->address) >= sizeof op->stream->address ||
        !address_parse(str_of(want->address), &op->arena, &address, &why))
        return fail(op, FAILURE_BADNAME);
    struct filter_stream *fs = want->pooled ? idle_stream(call, want->address) : NULL;
    if (!fs) {
        fs = must_alloc(sizeof *fs);
        fs->filter = call->filter;
        fs->set = call->set;
        fs->pooled = want->pooled;
        snprintf(fs->address, sizeof fs->address, "%s", want->address);
        fs->stream = stream_dial(call->worker->loop, &address, call->task);
        fs->stream->in.mark = want->hold ? want->hold : PIPE_MARK;
    }
    own_stream(call, fs, life);
    set_stream(op, fs);
    return op->id;
}

uint64_t filter_read(struct filter_call *call, struct filter_stream *fs, size_t need, unsigned ms)
{
    struct op *op = start(call, OP_READ, ms ? ms : 30000);
    set_stream(op, fs);
    op->need = need ? need : 1;
    fs->stream->task = call->task;
    fs->stream->partial = true;
    if (fs->stream->in.mark < op->need * 2)
        fs->stream->in.mark = op->need * 2;
    stream_flush(fs->stream); /* reading goes on if it had stopped */
    return op->id;
}

void filter_consume(struct filter_stream *fs, size_t n)
{
    pipe_drop(&fs->stream->in, min_size(n, fs->stream->in.octets));
}

bool filter_put(struct filter_stream *fs, const void *octets, size_t n)
{
    if (fs->stream->dead)
        return true; /* the next op on it says so */
    pipe_copy(&fs->stream->out, octets, n);
    return !pipe_is_full(&fs->stream->out);
}

uint64_t filter_flush(struct filter_call *call, struct filter_stream *fs)
{
    struct op *op = start(call, OP_FLUSH, 30000);
    set_stream(op, fs);
    fs->stream->task = call->task;
    stream_flush(fs->stream);
    return op->id;
}

void filter_stream_keep(struct filter_stream **stream)
{
    struct filter_stream *fs = *stream;
    *stream = NULL;
    if (!fs)
        return;
    if (!fs->pooled || !is_alive(fs->stream) || !pipe_is_empty(&fs->stream->out) || fs->set->worker->draining ||
        sort_out_idle(fs->set, fs->filter) >= IDLE_STREAMS) {
        close_stream(fs);
        return;
    }
    unlink_stream(fs);
    fs->slot = NULL;
    fs->idle_since = loop_now(fs->set->worker->loop);
    fs->stream->task = NULL;
    fs->next = fs->set->streams;
    fs->set->streams = fs;
}

void filter_stream_close(struct filter_stream **stream)
{
    if (*stream)
        close_stream(*stream);
    *stream = NULL;
}

void slot_close_streams(struct slot *slot, enum filter_life life)
{
    for (struct filter_stream *fs = slot->streams, *next; fs; fs = next) {
        next = fs->next;
        if (fs->life <= life)
            close_stream(fs);
    }
}

void set_close_streams(struct filter_set *set)
{
    while (set->streams)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked before it is freed */
        close_stream(set->streams);
}

/* ---- ending ---------------------------------------------------------------------------------------------------------- */

static void op_free(struct op *op)
{
    dns_drop(&op->query);
    if (op->stream && --op->stream->ops == 0 && !op->stream->stream)
        free(op->stream);
    if (op->work) {
        op->work->op = NULL;
        if (op->work->ended)
            work_free(op->work);
    }
    arena_reset(&op->arena);
    free(op);
}

static void take_out(struct filter_call *call, struct op *op)
{
    struct op **at = &call->ops;
    while (*at != op)
        at = &(*at)->next;
    *at = op->next;
    call->nops--;
}

/* 0: all of them (the call ends). */
void filter_op_cancel(struct filter_call *call, uint64_t id)
{
    for (struct op *op = call->ops, *next; op; op = next) {
        next = op->next;
        if (id && op->id != id)
            continue;
        take_out(call, op);
        op_free(op);
    }
}

bool call_waits_for_service(const struct filter_call *call)
{
    for (const struct op *op = call->ops; op; op = op->next)
        if (op->kind == OP_DIAL || op->kind == OP_READ || op->kind == OP_FLUSH || op->kind == OP_STORE)
            return true;
    return false;
}

bool call_has_ops(const struct filter_call *call)
{
    return call->ops != NULL;
}

uint64_t call_clock(const struct filter_call *call)
{
    uint64_t at = UINT64_MAX;
    for (const struct op *op = call->ops; op; op = op->next)
        if (op->deadline && op->deadline < at)
            at = op->deadline;
    return at;
}

static bool stream_is_over(const struct stream *stream)
{
    return stream->dead || stream->ended;
}

/* Whether it has ended; sets error where it ended badly. */
static bool is_done(struct filter_call *call, struct op *op, uint64_t now)
{
    bool late = op->deadline && now >= op->deadline;
    const struct stream *stream = op->stream ? op->stream->stream : NULL;
    if (op->stream && !stream) { /* the filter closed it while it waited for it */
        op->error = FAILURE_CANCELLED;
        return true;
    }
    switch (op->kind) {
    case OP_TIMER: return late;
    case OP_CONTENT:
    case OP_STORE:
    case OP_FAILED: return true;
    case OP_ROOM: return !call->message || flow_has_room(&call->message->flow);
    case OP_DNS:
        if (op->query->done)
            op->error = op->query->error;
        return op->query->done;
    case OP_WORK: return op->work->ended;
    case OP_DIAL:
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): this kind has a stream */
        if (stream->connected && !stream->dead)
            return true;
        break;
    case OP_READ:
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): this kind has a stream */
        if (stream->in.octets >= op->need || stream->ended || stream->dead)
            return op->ended = stream_is_over(stream) && stream->in.octets < op->need, true;
        pipe_compact(&op->stream->stream->in);
        stream_flush(op->stream->stream); /* reading goes on where that made room */
        break;
    case OP_FLUSH:
        must(stream != NULL);
        if (!pipe_is_full(&stream->out) && !stream->dead)
            return true;
        break;
    }
    if (stream && stream->dead) {
        op->error = stream->why ? stream->why : FAILURE_CLOSED;
        return true;
    }
    if (late)
        op->error = FAILURE_TIMEOUT;
    return late;
}

/* "zen.spamhaus.org" of "2.0.0.127.zen.spamhaus.org": the list, whatever address was asked for. */
static struct str asked_zone(struct str name)
{
    struct str rest = name, label = STR_NONE;
    while (rest.len) {
        struct str before = rest;
        label = str_cut(&rest, '.');
        bool number = label.len > 0 && label.len <= 3;
        for (size_t i = 0; i < label.len; i++)
            number &= (label.at[i] >= '0' && label.at[i] <= '9') ||
                      (label.len == 1 && label.at[i] >= 'a' && label.at[i] <= 'f');
        if (!number)
            return before;
    }
    return name;
}

/* A service that cannot be asked is told of, so that no script has to think of it; and counts for the circuit breaker,
 * but for DNS: which names are looked up is up to who sends. */
static void look_at_failure(struct filter_call *call, const struct op *op)
{
    const char *kind = NULL;
    struct str what = STR("");
    char key[256];
    unsigned more;
    enum failure e = op->error;
    if (!e || e == FAILURE_CANCELLED)
        return;
    if (op->kind == OP_DNS && (e == FAILURE_TIMEOUT || e == FAILURE_SERVFAIL || e == FAILURE_REFUSED)) {
        kind = "dns";
        what = asked_zone(op->asked);
    } else if (op->kind == OP_STORE && (e == FAILURE_TIMEOUT || e == FAILURE_DOWN)) {
        kind = "store";
    } else if (op->stream && (op->kind == OP_DIAL || e == FAILURE_TIMEOUT)) {
        kind = op->kind == OP_DIAL ? "dial" : "read";
        what = str_of(op->stream->address);
    }
    if (!kind)
        return;
    call->service_failed |= op->kind != OP_DNS;
    snprintf(key, sizeof key, "%.*s/%s/%.*s", STR_ARGS(call->filter->name), kind, STR_ARGS(what));
    if (!log_is_due(LOG_WARNING, key, &more))
        return;
    log_begin(LOG_WARNING, "log");
    log_text("msg", more ? arena_print(&call->arena, "a filter had no answer (%u more like this)", more)
                         : STR("a filter had no answer"));
    log_text("filter", call->filter->name);
    log_text("op", str_of(kind));
    log_text("what", what);
    log_text("result", str_of(failure_word(e)));
    log_end();
}

static void fill_event(struct filter_call *call, struct op *op, struct filter_event *event)
{
    *event = (struct filter_event){.size = sizeof *event, .op = op->id, .error = failure_word(op->error), .ended = op->ended};
    uint64_t took = loop_now(call->worker->loop) - op->started;
    if (op->error) {
        const char *peer = op->stream ? op->stream->address : "";
        struct str why = arena_print(&op->arena, "%s%s%s after %llu ms", peer, *peer ? ": " : "", event->error,
                                     (unsigned long long)took);
        event->why = fact_of_text(why);
    }
    if (op->stream && !op->stream->stream)
        return;
    switch (op->kind) {
    case OP_DNS: event->value = &op->query->value; break;
    case OP_STORE: event->value = &op->value; break;
    case OP_WORK: event->data = op->work->data; break;
    case OP_CONTENT: event->octets = fact_of_text(op->octets); break;
    case OP_READ: {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): this kind has a stream */
        struct pipe *in = &op->stream->stream->in;
        event->octets = fact_of_text(pipe_flat(in, in->octets, &op->arena));
        if (event->ended && op->stream->stream->dead && !op->error)
            event->error = failure_word(FAILURE_CLOSED);
    } /* fall through */
    case OP_DIAL:
    case OP_FLUSH: event->stream = op->stream; break;
    default: break;
    }
    if (op->kind == OP_DIAL && op->error) {
        must(op->stream != NULL);
        close_stream(op->stream);
        event->stream = NULL;
    }
}

static void trace_op(const struct filter_call *call, const struct op *op, const char *result)
{
    static const char *const names[] = {[OP_TIMER] = "timer", [OP_ROOM] = "room",   [OP_CONTENT] = "content", [OP_DNS] = "dns",
                                        [OP_STORE] = "store", [OP_WORK] = "work",   [OP_DIAL] = "dial",       [OP_READ] = "read",
                                        [OP_FLUSH] = "flush", [OP_FAILED] = "failed"};
    const char *name = names[op->kind];
    struct str what = op->what;
    if (op->kind == OP_FAILED && what.at)
        name = op->asked.at ? "dns" : "dial";
    if (!what.at)
        what = op->stream ? str_of(op->stream->address) : STR("");
    trace_wait(call, name, what, loop_micros(call->worker->loop) - op->began, result);
}

void call_trace_open(struct filter_call *call, const char *result)
{
    for (const struct op *op = call->ops; op; op = op->next)
        trace_op(call, op, result);
}

bool call_resume(struct filter_call *call, enum filter_verdict *v)
{
    uint64_t now = loop_now(call->worker->loop);
    for (struct op *op = call->ops; op; op = op->next) {
        if (!is_done(call, op, now))
            continue;
        struct filter_event event;
        take_out(call, op);
        look_at_failure(call, op);
        if (call_is_traced(call))
            trace_op(call, op, failure_word(op->error));
        fill_event(call, op, &event);
        must(call->filter->def->resume != NULL);
        *v = call->filter->def->resume(call, &event);
        for (struct filter_stream *fs = call->slot->streams; fs; fs = fs->next)
            stream_flush(fs->stream);
        op_free(op);
        return true;
    }
    return false;
}
