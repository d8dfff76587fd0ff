/* origin.c - Return-Path, Delivered-To, From, To and the trace, read as a person would (RFC 5321 4.4). What is
 * malformed is not there. */
#include "try/origin.h"
#include "wire/addresses.h"
#include "wire/date.h"
#include "wire/header.h"
#include <arpa/inet.h>

static struct str first_address(struct headers *h, const char *name, struct arena *arena)
{
    struct addresses list;
    struct mailbox box;
    const struct field *f = headers_next(h, NULL, str_of(name));
    if (!f)
        return STR_NONE;
    struct str value = header_unfold(f->value, arena);
    if (str_equal(value, STR("<>")))
        return STR("");
    addresses_start(&list, value, arena);
    return addresses_next(&list, &box) && box.address.len ? arena_str(arena, box.address) : STR_NONE;
}

bool ip_is_public(struct str ip)
{
    unsigned char o[16];
    char text[64];
    if (!ip.len || ip.len >= sizeof text)
        return false;
    memcpy(text, ip.at, ip.len);
    text[ip.len] = 0;
    if (inet_pton(AF_INET, text, o) == 1)
        return !(o[0] == 0 || o[0] == 10 || o[0] == 127 || (o[0] == 172 && (o[1] & 0xf0) == 16) ||
                 (o[0] == 192 && o[1] == 168) || (o[0] == 169 && o[1] == 254) || (o[0] == 100 && (o[1] & 0xc0) == 64) ||
                 o[0] >= 224);
    return inet_pton(AF_INET6, text, o) == 1 && (o[0] & 0xe0) == 0x20; /* 2000::/3 */
}

/* The address in the first brackets that hold a public one; *at: where they begin. */
static struct str address_in(struct str value, size_t *at)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] != '[')
            continue;
        struct str rest = str_part(value, i + 1, value.len), ip = str_cut(&rest, ']');
        if (str_starts_nocase(ip, STR("IPv6:")))
            ip = str_part(ip, 5, ip.len);
        *at = i;
        if (ip_is_public(ip))
            return ip;
    }
    return STR_NONE;
}

/* "from HELO (NAME [IP]) by ...": Postfix' form; ours has no NAME. */
static bool take_received(struct origin *o, struct str value, struct arena *arena)
{
    size_t at = 0;
    struct str by = str_part(value, 0, str_find(value, STR(" by "))), ip = address_in(by, &at);
    if (!ip.at)
        return false;
    struct str rest = by;
    o->ip = arena_str(arena, ip);
    if (str_starts_nocase(str_word(&rest), STR("from")))
        o->helo = arena_str(arena, str_word(&rest));
    size_t open = at;
    while (open > 0 && by.at[open - 1] != '(')
        open--;
    struct str name = str_trim(str_part(by, open, at));
    if (open && name.len && !memchr(name.at, ' ', name.len) && !str_equal(name, STR("unknown")))
        o->rdns = arena_str(arena, name);
    size_t semicolon = value.len;
    while (semicolon > 0 && value.at[semicolon - 1] != ';')
        semicolon--;
    o->has_date = semicolon && date_read(str_part(value, semicolon, value.len), &o->date);
    return true;
}

void origin_find(struct origin *o, struct str message, struct arena *arena)
{
    struct headers h;
    struct pipe in = {.ended = true};
    *o = (struct origin){0};
    headers_start(&h, arena);
    pipe_constant(&in, message);
    headers_step(&h, &in, 1 << 24);
    pipe_clear(&in);
    static const char *const senders[] = {"Return-Path", "From"}, *const rcpts[] = {"Delivered-To", "X-Original-To",
                                                                                    "To"};
    for (size_t i = 0; i < countof(senders) && !o->from.at; i++)
        o->from = first_address(&h, senders[i], arena);
    for (size_t i = 0; i < countof(rcpts) && !o->to.at; i++) {
        o->to = first_address(&h, rcpts[i], arena);
        o->to = o->to.len ? o->to : STR_NONE;
    }
    size_t octets = 0;
    for (const struct field *f = h.first; f && !o->cut; f = f->next) {
        octets += f->raw.len;
        if (str_equal_nocase(f->name, STR("Received")) && take_received(o, header_unfold(f->value, arena), arena))
            o->cut = octets;
    }
}
