/* backend.c - one connection to the next hop: dial, banner, EHLO, STARTTLS, XCLIENT, then commands and the replies expected to them.
 *
 * Owns the stream and the ring of expected replies. Never knows an envelope: whoever takes it says words and is told replies. Whatever
 * the peer does wrong ends as BROKEN with the reply a client is to hear: a 4yz, for a fault of ours and his is no verdict on
 * the mail. What it says of the client it was told of is said to that client as it is. */
#include "smtp/back/backend.h"
#include "smtp/back/identity.h"

enum { HURRY_DIAL = 5000, HURRY_LEAST = 10000 }; /* milliseconds for a dial, and for all up to READY, while another server is left */

void backend_step_to(struct backend *b, enum backend_step step, uint64_t timeout)
{
    b->step = step;
    b->deadline = timeout ? loop_now(b->worker->mail.loop) + timeout : 0;
}

static const struct timeouts *timeouts_of(const struct backend *b)
{
    return b->delivery ? &b->delivery->listen->timeouts : &b->pool->generation->conf->timeouts;
}

static struct str where(const struct backend *b)
{
    return b->at ? b->at->conf->address.text : b->conf->address.text;
}

void backend_break(struct backend *b, enum reply_name why, const char *log)
{
    if (b->step == BACKEND_BROKEN)
        return;
    log_rare(LOG_WARNING, log, "backend %.*s (%.*s): %s", STR_ARGS(b->conf->hop.name), STR_ARGS(where(b)), log);
    if (b->step == BACKEND_QUEUED)
        pool_unqueue(b);
    if (!b->was_ready && !b->blameless && b->at)
        server_failed(b->at->server, b->conf, log, loop_now(b->worker->mail.loop));
    b->failure = why;
    b->broke = arena_str(&b->arena, str_of(log));
    b->step = BACKEND_BROKEN;
    b->deadline = 0;
    stream_close(&b->stream, CLOSE_ABORT);
    pipe_clear(&b->unsaid);
    /* It may break outside of settle (a dial that fails at once, words it cannot hear), and a closed stream wakes nobody. */
    task_wake(b->delivery ? b->delivery->visit->task : &b->task);
}

/* While no delivery holds it, a backend wakes itself. */
static void run_alone(struct task *task)
{
    struct backend *b = holder_of(task, struct backend, task);
    must(b->magic == BACKEND_MAGIC);
    backend_turn(b);
    task_wake(&b->pool->task);
}

struct backend *backend_new(struct pool *pool, struct delivery *delivery)
{
    struct backend *b = must_alloc(sizeof *b);
    b->magic = BACKEND_MAGIC;
    b->worker = pool->worker;
    b->pool = pool;
    b->conf = pool->conf;
    b->delivery = delivery;
    b->born = loop_now(b->worker->mail.loop);
    b->uses = delivery ? 1 : 0;
    task_start(&b->task, b->worker->mail.loop, run_alone);
    return b;
}

struct backend *backend_dial(struct pool *pool, struct pooled_server *at, struct delivery *delivery)
{
    struct backend *b = backend_new(pool, delivery);
    struct task *task = delivery ? delivery->visit->task : &b->task;
    const struct backend_conf *c = b->conf;
    b->at = at;
    uint64_t connect = timeouts_of(b)->connect;
    bool hurry = delivery && pool_has_other(pool, delivery, at);
    if (!delivery) /* a health check is no mail: whoever takes longer is of no use */
        b->hurry_by = b->born + connect;
    else if (hurry)
        b->hurry_by = b->born + min_u64(connect, max_size(connect / c->nservers, HURRY_LEAST));
    backend_step_to(b, BACKEND_DIAL, hurry ? min_u64(connect, HURRY_DIAL) : connect);
    if (c->protocol == IS_MAILDIR) {
        int fd = maildir_dial(c);
        if (fd >= 0)
            b->stream = stream_open(b->worker->mail.loop, fd, task);
    } else {
        b->stream = stream_dial(b->worker->mail.loop, &at->conf->address, task);
    }
    if (!b->stream) {
        backend_break(b, REPLY_BACKEND_DOWN, "the maildir cannot be reached");
    } else if (c->identity == IDENTITY_PROXY || c->identity == IDENTITY_PROXY_V1) {
        identity_put_preface(delivery ? delivery->visit : NULL, c->identity == IDENTITY_PROXY_V1, &b->stream->out);
        b->bound = true;
    }
    return b;
}

