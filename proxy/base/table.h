/* table.h - look-up tables: addresses, networks and domains, each with a value, from a file that is reread when it changes, or from a
 * list of the configuration.
 *
 * File format (Postfix' text tables): "key  value" a line, '#' comments, a line that begins with WSP continues the one before.
 * Keys: IPv4/IPv6 address, CIDR ("192.0.2.0/24", "2001:db8::/32"), address "user@example.org", "@example.org" or
 * "example.org" (that domain), ".example.org" (its subdomains), "user@" (any domain), "*" (everything), or any word. "!CIDR" is an error,
 * reported with file and line. A list is a table whose elements are the keys, each with the value "OK".
 * A domain with U-labels and the one with A-labels ("bücher.example", "xn--bcher-kva.example") are one key (base/idn.h).
 * Lookup of an IP: the longest prefix. Of an address: user+ext@domain, user@domain, @domain or domain, .parent domains
 * longest first, user@, "*". Of a domain or word: itself, .parents, "*". Keys are compared without case.
 * All spellings of an IPv6 address literal behind the "@" are one key; one of ::ffff:192.0.2.1 is [192.0.2.1].
 * A table is shared by all threads; a look-up takes a read lock and copies its result. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H
#include "base/arena.h"
#include "base/cidr.h"

struct table;
/* NULL: `error` has the mistakes with file:line, one a line, 20 at most, as far as there is room. A missing file is an error. */
struct table *table_open(const char *path, char *error, size_t room);
struct table *table_of(const struct str *keys, const struct str *values, size_t n, char *error, size_t room); /* values may be NULL: "OK" */
/* True: keys *one and *other (indices) are the same key to a table although they are written differently, such as "A.example" and
 * "a.example", or "192.0.2.1" and "192.0.2.1/32", so that one of their values would be lost. */
bool table_twins(const struct str *keys, size_t n, size_t *one, size_t *other);
void table_close(struct table *);
size_t table_count(struct table *);
/* Entry i of 0 .. count - 1, words first, then networks: for a check of the whole table at load. False: no such entry. The texts are
 * copied as those of table_match are. */
struct table_entry { struct str key, value; const char *file; unsigned line; }; /* file NULL: it is a list */
bool table_at(struct table *, size_t i, struct table_entry *);
/* True: the key is in the table; *found, if not NULL, is its value, valid until the 16th next look-up of this thread and cut after
 * 1 KiB. */
bool table_match(struct table *, struct str key, struct str *found);
bool table_match_ip(struct table *, struct str ip, struct str *found); /* "192.0.2.1", "2001:db8::1" */
/* Rereads the file if it has changed (mtime, size or inode); to be called once a second. A file that was renamed into place is read at
 * once. A file that is written in place is read when it has not changed for a second, is not empty and ends with a line end; until then
 * the old content stays in use, and the log says so once. The same holds while the file has mistakes. True: there is new content. */
bool table_refresh(struct table *);
/* For a table `t` of a new configuration whose file was still being written (in the sense of table_refresh) when it was opened: takes the
 * content of `old`, a table of the same file. True: it has taken it. */
bool table_take_over(struct table *t, struct table *old);
const char *table_path(const struct table *); /* NULL: a list */
#endif
