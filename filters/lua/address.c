/* address.c - the address and ip objects of scripts, which hold copies of their text and stay valid for ever.
 *
 * Local part and domain are always texts, "" if there is none; domains are in lower case with A-labels, whatever their spelling in addr, so
 * that they can be used as keys. Addresses of header fields are made in text.c. */
#include "filters/lua/host.h"
#include "base/cidr.h"
#include "base/idn.h"
#include "base/table.h"
#include "wire/path.h"

#define ADDRESS "address"
#define IP      "ip"
struct ip {
    unsigned version;
    uint8_t octets[16];
    size_t len;
    char text[64];
};

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static struct lua_address *new_address(lua_State *L, struct str addr, struct str local, struct str domain,
                                       struct str params, struct str name)
{
    char room[IDN_ROOM];
    if (domain.len)
        domain = idn_fold(domain, room);
    const struct str parts[] = {addr, local, domain, params, name};
    size_t total = 0;
    for (size_t i = 0; i < countof(parts); i++)
        total += parts[i].len + 1;
    struct lua_address *a = lua_new(L, ADDRESS, sizeof *a + total);
    char *at = a->text;
    for (size_t i = 0; i < countof(parts); i++) {
        if (parts[i].len)
            memcpy(at, parts[i].at, parts[i].len);
        at += parts[i].len + 1;
    }
    a->addr = addr.len;
    a->local = local.len;
    a->domain = domain.len;
    a->params = params.len;
    a->name = name.len;
    a->rcpt = RCPT_NONE;
    return a;
}

static struct str part(const struct lua_address *a, int which)
{
    const size_t lens[] = {a->addr, a->local, a->domain, a->params, a->name};
    const char *at = a->text;
    for (int i = 0; i < which; i++)
        at += lens[i] + 1;
    return (struct str){at, lens[which]};
}

static struct str str_of_text(struct filter_text t)
{
    return (struct str){t.at ? t.at : "", t.len};
}

void push_address(lua_State *L, struct lua_run *run, const struct filter_path *p, size_t rcpt)
{
    struct lua_address *a = new_address(L, str_of_text(p->address), str_of_text(p->local), str_of_text(p->domain),
                                        str_of_text(p->params), STR(""));
    a->rcpt = rcpt;
    a->state = p->state;
    a->token = transaction_of(run)->token;
}

struct lua_address *address_at(lua_State *L, int arg)
{
    return luaL_testudata(L, arg, ADDRESS);
}

struct str address_text(lua_State *L, int arg)
{
    const struct lua_address *a = luaL_testudata(L, arg, ADDRESS);
    const struct ip *ip = luaL_testudata(L, arg, IP);
    if (a)
        return part(a, 0);
    if (ip)
        return (struct str){ip->text, ip->len};
    size_t len;
    luaL_argexpected(L, lua_isstring(L, arg), arg, "text, address or ip");
    const char *text = lua_tolstring(L, arg, &len);
    return (struct str){text, len};
}

static void push_params(lua_State *L, struct str text)
{
    struct str word;
    lua_newtable(L);
    while ((word = str_word(&text)).at) {
        struct str value = word, key = str_cut(&value, '=');
        luaL_Buffer b;
        char *at = luaL_buffinitsize(L, &b, key.len + 1);
        for (size_t i = 0; i < key.len; i++)
            at[i] = char_lower(key.at[i]);
        luaL_pushresultsize(&b, key.len);
        if (value.at)
            lua_pushlstring(L, value.at, value.len);
        else
            lua_pushboolean(L, 1);
        lua_rawset(L, -3);
    }
}

static void push_str(lua_State *L, struct str s)
{
    lua_pushlstring(L, s.at ? s.at : "", s.len);
}

static void push_key(lua_State *L, struct str addr)
{
    char room[IDN_ROOM];
    push_str(L, idn_fold_address(addr, room));
}

static const char *const address_fields[] = {"addr", "localpart",  "domain", "user", "ext", "params",
                                             "name", "postmaster", "state",  "key",  NULL};

static int address_index(lua_State *L)
{
    static const char *const states[] = {"pending", "accepted", "refused", "added", "dropped"};
    const struct lua_address *a = luaL_checkudata(L, 1, ADDRESS);
    const char *key = luaL_checkstring(L, 2);
    struct str local = part(a, 1);
    size_t plus = str_find(local, STR("+"));
    if (is(key, "addr"))
        push_str(L, part(a, 0));
    else if (is(key, "localpart"))
        push_str(L, local);
    else if (is(key, "domain"))
        push_str(L, part(a, 2));
    else if (is(key, "user"))
        push_str(L, plus && plus < local.len ? str_part(local, 0, plus) : local);
    else if (is(key, "ext"))
        push_str(L, plus && plus < local.len ? str_part(local, plus + 1, local.len) : STR(""));
    else if (is(key, "params"))
        push_params(L, part(a, 3));
    else if (is(key, "name"))
        push_str(L, part(a, 4));
    else if (is(key, "key"))
        push_key(L, part(a, 0));
    else if (is(key, "postmaster"))
        lua_pushboolean(L, str_equal_nocase(local, STR("postmaster")));
    else if (is(key, "state"))
        a->rcpt == RCPT_NONE ? lua_pushnil(L) : (void)lua_pushstring(L, states[a->state % countof(states)]);
    else
        return lua_method(L, ADDRESS, address_fields);
    return 1;
}

static int address_tostring(lua_State *L)
{
    push_str(L, part(luaL_checkudata(L, 1, ADDRESS), 0));
    return 1;
}

