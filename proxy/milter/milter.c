/* milter.c - one connection of an MTA, from accept to close: packets in and out, the turn, the clocks. */
#include "milter/milter.h"
#include "mail/call.h"
#include "mail/maillog.h"
#include "base/log.h"

/* ---- out ---- */

void milter_say_packet(struct milter *m, const struct milter_packet *p)
{
    size_t size = milter_size(p, MILTER_FROM_FILTER);
    must(size);
    struct block *b = block_take(size);
    milter_write(p, MILTER_FROM_FILTER, b->octets);
    b->used = (uint32_t)size;
    pipe_view(&m->stream->out, b, b->octets, size);
    block_drop(b);
}

void milter_say_kind(struct milter *m, char kind)
{
    milter_say_packet(m, &(struct milter_packet){.kind = kind});
}

/* A reply of several lines as a milter says it, each with its codes. */
static size_t lines_of(struct milter *m, const struct reply *r, struct str lines[MILTER_LINES])
{
    struct str rest = r->text, line;
    size_t n = 0;
    while (n < MILTER_LINES && (line = str_cut(&rest, '\n')).at)
        lines[n++] = arena_print(&m->scratch, "%u %u.%u.%u %.*s", r->code, r->enhanced[0], r->enhanced[1],
                                 r->enhanced[2], (int)min_size(line.len, MILTER_LINE_MOST - 40), line.at);
    return n;
}

void milter_say_reply(struct milter *m, const struct reply *said)
{
    struct reply r = *said;
    struct str lines[MILTER_LINES], value;
    reply_complete(&r);
    if (!r.text.len)
        r.text = reply_named(reply_class(&r) == 5 ? REPLY_FILTER_REJECT : REPLY_FILTER_DEFER).text;
    size_t n = lines_of(m, &r, lines);
    if (milter_reply_pack(lines, n, &m->scratch, &value) &&
        milter_size(&(struct milter_packet){.kind = 'y', .value = value}, MILTER_FROM_FILTER))
        milter_say_packet(m, &(struct milter_packet){.kind = 'y', .value = value});
    else
        milter_say_kind(m, reply_class(&r) == 5 ? 'r' : 't');
}

/* ---- the beginning and the end ---- */

void milter_close(struct milter *m, const char *why, bool faulty)
{
    if (m->closing)
        return;
    m->closing = true;
    m->faulty = faulty;
    m->why = why;
}

void milter_fault(struct milter *m, struct str what)
{
    m->visit.errors++;
    log_rare(LOG_WARNING, "milter_fault", "milter \"%.*s\": %.*s: %.*s: the connection is closed",
             STR_ARGS(m->listen->visit.name), STR_ARGS(m->peer), STR_ARGS(what));
    milter_close(m, "protocol fault", true);
}

/* The listener as the current configuration has it; else as it was, and also where the chain there asks for more than
 * was agreed upon with this MTA. */
static void find_listener(struct milter *m)
{
    const struct milter_worker *w = m->worker;
    for (size_t i = 0; i < w->nconfs; i++)
        if (str_equal(w->confs[i].visit.name, m->listen->visit.name) && milter_is_agreed(m, w->confs[i].visit.chain)) {
            m->listen = &w->confs[i];
            m->visit.filters = w->filters;
            return;
        }
}

void milter_begin_visit(struct milter *m)
{
    struct filter_set *was = m->visit.filters;
    m->visit = (struct visit){.filters = was ? was : m->worker->filters,
                              .conf = &m->conf,
                              .client = &m->client,
                              .outlet = &m->outlet,
                              .task = &m->task,
                              .life = &m->life,
                              .scratch = &m->scratch,
                              .esmtp = true};
    if (was)
        find_listener(m);
    filter_set_enter(m->visit.filters);
    if (was)
        filter_set_leave(was);
    m->conf = m->listen->visit;
    m->visit.serial = ++m->worker->mail->serial;
    m->visit.started_wall_us = loop_wall(m->worker->mail->loop);
    m->started = loop_micros(m->worker->mail->loop);
    visit_name(&m->visit);
    client_start(&m->client);
    m->refusal = (struct reply){0};
    m->packets = 0;
}

/* "conn" in the log: of who had no message, or was cut off by an error. */
static void log_end_of_visit(struct milter *m)
{
    if (m->place < AT_CLIENT && !m->faulty)
        return;
    if (m->visit.messages && !m->faulty)
        return;
    log_begin(LOG_INFO, "conn");
    log_text("id", str_of(m->visit.id));
    maillog_client(&m->visit);
    log_text("why", str_of(m->why ? m->why : "quit"));
    if (m->stream->dead && m->stream->why_text.len)
        log_text("detail", m->stream->why_text);
    log_number("errors", m->visit.errors);
    log_number("packets", m->packets);
    log_number("messages", m->visit.messages);
    if (m->refusal.code)
        log_number("refused", m->refusal.code);
    log_seconds("t_total", loop_micros(m->worker->mail->loop) - m->started);
    log_end();
}

