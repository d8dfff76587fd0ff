/* tls.h - TLS contexts for servers and clients: certificates by SNI, verification, and the facts of a handshake (RFC 3207, 8314). */
#ifndef NET_TLS_H
#define NET_TLS_H
#include "base/arena.h"

struct tls; /* certificates and settings; reference-counted, shared by all threads. A handshake keeps those that it began with */

struct tls_certificate {
    const char *certificate; /* PEM file with the chain, or a directory with fullchain.pem and privkey.pem */
    const char *key;         /* PEM file; NULL: in the certificate's file, or the directory's */
};
/* Whether a client is asked for its certificate. OPTIONAL: the certificate becomes a fact for filters, valid or not. REQUIRED: the handshake
 * fails without a certificate that our authorities have signed. */
enum tls_client { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };
struct tls_settings {
    const struct tls_certificate *certificates; /* the first one is used without SNI and for unknown names */
    size_t ncertificates;
    const char *minimum;     /* "TLSv1.2" (default), "TLSv1.3" */
    const char *ciphers;     /* TLS 1.2 cipher list; NULL: OpenSSL's HIGH without aNULL, RC4, 3DES, with forward secrecy */
    bool prefer_server;
    enum tls_client client;  /* server side only */
    const char *ca_file;     /* authorities for verifying servers and client certificates; NULL: those of the system */
};
/* Both return a new reference, which the caller gives back with tls_drop. NULL: `error` says which file and why: unreadable, no certificate
 * in it, key does not match, ... */
struct tls *tls_server_open(const struct tls_settings *, char *error, size_t room);
enum tls_verify { TLS_OPPORTUNISTIC, TLS_VERIFIED }; /* VERIFIED: the chain and the server name are checked */
struct tls *tls_client_open(const struct tls_settings *, enum tls_verify, char *error, size_t room);
/* Rereads the files if they have changed, and have not changed since the previous call. UNFIT: `error` says why, once for each change, and
 * the old certificates stay in use. To be called by one thread at a time. */
enum tls_news { TLS_AS_IT_WAS, TLS_RENEWED, TLS_UNFIT };
enum tls_news tls_refresh(struct tls *, char *error, size_t room);
/* The earliest expiry of its certificates (seconds since 1970; 0: it has none); `file` names the file of that certificate. */
int64_t tls_expires(struct tls *, char *file, size_t room);
enum { TLS_EXPIRY_WARNING = 14 * 86400 }; /* seconds before the expiry of a certificate from which a warning is logged */
bool tls_expiry_is_due(struct tls *, char *file, size_t room); /* such a warning is due, once a day. Call it from the thread of tls_refresh */
bool tls_is_readable(const struct tls *, char *error, size_t room); /* whether the current user can read its files */
struct tls *tls_hold(struct tls *); /* adds a reference */
void tls_drop(struct tls *);        /* removes a reference; the last one frees */

struct tls_facts {
    const char *version, *cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    int bits;
    struct str sni, alpn;         /* "" if not used */
    struct str subject, issuer;   /* of the peer's certificate, RFC 2253 on one line; "" without one */
    struct str common_name;       /* the last CN of subject, UTF-8, not escaped; "" without one */
    struct str fingerprint;       /* its SHA-256, 64 lower-case hex digits; "" without one */
    int64_t expires;              /* its end, seconds since 1970; 0 without one */
    const char *doubt;            /* why the certificate is not verified; NULL if it is verified, or if there is none */
    bool verified, resumed;
};

/* The keys of session tickets belong to the process: they stay in use over reloads and changes of certificates. A new key is made every
 * eight hours, and the last two are still accepted. tls_tickets_pass returns a sealed memfd with the keys for the next process, or -1;
 * tls_tickets_take reads such a descriptor and closes it (false: not valid). */
int tls_tickets_pass(void);
bool tls_tickets_take(int fd);
#endif
