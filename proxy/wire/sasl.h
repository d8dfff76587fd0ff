/* sasl.h - the little of SASL that a relay has to read: mechanism names, the form of a response, and who it is that authenticates
 * (RFC 4954, 4616 PLAIN, 5802 SCRAM, 7628 OAUTHBEARER; LOGIN, XOAUTH2 and CRAM-MD5 as they are in use). Pure. Secrets pass by
 * here and are never kept. */
#ifndef WIRE_SASL_H
#define WIRE_SASL_H
#include "base/arena.h"

enum { SASL_LINE = 12288, SASL_USER = 255 }; /* octets: of a line of an exchange with its CRLF (RFC 4954 4), of a name */

bool sasl_mechanism_is_valid(struct str); /* RFC 4422 3.1: 1 to 20 of A-Z 0-9 - _ (any case) */
/* base64 as RFC 4954 wants it: no space, padding only at its end, whole quanta; "=" is an empty initial response, "*" none of it. */
bool sasl_response_is_valid(struct str);
/* The name in response number `turn` (0: the initial one, or the answer to the first challenge) of this mechanism, in the arena;
 * STR_NONE: it holds none, or the mechanism tells none. Control octets, or more than SASL_USER of them, are no name. */
struct str sasl_user(struct str mechanism, unsigned turn, struct str response, struct arena *);
#endif
