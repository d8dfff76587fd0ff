/* fuzz_codec.c - base64. Claims: what is encoded decodes to the same, strictly and leniently; what is read strictly is
 * read leniently as the same. */
#include "fuzz.h"
#include "wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n), back, any;
    struct arena arena = {0};
    struct str text = base64_encode(s, &arena);
    must(text.len == (s.len + 2) / 3 * 4 && base64_decode(text, &arena, &back));
    fuzz_same(back, s);
    must(base64_decode_any(text, &arena, &any));
    fuzz_same(any, s);
    if (base64_decode(s, &arena, &back)) {
        struct str twice;
        must(back.len <= s.len / 4 * 3 + 2 && base64_decode(base64_encode(back, &arena), &arena, &twice));
        fuzz_same(twice, back);
        if (base64_decode_any(s, &arena, &any))
            fuzz_same(any, back);
    }
    arena_reset(&arena);
    return 0;
}
