/* words.c - words of the command line read; pure but for the arena. */
#include "try/words.h"
#include "wire/ip.h"
#include <arpa/inet.h>
#include <time.h>

bool words_client(struct str text, struct arena *arena, struct str *ip, uint16_t *port)
{
    struct str rest = text, host = text;
    unsigned char octets[16];
    uint64_t n = *port;
    if (text.len && text.at[0] == '[') {
        rest = str_part(text, 1, text.len);
        host = str_cut(&rest, ']');
        if (!rest.at || (rest.len && rest.at[0] != ':'))
            return false;
        rest = rest.len ? str_part(rest, 1, rest.len) : STR_NONE;
    } else if (str_find(text, STR(".")) < text.len) {
        host = str_cut(&rest, ':');
        if (host.len && memchr(text.at, ':', text.len) && str_find(host, STR(".")) == host.len)
            return false; /* ::ffff:192.0.2.1 stands in brackets when a port follows; alone it is below */
    } else {
        rest = STR_NONE;
    }
    if (rest.at && (!str_number(rest, &n) || !n || n > 65535))
        return false;
    char *name = arena_space(arena, host.len + 1);
    memcpy(name, host.at, host.len);
    name[host.len] = 0;
    int family = inet_pton(AF_INET, name, octets) == 1 ? AF_INET : AF_INET6;
    if (family == AF_INET6 && inet_pton(AF_INET6, name, octets) != 1)
        return false;
    *ip = ip_text(family, (const char *)octets, arena);
    *port = (uint16_t)n;
    return true;
}

bool words_auth(struct str text, struct arena *arena, struct str *user, struct str *method)
{
    size_t colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':')
        colon--;
    *user = arena_str(arena, colon ? str_part(text, 0, colon - 1) : text);
    *method = colon ? arena_str(arena, str_part(text, colon, text.len)) : STR("PLAIN");
    return method->len && !str_has_control(text);
}

bool words_tls(struct str text, struct arena *arena, struct str *version)
{
    static const char *const versions[] = {"1.0", "1.1", "1.2", "1.3"};
    if (str_starts_nocase(text, STR("TLS")))
        text = str_part(text, 3, text.len);
    if (str_starts_nocase(text, STR("v")))
        text = str_part(text, 1, text.len);
    for (size_t i = 0; i < countof(versions); i++)
        if (str_equal(text, str_of(versions[i]))) {
            *version = arena_print(arena, i == 0 ? "TLSv1" : "TLSv%s", versions[i]);
            return true;
        }
    return false;
}

bool words_reply(struct str text, struct arena *arena, struct try_who *who)
{
    struct str said = text, stage = str_cut(&said, '=');
    struct reply *to = str_equal(stage, STR("mail"))      ? &who->mail_reply
                       : str_equal(stage, STR("rcpt"))    ? &who->rcpt_reply
                       : str_equal(stage, STR("message")) ? &who->end_reply
                                                          : NULL;
    bool code = said.len >= 3 && char_is_digit(said.at[0]) && char_is_digit(said.at[1]) && char_is_digit(said.at[2]);
    unsigned class = code ? (unsigned)(said.at[0] - '0') : 0;
    struct reply otherwise = {.code = (uint16_t)(class * 100 + 50)};
    return to && (class == 2 || class == 4 || class == 5) && reply_from_text(said, class, otherwise, arena, to);
}

bool words_fact(struct str text, struct arena *arena, struct try_who *who)
{
    struct tls_facts *f = &who->tls_facts;
    struct str value = text, name = str_cut(&value, '=');
    uint64_t n = 0;
    struct {
        const char *name;
        struct str *text;
    } const texts[] = {
        {"tls.sni", &f->sni},
        {"tls.alpn", &f->alpn},
        {"tls.subject", &f->subject},
        {"tls.issuer", &f->issuer},
        {"tls.fingerprint", &f->fingerprint},
    };
    if (!value.at)
        return false;
    value = arena_str(arena, value);
    for (size_t i = 0; i < countof(texts); i++)
        if (str_equal(name, str_of(texts[i].name))) {
            *texts[i].text = value;
            return true;
        }
    if (str_equal(name, STR("tls.cipher"))) {
        f->cipher = value.at;
        return true;
    }
    if (str_equal(name, STR("server.ip"))) {
        uint16_t none = 0;
        return words_client(value, arena, &who->server_ip, &none) && !none;
    }
    if (!str_number(value, &n) || n > UINT16_MAX)
        return false;
    if (str_equal(name, STR("server.port")))
        who->server_port = (uint16_t)n;
    else if (str_equal(name, STR("helo.esmtp")) && n <= 1)
        who->says_helo = !n;
    else if (str_equal(name, STR("tls.bits")) && n <= 4096)
        f->bits = (int)n;
    else if (str_equal(name, STR("tls.verified")) && n <= 1)
        f->verified = n;
    else
        return false;
    return true;
}

