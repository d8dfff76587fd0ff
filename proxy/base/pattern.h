/* pattern.h - regular expressions by PCRE2, always with limits of matching steps, depth and heap, and with the JIT compiler where the
 * system allows it. Only pattern.c includes PCRE2. */
#ifndef BASE_PATTERN_H
#define BASE_PATTERN_H
#include "base/str.h"

struct pattern; /* immutable once compiled; may be matched by any thread */
enum { PATTERN_GROUPS = 32 };
/* Offsets into the subject; group 0 is the whole match. count: groups of the pattern, with group 0, at most PATTERN_GROUPS. */
struct pattern_match { size_t count; struct { size_t from, to; bool set; } group[PATTERN_GROUPS]; };
/* Compiles. NULL: `error` says what is wrong and at which offset; (*SKIP), (*COMMIT), and \G anywhere but at the beginning are errors
 * too. Patterns match octets, not UTF-8 characters, unless the pattern begins with (*UTF). */
struct pattern *pattern_open(struct str, char *error, size_t room);
void pattern_close(struct pattern *);
size_t pattern_octets(const struct pattern *); /* memory that it holds, JIT code included */
enum pattern_took { PATTERN_NO, PATTERN_YES, PATTERN_LIMIT }; /* LIMIT: matching was given up, so neither yes nor no */
/* Matches from the offset `from` on. Gives up (LIMIT) after one second of CPU time. */
enum pattern_took pattern_match(const struct pattern *, struct str subject, size_t from, struct pattern_match *);
/* The same with the caller's time limit in place of one second: stop() is called during a long match, and true ends it with LIMIT. */
enum pattern_took pattern_match_until(const struct pattern *, struct str subject, size_t from, struct pattern_match *,
                                      bool (*stop)(void));
int pattern_name(const struct pattern *, struct str name); /* group number of a named group, or -1 */
size_t pattern_names(const struct pattern *, const char **names, int *numbers, size_t most); /* the named groups; returns how many */
#endif
