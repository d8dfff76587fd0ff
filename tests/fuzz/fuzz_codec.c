/* fuzz_codec.c - base64 and encoded words. Claims: what is encoded decodes to the same; encoded words of UTF-8 are
 * plain ASCII of at most 75 octets a word; of any header text, the runs that encoded words gave are all that changed.
 */
#include "fuzz.h"
#include "wire/codec.h"

static void check_words(struct str s, struct arena *arena)
{
    struct str text = words_encode(s, arena), rest = text;
    fuzz_same(words_decode(text, arena), s);
    for (size_t i = 0; i < text.len; i++)
        must((text.at[i] >= ' ' && text.at[i] < 127) || text.at[i] == '\t');
    if (text.at == s.at)
        return;
    for (struct str word = str_word(&rest); word.at; word = str_word(&rest))
        must(word.len <= 75 && str_starts(word, STR("=?UTF-8?B?")));
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n), back;
    struct arena arena = {0};
    struct str text = base64_encode(s, &arena);
    must(text.len == (s.len + 2) / 3 * 4 && base64_decode(text, &arena, &back));
    fuzz_same(back, s);
    if (base64_decode(s, &arena, &back)) {
        struct str twice;
        must(back.len <= s.len / 4 * 3 + 2 && base64_decode(base64_encode(back, &arena), &arena, &twice));
        fuzz_same(twice, back);
    }
    struct str read = words_decode(s, &arena);
    must(read.len <= s.len * 3);
    if (str_is_utf8(s)) {
        must(str_is_utf8(read));
        check_words(s, &arena);
    } else {
        words_encode(s, &arena);
    }
    arena_reset(&arena);
    return 0;
}
