/* header.c - the header section, taken line by line and sent field by field: RFC 5322 2.1, 2.2 (fields), 2.2.3
 * (folding), 3.6.8 (names), 4.5 (white space before the colon).
 *
 * Owns struct field and the order of fields; octets are copied once, into the transaction's arena, and a field that is not edited is sent
 * from these octets. Octets are taken from the pipe as they come: a line longer than the pipe would never become complete in it. Only the
 * beginning of a line stays in the pipe until it is known to begin a field. No field name has a special meaning here. */
#include "wire/header.h"

enum {
    NAME_MOST = 997,           /* RFC 5322 2.1.1: a line has 998 octets, one of them the colon */
    LOOK_MOST = NAME_MOST * 2, /* octets in which a colon is searched for */
    VALUE_MOST = 1 << 20,
    ROOM_FIRST = 2048
};

static bool is_name_octet(char c) /* RFC 5322 3.6.8 ftext */
{
    return c > ' ' && c < 127 && c != ':';
}

void headers_start(struct headers *h, struct arena *arena)
{
    *h = (struct headers){.arena = arena};
}

/* ---- fields ---------------------------------------------------------------------------------------------------------
 */

static bool ends_line(struct str s)
{
    return s.len >= 2 && s.at[s.len - 2] == '\r' && s.at[s.len - 1] == '\n';
}

/* Sets name and value, as views into raw. */
static void divide(struct field *f)
{
    size_t colon = str_find(f->raw, STR(":"));
    f->name = str_part(f->raw, 0, colon);
    while (f->name.len && !is_name_octet(f->name.at[f->name.len - 1]))
        f->name.len--;
    f->value = str_part(f->raw, colon + 1, f->raw.len - (ends_line(f->raw) ? 2 : 0));
}

static struct field *make_field(struct headers *h, struct str raw)
{
    if (h->handles == h->room) {
        uint32_t room = h->room ? h->room * 2 : 32;
        struct field **all = arena_alloc(h->arena, room * sizeof *all);
        if (h->handles)
            memcpy(all, h->by_handle, h->handles * sizeof *all);
        h->by_handle = all;
        h->room = room;
    }
    struct field *f = arena_alloc(h->arena, sizeof *f);
    f->raw = raw;
    divide(f);
    h->by_handle[h->handles++] = f;
    f->handle = h->handles;
    h->count++;
    return f;
}

/* Inserts a field before `before`; NULL: at the bottom. */
static void link_field(struct headers *h, struct field *f, struct field *before)
{
    f->next = before;
    f->prev = before ? before->prev : h->last;
    *(f->prev ? &f->prev->next : &h->first) = f;
    *(before ? &before->prev : &h->last) = f;
}

static void unlink_field(struct headers *h, struct field *f)
{
    *(f->prev ? &f->prev->next : &h->first) = f->next;
    *(f->next ? &f->next->prev : &h->last) = f->prev;
}

/* The first field that is not an mbox line. */
static struct field *top_of(const struct headers *h)
{
    struct field *f = h->first;
    while (f && f->mbox)
        f = f->next;
    return f;
}

/* ---- in -------------------------------------------------------------------------------------------------------------
 */

/* Appends octets to the incomplete field. Its room doubles when it is full; complete fields keep the part they use. So each octet is copied
 * once, and those of long fields once more for each doubling. */
static void append(struct headers *h, const char *at, size_t n)
{
    struct arena_text *t = &h->partial;
    if (t->room - t->len < n) {
        size_t room = max_size((t->len + n) * 2, ROOM_FIRST);
        char *more = arena_space(h->arena, room);
        if (t->len)
            memcpy(more, t->at, t->len);
        t->at = more;
        t->room = room;
    }
    memcpy(t->at + t->len, at, n);
    t->len += n;
}

static void finish(struct headers *h)
{
    struct arena_text *t = &h->partial;
    if (!t->len)
        return;
    struct field *f = make_field(h, (struct str){t->at, t->len});
    link_field(h, f, NULL);
    if (h->in_mbox) {
        f->mbox = true;
        headers_hide(h, f);
        h->in_mbox = false;
    }
    t->at += t->len;
    t->room -= t->len;
    t->len = 0;
}

/* Takes the rest of a line that belongs to the incomplete field, as far as it has come. */
static void take_line(struct headers *h, struct pipe *content)
{
    while (content->first && h->in_line) {
        const struct span *s = content->first;
        const char *lf = memchr(s->at, '\n', s->len);
        size_t n = lf ? (size_t)(lf - s->at) + 1 : s->len;
        append(h, s->at, n);
        pipe_drop(content, n);
        h->octets += n;
        /* Only CRLF ends a line (RFC 5322 2.3): an LF alone is an octet like others. */
        if (lf && ends_line((struct str){h->partial.at, h->partial.len}))
            h->in_line = false;
    }
}

enum looks { AN_MBOX_LINE, A_FIELD, A_CONTINUATION, THE_END, NO_FIELD, UNDECIDED };

