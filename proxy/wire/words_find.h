/* words_find.h - finds one encoded word and splits it into its parts (RFC 2047 2). Private to words.c and words_encode.c. */
#ifndef WIRE_WORDS_FIND_H
#define WIRE_WORDS_FIND_H
#include "wire/words.h"

enum { WORD_CHARSET_MOST = 80 }; /* octets, with the language tag that may follow the charset (RFC 2231 5) */

struct encoded_word {
    struct str charset, text;
    bool q;     /* encoding Q; else B */
    size_t len; /* of the whole encoded word, in octets */
};

/* True: an encoded word begins at s.at[from]. *end is a cache between calls for one text, in which `from` must not decrease; 0 at first. */
bool words_find(struct str s, size_t from, size_t *end, struct encoded_word *);
bool words_is_readable(const struct encoded_word *, words_convert *, struct arena *); /* its charset is known, its text can be decoded */
#endif
