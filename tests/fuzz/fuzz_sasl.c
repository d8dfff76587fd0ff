/* fuzz_sasl.c - responses of SASL. Claims: a name is UTF-8 without control octets, 1 to 255 of them; only the first
 * response tells one; a name that can be one is found in the PLAIN response it was put into. */
#include "fuzz.h"
#include "wire/codec.h"
#include "wire/sasl.h"

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] < ' ' || s.at[i] == 127)
            return false;
    return s.len && s.len <= SASL_USER && str_is_utf8(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    static const char *const mechanisms[] = {"PLAIN",       "login",         "CRAM-MD5", "XOAUTH2",
                                             "OAUTHBEARER", "SCRAM-SHA-256", "GSSAPI"};
    struct str input = fuzz_input(octets, n);
    struct arena arena = {0};
    struct str mechanism = str_of(mechanisms[fuzz_octet(&input) % countof(mechanisms)]);
    struct str name = sasl_user(mechanism, 0, input, &arena);
    must(!name.at || is_name(name));
    must(!sasl_user(mechanism, 1, input, &arena).at);
    name = sasl_user(mechanism, 0, base64_encode(input, &arena), &arena);
    must(!name.at || is_name(name));
    sasl_mechanism_is_valid(input);
    struct str bytes;
    if (sasl_response_is_valid(input) && !str_equal(input, STR("=")))
        must(input.len % 4 == 0 && base64_decode(input, &arena, &bytes));
    if (is_name(input)) {
        char *plain = arena_space(&arena, input.len + 3);
        memcpy(plain + 1, input.at, input.len);
        plain[0] = plain[input.len + 1] = 0;
        plain[input.len + 2] = 'p';
        fuzz_same(sasl_user(STR("plain"), 0, base64_encode((struct str){plain, input.len + 3}, &arena), &arena), input);
    }
    arena_reset(&arena);
    return 0;
}
