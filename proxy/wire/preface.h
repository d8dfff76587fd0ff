/* preface.h - what stands before the first octet of SMTP: the header of the PROXY protocol, versions 1 and 2, as HAProxy's
 * doc/proxy-protocol.txt (2020/03/05) has it. Pure.
 *
 * It is read only from addresses that the configuration trusts: whoever may send it may claim to be anybody. */
#ifndef WIRE_PREFACE_H
#define WIRE_PREFACE_H
#include "base/pipe.h"

enum { PREFACE_V1_MOST = 107, PREFACE_MOST = 4096 }; /* octets: of a v1 line with its CRLF; of a v2 header, all TLVs included */

/* Whom the connection is from, and where it was to. Texts are the arena's (parsed) or the caller's (written). */
struct preface {
    bool local;                /* v2 LOCAL, v1 UNKNOWN, v2 AF_UNSPEC: nothing is claimed, the peer speaks for itself */
    struct str source, target; /* "192.0.2.1", "2001:db8::1"; "" when local or of a unix socket */
    uint16_t source_port, target_port;
    bool tls;                  /* the client spoke TLS to whoever sent this (PP2_CLIENT_SSL) */
    bool verified;             /* and showed a certificate that was found good */
    struct str tls_version, tls_cipher, tls_subject; /* of the TLVs; subject: the CN of its certificate. "" when unsaid */
    struct str authority;      /* the name it asked for (PP2_TYPE_AUTHORITY, SNI); "" when unsaid */
};
/* Takes one header off `in`, exactly its octets. BAD: this begins no header, or one that is malformed or too long. */
enum preface_took { PREFACE_MORE, PREFACE_TAKEN, PREFACE_BAD };
enum preface_took preface_take(struct pipe *in, struct arena *, struct preface *);
/* Writes one. Both addresses must be of one family, or `target` "" (it is told as the unspecified one then); anything else is
 * told as local: UNKNOWN, LOCAL. v2 carries the TLVs of what is said of TLS and authority. */
void preface_put_v1(const struct preface *, struct pipe *out);
void preface_put_v2(const struct preface *, struct pipe *out);
#endif
