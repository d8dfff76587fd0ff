/* stream.c - proxy/net/stream.h over wires: what the gateway flushes arrives at the peer in pieces, later, and the
 * reverse.
 *
 * How octets are cut, how long they take, how much is under way before the gateway sees a full pipe, and whether a
 * reset eats what is under way is decided by the dice, per wire and per piece. TLS is not simulated. */
#include "clock.h"

enum { DRAIN_MS = 60000 };
enum cuts { CUT_NEVER, CUT_EACH, CUT_ANY };

struct net_end {
    struct wire wire; /* first */
    struct loop *loop;
    struct octets down, up; /* under way: to the peer, to the gateway */
    size_t window;          /* of down */
    uint64_t lag;           /* most of a piece, milliseconds */
    enum cuts cuts;
    struct event arrive, reach, dial;
    struct task flush; /* of stream_flush_soon */
    bool broken, vanished, peer_fin, peer_gone, gateway_fin, gateway_gone, starved, choked;
    unsigned pins;
    unsigned host; /* of a client; 0: dialled by the gateway */
};

static size_t streams;
static unsigned numbers;  /* of wires, in this world */
static unsigned breaking; /* in thousandths of pieces */
static bool heavy;
static enum dialled (*on_dial)(void *, struct wire *);
static void *on_dial_data;

size_t stream_count(void)
{
    return streams;
}

void net_on_dial(enum dialled (*f)(void *, struct wire *), void *data)
{
    on_dial = f;
    on_dial_data = data;
}

void net_begin(unsigned how_often, bool is_heavy)
{
    numbers = 0;
    breaking = how_often;
    heavy = is_heavy;
}

void net_heal(void)
{
    breaking = 0;
}

static struct net_end *end_of(const struct stream *s)
{
    return ((struct wire *)s)->end;
}

bool net_is_sound(const struct stream *s)
{
    const struct net_end *e = end_of(s);
    return !e->peer_gone && !e->broken && !e->vanished && !e->wire.reset;
}

bool net_reads(const struct stream *s)
{
    return !end_of(s)->starved;
}

static void run_down(struct event *);
static void run_up(struct event *);
static void flush_now(struct task *);

static struct net_end *end_new(struct loop *l, struct task *task)
{
    static const size_t windows[] = {512, 4096, 65536, 262144};
    static const uint64_t lags[] = {0, 2, 50, 3000};
    struct net_end *e = must_alloc(sizeof *e);
    e->loop = l;
    e->wire.end = e;
    e->wire.s.task = task;
    e->wire.s.in.mark = e->wire.s.out.mark = PIPE_MARK;
    e->wire.number = ++numbers;
    task_start(&e->flush, l, flush_now);
    size_t window = sim_random(countof(windows)), lag = sim_lesser(8, 4), cuts = sim_random(3);
    e->window = sim_may(F_WINDOWS, 100) ? windows[heavy ? window | 2 : window] : 262144;
    e->lag = !sim_may(F_LAGS, 100) ? 0 : lags[lag == 3 && !sim_may(F_LONG_LAGS, 100) ? 2 : lag];
    e->cuts = sim_may(F_CUTS, 100) ? (enum cuts)cuts : CUT_NEVER;
    streams++;
    return e;
}

static bool end_try_free(struct net_end *e)
{
    if (!e->gateway_gone || !e->peer_gone || e->pins)
        return false;
    event_stop(&e->arrive);
    event_stop(&e->reach);
    event_stop(&e->dial);
    task_forget(&e->flush);
    pipe_clear(&e->wire.s.in);
    pipe_clear(&e->wire.s.out);
    octets_free(&e->down);
    octets_free(&e->up);
    octets_free(&e->wire.in);
    streams--;
    free(e);
    return true;
}

static void tell_peer(struct net_end *e)
{
    if (e->peer_gone || !e->wire.heard)
        return;
    e->pins++;
    e->wire.heard(e->wire.peer);
    e->pins--;
}

static void wake(struct net_end *e)
{
    if (e->wire.s.task)
        task_wake(e->wire.s.task);
}

