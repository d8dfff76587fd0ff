/* stream.h - a connected socket as two pipes of plain octets, with or without TLS; and listeners, which accept streams.
 *
 * The owner reads `in`, appends to `out`, flushes once at the end of its turn, and its task is woken on each change: octets, the end of
 * input, failure, room in `out`, a finished handshake or connect. It never sees a descriptor, a libuv handle or an OpenSSL object, and
 * does not wait for closing. Writes use uv_try_write first and uv_write for the rest; reading stops only while `in` is over its mark.
 * TCP_NODELAY is always set. */
#ifndef NET_STREAM_H
#define NET_STREAM_H
#include "base/failure.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"

enum stream_tls { STREAM_PLAIN, STREAM_HANDSHAKE, STREAM_TLS };

struct stream {
    struct pipe in, out;   /* plain octets; both marks are PIPE_MARK at first. Octets leave `out` when the kernel has taken them */
    bool connected;        /* false while stream_dial is connecting; always true for accepted streams */
    bool ended;            /* the peer sends no more: nothing follows what is in `in`. Also after a TLS EOF without close_notify */
    bool stuck;            /* the last flush did not send all of `out` */
    bool partial;          /* set by the owner before it flushes: the input is incomplete, and no reply is sent before the rest comes. It
                              is then acknowledged at once, because a peer with Nagle's algorithm waits for that to send the rest */
    bool dead;             /* reset, refused, write error or TLS failure: nothing more is received or sent */
    enum stream_tls tls;
    enum failure why;      /* when dead: the reason */
    struct str why_text;   /* a sentence for the log, e.g. of errno or OpenSSL; lives as long as the stream */
    struct task *task;     /* woken on each change; the owner may replace it; NULL: none is woken */
    uint64_t read_octets, written_octets; /* octets on the wire, for rates and the log */
};

/* Connects; never NULL. Failure shows as `dead` in a later round, never inside this call. A domain name is looked up for each call. The
 * owner sets a deadline by an alarm of its own. */
struct stream *stream_dial(struct loop *, const struct address *, struct task *);
struct stream *stream_open(struct loop *, int fd, struct task *); /* of a connected socket; owns fd from now on */
/* Sends `out` as far as the peer takes it, and resumes reading when `in` has room. */
void stream_flush(struct stream *);
/* The same, later in this round, when all tasks that are ready have run: octets that several tasks append leave in one write. The owner is
 * woken if the stream is stuck after that. */
void stream_flush_soon(struct stream *);
/* Sets the pointer to NULL; the stream must not be used any more. A NULL pointer is allowed.
 * GRACEFUL: sends `out`, then close_notify (TLS) and FIN, and reads and drops input for up to 4 MiB or 2 s, so that the peer gets the last
 * reply before a reset. On plain TCP without unread input, when one write takes all of `out`: TCP_CORK, write, close (221 and FIN in one
 * segment). LINGER: as GRACEFUL without this shortcut, for a last reply that the peer does not expect (421 during content), since octets
 * that it still sends would cause a reset. ABORT: closes at once and drops unsent octets. */
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
size_t stream_count(void); /* streams of this thread that are open or closing, each of which uses a descriptor */

/* ---- listeners. Main binds the sockets, before it gives up privileges: one per worker by SO_REUSEPORT, while a unix socket is shared by
 * dup. A worker opens a listener on its socket. While a listener is paused, connections wait in the kernel's queue and none is dropped. */
struct listener;
int listener_bind(const struct address *, bool share, char *error, size_t room); /* descriptor, or -1. share: SO_REUSEPORT */
struct listener_owner {
    bool (*has_room)(void *data); /* asked before each connection is accepted; false: it is paused. NULL: always room */
    void (*accepted)(void *data, struct stream *);
};
struct listener *listener_open(struct loop *, int fd, const struct listener_owner *, void *data); /* owns fd */
void listener_pause(struct listener *, bool paused);
/* GONE: closes the socket; the kernel resets queued connections unless another listener or process has the same socket. HANDED_ON: another
 * process accepts what is queued; only a connection that was held back by a pause is accepted now. REST: everything queued is accepted
 * now. Sets the pointer to NULL. */
enum listener_end { LISTENER_GONE, LISTENER_HANDED_ON, LISTENER_REST };
void listener_close(struct listener **, enum listener_end);
#endif
