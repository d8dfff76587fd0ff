/* path.h - reverse-path and forward-path: RFC 5321 4.1.2 and 4.1.3, with RFC 6531 3.3 for UTF-8. Pure. */
#ifndef WIRE_PATH_H
#define WIRE_PATH_H
#include "base/arena.h"
#include "wire/reply.h"
#include "wire/syntax.h"

/* All in the arena, all with a NUL behind; never STR_NONE after a successful parse: <> has empty address, local, domain. */
struct path {
    struct str raw;     /* what stood between < and >, as typed (source route included), or in RFC 5321's form */
    struct str said;    /* raw without the source route: what a peer is told */
    struct str address; /* local@domain, local unquoted, domain lower case; "" for <>; "postmaster" for <Postmaster> */
    struct str local;   /* unquoted, quoted pairs resolved */
    struct str domain;  /* lower case; address literals with their brackets, in one spelling; "" for <> and <Postmaster> */
    bool utf8;          /* an octet above 127 in it: needs SMTPUTF8 */
    bool null;          /* <> */
};

enum path_kind { PATH_REVERSE, PATH_FORWARD };
enum { PATH_LOCAL_MOST = 64 * 4, PATH_DOMAIN_MOST = 255, PATH_MOST = 1024 }; /* 4.5.3.1 honoured or exceeded */

/* Parses "<...>" at the head of *rest (after "FROM:" or "TO:" and optional SP), leaves what is behind it in *rest.
 * Source routes (@a,@b:) are accepted and dropped. <> only as PATH_REVERSE, <Postmaster> (no domain) only as PATH_FORWARD;
 * any other local part without a domain is refused. Address literals: [IPv4], [IPv6:...], [tag:content]. Without angle
 * brackets: refused. Returns 0 (no reply) when fine, else the reply's name.
 *
 * LENIENT takes more, and `raw` has it in the form of RFC 5321 then: no angle brackets; blanks and tabs at the ends and around the
 * "@"; dots side by side or at the ends of a local part; quoted words amid others; a colon in it; a final dot of the domain; a name
 * without a domain (printed so: there is no better form). Refused still, for two readers may take them for two things: comments,
 * two "@", unpaired or doubled brackets, a route behind a blank, a backslash outside of quotes, "%" or "!" or quotes in a name without a domain. */
int path_parse(struct str *rest, enum path_kind, enum syntax, struct arena *, struct path *);
/* From filters and configuration: an address without <>, "" being the null path. */
int path_from_address(struct str, enum path_kind, struct arena *, struct path *);
/* "<...>" as it goes to a peer: as it was typed, but for a route. */
void path_put(const struct path *, struct pipe *out);
struct str path_print(const struct path *, struct arena *); /* the same as text */
#endif
