/* host.h - the inside of the Lua host: one instance, its state in each worker, one run of one hook.
 *
 * struct lua_host: the instance (filter memory): the script's text and what its main chunk declared; read-only after open.
 * struct lua_box: one lua_State of one worker; one whose script keeps too much is retired and a new one made, while what is
 * suspended in the old one, or has vars there, comes to its end.
 * struct lua_account: what one session holds in a box, while a call of it runs or it keeps vars (box.c).
 * struct lua_run: one run of one hook (call memory): a coroutine, what it waits for, the verdicts it has made.
 *
 * Objects that scripts see hold no pointer into the host: they name the session or transaction they belong to by a token, and
 * everything they do goes through the call at hand. So a handle that a script kept too long raises, and never dangles. */
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
    const char *name; /* its last part: what error messages call it */
    char *text;
    size_t len;
    double memory, cpu; /* octets; seconds of CPU per stretch between two waits */
    unsigned stages, flags, declared;
    const struct filter_value *options; /* NULL: the script declares none */
    struct {
        char *path;
        const struct filter_value *value;
    } tables[LUA_TABLES_MOST]; /* of table_file outside options{} */
    unsigned ntables;
    unsigned nevery;
};

enum lua_vars { VARS_SESSION, VARS_TRANSACTION };
struct lua_account {
    struct lua_account *next, **link; /* the living ones of the box */
    struct lua_box *box;
    struct lua_run *runs;
    struct lua_account *user; /* only of a coroutine's account: the account of the session whose call runs in it; its octets count there too. NULL: it is idle */
    size_t held;      /* octets: its blocks of Lua's memory, and its patterns; of coroutines that run for it too */
    uint64_t client;  /* whose sessions count together: a hash of the address, IPv6: of the /64 */
    int vars[2];      /* by enum lua_vars: tables of the script's own, in the registry; 0: none */
    bool living;      /* else it only waits for its last block */
    bool lost;        /* it had to give way: the next call of the session fails */
};

struct lua_thread {
    lua_State *co; /* NULL: none */
    int ref;
    struct lua_account *account; /* of the coroutine itself, with its stack */
};

struct lua_cell {
    struct lua_cell *next;
};

struct lua_box {
    lua_State *L;
    struct lua_host *host;
    struct lua_account own, *accounts, *running; /* own: what the main chunk and the sandbox hold; running: NULL: no limit */
    size_t held, limit; /* limit: of one account */
    size_t left, base;  /* held by accounts that are not living; the same at the end of the main chunk */
    size_t swept;       /* the same when all garbage had been collected */
    size_t foreign;     /* by how much the run at hand let blocks of others grow */
    int64_t arenas_from; /* arena_total() without what the run at hand has taken; 0: none runs */
    bool retired, closed_main;  /* closed_main: the main chunk has ended: nothing can be declared any more */
    int hooks[LUA_HOST_STAGES]; /* references; 0: none */
    int every[LUA_EVERY_MOST];
    unsigned nevery;
    struct lua_thread idle[LUA_THREADS_IDLE];
    unsigned nidle;
    struct lua_cells {
        struct lua_cell *first;
        unsigned n;
    } cells[LUA_CELL_KINDS]; /* free blocks, box.c */
};

struct lua_worker { /* worker memory */
    struct lua_box *box; /* of new sessions; a retired one goes with its last account */
    uint64_t tokens;
};
struct lua_session {
    uint64_t token;
    struct lua_account *account; /* NULL: it keeps nothing */
    uint64_t client;             /* of its accounts; 0: not yet looked at */
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
    struct lua_run *next;     /* of the account: a reply hook may run while another call of the session waits */
    struct filter_call *call; /* NULL: the main chunk at load */
    struct filter *loading;   /* the instance being opened; else NULL */
    struct lua_host *host;
    struct lua_box *box;
    struct lua_account *account;
    struct lua_worker *worker;
    struct lua_thread thread; /* none: it has ended, or was abandoned */
    uint64_t token; /* of this run alone */
    enum filter_stage stage;
    bool main, may_wait, asked, refused; /* refused: options, and the host of filters has said why */
    struct arena scratch;                /* for computing only; emptied at each stop, and where much may be in it */
    int64_t grown;                       /* octets of arenas it had taken when it began to wait */
    /* what it waits for */
    uint64_t op;
    const struct filter_event *event; /* while it is being resumed */
    struct lua_listing *listings;
    size_t nlistings, open;
    const char *put_text;
    size_t put_len, put_at; /* text being emitted */
    bool replaced;
    /* how it ended */
    bool ended;
    int status;
    const char *error;
    enum filter_verdict kind;
    const char *text;
    /* verdicts made: the first two, and which one was returned */
    unsigned made, returned;
    int made_line[2];
};

/* guard.c: CPU */
void guard_enter(lua_State *, double cpu);
bool guard_leave(void); /* it was killed */
bool guard_is_due(void);
int guard_used_ms(void);       /* CPU time of the run at hand, when it was killed */
const char *guard_place(void); /* "file:line" where the kill struck, or "" */
void guard_poll(lua_State *);  /* loops in C that a script can make long: raises when time is up */

