/* environment.c - checks of /proc, file permissions and the user of the process (environment.h). */
#include "process/environment.h"
#include "process/holder.h"
#include "process/ports.h"
#include "process/privileges.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files ---- */

static bool can_read(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void check_server(const struct conf *conf, struct complaints *c, struct str file, unsigned line, const char *what, const char *path)
{
    if (!can_read(path))
        complain(c, true, file, line, "user \"%.*s\" cannot read it again: %s%s%s: %s", STR_ARGS(conf->user), what, *what ? " " : "", path,
                 strerror(errno));
}

void environment_files(const struct conf *conf, struct complaints *c)
{
    char error[512];
    check_server(conf, c, conf->smtp.mail.path, 0, "", conf->smtp.mail.path.at);
    for (size_t i = 0; i < conf->smtp.nlistens; i++) {
        const struct listen_conf *l = &conf->smtp.listens[i];
        if (l->tls && !tls_is_readable(l->tls, error, sizeof error))
            complain(c, true, l->file, l->line, "listen \"%.*s\": user \"%.*s\" cannot read it again: %s", STR_ARGS(l->visit.name),
                     STR_ARGS(conf->user), error);
    }
    for (size_t i = 0; i < conf->smtp.nbackends; i++) {
        const struct backend_conf *b = &conf->smtp.backends[i];
        if (b->tls && !tls_is_readable(b->tls, error, sizeof error))
            complain(c, true, conf->smtp.mail.path, 0, "backend \"%.*s\": user \"%.*s\" cannot read it again: %s", STR_ARGS(b->hop.name),
                     STR_ARGS(conf->user), error);
    }
    for (size_t i = 0; i < conf->smtp.mail.nfilters; i++) {
        const struct filter *f = conf->smtp.mail.filters[i];
        if (memchr(f->source.at, '/', f->source.len))
            check_server(conf, c, f->file, f->line, "script", f->source.at);
    }
    for (size_t i = 0; i < conf->smtp.mail.ntables; i++)
        if (table_path(conf->smtp.mail.tables[i]))
            check_server(conf, c, conf->smtp.mail.path, 0, "table", table_path(conf->smtp.mail.tables[i]));
}

/* Runs the check in a child process, which changes to that user permanently; it reports by lines "LINE FILE\tTEXT". */
static void look_as_user(const struct conf *conf, int to)
{
    struct arena arena = {0};
    struct complaints c = {.arena = &arena};
    if (!privileges_drop(conf->user))
        return;
    environment_files(conf, &c);
    for (const struct complaint *one = c.first; one; one = one->next)
        dprintf(to, "%u %.*s\t%.*s\n", one->line, STR_ARGS(one->file), STR_ARGS(one->text));
}

static void take_lines(int from, struct complaints *c)
{
    char *line = NULL;
    size_t room = 0;
    FILE *f = fdopen(from, "r");
    must(f);
    for (ssize_t n; (n = getline(&line, &room, f)) > 0;) {
        char *text = strchr(line, '\t'), *file;
        unsigned number = (unsigned)strtoul(line, &file, 10);
        line[n - 1] = 0;
        if (!text)
            continue;
        *text++ = 0;
        complain(c, true, arena_str(c->arena, str_of(file + 1)), number, "%s", text);
    }
    free(line);
    fclose(f);
}

static void files_as_user(const struct conf *conf, struct complaints *c)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0)
        return;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        look_as_user(conf, pair[1]);
        _exit(0);
    }
    close(pair[1]);
    take_lines(pair[0], c);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* ---- ports ---- */

static bool is_sluice(const struct holder *h)
{
    char own[64] = "";
    FILE *f = fopen("/proc/self/comm", "re");
    if (f && fgets(own, sizeof own, f))
        own[strcspn(own, "\n")] = 0;
    if (f)
        fclose(f);
    return h->pid && strcmp(own, h->name) == 0;
}

/* True: the process there is a Sluice, probably the one that runs with this configuration, so there is no complaint. */
static void ports(const struct conf *conf, struct complaints *c)
{
    struct holder holder;
    char text[128];
    const struct address *addresses;
    for (size_t i = 0; i < conf->smtp.nlistens + conf->nmilters; i++) {
        struct inlet inlet = inlet_at(conf, i);
        for (size_t k = 0; k < inlet_addresses(inlet, &addresses); k++) {
            if (!holder_find(&addresses[k], NULL, 0, &holder) || is_sluice(&holder))
                continue;
            holder_text(&holder, text, sizeof text);
            complain(c, !holder.pid, inlet.milter ? inlet.milter->file : inlet.listen->file, inlet.milter ? inlet.milter->line : inlet.listen->line,
                     "%s \"%.*s\": %.*s: %s listens there%s", inlet_kind(inlet), STR_ARGS(inlet_conf(inlet)->name), STR_ARGS(addresses[k].text), text,
                     holder.pid ? " already" : "; if that is not Sluice, it will not start");
        }
    }
}

void environment_root(const struct conf *conf, struct complaints *c)
{
    if (geteuid() == 0 && !conf->user.len)
        complain(c, true, conf->smtp.mail.path, 0, "it runs as root, filters and scripts too: name a user, or start it as one, as the unit of systemd does");
}

static void groups(const struct conf *conf, struct complaints *c)
{
    unsigned group;
    for (size_t i = 0; i < conf->nmilters; i++)
        if (!inlet_group(&conf->milters[i], &group))
            complain(c, false, conf->milters[i].file, conf->milters[i].line, "milter \"%.*s\": there is no group \"%.*s\" on this machine",
                     STR_ARGS(conf->milters[i].visit.name), STR_ARGS(conf->milters[i].group));
}

void environment_check(const struct conf *conf, struct complaints *c)
{
    ports(conf, c);
    groups(conf, c);
    environment_root(conf, c);
    if (geteuid() == 0 && conf->user.len)
        files_as_user(conf, c);
}
