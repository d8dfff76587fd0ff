/* fault.h - fault injection for tests: makes the n-th system call of a kind fail, once. A test repeats with n = 1, 2, 3 ...
 *
 * Only where SLUICE_FAULTS is defined (builds with sanitizers, and Debug); elsewhere fault_strikes is the constant false. Armed by
 * `sluice run --fail-nth KIND:N` or by the control command "fail KIND N". Steps of all threads are counted together. An injected
 * failure is always one that the system could report too. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H
#include "base/str.h"

enum fault_kind {
    FAULT_OP,     /* starting an op of a filter */
    FAULT_DIAL,   /* connecting to a backend or for a filter, and the look-up of the name */
    FAULT_ACCEPT, /* accepting a client's connection */
    FAULT_READ,   /* reading from a socket */
    FAULT_WRITE,  /* writing to a socket */
    FAULT_FILE,   /* open, read, write, fsync, rename */
    FAULT_DNS,    /* sending a DNS query */
    FAULT_TLS,    /* creating the state of a handshake */
    FAULT_MEMORY, /* an allocation of Lua. It fails twice in a row, because Lua collects garbage and tries once more */
    FAULT_KINDS
};

#ifdef SLUICE_FAULTS
bool fault_strikes(enum fault_kind); /* counts this step; true: the caller fails it */
/* "KIND N" or "KIND:N": the N-th step from now on fails; N 0: none does. "any N": each step of every kind fails with probability 1/N,
 * until the next call. False: there is no such kind. */
bool fault_arm(struct str text);
/* How many steps of the armed kind there were since fault_arm; *struck: whether one was made to fail. */
uint64_t fault_met(bool *struck);
#else
#define fault_strikes(kind) false
#define fault_arm(text) false
#endif
#endif