/* box.c: memory */
struct lua_box *box_open(struct lua_host *); /* NULL: the limit is too small */
void box_close(struct lua_box *);
void box_check(lua_State *);                              /* raises when the run at hand, arenas included, is beyond its limit */
void box_enter(struct lua_box *, struct lua_account *);   /* what is taken from now on is this account's */
void box_leave(struct lua_box *);
void box_sweep(struct lua_box *);                         /* before a run: its CPU time is not for the garbage of others */
bool box_is_spent(struct lua_box *);                      /* what is left of calls that have ended is too much */
void box_retire(struct lua_box *);                        /* it goes with its last account, or at once */
unsigned box_relieve(struct lua_box *);                   /* between two runs: how many accounts had to give way */
struct lua_account *account_open(struct lua_box *, struct filter_call *);
void account_close(struct lua_account *);                 /* without runs and vars. Its box may go with it */
void account_drop_vars(struct lua_account *, enum lua_vars);
/* Takes an idle coroutine, or makes one; until thread_give its memory counts as held by `user`. False: there is no memory for one.
 * thread_give: `clean` says that its last function has returned, so that another call may use it; otherwise it is dropped. */
bool thread_take(struct lua_box *, struct lua_account *user, struct lua_thread *);
void thread_give(struct lua_box *, struct lua_thread *, bool clean);
struct lua_account *account_charge(lua_State *, size_t octets); /* memory that is not Lua's; returns who has to pay */
void account_discharge(struct lua_account *, size_t octets);

/* run.c */
struct lua_run *run_of(lua_State *);
struct filter_call *run_call(lua_State *, const char *what); /* raises in the main chunk */
bool run_main(struct lua_run *, struct filter_call *);       /* runs the main chunk in run->box; false: run->error */
void run_abandon(struct lua_run *, const char *why); /* a suspended one: it fails when it is resumed */
enum filter_verdict lua_hook_run(struct filter_call *, enum filter_stage);
enum filter_verdict lua_hook_resume(struct filter_call *, const struct filter_event *);
void lua_hook_cancel(struct filter_call *, enum filter_cancel);
void lua_worker_stop(struct filter_call *);
extern const char *const lua_stage_names[LUA_HOST_STAGES];

/* verdict.c */
const char *verdict_class_wrong(lua_State *, const char *verdict, const char *text); /* NULL, or what is wrong; may be pushed */
const char *verdict_text_wrong(lua_State *, const char *text, const char *preset, const char *action);
void verdict_install(lua_State *);
void verdict_take(lua_State *, struct lua_run *); /* what the hook returned, at the top of the stack; raises */

/* sandbox.c */
int sandbox_open(lua_State *); /* protected: fills the globals; the table of globals is lua_globals in the registry */
extern const char lua_globals;
void lua_class(lua_State *, const char *name, const luaL_Reg *methods, const luaL_Reg *meta); /* makes a metatable */
int lua_method(lua_State *, const char *kind,
               const char *const *fields); /* __index(object, name): its method, or raises */
void lua_class_fields(lua_State *, const char *class, const char *const *fields); /* what has no method: for the check at load */
const char *lua_later(const char *global); /* of a name that a later version will have: the sentence; else NULL */
double lua_check_seconds(lua_State *, int arg);
bool lua_to_tagged(lua_State *, int arg, double *number, bool *is_size);
const char *lua_plain(lua_State *, int arg); /* a text without NUL, else raises */
void *lua_new(lua_State *, const char *class, size_t octets);
static inline bool is(const char *key, const char *name) /* most differ in the first letter */
{
    return *key == *name && strcmp(key, name) == 0;
}

void pattern_install(lua_State *); /* pattern.c: fills the string table at the top */
void tables_install(lua_State *);  /* tables.c: fills the table library at the top */
enum { LUA_CORE_OPTIONS = 2 };
extern const struct filter_option lua_core_options[LUA_CORE_OPTIONS]; /* options.c: those of every script, memory and cpu */
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
struct str subject_of(lua_State *, int arg);                 /* text, number or chunk */
void message_check(lua_State *, int arg, const char *class); /* raises unless it is of the transaction at hand */
struct lua_transaction *transaction_of(struct lua_run *);
/* fields.c */
#define FIELDS_CLASS "headers"
void push_fields(lua_State *, struct lua_run *);
struct filter_call *fields_call(lua_State *); /* of the m.headers at 1; raises where the header section is not there yet */
const char *fields_name(lua_State *, int arg); /* "" for what can be no name: it matches nothing */
uint32_t fields_nth(struct filter_call *, const char *name, lua_Integer n);
void fields_push(lua_State *, struct filter_call *, uint32_t handle); /* unfolded */
/* edit.c */
extern const luaL_Reg edit_methods[];
struct filter_text edit_text(lua_State *, const char *name, struct str text); /* encoded and folded, in the scratch arena */
/* text.c */
struct str text_decode(struct str value, struct arena *); /* unfolded; words read, see wire/words.h */
/* These push one value. */
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
struct str address_text(lua_State *, int arg); /* address object, ip object or text */
/* lookup.c */
void push_lookup(lua_State *, const struct filter_value *); /* of a TABLE or CIDR value */
int lookups_open(lua_State *);                              /* protected; 1: the run, light */
const char *lookup_path(lua_State *, int arg, bool *cidr);  /* an object of table_file not looked up yet; else NULL */
/* async.c */
#define ZONE_WRONG "\"%s\": a zone is a domain, and behind \"=\" stand codes like \"127.0.0.[2..11]\""
bool zone_is_good(const char *zone); /* of dns.bl, else ZONE_WRONG */
void async_event(struct lua_run *, const struct filter_event *, bool *whole); /* whole: the script goes on */
void push_value(lua_State *, const struct filter_value *);
int message_body(lua_State *);                                              /* m:body{max=} */
int emit_text(lua_State *, struct lua_run *, const char *text, size_t len); /* a wait; anchored by the caller */
#endif
