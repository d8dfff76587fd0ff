/* ports.c - finds the socket for an address among those that are open or inherited, else binds one.
 *
 * Owns every listening socket of the process. It never accepts: workers do, on duplicates. */
#include "process/ports.h"
#include "net/stream.h"
#include "process/holder.h"
#include "process/privileges.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SUPERVISED_FIRST = 3, INHERITED_MOST = 4096 }; /* sd_listen_fds(3) */

/* ---- one port ---- */

static struct address name_of(int fd, struct arena *arena)
{
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
        return (struct address){0};
    return address_of((struct sockaddr *)&name, len, arena);
}

/* The key of an address is the kernel's text for it, the same for all spellings. Port 0 stays 0. */
static struct str key_of(const struct address *a, struct arena *arena)
{
    return address_of((const struct sockaddr *)&a->name, a->len, arena).text;
}

static struct port *port_add(struct ports *ports, struct str key, bool local, bool ours)
{
    struct port *p = must_alloc(sizeof *p), **end = &ports->first;
    *p = (struct port){.listen_id = ++ports->last_listen_id, .local = local, .ours = ours};
    p->key = must_alloc(key.len + 1);
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a key is never empty */
    memcpy(p->key, key.at, key.len);
    while (*end)
        end = &(*end)->next;
    *end = p;
    return p;
}

static void port_take(struct port *p, int fd)
{
    struct stat st;
    p->fds = must_grow(p->fds, (p->nfds + 1) * sizeof *p->fds);
    p->fds[p->nfds++] = fd;
    if (p->local && stat(strchr(p->key, '/') ? strchr(p->key, '/') : p->key, &st) == 0) {
        p->device = st.st_dev;
        p->file = st.st_ino;
    }
}

static void port_unlink(const struct ports *ports, const struct port *p)
{
    const char *path = strchr(p->key, '/');
    struct stat st;
    if (ports->lent && p->was)
        return;
    if (p->local && p->ours && path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == p->device &&
        st.st_ino == p->file)
        unlink(path);
}

static void port_close(struct ports *ports, struct port *p, bool keep_path)
{
    struct port **at = &ports->first;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (!keep_path) /* before the workers close their duplicates: no new connections come, and queued ones are accepted */
        port_unlink(ports, p);
    for (unsigned i = 0; i < p->nfds; i++)
        close(p->fds[i]);
    free(p->fds);
    free(p->key);
    free(p);
}

/* ---- inherited sockets ---- */

static bool is_listening(int fd)
{
    int on = 0, type = 0;
    socklen_t len = sizeof on;
    return fcntl(fd, F_GETFD) >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static void inherit(struct ports *ports, int fd, uint32_t was, bool ours, struct str key)
{
    struct arena arena = {0};
    struct address name = name_of(fd, &arena);
    struct port *p = ports->first;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (!key.len)
        key = name.text;
    while (p && !(p->was == was && str_equal(str_of(p->key), key)))
        p = p->next;
    if (!p)
        p = port_add(ports, key, name.name.ss_family == AF_UNIX, ours);
    p->was = was;
    port_take(p, fd);
    arena_reset(&arena);
}

/* Lines "FD NUMBER ours|theirs ADDRESS". */
static void inherit_list(struct ports *ports, const char *at)
{
    while (*at) {
        size_t len = strcspn(at, "\n");
        int fd = -1, key = 0;
        unsigned listen_id = 0;
        char whose[8] = "";
        if (sscanf(at, "%d %u %7s %n", &fd, &listen_id, whose, &key) == 3 && key && (size_t)key < len && fd > 2 && listen_id &&
            is_listening(fd))
            inherit(ports, fd, listen_id, strcmp(whose, "ours") == 0, (struct str){at + key, len - (size_t)key});
        at += len;
        at += *at == '\n';
    }
}

static void inherit_supervised(struct ports *ports)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    if (!pid || !n || strtol(pid, NULL, 10) != (long)getpid())
        return;
    int count = (int)min_u64(strtoul(n, NULL, 10), INHERITED_MOST);
    for (int fd = SUPERVISED_FIRST; fd < SUPERVISED_FIRST + count; fd++)
        if (is_listening(fd))
            inherit(ports, fd, 0, false, STR_NONE);
        else
            log_say(LOG_WARNING, "descriptor %d of LISTEN_FDS is no listening stream socket", fd);
}

