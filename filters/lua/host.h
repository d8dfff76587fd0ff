/* host.h - internal declarations of the Lua host, the filter that runs scripts.
 *
 * struct lua_host: an instance (filter memory): the text of the script and the declarations of its main chunk; read-only after open.
 * struct lua_box: one lua_State of one worker. A box whose script keeps too much memory is retired and replaced by a new one; suspended
 * calls and sessions with vars stay in the old box until they end.
 * struct lua_account: the memory that one session uses in a box, while a call of it runs or it has vars (box.c).
 * struct lua_run: one run of one hook (call memory): a coroutine, the op it waits for, the verdicts it has made.
 *
 * Objects of scripts hold no pointer into the host: each has a token of its session or transaction, and its methods use the current call.
 * An object that a script keeps beyond that session or transaction therefore raises an error, and cannot dangle. */
#ifndef FILTERS_LUA_HOST_H
#define FILTERS_LUA_HOST_H
#include "base/arena.h"
#include "base/names.h"
#include "base/value.h"
#include "filters/filter.h"
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

enum {
    LUA_HOST_STAGES = FILTER_TICK + 1,
    LUA_EVERY_MOST = 16,
    LUA_TABLES_MOST = 32,
    LUA_ZONES_MOST = 32,
    LUA_THREADS_IDLE = 16,
    LUA_CELL_KINDS = 17
};

struct lua_host {
    const char *path; /* of the script */
    const char *name; /* its file name, for error messages */
    char *text;
    size_t len;
    double memory, cpu; /* limits: octets; seconds of CPU time between two waits */
    unsigned stages, flags, declared;
    const struct filter_value *options; /* NULL: the script declares none */
    struct {
        char *path;
        const struct filter_value *value;
    } tables[LUA_TABLES_MOST]; /* those of table_file outside of options{} */
    unsigned ntables;
    unsigned nevery;
};

enum lua_vars { VARS_SESSION, VARS_TRANSACTION };
struct lua_account {
    struct lua_account *next, **link; /* in the list of living accounts of the box */
    struct lua_box *box;
    struct lua_run *runs;
    struct lua_account *user; /* for the account of a coroutine: the account of the session whose call runs in it, to which its octets
                                 are added. NULL: the coroutine is idle */
    size_t held;      /* octets: blocks allocated by Lua, patterns, and the coroutines that run for it */
    uint64_t client;  /* a hash of the client's address (IPv6: of the /64); accounts of one client are added up for eviction */
    int vars[2];      /* by enum lua_vars: registry references of the script's vars tables; 0: none */
    bool living;      /* false: its session or call has ended, and it is freed with its last block */
    bool lost;        /* it was evicted: the next call of the session fails */
};

struct lua_thread {
    lua_State *co; /* NULL: none */
    int ref;
    struct lua_account *account; /* of the memory of the coroutine, such as its stack */
};

struct lua_cell {
    struct lua_cell *next;
};

struct lua_box {
    lua_State *L;
    struct lua_host *host;
    struct lua_account own, *accounts, *running; /* own: memory of the main chunk and the sandbox; running: of the current call, NULL: no limit */
    size_t held, limit; /* held: octets of the whole state; limit: of one account */
    size_t left, base;  /* left: octets of accounts that are not living; base: the same at the end of the main chunk */
    size_t swept;       /* the same after the last full garbage collection */
    size_t foreign;     /* octets by which the current run has grown blocks of other accounts */
    int64_t arenas_from; /* arena_total() less what the current run has allocated; 0: no run */
    bool retired, closed_main;  /* closed_main: the main chunk has ended, so declarations are refused */
    int hooks[LUA_HOST_STAGES]; /* references; 0: none */
    int every[LUA_EVERY_MOST];
    unsigned nevery;
    struct lua_thread idle[LUA_THREADS_IDLE];
    unsigned nidle;
    struct lua_cells {
        struct lua_cell *first;
        unsigned n;
    } cells[LUA_CELL_KINDS]; /* lists of free blocks by size, see box.c */
};

struct lua_worker { /* worker memory */
    struct lua_box *box; /* for new sessions; a retired box is freed with its last account */
    uint64_t tokens;     /* the last token given */
};
struct lua_session { /* session memory */
    uint64_t token;
    struct lua_account *account; /* NULL: it has no memory in the box */
    uint64_t client;             /* as in struct lua_account; 0: not computed yet */
};
struct lua_place {
    struct lua_place *next;
    size_t rcpt;
};
struct lua_transaction {
    uint64_t token;
    char *separate;
    struct lua_place *places;
};

struct lua_listing {
    const char *zone;
    uint64_t op;
    char code[48];
    const char *error;
    bool listed;
};

