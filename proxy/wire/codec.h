/* codec.h - base64 (RFC 2045 6.8). Pure. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H
#include "base/arena.h"

bool base64_decode(struct str, struct arena *, struct str *); /* skips WSP and line ends; false: other octets, or bad padding */
/* As lenient as mail programs are: skips all octets that are no base64 digits, padding may be missing or in the middle, a single digit
 * left over at the end is dropped. False: the text is not empty and has no digit. */
bool base64_decode_any(struct str, struct arena *, struct str *);
struct str base64_encode(struct str, struct arena *);
#endif
