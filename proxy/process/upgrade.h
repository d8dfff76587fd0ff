/* upgrade.h - the binary replaced while mail flows: the next process is started with our sockets and ticket keys, says when its
 * workers run, and only then do we leave. Nothing is closed meanwhile, so nobody is refused; if it fails, we go on.
 *
 * What is passed, by environment: SLUICE_PORTS (ports.h), SLUICE_CONTROL, SLUICE_TICKETS, SLUICE_STORES, SLUICE_READY, each a
 * descriptor. What memory stores hold is passed as it is when the next process starts: what sessions of ours count from then on stays
 * ours. */
#ifndef PROCESS_UPGRADE_H
#define PROCESS_UPGRADE_H
#include "process/ports.h"
#include <sys/types.h>

/* ---- the process that leaves ---- */
struct upgrade {
    pid_t pid; /* 0: none under way */
    int pipe;
    char said[4096]; /* why it failed */
    size_t len;
    uint64_t by; /* CLOCK_MONOTONIC milliseconds */
};
enum upgrade_news { UPGRADE_STARTS, UPGRADE_RUNS, UPGRADE_FAILED };
/* The path of the binary as we were started; it lives as long as we do. Call it before anything changes. */
const char *upgrade_binary(const char *argv0);
struct upgrade_order {
    const char *binary;
    char *const *argv;
    const struct ports *ports;
    const struct conf *conf;  /* whose stores */
    int control;              /* the socket; -1: none */
    const char *control_path; /* where it listens */
};
bool upgrade_begin(struct upgrade *, const struct upgrade_order *, char *error, size_t room);
/* Reads what the pipe has; FAILED: said says why, the process is gone or has been killed. Either way none is under way. */
enum upgrade_news upgrade_turn(struct upgrade *);

/* ---- the one that comes ---- */
struct inheritance {
    int ready, control, stores; /* -1: none */
    char control_path[108]; /* at which the control socket listens */
};
struct inheritance upgrade_inherit(void);            /* takes the variables, and the ticket keys */
void upgrade_take_stores(struct inheritance *, const struct conf *); /* before anybody uses them */
void upgrade_say(struct inheritance *, const char *); /* why we fail */
void upgrade_ready(struct inheritance *);            /* our workers run: the one before us leaves */
#endif
