/* store.h - where filters count and remember: one asynchronous interface, drivers behind it (memory now). No mail words.
 *
 * A store is shared by all workers. Asking never completes inside the call: the driver wakes the asker's task later (memory:
 * the same round). Operations are atomic. Keys are octets; values are texts or integers. */
#ifndef STORE_STORE_H
#define STORE_STORE_H
#include "base/failure.h"
#include "base/value.h"

struct store;
struct store *store_memory_open(uint64_t octets); /* bounded: over `octets` the nearest to expiry go first */
void store_memory_bound(struct store *, uint64_t octets); /* another bound for what is there already: a reload carries it over */
/* What it holds, for a store of the process that takes our place on this machine. Times go as they are: both processes have one
 * clock. take: into a store that nobody has asked yet, as much as its bound allows; false: malformed, it keeps what came before. */
void store_memory_pass(struct store *, FILE *to);
bool store_memory_take(struct store *, FILE *from);
/* A store laid over another process's, for who tries things: of each key it asks once what is below, and keeps that, or that there is nothing;
 * what is written stays here. `below` writes what store_memory_image of that process wrote (key "": of no key), to be closed by us; NULL: it
 * cannot be asked any more, and what was not asked yet is absent. For one thread, and a store that holds nothing. False: below gave nothing
 * that can be used, and the store stays as it is. */
struct store_below { FILE *(*image)(struct store_below *, struct str key); };
bool store_lay_over(struct store *, struct store_below *);
void store_memory_image(struct store *, struct str key, FILE *to);
struct store *store_hold(struct store *);
void store_drop(struct store *);

enum store_op { STORE_GET, STORE_SET, STORE_ADD, STORE_INCR, STORE_DEL, STORE_TTL, STORE_RATE, STORE_BUCKET, STORE_DISTINCT,
                STORE_SET_ADD, STORE_SET_HAS, STORE_SET_SIZE, STORE_SET_DEL, STORE_OPS };
bool store_op_named(const char *, enum store_op *);
struct store_request {
    enum store_op op;
    struct str key, value;
    bool value_is_integer; int64_t integer; /* set, add */
    double n;               /* incr: by; rate, bucket: cost (0 counts as 1 unless n_given) */
    double ttl;             /* seconds; set, add, incr, set_add: required > 0 */
    double limit, window;   /* rate: at most `limit` in `window` seconds; bucket: limit = burst, window = seconds to refill it whole */
};
/* What comes back, as a value in `arena`:
 *   get: text or number, NONE when absent. set, del: bool (was there). add: bool (true: it was not there, now it is).
 *   incr: number. ttl: seconds left, NONE when absent. rate: map ok count remaining retry_after(whole seconds, rounded up) limit.
 *   bucket: map ok wait(seconds) level. distinct: number of different values within window (LIMIT: more than can be counted). set_*: bool or number.
 * Gives FAILURE_NONE, DOWN, TIMEOUT, WRONGTYPE, BAD or LIMIT. now: seconds, with fractions, since whenever
 * (so that tests own it); memory, which lives no longer than the process, is given a clock that is never set. */
enum failure store_now(struct store *, const struct store_request *, double now, struct arena *, struct filter_value *);
/* `store_now` is for drivers that answer at once (memory): mail/waits.c completes the op from the ready list. Drivers that wait
 * (LMDB, Redis) will add store_ask(task) beside it. */
#endif
