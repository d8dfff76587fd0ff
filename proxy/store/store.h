/* store.h - stores, in which filters keep counters and values. So far there is one kind, in memory.
 *
 * A store is reference-counted and shared by all workers. Operations are atomic. Keys are octets; values are texts or integers. */
#ifndef STORE_STORE_H
#define STORE_STORE_H
#include "base/failure.h"
#include "base/value.h"

struct store;
struct store *store_memory_open(uint64_t octets); /* octets: its limit; over it, the keys that expire first are evicted */
void store_memory_bound(struct store *, uint64_t octets); /* changes the limit, for a reload that keeps the store */
/* store_memory_pass writes all keys, for the process that replaces this one on the same machine. Times are written unchanged, since both
 * processes use the same clock. store_memory_take reads them into an unused store, up to its limit; false: malformed, and it keeps the keys
 * that were read before the error. */
void store_memory_pass(struct store *, FILE *to);
bool store_memory_take(struct store *, FILE *from);
/* Lays an empty store over a store of another process, for `sluice try`: the first use of a key reads it from below, and the result is
 * kept here, also when the key is absent there. Writes change only this store. image() returns what store_memory_image wrote in the other
 * process (key "": the seed alone), as a stream that the store closes; NULL: the process no longer answers, and keys not read yet are
 * absent. To be used by one thread only. False: image() gave nothing usable, and the store is unchanged. */
struct store_below { FILE *(*image)(struct store_below *, struct str key); };
bool store_lay_over(struct store *, struct store_below *);
void store_memory_image(struct store *, struct str key, FILE *to); /* writes the seed and the entry of one key; key "": the seed alone */
struct store *store_hold(struct store *); /* adds a reference */
void store_drop(struct store *);          /* removes a reference; the last one frees. NULL is allowed */

enum store_op { STORE_GET, STORE_SET, STORE_ADD, STORE_INCR, STORE_DEL, STORE_TTL, STORE_RATE, STORE_BUCKET, STORE_DISTINCT,
                STORE_SET_ADD, STORE_SET_HAS, STORE_SET_SIZE, STORE_SET_DEL, STORE_OPS };
bool store_op_named(const char *, enum store_op *); /* "get", "set_add", ...; false: no such operation */
struct store_request {
    enum store_op op;
    struct str key, value;
    bool value_is_integer; int64_t integer; /* set, add */
    double n;               /* incr: by; rate, bucket: cost (0 counts as 1 unless n_given) */
    double ttl;             /* seconds; set, add, incr, set_add: required > 0 */
    double limit, window;   /* rate: at most `limit` in `window` seconds; bucket: limit = burst, window = seconds to refill it whole */
};
/* Carries out an operation. The result is a value in `arena`:
 *   get: text or number, NONE when absent. set, del: bool (was there). add: bool (true: it was not there, now it is).
 *   incr: number. ttl: seconds left, NONE when absent. rate: map ok count remaining retry_after(whole seconds, rounded up) limit.
 *   bucket: map ok wait(seconds) level. distinct: number of different values within window (FAILURE_LIMIT: too many to count).
 *   set_has, set_add, set_del: bool. set_size: number.
 * Returns FAILURE_NONE, DOWN, TIMEOUT, WRONGTYPE, BAD or LIMIT. now: seconds with fractions, on a monotonic clock of the caller with any
 * origin. The call completes at once; a filter's op still ends in a later run of its task (mail/waits.c). */
enum failure store_now(struct store *, const struct store_request *, double now, struct arena *, struct filter_value *);
#endif
