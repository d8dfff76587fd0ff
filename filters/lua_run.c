/* lua_run.c - one run of one hook: a coroutine from the first instruction to the verdict.
 *
 * The coroutine's body is a C function that calls the hook by lua_pcallk, so an error leaves the coroutine whole and
 * __close runs under the limits. Waits yield; the host's resume goes on. Everything that can run out of memory happens
 * inside the coroutine or a protected call: an error never escapes to Lua's panic. A coroutine is used again only
 * after a clean end. */
#include "filters/lua_check.h"
#include "base/charset.h"

const char *const lua_stage_names[LUA_HOST_STAGES] = {"connect", "tls",        "helo",  "auth", "mail",    "rcpt",
                                                      "data",    "headers",    "body",  "part", "message", "reply",
                                                      "reset",   "disconnect", "start", "every"};

struct lua_run *run_of(lua_State *L)
{
    return *(struct lua_run **)lua_getextraspace(L);
}

struct filter_call *run_call(lua_State *L, const char *what)
{
    struct lua_run *run = run_of(L);
    if (!run || !run->call || run->main)
        return luaL_error(L, "%s can only be used inside a hook", what), NULL;
    guard_memory(L);
    return run->call;
}

/* ---- boxes ------------------------------------------------------------------------------------------------------- */

struct lua_box *box_open(struct lua_host *host, unsigned generation)
{
    struct lua_box *box = must_alloc(sizeof *box);
    box->host = host;
    box->generation = generation;
    box->limit = (size_t)host->memory;
    box->L = lua_newstate(guard_alloc, box);
    if (!box->L) {
        free(box);
        return NULL;
    }
    *(struct lua_run **)lua_getextraspace(box->L) = NULL;
    lua_pushcfunction(box->L, sandbox_open);
    if (lua_pcall(box->L, 0, 0, 0) != LUA_OK) {
        box_close(box);
        return NULL;
    }
    return box;
}

void box_close(struct lua_box *box)
{
    box->limit = SIZE_MAX; /* finalizers give back what the auxiliary library's buffers hold, and may take some memory
                              to do so */
    lua_close(box->L);
    free(box);
}

static void box_leave(struct lua_box *box)
{
    if (--box->runs == 0 && box->retired)
        box_close(box);
}

static int make_thread(lua_State *L)
{
    int *ref = lua_touserdata(L, 1);
    lua_State *co = lua_newthread(L);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, co);
    return 1;
}

static bool thread_take(struct lua_run *run)
{
    struct lua_box *box = run->box;
    if (box->nidle) {
        box->nidle--;
        run->co = box->idle[box->nidle].co;
        run->ref = box->idle[box->nidle].ref;
    } else {
        lua_pushcfunction(box->L, make_thread);
        lua_pushlightuserdata(box->L, &run->ref);
        bool made = lua_pcall(box->L, 1, 1, 0) == LUA_OK;
        run->co = made ? lua_touserdata(box->L, -1) : NULL;
        lua_settop(box->L, 0);
        if (!made)
            return false;
    }
    *(struct lua_run **)lua_getextraspace(run->co) = run;
    return true;
}

static void thread_give(struct lua_run *run, bool clean)
{
    struct lua_box *box = run->box;
    *(struct lua_run **)lua_getextraspace(run->co) = NULL;
    if (clean && box->nidle < LUA_POOL) {
        box->idle[box->nidle].co = run->co;
        box->idle[box->nidle++].ref = run->ref;
    } else {
        luaL_unref(box->L, LUA_REGISTRYINDEX, run->ref);
    }
    run->co = NULL;
}

/* ---- the body of the coroutine ----------------------------------------------------------------------------------- */

/* Errors are texts, or the script's own objects: no code of the script is run to read them. */
static const char *error_text(lua_State *L, struct lua_run *run)
{
    size_t len;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (!text)
        text = lua_pushfstring(L, "the script raised an error that is no text (a %s)", luaL_typename(L, -1)),
        len = strlen(text);
    len = min_size(len, 500);
    char *copy = run->call ? filter_alloc(run->call, LIFE_CALL, len + 1) : arena_space(&run->scratch, len + 1);
    memcpy(copy, text, len);
    copy[len] = 0;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)copy[i] < ' ' || copy[i] == 127)
            copy[i] = ' ';
    return copy;
}

