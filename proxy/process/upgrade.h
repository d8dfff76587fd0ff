/* upgrade.h - replaces the binary without closing a listening socket: the old process starts the new one with its sockets and ticket keys,
 * and drains when the new one reports that its workers run. No connection is refused meanwhile. If the new process fails, the old one
 * continues.
 *
 * Environment variables pass the descriptors: SLUICE_PORTS (ports.h), SLUICE_CONTROL, SLUICE_TICKETS, SLUICE_STORES, SLUICE_READY. The
 * content of memory stores is passed as it is when the new process starts; changes that sessions of the old process make later are not. */
#ifndef PROCESS_UPGRADE_H
#define PROCESS_UPGRADE_H
#include "process/ports.h"
#include <sys/types.h>

/* ---- in the old process ---- */
struct upgrade {
    pid_t pid; /* of the new process; 0: no upgrade is under way */
    int pipe;  /* on which the new process reports success or errors */
    char said[4096]; /* what it has reported: why it failed */
    size_t len;
    uint64_t by; /* deadline of its start, CLOCK_MONOTONIC in milliseconds */
};
enum upgrade_news { UPGRADE_STARTS, UPGRADE_RUNS, UPGRADE_FAILED };
/* The path of the binary for an upgrade, constant for the life of the process. To be called once at the start. */
const char *upgrade_binary(const char *argv0);
struct upgrade_order {
    const char *binary;
    char *const *argv;
    const struct ports *ports;
    const struct conf *conf;  /* its stores are passed */
    int control;              /* the listening control socket; -1: none */
    const char *control_path; /* where it listens */
};
bool upgrade_begin(struct upgrade *, const struct upgrade_order *, char *error, size_t room); /* false: `error` says why */
/* Reads the pipe. RUNS: the new process works. FAILED: `said` says why; the new process has ended or was killed. After both, no upgrade is
 * under way. */
enum upgrade_news upgrade_turn(struct upgrade *);

/* ---- in the new process ---- */
struct inheritance {
    int ready, control, stores; /* -1: none */
    char control_path[108]; /* at which the control socket listens */
};
struct inheritance upgrade_inherit(void);             /* reads and removes the variables, and takes over the ticket keys */
void upgrade_take_stores(struct inheritance *, const struct conf *); /* reads the content of stores; before workers start */
void upgrade_say(struct inheritance *, const char *); /* reports to the old process why the start fails */
void upgrade_ready(struct inheritance *);             /* reports that the workers run, so that the old process drains */
#endif
