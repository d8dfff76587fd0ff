/* date.h - the date of a Date field (RFC 5322 3.3, obsolete forms of 4.3 too). Pure. */
#ifndef WIRE_DATE_H
#define WIRE_DATE_H
#include "base/str.h"

/* Seconds since 1970, UTC. The name of the day is optional and not believed, a month is known by its first three letters,
 * comments may stand anywhere, seconds may be missing and 60. Years of two digits: 00 to 49 are 20.., 50 to 99 are 19..;
 * of three: 1900 and more. Zones: +hhmm, UT UTC GMT Z, EST EDT CST CDT MST MDT PST PDT; others, military letters and none:
 * +0000. False: no date, or one that there is not. */
bool date_read(struct str unfolded, int64_t *seconds);
#endif