static size_t cut(struct net_end *e, size_t n)
{
    if (e->cuts == CUT_NEVER || n < 2)
        return n;
    if (e->cuts == CUT_EACH)
        return min_size(n, n < 300 ? 1 : 1 + sim_random(heavy ? 20000 : 700));
    return 1 + sim_random(n);
}

static uint64_t delay(struct net_end *e)
{
    if (sim_random(400) == 0 && sim_may(F_LONG_LAGS, 100))
        return sim_random(25000); /* a stall */
    return e->lag ? sim_random(e->cuts == CUT_EACH ? min_u64(e->lag, 20) : e->lag) : 0;
}

static void show(const struct net_end *e, const char *way, const char *at, size_t n)
{
    char text[80];
    size_t len = 0;
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        sum = sum * 31 + c;
        if (len < sizeof text - 3)
            text[len++] = (char)(c == '\r' ? '\\' : c == '\n' ? '/' : c < ' ' || c > 126 ? '?' : c);
    }
    text[len] = 0;
    sim_trace("%s%u %s %zu %08x |%s", e->host ? "c" : "b", e->wire.number, way, n, sum, text);
}

/* ---- from the gateway to the peer */

static void send_on(struct net_end *e)
{
    struct pipe *out = &e->wire.s.out;
    size_t n = min_size(out->octets, e->window > e->down.len ? e->window - e->down.len : 0);
    if (e->peer_gone)
        n = out->octets; /* into the void */
    while (n) {
        char piece[4096];
        size_t part = min_size(n, sizeof piece);
        pipe_peek(out, 0, piece, part);
        pipe_drop(out, part);
        if (!e->peer_gone)
            octets_put(&e->down, piece, part);
        e->wire.s.written_octets += part;
        n -= part;
    }
    if ((e->down.len || e->gateway_fin) && !event_is_set(&e->arrive))
        event_set(&e->arrive, delay(e), run_down);
}

static void progress(struct net_end *e)
{
    struct stream *s = &e->wire.s;
    e->choked |= pipe_is_full(&s->out);
    send_on(e);
    if (!s->task)
        return;
    if ((e->choked && !pipe_is_full(&s->out)) || (s->stuck && pipe_is_empty(&s->out)))
        wake(e);
    e->choked = pipe_is_full(&s->out);
    s->stuck = !pipe_is_empty(&s->out);
}

static void run_down(struct event *event)
{
    struct net_end *e = holder_of(event, struct net_end, arrive);
    e->pins++;
    if (e->broken)
        octets_drop(&e->down, e->down.len);
    if (e->vanished && !e->gateway_fin) {
        e->pins--;
        return; /* what is under way fills the window */
    }
    if (e->down.len && !e->peer_gone) {
        size_t n = cut(e, e->down.len);
        show(e, "<", e->down.at, n);
        octets_put(&e->wire.in, e->down.at, n);
        octets_drop(&e->down, n);
        tell_peer(e);
    }
    if (!e->gateway_gone || !pipe_is_empty(&e->wire.s.out))
        progress(e);
    if (e->gateway_fin && !e->down.len && pipe_is_empty(&e->wire.s.out)) {
        e->gateway_gone = true;
        if (!e->wire.ended) {
            e->wire.ended = true;
            sim_trace("%s%u < end", e->host ? "c" : "b", e->wire.number);
            tell_peer(e);
        }
    } else if (e->down.len && !event_is_set(&e->arrive)) {
        event_set(&e->arrive, delay(e), run_down);
    }
    e->pins--;
    end_try_free(e);
}

/* ---- from the peer to the gateway */

static void die(struct net_end *e, enum failure why)
{
    struct stream *s = &e->wire.s;
    if (s->dead || e->gateway_gone || e->gateway_fin)
        return;
    s->dead = true;
    s->why = why;
    s->why_text = str_of(failure_word(why));
    wake(e);
}

