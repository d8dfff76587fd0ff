/* probe.h - sluice check --probe: connects to each server of each backend as for mail, up to a RCPT, and never sends DATA. */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H
#include "smtp/model.h"

/* Prints a report. Returns how many servers could not be reached or refused the session; *doubts: how many are reported with a warning,
 * because they accept any recipient from our address and are not told who the client is, which makes the gateway an open relay. */
unsigned probe_run(FILE *to, struct smtp_conf *, unsigned *doubts);
#endif
