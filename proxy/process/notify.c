/* notify.c - the protocol of sd_notify(3) without its library. NOTIFY_SOCKET names the socket; '@' begins an abstract name. */
#include "process/notify.h"
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void notify_say(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char text[1024];
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof name.sun_path)
        return;
    strcpy(name.sun_path, path);
    if (*path == '@')
        name.sun_path[0] = 0;
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    ssize_t n = sendto(fd, text, min_size((size_t)len, sizeof text - 1), MSG_NOSIGNAL | MSG_DONTWAIT,
                       (struct sockaddr *)&name, size);
    (void)n; /* errors are ignored: mail does not depend on the supervisor */
    close(fd);
}

void notify_reloading(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    notify_say("RELOADING=1\nMONOTONIC_USEC=%llu",
               (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000);
}

int notify_watchdog(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *usec = getenv("WATCHDOG_USEC");
    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    unsigned long long micros = strtoull(usec, NULL, 10);
    return micros ? (int)min_u64(micros / 2000 + !(micros / 2000), 3600 * 1000) : 0;
}
