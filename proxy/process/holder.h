/* holder.h - finds the process that listens at an address. With SO_REUSEPORT processes of one user can share a port without an error:
 * some clients would then reach, for instance, a Postfix that still listens at port 25, and bypass the filters. */
#ifndef PROCESS_HOLDER_H
#define PROCESS_HOLDER_H
#include "net/address.h"

struct holder {
    long pid;          /* 0: /proc does not show it */
    unsigned user;     /* uid of the socket; (unsigned)-1: not known */
    char name[64];     /* name of the process (/proc/PID/comm); "": not known */
};
/* True: a socket that is not among the descriptors `ours` listens at this address. For TCP only. */
bool holder_find(const struct address *, const int *ours, size_t nours, struct holder *);
/* "process 812 (master)", or the part of it that is known. */
void holder_text(const struct holder *, char *text, size_t room);
#endif
