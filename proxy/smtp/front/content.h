/* content.h - the front while mail data comes: by DATA, or by BDAT in chunks. */
#ifndef SMTP_FRONT_CONTENT_H
#define SMTP_FRONT_CONTENT_H
#include "smtp/front/session.h"

enum { RATE_WINDOW = 30000 };   /* milliseconds: that of the minimum rate */
enum { FAR_OVER = 1 << 30 };    /* octets, and more than ten times the limit: far over it */
enum next content_turn(struct session *);
enum next verdict_turn(struct session *);
void content_begin(struct session *, enum state); /* DATA or CHUNKS */
bool content_is_slow(struct session *); /* true: the client is, and has been told */
/* The window of the minimum rate over `octets` taken so far; false when too few came in the last one. */
bool content_is_fast(struct session *, uint64_t octets);
/* So far over the size limit that the connection is closed, after a 552. Whatever is less is read to its end and dropped, and refused
 * there: a reply amid content is read by few clients, and whoever loses the connection tries the same again for days. */
bool content_is_far_over(const struct session *, uint64_t octets);
void content_refuse_size(struct session *); /* more content than the limit */
/* Turns of the flow, of decoding, and of what may leave, until nothing moves or its share of the turn is spent. END: the session ends. */
enum next content_run(struct session *);
struct reply content_too_big(const struct session *, struct arena *); /* 552 with the limit in it */

/* ---- bdat.c: BDAT (RFC 3030) ---- */
enum next chunk_check(struct session *); /* behind the barrier */
enum next chunk_filtered(struct session *, const struct verdict *); /* the data hook's; DROP is none of its business */
enum next chunk_skip_turn(struct session *);
bool chunk_is_whole(const struct decoder *);  /* a chunk, not the last one, has been taken */
enum next chunk_end(struct session *);     /* says so */
#endif
