/* log_ring.h - between log.c, which makes lines, and log_writer.c, which writes them. No other file includes it. */
#ifndef BASE_LOG_RING_H
#define BASE_LOG_RING_H
#include "base/log.h"

/* Takes the target over, and its descriptor. */
void log_writer_set(const struct log_settings *, int fd);
/* Whole lines, each with its '\n', and "<6>" in front where the target reads priorities. Without a thread that writes, written here and
 * now. urgent: that thread is woken at once. */
void log_hand_on(const char *lines, size_t len, bool urgent);
#endif
