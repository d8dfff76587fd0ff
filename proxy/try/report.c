/* report.c - the table of calls for people: a line for each that did something, the edits below it, the verdict last.
 */
#include "try/report.h"
#include "try/diff.h"
#include <ctype.h>

enum { EDIT_LINES = 12 };

/* ---- words
 * ---------------------------------------------------------------------------------------------------------------- */

static void upper(char *to, size_t room, const char *from)
{
    size_t i = 0;
    for (; from[i] && i + 1 < room; i++)
        to[i] = (char)toupper((unsigned char)from[i]);
    to[i] = 0;
}

void put_number(FILE *to, uint64_t n)
{
    if (n >= 1000) {
        put_number(to, n / 1000);
        fprintf(to, ",%03u", (unsigned)(n % 1000));
    } else {
        fprintf(to, "%u", (unsigned)n);
    }
}

static double ms(const struct show *s, uint64_t micros)
{
    return s->stable ? 0 : (double)micros / 1000;
}

static void put_reply_text(FILE *to, const struct reply *r)
{
    if (r->enhanced[0])
        fprintf(to, "%u.%u.%u ", r->enhanced[0], r->enhanced[1], r->enhanced[2]);
    struct str rest = r->text;
    for (bool first = true; rest.at; first = false) {
        if (!first)
            fputs(" / ", to);
        visible_put(to, str_cut(&rest, '\n'));
    }
}

static bool failed_offline(const struct trial *t, const struct kept_call *c)
{
    return t->world->offline && c->said == VERDICT_ERROR && c->service;
}

/* Calls that failed since nobody may be dialled. */
static unsigned offline_skips(const struct trial *t)
{
    unsigned n = 0;
    for (const struct kept_call *c = t->record.first; c; c = c->next)
        n += failed_offline(t, c);
    return n;
}

/* ---- bodies
 * ----------------------------------------------------------------------------------------------------------------- */

/* As it came, without the header section; with the line end that DATA puts behind what has none. */
static struct str body_before(const struct trial *t, struct arena *arena)
{
    struct str body = str_part(t->content, t->message.headers.octets, t->content.len);
    struct str pieces[] = {body, STR("\r\n")};
    return t->raw || !body.len || str_ends_nocase(body, STR("\r\n")) ? body
                                                                     : arena_join(arena, countof(pieces), pieces);
}

static struct str body_after(const struct trial *t, struct arena *arena)
{
    struct str all = pipe_flat(&t->out, t->out.octets, arena);
    size_t octets = 0;
    const struct headers *h = &t->message.headers;
    for (const struct field *f = h->first; f; f = f->next)
        octets += f->raw.len;
    bool empty_line = h->separator || (h->body ? h->added : t->outgoing.fields.parted);
    return str_part(all, octets + (empty_line ? 2 : 0), all.len);
}

/* ---- calls
 * --------------------------------------------------------------------------------------------------------------------
 */

static unsigned edits_of(const struct kept_call *c)
{
    unsigned n = 0;
    for (const struct kept_edit *e = c->edits; e; e = e->of_call)
        n++;
    return n;
}

/* Something happened that one wants to know without asking for more. */
static bool is_notable(const struct kept_call *c)
{
    return (c->said != VERDICT_CONTINUE && c->said != VERDICT_SKIP) || c->edits || c->score != 0 || c->logs ||
           !c->ended;
}

static void put_did(FILE *to, const struct trial *t, const struct kept_call *c)
{
    char did[80] = "continue", word[16];
    unsigned edits = edits_of(c);
    upper(word, sizeof word, verdict_name(c->said));
    const char *watching = c->filter->observe && c->said != VERDICT_ERROR ? "(observe) " : "";
    if (!c->ended)
        snprintf(did, sizeof did, "cancelled");
    else if (failed_offline(t, c))
        snprintf(did, sizeof did, "skipped (offline)");
    else if (c->said == VERDICT_ERROR && !c->over)
        snprintf(did, sizeof did, "ERROR, goes on");
    else if (c->reply.code)
        snprintf(did, sizeof did, "%s%s %u", watching, word, c->reply.code);
    else if (c->said != VERDICT_CONTINUE)
        snprintf(did, sizeof did, "%s%s", watching, word);
    else if (edits)
        snprintf(did, sizeof did, "%s%u edit%s", c->filter->observe ? "(observe) " : "", edits, edits == 1 ? "" : "s");
    fprintf(to, "%-24s", did);
}

