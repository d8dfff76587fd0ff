/* holder.h - which process listens at an address. SO_REUSEPORT lets processes of one user share a port in silence: clients would be divided
 * between us and, say, a Postfix that was not moved off port 25, and pass the filters by. */
#ifndef PROCESS_HOLDER_H
#define PROCESS_HOLDER_H
#include "net/address.h"

struct holder {
    long pid;          /* 0: /proc does not tell us */
    unsigned user;     /* of the socket; (unsigned)-1: not known */
    char name[64];     /* of the process (/proc/PID/comm); "": not known */
};
/* Whether somebody else listens where we are to bind: TCP only, and no socket of `ours` is somebody else. */
bool holder_find(const struct address *, const int *ours, size_t nours, struct holder *);
/* "process 812 (master)", or what is known of it. */
void holder_text(const struct holder *, char *text, size_t room);
#endif
