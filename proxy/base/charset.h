/* charset.h - octets of a named charset as UTF-8, by the C library's iconv: all that it knows, no more.
 *
 * A thread keeps the last 16 descriptors, and the last unknown names too. Which charsets there are beyond UTF-8 is up
 * to the gconv modules of the system. */
#ifndef BASE_CHARSET_H
#define BASE_CHARSET_H
#include "base/arena.h"

enum { CHARSET_NAME_MOST = 40 };
/* False: no charset of this name is known (1 to 40 letters, digits and "-_.:+()"; any case). Some names are read as
 * what mail means by them: iso-8859-1 as windows-1252, gb2312 as gb18030, us-ascii as utf-8. Each octet that is no part
 * of a character gives U+FFFD, and conversion goes on behind it; utf-8 is handed back as it is, for the caller to
 * judge. */
bool charset_decode(struct str octets, struct str charset, struct arena *, struct str *utf8);
/* How many charsets this thread may open from now on beyond those it keeps; what comes then is as unknown. Opening one takes some 60
 * microseconds, and a header section has room for 14,000 words of different ones. Without this call: any number. */
enum { CHARSET_OPENS = 64 };
void charset_allow(unsigned opens);
#endif
