/* notify.h - notifies the supervisor that started the process, by the protocol of sd_notify(3): a datagram of lines. Without a supervisor
 * ($NOTIFY_SOCKET unset) the functions do nothing. */
#ifndef PROCESS_NOTIFY_H
#define PROCESS_NOTIFY_H
#include "base/defs.h"

void notify_say(const char *format, ...) PRINTF_LIKE(1, 2); /* "READY=1\nSTATUS=..." */
void notify_reloading(void);
/* Milliseconds between two watchdog notifications: half of the supervisor's timeout ($WATCHDOG_USEC). 0: no watchdog. */
int notify_watchdog(void);
#endif
