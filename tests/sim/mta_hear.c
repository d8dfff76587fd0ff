/* mta_hear.c - what an MTA may hear: an answer to each packet that wants one and to no other, of a kind that is legal
 * there; edits and signs of life before the answer to the end of a message only, edits in one order; a last word before
 * a connection that is sound is closed. */
#include "mta.h"

static const struct {
    char due;
    const char *legal;
} answers[] = {{'O', "O"}, {'C', "cay"},  {'H', "cay"},   {'M', "caydt"}, {'R', "cy"}, {'T', "cayd"},
               {'L', "c"}, {'N', "cayd"}, {'B', "caysd"}, {'E', "cyd"},   {'U', "c"}};

static bool is_legal(char due, char answer)
{
    for (size_t i = 0; i < countof(answers); i++)
        if (answers[i].due == due)
            return strchr(answers[i].legal, answer) != NULL;
    return false;
}

static uint32_t number_at(const char *at)
{
    uint32_t n = 0;
    for (int i = 0; i < 4; i++)
        n = n << 8 | (unsigned char)at[i];
    return n;
}

static void hear_option(struct mta *m, const char *data, size_t n)
{
    const struct milter_option *offer = &m->offer;
    if (n < 12) {
        sim_violation("the answer to an offer has %zu octets", n);
        return;
    }
    m->agreed = (struct milter_option){number_at(data), number_at(data + 4), number_at(data + 8), {{0}}};
    if (m->agreed.version != offer->version || (m->agreed.actions & ~offer->actions) ||
        (m->agreed.protocol & ~offer->protocol))
        sim_violation("an MTA that offers %u %x %x is asked for %u %x %x", offer->version, offer->actions,
                      offer->protocol, m->agreed.version, m->agreed.actions, m->agreed.protocol);
    if (m->lacks)
        sim_violation("an MTA that lacks what the chain needs is served");
    m->phase = TO_CONNECT;
}

/* Filters left out all whom it was for; whom they added is as good as any other. */
static bool is_for_nobody(const struct letter *l)
{
    return !(l->told & ~l->left_out) && !(((1u << l->nadded) - 1) & ~l->added_dropped);
}

/* It is over with the message at hand. */
static void hear_end(struct mta *m, char due, char answer)
{
    const struct letter *l = m->letter;
    bool nobody = is_for_nobody(l);
    if (answer == 'd' && !l->discarded && !nobody)
        sim_violation("letter %u is discarded, and no filter said so", l->number);
    if (answer == 'a' || (due == 'E' && answer == 'c')) {
        if (l->discarded || (nobody && due == 'E'))
            sim_violation("letter %u is accepted though filters discarded it", l->number);
        mta_accept(m, answer);
        m->world->acknowledged++;
    }
    mta_forget_letter(m);
}

static void hear_rcpt(struct mta *m, char answer)
{
    struct letter *l = m->letter;
    unsigned k = m->named - 1;
    if (answer != 'c')
        return;
    if (l->refused_rcpts >> k & 1)
        sim_violation("letter %u: rcpt %u is accepted though a filter refused it", l->number, k);
    l->told |= 1u << k;
    m->nrcpts++;
}

/* DATA was refused: it may name more recipients, and say DATA again. */
static bool goes_on_behind_data(struct mta *m)
{
    struct letter *l = m->letter;
    if (!sim_chance(40))
        return false;
    l->nrcpts += l->nrcpts < RCPTS_MOST && sim_chance(50);
    l->refused = false;
    m->phase = TO_NAME;
    return true;
}

static void obey(struct mta *m, char due, char answer, const char *data, size_t n)
{
    switch (due) {
    case 'O': hear_option(m, data, n); return;
    case 'C':
        m->refused |= answer == 'y';
        m->passed |= answer == 'a';
        break;
    case 'H': m->passed |= answer == 'a'; break;
    case 'R': hear_rcpt(m, answer); return;
    case 'L':
    case 'U': return;
    default:
        if (answer == 's')
            m->skip = true;
        else if (due == 'T' && answer == 'y' && goes_on_behind_data(m))
            return;
        else if (answer != 'c' || due == 'E')
            hear_end(m, due, answer);
        return;
    }
    if (m->passed)
        m->phase = TO_BEGIN;
}

static bool is_shutting_down(char kind, const char *data)
{
    return kind == 'y' && (strncmp(data, "421 4.3.2", 9) == 0 || strncmp(data, "451 4.3.2", 9) == 0);
}

static void hear(struct mta *m, char kind, const char *data, size_t n)
{
    bool at_end = m->due == 'E' || m->maybe == 'E';
    mta_be_patient(m);
    if (strchr("mib+-2eqp", kind)) {
        if (!at_end)
            sim_violation("'%c' is said where no end of a message is due", kind);
        else if (kind == 'p' && m->edit)
            sim_violation("a sign of life is said amid edits");
        else if (kind != 'p' && m->letter)
            mta_edit(m, kind, data, n);
        return;
    }
    char due = m->due ? m->due : m->maybe;
    if (!due || !is_legal(due, kind)) {
        sim_violation("'%c' is said in answer to '%c'", kind, due ? due : '-');
        return;
    }
    if (kind == 'y' && (m->world->calm || n < 4 || (data[0] != '4' && data[0] != '5')))
        sim_violation("'%c' hears: %s", due, data);
    if (m->edit && kind != 'c' && m->letter)
        sim_violation("letter %u: edits are said, and then '%c'", m->letter->number, kind);
    if (!m->due) {
        m->maybe = 0;
        return;
    }
    m->due = 0;
    m->leaves |= is_shutting_down(kind, data) && m->world->drained;
    obey(m, due, kind, data, n);
    mta_soon(m);
}

/* One whole packet; false: it is not there yet. */
static bool take(struct mta *m)
{
    struct octets *in = &m->wire->in;
    if (in->len < 5 || in->len - 4 < number_at(in->at))
        return false;
    size_t n = number_at(in->at);
    if (!n || n > 65536) {
        sim_violation("a packet of %zu octets is said", n);
        return false;
    }
    char *data = must_alloc(n);
    char kind = in->at[4];
    memcpy(data, in->at + 5, n - 1); /* its last octet is the NUL of must_alloc */
    octets_drop(in, n + 4);
    hear(m, kind, data, n - 1);
    free(data);
    return !sim_violated();
}

/* Whether what the MTA did, or the world, is reason enough to leave it. */
static bool is_left_rightly(const struct mta *m)
{
    const struct milter_timeouts *t = &m->world->milter_conf->timeouts;
    uint64_t since = 0; /* the last packet that the gateway has whole was said */
    for (unsigned i = 0; i < countof(m->said); i++)
        if (m->said[i].end <= m->delivered)
            since = since < m->said[i].at ? m->said[i].at : since;
    bool slow = !m->world->calm && sim_now() >= since + t->packet;
    return m->quits || m->broke || m->half || m->leaves || m->lacks || m->world->drained || m->wire->broken || slow;
}

void mta_heard(void *data)
{
    struct mta *m = data;
    while (take(m))
        ;
    if (!m->wire->ended || sim_violated())
        return;
    if (!is_left_rightly(m))
        sim_violation("an MTA was left without a word: mta %u, '%c' is due", m->number, m->due ? m->due : '-');
    if (m->wire->in.len && !m->wire->broken && !m->half)
        sim_violation("an MTA was left amid a packet: mta %u", m->number);
    wire_leave(&m->wire);
    mta_over(m);
}
