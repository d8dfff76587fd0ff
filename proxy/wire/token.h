/* token.h - the length of comments and quoted strings in structured header fields (RFC 5322 3.2.2, 3.2.4). Pure. */
#ifndef WIRE_TOKEN_H
#define WIRE_TOKEN_H
#include "base/str.h"

/* The length in octets of the comment "(...)" or quoted string that s begins with, with nested comments and quoted pairs. s.len + 1: it is
 * not closed. */
size_t token_comment(struct str s);
size_t token_quoted(struct str s);
#endif
