/* channel.h - what the files of net/ tell each other and nobody above may see: the libuv loop, the shared blocks, and
 * the channel, which is a stream with its handle, its dial, its TLS end and its way out.
 *
 * A channel lives from dial, accept or open until libuv's close callback and the last pending look-up are through; the
 * owner's pointer to its `struct stream` is gone long before. No file above net/ includes this. */
#ifndef NET_CHANNEL_H
#define NET_CHANNEL_H
#include "net/stream.h"
#include <uv.h>

uv_loop_t *loop_uv(struct loop *);
struct block *loop_read_block(struct loop *); /* one per loop: what the kernel's reads land in */
/* `n` octets at the front of the read (or plain) block go into the pipe: copied, or by view when they fill over half.
 */
void loop_give_read(struct loop *, struct pipe *, size_t n);
struct block *loop_plain_block(struct loop *); /* one per loop: what records are decrypted into */
void loop_give_plain(struct loop *, struct pipe *, size_t n);
void **loop_leaving(struct loop *); /* head of the list of channels that are on their way out */

enum {
    CHANNEL_MAGIC = 0x5c4a99e1,
    SEND_SPANS = 256,
    HANDSHAKE_MOST = 131072,
    LINGER_MOST = 4 << 20, /* what is under way when a client hears 421 amid content may fill both windows */
    LINGER_MS = 2000,
    DRAIN_MS = 60000,
    DIAL_STEP_MS = 5000,
    RECORD_MOST = 16384,
    SHORT_READ = 16384 /* a peer that sends much waits for no acknowledgement of a piece */
};

enum channel_leave { STAYS, DRAINING, LINGERING, GONE }; /* owner still there; sending the rest; FIN sent; uv_close called */

struct channel_leaving { /* only while a channel drains or lingers */
    struct channel_leaving *next, **link;
    struct channel *channel;
    struct task turn;
    struct alarm alarm;
    size_t dropped;
};

struct tls_end { /* only once TLS was asked for */
    void *ssl;   /* SSL; NULL until the handshake begins */
    struct tls *tls;
    struct channel *channel;
    struct pipe in, out;  /* records: as they came, as they go */
    struct str window;    /* of the read in hand: follows what is in `in` */
    char *name;           /* client: the server's name */
    size_t handshake;     /* octets the peer has spent on it */
    bool server, waiting; /* waiting: for the plain octets before it to leave */
    bool wire_ended, shut, failed;
};

struct channel {
    struct stream s; /* first: the owner's pointer is ours */
    unsigned magic;
    uint8_t leave; /* enum channel_leave */
    bool handle_open, local, reading, starved, wire_ended, broken,
        choked,       /* out was full */
        fresh;        /* a short read has come since the last flush: the kernel delays its acknowledgement by 40 ms */
    uint8_t pins;     /* pending look-ups: they hold the memory */
    size_t in_flight; /* octets of the one uv_write under way */
    struct loop *loop;
    struct task flush; /* of stream_flush_soon */
    struct dial *dial;
    struct tls_end *end;
    struct channel_leaving *leaving;
    struct arena arena; /* why_text, facts */
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
static inline struct pipe *channel_wire(struct channel *c) /* what goes into the socket */
{
    return channel_is_tls(c) ? &c->end->out : &c->s.out;
}

/* channel.c */
struct channel *channel_new(struct loop *, struct task *);
void channel_free(struct channel *);  /* no handle, no pin left */
void channel_ready(struct channel *); /* connected, TCP_NODELAY set: reading, what waited in out */
void channel_wake(struct channel *);
void channel_die(struct channel *, enum failure why, struct str text);
void channel_read_start(struct channel *);
void channel_read_stop(struct channel *);
void channel_send(struct channel *);     /* try_write, then one uv_write for the rest */
void channel_progress(struct channel *); /* encrypts, sends, wakes, begins a waiting handshake */
void channel_gone(struct channel *); /* uv_close, or free when there is no handle */
enum failure channel_why(int status);

/* linger.c */
void leave_progress(struct channel *); /* something was sent or read while leaving */
void leave_read(struct channel *, size_t n);
void leave_hurry(struct loop *); /* ends all lingering: the loop closes */
void leave_stop(struct channel *);

/* dial.c */
void dial_drop(struct channel *);

/* stream_tls.c */
void end_pump(struct channel *); /* handshake, decrypt, encrypt: as far as octets and room allow */
void end_shut(struct channel *); /* close_notify into the records */
void end_free(struct channel *);
bool end_is_empty(const struct channel *);

/* tls.c */
void tls_remember(void *context);            /* SSL_CTX *, of a client: its sessions are kept, the last one of each name */
void tls_resume(void *ssl, const char *name); /* SSL *, before its handshake: with that of this name, if there is one */
void *tls_new_ssl(struct tls *, bool server, const char *name); /* SSL *, or NULL */

/* tickets.c; OpenSSL's types are named in full so that this header needs none of its own. */
struct ssl_st;
struct evp_cipher_ctx_st;
struct evp_mac_ctx_st;
int tickets_key(struct ssl_st *, unsigned char name[16], unsigned char *iv, struct evp_cipher_ctx_st *,
                struct evp_mac_ctx_st *, int encrypt);
#endif
