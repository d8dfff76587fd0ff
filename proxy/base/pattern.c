/* pattern.c - compiling and matching with PCRE2; the only file that includes it.
 *
 * A pattern owns its code; match data, contexts and the JIT's stack belong to the thread and go with it. The limits
 * bound a match whatever the pattern: a million match steps, 4 MiB of heap for the interpreter, 512 KiB of stack for
 * the JIT. Where the system forbids memory that is both writable and executable, the interpreter is used.
 *
 * PCRE2 restarts its step count at each offset where a match may begin, and does not count what a possessive repetition consumes.
 * Therefore a long subject is searched in windows of start offsets (an offset limit), first with few steps, then with twice as many
 * while they do not suffice: no call of PCRE2 takes long, and between two calls the caller's stop() is asked. */
#include "base/pattern.h"
#include <pthread.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    MATCH_LIMIT = 1000000,
    STEPS_FIRST = 100,     /* lower bound of the first step limit, per start offset */
    WORK_FIRST = 4 << 20,  /* start offsets in the first window, times octets of the subject */
    WORK_MOST = 64 << 20,  /* the same product for the widest window */
    STEPS_WORK = 16 << 20, /* first step limit, times octets of the subject: one step may run over all of them */
    QUICK_US = 1000,       /* after a window that took less than this the next one is wider */
    PATIENCE_US = 1000000, /* CPU time in microseconds of one match, where the caller gives no stop() */
    DEPTH_LIMIT = 20000,
    HEAP_LIMIT_KIB = 4096,
    JIT_STACK_FIRST = 32768,
    JIT_STACK_MOST = 524288
};

struct pattern {
    pcre2_code *code;
    bool anchored, utf;
    unsigned char starts[256]; /* 1: a match may begin with this octet; PCRE2 passes over the others by itself */
};

struct tools { /* of one thread */
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};
static _Thread_local struct tools *mine;
static pthread_key_t at_exit_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void tools_free(void *at)
{
    struct tools *t = at;
    pcre2_match_data_free(t->data);
    pcre2_match_context_free(t->context);
    if (t->stack)
        pcre2_jit_stack_free(t->stack);
    free(t);
    mine = NULL;
}

static void key_make(void)
{
    pthread_key_create(&at_exit_key, tools_free);
}

static struct tools *tools(void)
{
    if (mine)
        return mine;
    pthread_once(&once, key_make);
    struct tools *t = must_alloc(sizeof *t);
    t->data = pcre2_match_data_create(PATTERN_GROUPS, NULL);
    t->context = pcre2_match_context_create(NULL);
    t->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MOST, NULL); /* NULL: 32 KiB of the machine's stack */
    must(t->data && t->context);
    pcre2_set_depth_limit(t->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(t->context, HEAP_LIMIT_KIB);
    if (t->stack)
        pcre2_jit_stack_assign(t->context, NULL, t->stack);
    pthread_setspecific(at_exit_key, t);
    return mine = t;
}

/* Finds a construct whose meaning depends on where the search began, which searching in windows would change. NULL: there is none. */
static const char *unfit(struct str s, bool anchored)
{
    for (size_t i = 0; i + 1 < s.len; i++) {
        struct str rest = str_part(s, i, s.len);
        if (str_starts(rest, STR("(*COMMIT")) || str_starts(rest, STR("(*SKIP")))
            return "(*COMMIT) and (*SKIP) are not possible here";
        if (s.at[i] == '\\' && s.at[++i] == 'G' && !anchored)
            return "\\G is possible at the beginning of each alternative only";
    }
    return NULL;
}

static void learn_starts(struct pattern *p, uint32_t options)
{
    uint32_t type = 0, first = 0;
    const uint8_t *bits = NULL;
    pcre2_pattern_info(p->code, PCRE2_INFO_FIRSTCODETYPE, &type);
    pcre2_pattern_info(p->code, PCRE2_INFO_FIRSTCODEUNIT, &first);
    pcre2_pattern_info(p->code, PCRE2_INFO_FIRSTBITMAP, &bits);
    bool any = (options & PCRE2_NO_START_OPTIMIZE) || (type != 1 && !bits);
    for (unsigned c = 0; c < 256; c++) {
        bool is_first = type == 1 && (c == first || char_lower((char)c) == char_lower((char)first)); /* (?i) or not */
        p->starts[c] = any || is_first || (type != 1 && bits && bits[c / 8] >> c % 8 & 1);
    }
}

struct pattern *pattern_open(struct str s, char *error, size_t room)
{
    int code;
    size_t offset;
    uint32_t flags = PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, options = 0;
    if (str_starts(s, STR("(*UTF)")))
        flags |= PCRE2_MATCH_INVALID_UTF; /* subjects may be any octets: invalid UTF-8 does not match, and is no error */
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)(s.at ? s.at : ""), s.len, flags, &code, &offset, NULL);
    if (!compiled) {
        char text[256];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        snprintf(error, room, "%s at offset %zu", text, offset);
        return NULL;
    }
    pcre2_pattern_info(compiled, PCRE2_INFO_ALLOPTIONS, &options);
    const char *why = unfit(s, options & PCRE2_ANCHORED);
    if (why) {
        pcre2_code_free(compiled);
        snprintf(error, room, "%s", why);
        return NULL;
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* on failure pcre2_match uses the interpreter */
    struct pattern *p = must_alloc(sizeof *p);
    p->code = compiled;
    p->anchored = options & PCRE2_ANCHORED;
    p->utf = options & PCRE2_UTF;
    learn_starts(p, options);
    return p;
}