/* As the real read: a large piece is handed over by view, a small one copied. */
static void give(struct pipe *in, const char *at, size_t n)
{
    if (n <= BLOCK_READ / 2) {
        pipe_copy(in, at, n);
        return;
    }
    struct block *b = block_take(BLOCK_READ);
    memcpy(b->octets, at, n);
    b->used = (uint32_t)n;
    pipe_view(in, b, b->octets, n);
    block_drop(b);
}

static void run_up(struct event *event)
{
    struct net_end *e = holder_of(event, struct net_end, reach);
    struct stream *s = &e->wire.s;
    if (sim_random(1000) < breaking && sim_may(F_BREAKS, 100) && !e->gateway_gone)
        wire_break(&e->wire);
    if (e->gateway_fin || e->gateway_gone || s->dead || e->broken) {
        octets_drop(&e->up, e->up.len);
        return;
    }
    if (e->up.len && pipe_is_full(&s->in)) {
        e->starved = true;
        return;
    }
    if (e->up.len) {
        size_t n = min_size(cut(e, e->up.len), BLOCK_READ);
        show(e, ">", e->up.at, n);
        give(&s->in, e->up.at, n);
        octets_drop(&e->up, n);
        s->read_octets += n;
        if (e->wire.delivered)
            *e->wire.delivered += n;
        wake(e);
    }
    if (e->up.len) {
        event_set(&e->reach, delay(e), run_up);
    } else if (e->wire.reset) {
        die(e, FAILURE_RESET);
    } else if (e->peer_fin && !s->ended) {
        s->ended = s->in.ended = true;
        sim_trace("%s%u > end", e->host ? "c" : "b", e->wire.number);
        wake(e);
    }
}

void wire_send(struct wire *w, const void *at, size_t n)
{
    struct net_end *e = w->end;
    must(!e->peer_fin);
    if (e->broken)
        return;
    octets_put(&e->up, at, n);
    if (!event_is_set(&e->reach))
        event_set(&e->reach, delay(e), run_up);
}

size_t wire_unsent(const struct wire *w)
{
    return w->end->up.len;
}

void wire_break(struct wire *w)
{
    struct net_end *e = w->end;
    if (e->broken)
        return;
    e->broken = w->broken = true;
    sim_trace("%s%u breaks", e->host ? "c" : "b", w->number);
    octets_drop(&e->down, e->down.len);
    octets_drop(&e->up, e->up.len);
    if (sim_chance(60))
        die(e, FAILURE_TIMEOUT);
    if (!w->ended) {
        w->ended = true;
        tell_peer(e);
    }
}

void wire_end(struct wire *w)
{
    w->end->peer_fin = true;
    if (!event_is_set(&w->end->reach))
        event_set(&w->end->reach, delay(w->end), run_up);
}

void wire_vanish(struct wire **at)
{
    struct net_end *e = (*at)->end;
    sim_trace("%s%u vanishes", e->host ? "c" : "b", e->wire.number);
    e->vanished = true;
    e->wire.heard = NULL;
    octets_drop(&e->up, e->up.len);
    *at = NULL;
    if (e->gateway_fin)
        wire_leave(&(struct wire *){&e->wire});
}

void wire_leave(struct wire **at)
{
    struct wire *w = *at;
    *at = NULL;
    if (!w)
        return;
    if (!w->end->peer_fin)
        wire_end(w);
    w->end->peer_gone = true;
    octets_drop(&w->end->down, w->end->down.len);
    end_try_free(w->end);
}

void wire_reset(struct wire **at)
{
    struct net_end *e = (*at)->end;
    if (sim_chance(50))
        octets_drop(&e->up, e->up.len); /* what was under way is lost */
    e->wire.reset = true;
    sim_trace("%s%u > reset", e->host ? "c" : "b", e->wire.number);
    wire_leave(at);
}

/* ---- what the gateway calls */

struct wire *wire_open(struct loop *l, unsigned host, struct stream **stream)
{
    struct net_end *e = end_new(l, NULL);
    e->host = host;
    e->wire.s.connected = true;
    *stream = &e->wire.s;
    return &e->wire;
}

