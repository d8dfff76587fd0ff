/* message.c - the little that a message does by itself. */
#include "mail/message.h"

const char *transaction_end_name(enum transaction_end end)
{
    static const char *const names[] = {"none", "forwarded", "rejected", "deferred", "discarded", "quarantined", "aborted",
                                        "uncertain"};
    return names[end];
}

struct rcpt *message_rcpt(struct message *m)
{
    if (m->nrcpts == m->room) {
        uint32_t room = m->room ? m->room * 2 : 4;
        struct rcpt *rcpts = arena_alloc(&m->arena, room * sizeof *rcpts);
        if (m->nrcpts)
            memcpy(rcpts, m->rcpts, m->nrcpts * sizeof *rcpts);
        m->rcpts = rcpts;
        m->room = room;
    }
    return &m->rcpts[m->nrcpts++];
}

struct reply reply_keep(struct arena *arena, const struct reply *r)
{
    struct reply kept = *r;
    kept.text = arena_str(arena, r->text);
    return kept;
}

enum transaction_end transaction_end_of(const struct reply *r)
{
    return reply_class(r) == 2 ? END_FORWARDED : reply_class(r) == 5 ? END_REJECTED : END_DEFERRED;
}

bool message_is_empty(const struct message *m)
{
    for (uint32_t i = 0; i < m->nrcpts; i++)
        if (rcpt_stands(&m->rcpts[i]))
            return false;
    return true;
}

void message_refuse(struct message *m, enum author by, const struct reply *r)
{
    if (!m->refusal.code) {
        m->refusal = reply_keep(&m->arena, r);
        m->refused_by = by;
    }
    m->fate = MESSAGE_REFUSED;
}