/* All but its place in the filter set: whoever begins another visit, or ends the connection, leaves that. */
void milter_end_visit(struct milter *m)
{
    visit_end(&m->visit);
    log_end_of_visit(m);
    client_end(&m->client);
    text_set(&m->tls_told, STR_NONE);
    arena_reset(&m->scratch);
    arena_reset(&m->life);
}

static void wake(struct task *task);

static bool is_believed(const struct milter_conf *conf, const struct address *peer, struct arena *arena)
{
    return peer->name.ss_family == AF_UNIX || table_match_ip(conf->clients, address_ip(peer, arena), NULL);
}

void milter_start(struct milter_worker *w, const struct milter_conf *conf, uint32_t listen_id, struct stream *stream)
{
    struct milter *m = must_alloc(sizeof *m);
    struct address peer = stream_peer(stream, &m->arena);
    if (!is_believed(conf, &peer, &m->arena)) {
        log_rare(LOG_WARNING, "milter_stranger", "milter \"%.*s\": %.*s is not among its clients",
                 STR_ARGS(conf->visit.name), STR_ARGS(peer.host));
        stream_close(&stream, CLOSE_ABORT);
        arena_reset(&m->arena);
        free(m);
        return;
    }
    m->magic = MILTER_MAGIC;
    m->worker = w;
    m->listen = conf;
    m->listen_id = listen_id;
    m->stream = stream;
    m->peer = peer.name.ss_family == AF_UNIX ? STR("unix") : peer.host;
    m->leave_by = w->mail->draining ? w->drain_by : 0;
    m->reader = (struct milter_reader){MILTER_FROM_MTA, MILTER_BODY_MOST, MILTER_OTHER_MOST};
    m->outlet = (struct outlet){&milter_outlet, .quarantines = true, .routeless = true};
    m->tls_told = text_none;
    for (size_t i = 0; i < MACROS; i++)
        m->macros[i] = text_none;
    task_start(&m->task, w->mail->loop, wake);
    stream->task = &m->task;
    m->next = w->first;
    if (w->first)
        w->first->prev = m;
    w->first = m;
    m->crowded = ++w->n > conf->connections;
    milter_begin_visit(m);
    task_wake(&m->task);
}

static void free_milter(struct milter *m)
{
    struct milter_worker *w = m->worker;
    *(m->prev ? &m->prev->next : &w->first) = m->next;
    if (m->next)
        m->next->prev = m->prev;
    w->n--;
    visit_stop(&m->visit, m->leave_by ? CANCEL_SHUTDOWN : CANCEL_CLIENT_GONE);
    milter_message_end(m, END_ABORTED);
    milter_end_visit(m);
    milter_macros_forget(m, (enum macro)0);
    stream_close(&m->stream, m->stream->dead ? CLOSE_ABORT : CLOSE_GRACEFUL);
    alarm_stop(&m->alarm);
    task_forget(&m->task);
    filter_set_leave(m->visit.filters);
    arena_reset(&m->arena);
    m->magic = 0;
    free(m);
}

void milter_drain(struct milter_worker *w, uint32_t listen_id, uint64_t by)
{
    if (!listen_id)
        w->drain_by = by;
    for (struct milter *m = w->first; m; m = m->next)
        if (!listen_id || m->listen_id == listen_id) {
            m->leave_by = m->leave_by ? min_u64(m->leave_by, by) : by;
            task_wake(&m->task);
        }
}

void milter_count(const struct milter_worker *w, void (*count)(void *data, uint32_t listen_id), void *data)
{
    for (const struct milter *m = w->first; m; m = m->next)
        count(data, m->listen_id);
}

/* ---- the turn ---- */

enum { PAUSE_LOOK = 100 }; /* milliseconds between two looks at whether there is memory again */

static uint64_t now_of(const struct milter *m)
{
    return loop_now(m->worker->mail->loop);
}

/* Leaving, and between two messages: the next packet that is answered hears so. */
static bool sends_away(struct milter *m, char kind)
{
    bool between = !m->visit.message && (kind == 'C' || kind == 'H' || kind == 'M');
    if (!m->leave_by || !between || !milter_is_awaited(m, kind))
        return false;
    struct reply r = reply_named(REPLY_SHUTDOWN);
    milter_say_reply(m, &r);
    milter_close(m, "shutting down", false);
    return true;
}

static void take(struct milter *m, const struct milter_packet *p)
{
    uint64_t now = now_of(m);
    m->packets++;
    m->packet_by = m->idle_by = 0;
    if (m->place >= AT_OPTION && sends_away(m, p->kind))
        return;
    m->command_by = now + (p->kind == 'E' ? m->listen->timeouts.end_by : m->listen->timeouts.command);
    milter_take(m, p);
}

/* Looks at the packet at the head of what has come. While another one is in hand, only what ends that is taken. False:
 * there is nothing to do. */