/* "get" of "get default". */
static struct str verb_of(const struct kept_wait *w)
{
    struct str rest = w->what;
    return str_word(&rest);
}

/* "store get 2, set 1". */
static void put_stores(FILE *to, const struct kept_call *c, const char **parted)
{
    const char *between = "store ";
    for (const struct kept_wait *w = c->waits; w; w = w->next) {
        unsigned before = 0, all = 0;
        for (const struct kept_wait *o = c->waits, *seen = w; o && strcmp(w->op, "store") == 0; o = o->next) {
            seen = o == w ? NULL : seen;
            bool same = strcmp(o->op, "store") == 0 && str_equal(verb_of(o), verb_of(w));
            before += same && seen;
            all += same;
        }
        if (!all || before)
            continue;
        fprintf(to, "%s%s%.*s %u", *parted, between, STR_ARGS(verb_of(w)), all);
        *parted = "";
        between = ", ";
    }
    if (!**parted)
        *parted = "; ";
}

static void put_waits(const struct show *s, const struct kept_call *c, const char **parted)
{
    unsigned dns = 0;
    for (const struct kept_wait *w = c->waits; w; w = w->next)
        dns += strcmp(w->op, "dns") == 0;
    if (dns) {
        fprintf(s->to, "%sdns %u", *parted, dns);
        *parted = "; ";
    }
    put_stores(s->to, c, parted);
    for (const struct kept_wait *w = c->waits; w; w = w->next) {
        if (strcmp(w->op, "dial") == 0 && !w->result) {
            fprintf(s->to, "%s%.*s (service, really asked)", *parted, STR_ARGS(w->what));
            *parted = "; ";
        }
        if (w->result && strcmp(w->result, "nxdomain") != 0 && strcmp(w->result, "nodata") != 0) {
            fprintf(s->to, "%s%s %.*s: %s", *parted, w->op, STR_ARGS(w->what), w->result);
            *parted = "; ";
        }
    }
    if (c->waited >= 1000 && !s->stable) {
        fprintf(s->to, "%swaited %.1f", *parted, (double)c->waited / 1000);
        *parted = "; ";
    }
}

static void put_why(const struct show *s, const struct kept_call *c)
{
    const char *parted = "   ";
    if (c->reply.code && c->said != VERDICT_ERROR) {
        fputs(parted, s->to);
        put_reply_text(s->to, &c->reply);
        parted = "; ";
    }
    if (c->why.len) {
        fputs(parted, s->to);
        visible_put(s->to, c->why);
        parted = "; ";
    }
    if (c->score != 0)
        fprintf(s->to, "%sscore %+g", parted, c->score), parted = "; ";
    put_waits(s, c, &parted);
}

static void put_edit(const struct show *s, const struct kept_edit *e)
{
    struct diff_style style = {.indent = "             ", .most = s->diff ? 0 : EDIT_LINES, .colour = s->colour};
    char octets[80];
    switch (e->kind) {
    case EDIT_BODY:
        snprintf(octets, sizeof octets, "body: %llu octets become %llu", (unsigned long long)e->octets_before,
                 (unsigned long long)e->octets_after);
        fprintf(s->to, "%s%s\n", style.indent, octets);
        return;
    case EDIT_FROM:
    case EDIT_RCPT_ADD:
    case EDIT_RCPT_SET:
    case EDIT_RCPT_REMOVE:
    case EDIT_ROUTE:
        fprintf(s->to, "%s%s", style.indent, edit_name(e->kind));
        if (e->before.at)
            fprintf(s->to, " <%.*s>", STR_ARGS(e->before));
        fprintf(s->to, e->before.at && e->after.at ? " becomes" : "");
        if (e->after.at)
            fprintf(s->to, e->kind == EDIT_ROUTE ? " %.*s" : " <%.*s>", STR_ARGS(e->after));
        fputc('\n', s->to);
        return;
    default: diff_put(s->to, e->before.at ? e->before : STR(""), e->after.at ? e->after : STR(""), &style);
    }
}

