/* names.c - see names.h. */
#include "base/names.h"

/* Edit distance where a swap of neighbours counts once ("lisetn"), or `most` + 1 when it is more. */
static size_t distance(struct str a, struct str b, size_t most)
{
    enum { LONGEST = 48 };
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    if (a.len > LONGEST || b.len > LONGEST || (a.len > b.len ? a.len - b.len : b.len - a.len) > most)
        return most + 1;
    for (size_t j = 0; j <= b.len; j++)
        last[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool same = char_lower(a.at[i - 1]) == char_lower(b.at[j - 1]);
            now[j] = min_size(min_size(last[j], now[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && char_lower(a.at[i - 1]) == char_lower(b.at[j - 2]) &&
                char_lower(a.at[i - 2]) == char_lower(b.at[j - 1]))
                now[j] = min_size(now[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b.len];
}

struct str nearest_name(struct str word, const char *const *names, size_t n)
{
    struct str best = STR_NONE;
    size_t most = max_size(2, word.len / 3), least = most + 1;
    for (size_t i = 0; i < n; i++) {
        struct str name = str_of(names[i]);
        size_t d = distance(word, name, most);
        if (d < least && d < word.len) { /* not if every letter would have to be replaced */
            least = d;
            best = name;
        }
    }
    return best;
}
