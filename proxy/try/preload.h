/* preload.h - stores filled from lines of JSON before a trial: {"store", "key", "kind", "value", "left"}, a key a line. */
#ifndef TRY_PRELOAD_H
#define TRY_PRELOAD_H
#include "mail/model.h"

struct preload { /* filled by preload() */
    size_t keys;     /* set */
    size_t left_out; /* of kinds that hold more than a list tells */
    uint32_t line;   /* of a mistake, from 1 */
};
/* now: as store_now takes it. NULL: done; else what is wrong at preload.line. */
const char *preload(const struct mail_conf *, struct str text, double now, struct preload *);
#endif
