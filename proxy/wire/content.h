/* content.h - decoder and encoder of mail data: dot-unstuffing up to the end of mail data, dot-stuffing (RFC 5321 4.5.2, 2.3.8), and the
 * chunks of BDAT, which are counted (RFC 3030). Pure.
 *
 * Only CRLF.CRLF ends mail data after DATA, and only the last octet of a LAST chunk ends it after BDAT. The decoder gives content without
 * stuffing, with the CRLF before the final dot, and without copying longer runs. The encoder stuffs again and does not rely on the
 * decoder: it checks for bare CR and LF itself. Both use one scanner, which finds CR, LF and dots that follow a line end in one pass, 16
 * octets at a time with SSE2, else octet by octet. NUL passes unchanged, except where it would hide an end of mail data (enum guard). */
#ifndef WIRE_CONTENT_H
#define WIRE_CONTENT_H
#include "base/pipe.h"

enum bare { BARE_REJECT, BARE_NORMALIZE }; /* how the decoder treats a CR without LF and an LF without CR */

/* How content is framed. DOTS: after DATA, dot-stuffed. CHUNKS: after BDAT, text in lines. BINARY: after BDAT with BODY=BINARYMIME, any
 * octets. */
enum framing { FRAMING_DOTS, FRAMING_CHUNKS, FRAMING_BINARY };

struct decoder {
    enum framing framing;
    enum bare bare;
    uint8_t at;       /* private: state of the scanner after the last octet */
    uint8_t begin;    /* private: state at the beginning of a line */
    bool last;        /* the current chunk is the LAST one */
    bool ended;       /* the end of mail data was taken; what follows it stays in the pipe */
    uint64_t left;    /* octets of the current chunk that were not taken yet */
    bool saw_bare;    /* there was a bare CR or LF (under BARE_REJECT the caller refuses the content at its end) */
    uint64_t octets;  /* octets of content written so far */
    uint64_t wire;    /* octets taken so far, with stuffed dots and the final dot */
    uint64_t lines;   /* lines of content so far */
};
void decoder_start(struct decoder *, enum framing, enum bare);
/* Begins a chunk of `octets` octets; the previous one must have been taken completely. */
void decoder_chunk(struct decoder *, uint64_t octets, bool last);
/* Decodes while `out` has room (out->mark) and returns whether it took anything. out NULL: decodes to the end of mail data and drops the
 * octets. Takes at most `most` octets a call. A CR that is the last octet available is held back until the next octet comes.
 * BARE_NORMALIZE: bare LF becomes CRLF, bare CR becomes SP; a line of a lone dot whose own or previous line end was bare is
 * neither an end nor content: it is dropped. Of chunks it takes `left` octets and no more; dots are not unstuffed and have no meaning. A
 * LAST chunk of 0 octets ends the mail data at the next call. BINARY content has no lines. */
bool decoder_step(struct decoder *, struct pipe *in, struct pipe *out, size_t most);

/* Against SMTP smuggling: which octets a receiver may drop or change so that content reads as an end of mail data. GUARD_NUL: it may drop
 * NULs, which makes CRLF NUL "." CRLF an end. GUARD_EIGHTH_BIT: it may also clear the eighth bit, which makes 0xAE a dot. */
enum guard { GUARD_NONE, GUARD_NUL, GUARD_EIGHTH_BIT };

struct encoder {
    enum framing framing; /* DOTS: dots are stuffed. CHUNKS: unchanged, but checked. BINARY: unchanged */
    uint8_t at;       /* private: state of the scanner after the last octet */
    enum guard guard;
    uint8_t line;     /* private: the current line, as the guarded receiver reads it */
    bool bad;         /* there was a bare CR or LF, or a hidden end: this mail data must never be ended */
    bool hidden;      /* it was a hidden end */
    uint64_t octets;  /* octets of content taken */
};
void encoder_start(struct encoder *, enum framing, enum guard);
/* Moves content from `in` to `out` and stuffs dots, while `out` has room, at most `most` octets; returns whether it took anything. Sets
 * `bad` and stops at the first bare CR or LF, or before a hidden end. A CR that is the last octet available is held back. */
bool encoder_step(struct encoder *, struct pipe *in, struct pipe *out, size_t most);
/* To be called when all content has been taken. False, with `bad` set: with the line end that encoder_end would add, the content has a
 * hidden end. */
bool encoder_may_end(struct encoder *);
/* Writes the end of mail data: CRLF if the content did not end with one (a CR held back becomes part of it), then ".CRLF". Must not be
 * called when `bad`, and only by delivery_release. After BDAT: completes a CR held back to CRLF, else writes nothing. */
void encoder_end(struct encoder *, struct pipe *out);
#endif