static void release(struct backend *b)
{
    if (b->step == BACKEND_QUEUED)
        pool_unqueue(b);
    pool_unuse(b);
    if (b->entered) {
        server_leave(b->at->server);
        pool_freed(b->pool);
    }
    alarm_stop(&b->alarm);
    task_forget(&b->task);
    pipe_clear(&b->unsaid);
    arena_reset(&b->arena);
    b->magic = 0;
    free(b);
}

void backend_abort(struct backend **backend)
{
    struct backend *b = *backend;
    if (!b)
        return;
    *backend = NULL;
    stream_close(&b->stream, CLOSE_ABORT);
    release(b);
}

/* QUIT may follow whatever else it still owes, but never DATA or AUTH: behind those it would be content, or a response. */
static bool may_quit(const struct backend *b)
{
    for (uint8_t i = 0; i < b->sent; i++) {
        uint8_t what = b->asked[(b->first + i) % EXPECTED_MOST].what;
        if (what == EXPECT_DATA || what == EXPECT_END || what == EXPECT_AUTH)
            return false;
    }
    bool pipelines = b->sent == 0 || (b->can.has & EXT_PIPELINING);
    return b->stream && !b->closing && pipelines && (b->step == BACKEND_READY || b->step == BACKEND_IDLE);
}

void backend_close(struct backend **backend)
{
    struct backend *b = *backend;
    if (!b)
        return;
    if (!may_quit(b)) {
        backend_abort(backend);
        return;
    }
    *backend = NULL;
    pipe_put(&b->stream->out, STR("QUIT\r\n"));
    stream_close(&b->stream, CLOSE_GRACEFUL);
    release(b);
}

struct pipe *backend_words(struct backend *b)
{
    return &b->unsaid;
}

/* The length of a command is what unsaid grew by since the command before it. */
void backend_say(struct backend *b, enum expect what, uint64_t serial, uint32_t rcpt)
{
    must(b->count < EXPECTED_MOST);
    size_t before = 0;
    for (uint8_t i = b->sent; i < b->count; i++)
        before += b->asked[(b->first + i) % EXPECTED_MOST].length;
    size_t length = b->unsaid.octets - before;
    must(length > 0 && length <= UINT16_MAX);
    b->asked[(b->first + b->count++) % EXPECTED_MOST] =
        (struct expected){.what = what, .length = (uint16_t)length, .rcpt = rcpt, .serial = serial};
}

uint64_t backend_timeout(const struct backend *b, enum expect what)
{
    const struct timeouts *t = timeouts_of(b);
    switch (what) {
    case EXPECT_AUTH: return t->helo;
    case EXPECT_RSET:
    case EXPECT_XFORWARD:
    case EXPECT_MAIL:
    case EXPECT_MAIL_AGAIN: return t->mail;
    case EXPECT_RCPT:
    case EXPECT_RCPT_AGAIN:
    case EXPECT_RCPT_ADDED: return t->rcpt;
    case EXPECT_DATA: return t->data_reply;
    case EXPECT_CHUNK: return t->block;
    case EXPECT_END: return t->end_reply;
    }
    never("an expected reply of no kind");
}

static void clock_head(struct backend *b)
{
    b->deadline = b->sent ? loop_now(b->worker->mail.loop) + backend_timeout(b, b->asked[b->first].what) : 0;
}

