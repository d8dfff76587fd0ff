/* guard.c - limits the CPU time of scripts, by a watchdog thread. Memory is limited in box.c.
 *
 * A permanent count hook would make every script 2.5 times slower. Instead, the watchdog checks every 5 ms what each thread runs, and sends a
 * signal only to a thread whose script has used up its CPU time; the signal handler sets a hook. To make sure that the script ends:
 *   - the hook stays set with count 1 until the run has ended, so that a pcall which catches the error is interrupted again at once;
 *   - it also stays set during lua_resetthread, which runs __close functions of the script;
 *   - a coroutine that was interrupted is never used again;
 *   - loops in C poll a flag that the handler also sets, because a hook interrupts the virtual machine only.
 * The limit is the CPU time of the thread, so load of other processes does not count. Under ThreadSanitizer signals are not delivered during
 * pure Lua code; there a count hook reads the clock. */
#include "filters/lua/host.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { TICK_MS = 5, IDLE_TICKS = 200 };

struct cpu_guard { /* one per thread that runs scripts */
    struct cpu_guard *next;
    pthread_t thread;
    clockid_t clock;
    _Atomic(lua_State *) running;
    atomic_uint_fast64_t seq;      /* odd: a script runs */
    atomic_uint_fast64_t kill_seq; /* the run the signal is meant for */
    atomic_int_fast64_t limit;     /* nanoseconds */
    atomic_bool due;
    uint_fast64_t seen; /* used by the watchdog only */
    atomic_int_fast64_t seen_at;
    int64_t entered; /* start of the run, where a count hook reads the clock */
    char place[96];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static struct cpu_guard *guards;
static atomic_bool asleep;
static __thread struct cpu_guard *mine __attribute__((tls_model("initial-exec")));

static int64_t clock_of(clockid_t id)
{
    struct timespec t;
    return clock_gettime(id, &t) ? 0 : (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- in the thread of the script --------------------------------------------------------------------------------- */

/* Records the line of the script that was interrupted, at the first call; goes up the stack past C functions. */
static void note_place(lua_State *L)
{
    lua_Debug ar;
    for (int level = 0; mine && !mine->place[0] && lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
            snprintf(mine->place, sizeof mine->place, "%s:%d", ar.short_src, ar.currentline);
}

static void stop(lua_State *L, lua_Debug *ar)
{
    note_place(L);
    lua_pushliteral(L, "the CPU time is used up");
    lua_error(L);
}

static void arm(struct cpu_guard *g, lua_State *L)
{
    atomic_store(&g->due, true);
    lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

#ifdef __SANITIZE_THREAD__
static void poll_clock(lua_State *L, lua_Debug *ar)
{
    struct cpu_guard *g = mine;
    if (clock_of(CLOCK_THREAD_CPUTIME_ID) - g->entered < atomic_load(&g->limit))
        return;
    arm(g, L);
    stop(L, ar);
}
#else
static void on_signal(int number)
{
    struct cpu_guard *g = mine;
    lua_State *L = g ? atomic_load(&g->running) : NULL;
    if (L && atomic_load(&g->kill_seq) == atomic_load(&g->seq))
        arm(g, L);
}
#endif

bool guard_is_due(void)
{
#ifdef __SANITIZE_THREAD__
    if (mine && atomic_load(&mine->running) && !atomic_load(&mine->due) &&
        clock_of(CLOCK_THREAD_CPUTIME_ID) - mine->entered >= atomic_load(&mine->limit))
        arm(mine, atomic_load(&mine->running));
#endif
    return mine && atomic_load_explicit(&mine->due, memory_order_relaxed);
}

void guard_poll(lua_State *L)
{
    if (!guard_is_due())
        return;
    note_place(L);
    luaL_error(L, "the CPU time is used up");
}

/* CPU time since the watchdog first saw the run, which is up to one tick less than the time really used. */
int guard_used_ms(void)
{
#ifdef __SANITIZE_THREAD__
    int64_t from = mine ? mine->entered : 0;
#else
    int64_t from = mine ? atomic_load(&mine->seen_at) : 0;
#endif
    return mine ? (int)((clock_of(CLOCK_THREAD_CPUTIME_ID) - from) / 1000000) : 0;
}

const char *guard_place(void)
{
    return mine ? mine->place : "";
}

/* ---- the watchdog ------------------------------------------------------------------------------------------------ */

static void look_at(struct cpu_guard *g, bool *active)
{
    uint_fast64_t seq = atomic_load(&g->seq);
    if (!(seq & 1))
        return;
    *active = true;
    int64_t now = clock_of(g->clock);
    if (g->seen != seq) {
        g->seen = seq;
        atomic_store(&g->seen_at, now);
    } else if (now - atomic_load(&g->seen_at) >= atomic_load(&g->limit)) {
        atomic_store(&g->kill_seq, seq);
        pthread_kill(g->thread, SIGURG);
    }
}

static void *watch(void *nothing)
{
    unsigned idle = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        bool active = false;
        for (struct cpu_guard *g = guards; g; g = g->next)
            look_at(g, &active);
        idle = active ? 0 : idle + 1;
        if (idle > IDLE_TICKS) {
            /* A run that begins after this store sees it; a run that began before is found by one more check. */
            atomic_store(&asleep, true);
            for (struct cpu_guard *g = guards; g; g = g->next)
                look_at(g, &active);
            while (!active && atomic_load(&asleep))
                pthread_cond_wait(&wake, &lock);
            atomic_store(&asleep, false);
            idle = 0;
        }
        pthread_mutex_unlock(&lock);
        nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000}, NULL);
        pthread_mutex_lock(&lock);
    }
    return nothing;
}

static void forget(void *data)
{
    struct cpu_guard *g = data, **at = &guards;
    pthread_mutex_lock(&lock);
    while (*at && *at != g)
        at = &(*at)->next;
    if (*at)
        *at = g->next;
    pthread_mutex_unlock(&lock);
    mine = NULL;
    free(g);
}

static void begin(void)
{
    pthread_key_create(&key, forget);
#ifndef __SANITIZE_THREAD__
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&act.sa_mask);
    sigaction(SIGURG, &act, NULL);
    sigset_t all, old; /* the watchdog blocks all signals */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t thread;
    must(pthread_create(&thread, NULL, watch, NULL) == 0);
    pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
#else
    (void)watch;
#endif
}

static struct cpu_guard *guard_of_thread(void)
{
    if (mine)
        return mine;
    pthread_once(&once, begin);
    struct cpu_guard *g = must_alloc(sizeof *g);
    g->thread = pthread_self();
    pthread_getcpuclockid(g->thread, &g->clock);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    mine = g;
    pthread_setspecific(key, g);
    pthread_mutex_lock(&lock);
    g->next = guards;
    guards = g;
    pthread_mutex_unlock(&lock);
    return g;
}

void guard_enter(lua_State *L, double cpu)
{
    struct cpu_guard *g = guard_of_thread();
    atomic_store_explicit(&g->limit, (int64_t)(cpu * 1e9), memory_order_relaxed);
    atomic_store_explicit(&g->due, false, memory_order_relaxed);
    g->place[0] = 0;
    atomic_store_explicit(&g->running, L, memory_order_relaxed);
    atomic_fetch_add(&g->seq, 1);
#ifdef __SANITIZE_THREAD__
    g->entered = clock_of(CLOCK_THREAD_CPUTIME_ID);
    lua_sethook(L, poll_clock, LUA_MASKCOUNT, 20);
#endif
    if (atomic_load(&asleep)) {
        pthread_mutex_lock(&lock);
        atomic_store(&asleep, false);
        pthread_cond_signal(&wake);
        pthread_mutex_unlock(&lock);
    }
}

bool guard_leave(void)
{
    struct cpu_guard *g = mine;
    atomic_fetch_add(&g->seq, 1);
    lua_State *L = atomic_load_explicit(&g->running, memory_order_relaxed);
    atomic_store_explicit(&g->running, (lua_State *)NULL, memory_order_relaxed);
    bool due = atomic_load(&g->due);
    atomic_store(&g->due, false);
    if (due)
        lua_sethook(L, NULL, 0, 0);
    return due;
}
