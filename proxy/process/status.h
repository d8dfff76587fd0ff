/* status.h - the text that `sluice status` prints: generations of the configuration, listeners, sessions, backends. */
#ifndef PROCESS_STATUS_H
#define PROCESS_STATUS_H
#include "process/worker.h"

void status_say(FILE *, int64_t started, const struct conf *, const struct ports_plan *, struct workers *); /* started: seconds, CLOCK_MONOTONIC */
/* One line for the supervisor (STATUS= of sd_notify(3)). */
void status_line(char *to, size_t room, const struct conf *);
#endif
