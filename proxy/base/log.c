/* log.c - the thread's buffer of lines, and how values are written so that one event stays one line. */
#include "base/log_ring.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

/* VALUE_MOST: octets of one value as written, escapes included. LINE_MOST holds the longest line that these limits allow. */
enum { LOG_BUFFER = 32768, LINE_MOST = 16384, VALUE_MOST = 1024, RARE_SLOTS = 64 };

/* Read by all threads, each field atomically. */
static struct {
    bool json, stamps, priorities;
    int level;
} settings = {.stamps = true, .level = LOG_INFO};
static _Thread_local struct {
    char at[LOG_BUFFER];
    size_t len, line; /* line: offset of the line being built */
    bool json;        /* format of that line, since a reload may change `settings` while it is being built */
    bool urgent;      /* the buffer holds a warning or an error */
} buffer;

/* systemd.exec(5): JOURNAL_STREAM has the device and inode of the standard error that it gave us. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(2, &st) == 0 &&
           st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_set(const struct log_settings *s, int fd)
{
    bool keeps_time = s->target == LOG_TO_SYSLOG || (s->target == LOG_TO_STDERR && is_journal());
    __atomic_store_n(&settings.json, s->format == LOG_JSON, __ATOMIC_RELAXED);
    __atomic_store_n(&settings.stamps, s->format != LOG_AUTO || !keeps_time, __ATOMIC_RELAXED);
    __atomic_store_n(&settings.priorities, keeps_time, __ATOMIC_RELAXED);
    __atomic_store_n(&settings.level, s->level, __ATOMIC_RELAXED);
    log_writer_set(s, fd);
}

bool log_wants(enum log_level level)
{
    return (int)level >= __atomic_load_n(&settings.level, __ATOMIC_RELAXED);
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
    if (buffer.len)
        log_hand_on(buffer.at, buffer.len, buffer.urgent);
    buffer.len = buffer.line = 0;
    buffer.urgent = false;
}

static void first_key(const char *key)
{
    if (buffer.json) {
        put_text("{\"");
        put_text(key);
        put_text("\":");
    } else {
        put_text(key);
        put_octet('=');
    }
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

/* What an octet requires: quotes around the value, an escape, or a check that the value is UTF-8. */
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

