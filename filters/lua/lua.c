/* lua.c - the Lua host: the filter "NAME.lua". Like any filter it uses only filters/filter.h.
 *
 * open runs the main chunk of the script once, in a temporary Lua state: stages and flags are reduced to those that the script uses, its
 * options are checked against the configuration, and mistakes are reported with file and line. Each worker runs the main chunk once more, at
 * the first hook (run.c). */
#include "filters/lua/host.h"
#include "base/file.h"
#include "filters/builtin.h"
#include <errno.h>

enum { SCRIPT_MOST = 1 << 20 };

static bool read_script(struct filter *f, struct lua_host *host)
{
    host->text = file_read(host->path, SCRIPT_MOST, &host->len);
    if (!host->text) {
        if (errno == EFBIG)
            filter_complain(f, NULL, NULL, 0, "%s: longer than 1 MiB: no script is", host->path);
        else
            filter_complain(f, NULL, NULL, 0, "%s: %s", host->path, strerror(errno));
        return false;
    }
    if (host->len >= 3 && memcmp(host->text, "\xef\xbb\xbf", 3) == 0) /* a byte order mark, which Lua skips only when it reads a file itself */
        memset(host->text, ' ', 3);
    if (host->len && host->text[0] == '#') { /* #!... */
        host->text[0] = '-';
        if (host->len > 1)
            host->text[1] = '-';
    }
    return true;
}

/* Splits a message "NAME:LINE: text" and complains with that place. */
static void complain(struct filter *f, const struct lua_host *host, const char *error)
{
    size_t n = strlen(host->name);
    char *end = NULL;
    unsigned long line = 0;
    if (!strncmp(error, host->name, n) && error[n] == ':')
        line = strtoul(error + n + 1, &end, 10);
    if (end && *end == ':' && line)
        filter_complain(f, NULL, host->path, (unsigned)line, "%s", end[1] == ' ' ? end + 2 : end + 1);
    else
        filter_complain(f, NULL, host->path, 1, "%s", error);
}

static void take_limits(struct filter *f, struct lua_host *host)
{
    const struct filter_value *options = host->options;
    if (!options) /* the script declares none */
        options = filter_options(f, lua_core_options, countof(lua_core_options));
    host->memory = filter_value_number(filter_value_get(options, "memory"));
    host->cpu = filter_value_number(filter_value_get(options, "cpu"));
    if (options && (host->memory < 262144 || host->memory > 4e9))
        filter_complain(f, filter_value_get(options, "memory"), NULL, 0, "memory: 256K to 4G");
    if (options && (host->cpu < 0.001 || host->cpu > 60))
        filter_complain(f, filter_value_get(options, "cpu"), NULL, 0, "cpu: 1ms to 60s");
}

static void take_stages(struct filter *f, struct lua_host *host, const struct lua_box *box)
{
    for (unsigned i = 0; i < FILTER_TICK; i++)
        if (box->hooks[i])
            host->declared |= 1u << i;
    if (box->nevery)
        host->declared |= 1u << FILTER_TICK;
    host->stages = host->declared;
    if (host->declared) /* RESET and DISCONNECT are needed to free vars */
        host->stages |= 1u << FILTER_RESET | 1u << FILTER_DISCONNECT;
    else
        filter_complain(f, NULL, host->path, 1, "the script defines no hook: write function on.rcpt(s, m, to) ... end");
    unsigned late =
        FILTER_LATE_FIELDS | FILTER_LATE_BODY | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE | FILTER_READS_BACK;
    if ((host->flags & late) && !box->hooks[FILTER_MESSAGE])
        filter_complain(f, NULL, host->path, 1,
                        "edits_late() and reads_body() are for on.message, which the script does not define");
    if ((host->flags & FILTER_EDITS_BODY) && !box->hooks[FILTER_BODY])
        filter_complain(f, NULL, host->path, 1, "edits_body() is for on.body, which the script does not define");
    filter_lessen(f, host->stages, host->flags | FILTER_BINARY_SAFE);
}

static bool load(struct filter *f, struct lua_host *host)
{
    host->memory = 64 << 20; /* limit for the check at load; the limit of the instance is read from its options */
    host->cpu = 2;
    struct lua_box *box = box_open(host);
    if (!box) {
        filter_complain(f, NULL, NULL, 0, "not enough memory");
        return false;
    }
    struct lua_run run = {.loading = f, .host = host, .box = box, .account = &box->own};
    bool good = run_main(&run, NULL);
    if (good) {
        lua_pushcfunction(box->L, lookups_open);
        lua_pushlightuserdata(box->L, &run);
        if (lua_pcall(box->L, 1, 0, 0) != LUA_OK) {
            good = false;
            complain(f, host, lua_tostring(box->L, -1));
        }
        take_limits(f, host);
        take_stages(f, host, box);
    } else if (!run.refused) {
        complain(f, host, run.error);
    }
    good = good && !run.refused;
    arena_reset(&run.scratch);
    box_close(box);
    return good;
}

static void close_host(struct filter *f)
{
    struct lua_host *host = filter_memory(f);
    free(host->text);
    host->text = NULL;
    for (unsigned i = 0; i < host->ntables; i++)
        free(host->tables[i].path);
    host->ntables = 0;
}

static bool open_host(struct filter *f)
{
    struct lua_host *host = filter_memory(f);
    host->path = filter_source(f).at;
    const char *slash = strrchr(host->path, '/');
    host->name = slash ? slash + 1 : host->path;
    bool good = read_script(f, host) && load(f, host);
    if (!good)
        close_host(f);
    return good;
}

const struct filter_def lua_filter = {
    .size = sizeof lua_filter,
    .abi = FILTER_ABI,
    .name = ".lua",
    .doc = "a script in Lua: see scripts/README.md",
    .stages = (1u << LUA_HOST_STAGES) - 1u,
    .flags = FILTER_EDITS_BODY | FILTER_LATE_FIELDS | FILTER_LATE_BODY | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE |
             FILTER_READS_BACK | FILTER_BINARY_SAFE,
    .filter_memory = sizeof(struct lua_host),
    .worker_memory = sizeof(struct lua_worker),
    .session_memory = sizeof(struct lua_session),
    .transaction_memory = sizeof(struct lua_transaction),
    .call_memory = sizeof(struct lua_run),
    .open = open_host,
    .close = close_host,
    .hook = lua_hook_run,
    .resume = lua_hook_resume,
    .cancel = lua_hook_cancel,
    .stop = lua_worker_stop,
};
