/* reply.h - replies of SMTP: made, parsed, written (RFC 5321 4.2, enhanced codes of RFC 2034 and 3463). Pure.
 *
 * Every reply text of Sluice itself stands in replies.def: REPLY(name, code, enhanced, text). */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H
#include "base/pipe.h"

struct reply {
    uint16_t code;        /* 0: none yet */
    uint16_t enhanced[3]; /* class 0: none */
    struct str text;      /* without codes; '\n' separates lines; no other control octets than HTAB */
};

enum { REPLY_OCTETS = 4096, REPLY_LINES = 50 }; /* of one reply of a backend */

enum reply_name {
#define REPLY(name, code, enhanced, text) REPLY_##name,
#include "wire/replies.def"
#undef REPLY
    REPLY_COUNT
};
struct reply reply_named(enum reply_name); /* for texts without "%s"; the text is constant memory */
/* For texts with "%s": a const char * for each. Control octets except HTAB become '?'. */
struct reply reply_print(struct arena *, enum reply_name, ...);
static inline unsigned reply_class(const struct reply *r)
{
    return r->code / 100;
}

/* Appends the reply as lines "code-[e.n.h ]text CRLF", the last one with SP in place of '-'. `enhanced` false: without enhanced codes. A
 * text line longer than 500 octets is split. The code must not be 0. */
void reply_put(const struct reply *, struct pipe *out, bool enhanced);

/* Takes one complete reply off `in`. MORE: it is incomplete. All lines of a reply must have the same code (RFC 5321 4.2.1). A well-formed
 * enhanced code of the class of the code is removed from each line, and the one of the first line is kept.
 * BAD: not three digits and then SP, '-' or the end of the line; bare LF or CR; a code below 200 or above 599; more than REPLY_OCTETS or
 * REPLY_LINES. It is returned as early as possible, also for a line that does not end. Control octets in the text become '?'. Text that is
 * not UTF-8 is kept. After BAD the connection must be closed, since replies can no longer be told apart. */
enum reply_took { REPLY_MORE, REPLY_TAKEN, REPLY_BAD };
enum reply_took reply_take(struct pipe *in, struct arena *, struct reply *);

/* The codes that a reply text from a filter or the configuration begins with: a code of three digits (followed by SP, HTAB, a line end or
 * the end), an enhanced code (RFC 3463 2), both or neither. The values are not checked: the code may be any number of three digits. */
struct reply_front {
    bool has_code;
    uint16_t code, enhanced[3]; /* enhanced[0] 0: none */
    size_t enhanced_at, octets; /* offset of the enhanced code; length of both codes with the white space after them */
};
struct reply_front reply_front(struct str);

/* Makes a reply of class `class` (2, 4 or 5) from "550 5.7.1 text", "550 text", "5.7.1 text" or "text" (lines separated by '\n').
 * A missing code is taken from `otherwise`, and so is a missing enhanced code if it is of this class; else it is class.0.0. False: the code
 * is not of that class or not in 200..599, or the enhanced code is of another class. Control octets are removed; at most 20 lines of 400
 * octets are kept. */
bool reply_from_text(struct str, unsigned class, struct reply otherwise, struct arena *, struct reply *);
/* Gives a reply without an enhanced code one that fits its code: class.0.0, or a more specific one for codes that imply it. */
void reply_complete(struct reply *);
#endif
