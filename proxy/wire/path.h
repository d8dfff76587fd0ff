/* path.h - parses and writes reverse-paths and forward-paths: RFC 5321 4.1.2 and 4.1.3, with RFC 6531 3.3 for UTF-8. Pure. */
#ifndef WIRE_PATH_H
#define WIRE_PATH_H
#include "base/arena.h"
#include "wire/reply.h"
#include "wire/syntax.h"

/* All texts are in the arena, NUL-terminated, and never STR_NONE after a successful parse: <> has empty address, local and domain. */
struct path {
    struct str raw;     /* the text between < and >, as typed (source route included), or corrected to the form of RFC 5321 */
    struct str said;    /* raw without the source route: the text that is sent to a backend */
    struct str address; /* local@domain, local unquoted, domain lower case; "" for <>; "postmaster" for <Postmaster> */
    struct str local;   /* unquoted, quoted pairs resolved */
    struct str domain;  /* lower case; address literals with brackets, in canonical form; "" for <> and <Postmaster> */
    bool utf8;          /* it has octets above 127: needs SMTPUTF8 */
    bool null;          /* <> */
};

enum path_kind { PATH_REVERSE, PATH_FORWARD };
enum { PATH_LOCAL_MOST = 64 * 4, PATH_DOMAIN_MOST = 255, PATH_MOST = 1024 }; /* octets; at least those of RFC 5321 4.5.3.1 */

/* Parses "<...>" at the head of *rest (after "FROM:" or "TO:" and optional SP) and leaves the text after it in *rest.
 * Source routes (@a,@b:) are accepted and dropped. <> only as PATH_REVERSE, <Postmaster> (no domain) only as PATH_FORWARD;
 * any other local part without a domain is refused. Address literals: [IPv4], [IPv6:...], [tag:content]. A path without angle
 * brackets is refused. Returns 0 on success, else the name of the reply.
 *
 * LENIENT accepts more, and `raw` is then corrected to the form of RFC 5321: missing angle brackets; SP and HTAB at the ends and around
 * the "@"; adjacent dots, or dots at the ends of a local part; quoted words between unquoted ones; a colon in the local part; a final dot
 * of the domain; a name without a domain (kept as it is, since RFC 5321 has no form for it). Still refused, because two programs may read
 * them differently: comments, two "@", unpaired or doubled brackets, a route after white space, a backslash outside of quotes, and "%",
 * "!" or quotes in a name without a domain. */
int path_parse(struct str *rest, enum path_kind, enum syntax, struct arena *, struct path *);
/* Parses an address without <>, as filters and the configuration give it; "" is the null path. Returns as path_parse. */
int path_from_address(struct str, enum path_kind, struct arena *, struct path *);
/* Appends "<...>" with path->said, as it is sent to a backend. */
void path_put(const struct path *, struct pipe *out);
struct str path_print(const struct path *, struct arena *); /* the same as text */
#endif
