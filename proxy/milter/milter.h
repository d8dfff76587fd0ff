/* milter.h - one connection of an MTA: the conversation (wire/milter.h) as a visit of a client, one packet after the other.
 *
 * A packet is in hand (`busy`) until it is answered, or taken where no answer is due; the next one waits in the pipe meanwhile, but those
 * that end a message or the conversation. milter_turn runs until it waits, flushes once and sets one clock. */
#ifndef MILTER_MILTER_H
#define MILTER_MILTER_H
#include "mail/client.h"
#include "mail/message.h"
#include "mail/outlet.h"
#include "mail/visit.h"
#include "milter/worker.h"
#include "wire/milter.h"

enum place { /* in the conversation: the last packet that was taken */
    AT_START,  /* none: 'O' is due */
    AT_OPTION, /* 'C' is due */
    AT_CLIENT, /* the client is known, no message is under way */
    AT_MAIL, AT_RCPT, AT_DATA, AT_FIELDS, AT_EOH, AT_BODY, AT_END
};
enum macro { /* of those the MTA tells; their names are in macros.c */
    MACRO_J, MACRO_PEER, MACRO_V, MACRO_DAEMON_ADDR, MACRO_DAEMON_PORT, MACRO_CLIENT_PTR, MACRO_CLIENT_RESOLVE,
    MACRO_R, MACRO_TLS_VERSION, MACRO_CIPHER, MACRO_CIPHER_BITS, MACRO_CERT_SUBJECT, MACRO_CERT_ISSUER, MACRO_VERIFY, MACRO_TLS_SNI,
    MACRO_AUTH_TYPE, MACRO_AUTH_AUTHEN, MACRO_I, MACROS
};
enum edit { EDIT_NOT_BEGUN, EDIT_BODY, EDIT_LAST };
struct heard { /* a recipient as the MTA named it */
    struct heard *next;
    uint32_t rcpt;
    struct str raw, path; /* the octets of its packet; what was understood of them, to know it again */
};
struct was { struct str name, value; }; /* a field as it came */
struct planned { struct planned *next; struct milter_packet packet; };

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
    struct visit_conf conf;        /* its conf: that of the listener, with the name that the MTA has */
    struct client client;
    struct outlet outlet;
    struct arena life, scratch;
    struct reply refusal;          /* at connect, or of TLS: what its mail hears; code 0: none */
    uint64_t started;              /* loop_micros */
    char *tls_told;                /* the TLS that filters were asked about; text_set */
    uint32_t packets;
    const char *why;               /* it ends; NULL: not yet */
    bool faulty;                   /* by an error */

    /* the conversation */
    struct milter_reader reader;
    struct milter_option agreed;
    char *macros[MACROS];          /* text_set */
    char macros_of;                /* the command that the last packet of macros came before; 0: another packet has come since */
    enum place place;
    char busy;                     /* kind of the packet in hand; 0: none */
    char answer;                   /* to a body that was taken: 'c', 's' */
    struct str name;               /* of the HELO in hand */
    bool crowded;                  /* it is one too many: its mail is put off */
    bool closing;                  /* to be closed when what is written has left */
    uint64_t command_by, packet_by, idle_by, write_by, written_mark, progress_at, leave_by;

    /* the message at hand: visit.message is &message, or NULL */
    struct message message;
    struct path from;              /* as it came */
    struct str from_params;
    struct heard *heard, **heard_end;
    uint32_t fields;               /* that came */
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
void milter_close(struct milter *, const char *why, bool faulty); /* as soon as what is written has left; at the end of the turn */
void milter_fault(struct milter *, struct str what);
void milter_begin_visit(struct milter *);
void milter_end_visit(struct milter *);

/* ---- events.c: what packets mean ---- */
void milter_take(struct milter *, const struct milter_packet *); /* it is in hand then, or has been dealt with */
bool milter_nobody_is_left(const struct message *); /* whoever was named is left out by filters, and nobody was added */
bool milter_go_on(struct milter *);                              /* true: nothing is in hand any more */
void milter_message_end(struct milter *, enum transaction_end);
bool milter_negotiate(struct milter *, const struct milter_option *);

/* ---- content.c ---- */
void milter_field(struct milter *, const struct milter_packet *);
void milter_end_head(struct milter *);
void milter_body(struct milter *, struct str octets);
void milter_content_end(struct milter *);
bool milter_head_is_done(struct milter *);  /* headers hooks are done, or the content was refused */
bool milter_body_is_taken(struct milter *);
bool milter_wants_body(struct milter *);
bool milter_is_judged(struct milter *);

/* ---- edits.c ---- */
void milter_keep_fields(struct milter *);   /* as they came, before a filter has seen them */
bool milter_edits(struct milter *);         /* says what has been changed. True: all has been said, or cannot be (the message is refused) */

/* ---- macros.c ---- */
extern const char *const milter_macro_lists[MILTER_WHERES];
void milter_macros_take(struct milter *, const struct milter_packet *);
void milter_macros_forget(struct milter *, enum macro from);
struct str milter_macro(const struct milter *, enum macro);
void milter_client(struct milter *, const struct milter_packet *connect);
bool milter_client_tls(struct milter *);    /* true: it has (another) TLS that filters have not been asked about */
bool milter_client_auth(struct milter *);   /* true: somebody (else) has authenticated */

extern const struct outlet_ops milter_outlet;
#endif
