/* fuzz_authres.c - Authentication-Results. Claims: a quoted string or a comment put in behind the id changes no result;
 * methods and results are in lower case; the walk ends. */
#include "fuzz.h"
#include "wire/authres.h"

static struct str told(struct str value, struct arena *arena)
{
    struct authres walk;
    struct authres_result r;
    struct authres_property p;
    struct str id, out = STR("");
    if (!authres_start(&walk, value, arena, &id))
        return out;
    for (size_t n = 0; authres_next(&walk, &r); n++) {
        must(n <= value.len && r.method.len && r.result.len);
        fuzz_same(arena_lower(arena, r.method), r.method);
        struct str pieces[] = {out, r.method, STR("="), r.result, STR(";")};
        out = arena_join(arena, countof(pieces), pieces);
        for (size_t k = 0; authres_property(&r, arena, &p); k++)
            must(k <= value.len);
    }
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n);
    struct arena arena = {0};
    told(s, &arena);
    struct str plain[] = {STR("mx;"), s}, hidden[] = {STR("mx (; x=y \") ; a=b c=\"; (d=e\" ;"), s};
    struct str one = told(arena_join(&arena, 2, plain), &arena), other = told(arena_join(&arena, 2, hidden), &arena);
    struct str pieces[] = {STR("a=b;"), one};
    fuzz_same(other, arena_join(&arena, 2, pieces));
    arena_reset(&arena);
    return 0;
}