struct lua_run {              /* call memory */
    struct lua_run *next;     /* in the list of the account: a reply hook may run while another call of the session waits */
    struct filter_call *call; /* NULL: the main chunk at load */
    struct filter *loading;   /* the instance that is being opened; else NULL */
    struct lua_host *host;
    struct lua_box *box;
    struct lua_account *account;
    struct lua_worker *worker;
    struct lua_thread thread; /* co NULL: it has ended, or was abandoned */
    uint64_t token; /* unique to this run */
    enum filter_stage stage;
    bool main, may_wait, asked, refused; /* refused: filter_options has refused the options and has complained */
    struct arena scratch;                /* temporary memory; reset whenever the run stops or waits */
    int64_t grown;                       /* octets of arenas that it had allocated when it began to wait */
    /* the pending op */
    uint64_t op;
    const struct filter_event *event; /* while it is being resumed */
    struct lua_listing *listings;
    size_t nlistings, open;
    const char *put_text;
    size_t put_len, put_at; /* text being emitted */
    bool replaced;
    /* the result */
    bool ended;
    int status;
    const char *error;
    enum filter_verdict kind;
    const char *text;
    /* how many verdicts were made, the lines of the first two, and which one was returned */
    unsigned made, returned;
    int made_line[2];
};

/* guard.c: the limit of CPU time */
void guard_enter(lua_State *, double cpu); /* starts the limit of `cpu` seconds for the current run */
bool guard_leave(void);        /* ends it; true: the run was killed */
bool guard_is_due(void);       /* the time is up */
int guard_used_ms(void);       /* CPU time of the run in milliseconds, when it was killed */
const char *guard_place(void); /* "file:line" at which it was killed, or "" */
void guard_poll(lua_State *);  /* raises when the time is up: for loops in C whose length a script determines */

/* box.c: memory */
struct lua_box *box_open(struct lua_host *); /* NULL: the limit is too small */
void box_close(struct lua_box *);
void box_check(lua_State *);                              /* raises when the current run, arenas included, is over its limit */
void box_enter(struct lua_box *, struct lua_account *);   /* allocations are charged to this account from now on */
void box_leave(struct lua_box *);                         /* the end of box_enter */
void box_sweep(struct lua_box *);                         /* collects garbage before a run, so that the run does not pay CPU time for it */
bool box_is_spent(struct lua_box *);                      /* memory that calls have left behind is over the limit */
void box_retire(struct lua_box *);                        /* frees the box with its last account, or at once if it has none */
unsigned box_relieve(struct lua_box *);                   /* evicts accounts if the box is too large; returns how many. Between runs */
struct lua_account *account_open(struct lua_box *, struct filter_call *);
void account_close(struct lua_account *);                 /* it must have no runs and no vars. May free its box */
void account_drop_vars(struct lua_account *, enum lua_vars);
/* Takes an idle coroutine, or creates one; until thread_give its memory is charged to `user` too. False: there is no memory for one.
 * thread_give, clean: its function has returned, so that another call may use the coroutine; else it is dropped. */
bool thread_take(struct lua_box *, struct lua_account *user, struct lua_thread *);
void thread_give(struct lua_box *, struct lua_thread *, bool clean);
struct lua_account *account_charge(lua_State *, size_t octets); /* charges memory that Lua does not allocate; returns the account */
void account_discharge(struct lua_account *, size_t octets);

/* run.c */
struct lua_run *run_of(lua_State *);
struct filter_call *run_call(lua_State *, const char *what); /* raises in the main chunk */
bool run_main(struct lua_run *, struct filter_call *);       /* runs the main chunk in run->box; false: run->error */
void run_abandon(struct lua_run *, const char *why); /* ends a suspended run, which fails with `why` when its op ends */
enum filter_verdict lua_hook_run(struct filter_call *, enum filter_stage);
enum filter_verdict lua_hook_resume(struct filter_call *, const struct filter_event *);
void lua_hook_cancel(struct filter_call *, enum filter_cancel);
void lua_worker_stop(struct filter_call *);
extern const char *const lua_stage_names[LUA_HOST_STAGES];

/* verdict.c */
/* Both return NULL, or a sentence that says what is wrong, which may stand on the Lua stack. */
const char *verdict_class_wrong(lua_State *, const char *verdict, const char *text);
const char *verdict_text_wrong(lua_State *, const char *text, const char *preset, const char *action);
void verdict_install(lua_State *);
void verdict_take(lua_State *, struct lua_run *); /* takes the value that the hook returned, at the top of the stack; may raise */

/* sandbox.c */
int sandbox_open(lua_State *); /* to be called by lua_pcall: fills the globals, a table with the key &lua_globals in the registry */
extern const char lua_globals;
void lua_class(lua_State *, const char *name, const luaL_Reg *methods, const luaL_Reg *meta); /* creates a metatable */
int lua_method(lua_State *, const char *kind,
               const char *const *fields); /* for __index(object, name): pushes the method of that name, or raises */