void backend_owe(struct backend *b, enum expect what, uint64_t serial)
{
    must(b->count < EXPECTED_MOST && b->sent == b->count);
    b->asked[(b->first + b->count++) % EXPECTED_MOST] = (struct expected){.what = what, .serial = serial};
    if (b->sent++ == 0)
        clock_head(b);
}

/* Content is owed no reply, but it has to be taken: some octet of it in each `block`. */
static void clock_content(struct backend *b)
{
    if (!b->stream->stuck) {
        b->deadline = 0;
    } else if (!b->deadline || b->stream->written_octets != b->written_mark) {
        b->deadline = loop_now(b->worker->mail.loop) + timeouts_of(b)->block;
        b->written_mark = b->stream->written_octets;
    }
}

/* A peer with PIPELINING gets all at once, another one command after the reply to the one before. */
void backend_flush(struct backend *b)
{
    if (b->stream && b->step >= BACKEND_READY && b->step <= BACKEND_RESET) {
        bool all = b->can.has & EXT_PIPELINING;
        while (b->sent < b->count && (all || b->sent == 0)) {
            struct expected *d = &b->asked[(b->first + b->sent) % EXPECTED_MOST];
            pipe_move(&b->unsaid, &b->stream->out, d->length);
            if (b->sent++ == 0)
                clock_head(b);
        }
    }
    if (b->stream) { /* partial: some replies to a group are still owed, or lines of one */
        b->stream->partial = b->sent || !pipe_is_empty(&b->stream->in);
        stream_flush_soon(b->stream);
    }
    if (b->stream && b->step == BACKEND_READY && b->sent == 0)
        clock_content(b);
}

enum backend_took backend_reply(struct backend *b, struct arena *arena, struct expected *expected, struct reply *reply)
{
    if (b->step == BACKEND_BROKEN)
        return TOOK_BROKEN;
    if (b->step != BACKEND_READY && b->step != BACKEND_RESET)
        return TOOK_NONE;
    switch (reply_take(&b->stream->in, arena, reply)) {
    case REPLY_BAD:
        backend_break(b, REPLY_BACKEND_NONSENSE, "malformed reply");
        return TOOK_BROKEN;
    case REPLY_MORE:
        if (b->stream->dead || b->stream->ended) {
            backend_break(b, REPLY_BACKEND_LOST, "connection lost");
            return TOOK_BROKEN;
        }
        return TOOK_NONE;
    case REPLY_TAKEN: break;
    }
    b->closing |= reply->code == 421;
    if (b->sent == 0)
        return TOOK_UNASKED;
    b->heard = loop_now(b->worker->mail.loop);
    *expected = b->asked[b->first];
    b->first = (uint8_t)((b->first + 1) % EXPECTED_MOST);
    b->count--;
    b->sent--;
    clock_head(b);
    return TOOK_REPLY;
}

/* ---- the steps up to READY ------------------------------------------------------------------------------------------ */

static struct str our_name(const struct backend *b)
{
    return b->conf->helo.len ? b->conf->helo : b->pool->generation->conf->mail.hostname;
}

static void say_now(struct backend *b, const char *verb, struct str word)
{
    pipe_put(&b->stream->out, str_of(verb));
    pipe_put(&b->stream->out, word);
    pipe_put(&b->stream->out, STR("\r\n"));
    stream_flush(b->stream);
}

/* A server that takes its time is not waited for while there is another one. */
static uint64_t hurried(const struct backend *b, uint64_t timeout)
{
    uint64_t now = loop_now(b->worker->mail.loop);
    return b->hurry_by ? min_u64(timeout, b->hurry_by > now ? b->hurry_by - now : 1) : timeout;
}

static bool says_preface(const struct backend *b)
{
    return b->conf->identity == IDENTITY_PROXY || b->conf->identity == IDENTITY_PROXY_V1;
}

/* What it offers and refuses then is for that client, not for all. */
static bool speaks_for_client(const struct backend *b)
{
    return b->delivery && (says_preface(b) || b->said_xclient);
}

