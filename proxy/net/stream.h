/* stream.h - a connected socket as two pipes of plain octets, TLS or not; listeners that hand out streams.
 *
 * The owner reads `in`, appends to `out`, flushes once at the end of its turn, and is woken (task) whenever there
 * is news: octets, the end, death, room, a finished handshake or connect. It never sees a descriptor, a libuv handle or an
 * OpenSSL object; closing is the net's affair. uv_try_write first, uv_write only for the rest; reads stay armed and stop only
 * when `in` is over its mark. TCP_NODELAY always. */
#ifndef NET_STREAM_H
#define NET_STREAM_H
#include "base/failure.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"

enum stream_tls { STREAM_PLAIN, STREAM_HANDSHAKE, STREAM_TLS };

struct stream {
    struct pipe in, out;   /* plain octets; marks PIPE_MARK at first. out: also what was handed to the kernel's queue */
    bool connected;        /* dialled streams: not yet; accepted ones: always */
    bool ended;            /* the peer sends no more: nothing follows what is in `in`. TLS EOF without close_notify too */
    bool stuck;            /* the peer did not take all of `out` when it was flushed last */
    bool partial;          /* said by the owner before it flushes: what has come is part of something, and nothing is said to it before
                              the rest. It is acknowledged at once then, for a peer with Nagle's algorithm sends the rest behind that */
    bool dead;             /* reset, refused, write error, TLS failure: nothing will come or go any more */
    enum stream_tls tls;
    enum failure why;      /* of a dead one */
    struct str why_text;   /* a sentence for the log, e.g. of errno or OpenSSL; memory of the stream */
    struct task *task;     /* woken on news; may be changed, NULL: nobody */
    uint64_t read_octets, written_octets; /* on the wire, for rates and the log */
};

/* Dials; never NULL, failure shows as `dead` (never inside this call). Names are looked up each time. */
struct stream *stream_dial(struct loop *, const struct address *, struct task *);
struct stream *stream_open(struct loop *, int fd, struct task *); /* a connected socket; owns fd */
/* Sends what out holds (as far as the peer takes it), and arms reading again when `in` has room. */
void stream_flush(struct stream *);
/* The same when all tasks that are ready have had their turn: what many say in one round leaves together, and a peer that sleeps is
 * woken once for it. The owner is woken when that leaves the stream stuck. */
void stream_flush_soon(struct stream *);
/* Nulls the pointer. GRACEFUL: out is sent, then (TLS) close_notify, FIN, and up to 4 MiB or 2 s of input is read and
 * dropped, so that no reset eats the last reply; with plain TCP, nothing unread and the whole rest taken by one write: TCP_CORK,
 * write, close at once (one segment for 221 and FIN). ABORT: closed at once, unsent octets dropped. NULL inside is fine.
 * LINGER: GRACEFUL without that short cut, for a last word the peer does not expect (421 amid content): what it sends
 * meanwhile would be answered with a reset. */
enum stream_close { CLOSE_GRACEFUL, CLOSE_ABORT, CLOSE_LINGER };
void stream_close(struct stream **, enum stream_close);
/* True when nothing the peer has sent so far is waiting: no octet in `in`, none undecrypted (RFC 3207 4.2). */
bool stream_in_is_empty(const struct stream *);
/* True when octets are in the socket right now, although reading may be paused or not yet have happened (early talkers). */
bool stream_has_unread(struct stream *);
/* Starts TLS. Server: what is in out must have left before the first handshake octet (it is flushed first, STREAM_HANDSHAKE
 * begins when it is gone). `in` must be empty. When the handshake is done: tls == STREAM_TLS; failed: dead, why FAILURE_TLS. */
void stream_tls_server(struct stream *, struct tls *);
/* The same where octets of the handshake may be in `in` already, because something was read in front of them (a PROXY header). */
void stream_tls_behind(struct stream *, struct tls *);
void stream_tls_client(struct stream *, struct tls *, struct str server_name); /* name: SNI and, if verified, checked */
bool stream_tls_facts(const struct stream *, struct tls_facts *); /* false: plain; texts live as long as the stream */
struct address stream_peer(const struct stream *, struct arena *);
struct address stream_local(const struct stream *, struct arena *);
size_t stream_count(void); /* open or closing in this thread: descriptors in use */

/* ---- listeners: bound in main (privileges, one per worker by SO_REUSEPORT; a unix socket is shared by dup), opened in the
 * worker. When over a descriptor budget the owner pauses: connections wait in the kernel's queue, none is dropped. */
struct listener;
int listener_bind(const struct address *, bool share, char *error, size_t room); /* descriptor, or -1. share: SO_REUSEPORT */
struct listener_owner {
    bool (*has_room)(void *data); /* asked before each stream is handed out; false: paused, the connection waits. NULL: always */
    void (*accepted)(void *data, struct stream *);
};
struct listener *listener_open(struct loop *, int fd, const struct listener_owner *, void *data);
void listener_pause(struct listener *, bool paused);
/* GONE: closed; what the kernel had queued is reset if no other process or listener has the socket. HANDED_ON: somebody else
 * takes what is queued; a connection that a pause held back is accepted now. REST: so is everything that is queued. */
enum listener_end { LISTENER_GONE, LISTENER_HANDED_ON, LISTENER_REST };
void listener_close(struct listener **, enum listener_end);
#endif
