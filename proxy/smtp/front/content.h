/* content.h - the front while mail data comes: by DATA, or by BDAT in chunks. */
#ifndef SMTP_FRONT_CONTENT_H
#define SMTP_FRONT_CONTENT_H
#include "smtp/front/session.h"

enum { RATE_WINDOW = 30000 };   /* milliseconds: that of the minimum rate */
enum { FAR_OVER = 1 << 30 };    /* octets, and more than ten times the limit: far over it */
enum next content_turn(struct session *); /* STEP_CONTENT: from the 354, or the last chunk, to the client's end of mail data */
enum next verdict_turn(struct session *); /* STEP_VERDICT: from there to the reply */
void content_begin(struct session *, enum state); /* STATE_DATA or STATE_CHUNKS: starts decoder and flow */
bool content_is_slow(struct session *); /* true: the client is too slow, has been told 421, and the session ends */
/* The window of the minimum rate over `octets` taken so far; false when too few came in the last one. */
bool content_is_fast(struct session *, uint64_t octets);
/* So far over the size limit that the connection is closed, after a 552. Content that is less far over is read to its end, dropped,
 * and refused there: few clients read a reply amid content, and a client that loses the connection tries the same again for days. */
bool content_is_far_over(const struct session *, uint64_t octets);
void content_refuse_size(struct session *); /* refuses content that is larger than the limit (552) */
/* Turns of the flow, of decoding, and of what may leave, until nothing moves or its share of the turn is spent. END: the session ends. */
enum next content_run(struct session *);
struct reply content_too_big(const struct session *, struct arena *); /* 552 with the limit in it */

/* ---- bdat.c: BDAT (RFC 3030) ---- */
enum next chunk_check(struct session *); /* behind the barrier */
enum next chunk_filtered(struct session *, const struct verdict *); /* the data hooks have judged at the first chunk; never DROP */
enum next chunk_skip_turn(struct session *); /* STEP_SKIP: takes octets of a chunk that is refused */
bool chunk_is_whole(const struct decoder *);  /* a chunk, not the last one, has been taken */
enum next chunk_end(struct session *);     /* answers it */
#endif
