/* privileges.h - changing from root to the configured user, the one capability that is kept, and the limit of descriptors. */
#ifndef PROCESS_PRIVILEGES_H
#define PROCESS_PRIVILEGES_H
#include "base/str.h"

/* As root: changes to the user permanently and keeps CAP_NET_BIND_SERVICE (inherited by threads and by the next binary), so that a reload
 * can bind a port below 1024; where the system refuses that, keeps no capability. Not as root: keeps the current user, with a warning.
 * False: failed, and logged why. */
bool privileges_drop(struct str user);
unsigned privileges_user(struct str user); /* the uid of `user` if the process is root and will change to it, else (unsigned)-1 */
/* To be called before root creates a file at `path` for `user`. When the directory does not belong to root, sets the effective user to `user`
 * until privileges_back and returns true: creating files as root, or changing their owner, in a directory of another user is not safe. */
bool privileges_stand_in(unsigned user, const char *path);
void privileges_back(bool stood_in);
void privileges_raise_descriptors(void); /* raises the soft limit of descriptors to the hard limit */
#endif
