/* sasl.h - the part of SASL that a relay of AUTH reads: mechanism names, the form of a response, and the user name in it (RFC 4954, 4616
 * PLAIN, 5802 SCRAM, 7628 OAUTHBEARER; LOGIN, XOAUTH2 and CRAM-MD5 as commonly used). Pure. Passwords are never stored. */
#ifndef WIRE_SASL_H
#define WIRE_SASL_H
#include "base/arena.h"

enum { SASL_LINE = 12288, SASL_USER = 255 }; /* most octets of a line of the exchange with CRLF (RFC 4954 4), and of a user name */

bool sasl_mechanism_is_valid(struct str); /* RFC 4422 3.1: 1 to 20 of A-Z 0-9 - _ (any case) */
/* base64 as RFC 4954 requires it: no space, padding only at the end, complete groups of four; "=", an empty initial response, is valid,
 * "*", which cancels, is not. */
bool sasl_response_is_valid(struct str);
/* The user name in response number `turn` of this mechanism (0: the initial response, or the one to the first challenge), in the arena.
 * STR_NONE: this response has none, the mechanism is unknown, or the name has control octets or more than SASL_USER octets. */
struct str sasl_user(struct str mechanism, unsigned turn, struct str response, struct arena *);
#endif
