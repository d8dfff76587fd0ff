/* main.c - sim: plays seeds until so many sessions have been, or one that breaks a promise; says which.
 *
 *   sim [--seed N] [--sessions N] [--clients N] [--trace] [--twice] [--find N] [--plant NAME]
 *   --clients: of each world, instead of 1 to 8 by the dice.   --twice: each seed must give the same trace again.
 *   --find N: success is a violation within N seeds.           --plant: only in sim_planted: which bug (plant.c) */
#include "world.h"
#include "base/log.h"
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

bool plant_choose(const char *name) __attribute__((weak));

static void tell_seed(void)
{
    fprintf(stderr, "seed %" PRIu64 "\n", world_seed);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct wishes {
    uint64_t seed;
    unsigned long sessions, find;
    unsigned clients;
    bool trace, twice;
};

static bool wishes_read(struct wishes *w, int n, char **args)
{
    *w = (struct wishes){.seed = 1, .sessions = 0};
    for (int i = 1; i < n; i++) {
        const char *value = i + 1 < n ? args[i + 1] : "";
        if (!strcmp(args[i], "--trace"))
            w->trace = true;
        else if (!strcmp(args[i], "--twice"))
            w->twice = true;
        else if (!strcmp(args[i], "--seed"))
            w->seed = strtoull(value, NULL, 10), i++;
        else if (!strcmp(args[i], "--sessions"))
            w->sessions = strtoul(value, NULL, 10), i++;
        else if (!strcmp(args[i], "--clients"))
            w->clients = (unsigned)strtoul(value, NULL, 10), i++;
        else if (!strcmp(args[i], "--find"))
            w->find = strtoul(value, NULL, 10), i++;
        else if (!strcmp(args[i], "--plant") && plant_choose && plant_choose(value))
            i++;
        else
            return false;
    }
    return true;
}

int main(int n, char **args)
{
    struct wishes w;
    if (!wishes_read(&w, n, args)) {
        fputs("sim [--seed N] [--sessions N] [--clients N] [--trace] [--twice] [--find N] [--plant NAME]\n", stderr);
        return 2;
    }
    must_transcript = tell_seed;
    log_set(&(struct log_settings){.level = LOG_DEBUG, .fd = -1});
    unsigned long sessions = 0, acknowledged = 0, seeds = 0;
    double began = seconds();
    bool good = true;
    for (uint64_t seed = w.seed; good && (w.find ? seeds < w.find : sessions < w.sessions || !seeds); seed++) {
        good = world_run(seed, w.clients, w.trace, &sessions, &acknowledged);
        uint64_t hash = sim_hash();
        seeds++;
        if (good && w.twice && (!world_run(seed, w.clients, false, &sessions, &acknowledged) || sim_hash() != hash)) {
            printf("seed %" PRIu64 ": another trace the second time\n", seed);
            return 1;
        }
    }
    double took = seconds() - began;
    if (!good)
        printf("seed %" PRIu64 ": %s\n", world_seed, sim_violated());
    printf("%lu seeds, %lu sessions, %lu messages acknowledged, %.1f s: %.0f sessions a second; last trace %016" PRIx64
           "\n",
           seeds, sessions, acknowledged, took, (double)sessions / took, sim_hash());
    fflush(stdout);
    bool well = w.find ? !good : good;
    if (!good)
        _exit(well ? 0 : 1); /* the world stands as it fell: that is no leak */
    return well ? 0 : 1;
}
