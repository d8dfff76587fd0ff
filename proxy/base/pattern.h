/* pattern.h - PCRE2 with match, depth and heap limits always on; JIT where the machine allows it. The only file that knows PCRE2 is pattern.c. */
#ifndef BASE_PATTERN_H
#define BASE_PATTERN_H
#include "base/str.h"

struct pattern; /* immutable once compiled; may be matched by any thread */
enum { PATTERN_GROUPS = 32 };
struct pattern_match { size_t count; struct { size_t from, to; bool set; } group[PATTERN_GROUPS]; }; /* group 0: the whole */
/* NULL: error says what and at which offset; (*SKIP), (*COMMIT) and \G elsewhere than in front are mistakes too.
 * Octets, not UTF, unless the pattern begins with (*UTF). */
struct pattern *pattern_open(struct str, char *error, size_t room);
void pattern_close(struct pattern *);
size_t pattern_octets(const struct pattern *); /* that it holds, with the code of the JIT */
enum pattern_took { PATTERN_NO, PATTERN_YES, PATTERN_LIMIT }; /* LIMIT: gave up: neither yes nor no */
enum pattern_took pattern_match(const struct pattern *, struct str subject, size_t from, struct pattern_match *);
/* For long matches stop() is asked now and then; true: LIMIT. Without it a match that takes a second is given up. */
enum pattern_took pattern_match_until(const struct pattern *, struct str subject, size_t from, struct pattern_match *,
                                      bool (*stop)(void));
int pattern_name(const struct pattern *, struct str name); /* group number of a named group, or -1 */
size_t pattern_names(const struct pattern *, const char **names, int *numbers, size_t most); /* all named groups */
#endif
