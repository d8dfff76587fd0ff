/* authres.h - Authentication-Results (RFC 8601 2.2), read as tokens: what stands in a quoted string or a comment is never a
 * result. Pure.
 *
 * What is not closed takes the rest of its field. Blanks, comments and folds stand anywhere; case does not matter. */
#ifndef WIRE_AUTHRES_H
#define WIRE_AUTHRES_H
#include "base/arena.h"

struct authres { /* private */
    struct arena *arena;
    struct str rest;
};
struct authres_result {
    struct str method, result; /* in lower case, without the method's version */
    struct str rest;           /* reason and properties, for authres_property */
};
struct authres_property {
    struct str name, value; /* "smtp.mailfrom" in lower case; the value without its quotes */
};

/* Reads the authserv-id and the version of an unfolded value. False: there is no id. */
bool authres_start(struct authres *, struct str value, struct arena *, struct str *id);
bool authres_next(struct authres *, struct authres_result *); /* false: there are no more; clauses without a result are passed over */
bool authres_property(struct authres_result *, struct arena *, struct authres_property *); /* false: there are no more */
#endif