void lua_class_fields(lua_State *, const char *class, const char *const *fields); /* names of the fields, for the check at load */
const char *lua_later(const char *global); /* the error text for a name reserved for a later version; NULL: it is not reserved */
double lua_check_seconds(lua_State *, int arg);
bool lua_to_tagged(lua_State *, int arg, double *number, bool *is_size);
const char *lua_plain(lua_State *, int arg); /* the argument, which must be a text without NUL; else raises */
void *lua_new(lua_State *, const char *class, size_t octets);
static inline bool is(const char *key, const char *name) /* equality; compares the first letter first, since most names differ there */
{
    return *key == *name && strcmp(key, name) == 0;
}

void pattern_install(lua_State *); /* pattern.c: fills the string table at the top */
void tables_install(lua_State *);  /* tables.c: fills the table library at the top */
enum { LUA_CORE_OPTIONS = 2 };
extern const struct filter_option lua_core_options[LUA_CORE_OPTIONS]; /* options.c: the options memory and cpu, which every script has */
void options_install(lua_State *); /* options.c */
void message_install(lua_State *); /* message.c, fields.c, address.c */
void fields_install(lua_State *);
void address_install(lua_State *);
void async_install(lua_State *);   /* async.c */
#define ZONE_WRONG "\"%s\": a zone is a domain, and behind \"=\" stand codes like \"127.0.0.[2..11]\""
bool zone_is_good(const char *zone); /* of dns.bl, else ZONE_WRONG */
void library_install(lua_State *); /* lib.c, re.c, lookup.c */
void re_install(lua_State *);
void lookup_install(lua_State *);

/* message.c */
void push_session(lua_State *, struct lua_run *);
void push_message(lua_State *, struct lua_run *);
void push_chunk(lua_State *, struct lua_run *);
void push_reply(lua_State *, struct lua_run *);
struct str subject_of(lua_State *, int arg);                 /* the octets of a text, number or chunk */
void message_check(lua_State *, int arg, const char *class); /* raises unless the object belongs to the current transaction */
struct lua_transaction *transaction_of(struct lua_run *);
/* fields.c */
#define FIELDS_CLASS "headers"
void push_fields(lua_State *, struct lua_run *);
struct filter_call *fields_call(lua_State *);  /* the call of the m.headers at index 1; raises before on.headers */
const char *fields_name(lua_State *, int arg); /* a field name; "" for an invalid one, which matches no field */
uint32_t fields_nth(struct filter_call *, const char *name, lua_Integer n);
void fields_push(lua_State *, struct filter_call *, uint32_t handle); /* pushes the unfolded value */
/* edit.c */
extern const luaL_Reg edit_methods[];
struct filter_text edit_text(lua_State *, const char *name, struct str text); /* text encoded and folded for a field, in run->scratch */
/* text.c */
struct str text_decode(struct str value, struct arena *); /* unfolds the value and decodes its encoded words (wire/words.h) */
/* These push one value and return 1. */
int text_addresses(lua_State *, struct str value);
int text_field_addresses(lua_State *, struct filter_call *, const char *name);
int text_date(lua_State *, struct str value); /* seconds or nil */
int text_auth_results(lua_State *, struct filter_call *, struct str id);
/* address.c */
struct lua_address {
    uint64_t token;
    size_t rcpt;
    unsigned state;
    size_t addr, local, domain, params, name;
    char text[];
};
struct lua_address *address_at(lua_State *, int arg); /* NULL: it is none */
enum { RCPT_NONE = 0x7fffffff };
void push_address(lua_State *, struct lua_run *, const struct filter_path *, size_t rcpt);
void push_mailbox(lua_State *, struct str address, struct str local, struct str domain, struct str name);
void push_ip(lua_State *, struct filter_text);
struct str address_text(lua_State *, int arg); /* the text of an address object, an ip object or a text */
/* lookup.c */
void push_lookup(lua_State *, const struct filter_value *); /* pushes an object for a TABLE or CIDR value */
int lookups_open(lua_State *);                              /* to be called by lua_pcall; argument 1: the run, as light userdata */
const char *lookup_path(lua_State *, int arg, bool *cidr);  /* the path of a table_file object that is not open yet; else NULL */
/* async.c */
#define ZONE_WRONG "\"%s\": a zone is a domain, and behind \"=\" stand codes like \"127.0.0.[2..11]\""
bool zone_is_good(const char *zone); /* of dns.bl, else ZONE_WRONG */
void async_event(struct lua_run *, const struct filter_event *, bool *whole); /* *whole: the wait is over, and the script continues */
void push_value(lua_State *, const struct filter_value *);
int message_body(lua_State *);                                              /* m:body{max=} */
int emit_text(lua_State *, struct lua_run *, const char *text, size_t len); /* may wait; the caller keeps the text on the Lua stack */
#endif
