/* milter.h - one connection of an MTA: the conversation (wire/milter.h) as a visit of a client, one packet after the other.
 *
 * A packet is in hand (`busy`) until it is answered, or taken where no answer is due. The next one waits in the pipe meanwhile, unless it ends
 * the message or the conversation. milter_turn runs until it waits, flushes once and sets one clock. */
#ifndef MILTER_MILTER_H
#define MILTER_MILTER_H
#include "mail/client.h"
#include "mail/message.h"
#include "mail/outlet.h"
#include "mail/visit.h"
#include "milter/worker.h"
#include "wire/milter.h"

enum place { /* where the conversation is, by the last packet that was taken */
    AT_START,  /* none: 'O' is due */
    AT_OPTION, /* 'C' is due */
    AT_CLIENT, /* the client is known, no message is under way */
    AT_MAIL, AT_RCPT, AT_DATA, AT_FIELDS, AT_EOH, AT_BODY, AT_END
};
enum macro { /* the macros of the MTA that are kept; their names are in macros.c */
    MACRO_J, MACRO_PEER, MACRO_V, MACRO_DAEMON_ADDR, MACRO_DAEMON_PORT, MACRO_CLIENT_PTR, MACRO_CLIENT_RESOLVE,
    MACRO_R, MACRO_TLS_VERSION, MACRO_CIPHER, MACRO_CIPHER_BITS, MACRO_CERT_SUBJECT, MACRO_CERT_ISSUER, MACRO_VERIFY, MACRO_TLS_SNI,
    MACRO_AUTH_TYPE, MACRO_AUTH_AUTHEN, MACRO_I, MACROS
};
enum edit { EDIT_NOT_BEGUN, EDIT_BODY, EDIT_LAST }; /* which part of the answer to the end of a message is being said */
struct heard { /* a recipient as the MTA named it */
    struct heard *next;
    uint32_t rcpt;
    struct str raw, path; /* raw: the octets of its packet, which name it when it is removed; path: rcpt.path.raw at that time, to see an edit */
};
struct was { struct str name, value; }; /* a field as it came */
struct planned { struct planned *next; struct milter_packet packet; }; /* an edit that is still to be said */

enum { MILTER_MAGIC = 0x31173Bu };
struct milter {
    unsigned magic;
    struct task task;
    struct alarm alarm;
    struct milter_worker *worker;
    struct milter *next, *prev;
    const struct milter_conf *listen;
    uint32_t listen_id;
    struct stream *stream;
    struct str peer;               /* its address, or "unix" */
    struct arena arena;            /* of the connection */

    /* the client at hand */
    struct visit visit;
    struct visit_conf conf;        /* visit.conf: the listener's, with the MTA's own name as hostname */
    struct client client;
    struct outlet outlet;
    struct arena life, scratch;
    struct reply refusal;          /* by a connect or tls hook: each MAIL hears it; code 0: none */
    uint64_t started;              /* loop_micros */
    char *tls_told;                /* the TLS that filters were asked about; text_set */
    uint32_t packets;              /* since this client began, for the log */
    const char *why;               /* the connection ends, and why, for the log; NULL: it goes on */
    bool faulty;                   /* `why` is an error */

    /* the conversation */
    struct milter_reader reader;
    struct milter_option agreed;
    char *macros[MACROS];          /* text_set */
    char macros_of;                /* the command that the last packet of macros came before; 0: another packet has come since */
    enum place place;
    char busy;                     /* kind of the packet in hand; 0: none */
    char answer;                   /* to a body packet that was taken: 'c' continue, 's' skip the rest */
    struct str name;               /* of the HELO in hand */
    bool crowded;                  /* more connections than milter_conf.connections: its mail hears 451 */
    bool closing;                  /* to be closed when what is written has left */
    /* loop_now; 0: not running. written_mark: octets of the stream written when write_by was set */
    uint64_t command_by, packet_by, idle_by, write_by, written_mark, progress_at, leave_by;
    uint64_t paused_at;            /* loop_now: since then memory is short, and the content that has come waits; 0: it is taken */

    /* the message at hand: visit.message is &message, or NULL */
    struct message message;
    struct path from;              /* as it came */
    struct str from_params;
    struct heard *heard, **heard_end;
    uint32_t fields;               /* that the MTA sent */
    uint64_t head_octets;          /* put into the header section */
    bool head_ended;               /* EOH has come */
    bool data_refused;             /* by a filter: the MTA may go on with R and T */
    struct was *was;               /* [fields]: from the end of the header section on */
    enum edit edit;
    struct pipe said_body;         /* read from the spool, on its way into packets */
    struct planned *planned;       /* what is said behind the body */
};

/* ---- milter.c: packets in and out, clocks, the end ---- */
void milter_say_packet(struct milter *, const struct milter_packet *);
void milter_say_kind(struct milter *, char kind);
void milter_say_reply(struct milter *, const struct reply *);
bool milter_is_awaited(const struct milter *, char kind); /* an answer to it is due */
void milter_close(struct milter *, const char *why, bool faulty); /* when what is written has left, at the end of a turn. why: lives on */
void milter_fault(struct milter *, struct str what); /* the MTA broke the protocol: logged, and closed */
void milter_begin_visit(struct milter *);
void milter_end_visit(struct milter *);

/* ---- events.c: what packets mean ---- */
void milter_take(struct milter *, const struct milter_packet *); /* the packet is in hand behind it, or has been dealt with */
bool milter_nobody_is_left(const struct message *); /* filters left out every recipient that was named, and added none */
bool milter_go_on(struct milter *);                              /* true: nothing is in hand any more */
void milter_message_end(struct milter *, enum transaction_end);

/* ---- negotiate.c ---- */
bool milter_negotiate(struct milter *, const struct milter_option *); /* false: the MTA offers too little, and the connection ends */
bool milter_is_agreed(const struct milter *, const struct chain *); /* what the chain needs of an MTA this one has been asked for */

/* ---- content.c ---- */
void milter_field(struct milter *, const struct milter_packet *);
void milter_end_head(struct milter *);
void milter_body(struct milter *, struct str octets);
void milter_content_end(struct milter *);
bool milter_memory_is_short(const struct milter *); /* of the worker: what holds more of it has to wait, or is put off */
bool milter_must_pause(struct milter *, const struct milter_packet *content);
bool milter_head_is_done(struct milter *);  /* headers hooks are done, or the content was refused */
bool milter_body_is_taken(struct milter *);
bool milter_wants_body(struct milter *);
bool milter_is_judged(struct milter *);

/* ---- edits.c ---- */
void milter_keep_fields(struct milter *);   /* as they came, before a filter has seen them */
bool milter_edits(struct milter *);         /* says what filters changed. True: all of it has been said, or it cannot be said and the message is refused */

/* ---- macros.c ---- */
extern const char *const milter_macro_lists[MILTER_WHERES];
void milter_macros_take(struct milter *, const struct milter_packet *);
void milter_macros_forget(struct milter *, enum macro from); /* this one and those behind it in enum macro */
struct str milter_macro(const struct milter *, enum macro); /* its value; "": not told */
void milter_client(struct milter *, const struct milter_packet *connect); /* fills m->client */
bool milter_client_tls(struct milter *);    /* true: the client has (another) TLS, and tls hooks have not been called for it */
bool milter_client_auth(struct milter *);   /* true: a user, or another one, has authenticated since the last call */

extern const struct outlet_ops milter_outlet;
#endif
