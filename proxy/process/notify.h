/* notify.h - words to the supervisor that started us, by sd_notify(3)'s protocol: a datagram of lines. None there: nothing. */
#ifndef PROCESS_NOTIFY_H
#define PROCESS_NOTIFY_H
#include "base/defs.h"

void notify_say(const char *format, ...) PRINTF_LIKE(1, 2); /* "READY=1\nSTATUS=..." */
void notify_reloading(void);
/* Milliseconds between two signs of life that the supervisor wants (half of its patience); 0: it does not watch. */
int notify_watchdog(void);
#endif
