/* source.c - messages out of files. A file that begins with "From " is a mailbox: each such line behind an empty line
 * begins a message (RFC 4155). Never writes. */
#include "try/source.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MOST = 1 << 30, FILES_MOST = 1000000 };

static bool fail(struct sources *s, struct str name, const char *why)
{
    s->error = why;
    s->error_name = arena_str(&s->arena, name);
    return false;
}

/* ---- files
 * --------------------------------------------------------------------------------------------------------------- */

static void add_file(struct sources *s, struct str name)
{
    if (s->nfiles == s->room)
        s->files = must_grow(s->files, (s->room = s->room ? s->room * 2 : 64) * sizeof *s->files);
    s->files[s->nfiles++] = arena_str(&s->arena, name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct str *)a)->at, ((const struct str *)b)->at);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool add_folder(struct sources *s, const char *folder, bool all)
{
    size_t from = s->nfiles;
    DIR *dir = opendir(folder);
    if (!dir)
        return fail(s, str_of(folder), strerror(errno));
    for (struct dirent *e; (e = readdir(dir)) && s->nfiles < FILES_MOST;) {
        struct str path = arena_print(&s->arena, "%s/%s", folder, e->d_name);
        bool wanted = all ? e->d_name[0] != '.' : str_ends_nocase(path, STR(".eml"));
        if (wanted && !is_folder(path.at))
            add_file(s, path);
    }
    closedir(dir);
    qsort(s->files + from, s->nfiles - from, sizeof *s->files, by_name);
    return true;
}

static bool add_name(struct sources *s, const char *name)
{
    struct str cur = arena_print(&s->arena, "%s/cur", name), new = arena_print(&s->arena, "%s/new", name);
    if (!is_folder(name)) {
        add_file(s, str_of(name));
        return true;
    }
    s->many = true;
    if (is_folder(cur.at) && is_folder(new.at))
        return add_folder(s, cur.at, true) && add_folder(s, new.at, true);
    return add_folder(s, name, false);
}

static bool read_file(struct sources *s, struct str name)
{
    size_t len = 0, room = 65536;
    int fd = str_equal(name, STR("-")) ? dup(0) : open(name.at, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    if (fd < 0)
        return fail(s, name, strerror(errno));
    s->memory = must_grow(s->memory, room);
    while (len < FILE_MOST && (n = read(fd, s->memory + len, room - len)) > 0) {
        len += (size_t)n;
        if (len == room)
            s->memory = must_grow(s->memory, room *= 2);
    }
    int why = errno;
    close(fd);
    if (n < 0)
        return fail(s, name, strerror(why));
    if (len >= FILE_MOST)
        return fail(s, name, "more than 1 GiB");
    s->text = s->rest = (struct str){s->memory, len};
    s->index = 0;
    return true;
}

/* ---- lines
 * --------------------------------------------------------------------------------------------------------------- */

static bool is_quoted(const char *at, const char *end)
{
    const char *from = at;
    while (at < end && *at == '>')
        at++;
    return at > from && end - at >= 5 && memcmp(at, "From ", 5) == 0;
}

struct str source_lines(struct str text, bool unquote, char **memory)
{
    bool mend = str_find(text, STR("\r\n")) == text.len;
    const char *end = text.at + text.len;
    char *to = *memory = must_grow(*memory, text.len * 2 + 1);
    for (const char *at = text.at; at < end;) {
        const char *lf = memchr(at, '\n', (size_t)(end - at)), *stop = lf ? lf : end;
        if (unquote && is_quoted(at, end))
            at++;
        memcpy(to, at, (size_t)(stop - at));
        to += stop - at;
        if (lf && mend)
            *to++ = '\r';
        if (lf)
            *to++ = '\n';
        at = lf ? lf + 1 : end;
    }
    return (struct str){*memory, (size_t)(to - *memory)};
}

/* ---- mailboxes
 * ------------------------------------------------------------------------------------------------------------ */

static bool begins_message(struct str line)
{
    return str_starts(line, STR("From ")) && str_find(line, STR(":")) < line.len;
}

static size_t line_of(struct str text, size_t from)
{
    const char *lf = memchr(text.at + from, '\n', text.len - from);
    return lf ? (size_t)(lf - text.at) + 1 : text.len;
}

/* The message at the head of `rest`, without its "From " line and the empty line behind it; leaves what follows. alone:
 * if it is the last one, it is the only one. */
static struct str cut_message(struct str *rest, bool alone)
{
    struct str all = *rest;
    size_t begin = line_of(all, 0), at = begin, end = all.len, blank = begin;
    bool empty = false;
    *rest = STR_NONE;
    while (at < all.len) {
        size_t next = line_of(all, at);
        struct str line = str_part(all, at, next);
        if (empty && begins_message(line)) {
            *rest = str_part(all, at, all.len);
            end = blank;
            break;
        }
        empty = str_equal(line, STR("\n")) || str_equal(line, STR("\r\n"));
        blank = at;
        at = next;
    }
    if (!rest->at && empty && !alone) /* the last of several has such a line behind it, too */
        end = blank;
    return str_part(all, begin, end);
}

static bool is_mailbox(const struct sources *s)
{
    return !s->raw && str_starts(s->text, STR("From "));
}

/* ---- all of them
 * ------------------------------------------------------------------------------------------------------------ */

bool sources_open(struct sources *s, size_t n, char *const *names, bool raw)
{
    *s = (struct sources){.raw = raw, .many = n > 1};
    for (size_t i = 0; i < n; i++)
        if (!add_name(s, names[i]))
            return false;
    if (s->many || s->nfiles != 1)
        return true;
    s->next = 1;
    if (!read_file(s, s->files[0]))
        return false;
    struct str rest = s->text;
    if (is_mailbox(s))
        cut_message(&rest, true);
    s->many = is_mailbox(s) && rest.at;
    return true;
}

bool sources_next(struct sources *s, struct source *out)
{
    if (!s->rest.at || (!s->rest.len && s->index)) {
        s->rest = STR_NONE;
        if (s->next == s->nfiles)
            return false;
        s->at = s->next++;
        if (!read_file(s, s->files[s->at]))
            return false;
    }
    bool box = is_mailbox(s);
    struct str text = s->rest;
    if (box)
        text = cut_message(&s->rest, s->index == 0);
    else
        s->rest = STR_NONE;
    bool alone = box && !s->rest.at && s->index == 0;
    s->index++;
    *out = (struct source){.name = s->files[s->at], .index = box && !alone ? s->index : 0, .octets = text};
    if (!s->raw)
        out->octets = source_lines(text, box, &s->lines);
    return true;
}

void sources_close(struct sources *s)
{
    free(s->files);
    free(s->memory);
    free(s->lines);
    arena_reset(&s->arena);
}
