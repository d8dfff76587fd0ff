/* trial.h - one message through a chain, from connect to the end of mail data: a front of mail that speaks no protocol, and an outlet
 * that keeps what would have left. */
#ifndef TRY_TRIAL_H
#define TRY_TRIAL_H
#include "mail/outgoing.h"
#include "mail/outlet.h"
#include "try/record.h"
#include "wire/content.h"

struct try_hop { const struct next_hop *hop; struct str address; };
struct try_world { /* what all messages of a run share */
    struct mail_worker worker;
    struct filter_set filters;
    struct visit_conf conf;       /* a copy of a listener's, with the chain that is tried */
    struct try_hop *hops; size_t nhops; /* the first: where mail goes unless a filter says otherwise */
    enum data_when data_when;     /* as the front decides it for this chain: when content goes on */
    enum bare bare;               /* what it makes of bare line ends */
    bool milter;                  /* as by milter/: the MTA keeps the message, filters hear no reply of a next hop, quarantine needs no backend */
    struct str dns;               /* DNS servers; NONE: those of the machine */
    struct dns_source *zone;      /* answers in place of DNS servers; NULL: none */
    uint64_t end_by;              /* milliseconds that message hooks have behind the end of content; filters see it as transaction.end_by */
    bool no_dns, offline;         /* as in struct filter_set */
};
/* False: there is no resolver, and `error` (room octets) says why. */
bool world_open(struct try_world *, const struct mail_conf *, char *error, size_t room);
void world_close(struct try_world *);

struct try_rcpt { struct str address, params; };
struct try_who { /* the client and the envelope; texts "" where nothing is said */
    struct str ip, helo, from, mail_params, user, method;
    uint16_t port;
    bool authenticated, says_helo; /* says_helo: not EHLO */
    struct str server_ip;         /* our address that the client came to; NONE: not known */
    uint16_t server_port;
    enum rdns_state rdns;         /* RDNS_NONE: it is not looked up, filters may */
    struct str rdns_name;
    struct str tls;               /* the version; "": in the clear */
    struct tls_facts tls_facts;
    const struct try_rcpt *rcpts; size_t nrcpts;
    struct reply mail_reply, rcpt_reply, end_reply; /* what the next hop says */
};

enum fate { FORWARDED, REFUSED, DEFERRED, DROPPED, DISCARDED, QUARANTINED, FAILED }; /* FAILED: by a filter's error */
enum { FATES = FAILED + 1 };
const char *fate_name(enum fate); /* "forwarded" "reject" "defer" "drop" "discard" "quarantine" "error" */

struct trial {
    struct task task;
    struct alarm alarm;
    struct try_world *world;
    const struct try_who *who;
    struct visit visit;
    struct client client;
    struct message message;
    struct outlet outlet;
    struct record record;
    struct arena life, scratch;
    struct decoder decoder;
    const struct next_hop *hop;
    struct reply mail_reply;      /* of the next hop; code 0: not asked yet */
    struct str content, left, tail; /* content as a client sends it; left, then tail: the part that is not decoded yet */
    bool has_content, raw;
    enum { TRIAL_CONNECT, TRIAL_TLS, TRIAL_HELO, TRIAL_AUTH, TRIAL_MAIL, TRIAL_RCPT, TRIAL_DATA, TRIAL_CONTENT, TRIAL_JUDGE, TRIAL_OVER } step;
    struct rcpt *parsed;          /* who->rcpts, parsed: each enters the envelope at its RCPT */
    uint32_t said;                /* how many have */
    uint32_t rcpt;                /* of the recipient in hand, its index in the envelope */
    struct outgoing outgoing;
    bool open;                    /* a backend would have been told DATA by now */
    struct pipe out;              /* what would have left; empty unless forwarded or quarantined */
    enum fate fate;
    const char *stage;            /* the one that decided; NULL: none did */
    struct str by, why;           /* the filter; NONE: none */
    struct reply reply;           /* what the client hears last */
    bool by_backend;
    uint64_t took;                /* microseconds */
};
/* Runs a trial to its end. content NONE: up to RCPT. raw: content stands as it is, else bare line ends are mended. The trial keeps what it
 * found for the report, until trial_free. False: an address or a parameter is malformed, and `error` (room octets) says which. */
bool trial_run(struct trial *, struct try_world *, const struct try_who *, struct str content, bool raw, char *error, size_t room);
void trial_free(struct trial *);
bool trial_leaves(const struct trial *); /* it is forwarded or quarantined */
#endif
