/* lmtp.c - who the backend has accepted, what it said for each, and the one reply made of that (RFC 2033 4.2). */
#include "smtp/back/lmtp.h"
#include "smtp/back/delivery.h"
#include "mail/maillog.h"

enum { LINES_MOST = 20, NAMES_MOST = 400 };

struct lmtp {
    struct one {
        uint32_t index; /* of the recipient */
        struct reply reply;
    } *rcpts;
    uint32_t count, room, answered;
};

void lmtp_begin(struct delivery *d)
{
    struct transfer *t = &d->transfer;
    struct message *m = d->visit->message;
    if (t->route->protocol != SPEAKS_LMTP) { /* it may have been on its way to one before it was quarantined */
        t->lmtp = NULL;
        return;
    }
    if (!t->lmtp)
        t->lmtp = arena_alloc(&m->arena, sizeof *t->lmtp);
    t->lmtp->count = t->lmtp->answered = 0;
}

void lmtp_accepted(struct delivery *d, uint32_t index)
{
    struct lmtp *l = d->transfer.lmtp;
    if (!l)
        return;
    if (l->count == l->room) {
        uint32_t room = l->room ? l->room * 2 : 4;
        struct one *rcpts = arena_alloc(&d->visit->message->arena, room * sizeof *rcpts);
        if (l->count)
            memcpy(rcpts, l->rcpts, l->count * sizeof *rcpts);
        l->rcpts = rcpts;
        l->room = room;
    }
    l->rcpts[l->count++] = (struct one){.index = index};
}

static const struct rcpt *rcpt_of(const struct delivery *d, const struct one *one)
{
    return &d->visit->message->rcpts[one->index];
}

/* The address to show to the client: one that it named, else none. */
static struct str shown(const struct delivery *d, const struct one *one, struct arena *arena)
{
    const struct rcpt *r = rcpt_of(d, one);
    return rcpt_is_added(r) ? STR("one more") : arena_print(arena, "<%.*s>", STR_ARGS(r->path.address));
}

static bool counts(const struct delivery *d, const struct one *one, bool alone)
{
    const struct rcpt *r = rcpt_of(d, one);
    return alone || !rcpt_is_added(r) || r->needed;
}

static struct str first_line(struct str text)
{
    return str_cut(&text, '\n');
}

/* "<a@x>: 452 4.2.2 Quota exceeded" for each that was refused, then who has it. */
static struct str tell_each(struct delivery *d, bool alone)
{
    const struct lmtp *l = d->transfer.lmtp;
    struct arena *arena = &d->visit->message->arena;
    struct str refused = STR(""), have = STR("");
    unsigned lines = 0, nrefused = 0, nhave = 0, unnamed = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct one *one = &l->rcpts[i];
        const struct reply *r = &one->reply;
        if (!counts(d, one, alone))
            continue;
        if (reply_class(r) == 2) {
            nhave++;
            if (have.len < NAMES_MOST)
                have = arena_print(arena, "%.*s %.*s", STR_ARGS(have), STR_ARGS(shown(d, one, arena)));
            else
                unnamed++;
            continue;
        }
        nrefused++;
        if (++lines <= LINES_MOST - 4)
            refused = arena_print(arena, "%.*s\n%.*s: %u %.*s", STR_ARGS(refused), STR_ARGS(shown(d, one, arena)), r->code,
                                  STR_ARGS(first_line(r->text)));
    }
    if (lines > LINES_MOST - 4)
        refused = arena_print(arena, "%.*s\nand %u more", STR_ARGS(refused), lines - (LINES_MOST - 4));
    if (nhave)
        have = arena_print(arena, "\ndelivered to%.*s%s", STR_ARGS(have), unnamed ? " and others" : "");
    return arena_print(arena, "Refused for %u of %u recipients%.*s%.*s", nrefused, nrefused + nhave, STR_ARGS(refused),
                       STR_ARGS(have));
}

static struct reply fold(struct delivery *d)
{
    const struct lmtp *l = d->transfer.lmtp;
    const struct reply *first[6] = {0}, *very_first = NULL;
    bool alone = true;
    for (uint32_t i = 0; i < l->count; i++)
        alone &= !counts(d, &l->rcpts[i], false);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct reply *r = &l->rcpts[i].reply;
        if (!counts(d, &l->rcpts[i], alone))
            continue;
        if (!first[reply_class(r)])
            first[reply_class(r)] = r;
        if (!very_first)
            very_first = r;
    }
    if (!!first[2] + !!first[4] + !!first[5] == 1)
        return *very_first;
    must(first[4] || first[5]); /* relayed() lets no other class through, and somebody counts */
    struct reply folded = first[4] ? *first[4] : *first[5];
    folded.text = tell_each(d, alone);
    return folded;
}

bool lmtp_end(struct delivery *d, const struct reply *r, struct reply *folded)
{
    struct lmtp *l = d->transfer.lmtp;
    must(l->answered < l->count);
    struct one *one = &l->rcpts[l->answered++];
    one->reply = *r;
    maillog_lmtp(d->visit, rcpt_of(d, one)->path.address, r);
    if (rcpt_is_added(rcpt_of(d, one)) && reply_class(r) == 5) /* the client hears a 5yz only for recipients that it named */
        one->reply = reply_named(REPLY_BACKEND_NONSENSE);
    if (l->answered < l->count)
        return false;
    *folded = fold(d);
    return true;
}
