/* fuzz_words.c - encoded words. Claims: whatever is read is UTF-8 without control characters; text written is read as
 * the same text; no octet that is no UTF-8 stands under the label UTF-8; no word of ours is over 75 octets. */
#include "fuzz.h"
#include "base/charset.h"
#include "wire/codec.h"
#include "wire/words.h"

static void must_be_text(struct str s)
{
    must(str_is_utf8(s));
    for (size_t i = 0; i < s.len; i++)
        must((unsigned char)s.at[i] >= ' ' && s.at[i] != 127);
}

static void check_labels(struct str text, struct arena *arena)
{
    const struct str label = STR("=?UTF-8?B?");
    for (size_t at; (at = str_find(text, label)) < text.len;) {
        struct str octets;
        text = str_part(text, at + label.len, text.len);
        size_t end = str_find(text, STR("?="));
        must(end < text.len && label.len + end + 2 <= 75);
        must(base64_decode(str_part(text, 0, end), arena, &octets) && str_is_utf8(octets));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str s = fuzz_input(octets, n);
    struct arena arena = {0};
    struct words_beside alone = {0};
    struct str read = words_decode(s, charset_decode, &arena);
    must_be_text(read);
    must_be_text(words_clean(s, &arena));
    struct str text = words_encode(read, alone, charset_decode, &arena);
    must(str_is_ascii(text));
    fuzz_same(words_decode(text, charset_decode, &arena), read);
    if (str_find(read, STR("=?UTF-8?B?")) == read.len) /* else one that could not be read stays as it came */
        check_labels(text, &arena);
    if (str_find(s, STR("=?UTF-8?B?")) == s.len) {
        text = words_encode(s, alone, charset_decode, &arena);
        must(!str_has_control(text));
        check_labels(text, &arena);
        text = words_encode_addresses(s, charset_decode, &arena);
        must(!str_has_control(text));
        check_labels(text, &arena);
    }
    arena_reset(&arena);
    return 0;
}
