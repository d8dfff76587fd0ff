/* log_ring.h - the interface between log.c, which builds lines, and log_writer.c, which writes them. Private to these two files. */
#ifndef BASE_LOG_RING_H
#define BASE_LOG_RING_H
#include "base/log.h"

/* Replaces the target; the writer owns and closes the descriptor. */
void log_writer_set(const struct log_settings *, int fd);
/* Passes whole lines on, each with its '\n', and with a priority such as "<6>" in front where the target reads one. While no writing
 * thread runs, they are written by this call. urgent: wakes the writing thread at once. */
void log_hand_on(const char *lines, size_t len, bool urgent);
#endif
