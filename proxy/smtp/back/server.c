/* server.c - the register of servers, the rise and fall of each, and the choice among several.
 *
 * A server that nobody holds is kept (a reload drops and holds again within moments) until there are many of them. */
#include "smtp/back/server.h"

enum {
    UNHELD_MOST = 64,
    CHECK_SOON = 1000,   /* milliseconds between two checks while it is rising or falling */
    LOOK_DOWN = 5000,    /* and while it is down */
    LOOK_PLAIN = 300000, /* no health checks asked for: what its EHLO says is refreshed all the same */
    LOOK_PLAIN_AGAIN = 10000
};

static struct {
    pthread_mutex_t lock;
    struct server *first;
    atomic_uint version;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

unsigned servers_version(void)
{
    return atomic_load_explicit(&all.version, memory_order_acquire);
}

static void changed(void)
{
    atomic_fetch_add_explicit(&all.version, 1, memory_order_release);
}

/* Whatever makes it another conversation makes it another server. */
static struct str key_of(const struct backend_conf *b, const struct server_conf *s, struct arena *arena)
{
    return arena_print(arena, "%.*s %d %d %d %d %.*s %.*s", STR_ARGS(s->address.text), b->protocol == SPEAKS_LMTP, b->tls_mode, b->tls_implicit,
                       b->identity, STR_ARGS(b->tls_name), STR_ARGS(b->helo));
}

static void release(struct server *s)
{
    pthread_mutex_destroy(&s->lock);
    free(s->key);
    free(s);
}

/* Under the lock. The oldest stand last. */
static void forget_unheld(unsigned most)
{
    unsigned n = 0;
    for (struct server **at = &all.first, *s; (s = *at);) {
        if (!s->holders && ++n > most) {
            *at = s->next;
            release(s);
        } else {
            at = &s->next;
        }
    }
}

struct server *server_hold(const struct backend_conf *b, const struct server_conf *conf, unsigned workers)
{
    struct arena arena = {0};
    struct str key = key_of(b, conf, &arena);
    pthread_mutex_lock(&all.lock);
    struct server *s = all.first;
    while (s && strcmp(s->key, key.at) != 0)
        s = s->next;
    if (!s) {
        s = must_alloc_lines(sizeof *s + workers * sizeof s->tallies[0]);
        s->workers = workers;
        s->key = must_alloc(key.len + 1);
        memcpy(s->key, key.at, key.len);
        pthread_mutex_init(&s->lock, NULL);
        atomic_init(&s->up, true);
        s->next = all.first;
        all.first = s;
        s->holders = 1;
        forget_unheld(UNHELD_MOST);
    } else {
        must(s->workers == workers);
        s->holders++;
    }
    pthread_mutex_unlock(&all.lock);
    arena_reset(&arena);
    return s;
}

void server_drop(struct server **server)
{
    pthread_mutex_lock(&all.lock);
    must(*server && (*server)->holders);
    (*server)->holders--;
    pthread_mutex_unlock(&all.lock);
    *server = NULL;
}

void servers_forget(void)
{
    pthread_mutex_lock(&all.lock);
    forget_unheld(0);
    pthread_mutex_unlock(&all.lock);
}

/* ---- up and down ---------------------------------------------------------------------------------------------------- */

static void say_change(const struct server *s, const struct backend_conf *b, bool up, const char *why)
{
    int len = (int)strcspn(s->key, " ");
    if (up)
        log_say(LOG_WARNING, "backend %.*s: server %.*s is up again", STR_ARGS(b->hop.name), len, s->key);
    else
        log_say(LOG_WARNING, "backend %.*s: server %.*s is down: %s", STR_ARGS(b->hop.name), len, s->key, why);
}

void server_succeeded(struct server *s, const struct backend_conf *b, const struct capabilities *can, uint64_t now)
{
    bool news = !atomic_exchange(&s->checked, true), up_again = false;
    pthread_mutex_lock(&s->lock);
    s->bad = 0;
    s->why[0] = 0;
    if (!atomic_load(&s->up) && ++s->good >= b->rise) {
        atomic_store(&s->up, true);
        up_again = news = true;
    }
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*): padding is zeroed with the rest */
    if (can && (!s->known || memcmp(&s->can, can, sizeof *can) != 0)) {
        memcpy(&s->can, can, sizeof *can);
        s->known = news = true;
    }
    bool up = atomic_load(&s->up);
    pthread_mutex_unlock(&s->lock);
    uint64_t steady = b->health ? b->health : LOOK_PLAIN;
    atomic_store(&s->next_check, now + (up ? steady : min_u64(steady, CHECK_SOON)));
    if (news)
        changed();
    if (up_again)
        say_change(s, b, true, NULL);
}