static void dialled(struct event *event)
{
    struct net_end *e = holder_of(event, struct net_end, dial);
    e->pins++;
    enum dialled says = on_dial(on_dial_data, &e->wire);
    if (says == DIAL_ACCEPTED) {
        e->wire.s.connected = true;
        wake(e);
        progress(e);
    } else {
        e->peer_gone = true;
        if (says == DIAL_REFUSED)
            die(e, FAILURE_REFUSED);
    }
    e->pins--;
    end_try_free(e);
}

struct stream *stream_dial(struct loop *l, const struct address *a, struct task *task)
{
    struct net_end *e = end_new(l, task);
    e->wire.port = a->port;
    event_set(&e->dial, 1 + delay(e), dialled);
    return &e->wire.s;
}

void stream_flush(struct stream *s)
{
    struct net_end *e = end_of(s);
    if (s->dead)
        pipe_clear(&s->out);
    if (e->broken && !pipe_is_empty(&s->out))
        die(e, FAILURE_RESET);
    if (s->dead || !s->connected)
        return;
    progress(e);
    if (e->starved && !pipe_is_full(&s->in)) {
        e->starved = false;
        if (!event_is_set(&e->reach))
            event_set(&e->reach, 0, run_up);
    }
}

static void flush_now(struct task *t)
{
    struct net_end *e = holder_of(t, struct net_end, flush);
    bool stuck = e->wire.s.stuck;
    stream_flush(&e->wire.s);
    if (e->wire.s.stuck && !stuck)
        wake(e);
}

void stream_flush_soon(struct stream *s)
{
    task_wake(&end_of(s)->flush);
}

void stream_close(struct stream **owner, enum stream_close how)
{
    struct stream *s = *owner;
    *owner = NULL;
    if (!s)
        return;
    struct net_end *e = end_of(s);
    s->task = NULL;
    e->peer_gone |= e->vanished;
    bool unread = !pipe_is_empty(&s->in) || e->up.len;
    pipe_clear(&s->in);
    octets_drop(&e->up, e->up.len);
    if (event_is_set(&e->dial)) { /* nobody has heard of it yet */
        event_stop(&e->dial);
        e->peer_gone = true;
    }
    if (how == CLOSE_ABORT || !s->connected || s->dead) {
        pipe_clear(&s->out);
        if ((unread || sim_chance(10)) && sim_chance(50))
            octets_drop(&e->down, e->down.len); /* a reset was faster */
    }
    e->gateway_fin = true;
    if (e->peer_gone) {
        pipe_clear(&s->out);
        e->gateway_gone = true;
        end_try_free(e);
        return;
    }
    send_on(e);
}

bool stream_in_is_empty(const struct stream *s)
{
    return pipe_is_empty(&s->in);
}

bool stream_has_unread(struct stream *s)
{
    return end_of(s)->up.len && end_of(s)->starved;
}

static struct address name(struct arena *arena, unsigned host, uint16_t port)
{
    struct address a;
    const char *why;
    struct str text = arena_print(arena, "inet:192.0.2.%u:%u", host % 250 + 1, port);
    must(address_parse(text, arena, &a, &why));
    return a;
}

struct address stream_peer(const struct stream *s, struct arena *arena)
{
    return name(arena, end_of(s)->host, (uint16_t)(1024 + end_of(s)->host));
}

struct address stream_local(const struct stream *s, struct arena *arena)
{
    return name(arena, 249, 25);
}

/* ---- what is not simulated */

struct stream *stream_open(struct loop *l, int fd, struct task *task)
{
    never("no descriptor is opened in the simulation");
}
void stream_tls_behind(struct stream *s, struct tls *t)
{
    never("TLS is not simulated");
}
void stream_tls_server(struct stream *s, struct tls *t)
{
    never("TLS is not simulated");
}
void stream_tls_client(struct stream *s, struct tls *t, struct str n)
{
    never("TLS is not simulated");
}
bool stream_tls_facts(const struct stream *s, struct tls_facts *facts)
{
    return false;
}
void tls_drop(struct tls *t)
{
    never("TLS is not simulated");
}
