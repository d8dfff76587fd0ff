/* token.h - how far a token of structured header fields reaches (RFC 5322 3.2.2 comments, 3.2.4 quoted strings). */
#ifndef WIRE_TOKEN_H
#define WIRE_TOKEN_H
#include "base/str.h"

/* The length of the comment "(...)" or quoted string that s begins with, nested comments and quoted pairs within; s.len + 1: it has no end. */
size_t token_comment(struct str s);
size_t token_quoted(struct str s);
#endif
