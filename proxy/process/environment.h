/* environment.h - what a configuration meets on this machine: ports that others hold, files that its user cannot read. `check` tells, and
 * so does `run`. Warnings and errors like those of the loader. */
#ifndef PROCESS_ENVIRONMENT_H
#define PROCESS_ENVIRONMENT_H
#include "conf/conf.h"

/* Files that who we are now cannot read: a reload, an upgrade, a change of certificates will fail for them. */
void environment_files(const struct conf *, struct complaints *);
/* For `check`: addresses that a process other than Sluice listens at; root without `user`; as root, environment_files as that user. */
void environment_check(const struct conf *, struct complaints *);
void environment_root(const struct conf *, struct complaints *); /* we are root, and are to stay it */
#endif
