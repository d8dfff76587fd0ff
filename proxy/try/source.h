/* source.h - messages to try: files, folders, mailboxes, the standard input. */
#ifndef TRY_SOURCE_H
#define TRY_SOURCE_H
#include "base/arena.h"

struct source { /* one message; its octets live until the next one is taken */
    struct str name;   /* as it was named, or found in a folder */
    uint32_t index;    /* in its mailbox, from 1; 0: it is a file of its own */
    struct str octets; /* with CRLF, unless raw */
};
struct sources {
    struct arena arena;
    struct str *files; size_t nfiles, room, at, next; /* at: the file at hand; next: to be read then */
    bool raw, many;    /* many: more than one message, or a folder or mailbox, was named */
    struct str text;   /* the file at hand, and what is left of it as a mailbox */
    struct str rest;
    uint32_t index;
    char *memory, *lines; /* the file, and the message at hand */
    const char *error;    /* why there is no next one; NULL: all have been taken */
    struct str error_name;
};
/* Names: files, "-", folders (a Maildir if it has cur and new, else its files *.eml in order). False: *error says of which and why. */
bool sources_open(struct sources *, size_t n, char *const *names, bool raw);
bool sources_next(struct sources *, struct source *); /* false: no more, or .error is set; the next call goes on behind the file in error */
void sources_close(struct sources *);
/* With bare LF made CRLF if there is no CRLF in it; malloced. unquote: a '>' is taken off lines of '>'s and "From ". */
struct str source_lines(struct str, bool unquote, char **memory);
#endif