static uint64_t eight_at(const char *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* True: no octet requires anything, as in most values. Checks eight octets at a time (the last eight may overlap the ones before); for
 * octets below 128 the top bit of each difference shows where it is negative. */
static bool asks_nothing(const char *at, size_t n)
{
    const uint64_t ones = UINT64_MAX / 255, high = ones * 128;
    uint64_t found = 0;
    if (n < 8) {
        unsigned all = 0;
        for (size_t i = 0; i < n; i++)
            all |= asks((unsigned char)at[i]);
        return !all;
    }
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = eight_at(at + min_size(i, n - 8));
        uint64_t quote = x ^ ones * '"', backslash = x ^ ones * '\\', del = x ^ ones * 127;
        found |= x | (x - ones * '!') | (quote - ones) | (backslash - ones) | (del - ones);
    }
    return !(found & high);
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

/* Drops an incomplete UTF-8 character at the end: with it the value would not be UTF-8, and every character would be escaped. */
static size_t without_part(const char *at, size_t len)
{
    size_t n = len;
    while (n && len - n < 3 && ((unsigned char)at[n - 1] & 0xC0) == 0x80)
        n--;
    return n && (unsigned char)at[n - 1] >= 0xC0 ? n - 1 : len;
}

/* Rewrites the raw value that begins at `from` in the buffer with an opening quote and escapes. False: it was cut for lack of room. */
static bool write_anew(size_t from, unsigned all, bool quote)
{
    char raw[VALUE_MOST];
    struct str v = {raw, buffer.len - from};
    memcpy(raw, buffer.at + from, v.len);
    unsigned escaped = ESCAPE | ((all & HIGH) && !str_is_utf8(v) ? HIGH : 0);
    buffer.len = from;
    if (quote)
        put_octet('"');
    for (size_t i = 0, run; i < v.len; i = run) {
        size_t room = from + VALUE_MOST + 1 - min_size(buffer.len, from + VALUE_MOST + 1);
        for (run = i; run < v.len && !(asks((unsigned char)raw[run]) & escaped); run++)
            ;
        if (run - i > room) {
            put(raw + i, without_part(raw + i, room));
            return false;
        }
        put(raw + i, run - i);
        for (; run < v.len && (asks((unsigned char)raw[run]) & escaped); run++) {
            if (buffer.len > from + VALUE_MOST)
                return false;
            put_escape((unsigned char)raw[run]);
        }
    }
    return true;
}

/* Writes a value as JSON text or for logfmt, where it is quoted only if it holds SP, quotes, a backslash or control octets. Most values
 * hold none of these, so the value is copied first and rewritten if necessary. */
static void value_put(size_t n, const struct str *pieces)
{
    size_t left = VALUE_MOST;
    bool cut = false;
    if (buffer.json)
        put_octet('"');
    size_t from = buffer.len;
    for (size_t i = 0; i < n; i++) {
        size_t len = min_size(pieces[i].len, left);
        if (len < pieces[i].len) {
            len = without_part(pieces[i].at, len);
            cut = true;
            left = len;
        }
        left -= len;
        put(len ? pieces[i].at : "", len);
    }
    unsigned all = 0;
    for (size_t i = asks_nothing(buffer.at + from, buffer.len - from) ? buffer.len : from; i < buffer.len; i++)
        all |= asks((unsigned char)buffer.at[i]);
    bool quote = !buffer.json && (all & QUOTE);
    if (quote || (all & (ESCAPE | HIGH)))
        cut |= !write_anew(from, all, quote);
    if (cut)
        put_text("...");
    if (quote || buffer.json)
        put_octet('"');
}

/* The text of date and time is made once a second; only the milliseconds change in between. */
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

/* A value that needs no escapes, such as a number. */
static void put_word(const char *word)
{
    if (buffer.json)
        put_octet('"');
    put_text(word);
    if (buffer.json)
        put_octet('"');
}

void log_begin(enum log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    static const char *const priorities[] = {"<7>", "<6>", "<4>", "<3>"}; /* sd-daemon(3), RFC 5424 6.2.1 */
    bool stamps = __atomic_load_n(&settings.stamps, __ATOMIC_RELAXED);
    if (buffer.len > LOG_BUFFER - LINE_MOST)
        log_flush();
    buffer.line = buffer.len;
    buffer.json = __atomic_load_n(&settings.json, __ATOMIC_RELAXED);
    buffer.urgent |= level >= LOG_WARNING;
    if (__atomic_load_n(&settings.priorities, __ATOMIC_RELAXED))
        put_text(priorities[level]);
    if (stamps) {
        first_key("ts");
        if (buffer.json)
            put_octet('"');
        put_stamp();
        if (buffer.json)
            put_octet('"');
        key_put("level");
    } else {
        first_key("level");
    }
    put_word(names[level]);
    key_put("event");
    put_word(event);
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

void log_list(const char *key, size_t n, const struct str *values, uint32_t more)
{
    char room[DECIMAL_ROOM];
    struct str pieces[3 * LIST_MOST + 2];
    size_t used = 0;
    n = min_size(n, LIST_MOST);
    if (buffer.json) {
        key_put(key);
        for (size_t i = 0; i < n; i++) {
            put_octet(i ? ',' : '[');
            value_put(1, &values[i]);
        }
        if (more) {
            put_text(n ? "," : "[");
            value_put(2, (struct str[]){STR("+"), str_decimal(room, more)});
        }
        put_text(n || more ? "]" : "[]");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        pieces[used++] = i ? STR(",<") : STR("<");
        pieces[used++] = values[i];
        pieces[used++] = STR(">");
    }
    if (more) {
        pieces[used++] = n ? STR(",+") : STR("+");
        pieces[used++] = str_decimal(room, more);
    }
    log_pieces(key, used, pieces);
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

void log_real(const char *key, double value)
{
    char text[40];
    bool whole = value > -1e15 && value < 1e15 && (double)(int64_t)value == value;
    int n = whole ? snprintf(text, sizeof text, "%lld", (long long)value) : snprintf(text, sizeof text, "%.14g", value);
    if (!isfinite(value)) {
        log_text(key, (struct str){text, (size_t)n});
        return;
    }
    key_put(key);
    put(text, (size_t)n);
}

void log_seconds(const char *key, uint64_t microseconds)
{
    char room[DECIMAL_ROOM + 4];
    struct str digits = str_decimal(room, microseconds / 1000000);
    unsigned ms = (unsigned)(microseconds / 1000 % 1000);
    room[DECIMAL_ROOM] = '.';
    room[DECIMAL_ROOM + 1] = (char)('0' + ms / 100);
    room[DECIMAL_ROOM + 2] = (char)('0' + ms / 10 % 10);
    room[DECIMAL_ROOM + 3] = (char)('0' + ms % 10);
    key_put(key);
    put(digits.at, digits.len + 4);
}

void log_end(void)
{
    if (buffer.json)
        put_octet('}');
    buffer.at[buffer.len++] = '\n';
}

static void say(enum log_level level, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    log_begin(level, "log");
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

bool log_is_due(enum log_level level, const char *key, unsigned *dropped)
{
    static _Thread_local struct {
        uint64_t hash;
        time_t until;
        unsigned dropped;
    } slots[RARE_SLOTS];
    if (!log_wants(level))
        return false;
    uint64_t hash = str_hash(str_of(key), 1);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned i = hash % RARE_SLOTS;
    if (slots[i].hash == hash && now.tv_sec < slots[i].until) {
        slots[i].dropped++;
        return false;
    }
    *dropped = slots[i].hash == hash ? slots[i].dropped : 0;
    slots[i].hash = hash;
    slots[i].until = now.tv_sec + 10;
    slots[i].dropped = 0;
    return true;
}

void log_rare(enum log_level level, const char *key, const char *format, ...)
{
    unsigned dropped;
    if (!log_is_due(level, key, &dropped))
        return;
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
