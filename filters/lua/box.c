/* box.c - the Lua state of a script in a worker, and the accounts of its memory.
 *
 * All clients of a worker share the Lua state of a script. Each block of its memory is charged to the account of the
 * session whose call allocated it; when the block is freed, the same account is credited, even if the call of another session
 * frees it. One session (its call and its vars) may hold `memory` octets; a call that needs more fails alone. The state as a whole may hold
 * WHOLE times `memory`. Above that, the sessions of the client that holds most are evicted; a call of another client
 * never fails for it. All connections of one client count together.
 *
 * What is left when calls have ended is garbage, or kept by the script in variables of its own. When after a full
 * collection more than `memory` is left, new sessions get a new state; calls and vars in the old one come to their end.
 *
 * A coroutine serves the calls of one session after another, so its memory (its stack above all) has an account of its own, whose
 * octets also count as held by the session whose call runs in it. Freed small blocks are kept in lists by size and used again,
 * since calls need many of the same few sizes: at most CELLS_KEPT of each size.
 *
 * Memory outside of Lua counts too: of patterns to the account, of arenas of the call and the transaction to the run at
 * hand, as nothing else of this thread runs meanwhile and makes arena_total() grow. */
#include "filters/lua/host.h"
#include "base/cidr.h"
#include "base/fault.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define memory_hide(at, size) ASAN_POISON_MEMORY_REGION(at, size)
#define memory_show(at, size) ASAN_UNPOISON_MEMORY_REGION(at, size)
#else
#define memory_hide(at, size) ((void)(at), (void)(size))
#define memory_show(at, size) ((void)(at), (void)(size))
#endif

/* Small blocks may exceed the limit a little, whatever arenas hold: a finalizer needs a stack frame, and without it a buffer of the
 * auxiliary library would never be freed. */
enum { WHOLE = 4, CAP = 6, SMALL = 256, RESERVE = 16384 };
enum { CELLS_KEPT = 64, THREAD_MOST = 4096 }; /* free blocks of one size; octets of a coroutine that is used again */

/* ---- small blocks ------------------------------------------------------------------------------------------------ */

/* Cells are of the sizes that malloc has anyway: 24, 40, 56 ... octets. 0: it is too large for one. */
static size_t cell_kind(size_t size)
{
    size_t kind = (size + 7) / 16;
    return kind < LUA_CELL_KINDS ? kind : 0;
}

static void *cell_take(struct lua_box *box, size_t kind)
{
    struct lua_cells *cells = &box->cells[kind];
    struct lua_cell *c = cells->first;
    if (!c)
        return malloc(kind * 16 + 8);
    memory_show(c, kind * 16 + 8);
    cells->first = c->next;
    cells->n--;
    return c;
}

static void cell_give(struct lua_box *box, void *at, size_t kind)
{
    struct lua_cells *cells = &box->cells[kind];
    struct lua_cell *c = at;
    if (cells->n >= CELLS_KEPT) {
        free(at);
        return;
    }
    c->next = cells->first;
    cells->first = c;
    cells->n++;
    memory_hide(c, kind * 16 + 8);
}

static void cells_close(struct lua_box *box)
{
    for (size_t kind = 0; kind < LUA_CELL_KINDS; kind++)
        while (box->cells[kind].n) {
            struct lua_cell *c = box->cells[kind].first;
            memory_show(c, kind * 16 + 8);
            box->cells[kind].first = c->next;
            box->cells[kind].n--;
            free(c);
        }
}

/* As realloc() does. */
static void *block_resize(struct lua_box *box, void *at, size_t old, size_t size)
{
    size_t from = old ? cell_kind(old) : 0, to = size ? cell_kind(size) : 0;
    if (from && from == to)
        return at;
    if (!from && !to && size)
        return realloc(at, size);
    void *got = to ? cell_take(box, to) : size ? malloc(size) : NULL;
    must(got || size > old || !size); /* Lua requires that shrinking a block never fails */
    if (size && !got)
        return NULL;
    if (at && got)
        memcpy(got, at, min_size(old, size));
    if (from)
        cell_give(box, at, from);
    else
        free(at);
    return got;
}

/* ---- accounts ---------------------------------------------------------------------------------------------------- */

static void count(struct lua_account *a, size_t more, size_t less)
{
    struct lua_box *box = a->box;
    a->held += more - less;
    box->held += more - less;
    if (a->user)
        a->user->held += more - less;
    if (a->living)
        return;
    box->left += more - less;
    if (!a->held && a != &box->own)
        free(a);
}

static uint64_t client_of(struct filter_call *call)
{
    struct filter_text ip = filter_fact(call, "client.ip");
    struct cidr net;
    if (!ip.at || !cidr_of_ip((struct str){ip.at, ip.len}, &net))
        return 0;
    cidr_mask(&net, net.v6 ? 64 : 32);
    return str_hash((struct str){(const char *)net.octets, sizeof net.octets}, 1);
}

