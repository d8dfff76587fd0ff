/* fuzz_table.c - a postmaster's file. Claims: it is a table, or an error with a place; its entries have their keys and
 * the lines they stand on, and are found by lookups of what they are; any octets may be looked up. The file is memory:
 * no disk is touched. */
#include "fuzz.h"
#include "base/table.h"
#include <sys/mman.h>
#include <unistd.h>

static void look_up(struct table *t, struct str key)
{
    struct str found = STR_NONE;
    if (table_match(t, key, &found))
        must(found.at);
    table_match_ip(t, key, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static int file = -1;
    static char path[64];
    struct str input = fuzz_input(octets, n), rest = input;
    char error[512] = "";
    if (file < 0) {
        file = memfd_create("table", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    must(file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, input.at, input.len, 0) == (ssize_t)input.len);
    struct table *t = table_open(path, error, sizeof error);
    must(t || strncmp(error, path, strlen(path)) == 0);
    unsigned lines = 1;
    for (size_t i = 0; i < input.len; i++)
        lines += input.at[i] == '\n';
    if (t) {
        for (size_t i = 0; i < table_count(t) && i < 64; i++) {
            struct table_entry e;
            must(table_at(t, i, &e) && e.key.len && e.value.at && e.file && e.line && e.line <= lines);
            look_up(t, e.key);
            struct cidr net;
            const char *why;
            if (cidr_parse(e.key, &net, &why) && !memchr(e.key.at, '/', e.key.len))
                must(table_match_ip(t, e.key, NULL));
        }
        while (rest.at)
            look_up(t, str_cut(&rest, '\n'));
        table_close(t);
    }
    return 0;
}