/* Whether it refuses the client we have named, and not how we speak or that it is we who speak. */
static bool is_about_client(const struct backend *b, const struct reply *r)
{
    bool hello = b->step == BACKEND_EHLO || b->step == BACKEND_HELO;
    if (!speaks_for_client(b) || reply_class(r) < 4 || r->code == 421)
        return false;
    switch (r->code) {
    case 500:
    case 502:
    case 503:
    case 530:
    case 535:
    case 538: return false;
    case 501:
    case 504: return hello && b->delivery->visit->client->helo[0];   /* of a name: Postfix' HELO checks */
    case 550: return hello || r->enhanced[1] != 7 || r->enhanced[2]; /* 5.7.0 to XCLIENT: "insufficient authorization" */
    default: return true;
    }
}

static void refuse(struct backend *b, const struct reply *r, enum reply_name why, const char *log)
{
    if (is_about_client(b, r))
        b->refusal = *r; /* its text is in b->arena */
    backend_break(b, why, log);
}

static void say_hello(struct backend *b)
{
    struct str name = our_name(b);
    if (speaks_for_client(b) && b->delivery->visit->client->helo[0])
        name = str_of(b->delivery->visit->client->helo);
    say_now(b, b->helo_only ? "HELO " : b->conf->protocol == SPEAKS_LMTP ? "LHLO " : "EHLO ", name);
    backend_step_to(b, b->helo_only ? BACKEND_HELO : BACKEND_EHLO, hurried(b, timeouts_of(b)->helo));
}

/* Nothing may follow it before its answer: it may be several lines, each answered. */
static void say_xclient(struct backend *b)
{
    b->xclient_more = identity_put_xclient(b->delivery->visit, b->can.xclient, b->xclient_parts++, &b->stream->out);
    stream_flush(b->stream);
    b->said_xclient = b->bound = true;
    backend_step_to(b, BACKEND_XCLIENT, timeouts_of(b)->helo);
}

static void ready(struct backend *b)
{
    backend_step_to(b, BACKEND_READY, 0);
    b->was_ready = true;
    server_succeeded(b->at->server, b->conf, speaks_for_client(b) ? NULL : &b->can, loop_now(b->worker->mail.loop));
    if (b->delivery) {
        b->delivery->course.tried = 0;
        task_wake(b->delivery->visit->task);
    }
}

/* After a positive EHLO: TLS if it is wanted, the client's identity if it is asked for, else READY. */
static void greeted(struct backend *b)
{
    const struct backend_conf *c = b->conf;
    if (c->tls_mode != BACKEND_TLS_OFF && b->stream->tls == STREAM_PLAIN) {
        if (b->can.has & EXT_STARTTLS) {
            say_now(b, "STARTTLS", STR(""));
            backend_step_to(b, BACKEND_STARTTLS, timeouts_of(b)->helo);
            return;
        }
        if (c->tls_mode == BACKEND_TLS_VERIFIED) {
            backend_break(b, REPLY_BACKEND_TLS, "STARTTLS is not offered");
            return;
        }
    }
    bool tells = c->identity == IDENTITY_XCLIENT && !b->said_xclient;
    bool takes = (b->can.has & EXT_XCLIENT) && (b->can.xclient & XATTR_ADDR);
    if (tells && !takes) {
        /* It would take every client for us, and relay for the world where it trusts our address. */
        const char *why =
            b->can.has & EXT_XCLIENT
                ? "it does not offer XCLIENT with ADDR to us: smtpd_authorized_xclient_hosts there (docs/postfix.md)"
                : "it does not offer XCLIENT to us: smtpd_authorized_xclient_hosts there must name our address "
                  "(docs/postfix.md)";
        if (c->identity_required) {
            backend_break(b, REPLY_BACKEND_MISCONFIGURED, why);
            return;
        }
        log_rare(LOG_WARNING, "xclient",
                 "backend %.*s: %s; identity_required is off: it sees our address as everybody's", STR_ARGS(c->hop.name),
                 why);
    }
    if (tells && takes && b->delivery) {
        server_succeeded(b->at->server, c, &b->can, loop_now(b->worker->mail.loop));
        visit_look_up(b->delivery->visit);
        backend_step_to(b, BACKEND_NAMING, 0); /* the resolver has its own deadline */
        return;
    }
    ready(b);
}

