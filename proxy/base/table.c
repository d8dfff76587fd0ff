/* table.c - look-up tables in memory: one hash table of words, one of networks.
 *
 * A table owns its path and one content; a refresh builds a new content beside the old one and swaps the two under the
 * write lock, so look-ups never wait for a disk. A network is found by one probe per prefix length in use, longest first: at most 129
 * probes, however many entries. Content is allocated by malloc and not in an arena, since one thread builds it and another frees it. Of
 * duplicate keys the first one counts, as with Postfix. */
#include "base/table.h"
#include "base/fault.h"
#include "base/idn.h"
#include "base/log.h"
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>

enum { FILE_MOST = 256 << 20, ANSWERS = 16, ANSWER_MOST = 1024, KEY_MOST = IDN_ROOM };

struct table_word {
    struct str key, value; /* key: lower case */
    unsigned line;
};
struct net {
    struct cidr cidr;
    struct str key, value;
    unsigned line;
};
struct content {
    unsigned holders; /* atomic reference count: a table of the previous configuration may share the content */
    char *text;       /* what all keys and values point into */
    struct folded {
        struct folded *next;
        char key[];
    } *folded; /* keys whose canonical form differs from the text of the file */
    struct table_word *words;
    struct net *nets;
    size_t nwords, nnets, words_room, nets_room;
    uint32_t *word_slots, *net_slots; /* index + 1; 0: free */
    size_t word_mask, net_mask;
    uint64_t seed;
    uint8_t used4[33], used6[129]; /* prefix lengths that occur */
    struct str all;                /* of "*" */
    unsigned line;                 /* of the entry being added; 0: of no file */
};
struct table_stamp { /* of the file as it was read */
    struct timespec changed;
    off_t size;
    ino_t inode;
};
struct table {
    pthread_rwlock_t lock;
    struct content *content;
    char *path;         /* NULL: a list */
    struct table_stamp stamp; /* of the file that was read last, with or without success */
    struct table_stamp seen;  /* at the last check */
    bool told;          /* it has been logged that the file is unfinished */
};

static bool say(char *error, size_t room, const char *format, ...) PRINTF_LIKE(3, 4);
static bool say(char *error, size_t room, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, room, format, args);
    va_end(args);
    return false;
}

/* ---- building a content ---- */

static struct content *content_make(void)
{
    struct content *c = must_alloc(sizeof *c);
    c->holders = 1;
    return c;
}

static void content_free(struct content *c)
{
    if (!c || __atomic_sub_fetch(&c->holders, 1, __ATOMIC_ACQ_REL))
        return;
    while (c->folded) {
        struct folded *f = c->folded;
        c->folded = f->next;
        free(f);
    }
    free(c->text);
    free(c->words);
    free(c->nets);
    free(c->word_slots);
    free(c->net_slots);
    free(c);
}

/* True for digits and dots, or hexadecimal digits and colons: it is meant as an address, so that "300.1.2.3" is a mistake and not a
 * word. */
static bool looks_like_ip(struct str s)
{
    struct str rest = s, ip = str_cut(&rest, '/');
    size_t dots = 0, colons = 0;
    if (ip.len > 2 && ip.at[0] == '[' && ip.at[ip.len - 1] == ']')
        ip = str_part(ip, 1, ip.len - 1);
    for (size_t i = 0; i < ip.len; i++) {
        char at = ip.at[i];
        dots += at == '.';
        colons += at == ':';
        if (at != '.' && at != ':' && char_hex(at) < 0)
            return false;
        if (at != '.' && !char_is_digit(at) && at != ':' && !memchr(ip.at, ':', ip.len))
            return false;
    }
    return colons >= 2 || (dots == 3 && !colons) || (dots && rest.at && !colons);
}