/* Whether the line at the head of the content is an mbox line; NO_FIELD: it is not. */
static enum looks look_for_mbox(const struct pipe *content)
{
    const struct str from = STR("From ");
    size_t at = 0, same = 0;
    for (const struct span *s = content->first; s; s = s->next)
        for (size_t i = 0; i < s->len; i++, at++) {
            if (s->at[i] == '>' && !same && at < LOOK_MOST)
                continue;
            if (s->at[i] != from.at[same])
                return NO_FIELD;
            if (++same == from.len)
                return AN_MBOX_LINE;
        }
    return content->ended ? NO_FIELD : UNDECIDED;
}

/* Classifies the line at the head of the content by its first octets. */
static enum looks look_for_field(const struct pipe *content, bool within_field)
{
    size_t at = 0;
    bool white = false;
    for (const struct span *s = content->first; s; s = s->next)
        for (size_t i = 0; i < s->len; i++, at++) {
            char c = s->at[i];
            bool space = c == ' ' || c == '\t';
            if (at == 0 && space)
                return within_field ? A_CONTINUATION : NO_FIELD;
            if (at == 0 && c == '\r') {
                char two[2];
                if (content->octets < 2)
                    return content->ended ? NO_FIELD : UNDECIDED;
                pipe_peek(content, 0, two, 2);
                return two[1] == '\n' ? THE_END : NO_FIELD;
            }
            if (c == ':')
                return at ? A_FIELD : NO_FIELD;
            white = white || space;
            if ((white && !space) || (!space && !is_name_octet(c)) || (!white && at >= NAME_MOST) || at >= LOOK_MOST)
                return NO_FIELD;
        }
    return content->ended ? NO_FIELD : UNDECIDED;
}

static enum looks look(const struct headers *h, const struct pipe *content)
{
    bool begins = !top_of(h) && (!h->partial.len || h->in_mbox);
    enum looks mbox = begins ? look_for_mbox(content) : NO_FIELD;
    return mbox != NO_FIELD ? mbox : look_for_field(content, h->partial.len > 0 && !h->in_mbox);
}

static enum headers_took end(struct headers *h, struct pipe *content, bool separator)
{
    finish(h);
    h->separator = separator;
    h->body = !separator && content->octets > 0;
    if (separator) {
        pipe_drop(content, 2);
        h->octets += 2;
    }
    h->done = true;
    return HEADERS_DONE;
}

enum headers_took headers_step(struct headers *h, struct pipe *content, size_t most)
{
    while (!h->done) {
        if (h->in_line)
            take_line(h, content);
        if (h->octets > most)
            return HEADERS_TOO_BIG;
        if (!content->first)
            return content->ended ? end(h, content, false) : HEADERS_MORE;
        enum looks is = look(h, content);
        switch (is) {
        case AN_MBOX_LINE:
        case A_FIELD:
            finish(h);
            h->in_line = true;
            h->in_mbox = is == AN_MBOX_LINE;
            break;
        case A_CONTINUATION: h->in_line = true; break;
        case THE_END: end(h, content, true); break;
        case NO_FIELD: end(h, content, false); break;
        case UNDECIDED: pipe_compact(content); return HEADERS_MORE;
        }
    }
    return h->octets > most ? HEADERS_TOO_BIG : HEADERS_DONE;
}

/* ---- lookup ---------------------------------------------------------------------------------------------------------
 */

struct field *headers_field(const struct headers *h, uint32_t handle)
{
    struct field *f = handle && handle <= h->handles ? h->by_handle[handle - 1] : NULL;
    return f && !f->removed && !f->mbox ? f : NULL;
}

static bool is_wanted(const struct field *f, struct str name)
{
    return !f->hidden && !f->removed && (!name.at || str_equal_nocase(f->name, name));
}

/* A removed field keeps its pointers to its neighbours, so that a loop over fields may remove the current one. */
struct field *headers_next(const struct headers *h, const struct field *from, struct str name)
{
    struct field *f = from ? from->next : h->first;
    while (f && !is_wanted(f, name))
        f = f->next;
    return f;
}

struct field *headers_back(const struct headers *h, const struct field *from, struct str name)
{
    struct field *f = from ? from->prev : h->last;
    while (f && !is_wanted(f, name))
        f = f->prev;
    return f;
}

/* ---- edits ----------------------------------------------------------------------------------------------------------
 */

static bool name_is_valid(struct str name)
{
    if (!name.len || name.len > NAME_MOST)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_octet(name.at[i]))
            return false;
    return true;
}

/* Copies a value of a filter and corrects its line ends: an LF with or without CR is a line end, any other CR is dropped. The result can
 * contain neither a second field nor the end of the header section. */
static size_t fold(struct str value, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] == '\r')
            continue;
        if (value.at[i] != '\n') {
            to[n++] = value.at[i];
            continue;
        }
        size_t next = i + 1; /* consecutive line ends become one, so that no empty line results */
        while (next < value.len && (value.at[next] == '\r' || value.at[next] == '\n'))
            next++;
        if (next == value.len)
            break;
        to[n++] = '\r';
        to[n++] = '\n';
        if (value.at[next] != ' ' && value.at[next] != '\t')
            to[n++] = '\t';
        i = next - 1;
    }
    return n;
}

