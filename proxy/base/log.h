/* log.h - one line per event, logfmt or JSON: what a postmaster greps for. Keys are stable (docs/log.md), values are quoted when they
 * need it, control octets never get through.
 *
 * log_begin .. log_text/log_number .. log_end builds a line in this thread's buffer; log_flush hands on what is there (a worker calls
 * it once a round and before it sleeps). log_say is for the rest: "level=warning event=log msg=...".
 *
 * Once log_start has been called a thread of its own writes (log_writer.c): a thread that logs copies its lines into its ring and never waits
 * for who reads them. Lines that find a ring full are dropped and counted. Before, and in commands, lines are written at once. */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_AUTO, LOG_LOGFMT, LOG_JSON }; /* AUTO: logfmt, without ts where the journal or syslog has its own */
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };
struct log_settings {
    enum log_format format;
    enum log_level level;    /* of what is no event of mail: less is left out */
    enum log_target target;
    struct str path;         /* of the file, or of syslog's socket */
    int facility;            /* of syslog: 0 to 23 (RFC 5424 6.2.1) */
};
/* Opens the target: its descriptor, for log_set, or -1 and why. A file is made with mode 0640, for `user` if we are root and that is a user's
 * ((unsigned)-1: nobody's). */
int log_open(const struct log_settings *, unsigned user, char *error, size_t room);
/* From one thread at a time; others may be writing: it holds from their next line on. The descriptor is the log's from now on. */
void log_set(const struct log_settings *, int fd);
void log_start(void);                                    /* lines are written by a thread from now on */
void log_stop(unsigned ms);                              /* what is there is written, if that takes no longer; then as before log_start */
void log_reopen(void);                                   /* the file at its path is opened anew (SIGHUP) */
uint64_t log_dropped(void);                              /* lines that were lost since the start */

bool log_wants(enum log_level);
void log_begin(enum log_level, const char *event);       /* ts, level and event */
void log_text(const char *key, struct str value);
enum { LIST_MOST = 50 };
void log_list(const char *key, size_t n, const struct str *values, uint32_t more); /* <a>,<b>,+more; in JSON a list */
void log_angle(const char *key, struct str value);       /* key=<value> */
void log_pieces(const char *key, size_t n, const struct str *pieces); /* one value, put together from these */
void log_number(const char *key, int64_t value);
void log_real(const char *key, double value);            /* digits; what JSON has no number for is text */
void log_seconds(const char *key, uint64_t microseconds); /* 0.123 */
void log_end(void);
void log_say(enum log_level, const char *format, ...) PRINTF_LIKE(2, 3);
void log_flush(void);
/* True at most once in ten seconds per thread and key; *dropped is how many were left out since the last time. */
bool log_is_due(enum log_level, const char *key, unsigned *dropped);
/* log_say where log_is_due, with that count. */
void log_rare(enum log_level, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);
#endif
