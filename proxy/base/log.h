/* log.h - one line per event, logfmt or JSON, batched per thread and written whole. Lines are for postmasters: keys are
 * stable, values are quoted when they need it, control octets never get through.
 *
 * log_begin .. log_text/log_number .. log_end builds a line in this thread's buffer; log_flush writes what is there (the
 * worker calls it once a round and before it sleeps). log_say is for the rest: "level=warning ... msg=...". */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
struct log_settings {
    bool json;
    enum log_level level; /* of log_say: less is dropped */
    int fd;               /* 2 at first */
};
void log_set(const struct log_settings *); /* from one thread at a time; others may be writing: it holds from their next line on */
bool log_wants(enum log_level);
void log_begin(const char *kind);                        /* ts=... and the word behind it */
void log_text(const char *key, struct str value);
void log_angle(const char *key, struct str value);       /* key=<value> */
void log_pieces(const char *key, size_t n, const struct str *pieces); /* one value, put together from these */
void log_number(const char *key, int64_t value);
void log_seconds(const char *key, uint64_t microseconds); /* 0.123 */
void log_end(void);
void log_say(enum log_level, const char *format, ...) PRINTF_LIKE(2, 3);
void log_flush(void);
/* The same sentence at most once in ten seconds per thread, then with a count. `key` names it. */
void log_rare(enum log_level, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);
#endif
