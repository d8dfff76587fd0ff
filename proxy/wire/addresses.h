/* addresses.h - iterates over the addresses of one header field (RFC 5322 3.4, with obsolete and malformed ones). Pure.
 *
 * Never fails: a quote that is not closed is an ordinary character, "<" without ">" ends at the next "," or at the end of the value, a
 * comment that is not closed extends to the end. ";" separates as "," does. A group gives its members. Two pairs of angle brackets in
 * one mailbox give two addresses. Time is linear in the length of the value. */
#ifndef WIRE_ADDRESSES_H
#define WIRE_ADDRESSES_H
#include "base/arena.h"

enum { ADDRESSES_MOST = 10000 }; /* limit that callers apply to the addresses of all fields together */
struct mailbox {
    /* Without quotes, quoted pairs, comments, source routes (RFC 5322 3.4, 4.4) and the final dot of the domain; valid UTF-8 without
     * control characters. The domain is in lower case, "" if there is none. */
    struct str address, local, domain;
    struct str name; /* the display name as it stands in the field, encoded words not decoded */
};
struct addresses { /* private */
    struct arena *arena;
    struct str rest;
    char *text, *quoted; /* of the current mailbox, outside of angle brackets: its octets, and which of them were quoted */
    size_t len;
    char *inside, *inside_quoted;
    size_t inside_len;
    size_t words_at; /* offset of the next word in `text`, when several addresses stand there without "," */
    bool in_angle, had_angle, in_words, has_at, no_quotes;
};

void addresses_start(struct addresses *, struct str value, struct arena *); /* value: unfolded; it must outlive the iteration */
bool addresses_next(struct addresses *, struct mailbox *);                  /* false: there are no more */
#endif
