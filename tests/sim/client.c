/* client.c - a client out of dice: when it speaks, in which pieces, how it leaves; and what it may hear.
 *
 * Replies must come in the order of its plan (plan.c), one for each. What a backend said bears a mark ("for RCPT 12-3",
 * "yes12-") so that a reply told to the wrong command is seen. In a calm world it hears nothing but yes, and soon. */
#include "client.h"

const char *const kinds[] = {"greeting", "hello", "MAIL",     "RCPT", "DATA", "BDAT",    "end",     "RSET",
                             "NOOP",     "VRFY",  "nonsense", "QUIT", "AUTH", "XCLIENT", "XFORWARD"};

unsigned client_number(const struct sim_client *c)
{
    return c->number;
}

uint64_t client_delivered(const struct sim_client *c)
{
    return c->delivered;
}

enum routing client_routing(const struct sim_client *c)
{
    return c->routing;
}

enum identity client_identity(const struct sim_client *c, enum place place)
{
    return c->identities[place];
}

static void act(struct event *);

static void soon(struct sim_client *c)
{
    uint64_t in = sim_chance(80) ? sim_random(3) : sim_chance(97) ? sim_random(2000) : sim_random(90000);
    if (!sim_may(F_SLOW_CLIENTS, 100))
        in %= 2000;
    if (!event_is_set(&c->act) && !c->silent)
        event_set(&c->act, in, act);
}

static void be_patient(struct sim_client *);

static uint64_t patience(const struct sim_client *c)
{
    return c->world->calm ? PATIENCE_CALM : c->world->healed ? PATIENCE_HEALED : PATIENCE;
}

static void bite(struct event *e)
{
    struct sim_client *c = holder_of(e, struct sim_client, dog);
    if (c->delivered != c->looked) { /* what it says is still being taken, however slowly */
        c->looked = c->delivered;
        be_patient(c);
        return;
    }
    sim_violation("client %u has heard nothing for %u s (%s is due)", c->number, (unsigned)patience(c) / 1000,
                  c->ndue ? kinds[c->due[0].kind] : "nothing");
}

static void be_patient(struct sim_client *c)
{
    event_set(&c->dog, patience(c), bite);
}

static void over(struct sim_client *c)
{
    if (c->over)
        return;
    c->over = true;
    event_stop(&c->act);
    event_stop(&c->dog);
    plan_free(c);
    c->world->left--;
}

/* ---- saying */

static void leave(struct sim_client *c)
{
    if (sim_may(F_VANISHING, 15)) {
        wire_vanish(&c->wire);
        over(c);
        return;
    }
    sim_trace("c%u leaves", c->wire->number);
    if (sim_chance(30)) { /* it says no more, but listens */
        wire_end(c->wire);
        c->half = c->silent = true;
        return;
    }
    if (sim_chance(50))
        wire_reset(&c->wire);
    else
        wire_leave(&c->wire);
    over(c);
}

static void say(struct sim_client *c, struct item *i)
{
    size_t n = i->text.len - i->said;
    if (n > 1 && sim_may(F_CUTS, 30))
        n = 1 + sim_random(n);
    wire_send(c->wire, i->text.at + i->said, n);
    i->said += n;
    c->sent += n;
    if (i->said < i->text.len)
        return;
    if (i->kind == END)
        i->letter->end_at = c->sent;
    must(c->ndue < countof(c->due));
    c->due[c->ndue++] = (struct due){i->kind, i->letter, i->rcpt};
    c->at++;
}

static void act(struct event *e)
{
    struct sim_client *c = holder_of(e, struct sim_client, act);
    if (sim_random(1000) < c->world->leaving && sim_may(F_LEAVING, 100)) {
        leave(c);
        return;
    }
    if (sim_random(1000) < c->world->leaving / 3 && sim_may(F_SILENCE, 100)) {
        c->silent = true; /* the gateway has to end this */
        return;
    }
    if (c->bye)
        return;
    if (c->at == c->planned && !c->ndue && !c->quit)
        plan_next(c);
    if (c->at == c->planned || (c->plan[c->at].waits && c->ndue && !c->plan[c->at].said))
        return;
    be_patient(c);
    say(c, &c->plan[c->at]);
    soon(c);
}

/* ---- hearing */