void ports_inherit(struct ports *ports)
{
    const char *list = getenv("SLUICE_PORTS");
    if (list)
        inherit_list(ports, list);
    inherit_supervised(ports);
    unsetenv("SLUICE_PORTS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

char *ports_list(const struct ports *ports)
{
    char *list = NULL;
    size_t len;
    FILE *to = open_memstream(&list, &len);
    must(to);
    for (const struct port *p = ports->first; p; p = p->next)
        for (unsigned i = 0; i < p->nfds; i++)
            fprintf(to, "%d %u %s %s\n", p->fds[i], p->listen_id, p->ours ? "ours" : "theirs", p->key);
    fclose(to);
    return list;
}

/* ---- a plan ---- */

static void set_port(struct address *a, uint16_t port)
{
    a->port = port;
    if (a->name.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a->name)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&a->name)->sin_port = htons(port);
}

bool inlet_group(const struct milter_conf *m, unsigned *group)
{
    const struct group *g = m->group.at ? getgrnam(m->group.at) : NULL;
    *group = g ? g->gr_gid : (unsigned)-1;
    return g || !m->group.at;
}

struct inlet inlet_at(const struct conf *conf, size_t i)
{
    if (i < conf->smtp.nlistens)
        return (struct inlet){.listen = &conf->smtp.listens[i]};
    i -= conf->smtp.nlistens;
    return (struct inlet){.milter = i < conf->nmilters ? &conf->milters[i] : NULL};
}

struct inlet inlet_named(const struct conf *conf, struct str name)
{
    struct inlet inlet;
    for (size_t i = 0; inlet = inlet_at(conf, i), inlet.listen || inlet.milter; i++)
        if (str_equal(inlet_conf(inlet)->name, name))
            break;
    return inlet;
}

/* On a machine without IPv6, "[::]:25" from ":25" is left out, and 0.0.0.0 is enough. */
static bool is_dispensable(const struct address *a, size_t left)
{
    const struct address *b = a + 1;
    return left > 1 && a->name.ss_family == AF_INET6 && b->name.ss_family == AF_INET &&
           a->port == b->port && IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->name)->sin6_addr) &&
           ((const struct sockaddr_in *)&b->name)->sin_addr.s_addr == INADDR_ANY &&
           (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL);
}

/* True: another process listens there. Sockets that we have open or have inherited do not count. */
static bool is_held(const struct ports *ports, const struct address *a, char *error, size_t room)
{
    int *ours = NULL;
    size_t n = 0;
    struct holder holder;
    char text[128];
    for (const struct port *p = ports->first; p; p = p->next) {
        ours = must_grow(ours, (n + p->nfds + 1) * sizeof *ours);
        for (unsigned i = 0; i < p->nfds; i++)
            ours[n++] = p->fds[i];
    }
    bool held = holder_find(a, ours, n, &holder);
    free(ours);
    if (held) {
        holder_text(&holder, text, sizeof text);
        snprintf(error, room, "%.*s: %s listens there already", STR_ARGS(a->text), text);
    }
    return held;
}

/* One socket per worker, so that workers do not share an accept queue. If fewer were inherited, more are bound with SO_REUSEPORT; where the
 * kernel refuses that (another user or a supervisor has bound the first), workers share the sockets that exist. */
static bool port_bind(struct port *p, struct address a, unsigned workers, unsigned user, char *error, size_t room)
{
    struct arena arena = {0};
    unsigned wanted = p->local ? 1 : workers, had = p->nfds;
    if (had && !a.port && !p->local)
        set_port(&a, name_of(p->fds[0], &arena).port);
    while (p->nfds < wanted && (p->ours || !p->nfds)) {
        bool stands_in = p->local && privileges_stand_in(user, strchr(p->key, '/') ? strchr(p->key, '/') : p->key);
        int fd = listener_bind(&a, !p->local, error, room);
        privileges_back(stands_in);
        if (fd < 0)
            break;
        port_take(p, fd);
        if (!p->local && !a.port) /* port 0: the port that the kernel chose is used for all workers */
            set_port(&a, name_of(fd, &arena).port);
    }
    arena_reset(&arena);
    return p->nfds == wanted || had;
}

static bool is_planned(const struct ports_plan *plan, const struct port *p)
{
    for (size_t i = 0; i < plan->nplaces; i++)
        if (plan->places[i].port == p)
            return true;
    return false;
}

/* Applies `mode` and `group` of a milter to its unix socket. */
static bool guard_socket(const struct port *p, const struct milter_conf *m, char *error, size_t room)
{
    const char *path = strchr(p->key, '/');
    if (!m || !p->local || !p->ours || p->open || !path)
        return true;
    unsigned group;
    if (!inlet_group(m, &group)) {
        snprintf(error, room, "there is no group \"%.*s\" on this machine", STR_ARGS(m->group));
        return false;
    }
    if (chmod(path, m->mode) == 0 && chown(path, (uid_t)-1, group) == 0)
        return true;
    snprintf(error, room, "%s: mode or group cannot be set: %s", p->key, strerror(errno));
    return false;
}

