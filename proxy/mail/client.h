/* client.h - who sends: the client as filters, the log and the next hop know it. The connection, a PROXY header, XCLIENT
 * and AUTH fill it; for one message XFORWARD puts another client in its place (visit.client is switched). */
#ifndef MAIL_CLIENT_H
#define MAIL_CLIENT_H
#include "mail/rdns.h"
#include "net/tls.h"

enum client_secure {
    CLIENT_CLEAR,
    CLIENT_TLS,
    CLIENT_VOUCHED, /* the proxy before us says that the client speaks TLS to it */
};
enum { CLIENT_IP_ROOM = 46 };
struct client {
    struct str ip, local_ip; /* views of the texts below; "": a unix socket, or not known */
    char ip_text[CLIENT_IP_ROOM], local_text[CLIENT_IP_ROOM];
    uint16_t port, local_port;
    char *helo;              /* the name of its EHLO or HELO; text_set; "": none has been said */
    char *user, *method;     /* text_set; both "" until AUTH succeeds; user "" behind it: the mechanism tells no name */
    bool authenticated;
    bool over_unix;          /* the connection came through a unix socket */
    enum client_secure secure;
    struct tls_facts tls;    /* its texts live as long as the connection */
    struct rdns rdns;
    enum { PROTOCOL_OF_VISIT, PROTOCOL_SMTP, PROTOCOL_ESMTP } protocol; /* as XFORWARD says; OF_VISIT: the one of the dialogue, visit.esmtp */
    char *ident;             /* text_set; the id that came with XFORWARD; "": none */
    bool local;              /* XFORWARD SOURCE=LOCAL: the mail began on the machine that forwards it */
};
void client_start(struct client *); /* nothing is known yet; client_end frees what comes to be known */
void client_end(struct client *);
/* Copies of the address as text, cut to CLIENT_IP_ROOM - 1 octets. */
void client_set_ip(struct client *, struct str ip, uint16_t port);
void client_set_local(struct client *, struct str ip, uint16_t port);
void client_login(struct client *, struct str user, struct str method); /* has authenticated */
void client_logout(struct client *);
/* Makes `cover`, a started client, one that stands in the place of `seen`: it has seen's connection, TLS and login, and no address, name
 * or HELO. */
void client_cover(struct client *cover, const struct client *seen);
#endif
