/* model.c - the life of a configuration snapshot.
 *
 * Owns nothing but the count: proxy/conf/load.c builds the snapshot, workers hold it, the last one to let go closes what it
 * refers to. Never changes a snapshot after loading. */
#include "smtp/model.h"
#include "store/store.h"

void smtp_conf_take_over(struct smtp_conf *conf, const struct smtp_conf *old)
{
    for (size_t i = 0; i < conf->mail.ntables; i++)
        for (size_t k = 0; k < old->mail.ntables; k++)
            if (table_take_over(conf->mail.tables[i], old->mail.tables[k])) {
                log_say(LOG_WARNING, "%s: it may still be written, the content read before stays in use", table_path(conf->mail.tables[i]));
                break;
            }
    for (size_t i = 0; i < conf->mail.nstores; i++)
        for (size_t k = 0; k < old->mail.nstores; k++) {
            struct store_conf *s = &conf->mail.stores[i];
            const struct store_conf *was = &old->mail.stores[k];
            if (!str_equal(s->name, was->name) || !str_equal(s->kind, was->kind))
                continue;
            store_drop(s->store);
            s->store = store_hold(was->store);
            if (s->size != was->size)
                store_memory_bound(s->store, s->size);
        }
}

struct smtp_conf *smtp_conf_hold(struct smtp_conf *conf)
{
    __atomic_add_fetch(&conf->refs, 1, __ATOMIC_RELAXED);
    return conf;
}

bool smtp_conf_is_left(const struct smtp_conf *conf)
{
    return __atomic_load_n(&conf->refs, __ATOMIC_ACQUIRE) == 1;
}

void smtp_conf_drop(struct smtp_conf *conf)
{
    if (!conf || __atomic_sub_fetch(&conf->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = conf->mail.nfilters; i-- > 0;)
        filter_close(conf->mail.filters[i]);
    for (size_t i = 0; i < conf->mail.ntables; i++)
        table_close(conf->mail.tables[i]);
    for (size_t i = 0; i < conf->nlistens; i++)
        if (conf->listens[i].tls)
            tls_drop(conf->listens[i].tls);
    for (size_t i = 0; i < conf->nbackends; i++)
        if (conf->backends[i].tls)
            tls_drop(conf->backends[i].tls);
    for (size_t i = 0; i < conf->mail.nstores; i++)
        store_drop(conf->mail.stores[i].store);
    free(conf->mail.tables);
    arena_reset(&conf->mail.arena);
    free(conf);
}
