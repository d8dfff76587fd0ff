/* session.h - the dialogue with one client: a state, a step, the line in hand.
 *
 * The front is the one line in hand, driven by its step. The back is what the backend owes. session_turn settles the back
 * first, then runs the front until it waits, then flushes each side once and sets one clock. Only the ready list calls it. */
#ifndef SMTP_FRONT_SESSION_H
#define SMTP_FRONT_SESSION_H
#include "smtp/front/auth.h"
#include "mail/visit.h"
#include "mail/client.h"
#include "smtp/back/delivery.h"
#include "smtp/front/transaction.h"
#include "smtp/worker.h"
#include "wire/command.h"

/* What the client has said (RFC 5321 4.1.4), which decides what is legal: GREETING nothing yet, HELLO the greeting was sent, READY EHLO or HELO,
 * MAIL, RCPT, DATA; CHUNKS between two BDATs; AUTH amid an exchange. What was answered is in the transaction. */
enum state { STATE_GREETING, STATE_HELLO, STATE_READY, STATE_MAIL, STATE_RCPT, STATE_DATA, STATE_CHUNKS, STATE_AUTH };
/* What the front does with the line in hand: each step is a function of session.c's run_step. */
enum step { STEP_PROXY, STEP_GREET, STEP_LINE, STEP_CHECK, STEP_FILTER, STEP_BACKEND, STEP_CONTENT, STEP_VERDICT, STEP_SKIP,
            STEP_TLS, STEP_AUTH, STEP_CLOSE };
/* What a step returns. MORE: run the step that stands now. WAIT: nothing more this turn; the task is woken. END: the session is gone. */
enum next { NEXT_MORE, NEXT_WAIT, NEXT_END };
enum close_why {
#define CLOSE(name, phrase) WHY_##name,
#include "smtp/front/closes.def"
#undef CLOSE
    WHY_COUNT
};
const char *close_phrase(enum close_why);

enum { SESSION_MAGIC = 0x5E5510u };
struct session {
    unsigned magic;
    struct task task;
    struct visit visit;          /* its client: self, or for one message the one that XFORWARD names */
    struct alarm alarm;
    struct worker *worker;
    struct session *next, *prev;
    struct generation *generation; /* the configuration it began with, and ends with */
    const struct listen_conf *listen;
    uint32_t listen_id;          /* number of the bound address it came in at */
    uint64_t leave_by;           /* it is asked to leave (worker_drain), at the latest then; 0: not */
    struct arena arena;          /* only what is written once per connection */
    struct arena line;           /* reset when the next line is taken */
    struct stream *stream;
    struct delivery delivery;    /* where its messages go */
    struct transaction *tx;

    enum state state;
    enum step step;
    enum close_why why;
    struct line_reader reader;
    struct command command;
    struct reply rcpt_answer;    /* the RCPT in hand has been looked at, and is told this in its turn; code 0: not */
    struct reply connect_refusal; /* connect or tls hook refused: told to everything but QUIT (DEFER: and EHLO, HELO) */
    bool entered;                /* counted among the connections of its address */
    bool said_hello;
    bool drop_when_told;         /* a filter said DROP at RCPT: those before it are told first */
    bool first_line;

    struct client self;          /* as the connection, a PROXY header, XCLIENT and AUTH have it */
    bool may_xclient, may_xforward;
    struct auth *auth;           /* from the first AUTH, or XCLIENT LOGIN, on */
    struct client *covered;      /* proxied.c: the client that XFORWARD names; NULL: none so far */
    uint64_t started_us;         /* loop_micros */
    uint64_t client_by;          /* deadline of the client: only counts while we read or have unsent octets; 0: none */
    uint64_t line_by;            /* the command that has begun must end by then; 0: none has */
    uint64_t write_by;
    uint64_t written_mark;       /* stream octets written when write_by was set */
    uint64_t told_by;            /* replies that wait for those of the backend leave by then; 0: none waits */
    uint64_t rate_from, rate_octets; /* the window of the minimum rate */
    struct bdat {                /* the command in hand */
        uint64_t octets;
        bool last;
        uint64_t left;           /* STEP_SKIP: octets still to be dropped of a refused chunk, */
        struct reply reply;      /* and the answer behind them */
    } bdat;
    uint32_t junk;               /* commands with the trait JUNK so far */
    struct refusals *refusals;         /* from the first refusal on */
    bool waits_for_probe;        /* its EHLO waits for the first check of the backend */
};

/* How often each refusal was said, by its code; a code beyond the first TALLIES - 1 counts in the last place. */
enum { TALLIES = 8 };
struct refusals { struct { uint16_t code; uint32_t count; } replies[TALLIES]; enum verb last_verb; uint16_t last_code; };

static inline struct session *session_of(struct visit *v)
{
    return holder_of(v, struct session, visit);
}
/* The one setter of a step. CLOSE stays: a step set behind it has no effect. */
static inline void session_go(struct session *s, enum step step)
{
    if (s->step != STEP_CLOSE)
        s->step = step;
}
void session_begin(struct session *);  /* the client's address is known: the connect hooks run */
bool session_enter(struct session *);  /* counts the client. False: over a limit, the session ends with 421 */
void session_login(struct session *, struct str user, struct str method);
void session_logout(struct session *);
static inline bool session_is_authenticated(const struct session *s)
{
    return s->visit.client->authenticated;
}
static inline bool session_is_secure(const struct session *s) /* TLS, to us or to the proxy before us */
{
    return s->visit.client->secure != CLIENT_CLEAR;
}
/* Counts a refusal for the line of the session in the log. */
void session_count_refusal(struct session *, enum verb, const struct reply *);
/* Appends a reply to what is sent. The answer to the line in hand goes through verb_answer instead. */
void session_reply(struct session *, const struct reply *);
/* Says the reply (NULL: none) and sets STEP_CLOSE. The caller returns its value at once. */
enum next session_end(struct session *, enum close_why, const struct reply *);
bool session_settled(const struct session *); /* the barrier: every rcpt has been told */
bool session_client_left(const struct session *); /* the connection is dead, or the client ended it */
/* Answers the line in hand and counts an error of the client: over limits.errors, the next line is answered 421. */
enum next session_refuse(struct session *, const struct reply *);

/* All filters of the chain at a stage that is the front's: STEP_FILTER, then verb_filtered. */
enum next session_hook(struct session *, enum filter_stage);

/* verbs.c: CHECK, and what follows the filters, per verb. */
enum next verb_check(struct session *);    /* STEP_CHECK: the line in hand */
enum next verb_filtered(struct session *); /* its hooks have judged: visit.run.verdict */
enum next verb_backend(struct session *);  /* STEP_BACKEND: DATA and EHLO wait for the backend */
enum next verb_bye(struct session *, enum close_why, enum reply_name); /* session_end with this reply */
enum next verb_answer(struct session *, const struct reply *); /* to the line in hand; back to LINE */
/* auth.c: the command, STEP_AUTH, and what the hooks said. */
enum next auth_check(struct session *);
enum next auth_turn(struct session *);
enum next auth_passed(struct session *);
/* ehlo.c: what EHLO says, and parameters are judged by. */
struct capabilities session_offer(struct session *);
struct str session_offer_text(struct session *);
#endif