static bool is_told_right(const struct due *d, const char *text)
{
    unsigned a, b;
    const char *at;
    bool yes = text[0] == '2' || text[0] == '3';
    if ((at = strstr(text, "for MAIL ")) !=
        NULL) /* a refusal is told to what follows, when MAIL was answered in advance */
        return (d->kind == MAIL || !yes) && d->letter && sscanf(at, "for MAIL %u", &a) == 1 && a == d->letter->number;
    if ((at = strstr(text, "for RCPT ")) != NULL) { /* likewise, when filters had the envelope said anew */
        bool anew = !yes && d->letter &&
                    (d->letter->sender || d->letter->left_out || d->letter->nadded || d->letter->route != PLACE_NONE ||
                     d->letter->quarantined);
        return d->letter && (d->kind == RCPT || anew) && sscanf(at, "for RCPT %u-%u", &a, &b) == 2 &&
               a == d->letter->number && (b == d->rcpt || anew);
    }
    if ((at = strstr(text, "for DATA ")) != NULL) /* an end, when DATA had been answered before the backend was asked */
        return (d->kind == DATA || d->kind == END || d->kind == CHUNK) && sscanf(at, "for DATA %u", &a) == 1 &&
               a == d->letter->number;
    if ((at = strstr(text, "yes")) != NULL || (at = strstr(text, "no-")) != NULL)
        return (d->kind == END || (d->kind == CHUNK && !yes)) && sscanf(at + 3, "%u", &a) == 1 &&
               a == d->letter->number;
    return true;
}

static void hear_end(struct sim_client *c, const struct letter *l, unsigned code, const char *text)
{
    if (code / 100 != 2)
        return;
    c->world->acknowledged++;
    if (!l->taken && letter_needs_nobody(l))
        return;
    if (l->taken != 1)
        sim_violation("letter %u was acknowledged (%s) and taken %u times", l->number, text, l->taken);
    else if (!strstr(text, "yes"))
        sim_violation("letter %u was acknowledged with what no backend said: %s", l->number, text);
    else if ((l->told & ~l->left_out) != l->accepted)
        sim_violation("letter %u: the client was told of rcpts %x, of which filters left out %x; it was taken for %x",
                      l->number, l->told, l->left_out, l->accepted);
    else if (l->bare && !l->binary)
        sim_violation("letter %u has a bare line end and was acknowledged", l->number);
}

static void hear_hello(struct sim_client *c, const char *text)
{
    c->pipelining = strstr(text, "PIPELINING") != NULL;
    c->chunking = strstr(text, "CHUNKING") != NULL;
    c->binary = strstr(text, "BINARYMIME") != NULL;
    c->may_auth = strstr(text, "AUTH ") != NULL;
    c->may_xclient = strstr(text, "XCLIENT ") != NULL;
    c->may_xforward = strstr(text, "XFORWARD ") != NULL;
}

static bool fits(const struct sim_client *c, enum kind kind, unsigned code)
{
    unsigned class = code / 100;
    bool yes = class == 2;
    switch (kind) {
    case GREET: yes = code == 220; break;
    case DATA: yes = code == 354; break;
    case QUIT: return code == 221;
    case NONSENSE: return class == 5 || class == 4;
    case AUTH: yes = code == 235 || code == 334; break;
    case XCLIENT: yes = code == 220; break;
    default: break;
    }
    if (kind == GREET && !yes)
        return code == 554 && !c->world->calm;
    return yes || ((class == 4 || class == 5) && !c->world->calm);
}

static void obey(struct sim_client *c, const struct due *d, unsigned code, const char *text)
{
    bool yes = code / 100 == 2;
    switch (d->kind) {
    case GREET: /* refused: all that is left to say is QUIT (RFC 5321 3.1) */
        c->messages = code == 554 ? 0 : c->messages;
        c->hello |= code == 554;
        break;
    case HELLO: hear_hello(c, yes ? text : ""); break;
    case RCPT: d->letter->told |= yes ? 1u << d->rcpt : 0; break;
    case END: hear_end(c, d->letter, code, text); break;
    case AUTH:
        c->authenticated |= code == 235;
        if (code == 334)
            plan_response(c, text);
        break;
    case XCLIENT:
        if (!yes)
            break;
        snprintf(c->address, sizeof c->address, "%s", c->claims);
        c->authenticated = c->hello = c->pipelining = false;
        break;
    case QUIT: c->quit = true; break;
    default: break;
    }
    bool failed = (d->kind == MAIL || d->kind == CHUNK || d->kind == XFORWARD) && !yes;
    failed |= d->kind == DATA && code != 354;
    failed |= d->kind == HELLO && !yes; /* a transaction that was there still is */
    if (failed)
        plan_give_up(c);
}

