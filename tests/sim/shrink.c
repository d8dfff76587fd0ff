/* shrink.c - fewer clients, fewer letters, fewer features, as long as the world still breaks in the same way.
 *
 * Whatever is left out changes the course of the dice, so a smaller world is looked for under its own seed first, then
 * under a hundred seeds that follow. Each try is a process of its own: a world may break by must() or a sanitizer, and
 * one that fell leaves its pieces behind. Two worlds break alike when the violation is of the same sentence, or both
 * crash. */
#include "shrink.h"
#include <inttypes.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS_TRIED = 100 };

static const char *const words[] = {
#define FEATURE(name, word, what, is) word,
#include "features.def"
#undef FEATURE
};

int feature_named(const char *word, size_t n)
{
    for (int i = 0; i < FEATURES; i++)
        if (strlen(words[i]) == n && !strncmp(words[i], word, n))
            return i;
    return -1;
}

const char *feature_word(enum feature f)
{
    return words[f];
}

struct finding { /* what a try writes to its pipe */
    uint64_t seed;
    char how[200], said[512]; /* how "": nothing was found */
};

static void try_seeds(const struct wishes *wish, unsigned seeds, const char *how, int to)
{
    unsigned long sessions = 0, acknowledged = 0;
    struct wishes w = *wish;
    for (unsigned i = 0; i < seeds; i++, w.seed++) {
        struct finding f = {.seed = w.seed, .how = "crash", .said = "it crashes"};
        if (write(to, &f, sizeof f) != (ssize_t)sizeof f) /* stands, if nothing else is said */
            _exit(1);
        bool good = world_run(&w, &sessions, &acknowledged);
        f.how[0] = 0;
        if (!good) {
            snprintf(f.how, sizeof f.how, "%s", sim_violated_how());
            snprintf(f.said, sizeof f.said, "%s", sim_violated());
        }
        if (write(to, &f, sizeof f) != (ssize_t)sizeof f)
            _exit(1);
        if (!good) /* what fell stays; another world needs another process */
            _exit(how && !strcmp(how, f.how) ? 0 : 2);
    }
    _exit(0);
}

/* One process plays until a world breaks; when that is not how it should, another goes on behind it. */
static bool find(const struct wishes *wish, const char *how, unsigned seeds, struct finding *found)
{
    struct wishes w = *wish;
    w.trace = false;
    while (seeds) {
        int ends[2];
        must(pipe(ends) == 0);
        fflush(stdout);
        pid_t child = fork();
        must(child >= 0);
        if (!child) {
            close(ends[0]);
            must(freopen("/dev/null", "w", stderr) != NULL);
            try_seeds(&w, seeds, how, ends[1]);
        }
        close(ends[1]);
        struct finding f = {.how = ""}, last = {.how = ""};
        while (read(ends[0], &f, sizeof f) == (ssize_t)sizeof f)
            last = f;
        close(ends[0]);
        waitpid(child, NULL, 0);
        if (last.how[0] && (!how || !strcmp(how, last.how))) {
            *found = last;
            return true;
        }
        if (!last.how[0])
            return false;
        seeds -= (unsigned)min_u64(seeds, last.seed - w.seed + 1);
        w.seed = last.seed + 1;
    }
    return false;
}

static void tell(const struct wishes *w)
{
    printf("sim%s --seed %" PRIu64, w->milter ? " --milter" : "", w->seed);
    if (w->clients)
        printf(" --clients %u", w->clients);
    if (w->letters)
        printf(" --letters %u", w->letters);
    const char *before = " --without ";
    for (unsigned i = 0; i < FEATURES; i++)
        if (!(sim_features >> i & 1)) {
            printf("%s%s", before, words[i]);
            before = ",";
        }
}

/* Takes the smaller world when it breaks like the one at hand. */
static bool take(struct wishes *at, const struct wishes *smaller, const char *how)
{
    struct finding f;
    if (!find(smaller, how, SEEDS_TRIED, &f))
        return false;
    *at = *smaller;
    at->seed = f.seed;
    tell(at);
    printf("\n  %s\n", f.said);
    fflush(stdout);
    return true;
}

int shrink(const struct wishes *wish)
{
    struct finding f;
    struct wishes at = *wish;
    if (!find(&at, NULL, 1, &f)) {
        printf("seed %" PRIu64 " breaks nothing\n", at.seed);
        return 1;
    }
    printf("%s\n", f.said);
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (unsigned n = 1; n < 4 && (!at.clients || n < at.clients) && !smaller; n++) {
            struct wishes fewer = at;
            fewer.clients = n;
            smaller = take(&at, &fewer, f.how);
        }
        for (unsigned n = 1; n < 3 && (!at.letters || n < at.letters) && !smaller; n++) {
            struct wishes fewer = at;
            fewer.letters = n;
            smaller = take(&at, &fewer, f.how);
        }
        for (unsigned i = 0; i < FEATURES; i++) {
            uint64_t features = sim_features;
            if (!(features >> i & 1))
                continue;
            sim_features &= ~(1ull << i);
            const struct wishes same = at;
            if (take(&at, &same, f.how))
                smaller = true;
            else
                sim_features = features;
        }
    }
    printf("smallest: ");
    tell(&at);
    printf(" --trace\n");
    return 0;
}
