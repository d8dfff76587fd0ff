/* fuzz_conf.c - the configuration. Claims: any file gives a model or complaints, never both and never neither; every
 * complaint is a line of text and has its place: a file, and a line that is in it. The file is memory; what it names
 * may be looked for on the disk. */
#include "fuzz.h"
#include "conf/conf.h"
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static int file = -1;
    static char path[64];
    struct str input = fuzz_input(octets, n);
    struct arena arena = {0};
    struct complaints heard = {.arena = &arena};
    if (file < 0) {
        file = memfd_create("conf", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    must(file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, input.at, input.len, 0) == (ssize_t)input.len);
    unsigned lines = 1, errors = 0, warnings = 0;
    for (size_t i = 0; i < input.len; i++)
        lines += input.at[i] == '\n' || input.at[i] == '\r'; /* Lua counts either */
    struct conf *conf = conf_load(path, &heard);
    must(!conf == (heard.errors > 0));
    for (const struct complaint *c = heard.first; c; c = c->next) {
        *(c->warning ? &warnings : &errors) += 1;
        must(c->file.len && c->text.len && c->line <= lines);
    }
    must(errors == heard.errors && warnings == heard.warnings);
    if (conf)
        conf_drop(conf);
    arena_reset(&arena);
    return 0;
}