/* Converts a key to its canonical form: to lower case in place, or, with U-labels or an address literal, as a copy outside of the text. */
static struct str fold_key(struct content *c, struct str key)
{
    char room[IDN_ROOM];
    if (str_is_ascii(key) && !memchr(key.at, '[', key.len)) {
        for (size_t i = 0; i < key.len; i++)
            ((char *)key.at)[i] = char_lower(key.at[i]); /* it points into c->text, which may be written */
        return key;
    }
    struct str folded = idn_fold_address(key, room);
    struct folded *f = must_alloc(sizeof *f + folded.len + 1);
    memcpy(f->key, folded.at, folded.len);
    f->next = c->folded;
    c->folded = f;
    return (struct str){f->key, folded.len};
}

static bool add(struct content *c, struct str key, struct str value, const char **why)
{
    static _Thread_local char text[256];
    if (key.len && key.at[0] == '!') {
        *why = "\"!\" in front of a key is not supported: give the exception a longer prefix and its own value";
        return false;
    }
    if (key.len > KEY_MOST) {
        *why = "the key is longer than 1024 octets";
        return false;
    }
    if (looks_like_ip(key)) {
        struct cidr cidr;
        const char *reason;
        if (!cidr_parse(key, &cidr, &reason)) {
            snprintf(text, sizeof text, "\"%.60s\": %s", key.at, reason);
            *why = text;
            return false;
        }
        if (c->nnets == c->nets_room)
            c->nets = must_grow(c->nets, (c->nets_room = c->nets_room ? c->nets_room * 2 : 16) * sizeof *c->nets);
        c->nets[c->nnets++] = (struct net){cidr, key, value, c->line};
        return true;
    }
    bool ascii = str_is_ascii(key);
    key = fold_key(c, key);
    if (!ascii && looks_like_ip(key)) {
        *why = "an address with characters that are not ASCII";
        return false;
    }
    if (c->nwords == c->words_room)
        c->words = must_grow(c->words, (c->words_room = c->words_room ? c->words_room * 2 : 16) * sizeof *c->words);
    c->words[c->nwords++] = (struct table_word){key, value, c->line};
    return true;
}

static uint64_t net_hash(const struct content *c, const struct cidr *n)
{
    return str_hash((struct str){(const char *)n->octets, 16}, c->seed + n->bits * 2u + n->v6);
}

static bool net_equal(const struct cidr *a, const struct cidr *b)
{
    return a->v6 == b->v6 && a->bits == b->bits && memcmp(a->octets, b->octets, 16) == 0;
}

static uint32_t *slots_make(size_t entries, size_t *slot_mask)
{
    size_t n = 8;
    while (n < entries * 2)
        n *= 2;
    *slot_mask = n - 1;
    return must_alloc(n * sizeof(uint32_t));
}

static void seal(struct content *c)
{
    c->seed = (uint64_t)(uintptr_t)c;
    c->word_slots = slots_make(c->nwords, &c->word_mask);
    for (size_t i = 0; i < c->nwords; i++) {
        size_t at = str_hash(c->words[i].key, c->seed) & c->word_mask;
        while (c->word_slots[at] && !str_equal(c->words[c->word_slots[at] - 1].key, c->words[i].key))
            at = (at + 1) & c->word_mask;
        if (!c->word_slots[at])
            c->word_slots[at] = (uint32_t)i + 1;
        if (str_equal(c->words[i].key, STR("*")) && !c->all.at)
            c->all = c->words[i].value;
    }
    c->net_slots = slots_make(c->nnets, &c->net_mask);
    for (size_t i = 0; i < c->nnets; i++) {
        const struct cidr *net = &c->nets[i].cidr;
        size_t at = net_hash(c, net) & c->net_mask;
        while (c->net_slots[at] && !net_equal(&c->nets[c->net_slots[at] - 1].cidr, net))
            at = (at + 1) & c->net_mask;
        if (!c->net_slots[at])
            c->net_slots[at] = (uint32_t)i + 1;
        (net->v6 ? c->used6 : c->used4)[net->bits] = 1;
    }
}

