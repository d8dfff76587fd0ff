/* words.h - text of header fields: encoded words read and written (RFC 2047). Pure.
 *
 * Reading is as lenient as any reader of mail, so that a filter sees what a person will see; it never fails, and its
 * time and memory are linear in the value. Which charsets there are, a function says that the caller gives. */
#ifndef WIRE_WORDS_H
#define WIRE_WORDS_H
#include "base/arena.h"

/* Octets of a charset as UTF-8; false: there is no such charset. What is no UTF-8 in the result is mended here. */
typedef bool words_convert(struct str octets, struct str charset, struct arena *, struct str *utf8);

/* An unfolded value as text: valid UTF-8 without control characters. Encoded words are read anywhere, glued to text too;
 * adjacent ones of one charset are joined before they are converted, white space between words goes (6.2); one of an unknown
 * charset or encoding stays letter by letter. Raw octets that are no UTF-8 are U+FFFD (one for a character that is cut, else one for each). A run of control characters (C0,
 * DEL, C1, HTAB) is one space; outer white space goes. */
struct str words_decode(struct str value, words_convert *, struct arena *);
/* The same without reading encoded words: any octets as valid UTF-8 without control characters, untrimmed. */
struct str words_clean(struct str octets, struct arena *);

/* What stands beside the text in its field: there, white space between two encoded words would not be seen, so that one that
 * is meant to be is put inside. */
struct words_beside { bool word_before, word_after; };
/* Text as decode gives it, for a field: tokens (parted by SP) of ASCII go as they are; runs of tokens of UTF-8 become
 * =?UTF-8?B?...?= words of at most 75 octets, cut between characters. A token that is no UTF-8 goes out as its octets,
 * under no label. What could be read as an encoded word is encoded itself; what could not stays as it is. Control octets
 * become spaces. Text of valid UTF-8 decodes to the same. */
struct str words_encode(struct str text, struct words_beside, words_convert *, struct arena *);
/* The same for fields of addresses (RFC 5322 3.4, RFC 2047 5): only names and comments are encoded, addresses stay. */
struct str words_encode_addresses(struct str text, words_convert *, struct arena *);
#endif
