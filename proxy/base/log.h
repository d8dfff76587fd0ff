/* log.h - the log: one line per event, in logfmt or JSON. Keys are stable (docs/log.md); values are quoted where needed, and control
 * octets in them are escaped.
 *
 * log_begin, then log_text, log_number and so on, then log_end build a line in a buffer of this thread; log_flush passes complete lines
 * on (a worker calls it once a round and before it sleeps). log_say writes the event "log" with a formatted text as `msg`.
 *
 * After log_start a separate thread does the writing (log_writer.c): a thread that logs copies its lines into its own ring buffer and
 * never waits for the target. Lines for which the ring has no room are dropped and counted. Before log_start, and in commands of the
 * command line, log_flush writes to the target itself. */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_AUTO, LOG_LOGFMT, LOG_JSON }; /* AUTO: logfmt, without `ts` for the journal and syslog, which add a time */
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };
struct log_settings {
    enum log_format format;
    enum log_level level;    /* lowest level that is written; the events of mail are written at any setting */
    enum log_target target;
    struct str path;         /* of the file, or of the socket of syslog */
    int facility;            /* of syslog: 0 to 23 (RFC 5424 6.2.1) */
};
/* Opens the target and returns its descriptor, for log_set; -1: `error` says why. A file is created with mode 0640; when we run as root
 * it is given to the uid `user` ((unsigned)-1: it stays root's). */
int log_open(const struct log_settings *, unsigned user, char *error, size_t room);
/* Replaces settings and target; the log owns and closes the descriptor. To be called by one thread at a time; threads that log meanwhile
 * use the new settings from their next line on. */
void log_set(const struct log_settings *, int fd);
void log_start(void);       /* starts the thread that writes */
void log_stop(unsigned ms); /* waits up to `ms` milliseconds until pending lines are written, and ends that thread */
void log_reopen(void);      /* opens the file at its path again (SIGHUP) */
uint64_t log_dropped(void); /* how many lines were dropped since the start */

bool log_wants(enum log_level);                          /* whether log_say at this level writes anything */
void log_begin(enum log_level, const char *event);       /* ts, level and event */
void log_text(const char *key, struct str value);
enum { LIST_MOST = 50 };
/* key=<a>,<b>,+MORE; in JSON a list. Of n values at most LIST_MOST are written; the others are added to `more`. */
void log_list(const char *key, size_t n, const struct str *values, uint32_t more);
void log_angle(const char *key, struct str value);       /* key=<value> */
void log_pieces(const char *key, size_t n, const struct str *pieces); /* one value, the pieces concatenated */
void log_number(const char *key, int64_t value);
void log_real(const char *key, double value);            /* NaN and infinities, which JSON has no numbers for, as text */
void log_seconds(const char *key, uint64_t microseconds); /* as seconds with three decimals: 0.123 */
void log_end(void);
void log_say(enum log_level, const char *format, ...) PRINTF_LIKE(2, 3);
void log_flush(void);
/* Rate limit for repeated messages: true at most once in ten seconds per thread and key. *dropped: how many calls have returned false
 * since the last true. */
bool log_is_due(enum log_level, const char *key, unsigned *dropped);
/* log_say if log_is_due says so, with the count of messages left out. */
void log_rare(enum log_level, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);
#endif
