/* codec.h - small encodings of mail: base64, quoted-printable words, encoded words (RFC 2045 6, 2047). Pure. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H
#include "base/arena.h"

bool base64_decode(struct str, struct arena *, struct str *); /* WSP and line ends passed over; false: other octets */
struct str base64_encode(struct str, struct arena *);
/* Unfolded field value with its encoded words turned to UTF-8: utf-8, us-ascii, iso-8859-1, windows-1252 and iso-8859-15
 * inside; words in other charsets stay as they are. WSP between adjacent encoded words goes (RFC 2047 6.2). */
struct str words_decode(struct str, struct arena *);
/* The reverse: ASCII text as it is, else =?UTF-8?B?...?= words of at most 75 octets, cut at character borders, parted by SP. */
struct str words_encode(struct str, struct arena *);
#endif
