/* header.h - the header section: fields with their raw octets, each with a handle (RFC 5322 2.2, 3.6.8, with obsolete forms). Pure.
 *
 * A field that is not edited is sent exactly as it came. Handles count from 1 and are never reused, not even after a removal. Fields stand
 * in a linked list in order; look-up by handle, adding and removing are O(1). All memory is in the arena given at start. */
#ifndef WIRE_HEADER_H
#define WIRE_HEADER_H
#include "base/pipe.h"

struct field {
    struct field *next, *prev;
    uint32_t handle;
    bool removed, hidden; /* hidden: it is sent but filters do not see it, as our own Received */
    bool mbox;            /* not a field but an mbox line (below): hidden, with an empty name */
    bool edited;          /* added, set or renamed by a filter */
    struct str name;      /* without trailing WSP before the colon */
    struct str raw;       /* the octets that are sent: name, colon, value with its folds, final CRLF */
    struct str value;     /* view into raw: all octets between the colon and the final CRLF */
};

struct headers {
    struct arena *arena;
    struct field *first, *last;   /* in order of sending; removed ones are not in the list */
    struct field **by_handle;     /* [handle - 1] */
    uint32_t handles, room;       /* handles: how many were given so far; room: length of by_handle */
    uint32_t count;               /* fields in the list, hidden ones not counted */
    bool done;                    /* the whole header section has been taken */
    bool separator;               /* it ended with an empty line (else: with a line that is no field, or with the content) */
    bool changed;                 /* a field was added, set, renamed or removed */
    size_t octets;                /* octets taken so far, the separator included */
    struct arena_text { char *at; size_t len, room; } partial; /* private: the lines of a field not yet complete */
    bool in_line;                 /* private: partial ends within a line */
    bool in_mbox;                 /* private: partial is an mbox line */
    bool body;                    /* no separator, but a body follows: the section ended with a line that is no field */
    bool added;                   /* a field was added */
};

/* mbox lines: content that was taken from a mailbox file can begin with lines of that format, "From a@x date" or ">From ...". Such lines
 * are no fields, but unlike other lines they do not end the header section. They are sent unchanged and stay before all added fields, so
 * that the backend treats them as without a gateway. The rule is Postfix': each of the first lines that has any number of '>' and then
 * "From " counts, and Postfix turns it into an X-Mailbox-Line field. */

enum headers_took { HEADERS_MORE, HEADERS_DONE, HEADERS_TOO_BIG };
void headers_start(struct headers *, struct arena *);
/* Takes lines (ending with CRLF) off the content; content->ended means that no more octets come. A field begins with a name of printable
 * ASCII except ':', then optional WSP and ':'. Continuation lines begin with SP or HTAB. An empty line ends the section and is removed
 * from the pipe; a line that is neither a field nor a continuation ends it and stays in the pipe (body without separator). A last line
 * without CRLF at the end of content is treated like the others (raw then has no CRLF). TOO_BIG: more than `most` octets. */
enum headers_took headers_step(struct headers *, struct pipe *content, size_t most);

struct field *headers_field(const struct headers *, uint32_t handle); /* NULL: unknown, removed, or an mbox line */
/* The next field after `from`, or the previous one before it (NULL: the first, the last field), that has this name, compared without case;
 * STR_NONE: any name. Hidden fields are skipped. NULL: there is none. */
struct field *headers_next(const struct headers *, const struct field *from, struct str name);
struct field *headers_back(const struct headers *, const struct field *from, struct str name);

/* Edits. Values are corrected as filters/filter.h says: a space is put before a value that does not start with WSP; bare LF becomes CRLF,
 * CR without LF is dropped; a line of the value that does not start with WSP gets a HTAB in front; line ends at the end are removed. NULL
 * or false: refused (NUL in the value, not a field name, more than 1 MiB). headers_add inserts before `before`; NULL: at the top or at
 * the bottom. */
struct field *headers_add(struct headers *, struct field *before, bool top, struct str name, struct str value);
bool headers_set(struct headers *, struct field *, struct str value);
bool headers_rename(struct headers *, struct field *, struct str name);
void headers_remove(struct headers *, struct field *);
void headers_hide(struct headers *, struct field *); /* filters do not see it, and `count` does not count it: for our own Received */

/* Appends the header section to `out` while it has room, at most a block's worth per call; the sender, zeroed at first, keeps the position.
 * True: all has been written, with the separator: an empty line is written when there was one, or when fields were added to a section that
 * had none and a body follows. */
struct headers_sender { const struct field *next; size_t offset; bool begun, done, parted; }; /* offset: octets of `next` written */
bool headers_send(const struct headers *, struct headers_sender *, struct pipe *out);
/* After headers_send is done and before a body that a filter adds: writes the empty line if the section was sent without a separator. */
void headers_part(const struct headers *, struct headers_sender *, struct pipe *out);

struct str header_unfold(struct str value, struct arena *); /* removes CRLF before WSP, and WSP at both ends (RFC 5322 2.2.3) */
#endif
