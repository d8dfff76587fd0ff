/* net.h - what clients, backends and the world see of the simulated net: one clock, one dice, events, wires.
 *
 * net.c implements proxy/net/loop.h, stream.h, dns.h and the little of tls.h that relay refers to, in one thread,
 * without a descriptor. A wire is a connection: at one end a `struct stream` that the gateway owns, at the other what
 * stands here. All that happens is an event at a virtual millisecond; events of one moment come in an order that the
 * dice choose. */
#ifndef SIM_NET_H
#define SIM_NET_H
#include "net/stream.h"

/* ---- the dice, the clock, the trace */
void sim_begin(uint64_t seed, bool trace);
uint64_t sim_random(uint64_t below); /* 0 to below - 1 */
uint64_t sim_lesser(uint64_t below,
                    uint64_t other); /* of two casts. Never two in one expression: compilers order them as they like */
bool sim_chance(unsigned percent);
/* What the dice may use (features.def). The dice are cast even for what may not be, so that less of it changes less. */
enum feature { /* F_CUTS ... */
#define FEATURE(name, word, what, hard) F_##name,
#include "features.def"
#undef FEATURE
               FEATURES
};
extern uint64_t sim_features; /* a bit each; all of them at first */
bool sim_may(enum feature, unsigned percent);
uint64_t sim_now(void);  /* milliseconds; begins at an hour */
uint64_t sim_hash(void); /* of all that was traced since sim_begin */
bool sim_is_shown(void); /* the trace is: what is only of use to a reader may be added */
void sim_trace(const char *format, ...) PRINTF_LIKE(1, 2);
/* A promise was broken. The first one is kept and printed; the loop stops. */
void sim_violation(const char *format, ...) PRINTF_LIKE(1, 2);
const char *sim_violated(void);     /* NULL: nothing so far */
const char *sim_violated_how(void); /* its format: what is the same of two that are alike */

/* ---- events */
struct event {
    uint64_t at, order;
    uint32_t index; /* in the row, + 1; 0: not set */
    void (*run)(struct event *);
};
void event_set(struct event *, uint64_t in,
               void (*run)(struct event *)); /* milliseconds from now; moves it when it was set */
void event_stop(struct event *);
static inline bool event_is_set(const struct event *e)
{
    return e->index != 0;
}

/* Called whenever no task is ready, before the clock moves on. True: it has woken some, and is called again behind
 * their turns. */
void loop_when_still(struct loop *, bool (*)(void *), void *data);

/* ---- octets */
struct octets {
    char *at;
    size_t len, room;
    size_t gone; /* private: dropped in front of `at`, so that dropping costs nothing */
};
void octets_put(struct octets *, const void *, size_t);
void octets_copy(struct octets *, size_t from, size_t n); /* of its own, to its end */
void octets_drop(struct octets *, size_t);                /* the first ones */
void octets_free(struct octets *);
/* The offset behind the first CRLF, or 0: none is there. */
size_t octets_line(const struct octets *, size_t from);

/* ---- wires, from the peer's side */
struct wire {
    struct stream s;     /* the gateway's end; private */
    struct octets in;    /* has arrived, not yet read by the peer */
    bool ended, reset;   /* the gateway sends no more; it is gone */
    bool broken;         /* by the net: what was under way either way is lost */
    unsigned port;       /* that was dialled */
    uint64_t *delivered; /* counts the octets of the peer that the gateway's stream has taken, even behind a leave; may
                            be NULL */
    unsigned number;
    void (*heard)(void *peer); /* news of the above; may let go of the wire */
    void *peer;
    struct net_end *end; /* private */
};
struct wire *wire_open(struct loop *, unsigned host,
                       struct stream **); /* a client's; the stream is the gateway's to own */
void wire_send(struct wire *, const void *, size_t);
size_t wire_unsent(const struct wire *); /* octets the gateway has not taken yet */
void wire_end(struct wire *);            /* FIN behind what was sent */
void wire_reset(struct wire **);         /* and lets go */
void wire_break(
    struct wire *); /* the net does it: the peer has heard it all, the gateway hears of it now or when it writes */
void wire_vanish(struct wire **); /* takes no octet any more; lets go */
void wire_leave(struct wire **);  /* FIN, if none was sent, and lets go: what comes is dropped */

/* A dial of the gateway has arrived. Says what becomes of it. */
enum dialled { DIAL_ACCEPTED, DIAL_REFUSED, DIAL_UNANSWERED };
/* Wires are numbered anew; so many of a thousand pieces find theirs broken. Heavy: much goes over them, in larger
 * pieces. */
void net_begin(unsigned breaking, bool heavy);
void net_heal(void);                      /* none breaks any more */
bool net_is_sound(const struct stream *); /* both ends are there, and nothing between them is broken */
bool net_reads(const struct stream *);    /* reading has not stopped for want of room */
void net_on_dial(enum dialled (*)(void *data, struct wire *), void *data);
#endif
