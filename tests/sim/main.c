/* main.c - sim: plays seeds until so many sessions have been, or one that breaks a promise; says which.
 *
 *   sim [--seed N] [--sessions N] [--clients N] [--letters N] [--without WORD,...] [--trace] [--twice] [--shrink]
 * [--find N] [--milter]
 *       [--hash N] [--plant NAME]
 *   --clients, --letters: of each world, of each client, instead of by the dice.   --without: features.def switched off
 *   --milter: MTAs ask us as a milter, in the place of clients and backends.
 *   --twice: each seed must give the same trace again.      --shrink: looks for the smallest world that breaks alike
 *   --hash N: says the hash of the whole trace of each of N seeds, and one over all of them (trace_hash.sh)
 *   --find N: success is a violation within N seeds.        --plant: only in sim_planted: which bug (plant.c) */
#include "shrink.h"
#include "base/log.h"
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

bool plant_choose(const char *name) __attribute__((weak));

static uint64_t seed_played;

static void tell_seed(void)
{
    fprintf(stderr, "seed %" PRIu64 "\n", seed_played);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct orders {
    struct wishes wish;
    unsigned long sessions, find, hash;
    bool twice, shrink;
};

static bool switch_off(const char *words)
{
    while (*words) {
        size_t n = strcspn(words, ",");
        int feature = feature_named(words, n);
        if (feature < 0)
            return false;
        sim_features &= ~(1ull << feature);
        words += n + (words[n] == ',');
    }
    return true;
}

static bool orders_read(struct orders *o, int n, char **args)
{
    *o = (struct orders){.wish.seed = 1};
    for (int i = 1; i < n; i++) {
        const char *value = i + 1 < n ? args[i + 1] : "";
        unsigned long number = strtoul(value, NULL, 10);
        if (!strcmp(args[i], "--trace"))
            o->wish.trace = true;
        else if (!strcmp(args[i], "--milter"))
            o->wish.milter = true;
        else if (!strcmp(args[i], "--twice"))
            o->twice = true;
        else if (!strcmp(args[i], "--shrink"))
            o->shrink = true;
        else if (!strcmp(args[i], "--seed"))
            o->wish.seed = number, i++;
        else if (!strcmp(args[i], "--sessions"))
            o->sessions = number, i++;
        else if (!strcmp(args[i], "--clients"))
            o->wish.clients = (unsigned)number, i++;
        else if (!strcmp(args[i], "--letters"))
            o->wish.letters = (unsigned)number, i++;
        else if (!strcmp(args[i], "--find"))
            o->find = number, i++;
        else if (!strcmp(args[i], "--hash"))
            o->hash = number, i++;
        else if (!strcmp(args[i], "--without") && switch_off(value))
            i++;
        else if (!strcmp(args[i], "--plant") && plant_choose && plant_choose(value))
            i++;
        else
            return false;
    }
    return true;
}

static int play(const struct orders *o)
{
    unsigned long sessions = 0, acknowledged = 0, seeds = 0;
    double began = seconds();
    bool good = true;
    struct wishes wish = o->wish;
    for (; good && (o->find ? seeds < o->find : sessions < o->sessions || !seeds); wish.seed++) {
        seed_played = wish.seed;
        good = world_run(&wish, &sessions, &acknowledged);
        uint64_t hash = sim_hash();
        seeds++;
        if (good && o->twice && (!world_run(&wish, &sessions, &acknowledged) || sim_hash() != hash)) {
            printf("seed %" PRIu64 ": another trace the second time\n", wish.seed);
            return 1;
        }
    }
    double took = seconds() - began;
    if (!good)
        printf("seed %" PRIu64 ": %s\n", seed_played, sim_violated());
    printf("%lu seeds, %lu sessions, %lu messages acknowledged, %.1f s: %.0f sessions a second; last trace %016" PRIx64
           "\n",
           seeds, sessions, acknowledged, took, (double)sessions / took, sim_hash());
    fflush(stdout);
    bool well = o->find ? !good : good;
    if (!good)
        _exit(well ? 0 : 1); /* the world stands as it fell: that is no leak */
    return well ? 0 : 1;
}

/* One line a seed: what a change that should change no behaviour leaves as it is. */
static int hash(const struct orders *o)
{
    unsigned long sessions = 0, acknowledged = 0;
    uint64_t all = 0xcbf29ce484222325u;
    struct wishes wish = o->wish;
    for (unsigned long i = 0; i < o->hash; i++, wish.seed++) {
        seed_played = wish.seed;
        if (!world_run(&wish, &sessions, &acknowledged)) {
            printf("seed %" PRIu64 ": %s\n", wish.seed, sim_violated());
            fflush(stdout);
            _exit(1); /* the world stands as it fell: that is no leak */
        }
        printf("%" PRIu64 " %016" PRIx64 "\n", wish.seed, sim_hash());
        all = (all ^ sim_hash()) * 0x100000001b3u;
    }
    printf("all %016" PRIx64 "\n", all);
    return 0;
}

int main(int n, char **args)
{
    struct orders o;
    if (!orders_read(&o, n, args)) {
        fputs("sim [--milter] [--seed N] [--sessions N] [--clients N] [--letters N] [--without WORD,...] [--trace] [--twice] "
              "[--shrink]"
              " [--find N] [--hash N] [--plant NAME]\n",
              stderr);
        return 2;
    }
    must_transcript = tell_seed;
    log_set(&(struct log_settings){.level = LOG_DEBUG}, -1);
    return o.shrink ? shrink(&o.wish) : o.hash ? hash(&o) : play(&o);
}
