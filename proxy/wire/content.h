/* content.h - mail data in and out: dot-unstuffing with the one strict end, dot-stuffing (RFC 5321 4.5.2, 2.3.8), and chunks
 * of BDAT, which are counted (RFC 3030). Pure.
 *
 * Only CRLF.CRLF ends mail data of DATA, only the last octet of a LAST chunk that of BDAT. The decoder gives content as the sender meant it (no stuffing, the CRLF before the dot
 * included), by view wherever a run is long enough; the encoder stuffs anew and trusts nobody. One scanner serves both: it
 * finds CR, LF and the dot that follows a line end in one pass, 16 octets at a time where the machine can (SSE2), with a
 * scalar fallback. NUL passes as it is, but where it would hide an end: content is octets, and what is behind a NUL is not hidden from any
 * stage. */
#ifndef WIRE_CONTENT_H
#define WIRE_CONTENT_H
#include "base/pipe.h"

enum bare { BARE_REJECT, BARE_NORMALIZE }; /* what a CR without LF and an LF without CR mean */

/* How content stands on the wire. DOTS: behind DATA. CHUNKS: behind BDAT, lines as in any text. BINARY: behind BDAT, octets. */
enum framing { FRAMING_DOTS, FRAMING_CHUNKS, FRAMING_BINARY };

struct decoder {
    enum framing framing;
    enum bare bare;
    uint8_t at;       /* where in a line end or dot the last octet left us; private */
    uint8_t begin;    /* where a line end leaves us; private */
    bool last;        /* the chunk at hand is the last one */
    bool ended;       /* the end of mail data was taken; what is behind it stays in the pipe */
    uint64_t left;    /* of the chunk at hand, octets that were not taken yet */
    bool saw_bare;    /* a bare CR or LF was met (under BARE_REJECT the content is to be refused at its end) */
    uint64_t octets;  /* of content given so far */
    uint64_t wire;    /* octets taken so far, stuffing and end included */
    uint64_t lines;
};
void decoder_start(struct decoder *, enum framing, enum bare);
/* The next chunk has `octets` octets; the one before must have been taken whole. */
void decoder_chunk(struct decoder *, uint64_t octets, bool last);
/* Takes what it can while out has room (out->mark), returns whether anything was taken. out NULL: decodes on to the strict end
 * and drops the octets (sink). Takes at most `most` octets a call. A CR at the end of what is there is held back inside.
 * BARE_NORMALIZE: bare LF becomes CRLF, bare CR becomes SP; a line of a lone dot whose own or previous line end was bare is
 * neither an end nor content: it is dropped. Of chunks it takes `left` octets and nothing behind them; nothing
 * is unstuffed, and a dot is a dot. A last chunk of no octet ends at the next call. BINARY knows no lines at all. */
bool decoder_step(struct decoder *, struct pipe *in, struct pipe *out, size_t most);

/* Receivers for which content may not hide an end of mail data (SMTP smuggling). GUARD_NUL: one that drops NULs, so that CRLF NUL "." CRLF is
 * an end. GUARD_EIGHTH_BIT: one that also strips the eighth bit, so that 0xAE is a dot. */
enum guard { GUARD_NONE, GUARD_NUL, GUARD_EIGHTH_BIT };

struct encoder {
    enum framing framing; /* DOTS: stuffed. CHUNKS: as it is, but checked. BINARY: as it is */
    uint8_t at;
    enum guard guard;
    uint8_t line;     /* the line so far, as the guarded receiver reads it; private */
    bool bad;         /* a bare CR or LF came along, or a hidden end: nothing may end this mail data */
    bool hidden;      /* it was a hidden end */
    uint64_t octets;  /* of content taken */
};
void encoder_start(struct encoder *, enum framing, enum guard);
/* Moves content from in to out with dots stuffed, while out has room; at most `most` octets. Stops at the first bare CR or LF, or
 * before a hidden end, with bad set. (A CR at the end of what is there is held back inside.) */
bool encoder_step(struct encoder *, struct pipe *in, struct pipe *out, size_t most);
/* All of the content has been taken. False, and bad: the line end that encoder_end would add makes a hidden end of it. */
bool encoder_may_end(struct encoder *);
/* The end: CRLF if the content did not end with one (a CR held back becomes part of it), then ".CRLF". Never when bad: that
 * is a bug. Only delivery_release may call it. Of chunks: a CR held back leaves as a line end, else nothing is added. */
void encoder_end(struct encoder *, struct pipe *out);
#endif
