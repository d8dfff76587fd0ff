/* delivery.h - one client's way to the next hop: a connection, what was said of the message at hand, what came back.
 * The front embeds it, asks, and tells its client afterwards what stands in the message.
 *
 * mail sees the outlet in it, the front the functions below. Replies of the backend are applied to the recipients and to the message:
 * nothing in here writes to a client. */
#ifndef SMTP_BACK_DELIVERY_H
#define SMTP_BACK_DELIVERY_H
#include "mail/outgoing.h"
#include "mail/outlet.h"
#include "mail/visit.h"
#include "smtp/worker.h"

struct backend;
struct lmtp;

/* How far DATA or BDAT is. WANTED: it is said as soon as the envelope has been. ASKED: said, without an answer. OPEN: content may be sent.
 * ENDED: our end of mail data has been said. */
enum transfer_data { DATA_UNSAID, DATA_WANTED, DATA_ASKED, DATA_OPEN, DATA_ENDED };

struct transfer {           /* of one message; zeroed when it begins */
    const struct backend_conf *route; /* where it goes */
    const struct backend_conf *default_route; /* for recipients that neither the listener's table nor a filter routes */
    /* NOWHERE: the listener's route has no backend for this sender. BY_FILTER: a filter chose, the listener's route is not asked. */
    enum { ROUTE_OPEN, ROUTE_NOWHERE, ROUTE_BY_FILTER } routed;
    struct str server;      /* address of the server that has heard of this message, or is to; NONE: there is none yet */
    uint32_t settled;       /* recipients before this index have their final reply, or were added */
    enum { ENVELOPE_UNSAID, ENVELOPE_SAID, ENVELOPE_ANSWERED } envelope; /* to the backend at hand; ANSWERED: in part */
    bool stale;             /* the envelope at the backend is not (any more) the one we have: say it anew before DATA */
    bool saying_again;      /* the next words are the envelope anew */
    uint32_t again_owed;    /* replies to an envelope said anew */
    uint32_t again_next;    /* the rcpt to be said anew next */
    uint32_t losses;        /* connections that this message has lost */
    bool spent;             /* it has been said anew after a loss: once per message */
    enum transfer_data data;
    struct outgoing outgoing; /* started when data becomes OPEN */
    bool chunked;           /* content goes by BDAT */
    uint32_t chunks_owed;   /* BDATs that the backend has not answered */
    struct pipe packed;     /* encoded: the chunk that is said next */
    uint64_t release_at_us; /* loop_micros: our end was said */
    struct lmtp *lmtp;      /* what an LMTP server said for each rcpt; NULL: the backend speaks SMTP */
    /* Replies that are kept, and the commands of the client that each answers; code 0: none. */
    struct reply mail_reply;        /* the backend's to MAIL. A refusal answers each RCPT */
    struct reply no_backend;        /* no connection can be had. Answers every further RCPT */
    struct reply anew_failure;      /* the envelope could not be said anew. Answers DATA, or the end of mail data */
    struct reply data_reply;        /* the backend's to DATA. Answers DATA, or the end of mail data where our 354 came first */
    struct reply end_said_by_chunk; /* the backend refused a chunk when BDAT LAST had been said too. Answers the end of mail data */
};

/* tried: servers of the backend `of` that broke before they were READY, a bit each. None is dialled later than `by` (loop_now). */
struct dial_course { const struct backend_conf *of; uint64_t tried, by; };

struct delivery {
    struct outlet outlet;       /* the first member: what mail asks of it */
    struct visit *visit;        /* the client whose messages it forwards */
    struct generation *generation;
    const struct listen_conf *listen;
    struct backend *backend;    /* the connection of the message at hand, or bound to this client by identity or AUTH; NULL: none */
    struct backend *parked;     /* the connection that AUTH bound, while a message goes to another backend; else NULL */
    struct dial_course course;
    bool logged_in;             /* the client has authenticated on a connection of ours: if that is lost, no other takes its place */
    bool logging_in;            /* amid an AUTH exchange: the backend takes the next line for a response */
    void (*login_said)(struct delivery *, const struct reply *); /* the answer to a line of AUTH */
    struct transfer transfer;
};

void delivery_start(struct delivery *, struct visit *, struct generation *, const struct listen_conf *);
void delivery_close(struct delivery *); /* all connections: with QUIT where one may be said; never amid content: message_end comes first */

/* ---- once a turn ---- */
/* Takes the replies of the backend, in the order they are owed, and applies each; says what was waiting to be said. */
void delivery_settle(struct delivery *);
void delivery_flush(struct delivery *);
uint64_t delivery_clock(const struct delivery *);          /* loop_now of the backend's next deadline; 0: none */
void delivery_hurry(struct delivery *, uint64_t by);       /* the backend's next reply is awaited until `by` (loop_now) at the longest */
bool delivery_has_backend(const struct delivery *);

/* ---- the envelope ---- */
void delivery_message_start(struct delivery *);            /* a MAIL without a mistake: the transfer is zeroed */
void delivery_message_end(struct delivery *);              /* the connection goes to the pool, is reset, or closed */
void delivery_route_by_sender(struct delivery *);          /* MAIL has passed its filters */
/* A recipient has passed its filters: routed, asked, or refused at once (its reply then says why). */
void delivery_ask(struct delivery *, uint32_t rcpt);
bool delivery_is_refused(const struct delivery *);         /* MAIL is refused, or every rcpt so far: there can be no content */
const struct reply *delivery_failure(const struct delivery *); /* the reply when the envelope could not be said anew; NULL: it could */

/* ---- content ---- */
/* Says DATA in one group with the RCPTs it follows, if no command of ours can come between (RFC 2920). True: it is said. */
bool delivery_join_data(struct delivery *);
/* DATA is said once all rcpts have been told. GO: *r is the backend's 354; REFUSED: *r says why. */
enum delivery_says { DELIVERY_WAITS, DELIVERY_GO, DELIVERY_REFUSED };
enum delivery_says delivery_data(struct delivery *, struct reply *r);
/* Says DATA to the backend when it is time, the envelope anew before it if it must be. True: content can move again, to the backend (by
 * BDAT) or be dropped. The caller then runs the flow once more in the same turn: no event is left that would wake the session. */
bool delivery_open(struct delivery *);
bool delivery_is_open(const struct delivery *);            /* the backend takes content */
bool delivery_is_full(const struct delivery *);            /* its pipe is full */
/* Sends the judged content; true when all is in the backend's out pipe (delivery_release may be called). */
bool delivery_send(struct delivery *);
void delivery_release(struct delivery *); /* our end of mail data. The only place */

/* ---- AUTH ---- */
void delivery_login_begin(struct delivery *);              /* takes the connection on which AUTH will be said; bound to this client from now on */
/* Says lines of an exchange, which are then gone from `words`. False: the backend is not ready to hear them, or owes replies. */
bool delivery_login(struct delivery *, struct pipe *words);
void delivery_login_nonsense(struct delivery *);           /* the backend's answer is none that AUTH can have: the connection breaks */
void delivery_login_refused(struct delivery *);            /* a filter refused the user that the connection is logged in as: it is closed */
/* The connection on which the client authenticated is lost, and no other can be logged in as this user. */
bool delivery_login_is_lost(const struct delivery *);
/* Leaves a connection whose server was told of another client (XCLIENT, PROXY). One that AUTH logged in stays while the client is logged
 * in. */
void delivery_leave_bound(struct delivery *);
#endif
