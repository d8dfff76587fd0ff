/* table.h - what postmasters keep in files: addresses, networks, domains, each with a value; read anew when the file changes.
 *
 * File format (Postfix' text tables): "key  value" a line, '#' comments, a line that begins with WSP continues the one before.
 * Keys: IPv4/IPv6 address, CIDR ("192.0.2.0/24", "2001:db8::/32"), address "user@example.org", "@example.org" or
 * "example.org" (that domain), ".example.org" (its subdomains), "user@" (any domain), "*" (everything), or any word. "!CIDR" is not supported: clear
 * error with file:line. Lists are tables too: their elements are keys, value "OK".
 * A domain with U-labels and the one with A-labels ("bücher.example", "xn--bcher-kva.example") are one key (base/idn.h).
 * Lookup of an IP: the longest prefix. Of an address: user+ext@domain, user@domain, @domain or domain, .parent domains
 * longest first, user@, "*". Of a domain or word: itself, .parents, "*". All but the value is case-insensitive.
 * An IPv6 address literal behind the "@" is one key in all its spellings; one of ::ffff:192.0.2.1 is [192.0.2.1].
 * A table is shared by all threads; lookups take a read lock and copy what they found. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H
#include "base/arena.h"
#include "base/cidr.h"

struct table;
/* NULL: error (with file:line) written, all mistakes as far as there is room, one a line, 20 at most. An absent file is an error. */
struct table *table_open(const char *path, char *error, size_t room);
struct table *table_of(const struct str *keys, const struct str *values, size_t n, char *error, size_t room); /* values may be NULL: "OK" */
/* Two keys that are one to a table although they are written differently: "A.example" and "a.example", "192.0.2.1" and
 * "192.0.2.1/32". One of two values would then be lost. */
bool table_twins(const struct str *keys, size_t n, size_t *one, size_t *other);
void table_close(struct table *);
size_t table_count(struct table *);
/* Entry i of 0 .. count - 1, for whoever checks a table when it is loaded: words first, then networks. Copied as answers are. */
struct table_entry { struct str key, value; const char *file; unsigned line; }; /* file NULL: it is a list */
bool table_at(struct table *, size_t i, struct table_entry *);
/* found: copied into thread memory that holds the last 16 answers (at most 1 KiB each). NULL found: only whether. */
bool table_match(struct table *, struct str key, struct str *found);
bool table_match_ip(struct table *, struct str ip, struct str *found); /* "192.0.2.1", "2001:db8::1" */
/* Reads the file again if it changed (mtime, size or inode); called once a second. One that was renamed into place is taken at once. One that is
 * written in place is taken when it has been still for a second, is not empty, and its last line has an end: until then the old content
 * stays, and the log says so once. So it does when the file is broken. True: there is new content. */
bool table_refresh(struct table *);
/* Before `t` of a new configuration is used: where its file was unfinished in that sense, it goes on with the content of `old`, which is of the
 * same file. True: it does. */
bool table_take_over(struct table *t, struct table *old);
const char *table_path(const struct table *); /* NULL: a list */
#endif
