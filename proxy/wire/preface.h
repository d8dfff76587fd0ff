/* preface.h - the header of the PROXY protocol, versions 1 and 2, which a load balancer sends before the first octet of SMTP (HAProxy,
 * doc/proxy-protocol.txt, 2020/03/05). Pure.
 *
 * It is read only from addresses that the configuration trusts, because its sender can claim any client address. */
#ifndef WIRE_PREFACE_H
#define WIRE_PREFACE_H
#include "base/pipe.h"

enum { PREFACE_V1_MOST = 107, PREFACE_MOST = 4096 }; /* octets: of a v1 line with its CRLF; of a v2 header, all TLVs included */

/* The source and the destination of the connection. Texts are in the arena (after parsing) or the caller's (when written). */
struct preface {
    bool local;                /* v2 LOCAL, v1 UNKNOWN, v2 AF_UNSPEC: no client is named, the connection is the peer's own */
    struct str source, target; /* "192.0.2.1", "2001:db8::1"; "" when local or a unix socket */
    uint16_t source_port, target_port;
    bool tls;                  /* the client used TLS towards the sender of this header (PP2_CLIENT_SSL) */
    bool verified;             /* and presented a certificate that was verified */
    struct str tls_version, tls_cipher, tls_subject; /* from TLVs; tls_subject: CN of the client's certificate. "": not given */
    struct str authority;      /* the server name that the client asked for (PP2_TYPE_AUTHORITY, SNI); "": not given */
};
/* Takes one header off `in`, and no octet after it. MORE: it is incomplete. BAD: there is no header, or it is malformed or too long. */
enum preface_took { PREFACE_MORE, PREFACE_TAKEN, PREFACE_BAD };
enum preface_took preface_take(struct pipe *in, struct arena *, struct preface *);
/* Append a header to `out`. Both addresses must be of one family, or `target` must be "", which is written as the unspecified address; in
 * any other case the header is UNKNOWN (v1) or LOCAL (v2). v2 has TLVs for the members about TLS and the authority. */
void preface_put_v1(const struct preface *, struct pipe *out);
void preface_put_v2(const struct preface *, struct pipe *out);
#endif
