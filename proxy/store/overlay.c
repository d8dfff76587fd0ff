/* overlay.c - a memory store that is laid over a store which can only be read. It records which keys were read from below, so that a key
 * which was deleted here is not read again. */
#include "store/memory.h"
#include "store/store.h"

enum { ASKED_OCTETS = 64 << 20 }; /* for about 400,000 keys; beyond that the oldest ones may be read again */
static const double for_ever = 1e10;

struct store_overlay {
    struct store_below *below; /* NULL: it does not answer any more */
    struct store *asked;
};

static bool ask(struct store_overlay *o, struct store *s, struct str key)
{
    FILE *from = o->below->image(o->below, key);
    bool good = from && overlay_take(s, key, from);
    if (from)
        fclose(from);
    return good;
}

bool store_lay_over(struct store *s, struct store_below *below)
{
    struct store_overlay *o = must_alloc(sizeof *o);
    o->below = below;
    o->asked = store_memory_open(ASKED_OCTETS);
    s->overlay = o;
    if (ask(o, s, STR("")))
        return true;
    overlay_free(o);
    s->overlay = NULL;
    return false;
}

void overlay_look(struct store_overlay *o, struct store *s, struct str key, double now)
{
    struct arena arena = {0};
    struct filter_value first;
    struct store_request mark = {.op = STORE_ADD, .key = key, .value_is_integer = true, .ttl = for_ever};
    if (!o->below || store_now(o->asked, &mark, now, &arena, &first) || !first.integer)
        return;
    if (!ask(o, s, key))
        o->below = NULL;
}

void overlay_free(struct store_overlay *o)
{
    if (!o)
        return;
    store_drop(o->asked);
    free(o);
}
