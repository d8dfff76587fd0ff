/* overlay.c - a memory store over one that it can only ask: which keys have been asked is kept beside it, so that one
 * that was taken away here does not come back. */
#include "store/memory.h"
#include "store/store.h"

enum { ASKED_OCTETS = 64 << 20 }; /* of keys, some 400,000: an older one would be asked again */
static const double for_ever = 1e10;

struct store_overlay {
    struct store_below *below; /* NULL: it cannot be asked any more */
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
