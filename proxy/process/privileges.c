/* privileges.c - changes from root to an unprivileged user and keeps only CAP_NET_BIND_SERVICE (capabilities(7)). */
#include "process/privileges.h"
#include "base/log.h"
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sets the permitted, effective, inheritable and ambient sets; only the ambient one survives the exec of an upgrade. If a kernel or container
 * refuses it, no capability is kept, and a reload cannot bind ports below 1024. False: other capabilities could not be given up. */
static bool keep_one_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}}, none[2] = {{0}};
    const uint32_t bind = 1u << CAP_NET_BIND_SERVICE;
    data[0].permitted = data[0].effective = data[0].inheritable = bind;
    bool kept = syscall(SYS_capset, &header, data) == 0;
    if (!kept && syscall(SYS_capset, &header, none) != 0)
        return false;
    if (!kept || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) != 0)
        log_say(LOG_WARNING, "CAP_NET_BIND_SERVICE cannot be kept: a reload will not bind new ports below 1024");
    return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0;
}

unsigned privileges_user(struct str user)
{
    const struct passwd *pw = user.len && geteuid() == 0 ? getpwnam(user.at) : NULL;
    return pw ? pw->pw_uid : (unsigned)-1;
}

bool privileges_stand_in(unsigned user, const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (user == (unsigned)-1 || geteuid() != 0 || len >= sizeof folder)
        return false;
    memcpy(folder, len ? path : slash ? "/" : ".", len ? len : 1);
    folder[len ? len : 1] = 0;
    return stat(folder, &st) == 0 && st.st_uid != 0 && seteuid(user) == 0;
}

void privileges_back(bool stood_in)
{
    must(!stood_in || seteuid(0) == 0);
}

bool privileges_drop(struct str user)
{
    const struct passwd *pw;
    if (!user.len || !(pw = getpwnam(user.at)))
        return !user.len;
    if (geteuid() != 0) {
        if (geteuid() != pw->pw_uid)
            log_say(LOG_WARNING, "not started as root: user \"%s\" is not taken on", user.at);
        return true;
    }
    prctl(PR_SET_KEEPCAPS, pw->pw_uid != 0, 0, 0, 0);
    if (initgroups(pw->pw_name, pw->pw_gid) == 0 && setgid(pw->pw_gid) == 0 && setuid(pw->pw_uid) == 0 &&
        (pw->pw_uid == 0 || (setuid(0) != 0 && keep_one_capability())))
        return true;
    log_say(LOG_ERROR, "cannot become user \"%s\": %s", user.at, strerror(errno));
    return false;
}

void privileges_raise_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}
