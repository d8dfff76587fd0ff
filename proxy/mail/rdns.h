/* rdns.h - the name of the client: PTR of its address, confirmed by A or AAAA. XCLIENT needs it, because a backend that is told
 * an address asks for no name itself, and "[UNAVAILABLE]" for everybody would make reject_unknown_client_hostname refuse all mail. */
#ifndef MAIL_RDNS_H
#define MAIL_RDNS_H
#include "net/dns.h"

struct session;
enum naming_state { NAMING_NONE, NAMING_PTR, NAMING_FORWARD, NAMING_OK, NAMING_FORGED, NAMING_TEMP, NAMING_FAIL };
struct naming {
    enum naming_state state;
    struct dns_query *query;
    char *ptr;      /* what the address points to; "" unless there is one; text_set */
};
void naming_start(struct session *);      /* once per session; loopback addresses are not looked up */
bool naming_is_done(struct session *);    /* call when woken; true: state is final */
void naming_stop(struct naming *);
const char *naming_name(const struct naming *);         /* the verified name, or NULL */
const char *naming_xclient(const struct naming *);      /* NAME=: the name, [UNAVAILABLE] or [TEMPUNAVAIL] */
const char *naming_xclient_reverse(const struct naming *); /* REVERSE_NAME= */
const char *naming_resolve(const struct naming *);      /* "ok" "forged" "temp" "fail", or NULL */
#endif
