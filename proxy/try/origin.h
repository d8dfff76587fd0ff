/* origin.h - who sent a message and to whom, as its own fields tell. */
#ifndef TRY_ORIGIN_H
#define TRY_ORIGIN_H
#include "base/arena.h"

struct origin { /* NONE: not told */
    struct str from, to;              /* addresses; from "": the null path */
    struct str ip, helo, rdns;        /* of the topmost Received that names a public address */
    size_t cut;                       /* octets up to the end of that field; 0: there is none */
    bool has_date; int64_t date;      /* of that field: seconds since 1970 */
};
void origin_find(struct origin *, struct str message, struct arena *);
bool ip_is_public(struct str ip);
#endif
