/* addresses.h - the addresses of one header field (RFC 5322 3.4, obsolete and broken forms too). Pure.
 *
 * Never fails: a quote without end is a letter, "<" without ">" ends at the next "," or at the end, a comment without end takes
 * the rest. ";" parts like ",". Groups give their members. Two pairs of angles in one mailbox give both. Time is linear. */
#ifndef WIRE_ADDRESSES_H
#define WIRE_ADDRESSES_H
#include "base/arena.h"

enum { ADDRESSES_MOST = 10000 }; /* what a caller should take of all fields together */
struct mailbox {
    /* Without quotes, quoted pairs, comments, routes (3.4, 4.4), a domain's last dot; valid UTF-8 without control characters.
     * Domain in lower case, "" where there is none. */
    struct str address, local, domain;
    struct str name; /* octets of the display name, its encoded words not read */
};
struct addresses { /* private */
    struct arena *arena;
    struct str rest;
    char *text, *quoted; /* of the mailbox at hand outside of angles: its octets, and which of them were quoted */
    size_t len;
    char *inside, *inside_quoted;
    size_t inside_len;
    size_t words_at; /* outside, the next word to look at where several stand without "," */
    bool in_angle, had_angle, in_words, has_at, no_quotes;
};

void addresses_start(struct addresses *, struct str value, struct arena *); /* value unfolded; it must outlive the walk */
bool addresses_next(struct addresses *, struct mailbox *);                  /* false: there are no more */
#endif
