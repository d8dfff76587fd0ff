/* channel.h - internal declarations of net/: the libuv loop, the shared read blocks, and the channel, which is a stream with its libuv
 * handle, its connection attempt, its TLS state and its closing. No file outside of net/ includes this.
 *
 * A channel lives until libuv's close callback has run and its last pending look-up has ended. Its owner has given up the pointer to the
 * `struct stream` before that. */
#ifndef NET_CHANNEL_H
#define NET_CHANNEL_H
#include "net/stream.h"
#include <uv.h>

uv_loop_t *loop_uv(struct loop *);
struct block *loop_read_block(struct loop *); /* one per loop: the block that all sockets are read into */
/* Appends the first `n` octets of the read (or plain) block to the pipe: a copy, or the block itself when they fill more than half of
 * it; the loop then takes a new block. */
void loop_give_read(struct loop *, struct pipe *, size_t n);
struct block *loop_plain_block(struct loop *); /* one per loop: the block that TLS records are decrypted into */
void loop_give_plain(struct loop *, struct pipe *, size_t n);
void **loop_leaving(struct loop *); /* head of the list of channels that are draining or lingering */

enum {
    CHANNEL_MAGIC = 0x5c4a99e1,
    SEND_SPANS = 256,        /* spans per writev */
    HANDSHAKE_MOST = 131072, /* octets that a peer may send in one TLS handshake */
    LINGER_MOST = 4 << 20,   /* octets dropped while lingering: a client that gets 421 while it sends content may have filled both windows */
    LINGER_MS = 2000,        /* from our FIN until the socket is closed at the latest */
    DRAIN_MS = 60000,        /* for sending the rest before our FIN */
    DIAL_STEP_MS = 5000,     /* for one address while another one is left to try */
    RECORD_MOST = 16384,     /* octets of plain text in a TLS record (RFC 8446 5.1) */
    SHORT_READ = 16384       /* reads below this size are acknowledged at once for `partial`; a peer that sends more is not waiting */
};

enum channel_leave { STAYS, DRAINING, LINGERING, GONE }; /* open; sending the rest; FIN sent; uv_close called */

struct channel_leaving { /* only while a channel drains or lingers */
    struct channel_leaving *next, **link;
    struct channel *channel;
    struct task turn;
    struct alarm alarm;
    size_t dropped; /* octets read and dropped while lingering */
};

struct tls_end { /* exists only after TLS was started on the stream */
    void *ssl;   /* SSL; NULL until the handshake begins */
    struct tls *tls;
    struct channel *channel;
    struct pipe in, out;  /* TLS records received and to be sent */
    struct str window;    /* octets of the current read, not copied; they follow those in `in` */
    char *name;           /* client side: the name of the server */
    size_t handshake;     /* octets received from the peer during the handshake */
    bool server, waiting; /* waiting: the handshake begins when the plain octets in `out` have been sent */
    bool wire_ended, shut, failed;
};

struct channel {
    struct stream s; /* first member: a struct stream * is also a struct channel * */
    unsigned magic;
    uint8_t leave; /* enum channel_leave */
    bool handle_open, local, reading, starved, wire_ended, broken,
        choked,       /* `out` was full: the owner is woken when it has room again */
        fresh;        /* a short read came since the last flush, whose acknowledgement the kernel may delay by 40 ms */
    uint8_t pins;     /* pending look-ups, which keep the memory alive */
    size_t in_flight; /* octets of the pending uv_write; 0: none is pending */
    struct loop *loop;
    struct task flush; /* of stream_flush_soon */
    struct dial *dial;
    struct tls_end *end;
    struct channel_leaving *leaving;
    struct arena arena; /* holds why_text and the texts of TLS facts */
    union {
        uv_handle_t handle;
        uv_stream_t uv;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
};

static inline struct channel *channel_of(const struct stream *s)
{
    struct channel *c = (struct channel *)s;
    must(c->magic == CHANNEL_MAGIC);
    return c;
}
static inline bool channel_is_tls(const struct channel *c)
{
    return c->end && !c->end->waiting;
}
static inline struct pipe *channel_wire(struct channel *c) /* the pipe whose octets are written to the socket */
{
    return channel_is_tls(c) ? &c->end->out : &c->s.out;
}

/* channel.c */
struct channel *channel_new(struct loop *, struct task *);
void channel_free(struct channel *);  /* the handle must be closed and `pins` 0 */
void channel_ready(struct channel *); /* the connection is established: sets TCP_NODELAY, starts reading, sends what `out` holds */
void channel_wake(struct channel *);  /* wakes the owner's task */
void channel_die(struct channel *, enum failure why, struct str text); /* sets dead, why and why_text, and wakes the owner */
void channel_read_start(struct channel *);
void channel_read_stop(struct channel *);
void channel_send(struct channel *);     /* uv_try_write, then one uv_write for the rest */
void channel_progress(struct channel *); /* encrypts and sends, wakes the owner, begins a waiting handshake */
void channel_gone(struct channel *);     /* uv_close; frees the channel at once when there is no handle */
enum failure channel_why(int status);    /* of a libuv error */

/* linger.c */
void leave_progress(struct channel *);       /* called after a write while the channel drains or lingers */
void leave_read(struct channel *, size_t n); /* n octets were read and dropped meanwhile */
void leave_hurry(struct loop *);             /* ends all lingering at once, because the loop closes */
void leave_stop(struct channel *);           /* frees what draining and lingering need */

/* dial.c */
void dial_drop(struct channel *);

/* stream_tls.c */
void end_pump(struct channel *); /* continues the handshake, decrypts and encrypts, as far as input and room allow */
void end_shut(struct channel *); /* appends close_notify to the outgoing records */
void end_free(struct channel *);
bool end_is_empty(const struct channel *);

/* tls.c */
void tls_remember(void *context);             /* SSL_CTX * of a client: caches its TLS sessions, the last one for each server name */
void tls_resume(void *ssl, const char *name); /* SSL *, before its handshake: resumes the cached session of this name, if there is one */
void *tls_new_ssl(struct tls *, bool server, const char *name); /* SSL *, or NULL */

/* tickets.c: the callback of OpenSSL for session tickets. Its types are declared here so that this header does not include OpenSSL. */
struct ssl_st;
struct evp_cipher_ctx_st;
struct evp_mac_ctx_st;
int tickets_key(struct ssl_st *, unsigned char name[16], unsigned char *iv, struct evp_cipher_ctx_st *,
                struct evp_mac_ctx_st *, int encrypt);
#endif
