/* sasl.c - reads the user name from the responses of mechanisms that send it in clear. Decoded responses are overwritten with zeros after
 * use, because a PLAIN response also contains the password. */
#include "wire/sasl.h"
#include "wire/codec.h"
#include <strings.h>

bool sasl_mechanism_is_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!char_is_alnum(s.at[i]) && s.at[i] != '-' && s.at[i] != '_')
            return false;
    return s.len >= 1 && s.len <= 20;
}

bool sasl_response_is_valid(struct str s)
{
    size_t n = s.len;
    if (str_equal(s, STR("=")))
        return true;
    while (n && s.len - n < 2 && s.at[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        if (!char_is_alnum(s.at[i]) && s.at[i] != '+' && s.at[i] != '/')
            return false;
    return s.len % 4 == 0;
}

/* PLAIN: [authzid] NUL authcid NUL passwd. */
static struct str of_plain(struct str text)
{
    str_cut(&text, 0);
    return text.at ? str_cut(&text, 0) : STR_NONE;
}

/* The value of `key` in fields separated by `by`: "n=" in "n,a=admin,n=ann,r=..." (SCRAM), "user=" (XOAUTH2). */
static struct str of_field(struct str text, char by, struct str key)
{
    while (text.at) {
        struct str field = str_cut(&text, by);
        if (str_starts(field, key))
            return str_part(field, key.len, field.len);
    }
    return STR_NONE;
}

/* saslname of RFC 5802 5.1: "=2C" is a comma, "=3D" an equals sign. */
static struct str unescaped(struct str name, struct arena *arena)
{
    char *to = arena_space(arena, name.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < name.len; i++) {
        struct str rest = str_part(name, i, i + 3);
        bool comma = str_equal_nocase(rest, STR("=2C")), equals = str_equal_nocase(rest, STR("=3D"));
        to[n++] = comma ? ',' : name.at[i];
        i += comma || equals ? 2 : 0;
    }
    to[n] = 0;
    return (struct str){to, n};
}

/* CRAM-MD5 (RFC 2195): name SP digest. */
static struct str of_cram(struct str text)
{
    size_t n = text.len;
    while (n && text.at[n - 1] != ' ')
        n--;
    return n ? str_part(text, 0, n - 1) : STR_NONE;
}

static struct str name_in(struct str mechanism, struct str text, struct arena *arena)
{
    if (str_equal_nocase(mechanism, STR("PLAIN")))
        return of_plain(text);
    if (str_equal_nocase(mechanism, STR("LOGIN")))
        return text;
    if (str_equal_nocase(mechanism, STR("CRAM-MD5")))
        return of_cram(text);
    if (str_equal_nocase(mechanism, STR("XOAUTH2")))
        return of_field(text, '\001', STR("user="));
    if (str_equal_nocase(mechanism, STR("OAUTHBEARER")))
        return unescaped(of_field(text, ',', STR("a=")), arena);
    if (str_starts_nocase(mechanism, STR("SCRAM-")))
        return unescaped(of_field(text, ',', STR("n=")), arena);
    return STR_NONE;
}

struct str sasl_user(struct str mechanism, unsigned turn, struct str response, struct arena *arena)
{
    struct str text, name = STR_NONE;
    struct arena scratch = {0};
    if (turn || !base64_decode(response, &scratch, &text)) {
        arena_reset(&scratch);
        return STR_NONE;
    }
    struct str found = name_in(mechanism, text, &scratch);
    if (found.len > 0 && found.len <= SASL_USER && str_is_utf8(found) && !str_has_control(found))
        name = arena_str(arena, found);
    if (text.len)
        explicit_bzero((char *)text.at, text.len);
    arena_reset(&scratch);
    return name;
}
