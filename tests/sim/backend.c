/* backend.c - a backend out of dice: it answers, refuses, is late, hangs, says 421, goes before, amid or behind a
 * reply; its server goes down. What it hears is judged in hear.c. */
#include "backend.h"
#include <stdarg.h>

static void go(struct backend_peer *b)
{
    event_stop(&b->talk);
    event_stop(&b->idle);
    wire_leave(&b->wire);
    *b->link = b->next;
    if (b->next)
        b->next->link = b->link;
    octets_free(&b->chunks);
    free(b);
}

static void say(struct backend_peer *b, const char *text, size_t n)
{
    wire_send(b->wire, text, n);
}

static void talk(struct event *e)
{
    struct backend_peer *b = holder_of(e, struct backend_peer, talk);
    size_t n = strlen(b->reply);
    switch (b->fate) {
    case FATE_HANGS: return; /* the gateway has to end this */
    case FATE_GOES_BEFORE: n = 0; break;
    case FATE_GOES_AMID: n = sim_random(n); break;
    default: break;
    }
    say(b, b->reply, n);
    if (b->fate != FATE_SAYS || b->leaves) {
        if (sim_chance(30))
            wire_reset(&b->wire);
        go(b);
        return;
    }
    b->reply[0] = 0;
    peer_hear(b);
}

static void gone_idle(struct event *e)
{
    struct backend_peer *b = holder_of(e, struct backend_peer, idle);
    if (b->mode == CONTENT && sim_chance(50)) {
        say(b, "452 4.3.1 full, says nobody asked\r\n", 35);
        b->unasked = true; /* whoever says so and a second word at the end is past helping: SECURITY.md, known limits */
        return;
    }
    if (b->reply[0] || b->mode != COMMANDS)
        return;
    sim_trace("b%u has enough", b->wire->number);
    if (sim_chance(60))
        say(b, "421 4.3.2 closing\r\n", 19);
    go(b);
}

static void refuse(struct backend_peer *b, const char *mark)
{
    bool two = sim_chance(30);
    snprintf(b->reply, sizeof b->reply, "%s%s no %s\r\n", two ? "550-5.7.1 first line\r\n" : "",
             two || sim_chance(50) ? "550 5.7.1" : "450 4.2.0", mark);
}

/* How late; changes the reply, or what becomes of it. */
static uint64_t be_faulty(struct backend_peer *b, const char *mark)
{
    unsigned what = (unsigned)sim_random(8);
    if (what < 4) {
        b->fate = FATE_HANGS + what;
    } else if (what == 4) {
        snprintf(b->reply, sizeof b->reply, "421 4.3.2 closing %s\r\n", mark);
        b->leaves = true;
    } else if (what == 5) {
        return sim_random(100000); /* late, perhaps too late */
    } else if (what == 6) {
        snprintf(b->reply, sizeof b->reply, "nonsense\r\n");
    } else {
        static const char *const odd[] = {"254 what", "220 what", "352 what", "503 what",
                                          "530 what", "552 full", "99 what"};
        snprintf(b->reply, sizeof b->reply, "%s %s\r\n", odd[sim_random(countof(odd))], mark);
        b->odd = true;
    }
    return sim_random(1500);
}

bool peer_answer(struct backend_peer *b, bool may_refuse, const char *mark, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->reply, sizeof b->reply, format, args);
    va_end(args);
    b->fate = FATE_SAYS;
    b->odd = false;
    uint64_t in = sim_chance(85) ? sim_random(3) : sim_random(1500);
    if (sim_random(100) < b->faults)
        in = be_faulty(b, mark);
    bool yes = (b->reply[0] == '2' || b->reply[0] == '3') && !b->odd;
    if (may_refuse && yes && b->fate == FATE_SAYS && sim_may(F_REFUSALS, 8)) {
        refuse(b, mark);
        yes = false;
    }
    event_set(&b->talk, in, talk);
    if (sim_random(1000) < b->faults)
        event_set(&b->idle, sim_random(90000), gone_idle);
    return yes;
}

static void heard(void *data)
{
    struct backend_peer *b = data;
    if (!b->wire->broken)
        peer_hear(b);
    if (b->wire->ended) /* what is still due is said to nobody */
        go(b);
}

void backends_cut_off(struct world *w, unsigned port)
{
    for (struct backend_peer *b = w->backends, *next; b; b = next) {
        next = b->next;
        if (b->wire->port != port)
            continue;
        wire_reset(&b->wire);
        go(b);
    }
}

void backends_heal(struct world *w)
{
    for (struct backend_peer *b = w->backends; b; b = b->next) {
        b->faults = 0;
        event_stop(&b->idle);
    }
}

enum dialled backend_dialled(void *data, struct wire *wire)
{
    struct world *w = data;
    if (wire->port == PORT_SERVICE)
        return service_dialled(w, wire);
    enum place place = (enum place)((wire->port - PORT_MAIN) / 10);
    struct place_is *is = &w->places[place];
    unsigned luck = (unsigned)sim_random(100);
    if (is->down[(wire->port - PORT_MAIN) % 10] || (luck < w->faults && sim_may(F_DIALS, 100)))
        return luck % 3 ? DIAL_REFUSED : DIAL_UNANSWERED;
    struct backend_peer *b = must_alloc(sizeof *b);
    *b = (struct backend_peer){.world = w, .wire = wire, .place = place, .next = w->backends, .link = &w->backends};
    if (b->next)
        b->next->link = &b->next;
    w->backends = b;
    b->faults = sim_chance(60) && sim_may(F_FAULTS, 100) ? w->faults : 0;
    b->can = *is;
    if (sim_may(F_UNLIKE, 5))
        b->can.pipeline = false;
    if (sim_may(F_UNLIKE, 5))
        b->can.chunk = false;
    if (sim_may(F_UNLIKE, 5))
        b->can.xforward = b->can.xclient = false;
    b->helo_only = sim_may(F_UNLIKE, 3);
    b->may_proxy = true;
    wire->heard = heard;
    wire->peer = b;
    peer_answer(b, b->faults > 0, "banner", "220 b.test ESMTP\r\n");
    return DIAL_ACCEPTED;
}
