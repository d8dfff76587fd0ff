/* run.c - runs a hook in a coroutine, from its call to its verdict.
 *
 * The body of the coroutine is a C function that calls the hook by lua_pcallk, so that an error does not break the coroutine, and __close
 * functions run under the limits. A wait yields, and resume continues the coroutine. All code that can run out of memory runs inside the
 * coroutine or a protected call, so that Lua's panic function is never called. A coroutine is reused only if its function has returned. */
#include "filters/lua/check.h"
#include "base/charset.h"

const char *const lua_stage_names[LUA_HOST_STAGES] = {
#define STAGE(name, word) [FILTER_##name] = FILTER_##name == FILTER_TICK ? "every" : word,
#include "filters/stages.def"
#undef STAGE
};

struct lua_run *run_of(lua_State *L)
{
    return *(struct lua_run **)lua_getextraspace(L);
}

struct filter_call *run_call(lua_State *L, const char *what)
{
    struct lua_run *run = run_of(L);
    if (!run || !run->call || run->main)
        return luaL_error(L, "%s can only be used inside a hook", what), NULL;
    box_check(L);
    return run->call;
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

/* ---- coroutines -------------------------------------------------------------------------------------------------- */

static bool run_begin(struct lua_run *run)
{
    if (!thread_take(run->box, run->account, &run->thread))
        return false;
    *(struct lua_run **)lua_getextraspace(run->thread.co) = run;
    lua_pushcfunction(run->thread.co, body);
    return true;
}

static void run_end(struct lua_run *run, bool clean)
{
    *(struct lua_run **)lua_getextraspace(run->thread.co) = NULL;
    thread_give(run->box, &run->thread, clean);
}

/* Closes the variables of a coroutine, which may run code of the script, under the limits. */
static void run_break(struct lua_run *run)
{
    run->may_wait = false;
    box_enter(run->box, run->account);
    guard_enter(run->thread.co, run->host->cpu);
    lua_resetthread(run->thread.co);
    guard_leave();
    box_leave(run->box);
    run_end(run, false);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Continues the coroutine. True: it has ended; run->error is NULL if it succeeded. */
static bool go(struct lua_run *run, int nargs, double cpu)
{
    int nresults, limit_ms = (int)(cpu * 1000);
    run->box->arenas_from = (int64_t)arena_total() - run->grown;
    charset_allow(CHARSET_OPENS);
    box_enter(run->box, run->account);
    guard_enter(run->thread.co, cpu);
    int status = lua_resume(run->thread.co, NULL, nargs, &nresults);
    bool killed = guard_is_due() && (status == LUA_YIELD || !run->ended || run->status != LUA_OK);
    if (status == LUA_YIELD && !killed) {
        guard_leave();
        box_leave(run->box);
        arena_reset(&run->scratch);
        run->grown = (int64_t)arena_total() - run->box->arenas_from;
        run->box->arenas_from = 0;
        return false;
    }
    if (status != LUA_OK && status != LUA_YIELD) { /* an error outside of the protected call: no memory for its arguments */
        run->status = status;
        run->error = status == LUA_ERRMEM ? "" : error_text(run->thread.co, run);
    }
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
    bool clean = !killed && status == LUA_OK && run->status == LUA_OK;
    if (!clean)
        lua_resetthread(run->thread.co); /* may run __close of the script: still under the limit */
    guard_leave();
    box_leave(run->box);
    run->box->arenas_from = 0;
    run_end(run, clean);
    return true;
}

void run_abandon(struct lua_run *run, const char *why)
{
    if (!run->thread.co)
        return;
    run_break(run);
    run->error = why;
    run->status = LUA_ERRRUN;
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

/* After each call: frees vars at the end of the transaction or session, and the account if it has no vars and no runs. */
static void settle(struct filter_call *call, struct lua_account *a, enum filter_stage stage)
{
    struct lua_session *s = filter_keep(call, LIFE_SESSION);
    if (stage == FILTER_RESET || stage == FILTER_DISCONNECT)
        account_drop_vars(a, VARS_TRANSACTION);
    if (stage == FILTER_DISCONNECT)
        account_drop_vars(a, VARS_SESSION);
    bool keeps = s && (a->vars[VARS_SESSION] || a->vars[VARS_TRANSACTION] || a->runs || a->lost);
    if (s)
        s->account = keeps ? a : NULL;
    if (!keeps)
        account_close(a);
}

static void leave(struct lua_run *run)
{
    struct lua_run **at = &run->account->runs;
    while (*at != run)
        at = &(*at)->next;
    *at = run->next;
    settle(run->call, run->account, run->stage);
}

static void relieve(struct lua_run *run)
{
    unsigned n = box_relieve(run->box);
    if (n)
        filter_log(run->call, LEVEL_WARNING,
                   "all calls together hold too much memory: %u session%s of who holds most %s", n, n == 1 ? "" : "s",
                   n == 1 ? "has to give way" : "have to give way");
}

static enum filter_verdict finish(struct lua_run *run)
{
    arena_reset(&run->scratch);
    enum filter_verdict v = run->error ? filter_error(run->call, "%s", run->error) : say_verdict(run);
    leave(run);
    return v;
}

static enum filter_verdict drive(struct lua_run *run)
{
    box_sweep(run->box);
    bool ended = !run->thread.co || go(run, 0, run->host->cpu);
    relieve(run);
    return ended ? finish(run) : VERDICT_SUSPEND;
}

bool run_main(struct lua_run *run, struct filter_call *call)
{
    run->call = call;
    run->main = true;
    if (!run_begin(run)) {
        run->error = "not enough memory for the script";
        return false;
    }
    bool ended = go(run, 0, call ? run->host->cpu * 5 : 2);
    run->main = false;
    run->box->closed_main = true;
    if (!ended) { /* not possible, since functions that wait raise in the main chunk */
        run_break(run);
        run->error = "the main chunk waited";
    }
    run->box->base = run->box->swept = run->box->left;
    return !run->error;
}

static struct lua_box *box_ready(struct filter_call *call, struct lua_host *host, struct lua_worker *w,
                                 const char **error)
{
    if (w->box && box_is_spent(w->box)) {
        box_retire(w->box);
        w->box = NULL;
        filter_log(
            call, LEVEL_WARNING,
            "the script keeps more than %.4g MiB (option memory) in variables of its own: its Lua state is made anew",
            host->memory / 1048576);
    }
    if (w->box)
        return w->box;
    struct lua_box *box = box_open(host);
    if (!box) {
        *error = "the memory limit is too small to begin with (option memory)";
        return NULL;
    }
    struct lua_run run = {.host = host, .box = box, .account = &box->own, .worker = w};
    if (!run_main(&run, call)) {
        *error = run.error;
        box_close(box);
        box = NULL;
    }
    arena_reset(&run.scratch);
    return w->box = box;
}

static enum filter_verdict fail(struct filter_call *call, struct lua_account *a, enum filter_stage stage,
                                const char *why)
{
    enum filter_verdict v = filter_error(call, "%s: %s", a->box->host->name, why);
    settle(call, a, stage);
    return v;
}

enum filter_verdict lua_hook_run(struct filter_call *call, enum filter_stage stage)
{
    struct lua_host *host = filter_memory(filter_of(call));
    struct lua_worker *w = filter_keep(call, LIFE_WORKER);
    struct lua_session *s = filter_keep(call, LIFE_SESSION);
    struct lua_account *a = s ? s->account : NULL;
    const char *error = "";
    if (!(host->declared & (1u << stage))) { /* at RESET and DISCONNECT, only to free vars */
        if (a)
            settle(call, a, stage);
        return VERDICT_CONTINUE;
    }
    if (!a) {
        struct lua_box *box = box_ready(call, host, w, &error);
        if (!box)
            return filter_error(call, "%s", error);
        a = account_open(box, call);
    }
    if (a->lost) {
        a->lost = false;
        return fail(call, a, stage, "what it kept in vars had to give way: it held most of the memory (option memory)");
    }
    struct lua_run *run = filter_keep(call, LIFE_CALL);
    *run = (struct lua_run){
        .call = call, .host = host, .box = a->box, .account = a, .worker = w, .stage = stage, .token = ++w->tokens};
    run->may_wait = stage != FILTER_REPLY && stage != FILTER_RESET && stage != FILTER_DISCONNECT;
    if (!run_begin(run))
        return fail(call, a, stage, "not enough memory to call the hook (option memory)");
    run->next = a->runs;
    a->runs = run;
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
    if (!run || !run->account)
        return;
    run_abandon(run, NULL);
    arena_reset(&run->scratch);
    leave(run);
}

void lua_worker_stop(struct filter_call *call)
{
    struct lua_worker *w = filter_keep(call, LIFE_WORKER);
    if (w->box)
        box_close(w->box);
    w->box = NULL;
}
