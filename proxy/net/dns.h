/* dns.h - the DNS resolver: c-ares on the loop. Answers are values of the form that filter_dns has in filters/filter.h. */
#ifndef NET_DNS_H
#define NET_DNS_H
#include "base/failure.h"
#include "base/value.h"
#include "net/loop.h"

struct dns;
/* servers: "127.0.0.1:53,[::1]:5353"; NULL: those of resolv.conf. Returns NULL with `error`. */
struct dns *dns_open(struct loop *, const char *servers, char *error, size_t room);
/* Answers from memory in place of DNS servers, for `sluice try` and tests. */
enum { DNS_NEVER = ~0u >> 1 };
struct dns_source { /* the first member of its implementation; outlives the resolver */
    /* Answers a query as struct dns_query reports it; with FAILURE_NONE *value is the answer, in the arena. type is one of those of dns_ask;
     * for "ptr", name is already the reversed one. *delay: milliseconds until the answer is delivered; DNS_NEVER: the query times out. */
    enum failure (*answer)(struct dns_source *, const char *type, struct str name, struct arena *, struct filter_value *value, unsigned *delay);
};
struct dns *dns_open_source(struct loop *, struct dns_source *);
void dns_close(struct dns **); /* pending queries end with FAILURE_CANCELLED. Sets the pointer to NULL */

struct dns_query {
    bool done;
    enum failure error;         /* when done; NONE: value is the answer */
    struct filter_value value;  /* map: ttl (number), authentic (bool), list (of text; mx: maps {preference, name}; srv: maps
                                   {priority, weight, port, name}; txt: strings of one record joined) */
    struct arena arena;         /* holds value */
    struct task *task;          /* woken when done */
};
/* Starts a query; it never completes inside this call. type: "a" "aaaa" "mx" "txt" "ptr" "cname" "srv" "ns" "soa" "tlsa"; ptr takes an IP
 * address or a name. ms: deadline in milliseconds (0: 5000). Unknown types and invalid names end with FAILURE_BADNAME. Never returns NULL;
 * the caller frees the query with dns_drop. */
struct dns_query *dns_ask(struct dns *, const char *type, struct str name, unsigned ms, struct task *);
void dns_drop(struct dns_query **); /* frees a query, done or pending, and sets the pointer to NULL */
#endif