static void take_banner(struct backend *b, const struct reply *r)
{
    b->blameless = speaks_for_client(b);
    if (r->code == 220)
        say_hello(b);
    else if (reply_class(r) == 5)
        refuse(b, r, REPLY_BACKEND_MISCONFIGURED, "the banner refuses us for good");
    else
        refuse(b, r, reply_class(r) == 4 ? REPLY_BACKEND_DOWN : REPLY_BACKEND_NONSENSE, "the banner refuses us");
}

static void take_hello(struct backend *b, const struct reply *r)
{
    if (r->code == 250) {
        memset(&b->can, 0, sizeof b->can);
        if (b->step == BACKEND_EHLO)
            capabilities_parse(r->text, &b->can);
        if (b->conf->protocol == SPEAKS_LMTP) /* RFC 3030 says nothing of how a chunk is answered there that fails */
            b->can.has &= ~(uint32_t)(EXT_CHUNKING | EXT_BINARYMIME);
        if (!b->conf->chunking)
            b->can.has &= ~(uint32_t)(EXT_CHUNKING | EXT_BINARYMIME);
        if (b->conf->protocol != IS_MAILDIR && (b->conf->tls_mode != BACKEND_TLS_VERIFIED || b->stream->tls != STREAM_TLS)) /* RFC 8689 4.2.1 */
            b->can.has &= ~(uint32_t)EXT_REQUIRETLS;
        greeted(b);
    } else if ((r->code == 500 || r->code == 502) && b->step == BACKEND_EHLO && says_preface(b)) {
        /* An answer to our header: all that follow would be taken for those to the command before. */
        b->blameless = false;
        backend_break(b, REPLY_BACKEND_MISCONFIGURED,
                      "it does not understand our PROXY header: smtpd_upstream_proxy_protocol there");
    } else if (reply_class(r) == 5 && b->step == BACKEND_EHLO && !b->said_xclient && b->conf->protocol != SPEAKS_LMTP) {
        b->helo_only = true; /* RFC 5321 3.2: a server that does not know EHLO */
        say_hello(b);
    } else if (reply_class(r) == 4) {
        refuse(b, r, r->code == 421 ? REPLY_BACKEND_CLOSING : REPLY_BACKEND_DOWN, "EHLO was deferred");
    } else {
        refuse(b, r, reply_class(r) == 5 ? REPLY_BACKEND_MISCONFIGURED : REPLY_BACKEND_NONSENSE, "EHLO was refused");
    }
}

static void start_tls(struct backend *b)
{
    stream_tls_client(b->stream, b->conf->tls, b->conf->tls_name.len ? b->conf->tls_name : b->at->conf->address.host);
    backend_step_to(b, BACKEND_TLS, timeouts_of(b)->handshake);
}

static void take_starttls(struct backend *b, const struct reply *r)
{
    if (r->code == 220 && stream_in_is_empty(b->stream)) {
        start_tls(b);
    } else if (r->code == 220) {
        backend_break(b, REPLY_BACKEND_NONSENSE, "octets behind the reply to STARTTLS");
    } else if (b->conf->tls_mode == BACKEND_TLS_OPPORTUNISTIC && r->code != 421) {
        b->can.has &= ~(uint32_t)EXT_STARTTLS;
        greeted(b);
    } else {
        backend_break(b, REPLY_BACKEND_TLS, "STARTTLS was refused");
    }
}

/* RFC of XCLIENT (Postfix XCLIENT_README): success is 220 and the state is that of a greeting: EHLO again, then only. */
static void take_xclient(struct backend *b, const struct reply *r)
{
    b->blameless = true;
    if (r->code == 220 && b->xclient_more)
        say_xclient(b);
    else if (r->code == 220)
        say_hello(b);
    else
        refuse(b, r, reply_class(r) == 4 || r->code == 421 ? REPLY_BACKEND_DOWN : REPLY_BACKEND_MISCONFIGURED,
               "XCLIENT was refused");
}

