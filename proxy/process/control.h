/* control.h - the control socket: a unix socket that takes commands for a running process: reload, drain, status, upgrade, stop.
 *
 * A connection carries one command, a line of words. The answer begins with a line "ok" or "no CODE"; text follows up to the end of the
 * connection. The main thread owns and polls the socket, whose mode is 0600. Connections and the length of a line are limited, and a client
 * must send its command within five seconds. control_ask and control_fetch are the client side, for the commands of the command line. */
#ifndef PROCESS_CONTROL_H
#define PROCESS_CONTROL_H
#include "base/str.h"
#include <poll.h>
#include <stdio.h>

enum { CONTROL_CALLERS = 8, CONTROL_FDS = CONTROL_CALLERS + 1 };
struct control;
struct caller; /* a connection whose command has not been answered yet */

/* Listens at the path. inherited: a descriptor that listens there already, or -1. user: the uid that is to own the socket (uid_t -1: ours).
 * NULL: `error` says why. */
struct control *control_open(const char *path, int inherited, unsigned user, char *error, size_t room);
int control_socket(const struct control *);            /* the listening descriptor; -1 when it listens nowhere, or for NULL */
const char *control_path(const struct control *);      /* the path; "" when it listens nowhere, or for NULL */
void control_close(struct control **, bool keep_path); /* closes pending connections without an answer; keep_path: does not unlink */
/* Takes over the listening socket of `to` and frees `to` (NULL: listens nowhere); the old path is unlinked. Pending callers stay and can
 * still be answered. */
void control_move(struct control *, struct control *to);
/* Fills in descriptors for poll and returns how many. Lowers *wait (milliseconds) to the earliest deadline of a connection. */
size_t control_polls(struct control *, struct pollfd fds[CONTROL_FDS], int *wait);
/* To be called after poll. Calls obey for each complete command; obey answers every caller exactly once, at once or later. */
void control_turn(struct control *, const struct pollfd *fds, size_t n,
                  void (*obey)(void *data, struct caller *, struct str word, struct str argument), void *data);
/* Sends the answer and frees the caller, which may have disconnected. code 0: "ok". */
void control_answer(struct caller *, int code, struct str text);

struct control_order { /* a row of the table of commands */
    const char *word, *shown_args; /* shown_args: " [LISTENER]", or ""; NULL: the command is internal and listed nowhere */
    bool changes;                  /* it changes the configuration or ends the process: only one such command at a time */
    void (*run)(void *data, struct caller *, struct str argument);
};
const struct control_order *control_order_named(const struct control_order *, size_t n, struct str word); /* NULL: unknown */
void control_answer_unknown(struct caller *, const struct control_order *, size_t n); /* answers "no" and lists the commands */
#ifdef SLUICE_FAULTS
/* "fail KIND N" arms a fault (base/fault.h); "fail" answers how many steps of the kind there were since, and whether one failed. */
void control_obey_fail(void *data, struct caller *, struct str argument);
#endif

/* Sends a command and prints the answer (to stdout, or to stderr when it is "no"). Returns the code of the answer; 1: no process answers. */
int control_ask(const char *path, const char *command);
/* Sends a command and returns the text of an "ok" answer, after its first line; the caller closes it. NULL: *why is a constant sentence;
 * on success *why is NULL. */
FILE *control_fetch(const char *path, const char *command, const char **why);
#endif
