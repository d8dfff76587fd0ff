/* sessionlog.c - the lines of a session: "auth" for each exchange, "conn" for one without a transaction, or that ended by an error. */
#include "smtp/front/sessionlog.h"
#include "mail/maillog.h"

void sessionlog_auth(struct session *s, const struct reply *r)
{
    log_begin(LOG_INFO, "auth");
    log_text("id", str_of(s->visit.id));
    maillog_client(&s->visit);
    log_text("user", str_of(s->auth->user));
    log_text("method", str_of(s->auth->method));
    log_number("code", r->code);
    log_text("reply", r->text);
    log_end();
}

/* It ended by itself, or by what is nobody's error: its messages tell enough. */
static bool ended_well(const struct session *s)
{
    switch (s->why) {
    case WHY_QUIT:
    case WHY_LEFT:
    case WHY_RESET:
    case WHY_SHUTDOWN:
    case WHY_TIMEOUT: return true;
    default: return false;
    }
}

static void log_tally(const struct session *s)
{
    const struct refusals *t = s->refusals;
    struct str pieces[4 * TALLIES];
    char rooms[2 * TALLIES + 1][DECIMAL_ROOM];
    size_t n = 0;
    if (!t)
        return;
    for (size_t i = 0; i < TALLIES && t->replies[i].count; i++) {
        if (i)
            pieces[n++] = STR(",");
        pieces[n++] = str_decimal(rooms[2 * i], t->replies[i].code);
        pieces[n++] = STR(":");
        pieces[n++] = str_decimal(rooms[2 * i + 1], t->replies[i].count);
    }
    log_pieces("replies", n, pieces);
    const char *verb = verb_name(t->last_verb);
    log_pieces("last", 3, (struct str[]){str_of(verb), STR(" "), str_decimal(rooms[2 * TALLIES], t->last_code)});
}

void sessionlog_end(struct session *s)
{
    if (s->visit.messages && ended_well(s))
        return;
    log_begin(LOG_INFO, "conn");
    log_text("id", str_of(s->visit.id));
    maillog_client(&s->visit);
    log_text("why", str_of(close_phrase(s->why)));
    if (s->stream->dead && s->stream->why_text.len)
        log_text("detail", s->stream->why_text);
    log_number("errors", s->visit.errors);
    log_tally(s);
    if (s->connect_refusal.code)
        log_number("refused", s->connect_refusal.code);
    log_seconds("t_total", loop_micros(s->worker->mail.loop) - s->started_us);
    log_end();
}
