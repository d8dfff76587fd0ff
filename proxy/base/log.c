/* log.c - the thread's buffer of lines, and how values are written so that one event stays one line. */
#include "base/log.h"
#include <errno.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

enum { LOG_BUFFER = 16384, VALUE_MOST = 1024, RARE_SLOTS = 64 };

static struct log_settings settings = {.level = LOG_INFO, .fd = 2}; /* read by all threads, field by field */
static _Thread_local struct {
    char at[LOG_BUFFER];
    size_t len, line; /* line: where the one being built begins */
    bool json;        /* of that line: a reload may change its mind in the middle */
} buffer;

void log_set(const struct log_settings *s)
{
    __atomic_store_n(&settings.json, s->json, __ATOMIC_RELAXED);
    __atomic_store_n(&settings.level, s->level, __ATOMIC_RELAXED);
    __atomic_store_n(&settings.fd, s->fd, __ATOMIC_RELAXED);
}

bool log_wants(enum log_level level)
{
    return level >= __atomic_load_n(&settings.level, __ATOMIC_RELAXED);
}

static void put(const char *at, size_t len)
{
    len = min_size(len, LOG_BUFFER - 2 - buffer.len);
    /* cppcheck-suppress uninitvar ; every caller gives it text */
    memcpy(buffer.at + buffer.len, at, len);
    buffer.len += len;
}

static void put_octet(char c)
{
    if (buffer.len < LOG_BUFFER - 2)
        buffer.at[buffer.len++] = c;
}

static void put_text(const char *text)
{
    put(text, strlen(text));
}

void log_flush(void)
{
    size_t done = 0;
    int fd = __atomic_load_n(&settings.fd, __ATOMIC_RELAXED);
    while (done < buffer.len) {
        ssize_t n = write(fd, buffer.at + done, buffer.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* a log that cannot be written must not stop mail */
        done += (size_t)n;
    }
    buffer.len = buffer.line = 0;
}

static void key_put(const char *key)
{
    if (buffer.json) {
        put_text(",\"");
        put_text(key);
        put_text("\":");
    } else {
        put_octet(' ');
        put_text(key);
        put_octet('=');
    }
}

/* What an octet asks for: quotes around the value, an escape, a look at whether all of it is UTF-8. */
enum { QUOTE = 1, ESCAPE = 2, HIGH = 4 };
static inline unsigned asks(unsigned char c)
{
    static const uint8_t table[128] = {[0 ... ' ' - 1] = QUOTE | ESCAPE,
                                       [' '] = QUOTE,
                                       ['"'] = QUOTE | ESCAPE,
                                       ['\\'] = QUOTE | ESCAPE,
                                       [127] = QUOTE | ESCAPE};
    return c < 128 ? table[c] : HIGH;
}

static void put_escape(unsigned char c)
{
    char escape[8];
    if (c == '"' || c == '\\')
        put((char[]){'\\', (char)c}, 2);
    else if (c == '\n')
        put("\\n", 2);
    else if (c == '\t')
        put("\\t", 2);
    else
        put(escape, (size_t)snprintf(escape, sizeof escape, buffer.json ? "\\u%04x" : "\\x%02x", c));
}

/* What stands raw in the buffer from `from` on, written anew with its opening quote and its escapes. */
static void write_anew(size_t from, unsigned all, bool quote)
{
    char raw[VALUE_MOST];
    struct str v = {raw, buffer.len - from};
    memcpy(raw, buffer.at + from, v.len);
    unsigned escaped = ESCAPE | ((all & HIGH) && !str_is_utf8(v) ? HIGH : 0);
    buffer.len = from;
    if (quote)
        put_octet('"');
    for (size_t i = 0, run; i < v.len; i = run) {
        for (run = i; run < v.len && !(asks((unsigned char)raw[run]) & escaped); run++)
            ;
        put(raw + i, run - i);
        for (; run < v.len && (asks((unsigned char)raw[run]) & escaped); run++)
            put_escape((unsigned char)raw[run]);
    }
}

/* JSON text, or logfmt's: quoted only when it holds SP, quotes, a backslash or control octets. Most values hold nothing of
 * the kind: they are copied first and looked at then. */
static void value_put(size_t n, const struct str *pieces)
{
    size_t left = VALUE_MOST;
    bool cut = false;
    if (buffer.json)
        put_octet('"');
    size_t from = buffer.len;
    for (size_t i = 0; i < n; i++) {
        size_t len = min_size(pieces[i].len, left);
        cut |= len < pieces[i].len;
        left -= len;
        put(len ? pieces[i].at : "", len);
    }
    unsigned all = 0;
    for (size_t i = from; i < buffer.len; i++)
        all |= asks((unsigned char)buffer.at[i]);
    bool quote = !buffer.json && (all & QUOTE);
    if (quote || (all & (ESCAPE | HIGH)))
        write_anew(from, all, quote);
    if (cut)
        put_text("...");
    if (quote || buffer.json)
        put_octet('"');
}

/* The time of day is made anew once a second. */
static void put_stamp(void)
{
    static _Thread_local char text[32];
    static _Thread_local time_t of;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != of) {
        gmtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        of = now.tv_sec;
    }
    unsigned ms = (unsigned)(now.tv_nsec / 1000000);
    text[20] = (char)('0' + ms / 100);
    text[21] = (char)('0' + ms / 10 % 10);
    text[22] = (char)('0' + ms % 10);
    put_text(text);
}