void server_failed(struct server *s, const struct backend_conf *b, const char *why, uint64_t now)
{
    bool news = !atomic_exchange(&s->checked, true), falls = false;
    pthread_mutex_lock(&s->lock);
    s->good = 0;
    snprintf(s->why, sizeof s->why, "%s", why);
    if (s->bad < UINT32_MAX)
        s->bad++;
    /* Without health checks nobody would notice that it is back, so it is never taken out. */
    if (b->health && s->bad >= b->fall && atomic_load(&s->up)) {
        atomic_store(&s->up, false);
        falls = news = true;
    }
    bool up = atomic_load(&s->up);
    pthread_mutex_unlock(&s->lock);
    uint64_t again = b->health ? min_u64(b->health, up ? CHECK_SOON : LOOK_DOWN) : LOOK_PLAIN_AGAIN;
    atomic_store(&s->next_check, now + again);
    if (news)
        changed();
    if (falls)
        say_change(s, b, false, why);
}

bool server_claim_check(struct server *s, uint64_t now, uint64_t by)
{
    uint64_t due = atomic_load(&s->next_check);
    return due <= now && atomic_compare_exchange_strong(&s->next_check, &due, by);
}

void server_check_soon(struct server *s, uint64_t now)
{
    uint64_t due = atomic_load(&s->next_check);
    if (due > now + CHECK_SOON && due <= now + LOOK_DOWN) /* later than that: a check is under way */
        atomic_compare_exchange_strong(&s->next_check, &due, now + CHECK_SOON);
}

void server_why(struct server *s, char *text, size_t room)
{
    pthread_mutex_lock(&s->lock);
    snprintf(text, room, "%s", s->why);
    pthread_mutex_unlock(&s->lock);
}

bool server_is_known(struct server *s, struct capabilities *can)
{
    pthread_mutex_lock(&s->lock);
    bool known = s->known;
    if (known)
        *can = s->can;
    pthread_mutex_unlock(&s->lock);
    return known;
}

bool server_enter(struct server *s, uint32_t most)
{
    unsigned n = atomic_load(&s->connections);
    while (!most || n < most)
        if (atomic_compare_exchange_weak(&s->connections, &n, n + 1))
            return true;
    return false;
}

void server_leave(struct server *s)
{
    must(atomic_fetch_sub(&s->connections, 1) > 0);
}

/* Nobody else writes there: no locked instruction, and the line stays where it is. */
static void count(struct server *s, unsigned worker, int by)
{
    must(worker < s->workers);
    atomic_uint *at = &s->tallies[worker].in_use;
    unsigned n = atomic_load_explicit(at, memory_order_relaxed);
    must(by > 0 || n > 0);
    atomic_store_explicit(at, n + (unsigned)by, memory_order_relaxed);
}

void server_use(struct server *s, unsigned worker)
{
    count(s, worker, 1);
}

void server_unuse(struct server *s, unsigned worker)
{
    count(s, worker, -1);
}

unsigned server_in_use(const struct server *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->workers; i++)
        n += atomic_load_explicit(&s->tallies[i].in_use, memory_order_relaxed);
    return n;
}

/* ---- the choice ----------------------------------------------------------------------------------------------------- */

static bool is_lighter(const struct candidate *a, const struct candidate *b)
{
    return ((uint64_t)a->in_use + 1) * b->weight < ((uint64_t)b->in_use + 1) * a->weight;
}

int server_choose(const struct candidate *all_of_them, size_t n, enum balance balance)
{
    bool primary = false;
    const struct candidate *lightest = NULL;
    for (size_t i = 0; i < n; i++)
        primary |= all_of_them[i].up && !all_of_them[i].backup;
    for (size_t i = 0; i < n; i++) {
        const struct candidate *c = &all_of_them[i];
        if (c->usable && c->up && c->backup != primary && (!lightest || is_lighter(c, lightest)))
            lightest = c;
    }
    if (!lightest)
        return -1;
    /* Each that may be next gains its weight; the one that has most is it, and gives back what all have gained. */
    int64_t gained = 0;
    int best = -1;
    for (size_t i = 0; i < n; i++) {
        const struct candidate *c = &all_of_them[i];
        bool equal = balance == BALANCE_ROUND_ROBIN || (!is_lighter(c, lightest) && !is_lighter(lightest, c));
        if (!c->usable || !c->up || c->backup == primary || !equal)
            continue;
        *c->turn += c->weight;
        gained += c->weight;
        if (best < 0 || *c->turn > *all_of_them[best].turn)
            best = (int)i;
    }
    *all_of_them[best].turn -= gained;
    return best;
}
