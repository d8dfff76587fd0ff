/* syntax.h - how much of RFC 5321's grammar a client may miss. Pure. */
#ifndef WIRE_SYNTAX_H
#define WIRE_SYNTAX_H

/* LENIENT: what Postfix takes by default too, as long as it can mean one thing only; it is brought into the form of RFC 5321 before
 * anybody sees it, so filters and the backend read the same. STRICT: what RFC 5321 and the extensions say, no more. */
enum syntax { SYNTAX_LENIENT, SYNTAX_STRICT };
#endif
