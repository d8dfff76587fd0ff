/* table.h - what postmasters keep in files: addresses, networks, domains, each with a value; read anew when the file changes.
 *
 * File format (Postfix' text tables): "key  value" a line, '#' comments, a line that begins with WSP continues the one before.
 * Keys: IPv4/IPv6 address, CIDR ("192.0.2.0/24", "2001:db8::/32"), address "user@example.org", "@example.org" or
 * "example.org" (that domain), ".example.org" (its subdomains), "user@" (any domain), "*" (everything), or any word. "!CIDR" is not supported: clear
 * error with file:line. Lists are tables too: their elements are keys, value "OK".
 * Lookup of an IP: the longest prefix. Of an address: user+ext@domain, user@domain, @domain or domain, .parent domains
 * longest first, user@, "*". Of a domain or word: itself, .parents, "*". All but the value is case-insensitive.
 * A table is shared by all threads; lookups take a read lock and copy what they found. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H
#include "base/arena.h"

struct table;
/* NULL: error (with file:line) written. An absent file is an error. */
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
/* Reads the file again if it changed (mtime, size or inode). A broken new file is logged once and the old content stays. */
bool table_refresh(struct table *);

struct cidr { uint8_t octets[16]; uint8_t bits; bool v6; }; /* bits of 128 for v6, of 32 for v4 */
bool cidr_parse(struct str, struct cidr *, const char **why); /* "192.0.2.0/24", "192.0.2.1"; host bits set: refused */
bool cidr_has(const struct cidr *, struct str ip);
/* The network of an IP: v4bits of IPv4, v6bits of IPv6, "192.0.2.0/24". */
struct str cidr_network(struct str ip, unsigned v4bits, unsigned v6bits, struct arena *);
#endif
