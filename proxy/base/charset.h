/* charset.h - converts octets of a named charset to UTF-8 with the C library's iconv.
 *
 * Each thread caches 16 iconv descriptors, and the names that iconv refused. Which charsets are known beyond UTF-8 depends on the
 * gconv modules that are installed. */
#ifndef BASE_CHARSET_H
#define BASE_CHARSET_H
#include "base/arena.h"

enum { CHARSET_NAME_MOST = 40 };
/* Converts to UTF-8; *utf8 stands in the arena, or is a view of `octets`. False: no charset of this name is known (a name is 1 to 40
 * letters, digits and "-_.:+()", in any case). Some names are taken for the charset that mail programs really use under them:
 * iso-8859-1 is windows-1252, gb2312 is gb18030, us-ascii is utf-8. Each octet that is not part of a character becomes U+FFFD, and
 * conversion continues after it. Octets labelled utf-8 are returned unchanged and unchecked: the caller validates them. */
bool charset_decode(struct str octets, struct str charset, struct arena *, struct str *utf8);
/* Limits how many iconv descriptors this thread may open from now on, cached ones not counted; after that an uncached charset is
 * reported as unknown. Opening a descriptor takes about 60 microseconds, and one header section can name 14,000 different charsets.
 * Without a call of this function there is no limit. */
enum { CHARSET_OPENS = 64 };
void charset_allow(unsigned opens);
#endif
