/* tls.h - contexts for both sides: certificates by SNI, verification, what a handshake came to (RFC 3207, 8314). */
#ifndef NET_TLS_H
#define NET_TLS_H
#include "base/arena.h"

struct tls; /* what a handshake is made with: shared by all threads, counted; what has begun keeps what it began with */

struct tls_certificate {
    const char *certificate; /* PEM file with the chain, or a directory with fullchain.pem and privkey.pem */
    const char *key;         /* PEM file; NULL: in the certificate's file, or the directory's */
};
/* Whether a client is asked for its certificate. OPTIONAL: what it shows is a fact, judged by filters. REQUIRED: without one that
 * our authorities vouch for there is no handshake. */
enum tls_client { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };
struct tls_settings {
    const struct tls_certificate *certificates; /* first: the one for no SNI or unknown names */
    size_t ncertificates;
    const char *minimum;     /* "TLSv1.2" (default), "TLSv1.3" */
    const char *ciphers;     /* TLS 1.2 cipher list; NULL: OpenSSL's HIGH without aNULL, RC4, 3DES, with forward secrecy */
    bool prefer_server;
    enum tls_client client;  /* server side */
    const char *ca_file;     /* client side and client certificates; NULL: the system's */
};
/* NULL: *error (512 octets) says which file and why: unreadable, no certificate in it, key does not match, ... */
struct tls *tls_server_open(const struct tls_settings *, char *error, size_t room);
enum tls_verify { TLS_OPPORTUNISTIC, TLS_VERIFIED }; /* verified: chain and the name dialled */
struct tls *tls_client_open(const struct tls_settings *, enum tls_verify, char *error, size_t room);
/* Reads the files again if they have changed and been still for the time between two calls. UNFIT: *error says why, once for
 * each change, and what there was stays. From one thread at a time. */
enum tls_news { TLS_AS_IT_WAS, TLS_RENEWED, TLS_UNFIT };
enum tls_news tls_refresh(struct tls *, char *error, size_t room);
/* When the first of its certificates ends (seconds since 1970; 0: it has none), and that certificate's file. */
int64_t tls_expires(struct tls *, char *file, size_t room);
enum { TLS_EXPIRY_WARNING = 14 * 86400 }; /* seconds before its end from which a certificate is told of */
bool tls_expiry_is_due(struct tls *, char *file, size_t room); /* to be told of; once a day. From tls_refresh's thread */
bool tls_is_readable(const struct tls *, char *error, size_t room); /* its files are, by who we are now */
struct tls *tls_hold(struct tls *);
void tls_drop(struct tls *);

struct tls_facts {
    const char *version, *cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    int bits;
    struct str sni, alpn;         /* "" when unsaid */
    struct str subject, issuer;   /* of the peer's certificate, RFC 2253 on one line; "" without one */
    struct str common_name;       /* the last CN of subject, UTF-8, not escaped; "" without one */
    struct str fingerprint;       /* its SHA-256, 64 lower-case hex digits; "" without one */
    int64_t expires;              /* its end, seconds since 1970; 0 without one */
    const char *doubt;            /* why it is not verified; NULL when it is, or without one */
    bool verified, resumed;
};

/* The keys of session tickets are those of the process: they outlive configurations and certificates, and are replaced every
 * eight hours (the last two are still understood). `pass` gives a sealed memfd for the next process, or -1; `take` reads and
 * closes one. */
int tls_tickets_pass(void);
bool tls_tickets_take(int fd);
#endif
