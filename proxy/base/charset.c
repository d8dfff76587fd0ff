/* charset.c - iconv with a cache of descriptors; see charset.h.
 *
 * Converts to UTF-8 only, without the suffixes //IGNORE and //TRANSLIT, with which iconv has had endless loops. A charset name
 * from a message cannot contain such a suffix, as '/' is not allowed in names. */
#include "base/charset.h"
#include <errno.h>
#include <iconv.h>
#include <limits.h>
#include <pthread.h>

enum { CACHED = 16 };

struct cache { /* the newest first */
    struct {
        char name[CHARSET_NAME_MOST + 1];
        iconv_t to_utf8;
        bool known; /* false: iconv does not know this name */
    } entries[CACHED];
    size_t n;
    unsigned opens; /* how many may still be opened (charset_allow) */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread struct cache *mine;

static void forget(void *data)
{
    struct cache *c = data;
    for (size_t i = 0; i < c->n; i++)
        if (c->entries[i].known)
            iconv_close(c->entries[i].to_utf8);
    free(c);
    mine = NULL;
}

static void make_key(void)
{
    must(pthread_key_create(&key, forget) == 0);
}

static struct cache *cache_of_thread(void)
{
    if (!mine) {
        pthread_once(&once, make_key);
        mine = must_alloc(sizeof *mine);
        mine->opens = UINT_MAX;
        pthread_setspecific(key, mine);
    }
    return mine;
}

/* Names that mail uses and iconv does not know, and those that senders use for a larger charset than they say. */
static const struct {
    const char *name, *is;
} aliases[] = {
    {"iso-8859-1", "cp1252"},
    {"iso8859-1", "cp1252"},
    {"iso_8859-1", "cp1252"},
    {"latin1", "cp1252"},
    {"latin-1", "cp1252"},
    {"gb2312", "gb18030"},
    {"ks_c_5601-1987", "cp949"},
    {"x-sjis", "cp932"},
    {"x-gbk", "gbk"},
    {"x-mac-roman", "macintosh"},
    {"x-mac-cyrillic", "mac-cyrillic"},
    {"iso-8859-8-i", "iso-8859-8"},
    {"iso-8859-8-e", "iso-8859-8"},
    {"iso-8859-6-i", "iso-8859-6"},
    {"x-windows-949", "cp949"},
    {"gb_2312", "gb18030"},
    {"gb_2312-80", "gb18030"},
    {"csgb2312", "gb18030"},
    {"chinese", "gb18030"},
    {"x-euc-jp", "euc-jp"},
    {"x-euc-tw", "euc-tw"},
    {"x-big5", "big5"},
    {"x-x-big5", "big5"},
    {"cn-big5", "big5"},
    {"unicode-1-1-utf-7", "utf-7"},
    {"utf8mb4", "utf-8"},
};

static bool is_utf8(const char *name)
{
    static const char *const names[] = {"utf-8",    "utf8",  "utf_8",          "unicode-1-1-utf-8",
                                        "us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us"};
    for (size_t i = 0; i < countof(names); i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

/* Writes the name in lower case, or the name that it is an alias of; false: not a possible name. */
static bool name_take(struct str charset, char name[CHARSET_NAME_MOST + 1])
{
    if (!charset.len || charset.len > CHARSET_NAME_MOST)
        return false;
    for (size_t i = 0; i < charset.len; i++) {
        char c = charset.at[i];
        if (!char_is_alnum(c) && (!c || !strchr("-_.:+()", c)))
            return false;
        name[i] = char_lower(c);
    }
    name[charset.len] = 0;
    static const char *const pages[] = {"cp-", "x-cp", "windows", "win-"}; /* and "windows-1252", which iconv knows */
    for (size_t i = 0; i < countof(pages); i++) {
        size_t len = strlen(pages[i]);
        if (strncmp(name, pages[i], len) || !char_is_digit(name[len]))
            continue;
        memmove(name + 2, name + len, strlen(name + len) + 1);
        memcpy(name, "cp", 2);
    }
    for (size_t i = 0; i < countof(aliases); i++)
        if (!strcmp(name, aliases[i].name)) {
            strcpy(name, aliases[i].is);
            break;
        }
    return true;
}

/* False: there is no such charset. */
static bool find_descriptor(const char *name, iconv_t *found)
{
    struct cache *c = cache_of_thread();
    size_t i = 0;
    while (i < c->n && strcmp(c->entries[i].name, name))
        i++;
    if (i == c->n && !c->opens)
        return false;
    if (i == c->n) {
        if (c->n < CACHED)
            c->n++;
        else if (c->entries[--i].known)
            iconv_close(c->entries[i].to_utf8);
        strcpy(c->entries[i].name, name);
        c->entries[i].to_utf8 = iconv_open("UTF-8", name);
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): POSIX' own way to say that */
        c->entries[i].known = c->entries[i].to_utf8 != (iconv_t)-1;
        if (!c->entries[i].known && errno != EINVAL) { /* out of descriptors or memory: temporary, so the failure is not cached */
            c->n = i;
            return false;
        }
        c->opens -= c->entries[i].known && c->opens != UINT_MAX;
    }
    if (i) { /* move it to the front: the last entry is evicted first */
        char entry[sizeof *c->entries];
        memcpy(entry, &c->entries[i], sizeof entry);
        memmove(c->entries + 1, c->entries, i * sizeof *c->entries);
        memcpy(c->entries, entry, sizeof entry);
    }
    *found = c->entries[0].to_utf8;
    return c->entries[0].known;
}

struct charset_out {
    char *at;
    size_t len, room;
};

static void grow(struct charset_out *out, struct arena *arena)
{
    char *old = out->at;
    out->room = out->room * 2 + 64;
    out->at = arena_space(arena, out->room);
    if (out->len)
        memcpy(out->at, old, out->len);
}

static struct str convert(iconv_t to_utf8, struct str octets, struct arena *arena)
{
    struct charset_out out = {.room = octets.len * 2};
    grow(&out, arena);
    char *in = (char *)octets.at; /* iconv reads only, whatever its type says */
    size_t left = octets.len;
    iconv(to_utf8, NULL, NULL, NULL, NULL);
    for (bool last = !left;;) {
        char *to = out.at + out.len;
        size_t room = out.room - out.len - 4; /* a U+FFFD and a NUL still fit */
        errno = 0;
        /* at the end of input: flush what the converter holds back, such as a base letter that an accent may follow */
        size_t got = last ? iconv(to_utf8, NULL, NULL, &to, &room) : iconv(to_utf8, &in, &left, &to, &room);
        out.len = (size_t)(to - out.at);
        if (got != (size_t)-1) {
            if (last)
                break;
            last = true;
        } else if (errno == E2BIG) {
            grow(&out, arena);
        } else if (last) {
            break;
        } else { /* EILSEQ, or EINVAL: the octets end within a character */
            memcpy(out.at + out.len, "\xef\xbf\xbd", 3);
            out.len += 3;
            in++;
            last = --left == 0;
        }
        if (out.room - out.len < 8)
            grow(&out, arena);
    }
    out.at[out.len] = 0;
    return (struct str){out.at, out.len};
}

void charset_allow(unsigned opens)
{
    cache_of_thread()->opens = opens;
}

bool charset_decode(struct str octets, struct str charset, struct arena *arena, struct str *utf8)
{
    char name[CHARSET_NAME_MOST + 1];
    *utf8 = octets;
    if (!name_take(charset, name))
        return false;
    if (is_utf8(name))
        return true;
    iconv_t to_utf8;
    if (!find_descriptor(name, &to_utf8))
        return false;
    *utf8 = convert(to_utf8, octets, arena);
    return true;
}