static void put_stage(FILE *to, const struct trial *t, const struct kept_call *c)
{
    char text[24];
    bool of_rcpt = c->stage == FILTER_RCPT && t->message.nrcpts > 1;
    snprintf(text, sizeof text, of_rcpt ? "%s %u" : "%s", stage_name(c->stage), c->rcpt + 1);
    fprintf(to, "%-11s", text);
}

static void put_call(const struct show *s, const struct trial *t, const struct kept_call *c)
{
    put_stage(s->to, t, c);
    fprintf(s->to, "%-13.*s ", STR_ARGS(c->filter->name));
    put_did(s->to, t, c);
    fprintf(s->to, "%9.1f ms", ms(s, c->run + c->waited));
    put_why(s, c);
    fputc('\n', s->to);
    for (const struct kept_log *l = c->logs; l; l = l->next) {
        fprintf(s->to, "             log %s: ", l->level);
        visible_put(s->to, l->text);
        fputc('\n', s->to);
    }
    for (const struct kept_note *n = c->notes; s->verbose && n; n = n->next) {
        fprintf(s->to, "             note %.*s = ", STR_ARGS(n->name));
        visible_put(s->to, n->value);
        fputc('\n', s->to);
    }
    for (const struct kept_wait *w = c->waits; s->verbose && w; w = w->next)
        fprintf(s->to, "             %s %.*s: %s, %.1f ms\n", w->op, STR_ARGS(w->what), w->result ? w->result : "ok",
                ms(s, w->took));
    for (const struct kept_edit *e = c->edits; e; e = e->of_call)
        put_edit(s, e);
}

static void put_calls(const struct show *s, const struct trial *t)
{
    unsigned quiet = 0;
    uint64_t quiet_took = 0;
    fprintf(s->to, "%-11s%-13s %-24s%12s   %s\n", "stage", "filter", "did", "took", "why");
    for (const struct kept_call *c = t->record.first; c; c = c->next) {
        if (s->verbose || is_notable(c)) {
            put_call(s, t, c);
        } else if (c->stage < FILTER_RESET) { /* at these two everybody who was there is called */
            quiet++;
            quiet_took += c->run + c->waited;
        }
    }
    if (quiet) {
        char text[48];
        snprintf(text, sizeof text, "%u more call%s continued", quiet, quiet == 1 ? "" : "s");
        fprintf(s->to, "%-11s%-38s%9.1f ms   -v shows %s\n", "", text, ms(s, quiet_took), quiet == 1 ? "it" : "them");
    }
}

static void put_body(const struct show *s, const struct trial *t)
{
    struct arena arena = {0};
    struct diff_style style = {.indent = "             ", .most = s->diff ? 0 : EDIT_LINES, .colour = s->colour};
    bool edited = false;
    for (const struct kept_edit *e = t->record.edits; e; e = e->next)
        edited |= e->kind == EDIT_BODY && e->applied;
    if (edited && trial_leaves(t) && t->out.octets) {
        struct str before = body_before(t, &arena), after = body_after(t, &arena);
        if (!str_equal(before, after))
            fprintf(s->to, "body\n");
        diff_put(s->to, before, after, &style);
    }
    arena_reset(&arena);
}

/* ---- the verdict
 * ---------------------------------------------------------------------------------------------------------------- */

static void put_verdict(const struct show *s, const struct trial *t)
{
    char word[16];
    upper(word, sizeof word, fate_name(t->fate));
    fprintf(s->to, "%-11s%s%s%s%s", "verdict", s->colour ? "\033[1m" : "", word, s->colour ? "\033[0m" : "",
            t->has_content || t->fate != FORWARDED ? "" : " (the envelope alone)");
    if (t->stage)
        fprintf(s->to, " at %s", t->stage);
    if (t->stage && strcmp(t->stage, "rcpt") == 0)
        fprintf(s->to, " %u", t->rcpt + 1);
    if (t->by.len)
        fprintf(s->to, " by %.*s", STR_ARGS(t->by));
    else if (t->by_backend && t->stage)
        fputs(" by the next hop", s->to);
    if ((t->fate == QUARANTINED || t->record.edits) && t->hop && trial_leaves(t) && t->world->nhops &&
        t->hop != t->world->hops[0].hop)
        fprintf(s->to, " to %.*s", STR_ARGS(t->hop->name));
    fprintf(s->to, "    %u ", t->reply.code);
    put_reply_text(s->to, &t->reply);
    if (t->why.len) {
        fputs("    ", s->to);
        visible_put(s->to, t->why);
    }
    fputc('\n', s->to);
}

