/* authres.h - parses Authentication-Results (RFC 8601 2.2) by tokens, so that text within a quoted string or a comment is never taken
 * for a result. Pure.
 *
 * A quoted string or comment that is not closed extends to the end of the field. White space and comments are allowed between all
 * tokens; keywords are compared without case. */
#ifndef WIRE_AUTHRES_H
#define WIRE_AUTHRES_H
#include "base/arena.h"

struct authres { /* private */
    struct arena *arena;
    struct str rest;
};
struct authres_result {
    struct str method, result; /* in lower case, without the method's version */
    struct str rest;           /* the reason and properties, read by authres_property */
};
struct authres_property {
    struct str name, value; /* "smtp.mailfrom" in lower case; the value without its quotes */
};

/* Reads the authserv-id and the version of an unfolded value, which must outlive the iteration. False: there is no authserv-id. */
bool authres_start(struct authres *, struct str value, struct arena *, struct str *id);
bool authres_next(struct authres *, struct authres_result *); /* false: there are no more. Clauses without a result are skipped */
bool authres_property(struct authres_result *, struct arena *, struct authres_property *); /* false: there are no more */
#endif
