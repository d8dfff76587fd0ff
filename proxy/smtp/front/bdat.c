/* bdat.c - BDAT (RFC 3030): the front of content that comes in counted chunks, whatever the backend speaks.
 *
 * Never loses count: the octets of a chunk are taken whatever becomes of it, in the flow when there is a transaction
 * for them and by STEP_SKIP when there is none, so that no octet of content is ever read as a command (promise 3).
 * Between two chunks the front is at LINE and the flow goes on behind it. A refusal is told at the end of its chunk,
 * then 503 to each further one until RSET or LAST. */
#include "smtp/front/content.h"
#include "smtp/front/session.h"

/* ---- chunks that nobody takes ------------------------------------------------------------------------------------ */

static enum next skip(struct session *s, const struct reply *r)
{
    if (content_is_far_over(s, s->bdat.octets)) {
        struct reply over = content_too_big(s, &s->line);
        return session_end(s, WHY_OVERSIZE, &over);
    }
    s->bdat.left = s->bdat.octets;
    s->bdat.reply = *r;
    s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.data;
    s->rate_from = loop_now(s->worker->mail.loop);
    s->rate_octets = 0;
    session_go(s, STEP_SKIP);
    return NEXT_MORE;
}

static enum next skip_named(struct session *s, enum reply_name name)
{
    struct reply r = reply_named(name);
    return skip(s, &r);
}

static enum next skip_sequence(struct session *s, const char *word)
{
    struct reply r = reply_print(&s->line, REPLY_SEQUENCE, word);
    return skip(s, &r);
}

enum next chunk_skip_turn(struct session *s)
{
    size_t n = (size_t)min_u64(s->stream->in.octets, s->bdat.left);
    pipe_drop(&s->stream->in, n);
    s->bdat.left -= n;
    if (!s->bdat.left) {
        s->client_by = 0;
        return session_refuse(s, &s->bdat.reply);
    }
    if (session_client_left(s))
        return session_end(s, s->stream->dead ? WHY_RESET : WHY_LEFT, NULL);
    if (n)
        s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.data;
    if (!content_is_fast(s, s->bdat.octets - s->bdat.left)) {
        struct reply r = reply_named(REPLY_TOO_SLOW);
        return session_end(s, WHY_TOO_SLOW, &r);
    }
    return NEXT_WAIT;
}

/* ---- chunks of a transaction ------------------------------------------------------------------------------------- */

/* What is known to be too much is refused before it comes. */
static void take(struct session *s)
{
    struct transaction *tx = s->tx;
    struct decoder *d = &tx->decoder;
    uint64_t most = s->listen->visit.limits.size;
    decoder_chunk(d, s->bdat.octets, s->bdat.last);
    if (most && !content_is_dropped(&tx->message) && s->bdat.octets > most - min_u64(d->octets, most))
        content_refuse_size(s);
    s->client_by = loop_now(s->worker->mail.loop) + s->listen->timeouts.data;
    session_go(s, STEP_CONTENT);
}

/* The first chunk: content begins. With a refusal, its octets and those of the chunks behind it are read and dropped.
 */
static enum next begin(struct session *s, enum author by, const struct reply *refusal)
{
    struct transaction *tx = s->tx;
    content_begin(s, STATE_CHUNKS);
    if (!refusal && tx->message.fate != MESSAGE_DISCARDED)
        refusal = delivery_failure(&s->delivery);
    if (refusal) {
        flow_refuse(&s->visit, by, refusal);
    } else if (tx->message.fate == MESSAGE_DISCARDED || message_is_empty(&tx->message)) {
        flow_discard(&s->visit);
    }
    take(s);
    return NEXT_MORE;
}

static enum next begin_refused(struct session *s, struct reply r)
{
    enum next next = begin(s, BY_SYNTAX, &r);
    s->tx->message.data_at_us = 0; /* for the log it never came to content: its rcpts tell what became of it */
    return next;
}

enum next chunk_check(struct session *s)
{
    struct transaction *tx = s->tx;
    if (!bdat_parse(s->command.rest, &s->bdat.octets, &s->bdat.last))
        return verb_bye(s, WHY_BDAT, REPLY_BDAT_BAD); /* where its octets end, nobody knows */
    if (!s->bdat.octets && !s->bdat.last)
        s->junk++;
    if (s->connect_refusal.code)
        return skip(s, &s->connect_refusal);
    bool strict = s->listen->syntax == SYNTAX_STRICT;
    if (!s->said_hello && strict)
        return skip_sequence(s, "send EHLO first");
    if ((!s->visit.esmtp && strict) || !s->listen->chunking)
        return skip_named(s, REPLY_NOT_IMPLEMENTED);
    if (s->state == STATE_CHUNKS) {
        take(s);
        return NEXT_MORE;
    }
    if (!tx)
        return skip_sequence(s, "need MAIL command");
    if (!tx->message.named)
        return begin_refused(s, reply_print(&tx->message.arena, REPLY_SEQUENCE, "need RCPT"));
    if (delivery_is_refused(&s->delivery))
        return begin_refused(s, reply_named(REPLY_NO_RCPTS));
    return session_hook(s, FILTER_DATA);
}

enum next chunk_filtered(struct session *s, const struct verdict *v)
{
    bool refused = v->kind == VERDICT_REJECT || v->kind == VERDICT_DEFER;
    return begin(s, refused ? BY_FILTER : BY_BACKEND, refused ? &v->reply : NULL);
}

bool chunk_is_whole(const struct decoder *d)
{
    return d->framing != FRAMING_DOTS && !d->left && !d->last;
}

enum next chunk_end(struct session *s)
{
    struct transaction *tx = s->tx;
    struct reply r;
    if (!content_is_dropped(&tx->message) || tx->message.fate == MESSAGE_DISCARDED) {
        r = reply_print(&s->line, REPLY_CHUNK, arena_print(&s->line, "%llu", (unsigned long long)s->bdat.octets).at);
    } else if (tx->refusal_told) {
        r = reply_print(&s->line, REPLY_SEQUENCE, "the content was refused");
    } else {
        r = tx->message.refusal;
        transaction_told(tx);
        s->visit.errors++;
    }
    session_reply(s, &r);
    s->client_by = 0;
    session_go(s, STEP_LINE);
    return NEXT_MORE;
}