void pattern_close(struct pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p);
}

size_t pattern_octets(const struct pattern *p)
{
    size_t code = 0, jit = 0;
    pcre2_pattern_info(p->code, PCRE2_INFO_SIZE, &code);
    pcre2_pattern_info(p->code, PCRE2_INFO_JITSIZE, &jit);
    return sizeof *p + code + jit;
}

static int64_t cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The last offset of a window that begins at `from` and has n offsets where a match may begin. The window after it does not begin inside
 * a UTF-8 character. */
static size_t window_end(const struct pattern *p, struct str s, size_t from, size_t n)
{
    size_t last = from;
    for (; last < s.len && n; last++)
        n -= p->starts[(unsigned char)s.at[last]];
    for (unsigned i = 0; p->utf && i < 3 && last + 1 < s.len && ((unsigned char)s.at[last + 1] & 0xc0) == 0x80; i++)
        last++;
    return last;
}

static int search(const struct pattern *p, struct str s, size_t from, bool (*stop)(void))
{
    struct tools *t = tools();
    const size_t len = max_size(s.len, 1), rest = s.len - from + 1, widest = max_size(WORK_MOST / len, 1);
    size_t window = min_size(max_size(WORK_FIRST / len, 1), rest);
    size_t steps = max_size(min_size(WORK_FIRST / window, STEPS_WORK / len), STEPS_FIRST);
    const bool whole = window >= rest; /* the usual case: one call, without reading the clock */
    int64_t began = whole ? 0 : cpu_us(), start = began;
    for (;;) {
        steps = min_size(steps, MATCH_LIMIT);
        size_t last = p->anchored ? s.len : window_end(p, s, from, window);
        pcre2_set_match_limit(t->context, (uint32_t)steps);
        pcre2_set_offset_limit(t->context, last);
        int rc = pcre2_match(p->code, (PCRE2_SPTR)(s.at ? s.at : ""), s.len, from, 0, t->data, t->context);
        if (rc == PCRE2_ERROR_MATCHLIMIT && steps < MATCH_LIMIT) {
            steps *= 2;
            window = max_size(window / 2, 1);
        } else if (rc != PCRE2_ERROR_NOMATCH || last >= s.len) {
            return rc;
        } else {
            from = last + 1;
        }
        int64_t now = cpu_us();
        if (!began)
            began = start = now;
        if (stop ? stop() : now - began > PATIENCE_US)
            return PCRE2_ERROR_MATCHLIMIT;
        if (rc == PCRE2_ERROR_NOMATCH)
            window = now - start < QUICK_US ? min_size(window * 2, widest) : max_size(window / 2, 1);
        start = now;
    }
}

enum pattern_took pattern_match_until(const struct pattern *p, struct str subject, size_t from,
                                      struct pattern_match *match, bool (*stop)(void))
{
    if (match)
        match->count = 0;
    if (from > subject.len)
        return PATTERN_NO;
    int rc = search(p, subject, from, stop);
    if (rc == PCRE2_ERROR_NOMATCH)
        return PATTERN_NO;
    if (rc < 0)
        return PATTERN_LIMIT;
    if (!match)
        return PATTERN_YES;
    const PCRE2_SIZE *pairs = pcre2_get_ovector_pointer(mine->data);
    match->count = rc == 0 ? PATTERN_GROUPS : (size_t)rc; /* 0: more groups than we keep */
    for (size_t i = 0; i < match->count; i++) {
        match->group[i].set = pairs[2 * i] != PCRE2_UNSET;
        match->group[i].from = match->group[i].set ? pairs[2 * i] : 0;
        match->group[i].to = match->group[i].set ? pairs[2 * i + 1] : 0;
        if (match->group[i].to < match->group[i].from) /* \K in a lookahead */
            match->group[i].to = match->group[i].from;
    }
    return PATTERN_YES;
}

enum pattern_took pattern_match(const struct pattern *p, struct str subject, size_t from, struct pattern_match *match)
{
    return pattern_match_until(p, subject, from, match, NULL);
}

int pattern_name(const struct pattern *p, struct str name)
{
    char text[64];
    if (name.len >= sizeof text)
        return -1;
    memcpy(text, name.len ? name.at : "", name.len);
    text[name.len] = 0;
    int number = pcre2_substring_number_from_name(p->code, (PCRE2_SPTR)text);
    return number > 0 ? number : -1;
}

size_t pattern_names(const struct pattern *p, const char **names, int *numbers, size_t most)
{
    uint32_t count = 0, size = 0;
    PCRE2_SPTR at = NULL;
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMECOUNT, &count);
    if (!count)
        return 0;
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    pcre2_pattern_info(p->code, PCRE2_INFO_NAMETABLE, &at);
    size_t n = min_size(count, most);
    for (size_t i = 0; i < n; i++, at += size) {
        numbers[i] = at[0] << 8 | at[1];
        names[i] = (const char *)at + 2;
    }
    return n;
}
