/* libmilter.c - the five filters of the bench (subjects.py: FILTERS) as one milter in C with Sendmail's library, for comparison (milter.py):
 * tables of clients, senders and recipients, a count of messages by client, known domains, one field removed.
 * libmilter SOCKET */
#include <arpa/inet.h>
#include <libmilter/mfapi.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <time.h>

enum { BUCKETS = 1024, MOST = 100000000, WINDOW = 3600 };

struct client { char ip[INET6_ADDRSTRLEN]; int fields; };
struct tally { char ip[INET6_ADDRSTRLEN]; time_t since; long n; };

static struct tally tallies[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static sfsistat reject(SMFICTX *ctx, char *enhanced, char *text)
{
    smfi_setreply(ctx, "554", enhanced, text);
    return SMFIS_REJECT;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *from)
{
    (void)name;
    struct client *c = calloc(1, sizeof *c);
    if (!c)
        return SMFIS_TEMPFAIL;
    if (from && from->sa_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)from)->sin_addr, c->ip, sizeof c->ip);
    smfi_setpriv(ctx, c);
    return strcmp(c->ip, "192.0.2.66") ? SMFIS_CONTINUE : reject(ctx, "5.7.1", "Access denied");
}

/* Whether the path, in brackets or not, is that address. */
static int is(const char *path, const char *address)
{
    size_t n = strlen(address);
    path += *path == '<';
    return !strncasecmp(path, address, n) && (path[n] == '>' || !path[n]);
}

static int is_over(const char *ip)
{
    unsigned h = 5381;
    time_t now = time(NULL);
    for (const char *at = ip; *at; at++)
        h = h * 33 + (unsigned char)*at;
    pthread_mutex_lock(&lock);
    struct tally *t = &tallies[h % BUCKETS];
    if (strcmp(t->ip, ip) || now - t->since >= WINDOW) {
        snprintf(t->ip, sizeof t->ip, "%s", ip);
        t->since = now;
        t->n = 0;
    }
    int over = ++t->n > MOST;
    pthread_mutex_unlock(&lock);
    return over;
}

static sfsistat on_mail(SMFICTX *ctx, char **words)
{
    struct client *c = smfi_getpriv(ctx);
    c->fields = 0;
    if (is(words[0], "spam@example.com"))
        return reject(ctx, "5.7.1", "Access denied");
    if (!is_over(c->ip))
        return SMFIS_CONTINUE;
    smfi_setreply(ctx, "450", "4.7.1", "Too many messages");
    return SMFIS_TEMPFAIL;
}

static sfsistat on_rcpt(SMFICTX *ctx, char **words)
{
    const char *domain = strrchr(words[0], '@');
    if (is(words[0], "nobody@example.com"))
        return reject(ctx, "5.7.1", "Access denied");
    return domain && is(domain + 1, "example.net") ? SMFIS_CONTINUE : reject(ctx, "5.1.1", "No such user");
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    (void)value;
    struct client *c = smfi_getpriv(ctx);
    c->fields += !strcasecmp(name, "X-Originating-IP");
    return SMFIS_CONTINUE;
}

static sfsistat on_end(SMFICTX *ctx)
{
    struct client *c = smfi_getpriv(ctx);
    for (int i = c->fields; i > 0; i--)
        smfi_chgheader(ctx, "X-Originating-IP", i, NULL);
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *ctx)
{
    free(smfi_getpriv(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

/* As Sluice does: no answer where none is needed, no body. */
static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long a, unsigned long b,
                             unsigned long *wanted, unsigned long *without, unsigned long *c, unsigned long *d)
{
    (void)ctx, (void)actions, (void)a, (void)b;
    *wanted = SMFIF_CHGHDRS;
    *without = steps & (SMFIP_NOHELO | SMFIP_NODATA | SMFIP_NOUNKNOWN | SMFIP_NOEOH | SMFIP_NOBODY | SMFIP_NR_HDR);
    *c = *d = 0;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = {.xxfi_name = "bench",
                              .xxfi_version = SMFI_VERSION,
                              .xxfi_flags = SMFIF_CHGHDRS,
                              .xxfi_connect = on_connect,
                              .xxfi_envfrom = on_mail,
                              .xxfi_envrcpt = on_rcpt,
                              .xxfi_header = on_header,
                              .xxfi_eom = on_end,
                              .xxfi_close = on_close,
                              .xxfi_negotiate = on_negotiate};
    if (argc != 2 || smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(filter) == MI_FAILURE)
        return EX_USAGE;
    return smfi_main() == MI_SUCCESS ? EX_OK : EX_UNAVAILABLE;
}
