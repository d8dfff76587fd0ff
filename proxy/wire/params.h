/* params.h - ESMTP parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531), RET ENVID NOTIFY ORCPT
 * (3461), REQUIRETLS (8689), MT-PRIORITY (6710), BY (2852), HOLDFOR HOLDUNTIL (4865). Pure. */
#ifndef WIRE_PARAMS_H
#define WIRE_PARAMS_H
#include "wire/extension.h"
#include "wire/syntax.h"

enum body_type { BODY_UNSAID, BODY_7BIT, BODY_8BITMIME, BODY_BINARYMIME };
struct params {
    struct str text;      /* all parameters as typed, or corrected (LENIENT), separated by one SP; "" if there are none */
    uint64_t size;        /* SIZE= in octets; 0: not given */
    enum body_type body;
    bool smtputf8;
    bool requiretls;
    /* Texts are in the arena; STR_NONE: not given. */
    struct str by, priority;  /* BY= and MT-PRIORITY= as typed */
    struct str hold;          /* "HOLDFOR=..." or "HOLDUNTIL=..." */
    struct str ret, envid;    /* RET=FULL|HDRS in upper case, ENVID= as typed (xtext) */
    struct str auth;          /* AUTH= as typed (xtext or <>) */
    struct str notify, orcpt; /* NOTIFY= and ORCPT= of RCPT, as typed */
};
/* Parses the text after the path. `can`: the extensions that our reply to EHLO offered; a parameter of another extension is 555. A
 * parameter given twice is 501, a malformed value 501, an unknown value of BODY= 504. Keywords are compared without case. Returns 0 on
 * success, else the name of the reply, for whose "%s" *word is the keyword, in the arena.
 *
 * LENIENT accepts more and corrects it to the form of the RFCs: SIZE, BODY and SMTPUTF8 given again, and AUTH after "AUTH=<>" (the last
 * one counts); AUTH= where AUTH was not offered (it is dropped); xtext with digits in lower case, a raw "=" or raw UTF-8; ENVID of any
 * length; surplus commas in NOTIFY. */
int params_parse_mail(struct str, enum syntax, struct capabilities can, struct arena *, struct params *, struct str *word);
int params_parse_rcpt(struct str, enum syntax, struct capabilities can, struct arena *, struct params *, struct str *word);
/* Appends " SIZE=1000 BODY=8BITMIME ..." for a backend: only parameters of extensions in `can`. size 0: no SIZE=. */
void params_put_mail(const struct params *, struct capabilities can, uint64_t size, struct pipe *out);
void params_put_rcpt(const struct params *, struct capabilities can, struct pipe *out);
/* True when `can`, of a backend, lacks an extension that these parameters need (8BITMIME, SMTPUTF8, DSN ...). */
bool params_need_more(const struct params *, struct capabilities can);
#endif
