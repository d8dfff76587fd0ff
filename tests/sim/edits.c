/* edits.c - what filters out of dice change: fields, bodies, the envelope, the route; and what they read back.
 *
 * Each edit that the gateway took is written down in the letter at once, for letter.c to compare with what a backend
 * takes. An edit under `observe` is taken and does nothing, so it is not written down. */
#include "filters.h"
#include "mail/visit.h"

enum { READ_MOST = 1 << 20 }; /* octets of held content at a time (filters/filter.h) */

static bool counts(const struct filter_call *call, bool taken)
{
    return taken && !filter_of(call)->observe;
}

static unsigned flags_of(const struct filter_call *call)
{
    return filter_of(call)->flags;
}

/* ---- fields */

static void add_field(struct filter_call *call, struct letter *l)
{
    char value[24];
    int n = snprintf(value, sizeof value, "%u of %u", l->nedits, filter_of(call)->index);
    bool top = sim_chance(50);
    uint32_t handle =
        filter_field_add(call, top ? FILTER_TOP : FILTER_BOTTOM, "X-Added", (struct filter_text){value, (size_t)n});
    if (counts(call, handle))
        letter_edit(l, top ? EDIT_TOP : EDIT_BOTTOM, "X-Added", value);
}

static void edit_fields(struct filter_call *call, struct letter *l)
{
    static const char *const names[] = {"X-Added", "Subject", "X-More", "X-Long", "X-Sim"};
    if (l->nedits + 2 > EDITS_MOST || !sim_may(F_FIELDS, 30))
        return;
    enum filter_stage stage = filter_stage(call);
    size_t what = sim_random(4);
    if (stage < FILTER_HEADERS || what < 2) {
        add_field(call, l);
        return;
    }
    const char *name = names[sim_random(countof(names))];
    uint32_t handle = filter_field_next(call, 0, name);
    if (!handle)
        return;
    if (what == 2 && counts(call, filter_field_set(call, handle, (struct filter_text){"changed", 7})))
        letter_edit(l, EDIT_SET, name, "changed");
    else if (what == 3 && counts(call, filter_field_remove(call, handle)))
        letter_edit(l, EDIT_REMOVE, name, "");
}

/* ---- envelope */

static void set_sender(struct filter_call *call, struct letter *l)
{
    char text[80];
    snprintf(text, sizeof text, "m%u.s%u@filter.test", l->number, l->sender + 1);
    if (counts(call, filter_set_reverse_path(call, text, NULL)))
        sim_trace("filter %u: sender %u of letter %u", filter_of(call)->index, ++l->sender, l->number);
    l->sender_first |= l->sender && filter_stage(call) == FILTER_MAIL;
}

static void add_rcpt(struct filter_call *call, struct letter *l)
{
    char text[80];
    bool needed = sim_chance(50);
    if (l->nadded == ADDED_MOST)
        return;
    snprintf(text, sizeof text, "a%u-%u@filter.test", l->number, l->nadded);
    if (!counts(call, filter_add_rcpt(call, text, NULL, needed)))
        return;
    sim_trace("filter %u adds rcpt %u to letter %u", filter_of(call)->index, l->nadded, l->number);
    l->added_must |= needed ? 1u << l->nadded : 0;
    l->nadded++;
}

static void set_rcpt(struct filter_call *call, struct letter *l)
{
    char text[80];
    unsigned k = filter_letter_rcpt(call);
    if (world_played->calm &&
        client_routing(l->client) == ROUTING_BY_RCPT) /* it would go another way than the others */
        return;
    snprintf(text, sizeof text, "w%u-%u@filter.test", l->number, k);
    if (counts(call, filter_set_rcpt(call, filter_rcpt_now(call), text)))
        l->renamed |= 1u << k;
}

/* Those of the client first, then those that filters added; and only those are in the letter that came by its MAIL. */
static void drop_rcpt(struct filter_call *call, struct letter *l)
{
    struct filter_path path = {.size = sizeof path};
    size_t n = filter_rcpt_count(call), i = n ? sim_random(n) : 0;
    unsigned number, k;
    char how;
    if (!n || !filter_rcpt(call, i, &path) || sscanf(path.local.at, "%c%u-%u", &how, &number, &k) != 3)
        return;
    if (!counts(call, filter_drop_rcpt(call, i)))
        return;
    sim_trace("filter %u drops %c%u of letter %u", filter_of(call)->index, how, k, l->number);
    if (how == 'a')
        l->added_dropped |= 1u << k;
    else
        l->left_out |= 1u << k;
}

static void route(struct filter_call *call, struct letter *l)
{
    enum filter_stage stage = filter_stage(call);
    enum place to = sim_chance(60) ? PLACE_OTHER : PLACE_MAIN;
    if (world_played->calm && stage == FILTER_RCPT) /* rcpts that go two ways are refused */
        return;
    if (!counts(call, filter_route(call, to == PLACE_OTHER ? "other" : "main")))
        return;
    sim_trace("filter %u routes letter %u to %u at stage %u", filter_of(call)->index, l->number, to, stage);
    if (stage == FILTER_RCPT) {
        l->routes[filter_letter_rcpt(call)] = to;
        return;
    }
    l->route = to;
    l->routed_late |= stage >= FILTER_DATA;
}