/* "name:" and the value, as a raw field; STR_NONE: refused. */
static struct str render(struct headers *h, struct str name, struct str value)
{
    size_t extra = 0;
    if (!name_is_valid(name) || value.len > VALUE_MOST || (value.len && memchr(value.at, 0, value.len)))
        return STR_NONE;
    for (size_t i = 0; i < value.len; i++)
        extra += value.at[i] == '\n' ? 2 : 0;
    char *raw = arena_space(h->arena, name.len + 2 + value.len + extra + 2);
    memcpy(raw, name.at, name.len);
    size_t n = name.len;
    raw[n++] = ':';
    if (!value.len || (value.at[0] != ' ' && value.at[0] != '\t'))
        raw[n++] = ' ';
    n += fold(value, raw + n);
    raw[n++] = '\r';
    raw[n++] = '\n';
    return (struct str){raw, n};
}

struct field *headers_add(struct headers *h, struct field *before, bool top, struct str name, struct str value)
{
    struct str raw = before && before->removed ? STR_NONE : render(h, name, value);
    if (!raw.at)
        return NULL;
    struct field *f = make_field(h, raw);
    f->edited = true;
    link_field(h, f, before ? before : top ? top_of(h) : NULL);
    h->changed = h->added = true;
    return f;
}

static bool replace(struct headers *h, struct field *f, struct str raw)
{
    if (!raw.at)
        return false;
    f->raw = raw;
    divide(f);
    f->edited = h->changed = true;
    return true;
}

bool headers_set(struct headers *h, struct field *f, struct str value)
{
    return !f->removed && replace(h, f, render(h, f->name, value));
}

bool headers_rename(struct headers *h, struct field *f, struct str name)
{
    if (f->removed || !name_is_valid(name))
        return false;
    size_t colon = str_find(f->raw, STR(":"));
    char *raw = arena_space(h->arena, name.len + f->raw.len - colon);
    memcpy(raw, name.at, name.len);
    memcpy(raw + name.len, f->raw.at + colon, f->raw.len - colon);
    return replace(h, f, (struct str){raw, name.len + f->raw.len - colon});
}

static bool looks_like_mbox(struct str raw)
{
    size_t n = 0;
    while (n < raw.len && raw.at[n] == '>')
        n++;
    return str_equal(str_part(raw, n, n + 5), STR("From "));
}

void headers_remove(struct headers *h, struct field *f)
{
    if (f->removed)
        return;
    unlink_field(h, f);
    f->removed = h->changed = true;
    h->count -= !f->hidden;
    /* "From :" (RFC 5322 4.5) would be an mbox line where it has become the first. */
    struct field *first = top_of(h);
    if (first && looks_like_mbox(first->raw))
        headers_rename(h, first, first->name);
}

void headers_hide(struct headers *h, struct field *f)
{
    h->count -= !f->hidden && !f->removed;
    f->hidden = true;
}

/* ---- out ------------------------------------------------------------------------------------------------------------
 */

/* An empty line must be sent if one came; and also if a field was added before a body that came without one, since the body could otherwise
 * be read as part of that field. */
static bool owes_separator(const struct headers *h)
{
    return h->separator || (h->body && h->added);
}

bool headers_send(const struct headers *h, struct headers_sender *s, struct pipe *out)
{
    size_t sent = 0;
    if (!s->begun) {
        s->begun = true;
        s->next = h->first;
    }
    while (s->next && sent < BLOCK_READ && !pipe_is_full(out)) {
        const struct field *f = s->next;
        size_t n = min_size(f->raw.len - s->offset, BLOCK_READ - sent);
        pipe_copy(out, f->raw.at + s->offset, n);
        sent += n;
        s->offset += n;
        if (s->offset < f->raw.len)
            continue;
        if (!ends_line(f->raw) &&
            (f->next || owes_separator(h))) /* the content ended without a final CRLF, and more octets follow now */
            pipe_put(out, STR("\r\n"));
        s->next = f->next;
        s->offset = 0;
    }
    if (s->next || s->done)
        return s->done;
    if (owes_separator(h))
        pipe_put(out, STR("\r\n"));
    s->done = true;
    return true;
}

void headers_part(const struct headers *h, struct headers_sender *s, struct pipe *out)
{
    must(s->done);
    if (s->parted)
        return;
    s->parted = true;
    if (owes_separator(h) || h->body)
        return;
    if (h->last && !ends_line(h->last->raw))
        pipe_put(out, STR("\r\n"));
    pipe_put(out, STR("\r\n"));
}

struct str header_unfold(struct str value, struct arena *arena)
{
    value = str_trim(value.at ? value : STR(""));
    if (str_find(value, STR("\r\n")) == value.len)
        return value;
    char *text = arena_space(arena, value.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        bool folds = value.len - i > 2 && value.at[i] == '\r' && value.at[i + 1] == '\n' &&
                     (value.at[i + 2] == ' ' || value.at[i + 2] == '\t');
        if (folds)
            i++;
        else
            text[n++] = value.at[i];
    }
    text[n] = 0;
    return str_trim((struct str){text, n});
}
