/* privileges.h - what the process may do: the user it becomes, the one capability it keeps, its limit of descriptors. */
#ifndef PROCESS_PRIVILEGES_H
#define PROCESS_PRIVILEGES_H
#include "base/str.h"

/* Started as root: becomes the user for good, and keeps CAP_NET_BIND_SERVICE (threads and the next binary inherit it), so that
 * a reload can bind a port below 1024; where that is refused, no capability at all. Not as root: stays who it is, with a
 * warning. False: logged why. */
bool privileges_drop(struct str user);
unsigned privileges_user(struct str user); /* its uid if we are root and are to become it, else (unsigned)-1 */
/* Before something is made at a path as root for that user: true when its folder is not root's, and then we are the user until
 * `back`. Nobody else's folder is a place for root to create or give away files in. */
bool privileges_stand_in(unsigned user, const char *path);
void privileges_back(bool stood_in);
void privileges_raise_descriptors(void); /* the soft limit to the hard one */
#endif
