/* command.h - takes one command line off the pipe of a client and splits it into verb and argument (RFC 5321 4.1.1, 2.3.8). Pure. */
#ifndef WIRE_COMMAND_H
#define WIRE_COMMAND_H
#include "base/pipe.h"
#include "wire/syntax.h"

enum verb {
    VERB_NONE, /* unknown */
#define VERB(name, ...) VERB_##name,
#include "wire/verbs.def"
#undef VERB
    VERB_COUNT
};
const char *verb_name(enum verb);

enum line_took { LINE_MORE, LINE_TAKEN, LINE_TOO_LONG, LINE_BAD };
struct command {
    enum line_took took; /* set by the caller, not by command_parse. Not LINE_TAKEN: the other members are unset */
    enum verb verb;
    struct str word; /* the verb as typed; "MAIL FROM:" and "RCPT TO:" end at the verb */
    struct str rest; /* behind the verb, without the SP before it and without trailing SP */
};

/* Only CRLF ends a line (RFC 5321 2.3.8). With bare_lf_ends (listener setting `normalize`) a bare LF does too.
 * MORE: the line is not complete yet. TOO_LONG: more than `most` octets before CRLF; octets of such a line are dropped as they come, and
 * TOO_LONG is returned once, when its CRLF has come. BAD: a complete line that has a bare CR, bare LF or NUL in it.
 * TAKEN: *line is a copy in the arena, without its line end, NUL-terminated. */
struct line_reader {
    size_t scanned;   /* octets at the head of the pipe that are known to hold no line end */
    bool skipping;    /* within a line that is too long */
    bool last_was_cr; /* while skipping: the last octet dropped was CR */
};
enum line_took line_take(struct line_reader *, struct pipe *in, size_t most, bool bare_lf_ends, struct arena *,
                         struct str *line);

/* Splits a line; an unknown verb is VERB_NONE. LENIENT: HTAB counts as SP, and white space may precede the verb. */
void command_parse(struct str line, enum syntax, struct command *);
/* True for a line that an HTTP client would send, and no SMTP client ("GET / HTTP/1.1", "POST ", "Host: x"). */
bool command_is_http(struct str line);
/* EHLO and HELO argument: Domain or address literal (RFC 5321 4.1.1.1), lenient as Postfix is: any run of printable octets
 * without SP, '<', '>' up to 255, underscores too. False: 501. */
bool helo_is_valid(struct str);
/* Checks the argument and gives the name as the session stores it, in the arena. LENIENT: any UTF-8 up to 255 octets; a run of white space
 * becomes one SP, a control octet becomes "?". False: 501. */
bool helo_take(struct str, enum syntax, struct arena *, struct str *name);
/* The argument of BDAT (RFC 3030 2): chunk-size [SP "LAST"]. False: malformed, so the length of the chunk is unknown. */
bool bdat_parse(struct str, uint64_t *octets, bool *last);
#endif
