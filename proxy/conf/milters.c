/* milters.c - milter listeners, and complaints about filters that need what the milter protocol cannot do. */
#include "conf/parts.h"
#include "milter/model.h"

static struct table *clients_of(struct loader *l, const struct conf_item *item)
{
    const struct str here[] = {STR("127.0.0.0/8"), STR("::1")};
    char error[256];
    struct table *said = block_table(item->checked, "clients");
    if (said)
        return said;
    struct table *t = table_of(here, NULL, countof(here), error, sizeof error);
    must(t);
    conf_keep_table(&l->conf->smtp.mail, t);
    return t;
}

static unsigned mode_of(struct loader *l, const struct conf_item *item)
{
    struct str text = block_text(item->checked, "mode");
    unsigned mode = 0;
    bool good = text.len == 4 && text.at[0] == '0';
    for (size_t i = 1; i < text.len && good; i++) {
        good = text.at[i] >= '0' && text.at[i] <= '7';
        mode = mode * 8 + (unsigned)(text.at[i] - '0');
    }
    if (!good)
        item_complain(l, item, value_get(item->checked, STR("mode")),
                      "%s: \"mode\": expected a text like \"0660\", got \"%.*s\"", item_title(l, item), STR_ARGS(text));
    return mode;
}

static const struct filter_value *own_block(struct loader *l, const struct conf_item *item, const char *key,
                                            enum conf_place place)
{
    static const struct filter_value nothing = {.type = VALUE_MAP};
    const struct filter_value *own = value_get(item->checked, str_of(key));
    return block_check(l, item, own ? own : &nothing, place, item_title(l, item), false);
}

static void milter_build(struct loader *l, struct conf_item *item)
{
    struct milter_conf *m = &l->conf->milters[l->conf->nmilters];
    item->checked = block_check(l, item, &item->body, IN_MILTER, item_title(l, item), false);
    const struct filter_value *limits = own_block(l, item, "limits", IN_MILTER_LIMITS),
                              *timeouts = own_block(l, item, "timeouts", IN_MILTER_TIMEOUTS);
    m->visit = (struct visit_conf){.name = item->name,
                                   .hostname = l->conf->smtp.mail.hostname,
                                   .chain = chain_named(l, item),
                                   .limits = l->conf->smtp.limits};
    m->visit.limits.header_size = (uint64_t)block_integer(limits, "header_size");
    m->visit.limits.hold_memory = (uint64_t)block_integer(limits, "hold_memory");
    m->visit.limits.recipients = (uint32_t)block_integer(limits, "recipients");
    m->visit.limits.hops = m->visit.limits.loops = 0; /* left to the MTA, which does not send its own Received field */
    m->file = item->file;
    m->line = item->line;
    m->clients = clients_of(l, item);
    m->mode = mode_of(l, item);
    m->group = block_text(item->checked, "group");
    m->connections = (uint32_t)block_integer(item->checked, "connections");
    m->progress = block_milliseconds(item->checked, "progress");
    m->timeouts =
        (struct milter_timeouts){block_milliseconds(timeouts, "packet"), block_milliseconds(timeouts, "idle"),
                                 block_milliseconds(timeouts, "write"), block_milliseconds(timeouts, "command"),
                                 block_milliseconds(timeouts, "end_by")};
    m->naddresses = addresses_build(l, item, &m->addresses);
    l->conf->nmilters++;
    if (item_named(l, "listen", item->name))
        item_complain(l, item, NULL, "%s: a listen has this name already", item_title(l, item));
}

void milters_build(struct loader *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->nitems; i++)
        n += item_is_a(l->items[i], "milter");
    l->conf->milters = arena_alloc(&l->conf->smtp.mail.arena, (n + 1) * sizeof(struct milter_conf));
    for (size_t i = 0; i < l->nitems; i++)
        if (item_is_a(l->items[i], "milter"))
            milter_build(l, l->items[i]);
}

enum { PRESET = 30000 }; /* default of a filter's timeout in milliseconds: this value counts as not set */

static void filter_judge(struct loader *l, const struct milter_conf *m, const struct filter *f)
{
    const struct milter_timeouts *t = &m->timeouts;
    if (f->stages & (1u << FILTER_REPLY))
        complain(l->complaints, false, f->file, f->line,
                 "filter \"%.*s\" has a reply hook, and milter \"%.*s\" its chain: a milter never hears the next hop's "
                 "reply; leave this filter out, or give "
                 "the milter a chain of its own",
                 STR_ARGS(f->name), STR_ARGS(m->visit.name));
    if (f->timeout > t->command && f->timeout > PRESET)
        complain(l->complaints, true, f->file, f->line,
                 "filter \"%.*s\": timeout = %llus is cut to %llus in milter \"%.*s\" (timeouts: command): Postfix "
                 "waits 30 s, milter_command_timeout",
                 STR_ARGS(f->name), (unsigned long long)f->timeout / 1000, (unsigned long long)t->command / 1000,
                 STR_ARGS(m->visit.name));
    if (f->message_timeout > t->end_by)
        complain(l->complaints, true, f->file, f->line,
                 "filter \"%.*s\": message_timeout = %llus is cut to %llus in milter \"%.*s\" (timeouts: end_by): "
                 "Sendmail waits 5 minutes",
                 STR_ARGS(f->name), (unsigned long long)f->message_timeout / 1000, (unsigned long long)t->end_by / 1000,
                 STR_ARGS(m->visit.name));
}

void milters_judge(struct loader *l)
{
    for (size_t i = 0; i < l->conf->nmilters; i++)
        for (size_t k = 0; k < l->conf->milters[i].visit.chain->nfilters; k++)
            filter_judge(l, &l->conf->milters[i], l->conf->milters[i].visit.chain->filters[k]);
}
