/* fault.h - every step that faces the system can be made to fail, once, at its n-th time: for tests, which walk n = 1,
 * 2, 3 ...
 *
 * Only where SLUICE_FAULTS is defined (builds with sanitizers and Debug): elsewhere fault_strikes is the constant false
 * and costs nothing. Armed by `sluice run --fail-nth KIND:N` or the control command "fail KIND N". Counts the steps of
 * all threads. Never fails a step in a way that the system could not. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H
#include "base/str.h"

enum fault_kind {
    FAULT_OP,     /* the start of a filter's op */
    FAULT_DIAL,   /* a connection to a backend or of a filter, the look-up of its name */
    FAULT_ACCEPT, /* a client's connection */
    FAULT_READ,   /* octets from a socket */
    FAULT_WRITE,  /* octets into a socket */
    FAULT_FILE,   /* open, read, write, fsync, rename */
    FAULT_DNS,    /* a question */
    FAULT_TLS,    /* a handshake cannot be begun */
    FAULT_MEMORY, /* of scripts and of the configuration: twice in a row, since Lua collects and tries again */
    FAULT_KINDS
};

#ifdef SLUICE_FAULTS
bool fault_strikes(enum fault_kind);
/* "KIND N" or "KIND:N": the n-th from now on; N 0: none. "any N": of all kinds one in N, by dice, again and again.
 * False: no such kind. */
bool fault_arm(struct str text);
/* How often the armed kind was met since, and whether it struck. */
uint64_t fault_met(bool *struck);
#else
#define fault_strikes(kind) false
#define fault_arm(text) false
#endif
#endif
