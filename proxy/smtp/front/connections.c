/* connections.c - who is connected: how many in all, and how many from each client address. Shared by all workers; one lock,
 * taken when a session begins and when it ends, never in between.
 *
 * An address that has nobody left is forgotten at once, so the table is as large as the number of connected clients. */
#include "smtp/front/connections.h"
#include <pthread.h>

enum { SLOTS_FIRST = 256 };
struct guest {
    struct guest *next;
    uint32_t sessions;
    uint8_t len;
    char ip[46];
};
struct connections { /* what each session writes is one cache line */
    pthread_mutex_t lock;
    uint32_t total;
    size_t guests;
    alignas(CACHE_LINE) size_t mask;
    struct guest **slots;
    uint64_t seed;
};

struct connections *connections_open(void)
{
    struct connections *c = must_alloc_lines(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->mask = SLOTS_FIRST - 1;
    c->slots = must_alloc(SLOTS_FIRST * sizeof(struct guest *));
    c->seed = (uint64_t)(uintptr_t)c * 0x9e3779b97f4a7c15u;
    return c;
}

void connections_close(struct connections *c)
{
    if (!c)
        return;
    for (size_t i = 0; i <= c->mask; i++)
        for (struct guest *g = c->slots[i], *next; g; g = next) {
            next = g->next;
            free(g);
        }
    pthread_mutex_destroy(&c->lock);
    free(c->slots);
    free(c);
}

static struct guest **find(struct connections *c, struct str ip)
{
    struct guest **at = &c->slots[str_hash(ip, c->seed) & c->mask];
    while (*at && !str_equal((struct str){(*at)->ip, (*at)->len}, ip))
        at = &(*at)->next;
    return at;
}

static void grow(struct connections *c)
{
    size_t mask = c->mask * 2 + 1;
    struct guest **slots = must_alloc((mask + 1) * sizeof(struct guest *));
    for (size_t i = 0; i <= c->mask; i++)
        for (struct guest *g = c->slots[i], *next; g; g = next) {
            struct guest **to = &slots[str_hash((struct str){g->ip, g->len}, c->seed) & mask];
            next = g->next;
            g->next = *to;
            *to = g;
        }
    free(c->slots);
    c->slots = slots;
    c->mask = mask;
}

static struct str key_of(struct str ip) /* "" of unix sockets is a client too */
{
    return str_part(ip, 0, sizeof((struct guest *)0)->ip);
}

enum connections_says connections_enter(struct connections *c, struct str ip, uint32_t total, uint32_t per_client)
{
    enum connections_says says = CONNECTIONS_WELCOME;
    ip = key_of(ip);
    pthread_mutex_lock(&c->lock);
    struct guest **at = find(c, ip);
    if (total && c->total >= total) {
        says = CONNECTIONS_FULL;
    } else if (per_client && *at && (*at)->sessions >= per_client) {
        says = CONNECTIONS_TOO_MANY;
    } else {
        if (!*at) {
            struct guest *g = *at = must_alloc(sizeof *g);
            g->len = (uint8_t)ip.len;
            memcpy(g->ip, ip.len ? ip.at : "", ip.len);
            c->guests++;
        }
        (*at)->sessions++;
        c->total++;
        if (c->guests > c->mask)
            grow(c);
    }
    pthread_mutex_unlock(&c->lock);
    return says;
}

void connections_leave(struct connections *c, struct str ip)
{
    pthread_mutex_lock(&c->lock);
    struct guest **at = find(c, key_of(ip)), *g = *at;
    must(g && c->total); /* who leaves has entered */
    c->total--;
    if (--g->sessions == 0) {
        *at = g->next;
        c->guests--;
        free(g);
    }
    pthread_mutex_unlock(&c->lock);
}
