/* codec.h - base64 (RFC 2045 6.8). Pure. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H
#include "base/arena.h"

bool base64_decode(struct str, struct arena *, struct str *); /* WSP and line ends passed over; false: other octets */
/* As readers of mail do: what is no digit is passed over, padding may be missing or stand amid, a lone last digit is dropped.
 * False: there is text, and no digit in it. */
bool base64_decode_any(struct str, struct arena *, struct str *);
struct str base64_encode(struct str, struct arena *);
#endif