static struct lua_account *account_make(struct lua_box *box)
{
    struct lua_account *a = must_grow(NULL, sizeof *a);
    *a = (struct lua_account){.box = box, .living = true};
    return a;
}

static void account_end(struct lua_account *a)
{
    a->living = false;
    a->box->left += a->held;
    if (!a->held)
        free(a);
}

struct lua_account *account_open(struct lua_box *box, struct filter_call *call)
{
    struct lua_account *a = account_make(box);
    struct lua_session *s = filter_keep(call, LIFE_SESSION);
    if (s && !s->client)
        s->client = client_of(call);
    a->client = s ? s->client : 0;
    a->next = box->accounts;
    if (box->accounts)
        box->accounts->link = &a->next;
    a->link = &box->accounts;
    box->accounts = a;
    return a;
}

void account_drop_vars(struct lua_account *a, enum lua_vars which)
{
    if (a->vars[which])
        luaL_unref(a->box->L, LUA_REGISTRYINDEX, a->vars[which]);
    a->vars[which] = 0;
}

void account_close(struct lua_account *a)
{
    struct lua_box *box = a->box;
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    account_end(a);
    if (box->retired && !box->accounts)
        box_close(box);
}

struct lua_account *account_charge(lua_State *L, size_t octets)
{
    struct lua_box *box = run_of(L)->box;
    struct lua_account *a = box->running ? box->running : &box->own;
    count(a, octets, 0);
    return a;
}

void account_discharge(struct lua_account *a, size_t octets)
{
    count(a, 0, octets);
}

/* ---- the allocator ----------------------------------------------------------------------------------------------- */

static size_t outside(const struct lua_box *box)
{
    int64_t n = box->arenas_from ? (int64_t)arena_total() - box->arenas_from : 0;
    return n > 0 ? (size_t)n : 0;
}

static inline bool may_take(const struct lua_box *box, size_t more, size_t arenas, size_t reserve)
{
    return !box->running || (box->running->held + box->foreign + arenas + more <= box->limit + reserve &&
                             box->held + more <= CAP * box->limit + reserve);
}

/* A pointer to its account precedes each block. A block that grows keeps its account; the growth also counts against
 * the limit of the call that runs, since tables that all calls share grow because of one of them. */
static void *box_alloc(void *data, void *at, size_t old, size_t size)
{
    struct lua_box *box = data;
    struct lua_account **block = at ? (struct lua_account **)at - 1 : NULL;
    struct lua_account *owner = block ? *block : box->running ? box->running : &box->own;
    bool small = size <= SMALL;
    old = at ? old + sizeof *block : 0; /* for a new block Lua passes the kind of object in place of the old size */
    size += size ? sizeof *block : 0;
    if (size > old && (!may_take(box, size - old, small ? 0 : outside(box), small ? RESERVE : 0) ||
                       fault_strikes(FAULT_MEMORY)))
        return NULL;
    block = block_resize(box, block, old, size);
    if (!block && size)
        return NULL;
    if (size > old && owner != box->running && (!owner->user || owner->user != box->running))
        box->foreign += size - old;
    count(owner, size, old);
    if (!block)
        return NULL;
    *block = owner;
    return block + 1;
}

void box_check(lua_State *L)
{
    const struct lua_box *box = run_of(L)->box;
    if (!box->arenas_from || may_take(box, 0, outside(box), 0))
        return;
    lua_gc(L, LUA_GCCOLLECT);
    if (!may_take(box, 0, outside(box), 0))
        lua_newuserdatauv(L, box->limit, 0); /* fails, and so raises Lua's own out-of-memory error */
}

void box_enter(struct lua_box *box, struct lua_account *a)
{
    box->running = a;
    box->foreign = 0;
}

void box_leave(struct lua_box *box)
{
    box->running = NULL;
}

/* ---- coroutines -------------------------------------------------------------------------------------------------- */