void log_begin(const char *kind)
{
    if (buffer.len > LOG_BUFFER - 6144)
        log_flush();
    buffer.line = buffer.len;
    buffer.json = __atomic_load_n(&settings.json, __ATOMIC_RELAXED);
    if (buffer.json) {
        put_text("{\"ts\":\"");
        put_stamp();
        put_text("\",\"kind\":\"");
        put_text(kind);
        put_text("\"");
    } else {
        put_text("ts=");
        put_stamp();
        put_octet(' ');
        put_text(kind);
    }
}

void log_text(const char *key, struct str value)
{
    key_put(key);
    value_put(1, &value);
}

void log_pieces(const char *key, size_t n, const struct str *pieces)
{
    key_put(key);
    value_put(n, pieces);
}

void log_angle(const char *key, struct str value)
{
    if (buffer.json)
        log_text(key, value);
    else
        log_pieces(key, 3, (struct str[]){STR("<"), value, STR(">")});
}

void log_number(const char *key, int64_t value)
{
    char room[DECIMAL_ROOM];
    struct str digits = str_decimal(room, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    key_put(key);
    if (value < 0)
        put_octet('-');
    put(digits.at, digits.len);
}

void log_seconds(const char *key, uint64_t microseconds)
{
    char room[DECIMAL_ROOM];
    struct str digits = str_decimal(room, microseconds / 1000000);
    unsigned ms = (unsigned)(microseconds / 1000 % 1000);
    key_put(key);
    put(digits.at, digits.len);
    put((char[]){'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)}, 4);
}

void log_end(void)
{
    if (buffer.json)
        put_octet('}');
    buffer.at[buffer.len++] = '\n';
}

static void say(enum log_level level, const char *format, va_list args)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    log_begin(names[level]);
    log_text("msg", str_of(text));
    log_end();
}

void log_say(enum log_level level, const char *format, ...)
{
    if (!log_wants(level))
        return;
    va_list args;
    va_start(args, format);
    say(level, format, args);
    va_end(args);
    log_flush();
}

void log_rare(enum log_level level, const char *key, const char *format, ...)
{
    static _Thread_local struct {
        uint64_t hash;
        time_t until;
        unsigned dropped;
    } slots[RARE_SLOTS];
    if (!log_wants(level))
        return;
    uint64_t hash = str_hash(str_of(key), 1);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned i = hash % RARE_SLOTS;
    if (slots[i].hash == hash && now.tv_sec < slots[i].until) {
        slots[i].dropped++;
        return;
    }
    unsigned dropped = slots[i].hash == hash ? slots[i].dropped : 0;
    slots[i].hash = hash;
    slots[i].until = now.tv_sec + 10;
    slots[i].dropped = 0;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (dropped)
        log_say(level, "%s (%u more like this)", text, dropped);
    else
        log_say(level, "%s", text);
}
