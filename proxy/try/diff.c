/* diff.c - what is common at both ends is passed over; between, the longest common subsequence where that is cheap
 * enough, else all that went and all that came. */
#include "try/diff.h"
#include <stdlib.h>

enum { CELLS_MOST = 4000000, UNIT = 16 };

void visible_put(FILE *to, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c == '\r' || c == '\n')
            fputs(c == '\r' ? "\\r" : "\\n", to);
        else if (c < ' ' || c > '~' || c == '\\')
            fprintf(to, "\\x%02x", c);
        else
            fputc(c, to);
    }
}

struct units {
    struct str *at;
    size_t n;
};

static bool is_text(struct str s)
{
    size_t odd = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (!c)
            return false;
        odd += c < ' ' && c != '\r' && c != '\n' && c != '\t';
    }
    return odd * 10 <= s.len;
}

static struct units cut(struct str s, bool text)
{
    struct units u = {.at = must_alloc((s.len / (text ? 1 : UNIT) + 2) * sizeof *u.at)};
    for (size_t at = 0; at < s.len;) {
        const char *lf = text ? memchr(s.at + at, '\n', s.len - at) : NULL;
        size_t end = lf ? (size_t)(lf - s.at) + 1 : text ? s.len : min_size(at + UNIT, s.len);
        u.at[u.n++] = str_part(s, at, end);
        at = end;
    }
    return u;
}

struct out {
    FILE *to;
    const struct diff_style *style;
    unsigned shown, left;
};

static void put(struct out *o, char sign, struct str line)
{
    if (o->style->most && o->shown >= o->style->most) {
        o->left++;
        return;
    }
    o->shown++;
    fprintf(o->to, "%s%s%c ", o->style->indent, !o->style->colour ? "" : sign == '-' ? "\033[31m" : "\033[32m", sign);
    visible_put(o->to, line);
    fprintf(o->to, "%s\n", o->style->colour ? "\033[0m" : "");
}

/* The lengths of the longest common subsequences of all tails; NULL: too many. */
static uint32_t *lengths(const struct str *a, size_t n, const struct str *b, size_t m)
{
    if ((n + 1) > CELLS_MOST / (m + 1))
        return NULL;
    uint32_t *at = must_alloc((n + 1) * (m + 1) * sizeof *at);
    for (size_t i = n; i-- > 0;)
        for (size_t k = m; k-- > 0;) {
            uint32_t down = at[(i + 1) * (m + 1) + k], right = at[i * (m + 1) + k + 1];
            at[i * (m + 1) + k] = str_equal(a[i], b[k]) ? at[(i + 1) * (m + 1) + k + 1] + 1
                                  : down >= right       ? down
                                                        : right;
        }
    return at;
}

static void walk(struct out *o, const struct str *a, size_t n, const struct str *b, size_t m)
{
    uint32_t *best = lengths(a, n, b, m);
    size_t i = 0, k = 0;
    while (i < n || k < m) {
        if (best && i < n && k < m && str_equal(a[i], b[k]))
            i++, k++;
        else if (i < n && (k == m || !best || best[(i + 1) * (m + 1) + k] >= best[i * (m + 1) + k + 1]))
            put(o, '-', a[i++]);
        else
            put(o, '+', b[k++]);
    }
    free(best);
}

bool diff_put(FILE *to, struct str before, struct str after, const struct diff_style *style)
{
    bool text = is_text(before) && is_text(after);
    if (str_equal(before, after))
        return false;
    struct units a = cut(before, text), b = cut(after, text);
    struct out o = {.to = to, .style = style};
    size_t head = 0, tail = 0;
    while (head < a.n && head < b.n && str_equal(a.at[head], b.at[head]))
        head++;
    while (tail < a.n - head && tail < b.n - head && str_equal(a.at[a.n - 1 - tail], b.at[b.n - 1 - tail]))
        tail++;
    walk(&o, a.at + head, a.n - head - tail, b.at + head, b.n - head - tail);
    if (o.left)
        fprintf(to, "%s... %u more lines; --diff shows them\n", style->indent, o.left);
    free(a.at);
    free(b.at);
    return true;
}
