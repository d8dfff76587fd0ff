/* fuzz_dns.c - answers of name servers, as read by the resolver itself: its reader is private, so its file is included.
 * Claims: an answer is read or refused; what is read is a map of ttl, authentic and a list that is not empty. */
#include "fuzz.h"
#include "net/dns.c"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n);
    struct arena arena = {0};
    struct filter_value value = {0};
    int type = types[fuzz_octet(&input) % countof(types)].number;
    struct packet p = {(const unsigned char *)input.at, input.len};
    if (!read_answer(&p, type, &arena, &value)) {
        const struct filter_value *list = value_get(&value, STR("list"));
        must(value_get(&value, STR("ttl")) && value_get(&value, STR("authentic")));
        must(list && list->type == VALUE_LIST && list->count && list->count <= LIST_MOST);
    }
    arena_reset(&arena);
    return 0;
}
