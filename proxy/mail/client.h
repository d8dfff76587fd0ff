/* client.h - who sends: the client as filters, the log and the next hop know it. Filled by whoever knows: the connection, a PROXY
 * header, XCLIENT, AUTH; for one message XFORWARD puts another one in its place (a pointer that is switched). */
#ifndef MAIL_CLIENT_H
#define MAIL_CLIENT_H
#include "mail/rdns.h"
#include "net/tls.h"

enum client_secure {
    CLIENT_CLEAR,
    CLIENT_TLS,
    CLIENT_VOUCHED, /* it speaks TLS to the proxy before us, which says so */
};
enum { CLIENT_IP_ROOM = 46 };
struct client {
    struct str ip, local_ip; /* views of the texts below; "": a unix socket, or not known */
    char ip_text[CLIENT_IP_ROOM], local_text[CLIENT_IP_ROOM];
    uint16_t port, local_port;
    char *helo;              /* text_set; "": it has said none */
    char *user, *method;     /* text_set; user "": the mechanism tells none */
    bool authenticated;
    bool over_unix;          /* the connection came through a unix socket */
    enum client_secure secure;
    struct tls_facts tls;    /* its texts live as long as the connection */
    struct rdns rdns;
    enum { PROTOCOL_OF_VISIT, PROTOCOL_SMTP, PROTOCOL_ESMTP } protocol; /* what XFORWARD says that it speaks; OF_VISIT: as the dialogue */
    char *ident;             /* text_set; the id that came with XFORWARD; "": none */
    bool local;              /* by XFORWARD: its mail began on the machine that forwards it */
};
void client_start(struct client *);
void client_end(struct client *);
void client_set_ip(struct client *, struct str ip, uint16_t port);
void client_set_local(struct client *, struct str ip, uint16_t port);
void client_login(struct client *, struct str user, struct str method); /* has authenticated */
void client_logout(struct client *);
/* Another one in the place of `seen`: its connection, TLS and login, but no address, name or HELO. `cover` is a started client. */
void client_cover(struct client *cover, const struct client *seen);
#endif
