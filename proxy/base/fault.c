/* fault.c - one kind is armed at a time, with a countdown of steps that all threads share (base/fault.h). */
#include "base/fault.h"

#ifdef SLUICE_FAULTS
#include <errno.h>
#include <stdatomic.h>

enum { ANY = FAULT_KINDS };
static const char *const names[FAULT_KINDS + 1] = {"op",   "dial", "accept", "read",   "write",
                                                   "file", "dns",  "tls",    "memory", "any"};
static atomic_int armed = -1;
static atomic_uint_fast64_t met, nth;
static atomic_bool struck_once;

bool fault_strikes(enum fault_kind kind)
{
    int what = atomic_load_explicit(&armed, memory_order_relaxed);
    if (LIKELY(what != (int)kind && what != ANY))
        return false;
    uint64_t n = atomic_load(&nth), now = atomic_fetch_add(&met, 1) + 1;
    if (what == ANY && n && (now * UINT64_C(0x9e3779b97f4a7c15) >> 32) % n) /* a hash as the random number, so that a run can be repeated */
        return false;
    if (!n || (what != ANY && (now < n || now > n + (kind == FAULT_MEMORY))))
        return false;
    atomic_store(&struck_once, true);
    if (kind == FAULT_FILE)
        errno = ENOSPC;
    return true;
}

bool fault_arm(struct str text)
{
    for (int kind = 0; kind <= ANY; kind++) {
        size_t len = strlen(names[kind]);
        uint64_t n = 0;
        if (!str_starts(text, str_of(names[kind])) || text.len < len + 2 ||
            (text.at[len] != ' ' && text.at[len] != ':'))
            continue;
        for (size_t i = len + 1; i < text.len; i++) {
            if (text.at[i] < '0' || text.at[i] > '9' || n > UINT32_MAX)
                return false;
            n = n * 10 + (uint64_t)(text.at[i] - '0');
        }
        atomic_store(&armed, -1);
        atomic_store(&met, 0);
        atomic_store(&nth, n);
        atomic_store(&struck_once, false);
        atomic_store(&armed, kind);
        return true;
    }
    return false;
}

uint64_t fault_met(bool *struck)
{
    *struck = atomic_load(&struck_once);
    return atomic_load(&met);
}
#endif