enum { TOLD_MOST = 20 }; /* mistakes of one table that are reported */

/* Appends a mistake to `error`, on a line of its own; *told counts all mistakes, with those for which there is no room. */
static void say_also(char *error, size_t room, unsigned *told, const char *text)
{
    size_t len = *told ? strlen(error) : 0;
    if (++*told <= TOLD_MOST && len + 2 < room)
        say(error + len, room - len, "%s%s", len ? "\n" : "", text);
}

/* One logical line: continuation lines are already joined. */
static bool line_add(struct content *c, struct str line, const char **why)
{
    line = str_trim(line);
    if (!line.len || line.at[0] == '#')
        return true;
    size_t n = 0;
    while (n < line.len && line.at[n] != ' ' && line.at[n] != '\t')
        n++;
    struct str value = str_trim(str_part(line, n, line.len));
    ((char *)line.at)[n] = 0; /* the separator, or the line end */
    if (value.len)
        ((char *)value.at)[value.len] = 0;
    return add(c, str_part(line, 0, n), value.len ? value : STR("OK"), why);
}

static struct content *parse(char *text, size_t len, const char *path, char *error, size_t room)
{
    struct content *c = content_make();
    c->text = text;
    struct str whole = {text, 0}; /* the logical line so far */
    unsigned line = 0, first = 0, told = 0;
    size_t at = 0;
    const char *why = "";
    char text_of[512];
    if (memchr(text, 0, len)) {
        say(error, room, "%s:1: there is a NUL octet in it: is it a text file?", path);
        content_free(c);
        return NULL;
    }
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) /* skip a byte order mark */
        at = 3;
    while (at < len) {
        char *end = memchr(text + at, '\n', len - at);
        size_t to = end ? (size_t)(end - text) : len, next = to + 1;
        line++;
        if (to > at && text[to - 1] == '\r')
            text[--to] = ' ';
        struct str bare = str_trim((struct str){text + at, to - at});
        if (bare.len && bare.at[0] != '#') {
            if (text[at] == ' ' || text[at] == '\t') { /* continues the line before: the line end between them becomes SP */
                if (!whole.len) {
                    say(text_of, sizeof text_of,
                        "%s:%u: a line that begins with a space continues the one before; there is none", path, line);
                    say_also(error, room, &told, text_of);
                    at = next;
                    continue;
                }
                char *join = (char *)whole.at + whole.len;
                *join++ = ' ';
                memmove(join, bare.at, bare.len);
                whole.len += 1 + bare.len;
            } else {
                if (!line_add(c, whole, &why)) {
                    say(text_of, sizeof text_of, "%s:%u: %s", path, first, why);
                    say_also(error, room, &told, text_of);
                }
                whole = (struct str){text + at, to - at};
                first = c->line = line;
            }
        }
        at = next;
    }
    if (!line_add(c, whole, &why)) {
        say(text_of, sizeof text_of, "%s:%u: %s", path, first, why);
        say_also(error, room, &told, text_of);
    }
    if (told) {
        content_free(c);
        return NULL;
    }
    seal(c);
    return c;
}

/* ---- files ---- */

static struct table_stamp stamp_of(const struct stat *st)
{
    return (struct table_stamp){st->st_mtim, st->st_size, st->st_ino};
}

/* For paths such as "hash:/etc/postfix/access", as Postfix writes them: the length of the table type. Only text files can be read here.
 * 0: the path has no type. */
static size_t type_in(const char *path)
{
    const char *mark = strstr(path, ":/"), *from = mark;
    while (from && from > path && char_is_alpha(from[-1]))
        from--;
    return from && from < mark && (from == path || from[-1] == '/') ? (size_t)(mark - from) : 0;
}

