/* mta.c - an MTA out of dice: it negotiates, says every event in a legal order, several messages of several clients on
 * a connection; it gives up, leaves, breaks the protocol, dawdles and vanishes at any point. */
#include "client.h"
#include "mta.h"

/* ---- packets ---- */

static void put_text(struct octets *o, const char *text)
{
    octets_put(o, text, strlen(text) + 1);
}

/* Takes the data's octets. */
static void say_packet(struct mta *m, char kind, struct octets *data)
{
    uint32_t n = (uint32_t)data->len + 1;
    const char head[] = {(char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n, kind};
    octets_put(&m->unsaid, head, sizeof head);
    if (data->len)
        octets_put(&m->unsaid, data->at, data->len);
    octets_free(data);
    *data = (struct octets){0};
    m->due = mta_is_awaited(m, kind) ? kind : 0;
}

static void say_kind(struct mta *m, char kind)
{
    struct octets nothing = {0};
    say_packet(m, kind, &nothing);
}

static void put_number(struct octets *o, uint32_t n)
{
    const char octets[] = {(char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n};
    octets_put(o, octets, sizeof octets);
}

bool mta_is_awaited(const struct mta *m, char kind)
{
    static const char packets[] = "CHMRTLNBU";
    static const uint32_t bits[] = {MILTER_NR_CONN, MILTER_NR_HELO, MILTER_NR_MAIL, MILTER_NR_RCPT, MILTER_NR_DATA,
                                    MILTER_NR_HDR,  MILTER_NR_EOH,  MILTER_NR_BODY, MILTER_NR_UNKN};
    const char *at = strchr(packets, kind);
    return kind == 'E' || kind == 'O' || (at && !(m->agreed.protocol & bits[at - packets]));
}

static bool is_sent(const struct mta *m, uint32_t step)
{
    return !(m->agreed.protocol & step);
}

/* Macros, of which some are nobody's. */
static void say_macros(struct mta *m, char of)
{
    static const char *const session[] = {
        "j",     "mta.test",      "{tls_version}", "TLSv1.3", "{cipher}", "X", "{auth_type}",
        "PLAIN", "{auth_authen}", "bob",           "r",       "ESMTP",    "_", "c.test [192.0.2.9]"};
    static const char *const message[] = {"i", "Q1", "{other}", "", "v", "Sim 1"};
    bool both = of == 'C' || of == 'H' || of == 'M';
    struct octets data = {0};
    char due = m->due;
    octets_put(&data, &of, 1);
    for (size_t i = 0; both && i < countof(session); i += 2)
        if (sim_chance(30)) {
            put_text(&data, session[i]);
            put_text(&data, session[i + 1]);
        }
    for (size_t i = 0; i < countof(message); i += 2)
        if (sim_chance(50)) {
            put_text(&data, message[i]);
            put_text(&data, message[i + 1]);
        }
    say_packet(m, 'D', &data);
    m->due = due;
}

/* ---- the beginning ---- */

static void say_offer(struct mta *m)
{
    static const uint32_t actions[] = {0, 0, 0x3f, 0x3f, 0x7f, 0x7f, 0x1ff},
                          steps[] = {0, 0, 0x7f, 0x1ff, 0x3ff, 0x3ff, 0x1fffff};
    struct octets data = {0};
    unsigned version = sim_may(F_OLD_MTAS, 30) ? 2 + (unsigned)sim_random(5) : 6;
    uint32_t some = (uint32_t)sim_random(1u << 21), few = (uint32_t)sim_random(1u << 9);
    m->offer = (struct milter_option){.version = version, .actions = actions[version], .protocol = steps[version]};
    if (sim_may(F_OLD_MTAS, 30))
        m->offer.protocol &= some;
    if (version < 6) /* what they can do as well since then */
        m->offer.actions = 0x7f;
    if (!m->world->calm && sim_may(F_OLD_MTAS, 5))
        m->offer.actions &= few;
    m->lacks = m->needs & ~m->offer.actions & ~(uint32_t)MILTER_ADDRCPT_PAR;
    put_number(&data, m->offer.version);
    put_number(&data, m->offer.actions);
    put_number(&data, m->offer.protocol);
    say_packet(m, 'O', &data);
}

static void say_connect(struct mta *m)
{
    static const char *const hosts[] = {"c.test", "[192.0.2.9]", "unknown"};
    struct octets data = {0};
    size_t how = sim_random(10);
    if (sim_chance(60))
        say_macros(m, 'C');
    put_text(&data, hosts[sim_random(countof(hosts))]);
    if (how == 0) {
        octets_put(&data, "U", 1);
    } else {
        octets_put(&data, how == 1 ? "6\x10\x92" : "4\x10\x92", 3);
        put_text(&data, how == 1 ? "IPv6:2001:db8::9" : "192.0.2.9");
    }
    say_packet(m, 'C', &data);
    m->phase = TO_GREET;
}

static void say_helo(struct mta *m)
{
    struct octets data = {0};
    if (sim_chance(40))
        say_macros(m, 'H');
    put_text(&data, "c.test");
    say_packet(m, 'H', &data);
    m->phase = TO_BEGIN;
}

/* ---- a message ---- */

static void write_fields(struct letter *l)
{
    static const char *const fields[] = {"X-Tab:\tinside\r\n", "X-None:inside\r\n",
                                         "X-Two:  inside\r\n", "X-Empty:\r\n",
                                         "X-Blank: \r\n",      "X-Folded:\r\n inside\r\n\there\r\n"};
    for (size_t n = sim_random(4); n; n--) {
        const char *field = fields[sim_random(countof(fields))];
        octets_put(&l->content, field, strlen(field));
    }
}

static void say_mail(struct mta *m)
{
    static struct sim_client nobody; /* a letter has a client, whose routing is none */
    struct octets data = {0};
    char text[MTA_ADDRESS];
    struct letter *l = m->letter = letter_new(m->world, &nobody);
    m->messages--;
    l->nrcpts = 1 + (unsigned)sim_random(RCPTS_MOST);
    write_fields(l);
    letter_write(l);
    mta_letter_begin(m);
    if (sim_chance(60))
        say_macros(m, 'M');
    snprintf(text, sizeof text, "<m%u@c%u.test>", l->number, m->number);
    put_text(&data, text);
    if (sim_chance(30))
        put_text(&data, "SIZE=100");
    say_packet(m, 'M', &data);
    m->phase = TO_NAME;
}

static void say_rcpt(struct mta *m)
{
    struct octets data = {0};
    struct letter *l = m->letter;
    unsigned k = m->named++;
    snprintf(m->rcpts[m->nrcpts], MTA_ADDRESS, "<r%u-%u@y.test>", l->number, k);
    if (sim_chance(20))
        say_macros(m, 'R');
    put_text(&data, m->rcpts[m->nrcpts]);
    if (sim_chance(20))
        put_text(&data, "NOTIFY=NEVER");
    say_packet(m, 'R', &data);
    if (!m->due) {
        l->told |= 1u << k;
        m->nrcpts++;
    }
}

static void say_field(struct mta *m)
{
    struct octets data = {0};
    const struct octets *f = &m->fields[m->at++];
    const char *colon = memchr(f->at, ':', f->len);
    size_t name = (size_t)(colon - f->at), from = name + 1;
    octets_put(&data, f->at, name);
    octets_put(&data, "", 1);
    if (!(m->agreed.protocol & MILTER_HDR_LEADSPC) && f->at[from] == ' ')
        from++;
    for (; from < f->len - 2; from++) /* folds as LF, or as they are */
        if (f->at[from] != '\r' || sim_chance(10))
            octets_put(&data, f->at + from, 1);
    octets_put(&data, "", 1);
    say_packet(m, 'L', &data);
}

static void say_piece(struct mta *m, char kind)
{
    static const size_t sizes[] = {1, 40, 1000, 20000, 65535};
    struct octets data = {0};
    size_t most = sizes[sim_random(countof(sizes))], left = m->body.len - m->at, least = left / 40;
    size_t n = min_size(left, min_size(65535, least + 1 + sim_random(most)));
    octets_put(&data, m->body.at + m->at, n);
    m->at += n;
    say_packet(m, kind, &data);
}

/* What belongs to the content, from TO_DATA on. */
static void say_content(struct mta *m)
{
    if (m->phase == TO_DATA) {
        m->phase = TO_FIELDS;
        m->at = 0;
        if (m->offer.version >= 4 && is_sent(m, MILTER_NODATA) && sim_chance(95)) {
            say_kind(m, 'T');
            return;
        }
    }
    if (m->phase == TO_FIELDS && is_sent(m, MILTER_NOHDRS) && m->at < m->nfields) {
        say_field(m);
        return;
    }
    if (m->phase == TO_FIELDS) {
        m->phase = TO_BODY;
        m->at = 0;
        if (is_sent(m, MILTER_NOEOH)) {
            say_kind(m, 'N');
            return;
        }
    }
    if (m->phase == TO_BODY && is_sent(m, MILTER_NOBODY) && !m->skip && m->at < m->body.len) {
        bool last = m->body.len - m->at < 60000 && sim_chance(10);
        if (!last) {
            say_piece(m, 'B');
            return;
        }
        struct octets rest = {0};
        octets_put(&rest, m->body.at + m->at, m->body.len - m->at);
        m->phase = TO_END;
        say_packet(m, 'E', &rest);
        return;
    }
    m->phase = TO_END;
    if (sim_chance(20))
        say_macros(m, 'E');
    say_kind(m, 'E');
}

void mta_forget_letter(struct mta *m)
{
    m->letter = NULL;
    m->phase = TO_BEGIN;
}

static void give_up(struct mta *m)
{
    mta_forget_letter(m);
    say_kind(m, 'A');
}

/* ---- its course ---- */

static void say_last(struct mta *m)
{
    mta_forget_letter(m);
    m->quits = true;
    say_kind(m, 'Q');
}

static void say_next_client(struct mta *m)
{
    mta_forget_letter(m);
    say_kind(m, 'K');
    m->refused = m->passed = false;
    m->phase = TO_CONNECT;
}

static void break_protocol(struct mta *m)
{
    static const char *const nonsense[] = {"\0\0\0\0", "\0\0\0\1Z", "\0\0\0\1O", "\0\0\0\2Tx",
                                           "\xff\xff\xff\xff"
                                           "B"};
    size_t which = sim_random(countof(nonsense));
    sim_trace("mta %u breaks the protocol", m->number);
    m->broke = true;
    octets_put(&m->unsaid, nonsense[which], which == 0 ? 4 : which == 3 ? 6 : 5);
}

static void abandon(struct mta *m)
{
    switch (sim_random(6)) {
    case 0: say_next_client(m); break;
    case 1: say_last(m); break;
    case 2: mta_forget_letter(m); break; /* the next MAIL or HELO says so */
    default: give_up(m); break;
    }
}

static void begin_next(struct mta *m)
{
    if (!m->messages || m->passed) {
        if (m->messages && sim_chance(60))
            say_next_client(m);
        else
            say_last(m);
    } else if (sim_chance(8)) {
        say_helo(m);
    } else if (sim_chance(8)) {
        say_next_client(m);
    } else if (sim_chance(5)) {
        say_kind(m, 'A');
    } else if (m->refused && sim_chance(50)) {
        m->messages = 0;
    } else {
        say_mail(m);
    }
}

static void say_next(struct mta *m)
{
    if (m->phase > TO_CONNECT && m->offer.version >= 3 && is_sent(m, MILTER_NOUNKNOWN) && sim_may(F_JUNK, 3)) {
        struct octets data = {0};
        put_text(&data, "XYZ");
        say_packet(m, 'U', &data);
        return;
    }
    if (m->letter && sim_may(F_ABANDON, 3)) {
        abandon(m);
        return;
    }
    if (m->phase > TO_CONNECT && sim_random(500) == 0 && sim_may(F_FAULTS, 100)) {
        break_protocol(m);
        return;
    }
    switch (m->phase) {
    case TO_OFFER: say_offer(m); return;
    case TO_CONNECT: say_connect(m); return;
    case TO_GREET: say_helo(m); return;
    case TO_BEGIN: begin_next(m); return;
    case TO_NAME:
        if (m->named < m->letter->nrcpts)
            say_rcpt(m);
        else if (m->letter->told)
            m->phase = TO_DATA;
        else
            give_up(m);
        return;
    case TO_LEAVE: say_last(m); return;
    default: say_content(m); return;
    }
}

/* ---- saying, and leaving ---- */

void mta_over(struct mta *m)
{
    if (m->over)
        return;
    m->over = true;
    event_stop(&m->act);
    event_stop(&m->dog);
    octets_free(&m->unsaid);
    octets_free(&m->body);
    for (unsigned i = 0; i < MTA_FIELDS_MOST; i++)
        octets_free(&m->fields[i]);
    m->world->left--;
}

static void leave(struct mta *m)
{
    if (sim_may(F_VANISHING, 15)) {
        wire_vanish(&m->wire);
        mta_over(m);
        return;
    }
    sim_trace("mta %u leaves", m->number);
    if (sim_chance(30)) { /* it says no more, but listens */
        wire_end(m->wire);
        m->half = m->silent = true;
        return;
    }
    if (sim_chance(50))
        wire_reset(&m->wire);
    else
        wire_leave(&m->wire);
    mta_over(m);
}

static void say(struct mta *m)
{
    size_t n = m->unsaid.len;
    if (n > 1 && sim_may(F_CUTS, 30))
        n = 1 + sim_random(n);
    wire_send(m->wire, m->unsaid.at, n);
    octets_drop(&m->unsaid, n);
    m->sent += n;
    if (!m->unsaid.len) {
        m->said[m->nsaid].end = m->sent;
        m->said[m->nsaid].at = sim_now();
        m->nsaid = (m->nsaid + 1) % countof(m->said);
    }
}

static void act(struct event *e)
{
    struct mta *m = holder_of(e, struct mta, act);
    const struct world *w = m->world;
    if (sim_random(1000) < w->leaving && sim_may(F_LEAVING, 100)) {
        leave(m);
        return;
    }
    if (sim_random(1000) < w->leaving / 3 && sim_may(F_SILENCE, 100)) {
        m->silent = true;
        return;
    }
    if (!m->unsaid.len && m->due && !m->maybe && strchr("MRTNBE", m->due) &&
        sim_may(F_ABANDON, 1)) { /* it does not wait for the answer */
        m->maybe = m->due;
        sim_trace("mta %u gives up", m->number);
        give_up(m);
        m->phase = TO_LEAVE;
    }
    if (!m->unsaid.len && !m->due && !m->quits && !m->broke)
        say_next(m);
    if (!m->unsaid.len && (m->due || m->quits || m->broke))
        return;
    mta_be_patient(m);
    if (m->unsaid.len)
        say(m);
    mta_soon(m);
}

void mta_soon(struct mta *m)
{
    uint64_t in = sim_chance(80) ? sim_random(3) : sim_chance(97) ? sim_random(2000) : sim_random(90000);
    if (!sim_may(F_SLOW_CLIENTS, 100))
        in = m->phase > TO_NAME ? in % 20 : in % 2000;
    if (!event_is_set(&m->act) && !m->silent)
        event_set(&m->act, in, act);
}

static void bite(struct event *e)
{
    struct mta *m = holder_of(e, struct mta, dog);
    if (m->delivered != m->looked) { /* what it says is still being taken, however slowly */
        m->looked = m->delivered;
        mta_be_patient(m);
        return;
    }
    sim_violation("an MTA has heard nothing for long: mta %u, '%c' is due", m->number, m->due ? m->due : '-');
}

void mta_be_patient(struct mta *m)
{
    event_set(&m->dog, m->world->calm ? PATIENCE_CALM : m->world->healed ? PATIENCE_HEALED : PATIENCE, bite);
}

/* ---- life ---- */

static void arrive(struct event *e)
{
    struct mta *m = holder_of(e, struct mta, act);
    struct stream *s;
    m->wire = wire_open(m->world->worker.mail.loop, m->number, &s);
    m->wire->heard = mta_heard;
    m->wire->peer = m;
    m->wire->delivered = &m->delivered;
    mta_be_patient(m);
    m->needs = milter_needs(m->world->milter_conf->visit.chain).actions;
    milter_start(&m->world->milters, m->world->milter_conf, 1, s);
    mta_soon(m);
}

void mtas_new(struct world *w, unsigned n)
{
    static const uint64_t spread[] = {1, 500, 60000};
    uint64_t within = spread[sim_random(countof(spread))];
    w->mtas = must_alloc(n * sizeof *w->mtas);
    w->left = w->nclients = n;
    for (unsigned i = 0; i < n; i++) {
        struct mta *m = &w->mtas[i];
        m->world = w;
        m->number = i + 1;
        m->messages = (unsigned)sim_random(w->letters_each + 1);
        event_set(&m->act, sim_random(within), arrive);
    }
}

void mtas_heal(struct world *w)
{
    for (unsigned i = 0; i < w->nclients; i++)
        if (event_is_set(&w->mtas[i].dog))
            mta_be_patient(&w->mtas[i]);
}

void mtas_free(struct world *w)
{
    for (unsigned i = 0; i < w->nclients; i++)
        mta_over(&w->mtas[i]);
    free(w->mtas);
}
