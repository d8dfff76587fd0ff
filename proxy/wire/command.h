/* command.h - one line of the client: taken off the pipe, split into verb and rest (RFC 5321 4.1.1, 2.3.8). Pure. */
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
    enum line_took took; /* not TAKEN: there is no word in it that could be read. Not command_parse's */
    enum verb verb;
    struct str word; /* the verb as typed; "MAIL FROM:" and "RCPT TO:" end at the verb */
    struct str rest; /* behind the verb, without the SP before it and without trailing SP */
};

/* Only CRLF ends a line (RFC 5321 2.3.8). With bare_lf_ends (listener setting `normalize`) a bare LF does too.
 * TOO_LONG: more than `most` octets before CRLF; what came is dropped, the rest up to its CRLF will be dropped as it
 * comes, and the answer is given once, at its end. BAD: a complete line with bare CR, bare LF or NUL in it.
 * The line (TAKEN) is without its end, a copy in the arena with a NUL behind it. */
struct line_reader {
    size_t scanned;   /* octets at the pipe's head that are known to hold no line end */
    bool skipping;    /* within a line that is too long */
    bool last_was_cr; /* while skipping: the last dropped octet */
};
enum line_took line_take(struct line_reader *, struct pipe *in, size_t most, bool bare_lf_ends, struct arena *,
                         struct str *line);

/* LENIENT: tabs are blanks too, and blanks may stand before the verb. */
void command_parse(struct str line, enum syntax, struct command *);
/* True for a first line that an HTTP client, not an SMTP client, would say ("GET / HTTP/1.1", "POST ", "Host: x"). */
bool command_is_http(struct str line);
/* EHLO and HELO argument: Domain or address literal (RFC 5321 4.1.1.1), lenient as Postfix is: any run of printable octets
 * without SP, '<', '>' up to 255, underscores too. False: 501. */
bool helo_is_valid(struct str);
/* The same as it is to be known from here on, in the arena. LENIENT: any UTF-8 up to 255 octets; a run of blanks is one SP, a control
 * octet is "?". False: 501. */
bool helo_take(struct str, enum syntax, struct arena *, struct str *name);
/* BDAT argument (RFC 3030 2): chunk-size [SP "LAST"]. False: its octets cannot be counted. */
bool bdat_parse(struct str, uint64_t *octets, bool *last);
#endif