static void say_no_file(char *error, size_t room, const char *path)
{
    size_t type = errno == ENOENT ? type_in(path) : 0;
    if (type)
        say(error, room, "%s: a table is the path of a text file, without \"%.*s:\"", path, (int)type,
            strstr(path, ":/") - type);
    else
        say(error, room, "%s: %s", path, strerror(errno));
}

static struct content *load(const char *path, struct table_stamp *stamp, char *error, size_t room)
{
    struct stat st;
    int fd = fault_strikes(FAULT_FILE) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        say_no_file(error, room, path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    *stamp = stamp_of(&st);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MOST) {
        say(error, room, "%s: %s", path, S_ISREG(st.st_mode) ? "larger than 256 MiB" : "not a regular file");
        close(fd);
        return NULL;
    }
    size_t size = (size_t)st.st_size, got = 0;
    char *text = must_alloc(size + 1);
    while (got < size) {
        ssize_t n = fault_strikes(FAULT_FILE) ? -1 : read(fd, text + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            say(error, room, "%s: %s", path, strerror(errno));
            close(fd);
            free(text);
            return NULL;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    close(fd);
    text[got] = 0;
    return parse(text, got, path, error, room);
}

static struct table *table_make(struct content *content)
{
    struct table *t = must_alloc(sizeof *t);
    pthread_rwlock_init(&t->lock, NULL);
    t->content = content;
    return t;
}

struct table *table_open(const char *path, char *error, size_t room)
{
    struct table_stamp stamp;
    struct content *content = load(path, &stamp, error, room);
    if (!content)
        return NULL;
    struct table *t = table_make(content);
    t->path = must_alloc(strlen(path) + 1);
    memcpy(t->path, path, strlen(path));
    t->stamp = t->seen = stamp;
    return t;
}

struct table *table_of(const struct str *keys, const struct str *values, size_t n, char *error, size_t room)
{
    size_t size = 1;
    unsigned told = 0;
    for (size_t i = 0; i < n; i++)
        size += keys[i].len + 1 + (values ? values[i].len + 1 : 0);
    struct content *c = content_make();
    char *to = c->text = must_alloc(size);
    for (size_t i = 0; i < n; i++) {
        struct str key = {to, keys[i].len}, value = STR("OK");
        if (keys[i].len)
            memcpy(to, keys[i].at, keys[i].len);
        to += keys[i].len + 1;
        if (values) {
            value = (struct str){to, values[i].len};
            if (values[i].len)
                memcpy(to, values[i].at, values[i].len);
            to += values[i].len + 1;
        }
        const char *why = "an empty key";
        if (!key.len || !add(c, key, value, &why)) {
            char text[300];
            say(text, sizeof text, "element %zu: %s", i + 1, why);
            say_also(error, room, &told, text);
        }
    }
    if (told) {
        content_free(c);
        return NULL;
    }
    seal(c);
    return table_make(c);
}

void table_close(struct table *t)
{
    if (!t)
        return;
    pthread_rwlock_destroy(&t->lock);
    content_free(t->content);
    free(t->path);
    free(t);
}

const char *table_path(const struct table *t)
{
    return t->path;
}

size_t table_count(struct table *t)
{
    pthread_rwlock_rdlock(&t->lock);
    size_t n = t->content->nwords + t->content->nnets;
    pthread_rwlock_unlock(&t->lock);
    return n;
}

static bool stamp_same(const struct table_stamp *a, const struct table_stamp *b)
{
    return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec && a->size == b->size &&
           a->inode == b->inode;
}

/* Why a file that is written in place (cp, an editor, a bind mount of one file), and not replaced by rename, may be incomplete. NULL: it
 * looks complete. */
static const char *unfinished(const char *path, const struct table_stamp *now)
{
    char last = 0;
    if (!now->size)
        return "it has shrunk to nothing";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ended = fd >= 0 && pread(fd, &last, 1, now->size - 1) == 1 && last == '\n';
    if (fd >= 0)
        close(fd);
    return ended ? NULL : "its last line has no end";
}

bool table_refresh(struct table *t)
{
    struct stat st;
    if (!t->path || stat(t->path, &st) != 0)
        return false; /* the file is missing, probably while it is being replaced: keep the old content */
    struct table_stamp now = stamp_of(&st), stamp;
    bool still = stamp_same(&now, &t->seen), in_place = now.inode == t->stamp.inode;
    t->seen = now;
    if (stamp_same(&now, &t->stamp) || (in_place && !still))
        return false;
    const char *why = in_place ? unfinished(t->path, &now) : NULL;
    if (why) {
        if (!t->told)
            log_say(LOG_WARNING, "%s: %s: it may still be written, the content read before stays in use", t->path, why);
        t->told = true;
        return false;
    }
    char error[512];
    struct content *fresh = load(t->path, &stamp, error, sizeof error);
    t->stamp = fresh ? stamp : now; /* a file with mistakes is reported once and read again after its next change */
    t->told = false;
    if (!fresh) {
        error[strcspn(error, "\n")] = 0;
        log_say(LOG_ERROR, "%s (the content read before stays in use)", error);
        return false;
    }
    pthread_rwlock_wrlock(&t->lock);
    struct content *old = t->content;
    t->content = fresh;
    pthread_rwlock_unlock(&t->lock);
    content_free(old);
    return true;
}

bool table_take_over(struct table *t, struct table *old)
{
    if (!t->path || !old->path || strcmp(t->path, old->path) != 0 || t->stamp.inode != old->stamp.inode ||
        stamp_same(&t->stamp, &old->stamp) || !unfinished(t->path, &t->stamp))
        return false;
    pthread_rwlock_rdlock(&old->lock);
    struct content *content = old->content;
    __atomic_add_fetch(&content->holders, 1, __ATOMIC_RELAXED);
    pthread_rwlock_unlock(&old->lock);
    content_free(t->content);
    t->content = content;
    t->stamp = old->stamp;
    return true;
}

/* ---- lookups: called with the read lock held ---- */

static bool answer(struct str value, struct str *found)
{
    static _Thread_local char answers[ANSWERS][ANSWER_MOST + 1];
    static _Thread_local unsigned turn;
    if (found) {
        char *to = answers[turn++ % ANSWERS];
        size_t len = min_size(value.len, ANSWER_MOST);
        memcpy(to, value.at, len);
        to[len] = 0;
        *found = (struct str){to, len};
    }
    return true;
}

bool table_at(struct table *t, size_t i, struct table_entry *entry)
{
    pthread_rwlock_rdlock(&t->lock);
    const struct content *c = t->content;
    bool word = i < c->nwords, net = !word && i - c->nwords < c->nnets;
    *entry = (struct table_entry){.file = t->path};
    if (word || net) {
        const struct net *n = net ? &c->nets[i - c->nwords] : NULL;
        answer(word ? c->words[i].key : n->key, &entry->key);
        answer(word ? c->words[i].value : n->value, &entry->value);
        entry->line = word ? c->words[i].line : n->line;
    }
    pthread_rwlock_unlock(&t->lock);
    return word || net;
}

static bool has(const struct content *c, struct str key, struct str *found)
{
    for (size_t at = str_hash(key, c->seed) & c->word_mask; c->word_slots[at]; at = (at + 1) & c->word_mask) {
        const struct table_word *w = &c->words[c->word_slots[at] - 1];
        if (str_equal(w->key, key))
            return answer(w->value, found);
    }
    return false;
}

/* ".b.example.org", ".example.org", ".org" of "a.b.example.org". */
static bool has_parent(const struct content *c, struct str domain, struct str *found)
{
    for (size_t i = 1; i < domain.len; i++)
        if (domain.at[i] == '.' && has(c, str_part(domain, i, domain.len), found))
            return true;
    return false;
}

static bool has_address(const struct content *c, struct str key, size_t at, struct str *found)
{
    struct str local = str_part(key, 0, at), domain = str_part(key, at + 1, key.len);
    const char *plus = local.len ? memchr(local.at + 1, '+', local.len - 1) : NULL;
    struct str short_local = plus ? str_part(local, 0, (size_t)(plus - local.at)) : STR_NONE;
    char text[KEY_MOST + 8];
    struct str plain = STR_NONE;
    if (has(c, key, found))
        return true;
    if (plus) {
        int n = snprintf(text, sizeof text, "%.*s@%.*s", STR_ARGS(short_local), STR_ARGS(domain));
        plain = (struct str){text, (size_t)n};
        if (has(c, plain, found))
            return true;
    }
    if (has(c, str_part(key, at, key.len), found) || (domain.len && has(c, domain, found)) ||
        has_parent(c, domain, found) || has(c, str_part(key, 0, at + 1), found))
        return true;
    return plus && has(c, str_part(plain, 0, short_local.len + 1), found);
}

bool table_match(struct table *t, struct str key, struct str *found)
{
    char text[KEY_MOST];
    if (key.len > sizeof text)
        return false;
    struct str low = key.len ? idn_fold_address(key, text) : STR("<>"); /* the null reverse-path, written as Postfix does */
    pthread_rwlock_rdlock(&t->lock);
    const struct content *c = t->content;
    size_t at = low.len;
    while (at > 0 && low.at[at - 1] != '@')
        at--;
    bool yes = at ? has_address(c, low, at - 1, found) : has(c, low, found) || has_parent(c, low, found);
    if (!yes && c->all.at)
        yes = answer(c->all, found);
    pthread_rwlock_unlock(&t->lock);
    return yes;
}

static bool net_has(const struct content *c, const struct cidr *net, struct str *found)
{
    for (size_t at = net_hash(c, net) & c->net_mask; c->net_slots[at]; at = (at + 1) & c->net_mask) {
        const struct net *n = &c->nets[c->net_slots[at] - 1];
        if (net_equal(&n->cidr, net))
            return answer(n->value, found);
    }
    return false;
}

bool table_match_ip(struct table *t, struct str ip, struct str *found)
{
    struct cidr at;
    if (!cidr_of_ip(ip, &at))
        return false;
    pthread_rwlock_rdlock(&t->lock);
    const struct content *c = t->content;
    const uint8_t *used = at.v6 ? c->used6 : c->used4;
    bool yes = false;
    for (int bits = at.bits; bits >= 0 && !yes; bits--)
        if (used[bits]) {
            cidr_mask(&at, (unsigned)bits);
            yes = net_has(c, &at, found);
        }
    if (!yes && c->all.at)
        yes = answer(c->all, found);
    pthread_rwlock_unlock(&t->lock);
    return yes;
}

bool table_twins(const struct str *keys, size_t n, size_t *one, size_t *other)
{
    char error[512];
    struct arena arena = {0};
    struct str *numbers = must_alloc((n + 1) * sizeof *numbers);
    for (size_t i = 0; i < n; i++)
        numbers[i] = arena_print(&arena, "%zu", i);
    struct table *t = table_of(keys, numbers, n, error, sizeof error); /* NULL: the error text is not needed here */
    const struct content *c = t ? t->content : NULL;
    uint64_t first = 0, second = 0;
    bool twins = false;
    for (size_t i = 0; c && i < c->nwords + c->nnets && !twins; i++) {
        const struct net *net = i < c->nwords ? NULL : &c->nets[i - c->nwords];
        struct str own = net ? net->value : c->words[i].value, found = own;
        twins = (net ? net_has(c, &net->cidr, &found) : has(c, c->words[i].key, &found)) && !str_equal(found, own) &&
                str_number(found, &first) && str_number(own, &second);
    }
    *one = (size_t)first;
    *other = (size_t)second;
    table_close(t);
    free(numbers);
    arena_reset(&arena);
    return twins;
}
