/* header.h - the header section: fields with their raw octets, by handle (RFC 5322 2.2, 3.6.8, obsolete forms taken). Pure.
 *
 * Untouched fields leave exactly as they came. A handle is never used again, also after removal. Order is a linked list,
 * lookup by handle is O(1), adding and removing are O(1): 100,000 fields cost 100,000 small steps.
 * All memory is in the one arena given at start. */
#ifndef WIRE_HEADER_H
#define WIRE_HEADER_H
#include "base/pipe.h"

struct field {
    struct field *next, *prev;
    uint32_t handle;
    bool removed, hidden; /* hidden: our own Received: sent, but no field to filters */
    bool mbox;            /* no field at all: an mbox line (below). Hidden, and without a name to anybody */
    bool edited;
    struct str name;      /* without trailing WSP before the colon */
    struct str raw;       /* name, colon, value, final CRLF: what is sent. Folded lines inside */
    struct str value;     /* view into raw: every octet behind ':' up to the last CRLF, exclusive */
};

struct headers {
    struct arena *arena;
    struct field *first, *last;   /* in order of sending; removed ones are not in the list */
    struct field **by_handle;     /* [handle - 1] */
    uint32_t handles, room;       /* handles given so far */
    uint32_t count;               /* fields in the list, hidden ones not counted */
    bool done;                    /* the whole header section is in */
    bool separator;               /* it ended with an empty line (else: with a line that is no field, or with the content) */
    bool changed;                 /* any field added, set, renamed or removed */
    size_t octets;                /* taken so far, the separator included */
    struct arena_text { char *at; size_t len, room; } partial; /* private: the lines of a field not yet complete */
    bool in_line;                 /* private: partial ends within a line */
    bool in_mbox;                 /* private: partial is an mbox line */
    bool body;                    /* no separator, but a body follows: the section ended with a line that is no field */
    bool added;                   /* a field was added */
};

/* Content that comes out of mailboxes begins with lines of their format, "From a@x date" or ">From ...". They are no fields, and end no
 * header section as other lines do: they stay what they are, in front of all that is added, so that the backend makes of them what it
 * would without us. (Postfix, whose rule this is: each line of any number of '>' and then "From " before the first that is none becomes
 * an X-Mailbox-Line.) */

enum headers_took { HEADERS_MORE, HEADERS_DONE, HEADERS_TOO_BIG };
void headers_start(struct headers *, struct arena *);
/* Takes lines off content (CRLF ended; `ended` of the pipe is the end of content). Field name: printable ASCII but ':', then
 * optional WSP, ':' . Continuation lines begin with SP or HTAB. An empty line ends the section and is taken; a line that is
 * neither a field nor a continuation ends it and is left in the pipe (body without separator). A last line without CRLF at
 * the end of content belongs to what it looks like (raw then has no CRLF). TOO_BIG: more than `most` octets. */
enum headers_took headers_step(struct headers *, struct pipe *content, size_t most);

struct field *headers_field(const struct headers *, uint32_t handle); /* NULL: unknown, removed, or an mbox line */
/* The next or previous not hidden field behind (before) `from` (NULL: the first, the last) with that name, any case; STR_NONE: any. */
struct field *headers_next(const struct headers *, const struct field *from, struct str name);
struct field *headers_back(const struct headers *, const struct field *from, struct str name);

/* Edits. Value rules (filters/filter.h): a space is put before a value that starts with no WSP; bare LF becomes CRLF, CR
 * without LF is dropped; a line that does not continue gets a TAB; trailing line ends are cut. NULL or false: refused (NUL in
 * value, bad name, more than 1 MiB). */
struct field *headers_add(struct headers *, struct field *before, bool top, struct str name, struct str value); /* before NULL and !top: bottom */
bool headers_set(struct headers *, struct field *, struct str value);
bool headers_rename(struct headers *, struct field *, struct str name);
void headers_remove(struct headers *, struct field *);
void headers_hide(struct headers *, struct field *); /* from filters, and from `count`: our own Received */

/* Sends fields while `out` has room, at most a block's worth per call; *from is where to go on (start with NULL and
 * *begun = false). True when all is out, the separator included: an empty line is sent when there was one, or when fields were
 * added to a section that had none and a body follows. */
struct headers_sender { const struct field *next; size_t offset; bool begun, done, parted; }; /* offset: sent of next */
bool headers_send(const struct headers *, struct headers_sender *, struct pipe *out);
/* When all is out, before a body: content that ended within the header section gets the empty line that this body needs. */
void headers_part(const struct headers *, struct headers_sender *, struct pipe *out);

struct str header_unfold(struct str value, struct arena *); /* CRLF before WSP removed, outer WSP trimmed */
#endif
