/* replay.c - a main for machines without libFuzzer: gives each file of the folders (or files) named to the target,
 * once. */
#include <dirent.h>
#include <sys/stat.h>
#include "fuzz.h"

enum { INPUT_MOST = 1 << 20 };

static unsigned replay(const char *path)
{
    struct stat st;
    char inner[4096];
    unsigned n = 0;
    if (stat(path, &st) != 0) {
        perror(path);
        exit(2);
    }
    if (S_ISDIR(st.st_mode)) {
        DIR *folder = opendir(path);
        must(folder != NULL);
        for (struct dirent *e; (e = readdir(folder));)
            if (e->d_name[0] != '.') {
                snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
                n += replay(inner);
            }
        closedir(folder);
        return n;
    }
    FILE *f = fopen(path, "re");
    must(f && st.st_size <= INPUT_MOST);
    uint8_t *octets = malloc((size_t)st.st_size + !st.st_size); /* of its very size, so that a read beyond is seen */
    must(octets && fread(octets, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
    fclose(f);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(octets, (size_t)st.st_size);
    free(octets);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    for (int i = 1; i < argc; i++)
        n += replay(argv[i]);
    printf("%u inputs replayed\n", n);
    return n ? 0 : 1; /* an empty corpus proves nothing */
}
