/* words.h - the small grammars of the command line of `sluice try`. Each returns false where the word is malformed. */
#ifndef TRY_WORDS_H
#define TRY_WORDS_H
#include "try/trial.h"

/* "192.0.2.1", "192.0.2.1:4711", "2001:db8::1", "[2001:db8::1]:4711"; *port stays as it is when none is given. *ip is in its one spelling (wire/ip.h). */
bool words_client(struct str, struct arena *, struct str *ip, uint16_t *port);
/* "USER" or "USER:METHOD" (at the last colon); the method is PLAIN unless it is said. */
bool words_auth(struct str, struct arena *, struct str *user, struct str *method);
bool words_tls(struct str, struct arena *, struct str *version); /* "1.3", "TLSv1.3", "v1.2"; "TLSv1.3" comes back */
/* "STAGE=TEXT", mail, rcpt or message; TEXT begins with the code. */
bool words_reply(struct str, struct arena *, struct try_who *);
bool words_fact(struct str, struct arena *, struct try_who *);   /* "NAME=VALUE": facts that a client decides: TLS, the address it came to, EHLO or HELO */
bool words_time(struct str, int64_t *microseconds);              /* RFC 3339 in UTC or with a zone, or seconds since 1970 */
bool words_expect(struct str);                                   /* "reject", "5xx", "451" */
bool words_is_expected(struct str, const struct trial *);        /* the trial's outcome is the expected one; the word has passed words_expect */
struct str words_address(struct str, struct arena *);            /* without < and > around it */
/* `filter "NAME" { ... }` of options "K=V": V as it is where `is_value` says so, else as a text. NONE: an option without a name. */
struct str words_filter(struct arena *, struct str name, size_t n, const char *const *options, bool (*is_value)(const char *));
#endif
