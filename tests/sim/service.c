/* service.c - a service that filters dial: it answers "ask N" with "ans N", now or later, or hangs, goes, or breaks
 * off. Whoever is given the answer to another's question was given another's connection, or octets that were left over.
 */
#include "world.h"

struct service_peer {
    struct service_peer *next, **link;
    struct world *world;
    struct wire *wire;
    struct event talk;
    char answer[SERVICE_ANSWER + 1];
};

static void hear(struct service_peer *);

static void go(struct service_peer *p, bool reset)
{
    event_stop(&p->talk);
    if (reset)
        wire_reset(&p->wire);
    else
        wire_leave(&p->wire);
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    free(p);
}

static void talk(struct event *e)
{
    struct service_peer *p = holder_of(e, struct service_peer, talk);
    unsigned fate = sim_may(F_FAULTS, 8) ? (unsigned)sim_random(4) : 4;
    if (fate == 0)
        return; /* it hangs */
    wire_send(p->wire, p->answer, fate < 3 ? sim_random(SERVICE_ANSWER) : SERVICE_ANSWER);
    p->answer[0] = 0;
    if (fate < 4)
        go(p, fate == 1);
    else
        hear(p);
}

static void hear(struct service_peer *p)
{
    unsigned number;
    size_t end = p->answer[0] ? 0 : octets_line(&p->wire->in, 0);
    if (!end)
        return;
    if (end != SERVICE_ANSWER || sscanf(p->wire->in.at, "ask %u\r\n", &number) != 1)
        sim_violation("a service is asked what no filter asks");
    octets_drop(&p->wire->in, end);
    snprintf(p->answer, sizeof p->answer, "ans %08u\r\n", number);
    event_set(&p->talk, sim_chance(80) ? sim_random(3) : sim_random(200), talk);
}

static void heard(void *data)
{
    struct service_peer *p = data;
    if (!p->wire->broken)
        hear(p);
    if (p->wire->ended)
        go(p, false);
}

enum dialled service_dialled(struct world *w, struct wire *wire)
{
    if (sim_may(F_DIALS, 5))
        return sim_chance(50) ? DIAL_REFUSED : DIAL_UNANSWERED;
    struct service_peer *p = must_alloc(sizeof *p);
    *p = (struct service_peer){.world = w, .wire = wire, .next = w->services, .link = &w->services};
    if (p->next)
        p->next->link = &p->next;
    w->services = p;
    wire->heard = heard;
    wire->peer = p;
    return DIAL_ACCEPTED;
}