static int body_done(lua_State *L, int status, lua_KContext context)
{
    struct lua_run *run = run_of(L);
    run->status = status == LUA_YIELD ? LUA_OK : status;
    if (run->status != LUA_OK)
        run->error = error_text(L, run);
    run->ended = true;
    lua_settop(L, 0);
    return 0;
}

/* Calls the hook and reads its verdict, so that a bad return value is an error as any other. */
static int hook_done(lua_State *L, int status, lua_KContext context)
{
    verdict_take(L, run_of(L));
    return 0;
}

static int push_arguments(lua_State *L, struct lua_run *run)
{
    struct filter_call *call = run->call;
    enum filter_stage stage = run->stage;
    struct filter_path path = {.size = sizeof path};
    if (stage == FILTER_START || stage == FILTER_TICK)
        return 0;
    int top = lua_gettop(L);
    push_session(L, run);
    if (stage >= FILTER_MAIL && stage != FILTER_DISCONNECT)
        push_message(L, run);
    if (stage == FILTER_HELO) {
        struct filter_text name = filter_fact(call, "helo.name");
        lua_pushlstring(L, name.at ? name.at : "", name.len);
    } else if (stage == FILTER_AUTH) {
        struct filter_text user = filter_fact(call, "auth.user"), method = filter_fact(call, "auth.method");
        lua_pushlstring(L, user.at ? user.at : "", user.len);
        lua_pushlstring(L, method.at ? method.at : "", method.len);
    } else if (stage == FILTER_MAIL && filter_reverse_path(call, &path)) {
        push_address(L, run, &path, RCPT_NONE);
    } else if (stage == FILTER_RCPT && filter_rcpt(call, filter_rcpt_now(call), &path)) {
        push_address(L, run, &path, filter_rcpt_now(call));
    } else if (stage == FILTER_BODY) {
        push_chunk(L, run);
    } else if (stage == FILTER_REPLY) {
        push_reply(L, run);
    }
    return lua_gettop(L) - top;
}

static int guarded(lua_State *L)
{
    struct lua_run *run = run_of(L);
    int hook = run->box->hooks[run->stage];
    if (run->stage == FILTER_TICK) {
        int64_t id = filter_fact_integer(run->call, "tick.id", 0);
        hook = id > 0 && id <= LUA_EVERY_MOST ? run->box->every[id - 1] : 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, hook);
    int n = push_arguments(L, run);
    lua_callk(L, n, 1, 0, hook_done);
    return hook_done(L, LUA_OK, 0);
}

static void seed_random(lua_State *L, struct filter_call *call)
{
    lua_Integer seed[2];
    filter_random(call, seed, sizeof seed);
    lua_getfield(L, LUA_REGISTRYINDEX, "randomseed");
    lua_pushinteger(L, seed[0]);
    lua_pushinteger(L, seed[1]);
    lua_call(L, 2, 0);
}

static int load_main(lua_State *L)
{
    struct lua_run *run = run_of(L);
    if (run->call)
        seed_random(L, run->call);
    const char *chunk = lua_pushfstring(L, "@%s", run->host->name);
    if (luaL_loadbufferx(L, run->host->text, run->host->len, chunk, "t") != LUA_OK)
        return lua_error(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lua_globals);
    lua_setupvalue(L, -2, 1); /* _ENV */
    struct finding *found = run->loading ? check_script(L, &run->scratch) : NULL;
    for (struct finding *f = found; f; f = f->next)
        filter_complain(run->loading, NULL, run->host->path, (unsigned)f->line, "%s", f->text);
    if (found) {
        run->refused = true;
        return luaL_error(L, "told");
    }
    lua_call(L, 0, 0);
    return 0;
}