static int thread_make(lua_State *L)
{
    struct lua_thread *t = lua_touserdata(L, 1);
    t->co = lua_newthread(L);
    t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static void thread_drop(struct lua_box *box, struct lua_thread *t)
{
    luaL_unref(box->L, LUA_REGISTRYINDEX, t->ref);
    account_end(t->account);
}

bool thread_take(struct lua_box *box, struct lua_account *user, struct lua_thread *t)
{
    if (box->nidle) {
        *t = box->idle[--box->nidle];
    } else {
        *t = (struct lua_thread){.account = account_make(box)};
        box_enter(box, t->account);
        lua_pushcfunction(box->L, thread_make);
        lua_pushlightuserdata(box->L, t);
        bool made = lua_pcall(box->L, 1, 0, 0) == LUA_OK;
        lua_settop(box->L, 0);
        box_leave(box);
        if (!made) {
            account_end(t->account);
            *t = (struct lua_thread){0};
            return false;
        }
    }
    t->account->user = user;
    user->held += t->account->held;
    return true;
}

void thread_give(struct lua_box *box, struct lua_thread *t, bool clean)
{
    t->account->user->held -= t->account->held;
    t->account->user = NULL;
    if (clean && box->nidle < LUA_THREADS_IDLE && t->account->held <= THREAD_MOST)
        box->idle[box->nidle++] = *t;
    else
        thread_drop(box, t);
    *t = (struct lua_thread){0};
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

struct lua_box *box_open(struct lua_host *host)
{
    struct lua_box *box = must_alloc(sizeof *box);
    box->host = host;
    box->limit = (size_t)host->memory;
    box->own.box = box;
    box_enter(box, &box->own);
    box->L = lua_newstate(box_alloc, box);
    if (!box->L) {
        cells_close(box);
        free(box);
        return NULL;
    }
    *(struct lua_run **)lua_getextraspace(box->L) = NULL;
    lua_pushcfunction(box->L, sandbox_open);
    bool made = lua_pcall(box->L, 0, 0, 0) == LUA_OK;
    box_leave(box);
    if (made)
        return box;
    box_close(box);
    return NULL;
}

void box_close(struct lua_box *box)
{
    while (box->accounts) {
        struct lua_account *a = box->accounts;
        box->retired = false;
        account_close(a);
    }
    while (box->nidle)
        thread_drop(box, &box->idle[--box->nidle]);
    box_leave(box); /* without a limit, since finalizers need memory to free buffers */
    lua_close(box->L);
    must(box->held == 0);
    cells_close(box);
    free(box);
}

void box_sweep(struct lua_box *box)
{
    box->swept = min_size(box->swept, box->left);
    if (box->left <= box->swept + box->limit / 2)
        return;
    lua_gc(box->L, LUA_GCCOLLECT);
    box->swept = box->left;
}

bool box_is_spent(struct lua_box *box)
{
    box_sweep(box);
    return box->swept > box->base + box->limit;
}

void box_retire(struct lua_box *box)
{
    box->retired = true;
    if (!box->accounts)
        box_close(box);
}

static int by_client(const void *a, const void *b)
{
    uint64_t x = (*(struct lua_account *const *)a)->client, y = (*(struct lua_account *const *)b)->client;
    return x < y ? -1 : x > y;
}

/* Index of an account: of the client whose accounts together hold the most octets, the one that holds the most. `all` is sorted by client. */
static size_t largest(struct lua_account *const *all, size_t n)
{
    size_t found = 0, most = 0;
    for (size_t i = 0; i < n;) {
        size_t best = i, sum = 0;
        for (uint64_t client = all[i]->client; i < n && all[i]->client == client; i++) {
            sum += all[i]->held;
            best = all[i]->held > all[best]->held ? i : best;
        }
        if (sum > most) {
            most = sum;
            found = best;
        }
    }
    return found;
}

/* Evicts an account: its suspended calls fail, and if it has lost vars, so does the next call of the session. */
static void evict(struct lua_account *a)
{
    for (struct lua_run *run = a->runs; run; run = run->next)
        run_abandon(run, "the calls of all clients held too much memory, and this client most (option memory)");
    a->lost = a->vars[VARS_SESSION] || a->vars[VARS_TRANSACTION];
    account_drop_vars(a, VARS_SESSION);
    account_drop_vars(a, VARS_TRANSACTION);
}

unsigned box_relieve(struct lua_box *box)
{
    const size_t most = WHOLE * box->limit, wanted = most / 4 * 3; /* frees more than necessary, so that the next call need not evict again */
    if (box->held <= most)
        return 0;
    lua_gc(box->L, LUA_GCCOLLECT);
    size_t n = 0, held = box->held;
    unsigned evicted = 0;
    if (held <= wanted)
        return 0;
    for (struct lua_account *a = box->accounts; a; a = a->next)
        n++;
    struct lua_account **all = must_alloc(max_size(n, 1) * sizeof(struct lua_account *)), *a;
    n = 0;
    for (a = box->accounts; a; a = a->next)
        all[n++] = a;
    qsort(all, n, sizeof(struct lua_account *), by_client);
    for (; held > wanted && n; evicted++) {
        size_t i = largest(all, n);
        held -= min_size(held, all[i]->held);
        evict(all[i]);
        memmove(&all[i], &all[i + 1], (--n - i) * sizeof(struct lua_account *));
    }
    free(all);
    lua_gc(box->L, LUA_GCCOLLECT);
    return evicted;
}
