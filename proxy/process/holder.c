/* holder.c - tests by a bind without SO_REUSEPORT whether a port is in use, and finds the process in /proc (proc(5): /proc/self/net/tcp,
 * /proc/PID/fd). */
#include "process/holder.h"
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_LISTEN = 10 }; /* TCP_LISTEN of the kernel */

/* With SO_REUSEADDR a bind fails only if a socket listens there; other sockets at that address do not matter. */
static bool is_taken(const struct address *a)
{
    int family = a->name.ss_family, one = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    bool taken = bind(fd, (const struct sockaddr *)&a->name, a->len) < 0 && errno == EADDRINUSE;
    close(fd);
    return taken;
}

static bool is_ours(unsigned long inode, const int *ours, size_t n)
{
    struct stat st;
    for (size_t i = 0; i < n; i++)
        if (fstat(ours[i], &st) == 0 && st.st_ino == inode)
            return true;
    return false;
}

/* One line of /proc/self/net/tcp or tcp6: the address in hexadecimal words of the machine's order, without a separator. */
static bool is_listening_there(const char *line, const struct address *a, unsigned *user, unsigned long *inode)
{
    char local[33], any[33];
    unsigned port, state;
    if (sscanf(line, " %*u: %32[0-9A-F]:%x %*32[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %u %*u %lu", local, &port, &state, user, inode) != 5 ||
        state != STATE_LISTEN || port != a->port)
        return false;
    memset(any, '0', sizeof any);
    if (strncmp(local, any, strlen(local)) == 0)
        return true;
    char wanted[33] = "";
    uint32_t words[4];
    size_t n = a->name.ss_family == AF_INET6 ? 4 : 1;
    memcpy(words,
           n == 4 ? (const void *)&((const struct sockaddr_in6 *)&a->name)->sin6_addr
                  : (const void *)&((const struct sockaddr_in *)&a->name)->sin_addr,
           4 * n);
    for (size_t i = 0; i < n; i++)
        snprintf(wanted + 8 * i, sizeof wanted - 8 * i, "%08X", words[i]);
    return strncmp(wanted, any, 8 * n) == 0 || strcmp(local, wanted) == 0;
}

/* -1: the table cannot be read. */
static int look_in(const char *path, const struct address *a, const int *ours, size_t nours, unsigned *user, unsigned long *inode)
{
    char line[512];
    FILE *f = fopen(path, "re");
    int found = 0;
    if (!f)
        return -1;
    while (!found && fgets(line, sizeof line, f))
        found = is_listening_there(line, a, user, inode) && !is_ours(*inode, ours, nours);
    fclose(f);
    return found;
}

static bool holds(const char *pid, const char *wanted)
{
    char path[600], link[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *fds = opendir(path);
    for (struct dirent *e; fds && !found && (e = readdir(fds));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        found = strcmp(link, wanted) == 0;
    }
    if (fds)
        closedir(fds);
    return found;
}

static void name_process(struct holder *h, unsigned long inode)
{
    char wanted[64], path[300];
    DIR *all = opendir("/proc");
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    for (struct dirent *e; all && !h->pid && (e = readdir(all));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && holds(e->d_name, wanted))
            h->pid = strtol(e->d_name, NULL, 10);
    if (all)
        closedir(all);
    snprintf(path, sizeof path, "/proc/%ld/comm", h->pid);
    FILE *f = h->pid ? fopen(path, "re") : NULL;
    if (f && fgets(h->name, sizeof h->name, f))
        h->name[strcspn(h->name, "\n")] = 0;
    if (f)
        fclose(f);
}

bool holder_find(const struct address *a, const int *ours, size_t nours, struct holder *h)
{
    unsigned long inode = 0;
    *h = (struct holder){.user = (unsigned)-1};
    if ((a->name.ss_family != AF_INET && a->name.ss_family != AF_INET6) || !a->port || !is_taken(a))
        return false;
    int found = look_in("/proc/self/net/tcp", a, ours, nours, &h->user, &inode), more = 0;
    if (found <= 0)
        more = look_in("/proc/self/net/tcp6", a, ours, nours, &h->user, &inode);
    if (found > 0 || more > 0)
        name_process(h, inode);
    return found > 0 || more > 0 || (found < 0 && nours == 0); /* without /proc: assume another process, unless the socket may be one of ours */
}

void holder_text(const struct holder *h, char *text, size_t room)
{
    if (h->pid)
        snprintf(text, room, "process %ld (%s)", h->pid, h->name);
    else if (h->user != (unsigned)-1)
        snprintf(text, room, "a process of user %u", h->user);
    else
        snprintf(text, room, "another process");
}