static int address_equal(lua_State *L)
{
    const struct lua_address *a = luaL_testudata(L, 1, ADDRESS), *b = luaL_testudata(L, 2, ADDRESS);
    lua_pushboolean(L, a && b && str_equal(part(a, 1), part(b, 1)) && str_equal(part(a, 2), part(b, 2)));
    return 1;
}

void push_mailbox(lua_State *L, struct str address, struct str local, struct str domain, struct str name)
{
    new_address(L, address, local, domain, STR(""), name);
}

static bool push_parsed_address(lua_State *L, struct str text) /* false: nothing was pushed */
{
    struct path path;
    text = str_trim(text);
    if (text.len > 2 && text.at[0] == '<' && text.at[text.len - 1] == '>')
        text = str_trim(str_part(text, 1, text.len - 1));
    if (!text.len || path_from_address(text, PATH_FORWARD, &run_of(L)->scratch, &path))
        return false;
    new_address(L, path.address, path.local, path.domain, STR(""), STR(""));
    return true;
}

static int address_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    bool good = push_parsed_address(L, (struct str){text, len});
    arena_reset(&run_of(L)->scratch);
    if (good)
        return 1;
    lua_pushnil(L);
    lua_pushliteral(L, "not an address");
    return 2;
}

static int address_list(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return text_addresses(L, (struct str){text, len});
}

/* ---- IPs --------------------------------------------------------------------------------------------------------- */

void push_ip(lua_State *L, struct filter_text t)
{
    struct ip *ip = lua_new(L, IP, sizeof *ip);
    ip->len = min_size(t.len, sizeof ip->text - 1);
    if (ip->len)
        memcpy(ip->text, t.at, ip->len);
    struct cidr at;
    if (!cidr_of_ip((struct str){ip->text, ip->len}, &at))
        return; /* a unix socket */
    memcpy(ip->octets, at.octets, sizeof ip->octets);
    ip->version = at.v6 ? 6 : 4;
}

static bool is_private(const struct ip *ip)
{
    static const char *const nets[] = {"10.0.0.0/8",  "172.16.0.0/12",  "192.168.0.0/16",
                                       "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10",
                                       "fc00::/7",    "fe80::/10",      "::1/128"};
    struct cidr net;
    const char *why;
    for (size_t i = 0; i < countof(nets); i++)
        if (cidr_parse(str_of(nets[i]), &net, &why) && cidr_has(&net, (struct str){ip->text, ip->len}))
            return true;
    return !ip->version; /* a unix socket */
}

static int ip_network(lua_State *L)
{
    const struct ip *ip = luaL_checkudata(L, 1, IP);
    lua_Integer four = luaL_optinteger(L, 2, 24), six = luaL_optinteger(L, 3, 64);
    luaL_argcheck(L, four >= 0 && four <= 32, 2, "0 to 32");
    luaL_argcheck(L, six >= 0 && six <= 128, 3, "0 to 128");
    struct str net = cidr_network((struct str){ip->text, ip->len}, (unsigned)four, (unsigned)six, &run_of(L)->scratch);
    push_str(L, net.at ? net : STR("local"));
    arena_reset(&run_of(L)->scratch);
    return 1;
}

/* "1.2.0.192": the reversed address, as DNS lists have it before the zone. */
static int ip_reverse(lua_State *L)
{
    const struct ip *ip = luaL_checkudata(L, 1, IP);
    char text[80];
    size_t n = 0;
    for (int i = 3; i >= 0 && ip->version == 4; i--)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", n ? "." : "", ip->octets[i]);
    for (int i = 15; i >= 0 && ip->version == 6; i--)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%x.%x", n ? "." : "", ip->octets[i] & 15u,
                              ip->octets[i] >> 4);
    lua_pushlstring(L, text, n);
    return 1;
}

static const char *const ip_fields[] = {"version", "private", NULL};

static int ip_index(lua_State *L)
{
    const struct ip *ip = luaL_checkudata(L, 1, IP);
    const char *key = luaL_checkstring(L, 2);
    if (is(key, "version"))
        lua_pushinteger(L, ip->version);
    else if (is(key, "private"))
        lua_pushboolean(L, is_private(ip));
    else
        return lua_method(L, IP, ip_fields);
    return 1;
}

static int ip_tostring(lua_State *L)
{
    const struct ip *ip = luaL_checkudata(L, 1, IP);
    lua_pushlstring(L, ip->text, ip->len);
    return 1;
}

static int ip_equal(lua_State *L)
{
    const struct ip *a = luaL_testudata(L, 1, IP), *b = luaL_testudata(L, 2, IP);
    lua_pushboolean(L, a && b && a->version == b->version && !memcmp(a->octets, b->octets, 16));
    return 1;
}

/* ".." of an address or an ip with a text: both are what their text says. */
static int join(lua_State *L)
{
    struct str a = address_text(L, 1), b = address_text(L, 2);
    push_str(L, a);
    push_str(L, b);
    lua_concat(L, 2);
    return 1;
}

void address_install(lua_State *L)
{
    static const luaL_Reg functions[] = {{"parse", address_parse}, {"list", address_list}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg meta[] = {{"__index", address_index},
                                    {"__tostring", address_tostring},
                                    {"__eq", address_equal},
                                    {"__concat", join},
                                    {NULL, NULL}};
    static const luaL_Reg ips[] = {{"network", ip_network}, {"reverse", ip_reverse}, {NULL, NULL}};
    static const luaL_Reg ip_meta[] = {
        {"__index", ip_index}, {"__tostring", ip_tostring}, {"__eq", ip_equal}, {"__concat", join}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "address");
    lua_class(L, ADDRESS, none, meta);
    lua_class(L, IP, ips, ip_meta);
    lua_class_fields(L, ADDRESS, address_fields);
    lua_class_fields(L, IP, ip_fields);
}
