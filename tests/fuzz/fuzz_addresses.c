/* fuzz_addresses.c - addresses of a header field. Claims: each is UTF-8 without control characters, its domain in lower
 * case; there are no more of them than octets. */
#include "fuzz.h"
#include "wire/addresses.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n);
    struct arena arena = {0};
    struct addresses walk;
    struct mailbox m;
    size_t count = 0;
    addresses_start(&walk, s, &arena);
    for (; addresses_next(&walk, &m); count++) {
        must(count <= n && str_is_utf8(m.address) && !str_has_control(m.address));
        must(str_is_utf8(m.local) && str_is_utf8(m.domain) && m.name.len <= n);
        fuzz_same(arena_lower(&arena, m.domain), m.domain);
        must(m.address.len == m.local.len || m.address.len == m.local.len + 1 + m.domain.len);
    }
    must(!addresses_next(&walk, &m));
    arena_reset(&arena);
    return 0;
}
