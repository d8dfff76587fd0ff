/* words.h - decodes and encodes the encoded words in the text of header fields (RFC 2047). Pure.
 *
 * Decoding is as lenient as mail programs are, so that a filter sees the text that a recipient will see. It never fails; time and memory
 * are linear in the length of the value. Charsets are converted by a function of the caller. */
#ifndef WIRE_WORDS_H
#define WIRE_WORDS_H
#include "base/arena.h"

/* Converts octets of a charset to UTF-8, in the arena. False: unknown charset. The result may contain invalid UTF-8. */
typedef bool words_convert(struct str octets, struct str charset, struct arena *, struct str *utf8);

/* The text of an unfolded value: valid UTF-8 without control characters. Encoded words are decoded anywhere, also next to other text
 * without white space between them. Adjacent ones of one charset are joined before they are converted, and white space between them is
 * removed (RFC 2047 6.2). One of an unknown charset or encoding stays as it is. Raw octets that are not UTF-8 become U+FFFD (one for a
 * truncated character, else one per octet). A run of control characters (C0, DEL, C1, HTAB) becomes one space; white space at both ends is
 * removed. */
struct str words_decode(struct str value, words_convert *, struct arena *);
/* The same without decoding encoded words, and without trimming: any octets as valid UTF-8 without control characters. */
struct str words_clean(struct str octets, struct arena *);

/* Whether encoded words stand directly before and after the text in its field. Readers drop white space between two encoded words, so a
 * space that is to remain there is put inside an encoded word. */
struct words_beside { bool word_before, word_after; };
/* Encodes text, as words_decode gives it, for a field. Tokens (separated by SP) of ASCII stay as they are; runs of tokens with UTF-8 become
 * =?UTF-8?B?...?= words of at most 75 octets, split between characters. A token that is not UTF-8 is written as raw octets, without a
 * charset. Text that would be read as an encoded word is encoded. Control octets become spaces. Valid UTF-8 decodes to the same text. */
struct str words_encode(struct str text, struct words_beside, words_convert *, struct arena *);
/* The same for fields of addresses (RFC 5322 3.4, RFC 2047 5): encodes display names and comments, and leaves addresses unchanged. */
struct str words_encode_addresses(struct str text, words_convert *, struct arena *);
#endif