static void reply(struct sim_client *c, unsigned code, const char *text)
{
    if (c->bye || c->quit) {
        sim_violation("client %u hears more behind the last word: %s", c->number, text);
        return;
    }
    if (code == 421 && !c->world->calm) {
        c->bye = true;
        return;
    }
    if (!c->ndue) {
        sim_violation("client %u hears a reply to nothing: %s", c->number, text);
        return;
    }
    struct due d = c->due[0];
    memmove(c->due, c->due + 1, --c->ndue * sizeof *c->due);
    if (!fits(c, d.kind, code) || !is_told_right(&d, text)) {
        sim_violation("client %u hears in answer to %s: %s", c->number, kinds[d.kind], text);
        return;
    }
    obey(c, &d, code, text);
    soon(c);
}

/* One whole reply, all its lines; false: not there yet. */
static bool take_reply(struct sim_client *c)
{
    struct octets *in = &c->wire->in;
    for (size_t from = 0, end; (end = octets_line(in, from)) != 0; from = end) {
        if (end - from < 6) {
            sim_violation("client %u hears a line that is no reply", c->number);
            return false;
        }
        if (in->at[from + 3] == '-')
            continue;
        char text[1200];
        size_t n = min_size(end, sizeof text - 1);
        memcpy(text, in->at, n);
        text[n] = 0;
        while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
            text[--n] = 0;
        unsigned code = (unsigned)atoi(in->at + from);
        octets_drop(in, end);
        reply(c, code, text);
        return !sim_violated();
    }
    return false;
}

static void heard(void *data)
{
    struct sim_client *c = data;
    be_patient(c);
    while (take_reply(c))
        ;
    if (!c->wire->ended)
        return;
    bool greeting = c->ndue && c->due[0].kind == GREET;
    bool too_late = c->preface && sim_now() >= c->arrived + c->world->conf->timeouts.proxy;
    bool turned_away = greeting && (c->world->worker.mail.draining || c->delivered < c->preface || too_late);
    if (!c->bye && !c->quit && !c->half && !c->wire->broken && !turned_away)
        sim_violation("client %u was left without a word", c->number);
    if (c->wire->in.len && !c->wire->broken)
        sim_violation("client %u was left amid a reply", c->number);
    wire_leave(&c->wire);
    over(c);
}

/* ---- life */

static void arrive(struct event *e)
{
    struct sim_client *c = holder_of(e, struct sim_client, act);
    const struct smtp_conf *conf = c->world->worker.generation->conf;
    struct stream *s;
    c->wire = wire_open(c->world->worker.mail.loop, c->number, &s);
    c->wire->heard = heard;
    c->wire->peer = c;
    c->wire->delivered = &c->delivered;
    c->arrived = sim_now();
    c->due[c->ndue++] = (struct due){.kind = GREET};
    snprintf(c->address, sizeof c->address, "192.0.2.%u", c->number % 250 + 1);
    for (unsigned i = 0; i < PLACES; i++)
        c->identities[i] = conf->backends[i].identity;
    const struct route *route = conf->listens[0].route;
    c->routing = !route ? ROUTING_NONE : route->by_sender ? ROUTING_BY_SENDER : ROUTING_BY_RCPT;
    be_patient(c);
    session_start(&c->world->worker, &conf->listens[0], 1, s);
    if (conf->listens[0].proxy) {
        struct octets preface = {0};
        plan_preface(c, &preface);
        wire_send(c->wire, preface.at, preface.len);
        c->sent = c->preface = preface.len;
        octets_free(&preface);
    }
    if (sim_chance(3))
        soon(c); /* it may leave before the banner */
}

struct sim_client *clients_new(struct world *w, unsigned n)
{
    static const uint64_t spread[] = {1, 500, 60000};
    uint64_t within = spread[sim_random(countof(spread))];
    struct sim_client *all = must_alloc(n * sizeof *all);
    for (unsigned i = 0; i < n; i++) {
        all[i].world = w;
        all[i].number = i + 1;
        all[i].messages = (unsigned)sim_random(w->letters_each + 1);
        event_set(&all[i].act, sim_random(within), arrive);
    }
    w->left = n;
    return all;
}

void clients_heal(struct world *w)
{
    for (unsigned i = 0; i < w->nclients; i++)
        if (event_is_set(&w->clients[i].dog))
            be_patient(&w->clients[i]);
}

void clients_free(struct world *w)
{
    for (unsigned i = 0; i < w->nclients; i++)
        over(&w->clients[i]);
    free(w->clients);
}
