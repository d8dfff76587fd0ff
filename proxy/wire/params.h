/* params.h - ESMTP parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531), RET ENVID NOTIFY ORCPT
 * (3461), REQUIRETLS (8689), MT-PRIORITY (6710), BY (2852), HOLDFOR HOLDUNTIL (4865). Pure. */
#ifndef WIRE_PARAMS_H
#define WIRE_PARAMS_H
#include "wire/extension.h"
#include "wire/syntax.h"

enum body_type { BODY_UNSAID, BODY_7BIT, BODY_8BITMIME, BODY_BINARYMIME };
struct params {
    struct str text;      /* as typed, or in the form of the RFCs; single SP between them; "" when none */
    uint64_t size;        /* SIZE=; 0: unsaid */
    enum body_type body;
    bool smtputf8;
    bool requiretls;
    struct str by, priority; /* BY= and MT-PRIORITY= as typed */
    struct str hold;         /* "HOLDFOR=..." or "HOLDUNTIL=..." */
    struct str ret, envid; /* RET=FULL|HDRS (upper case), ENVID= as typed (xtext); STR_NONE: unsaid */
    struct str auth;      /* AUTH= as typed (xtext or <>); STR_NONE: unsaid */
    struct str notify, orcpt; /* of RCPT, as typed */
};
/* Parses what stands behind the path. `can`: what the EHLO answer offered: a parameter of an extension that was not offered is 555.
 * Twice: 501. Values: 501 malformed, 504 BODY= value we do not know. Keywords in any case. *word: the keyword the reply speaks of,
 * in the arena. Returns 0 when fine, else the name of the reply (its %s is *word).
 *
 * LENIENT takes more, brought into the form of the RFCs: SIZE, BODY and SMTPUTF8 said again, and AUTH behind "AUTH=<>" (the last one counts); AUTH where it
 * is not offered (and forgets it); xtext with lower case digits, a raw "=" or raw UTF-8; ENVID of any length; stray commas in NOTIFY. */
int params_parse_mail(struct str, enum syntax, struct capabilities can, struct arena *, struct params *, struct str *word);
int params_parse_rcpt(struct str, enum syntax, struct capabilities can, struct arena *, struct params *, struct str *word);
/* " SIZE=1000 BODY=8BITMIME ..." to a backend: only what `can` has; size 0 is not said. */
void params_put_mail(const struct params *, struct capabilities can, uint64_t size, struct pipe *out);
void params_put_rcpt(const struct params *, struct capabilities can, struct pipe *out);
/* True when the backend lacks what this MAIL or RCPT needs (8BITMIME said, SMTPUTF8, DSN words). */
bool params_need_more(const struct params *, struct capabilities can);
#endif
