/* fuzz_zone.c - zones for `sluice try --dns`. An input is a name that is asked, a line end, and the file. Claims: read,
 * or a fault with a line of the file; each question ends, with a list that is not empty or with a failure; silence only
 * by a failure. */
#include "fuzz.h"
#include "try/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static const char *const types[] = {"a", "aaaa", "mx", "txt", "ptr", "cname", "srv", "ns", "soa", "tlsa"};
    struct str text = fuzz_input(octets, n), name = str_cut(&text, '\n');
    struct arena arena = {0};
    struct zone zone;
    uint32_t line, lines = 1;
    text = text.at ? text : STR("");
    for (size_t i = 0; i < text.len; i++)
        lines += text.at[i] == '\n';
    const char *fault = zone_read(&zone, text, &line);
    must(line >= 1 && line <= lines);
    for (size_t i = 0; i < countof(types) && !fault; i++) {
        struct filter_value value = {0};
        unsigned delay;
        enum failure error = zone.source.answer(&zone.source, types[i], name, &arena, &value, &delay);
        must((delay == DNS_NEVER) == (error == FAILURE_TIMEOUT));
        const struct filter_value *list = error ? NULL : value_get(&value, STR("list"));
        must(error || (list && list->count && value_get(&value, STR("ttl"))));
    }
    zone_free(&zone);
    arena_reset(&arena);
    return 0;
}
