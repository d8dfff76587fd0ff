/* words_find.h - the inside of words.h: one encoded word, found and taken apart. */
#ifndef WIRE_WORDS_FIND_H
#define WIRE_WORDS_FIND_H
#include "wire/words.h"

enum { WORD_CHARSET_MOST = 80 }; /* the language behind it included (RFC 2231 5) */

struct encoded_word {
    struct str charset, text;
    bool q;
    size_t len; /* of all of it */
};

/* True: an encoded word begins at s.at[from]. *end is kept from call to call, `from` only grows; 0 at first. */
bool words_find(struct str s, size_t from, size_t *end, struct encoded_word *);
bool words_is_readable(const struct encoded_word *, words_convert *, struct arena *); /* its charset is known, its text can be decoded */
#endif
