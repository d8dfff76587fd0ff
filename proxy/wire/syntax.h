/* syntax.h - how strictly the commands of a client are parsed. */
#ifndef WIRE_SYNTAX_H
#define WIRE_SYNTAX_H

/* LENIENT: also accepts what Postfix accepts by default, if it is unambiguous, and corrects it to the form of RFC 5321 before filters and
 * the backend see it, so that both read the same. STRICT: accepts only the grammar of RFC 5321 and of the extensions. */
enum syntax { SYNTAX_LENIENT, SYNTAX_STRICT };
#endif
