/* rdns.h - the name of the client: PTR of its address, confirmed by A or AAAA. XCLIENT needs it, because a backend that is told
 * an address asks for no name itself, and "[UNAVAILABLE]" for everybody would make reject_unknown_client_hostname refuse all mail. */
#ifndef MAIL_RDNS_H
#define MAIL_RDNS_H
#include "net/dns.h"

struct client;
/* NONE: not asked for. PTR, FORWARD: that look-up is under way. Final: OK confirmed; FORGED the name has other addresses; TEMP a question
 * failed for now; FAIL there is no name. */
enum rdns_state { RDNS_NONE, RDNS_PTR, RDNS_FORWARD, RDNS_OK, RDNS_FORGED, RDNS_TEMP, RDNS_FAIL };
struct rdns {
    enum rdns_state state;
    struct dns_query *query;
    char *ptr;      /* what the address points to; "" unless there is one; text_set */
};
/* Once per client; loopback addresses are not looked up. dns NULL: there is no resolver. */
void rdns_start(struct client *, struct dns *, struct task *woken);
bool rdns_is_done(struct client *, struct dns *, struct task *woken); /* call when woken; true: state is final */
void rdns_stop(struct rdns *);
void rdns_set(struct rdns *, enum rdns_state, struct str ptr); /* a trusted peer told the name; a look-up under way is given up */
const char *rdns_name(const struct rdns *);         /* the verified name, or NULL */
const char *rdns_xclient(const struct rdns *);      /* NAME=: the name, [UNAVAILABLE] or [TEMPUNAVAIL] */
const char *rdns_xclient_reverse(const struct rdns *); /* REVERSE_NAME= */
const char *rdns_resolve(const struct rdns *);      /* "ok" "forged" "temp" "fail", or NULL */
#endif
