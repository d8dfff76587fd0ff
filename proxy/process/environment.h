/* environment.h - checks a configuration against this machine: ports that other processes listen at, files that its user cannot read. For
 * `sluice check` and `sluice run`. Adds warnings and errors to the complaints of the loader. */
#ifndef PROCESS_ENVIRONMENT_H
#define PROCESS_ENVIRONMENT_H
#include "conf/conf.h"

/* Files that the current user cannot read: a reload, an upgrade or a change of certificates will fail for them. */
void environment_files(const struct conf *, struct complaints *);
/* For `sluice check`: complains of addresses at which a process other than Sluice listens, of running as root without `user`, and, as
 * root, calls environment_files as the configured user. */
void environment_check(const struct conf *, struct complaints *);
void environment_root(const struct conf *, struct complaints *); /* warns when the process is root and stays root */
#endif
