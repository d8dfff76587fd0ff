/* probe.h - sluice check --probe: each server of each backend is visited as mail would visit it, up to a RCPT and no further. */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H
#include "smtp/model.h"

/* Says what was found. Returns how many servers could not be reached, or did not greet us well; *doubts how many give reason for a
 * warning: they take mail for anybody from our address, and are told nothing of the client (an open relay in waiting). */
unsigned probe_run(FILE *to, struct smtp_conf *, unsigned *doubts);
#endif
