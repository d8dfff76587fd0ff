/* date.h - parses the value of a Date field (RFC 5322 3.3, with the obsolete forms of 4.3). Pure. */
#ifndef WIRE_DATE_H
#define WIRE_DATE_H
#include "base/str.h"

/* *seconds: since 1970, UTC. The day of the week is optional and ignored, a month is identified by its first three letters, comments are
 * allowed anywhere, seconds may be missing or 60. Years of two digits: 00 to 49 are 2000 to 2049, 50 to 99 are 1950 to 1999; of three
 * digits: 1900 is added. Zones: +hhmm, UT UTC GMT Z, EST EDT CST CDT MST MDT PST PDT; others, military letters and a missing zone are
 * +0000. False: malformed, or no date of the calendar. */
bool date_read(struct str unfolded, int64_t *seconds);
#endif
