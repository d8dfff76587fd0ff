/* report.h - what became of a message, for people and for programs. */
#ifndef TRY_REPORT_H
#define TRY_REPORT_H
#include "try/source.h"
#include "try/trial.h"
#include <stdio.h>

struct show {
    FILE *to;
    bool diff, verbose, quiet, stable, colour;
    struct str dns, stores;        /* what stands for DNS and stores, for line 1 */
    struct str conf;               /* path of the configuration; NONE: there is none */
    const char *const *notes; size_t nnotes; /* what the front would have said first */
};
/* Line 1, and the notes. trial NULL: of many, the services are told in the end. */
void report_world(const struct show *, const struct try_world *, const struct try_who *, const struct trial *);
void put_number(FILE *, uint64_t);                         /* 48,211 */
void put_services(FILE *, const struct services *, const char *before); /* nothing if there are none */
void report_text(const struct show *, const struct trial *);
void report_line(const struct show *, const struct trial *, const struct source *); /* one of many */
void report_json(const struct show *, const struct trial *, const struct source *); /* source NULL: the envelope alone */

/* summary.c: all messages together. */
struct filter_tally; /* of a filter */
struct summary {
    uint32_t messages, fates[FATES];
    uint64_t took; /* microseconds */
    struct filter_tally *tallies; size_t ntallies;
    struct services services;
};
void summary_start(struct summary *, const struct chain *);
void summary_add(struct summary *, const struct trial *);
void summary_put(const struct show *, struct summary *);
void summary_free(struct summary *);
#endif
