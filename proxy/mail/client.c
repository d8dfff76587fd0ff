/* client.c - a client's texts: what is set again and again has memory of its own, so that a long connection does not grow. */
#include "mail/client.h"

void client_start(struct client *c)
{
    *c = (struct client){.helo = text_none, .user = text_none, .method = text_none, .ident = text_none, .rdns.ptr = text_none};
    c->ip = str_of(c->ip_text);
    c->local_ip = str_of(c->local_text);
}

void client_end(struct client *c)
{
    rdns_stop(&c->rdns);
    text_set(&c->rdns.ptr, STR_NONE);
    text_set(&c->helo, STR_NONE);
    text_set(&c->user, STR_NONE);
    text_set(&c->method, STR_NONE);
    text_set(&c->ident, STR_NONE);
}

static struct str put(char text[CLIENT_IP_ROOM], struct str ip)
{
    size_t n = min_size(ip.len, CLIENT_IP_ROOM - 1);
    memcpy(text, n ? ip.at : "", n);
    text[n] = 0;
    return (struct str){text, n};
}

void client_set_ip(struct client *c, struct str ip, uint16_t port)
{
    c->ip = put(c->ip_text, ip);
    c->port = port;
}

void client_set_local(struct client *c, struct str ip, uint16_t port)
{
    c->local_ip = put(c->local_text, ip);
    c->local_port = port;
}

void client_login(struct client *c, struct str user, struct str method)
{
    text_set(&c->user, user);
    text_set(&c->method, method);
    c->authenticated = true;
}

void client_logout(struct client *c)
{
    text_set(&c->user, STR_NONE);
    text_set(&c->method, STR_NONE);
    c->authenticated = false;
}

void client_cover(struct client *cover, const struct client *seen)
{
    client_set_ip(cover, STR(""), 0);
    client_set_local(cover, seen->local_ip, seen->local_port);
    text_set(&cover->helo, STR_NONE);
    rdns_set(&cover->rdns, RDNS_FAIL, STR(""));
    text_set(&cover->ident, STR_NONE);
    cover->protocol = PROTOCOL_OF_VISIT;
    cover->local = false;
    cover->over_unix = seen->over_unix;
    cover->secure = seen->secure;
    cover->tls = seen->tls;
    if (seen->authenticated)
        client_login(cover, str_of(seen->user), str_of(seen->method));
    else
        client_logout(cover);
}