static void edit_envelope(struct filter_call *call, enum filter_stage stage, struct letter *l)
{
    if ((stage <= FILTER_DATA || (flags_of(call) & FILTER_LATE_ENVELOPE)) && sim_may(F_ENVELOPES, 20)) {
        size_t what = sim_random(4);
        if (what == 0)
            set_sender(call, l);
        else if (what == 1)
            add_rcpt(call, l);
        else if (what == 2 || stage != FILTER_RCPT)
            drop_rcpt(call, l);
        else
            set_rcpt(call, l);
    }
    if ((stage <= FILTER_DATA || (flags_of(call) & FILTER_LATE_ROUTE)) && sim_may(F_ROUTES, 8))
        route(call, l);
}

/* ---- bodies */

/* Each small letter becomes the next one, 'q' brings a line that looks like an end. */
static void rewrite(const struct filter_chunk *chunk, struct octets *to)
{
    for (size_t i = 0; i < chunk->octets.len; i++) {
        char c = chunk->octets.at[i];
        if (c == 'q')
            octets_put(to, "\r\n.\r\n", 5);
        else if (c >= 'a' && c <= 'z')
            c = c == 'z' ? 'a' : (char)(c + 1);
        octets_put(to, &c, 1);
    }
}

/* What was said so far of the chunk has been taken; false: room is to be waited for. */
static bool emit(struct filter_call *call, const struct octets *all)
{
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    do {
        size_t n = sim_chance(50) ? all->len - mine->emitted : sim_random(all->len - mine->emitted + 1);
        bool room = filter_emit(call, all->at ? all->at + mine->emitted : NULL, n);
        mine->emitted += n;
        if (!room && mine->emitted < all->len)
            return false;
    } while (mine->emitted < all->len);
    return true;
}

static bool edit_body(struct filter_call *call, struct letter *l)
{
    struct filter_chunk chunk = {.size = sizeof chunk};
    struct rewriting *r = filter_keep(call, LIFE_TRANSACTION);
    struct body_edit *b = &l->bodies[filter_of(call)->index];
    struct octets new = {0};
    if (!filter_chunk(call, &chunk))
        return true;
    if (!r->decided) {
        r->decided = true;
        r->rewrites = (flags_of(call) & FILTER_EDITS_BODY) && sim_may(F_BODIES, 70);
    }
    struct waiting *mine = filter_keep(call, LIFE_CALL);
    bool done = true, rewrites = r->rewrites && (mine->emitted || sim_chance(85)); /* a chunk may be left as it is */
    if (rewrites) {
        rewrite(&chunk, &new);
        done = emit(call, &new);
    }
    if (!done) {
        filter_wait(call, filter_room(call));
    } else {
        bool changed = counts(call, rewrites);
        b->used = true;
        octets_put(&b->saw, chunk.octets.at, chunk.octets.len);
        octets_put(&b->out, changed ? new.at : chunk.octets.at, changed ? new.len : chunk.octets.len);
    }
    octets_free(&new);
    return done;
}

static void replace_body(struct filter_call *call, struct letter *l)
{
    struct body_edit *b = &l->bodies[filter_of(call)->index];
    struct octets new = {0};
    for (size_t n = sim_random(40); n; n--)
        octets_put(&new, n % 3 ? "late line\r\n" : ".\r\n", n % 3 ? 11 : 3);
    for (size_t at = 0, n = 0; at < new.len || !n; at += n) {
        n = 1 + sim_random(new.len - at + 1);
        n = min_size(n, new.len - at);
        filter_emit(call, new.at ? new.at + at : "", n);
        if (!new.len)
            break;
    }
    if (counts(call, true)) {
        b->replaced = true;
        octets_free(&b->late);
        b->late = new;
        return;
    }
    octets_free(&new);
}

/* ---- all of them */

static bool edit_message(struct filter_call *call, struct letter *l)
{
    if (flags_of(call) & FILTER_LATE_FIELDS)
        edit_fields(call, l);
    edit_envelope(call, FILTER_MESSAGE, l);
    if ((flags_of(call) & FILTER_READS_BACK) && sim_may(F_READS_BACK, 60)) {
        filter_wait(call, filter_content(call, 0, READ_MOST));
        return false;
    }
    if ((flags_of(call) & FILTER_LATE_BODY) && sim_may(F_BODIES, 40))
        replace_body(call, l);
    return true;
}

bool edit_letter(struct filter_call *call, enum filter_stage stage, struct letter *l)
{
    switch (stage) {
    case FILTER_MAIL:
    case FILTER_RCPT:
    case FILTER_DATA:
    case FILTER_HEADERS:
        edit_fields(call, l);
        edit_envelope(call, stage, l);
        return true;
    case FILTER_BODY: return edit_body(call, l);
    case FILTER_MESSAGE: return edit_message(call, l);
    default: return true;
    }
}

static void look_back(const struct filter_event *event, const struct letter *l)
{
    struct octets is = {0};
    letter_body(l, &is);
    if (!event->ended && event->octets.len == READ_MOST && is.len > READ_MOST)
        is.len = READ_MOST; /* the most that is read at a time */
    if (!event->error &&    /* with one no content is held: a limit, or a disk */
        (is.len != event->octets.len || (is.len && memcmp(is.at, event->octets.at, is.len) != 0)))
        sim_violation("letter %u: a filter reads back %zu octets that are not the %zu of the body", l->number,
                      event->octets.len, is.len);
    octets_free(&is);
}

bool edit_resume(struct filter_call *call, const struct filter_event *event)
{
    struct letter *l = filter_letter(call);
    if (filter_stage(call) == FILTER_BODY)
        return edit_body(call, l);
    look_back(event, l);
    if ((flags_of(call) & FILTER_LATE_BODY) && sim_may(F_BODIES, 40))
        replace_body(call, l);
    return true;
}