static void take_reply(struct backend *b, const struct reply *r)
{
    if (r->code == 421) {
        backend_break(b, REPLY_BACKEND_CLOSING, "it closes the service (421)");
        return;
    }
    switch (b->step) {
    case BACKEND_BANNER: take_banner(b, r); break;
    case BACKEND_EHLO:
    case BACKEND_HELO: take_hello(b, r); break;
    case BACKEND_STARTTLS: take_starttls(b, r); break;
    case BACKEND_XCLIENT: take_xclient(b, r); break;
    default: never("a reply to no step");
    }
}

/* Steps that wait for one reply; false when it is not there yet. */
static bool step_on(struct backend *b)
{
    struct reply r;
    switch (b->step) {
    case BACKEND_DIAL:
        if (!b->stream->connected)
            return false;
        if (b->conf->tls_implicit) {
            start_tls(b);
            return true;
        }
        backend_step_to(b, BACKEND_BANNER, hurried(b, timeouts_of(b)->banner));
        return true;
    case BACKEND_NAMING:
        if (!visit_has_looked_up(b->delivery->visit))
            return false;
        say_xclient(b);
        return true;
    case BACKEND_TLS:
        if (b->stream->tls != STREAM_TLS)
            return false;
        if (b->conf->tls_implicit)
            backend_step_to(b, BACKEND_BANNER, hurried(b, timeouts_of(b)->banner));
        else
            say_hello(b); /* RFC 3207 4.2: what was learned before is forgotten */
        return true;
    case BACKEND_BANNER:
    case BACKEND_EHLO:
    case BACKEND_HELO:
    case BACKEND_STARTTLS:
    case BACKEND_XCLIENT:
        switch (reply_take(&b->stream->in, &b->arena, &r)) {
        case REPLY_MORE: return false;
        case REPLY_BAD: backend_break(b, REPLY_BACKEND_NONSENSE, "malformed reply"); return true;
        case REPLY_TAKEN: take_reply(b, &r); return true;
        }
        return false;
    default: return false;
    }
}

static void notice_end(struct backend *b)
{
    char text[300];
    if (b->step == BACKEND_DIAL) {
        snprintf(text, sizeof text, "cannot connect: %s", failure_word(b->stream->why ? b->stream->why : FAILURE_CLOSED));
        b->blameless |= b->stream->why == FAILURE_LIMIT; /* descriptors of ours */
        backend_break(b, REPLY_BACKEND_DOWN, text);
    } else if (b->step == BACKEND_TLS) {
        snprintf(text, sizeof text, "TLS failed: %.*s", STR_ARGS(b->stream->why_text));
        backend_break(b, REPLY_BACKEND_TLS, text);
    } else if (b->step < BACKEND_READY) {
        backend_break(b, REPLY_BACKEND_DOWN, "connection lost before it was ready");
    }
}

void backend_turn(struct backend *b)
{
    must(b->magic == BACKEND_MAGIC);
    while (b->step < BACKEND_READY && step_on(b))
        ;
    if (b->step < BACKEND_READY && b->stream && (b->stream->dead || b->stream->ended))
        notice_end(b);
    if (b->deadline && b->step != BACKEND_BROKEN && loop_now(b->worker->mail.loop) >= b->deadline) {
        bool queued = b->step == BACKEND_QUEUED;
        b->slow = true;
        backend_break(b, b->step == BACKEND_READY ? REPLY_BACKEND_SLOW : queued ? REPLY_BACKEND_BUSY : REPLY_BACKEND_DOWN,
                      queued ? "as many connections as allowed are in use" : "no answer in time");
    }
    if (b->step == BACKEND_READY)
        arena_reset(&b->arena);
}