static int body(lua_State *L)
{
    struct lua_run *run = run_of(L);
    luaL_checkstack(L, 20, NULL);
    lua_pushcfunction(L, run->main ? load_main : guarded);
    return body_done(L, lua_pcallk(L, 0, 0, 0, 0, body_done), 0);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* True: it has ended, run->error says whether well. */
static bool go(struct lua_run *run, int nargs, double cpu)
{
    int nresults, limit_ms = (int)(cpu * 1000);
    run->box->arenas_from = (int64_t)arena_total() - run->grown;
    charset_allow(CHARSET_OPENS);
    guard_enter(run->co, cpu);
    int status = lua_resume(run->co, NULL, nargs, &nresults);
    bool killed = guard_is_due() && (status == LUA_YIELD || !run->ended || run->status != LUA_OK);
    if (status == LUA_YIELD && !killed) {
        guard_leave();
        arena_reset(&run->scratch);
        run->grown = (int64_t)arena_total() - run->box->arenas_from;
        run->box->arenas_from = 0;
        return false;
    }
    if (status != LUA_OK && status != LUA_YIELD) { /* outside the protected call: no memory for its arguments */
        run->status = status;
        run->error = status == LUA_ERRMEM ? "" : error_text(run->co, run);
    }
    bool clean = !killed && status == LUA_OK && run->status == LUA_OK;
    if (killed || run->status == LUA_ERRMEM) {
        char text[200];
        const char *place = killed ? guard_place() : "";
        if (killed)
            snprintf(text, sizeof text,
                     "%s%sthe script used more than %d ms of CPU (option cpu): %d ms when it was stopped", place,
                     *place ? ": " : "", limit_ms, guard_used_ms());
        else
            snprintf(text, sizeof text, "%s: the script used more than %.4g MiB of memory (option memory)",
                     run->host->name, run->host->memory / 1048576);
        size_t len = strlen(text) + 1;
        run->error =
            memcpy(run->call ? filter_alloc(run->call, LIFE_CALL, len) : arena_space(&run->scratch, len), text, len);
        run->status = killed ? LUA_ERRRUN : LUA_ERRMEM;
    }
    if (!clean)
        lua_resetthread(run->co); /* may run __close of the script: still under the limit */
    if (guard_leave())
        clean = false;
    run->box->arenas_from = 0;
    thread_give(run, clean);
    return true;
}

/* A state that ran out of memory three times within a minute is given up. */
static void note_memory_error(struct lua_run *run)
{
    struct lua_worker *w = run->worker;
    int64_t now = filter_now(run->call, false);
    w->memory_errors[0] = w->memory_errors[1];
    w->memory_errors[1] = w->memory_errors[2];
    w->memory_errors[2] = now;
    if (w->memory_errors[0] && now - w->memory_errors[0] < 60000000 && w->box == run->box) {
        run->box->retired = true;
        w->box = NULL;
        memset(w->memory_errors, 0, sizeof w->memory_errors);
        filter_log(run->call, LEVEL_WARNING, "out of memory three times within a minute: its Lua state is made anew");
    }
}

static enum filter_verdict say_verdict(struct lua_run *run)
{
    struct filter_call *call = run->call;
    switch (run->kind) {
    case VERDICT_REJECT: return run->text ? filter_reject(call, "%s", run->text) : filter_reject(call, NULL);
    case VERDICT_DEFER: return run->text ? filter_defer(call, "%s", run->text) : filter_defer(call, NULL);
    case VERDICT_DROP: return run->text ? filter_drop(call, "%s", run->text) : filter_drop(call, NULL);
    case VERDICT_REWORD: return run->text ? filter_reword(call, "%s", run->text) : filter_reword(call, NULL);
    case VERDICT_DISCARD: return filter_discard(call, run->text);
    case VERDICT_QUARANTINE: return filter_quarantine(call, run->text);
    case VERDICT_ACCEPT:
    case VERDICT_PASS:
    case VERDICT_SKIP: filter_because(call, run->text); return run->kind;
    default: return VERDICT_CONTINUE;
    }
}

static void drop_vars(struct filter_call *call, struct lua_box *box, enum filter_stage stage)
{
    if (stage == FILTER_RESET) {
        struct lua_transaction *tx = filter_keep(call, LIFE_TRANSACTION);
        if (tx)
            vars_drop(box, &tx->vars);
    } else if (stage == FILTER_DISCONNECT) {
        struct lua_session *s = filter_keep(call, LIFE_SESSION);
        if (s)
            vars_drop(box, &s->vars);
    }
}

static enum filter_verdict finish(struct lua_run *run)
{
    enum filter_verdict v;
    arena_reset(&run->scratch);
    if (run->error) {
        v = filter_error(run->call, "%s", run->error);
        if (run->status == LUA_ERRMEM)
            note_memory_error(run);
    } else {
        v = say_verdict(run);
    }
    drop_vars(run->call, run->box, run->stage);
    box_leave(run->box);
    return v;
}

static enum filter_verdict drive(struct lua_run *run)
{
    return go(run, 0, run->host->cpu) ? finish(run) : VERDICT_SUSPEND;
}

bool run_main(struct lua_run *run, struct filter_call *call)
{
    run->call = call;
    run->main = true;
    if (!thread_take(run)) {
        run->error = "not enough memory for the script";
        return false;
    }
    lua_pushcfunction(run->co, body);
    bool ended = go(run, 0, call ? run->host->cpu * 5 : 2);
    run->main = false;
    run->box->closed_main = true;
    if (!ended) { /* cannot be: waits refuse to start in the main chunk */
        lua_resetthread(run->co);
        thread_give(run, false);
        run->error = "the main chunk waited";
    }
    return !run->error;
}

static struct lua_box *box_ready(struct filter_call *call, struct lua_host *host, struct lua_worker *w,
                                 const char **error)
{
    if (w->box)
        return w->box;
    struct lua_box *box = box_open(host, ++w->generations);
    if (!box) {
        *error = "the memory limit is too small to begin with (option memory)";
        return NULL;
    }
    struct lua_run run = {.host = host, .box = box, .worker = w};
    if (!run_main(&run, call)) {
        *error = run.error;
        box_close(box);
        box = NULL;
    }
    arena_reset(&run.scratch);
    return w->box = box;
}

enum filter_verdict lua_hook_run(struct filter_call *call, enum filter_stage stage)
{
    struct lua_host *host = filter_memory(filter_of(call));
    struct lua_worker *w = filter_keep(call, LIFE_WORKER);
    const char *error = "";
    if (!(host->declared & (1u << stage))) { /* RESET, DISCONNECT: what the script kept is given back */
        if (w->box)
            drop_vars(call, w->box, stage);
        return VERDICT_CONTINUE;
    }
    struct lua_box *box = box_ready(call, host, w, &error);
    if (!box)
        return filter_error(call, "%s", error);
    struct lua_run *run = filter_keep(call, LIFE_CALL);
    *run = (struct lua_run){.call = call, .host = host, .box = box, .worker = w, .stage = stage, .token = ++w->tokens};
    run->may_wait = stage != FILTER_REPLY && stage != FILTER_RESET && stage != FILTER_DISCONNECT;
    if (!thread_take(run))
        return filter_error(call, "%s: not enough memory to call the hook", host->name);
    box->runs++;
    lua_pushcfunction(run->co, body);
    return drive(run);
}

enum filter_verdict lua_hook_resume(struct filter_call *call, const struct filter_event *event)
{
    struct lua_run *run = filter_keep(call, LIFE_CALL);
    bool whole = false;
    async_event(run, event, &whole);
    if (!whole)
        return VERDICT_SUSPEND;
    run->event = event;
    enum filter_verdict v = drive(run);
    run->event = NULL;
    return v;
}

void lua_hook_cancel(struct filter_call *call, enum filter_cancel why)
{
    struct lua_run *run = filter_keep(call, LIFE_CALL);
    if (!run || !run->co)
        return;
    run->may_wait = false;
    guard_enter(run->co, run->host->cpu);
    lua_resetthread(run->co);
    guard_leave();
    thread_give(run, false);
    arena_reset(&run->scratch);
    drop_vars(call, run->box, run->stage);
    box_leave(run->box);
}

void lua_worker_stop(struct filter_call *call)
{
    struct lua_worker *w = filter_keep(call, LIFE_WORKER);
    if (w->box)
        box_close(w->box);
    w->box = NULL;
}
