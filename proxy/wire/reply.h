/* reply.h - a reply as a value: made, parsed, written (RFC 5321 4.2, enhanced codes RFC 2034 and 3463). Pure.
 *
 * Every sentence of our own stands in replies.def: REPLY(name, code, enhanced, text). */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H
#include "base/pipe.h"

struct reply {
    uint16_t code;        /* 0: none yet */
    uint16_t enhanced[3]; /* class 0: none */
    struct str text;      /* without codes; '\n' parts the lines; never CR, NUL or other control octets but HTAB */
};

enum { REPLY_OCTETS = 4096, REPLY_LINES = 50 }; /* of one reply of a backend */

enum reply_name {
#define REPLY(name, code, enhanced, text) REPLY_##name,
#include "wire/replies.def"
#undef REPLY
    REPLY_COUNT
};
struct reply reply_named(enum reply_name); /* constant text; texts with %s go through reply_print */
struct reply reply_print(struct arena *, enum reply_name, ...); /* the name's text as a printf format ("%s" only); control octets but HTAB become '?' */
static inline unsigned reply_class(const struct reply *r)
{
    return r->code / 100;
}

/* Appends it as lines "code-[e.n.h ]text CRLF". `enhanced` false: without enhanced codes. A line of text longer than 500
 * octets is cut into several. Code 0 is a bug. */
void reply_put(const struct reply *, struct pipe *out, bool enhanced);

/* Takes one complete reply off `in`, if it is there. Multi-line replies: all lines must carry one code (RFC 5321 4.2.1);
 * the enhanced code is taken off each line when it is well formed and of the code's class (kept from the first line).
 * BAD: not three digits and SP, '-' or the end; line without CRLF; bare LF or CR; first digit not 2..5 or code < 200 or
 * > 599; more than REPLY_OCTETS or REPLY_LINES; found as soon as it can be known (endless lines too). Control octets in the
 * text become '?'. Texts that are not UTF-8 pass as they are. After BAD the peer is of no use. */
enum reply_took { REPLY_MORE, REPLY_TAKEN, REPLY_BAD };
enum reply_took reply_take(struct pipe *in, struct arena *, struct reply *);

/* What stands in front of a text from a filter or the configuration: a code of three digits (then SP, HTAB, a line end or nothing), an
 * enhanced code (RFC 3463 2), both or neither. Nothing is judged: the code may be any number, of any class. */
struct reply_front {
    bool has_code;
    uint16_t code, enhanced[3]; /* enhanced[0] 0: none */
    size_t enhanced_at, octets; /* where the enhanced code begins; how much it all takes, with the white space behind */
};
struct reply_front reply_front(struct str);

/* "550 5.7.1 text", "550 text", "5.7.1 text" or "text" (several lines: '\n') into a reply of class `class` (2, 4 or 5).
 * What is not given comes from `otherwise`: its code when none is given (and its enhanced code, if of the same class; else
 * class.0.0). False when a code is not of that class, is not in 200..599, or the enhanced class differs from the code's.
 * Control octets go; at most 20 lines of 400 octets are kept. */
bool reply_from_text(struct str, unsigned class, struct reply otherwise, struct arena *, struct reply *);
/* Gives a reply that has no enhanced code the one that fits its code: class.0.0, or more exact where the code says so. */
void reply_complete(struct reply *);
#endif
