/* dns.h - the resolver: c-ares on the loop, answers as values (shapes: filters/filter.h, filter_dns). */
#ifndef NET_DNS_H
#define NET_DNS_H
#include "base/failure.h"
#include "base/value.h"
#include "net/loop.h"

struct dns;
/* servers: "127.0.0.1:53,[::1]:5353"; NULL: resolv.conf. */
struct dns *dns_open(struct loop *, const char *servers, char *error, size_t room);
/* Answers out of memory, in place of servers: for who tries and tests. */
enum { DNS_NEVER = ~0u >> 1 };
struct dns_source { /* embedded in what implements it; outlives the resolver */
    /* As dns_query tells it; *value in the arena when NONE. type is one of those below, a name of ptr is reversed already. *delay, in
     * milliseconds: how long the answer takes; DNS_NEVER: the question times out when its time is up. */
    enum failure (*answer)(struct dns_source *, const char *type, struct str name, struct arena *, struct filter_value *value, unsigned *delay);
};
struct dns *dns_open_source(struct loop *, struct dns_source *);
void dns_close(struct dns **); /* open queries end with FAILURE_CANCELLED */

struct dns_query {
    bool done;
    enum failure error;         /* when done; NONE: value is the answer */
    struct filter_value value;  /* map: ttl (number), authentic (bool), list (of text; mx: maps {preference, name}; srv: maps
                                   {priority, weight, port, name}; txt: strings of one record joined) */
    struct arena arena;         /* what value stands in */
    struct task *task;          /* woken when done */
};
/* type: "a" "aaaa" "mx" "txt" "ptr" "cname" "srv" "ns" "soa" "tlsa" ; ptr takes an IP address or a name. Never completes inside the call. ms: the
 * query's own deadline (0: 5000). Unknown types and bad names end with FAILURE_BADNAME. */
struct dns_query *dns_ask(struct dns *, const char *type, struct str name, unsigned ms, struct task *);
void dns_drop(struct dns_query **); /* done or not; its answer is then ignored. Nulls */
#endif
