/* status.c - asks the workers, adds what main knows, writes it as a few aligned lines. */
#include "process/status.h"
#include <unistd.h>

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void say_uptime(FILE *to, int64_t started)
{
    long long up = (long long)(clock_ms() / 1000) - started;
    fprintf(to, "Sluice " SLUICE_VERSION ", process %ld, up %lldd %02lld:%02lld:%02lld\n", (long)getpid(), up / 86400,
            up / 3600 % 24, up / 60 % 60, up % 60);
}

static uint32_t sessions_at(const struct worker_status *s, uint32_t listen_id)
{
    for (size_t i = 0; i < s->nlisten_ids; i++)
        if (s->listen_ids[i].listen_id == listen_id)
            return s->listen_ids[i].sessions;
    return 0;
}

static void say_inlet(FILE *to, struct inlet inlet, const struct ports_plan *plan, const struct worker_status *s)
{
    const struct address *addresses;
    size_t naddresses = inlet_addresses(inlet, &addresses);
    unsigned n = 0;
    for (size_t i = 0; i < plan->nplaces; i++) {
        const struct port_place *place = &plan->places[i];
        if (inlet_conf(place->inlet) != inlet_conf(inlet))
            continue;
        struct str at = addresses[min_size(n, naddresses - 1)].text;
        uint32_t sessions = sessions_at(s, place->listen_id);
        n++;
        fprintf(to, "%s %-12.*s %-28s %s, %u %s%s\n", inlet.milter ? "milter  " : "listener", STR_ARGS(inlet_conf(inlet)->name),
                place->port ? place->port->key : at.at, place->port ? "open" : "drained until the next reload",
                sessions, inlet.milter ? "connection" : "session", plural(sessions));
    }
}

static void say_certificate(FILE *to, const struct listen_conf *l)
{
    char file[512];
    int64_t ends = l->tls ? tls_expires(l->tls, file, sizeof file) : 0, left = ends - (int64_t)time(NULL);
    if (ends && left > 0)
        fprintf(to, "certificate %-9.*s %s, %lld days left\n", STR_ARGS(l->visit.name), file, (long long)(left / 86400));
    else if (ends)
        fprintf(to, "certificate %-9.*s %s, EXPIRED\n", STR_ARGS(l->visit.name), file);
}

void status_say(FILE *to, int64_t started, const struct conf *conf, const struct ports_plan *plan,
                struct workers *workers)
{
    struct worker_status s;
    bool all = workers_status(workers, &s);
    say_uptime(to, started);
    fprintf(to, "configuration %.*s, generation %u\n", STR_ARGS(conf->smtp.mail.path), conf->smtp.generation);
    fprintf(to, "%u worker%s, %u session%s of %u%s\n", s.workers, plural(s.workers), s.sessions, plural(s.sessions),
            conf->smtp.limits.connections, s.paused ? "; accepting is paused for want of room" : "");
    if (!all)
        fprintf(to, "a worker does not answer: these numbers are without it\n");
    for (size_t i = 0; i < s.ngenerations; i++)
        fprintf(to, "generation %-10u %u session%s%s\n", s.generations[i].generation, s.generations[i].sessions,
                plural(s.generations[i].sessions), s.generations[i].generation == conf->smtp.generation ? "" : ", ending");
    for (size_t i = 0; i < conf->smtp.nlistens + conf->nmilters; i++)
        say_inlet(to, inlet_at(conf, i), plan, &s);
    for (size_t i = 0; i < conf->smtp.nlistens; i++)
        say_certificate(to, &conf->smtp.listens[i]);
    for (size_t i = 0; i < s.nservers; i++)
        fprintf(to, "server   %-12s %-28s %s, %u connection%s%s%s\n", s.servers[i].backend, s.servers[i].address,
                !s.servers[i].checked ? "not checked yet"
                : s.servers[i].up    ? "up"
                                     : "down",
                s.servers[i].connections, plural(s.servers[i].connections), *s.servers[i].why ? "; last failure: " : "",
                s.servers[i].why);
    for (size_t i = 0; i < s.nbackends; i++)
        fprintf(to, "backend  %-12s %u connection%s in use, %u idle\n", s.backends[i].name, s.backends[i].busy,
                plural(s.backends[i].busy), s.backends[i].idle);
}

void status_line(char *to, size_t room, const struct conf *conf)
{
    snprintf(to, room, "generation %u, %zu listener%s, %u worker%s", conf->smtp.generation, conf->smtp.nlistens + conf->nmilters,
             plural(conf->smtp.nlistens + conf->nmilters), conf->smtp.workers, plural(conf->smtp.workers));
}
