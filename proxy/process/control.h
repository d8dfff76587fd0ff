/* control.h - a unix socket on which a running process is asked things: reload, drain, status, upgrade, stop.
 *
 * One command a connection, as a line of words; the answer's first line is "ok" or "no CODE", text follows, the end is the end.
 * Owned and polled by the main thread; the socket's mode is 0600. Bounded: few connections, short lines, five seconds to say
 * one. The other side, ask, is what the sub-commands use. */
#ifndef PROCESS_CONTROL_H
#define PROCESS_CONTROL_H
#include "base/str.h"
#include <poll.h>
#include <stdio.h>

enum { CONTROL_CALLERS = 8, CONTROL_FDS = CONTROL_CALLERS + 1 };
struct control;
struct caller; /* who asked: until it has been answered */

/* Listens at the path; inherited: a socket that listens there already, or -1. NULL: error says why. user: whose the socket is to
 * be (uid_t -1: ours). */
struct control *control_open(const char *path, int inherited, unsigned user, char *error, size_t room);
int control_socket(const struct control *); /* to be passed on; -1 for NULL and nowhere */
const char *control_path(const struct control *); /* "" likewise */
void control_close(struct control **, bool keep_path); /* who has not been answered hears nothing */
/* Listens where `to` does, whose life ends here (NULL: nowhere); the path of before is gone. Its callers stay, and are
 * answered. */
void control_move(struct control *, struct control *to);
/* What poll is to look at; the number of them. *wait (milliseconds) becomes less when somebody's time is up earlier. */
size_t control_polls(struct control *, struct pollfd fds[CONTROL_FDS], int *wait);
/* Behind poll. obey answers, now or later, each caller once. */
void control_turn(struct control *, const struct pollfd *fds, size_t n,
                  void (*obey)(void *data, struct caller *, struct str word, struct str argument), void *data);
/* code 0: ok. Sends and forgets; the caller may have left. */
void control_answer(struct caller *, int code, struct str text);

struct control_order { /* a row of the table of what may be asked */
    const char *word, *shown_args; /* shown_args: " [LISTENER]", "" or, of an order that is told nowhere, NULL */
    bool changes;                  /* the configuration or the life of the process: one at a time */
    void (*run)(void *data, struct caller *, struct str argument);
};
const struct control_order *control_order_named(const struct control_order *, size_t n, struct str word); /* NULL: none */
void control_answer_unknown(struct caller *, const struct control_order *, size_t n); /* no, and which there are */
#ifdef SLUICE_FAULTS
/* "fail KIND N": from now on (base/fault.h); "fail": how often the kind was met since, and whether it struck. */
void control_obey_fail(void *data, struct caller *, struct str argument);
#endif

/* Asks, prints the answer (to stdout, or stderr when it is a no), gives its code; 1 when nobody answers. */
int control_ask(const char *path, const char *command);
/* Asks, prints nothing: the answer of an "ok" behind its first line, to be closed by the caller. NULL: *why tells in words, which live for ever; else
 * it is NULL. */
FILE *control_fetch(const char *path, const char *command, const char **why);
#endif
