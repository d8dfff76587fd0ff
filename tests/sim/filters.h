/* filters.h - between filters.c, which waits and judges, and edits.c, which edits and writes the edits down. */
#ifndef SIM_FILTERS_H
#define SIM_FILTERS_H
#include "world.h"
#include "filters/filter.h"

struct waiting { /* memory of a call: the one op it waits for, so that an end that is not its own is seen */
    uint64_t op;
    bool asks; /* it waits for a service: for the connection, then for the answer */
    unsigned question;
    bool edits;     /* it waits amid an edit: for room, or for content that it reads back */
    size_t emitted; /* octets of what replaces the chunk that have been said */
};
struct rewriting { /* memory of a transaction */
    bool decided, rewrites;
};

struct letter *filter_letter(struct filter_call *); /* whose transaction it is; NULL: none */
unsigned
filter_letter_rcpt(struct filter_call *); /* at RCPT: its number in the letter, whatever was refused before it */
enum filter_verdict filter_wait(struct filter_call *, uint64_t op);
/* False: it has to wait (filter_wait was called). edit_resume goes on then. */
bool edit_letter(struct filter_call *, enum filter_stage, struct letter *);
bool edit_resume(struct filter_call *, const struct filter_event *);
#endif
