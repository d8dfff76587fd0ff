/* fuzz_date.c - dates. Claims: what is read lies between the years 1900 and 9999, and a comment in front of it changes
 * nothing. */
#include "fuzz.h"
#include "base/arena.h"
#include "wire/date.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n);
    struct arena arena = {0};
    int64_t seconds, again;
    if (date_read(s, &seconds)) {
        must(seconds > INT64_C(-2208988800) - 400000 && seconds < INT64_C(253402300800) + 400000);
        struct str pieces[] = {STR("(x) "), s};
        must(date_read(arena_join(&arena, 2, pieces), &again) && again == seconds);
    }
    arena_reset(&arena);
    return 0;
}