static bool plan_one(struct ports *ports, struct inlet inlet, size_t i, unsigned workers, struct ports_plan *plan, struct complaints *complaints)
{
    const struct address *addresses;
    size_t n = inlet_addresses(inlet, &addresses);
    const struct address *a = addresses + i;
    struct arena arena = {0};
    struct str key = key_of(a, &arena), name = inlet_conf(inlet)->name;
    bool local = a->name.ss_family == AF_UNIX, fresh = false;
    struct port *p = ports->first;
    char error[512] = "";
    while (p && (is_planned(plan, p) || !str_equal(str_of(p->key), key)))
        p = p->next;
    if (!p) {
        p = port_add(ports, key, local, true);
        fresh = true;
    }
    arena_reset(&arena);
    errno = 0;
    bool held = !p->open && !p->nfds && !local && is_held(ports, a, error, sizeof error);
    if (held || (!p->open && !port_bind(p, *a, workers, ports->user, error, sizeof error)) || !guard_socket(p, inlet.milter, error, sizeof error)) {
        bool spare = !held && fresh && !p->nfds && is_dispensable(a, n - i);
        port_close(ports, p, false);
        if (spare)
            log_say(LOG_WARNING, "%s \"%.*s\": %s; IPv4 only", inlet_kind(inlet), STR_ARGS(name), error);
        else
            complain(complaints, false, inlet.milter ? inlet.milter->file : inlet.listen->file, inlet.milter ? inlet.milter->line : inlet.listen->line,
                     "%s \"%.*s\": %s", inlet_kind(inlet), STR_ARGS(name), error);
        return spare;
    }
    plan->places[plan->nplaces++] = (struct port_place){.inlet = inlet, .port = p, .listen_id = p->listen_id};
    return true;
}

void ports_forgo(struct ports *ports, struct ports_plan *plan)
{
    for (struct port *p = ports->first, *next; p; p = next) {
        next = p->next;
        if (!p->open)
            port_close(ports, p, false);
    }
    plan_clear(plan);
}

bool ports_plan(struct ports *ports, const struct conf *conf, unsigned workers, struct ports_plan *plan,
                struct complaints *complaints)
{
    size_t n = 0;
    bool good = true;
    struct inlet inlet;
    const struct address *unused;
    for (size_t i = 0; inlet = inlet_at(conf, i), inlet.listen || inlet.milter; i++)
        n += inlet_addresses(inlet, &unused);
    *plan = (struct ports_plan){.places = must_alloc(max_size(n, 1) * sizeof *plan->places)};
    for (size_t i = 0; inlet = inlet_at(conf, i), (inlet.listen || inlet.milter) && good; i++)
        for (size_t k = 0; k < inlet_addresses(inlet, &unused) && good; k++)
            good = plan_one(ports, inlet, k, workers, plan, complaints);
    if (!good)
        ports_forgo(ports, plan);
    return good;
}

void ports_keep(struct ports *ports, const struct ports_plan *plan)
{
    for (struct port *p = ports->first, *next; p; p = next) {
        next = p->next;
        if (is_planned(plan, p))
            continue;
        if (p->open)
            log_say(LOG_INFO, "no longer at %s", p->key);
        else
            log_say(LOG_WARNING, "no listener is at %s, which was left open for us", p->key);
        port_close(ports, p, false);
    }
}

void ports_opened(struct ports *ports, const struct ports_plan *plan)
{
    struct arena arena = {0};
    for (size_t i = 0; i < plan->nplaces; i++) {
        struct port *p = plan->places[i].port;
        if (!p->open)
            log_say(LOG_INFO, "%s \"%.*s\" at %.*s", inlet_kind(plan->places[i].inlet), STR_ARGS(inlet_conf(plan->places[i].inlet)->name),
                    STR_ARGS(name_of(p->fds[0], &arena).text));
        p->open = true;
    }
    arena_reset(&arena);
}

void ports_close(struct ports *ports, const struct visit_conf *of, const struct ports_plan *plan)
{
    for (size_t i = 0; i < plan->nplaces; i++) {
        struct port_place *place = &plan->places[i];
        if (place->port && (!of || inlet_conf(place->inlet) == of)) {
            port_close(ports, place->port, false);
            place->port = NULL;
        }
    }
}

void ports_release(struct ports *ports)
{
    while (ports->first)
        port_close(ports, ports->first, true);
}

void plan_clear(struct ports_plan *plan)
{
    free(plan->places);
    *plan = (struct ports_plan){0};
}