bool words_time(struct str text, int64_t *microseconds)
{
    uint64_t n;
    struct tm tm = {0};
    char room[40], *rest;
    int hours = 0, minutes = 0;
    if (str_number(text, &n) && n < 1ull << 40) {
        *microseconds = (int64_t)n * 1000000;
        return true;
    }
    if (text.len >= sizeof room)
        return false;
    memcpy(room, text.at, text.len);
    room[text.len] = 0;
    rest = strptime(room, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest)
        return false;
    double part = 0;
    if (*rest == '.')
        part = strtod(rest, &rest);
    bool utc = strcmp(rest, "Z") == 0 || strcmp(rest, "z") == 0;
    int used = 0;
    if (!utc && (sscanf(rest, "%3d:%2d%n", &hours, &minutes, &used) != 2 || rest[used] || used != 6 ||
                 (*rest != '+' && *rest != '-')))
        return false;
    int64_t zone = (int64_t)hours * 3600 + (*rest == '-' ? -minutes : minutes) * 60;
    *microseconds = ((int64_t)timegm(&tm) - zone) * 1000000 + (int64_t)(part * 1e6);
    return true;
}

static bool is_class(struct str word)
{
    return word.len == 3 && word.at[0] >= '2' && word.at[0] <= '5' && str_equal_nocase(str_part(word, 1, 3), STR("xx"));
}

bool words_expect(struct str word)
{
    uint64_t n;
    for (int i = 0; i < FATES; i++)
        if (str_equal(word, str_of(fate_name((enum fate)i))))
            return true;
    return is_class(word) || (word.len == 3 && str_number(word, &n) && n >= 200 && n < 600);
}

bool words_is_expected(struct str word, const struct trial *t)
{
    char code[8];
    snprintf(code, sizeof code, "%u", t->reply.code);
    return str_equal(word, str_of(fate_name(t->fate))) || str_equal(word, str_of(code)) ||
           (is_class(word) && word.at[0] == code[0]);
}

struct str words_address(struct str text, struct arena *arena)
{
    if (text.len >= 2 && text.at[0] == '<' && text.at[text.len - 1] == '>')
        text = str_part(text, 1, text.len - 1);
    return arena_str(arena, text);
}

static void put_quoted(struct pipe *out, struct str text)
{
    pipe_put(out, STR("\""));
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c < ' ' || c == '"' || c == '\\')
            pipe_print(out, "\\%03u", c);
        else
            pipe_copy(out, &text.at[i], 1);
    }
    pipe_put(out, STR("\""));
}

static bool put_option(struct pipe *out, struct str option, bool (*is_value)(const char *))
{
    struct str value = option, key = str_cut(&value, '=');
    if (!key.len || !value.at)
        return false;
    for (size_t i = 0; i < key.len; i++)
        if (!char_is_alnum(key.at[i]) && key.at[i] != '_')
            return false;
    pipe_put(out, STR("["));
    put_quoted(out, key);
    pipe_put(out, STR("] = "));
    if (is_value(value.at)) /* it reaches up to the end of the argument */
        pipe_put(out, value);
    else
        put_quoted(out, value);
    pipe_put(out, STR("\n,\n"));
    return true;
}

struct str words_filter(struct arena *arena, struct str name, size_t n, const char *const *options,
                        bool (*is_value)(const char *))
{
    struct pipe out = {0};
    bool good = true;
    pipe_put(&out, STR("filter "));
    put_quoted(&out, name);
    pipe_put(&out, STR(" {\n"));
    for (size_t i = 0; i < n; i++)
        good &= put_option(&out, str_of(options[i]), is_value);
    pipe_put(&out, STR("}"));
    struct str text = good ? arena_str(arena, pipe_flat(&out, out.octets, arena)) : STR_NONE;
    pipe_clear(&out);
    return text;
}