static void put_totals(const struct show *s, const struct trial *t)
{
    uint64_t run = 0, waited = 0;
    uint32_t applied = 0;
    for (const struct kept_call *c = t->record.first; c; c = c->next) {
        run += c->run;
        waited += c->waited;
    }
    for (const struct kept_edit *e = t->record.edits; e; e = e->next)
        applied += e->applied;
    fprintf(s->to, "%-11s%u of %zu recipient%s; ", "", t->message.accepted + t->message.discarded, t->who->nrcpts,
            t->who->nrcpts == 1 ? "" : "s");
    if (t->has_content) {
        put_number(s->to, t->content.len);
        fputs(" octets", s->to);
        if (t->out.octets && t->out.octets != t->content.len) {
            fputs(", ", s->to);
            put_number(s->to, t->out.octets);
            fputs(" out", s->to);
        }
        fputs("; ", s->to);
    }
    fprintf(s->to, "%.1f ms, of which waited %.1f, filters %.1f", ms(s, t->took), ms(s, waited), ms(s, run));
    if (applied && trial_leaves(t))
        fprintf(s->to, "; %u edit%s", applied, applied == 1 ? "" : "s");
    else if (applied)
        fprintf(s->to, "; %u edit%s to nothing", applied, applied == 1 ? " comes" : "s come");
    if (t->message.score != 0)
        fprintf(s->to, "; score %g", t->message.score);
    if (offline_skips(t))
        fprintf(s->to, "; %u call%s skipped (offline)", offline_skips(t), offline_skips(t) == 1 ? "" : "s");
    fputc('\n', s->to);
}

void report_text(const struct show *s, const struct trial *t)
{
    if (!s->quiet) {
        put_calls(s, t);
        put_body(s, t);
    }
    put_verdict(s, t);
    if (!s->quiet)
        put_totals(s, t);
}

void put_services(FILE *to, const struct services *services, const char *before)
{
    if (services->n)
        fprintf(to, "%s%u service%s", before, services->n, services->n == 1 ? "" : "s");
}

void report_world(const struct show *s, const struct try_world *w, const struct try_who *who, const struct trial *t)
{
    struct services services = {0};
    if (s->quiet)
        return;
    fprintf(s->to, "%s %.*s, chain %.*s; client %.*s:%u helo %.*s; DNS %.*s; stores: %.*s%s",
            w->milter ? "milter" : "listen", STR_ARGS(w->conf.name), STR_ARGS(w->conf.chain->name), STR_ARGS(who->ip),
            who->port, STR_ARGS(who->helo), STR_ARGS(s->dns), STR_ARGS(s->stores), w->offline ? "; offline" : "");
    if (t)
        record_services(&t->record, &services);
    put_services(s->to, &services, "; ");
    fputc('\n', s->to);
    services_free(&services);
    for (size_t i = 0; i < s->nnotes; i++)
        fprintf(s->to, "note: %s\n", s->notes[i]);
}

void report_line(const struct show *s, const struct trial *t, const struct source *source)
{
    char word[16];
    upper(word, sizeof word, fate_name(t->fate));
    fprintf(s->to, "%.*s", STR_ARGS(source->name));
    if (source->index)
        fprintf(s->to, "#%u", source->index);
    fprintf(s->to, "  %s %u", word, t->reply.code);
    if (t->by.len)
        fprintf(s->to, " %.*s", STR_ARGS(t->by));
    fputs("  ", s->to);
    put_reply_text(s->to, &t->reply);
    fprintf(s->to, "  %.1f ms\n", ms(s, t->took));
}