static bool take_next(struct milter *m)
{
    struct stream *s = m->stream;
    struct milter_packet p;
    enum milter_fault fault;
    size_t whole;
    if (!m->busy) {
        if (pipe_is_full(&s->out))
            return false;
        arena_reset(&m->scratch);
    }
    struct arena flat = {0};
    enum milter_took took = milter_read(&m->reader, &s->in, m->busy ? &flat : &m->scratch, &p, &whole, &fault);
    bool ends = took == MILTER_PACKET && (p.kind == 'A' || p.kind == 'Q' || p.kind == 'K');
    bool done = took == MILTER_BROKEN || ends || (took == MILTER_PACKET && !m->busy && !milter_must_pause(m, &p));
    if (took == MILTER_BROKEN)
        milter_fault(m, milter_fault_print(fault, &p, whole, &m->scratch));
    else if (done)
        take(m, &p);
    /* What pins more memory than it shows fills a pipe all the same: the rest of a packet always finds room. */
    s->in.mark = took == MILTER_MORE ? max_size(PIPE_MARK, s->in.held + BLOCK_READ) : PIPE_MARK;
    if (done && took == MILTER_PACKET)
        pipe_drop(&s->in, whole);
    arena_reset(&flat);
    return done;
}

/* Filters at work are timed out by the clock of the packet in hand: their on_error decides then. */
static void hurry_filters(struct milter *m)
{
    if (m->busy && m->visit.run.call)
        m->visit.run.call->deadline = min_u64(m->visit.run.call->deadline, m->command_by);
}

static void run(struct milter *m)
{
    while (!m->closing) {
        if (m->busy) {
            hurry_filters(m);
            if (milter_go_on(m)) {
                m->busy = 0;
                continue;
            }
            hurry_filters(m);
        }
        if (!take_next(m)) {
            if (!m->busy && m->visit.run.call) /* content that was answered as soon as there was room for more */
                milter_body_is_taken(m);
            return;
        }
    }
}

/* An MTA that has left, or takes too long; and the end of a drain's grace. */
static void look_at_clocks(struct milter *m)
{
    uint64_t now = now_of(m);
    const struct stream *s = m->stream;
    if (s->dead)
        milter_close(m, "connection reset", false);
    else if (m->write_by && now >= m->write_by && s->written_octets == m->written_mark)
        milter_close(m, "client does not read", true);
    else if ((m->packet_by && now >= m->packet_by) || (m->idle_by && now >= m->idle_by))
        milter_close(m, "timeout", m->packet_by != 0);
    else if (m->leave_by && now >= m->leave_by) {
        struct reply r = {.code = 451, .enhanced = {4, 3, 2}, .text = reply_named(REPLY_SHUTDOWN).text};
        if (m->busy && milter_is_awaited(m, m->busy) && m->edit == EDIT_NOT_BEGUN)
            milter_say_reply(m, &r);
        milter_close(m, "shutting down", false);
    }
}

static void earlier(uint64_t *at, uint64_t by)
{
    if (by && (!*at || by < *at))
        *at = by;
}

static void set_clock(struct milter *m)
{
    const struct milter_timeouts *t = &m->listen->timeouts;
    uint64_t at = 0, now = now_of(m);
    bool content = m->place >= AT_FIELDS && m->visit.message;
    if (m->busy || m->paused_at)
        m->packet_by = m->idle_by = 0;
    else if ((!pipe_is_empty(&m->stream->in) || content) && !m->packet_by)
        m->packet_by = now + t->packet;
    if (!m->busy && !m->paused_at && !m->packet_by && !m->idle_by)
        m->idle_by = now + t->idle;
    if (m->paused_at)
        earlier(&at, now + PAUSE_LOOK);
    if (!m->stream->stuck) {
        m->write_by = 0;
    } else if (!m->write_by || m->stream->written_octets != m->written_mark) {
        m->write_by = now + t->write;
        m->written_mark = m->stream->written_octets;
    }
    earlier(&at, m->packet_by);
    earlier(&at, m->idle_by);
    earlier(&at, m->write_by);
    earlier(&at, m->leave_by);
    earlier(&at, visit_clock(&m->visit));
    if (m->busy == 'E')
        earlier(&at, m->progress_at);
    alarm_set(&m->alarm, &m->task, at && at <= now ? now + 10 : at);
}

static void milter_turn(struct milter *m)
{
    must(m->magic == MILTER_MAGIC);
    if (!m->closing)
        look_at_clocks(m);
    run(m);
    if (!m->closing && m->stream->ended) /* what had come has been taken, as far as it can be */
        milter_close(m, "client left", false);
    if (m->closing) {
        free_milter(m);
        return;
    }
    m->stream->partial =
        !m->busy; /* nothing is said before the next packet: an MTA with Nagle's algorithm need not wait for that */
    stream_flush_soon(m->stream);
    set_clock(m);
}

static void wake(struct task *task)
{
    milter_turn(holder_of(task, struct milter, task));
}
