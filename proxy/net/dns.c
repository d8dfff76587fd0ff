/* dns.c - the resolver: c-ares sends the queries, the loop polls its sockets, and the answers are parsed here.
 *
 * A query belongs to its caller and may outlive the resolver. c-ares cannot cancel a single query, so a dropped query is freed when its
 * answer comes or c-ares gives it up. c-ares may call back at any time, also inside the call that starts a query; therefore results are
 * delivered by a task of the query. All lengths in an answer are checked (RFC 1035 4.1). Queries set the AD bit (RFC 6840 5.7). */
#include "net/dns.h"
#include "base/fault.h"
#include "net/channel.h"
#include <ares.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <openssl/rand.h>

enum { TRY_MS = 1200, TRIES = 3, UDP_MOST = 1232, QUERY_MS = 5000, LIST_MOST = 100, HEADER = 12 };
enum {
    TYPE_A = 1,
    TYPE_NS = 2,
    TYPE_CNAME = 5,
    TYPE_SOA = 6,
    TYPE_PTR = 12,
    TYPE_MX = 15,
    TYPE_TXT = 16,
    TYPE_AAAA = 28,
    TYPE_SRV = 33,
    TYPE_TLSA = 52
};

static const struct {
    const char *name;
    int number;
} types[] = {
    {"a", TYPE_A},         {"aaaa", TYPE_AAAA}, {"mx", TYPE_MX}, {"txt", TYPE_TXT}, {"ptr", TYPE_PTR},
    {"cname", TYPE_CNAME}, {"srv", TYPE_SRV},   {"ns", TYPE_NS}, {"soa", TYPE_SOA}, {"tlsa", TYPE_TLSA},
};

struct dns {
    struct loop *loop;
    ares_channel channel;
    struct task turn;
    struct alarm alarm;
    struct dns_source *source; /* NULL: c-ares answers */
};

struct wait { /* a socket of c-ares */
    uv_poll_t poll;
    struct wait *next;
    struct dns *dns;
    ares_socket_t fd;
};
static _Thread_local struct wait *waits; /* a short list of those of all resolvers of the thread */

struct dns_asked {
    struct dns_query q;              /* first member: a struct dns_query * is a pointer to this */
    bool at_home, answered, dropped; /* at_home: c-ares does not use it any more; answered: q has the result */
    int type;
    struct task turn;
    struct alarm alarm;
    enum failure at_alarm; /* the result when the alarm is due */
};

/* ---- reading an answer */

struct packet {
    const unsigned char *at;
    size_t len;
};

struct dns_record {
    unsigned type;
    uint32_t ttl;
    size_t data, end; /* offsets of the RDATA in the packet */
};

static unsigned get16(const struct packet *p, size_t at)
{
    return (unsigned)p->at[at] << 8 | p->at[at + 1];
}

static uint32_t get32(const struct packet *p, size_t at)
{
    return (uint32_t)get16(p, at) << 16 | get16(p, at + 2);
}

/* The name at *at, which must end before `end`; moves *at behind it. */
static bool read_name(const struct packet *p, size_t *at, size_t end, struct arena *arena, struct str *name)
{
    char *text = NULL;
    long used = 0;
    if (*at >= end || ares_expand_name(p->at + *at, p->at, (int)p->len, &text, &used) != ARES_SUCCESS)
        return false;
    bool ok = used > 0 && (size_t)used <= end - *at;
    if (ok && name)
        *name = text[0] ? arena_str(arena, str_of(text)) : STR(".");
    ares_free_string(text);
    *at += ok ? (size_t)used : 0;
    return ok;
}

static bool read_record(const struct packet *p, size_t *at, struct dns_record *r)
{
    if (!read_name(p, at, p->len, NULL, NULL) || p->len - *at < 10)
        return false;
    r->type = get16(p, *at);
    r->ttl = get32(p, *at + 4);
    if (r->ttl > INT32_MAX) /* RFC 2181 8 */
        r->ttl = 0;
    size_t len = get16(p, *at + 8);
    r->data = *at + 10;
    if (p->len - r->data < len)
        return false;
    *at = r->end = r->data + len;
    return true;
}

static bool read_ip(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    char text[INET6_ADDRSTRLEN];
    bool v4 = r->type == TYPE_A;
    if (r->end - r->data != (v4 ? 4 : 16))
        return false;
    inet_ntop(v4 ? AF_INET : AF_INET6, p->at + r->data, text, sizeof text);
    *v = value_text(arena_str(a, str_of(text)));
    return true;
}

static bool read_txt(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    char *joined = arena_space(a, r->end - r->data + 1);
    size_t n = 0;
    for (size_t at = r->data; at < r->end; at += 1u + p->at[at]) {
        size_t len = p->at[at];
        if (r->end - at - 1 < len)
            return false;
        memcpy(joined + n, p->at + at + 1, len);
        n += len;
    }
    joined[n] = 0;
    *v = value_text((struct str){joined, n});
    return true;
}

static bool read_tlsa(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    static const char digits[] = "0123456789abcdef";
    if (r->end - r->data < 4)
        return false;
    size_t n = r->end - r->data - 3;
    const unsigned char *at = p->at + r->data;
    char *text = arena_space(a, 13 + 2 * n);
    int head = snprintf(text, 13, "%u %u %u ", at[0], at[1], at[2]);
    for (size_t i = 0; i < n; i++) {
        text[head + 2 * (int)i] = digits[at[3 + i] >> 4];
        text[head + 2 * (int)i + 1] = digits[at[3 + i] & 15];
    }
    *v = value_text((struct str){text, (size_t)head + 2 * n});
    return true;
}

/* `n` numbers of 16 bits, then a name: MX and SRV. */
static bool read_numbered(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    static const struct str mx[] = {{"preference", 10}}, srv[] = {{"priority", 8}, {"weight", 6}, {"port", 4}};
    const struct str *keys = r->type == TYPE_MX ? mx : srv;
    size_t n = r->type == TYPE_MX ? countof(mx) : countof(srv), at = r->data + 2 * n;
    struct str name;
    if (r->end - r->data < 2 * n || !read_name(p, &at, r->end, a, &name))
        return false;
    *v = (struct filter_value){.type = VALUE_MAP};
    for (size_t i = 0; i < n; i++)
        value_put(a, v, keys[i], value_integer(get16(p, r->data + 2 * i)));
    value_put(a, v, STR("name"), value_text(name));
    return true;
}

static bool read_soa(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    static const struct str keys[] = {{"serial", 6}, {"refresh", 7}, {"retry", 5}, {"expire", 6}, {"minimum", 7}};
    size_t at = r->data;
    struct str name, who;
    if (!read_name(p, &at, r->end, a, &name) || !read_name(p, &at, r->end, a, &who) || r->end - at < 20)
        return false;
    *v = (struct filter_value){.type = VALUE_MAP};
    value_put(a, v, STR("name"), value_text(name));
    value_put(a, v, STR("responsible"), value_text(who));
    for (size_t i = 0; i < countof(keys); i++)
        value_put(a, v, keys[i], value_integer(get32(p, at + 4 * i)));
    return true;
}

static bool read_data(const struct packet *p, const struct dns_record *r, struct arena *a, struct filter_value *v)
{
    size_t at = r->data;
    struct str name;
    switch (r->type) {
    case TYPE_A:
    case TYPE_AAAA: return read_ip(p, r, a, v);
    case TYPE_TXT: return read_txt(p, r, a, v);
    case TYPE_TLSA: return read_tlsa(p, r, a, v);
    case TYPE_MX:
    case TYPE_SRV: return read_numbered(p, r, a, v);
    case TYPE_SOA: return read_soa(p, r, a, v);
    default:
        if (!read_name(p, &at, r->end, a, &name))
            return false;
        *v = value_text(name);
        return true;
    }
}

static enum failure read_answer(const struct packet *p, int type, struct arena *a, struct filter_value *value)
{
    static const enum failure codes[16] = {FAILURE_NONE, FAILURE_BAD, FAILURE_SERVFAIL, FAILURE_NXDOMAIN, FAILURE_SERVFAIL, FAILURE_REFUSED};
    if (p->len < HEADER)
        return FAILURE_BAD;
    unsigned code = p->at[3] & 15;
    if (code)
        return codes[code] ? codes[code] : FAILURE_SERVFAIL;
    size_t at = HEADER;
    for (unsigned i = get16(p, 4); i; i--) {
        if (!read_name(p, &at, p->len, NULL, NULL) || p->len - at < 4)
            return FAILURE_BAD;
        at += 4;
    }
    struct filter_value list = {.type = VALUE_LIST};
    uint32_t ttl = INT32_MAX;
    for (unsigned i = get16(p, 6); i && list.count < LIST_MOST; i--) {
        struct dns_record r;
        struct filter_value v;
        if (!read_record(p, &at, &r))
            return FAILURE_BAD;
        if (r.type == (unsigned)type || r.type == TYPE_CNAME)
            ttl = r.ttl < ttl ? r.ttl : ttl;
        if (r.type != (unsigned)type)
            continue;
        if (!read_data(p, &r, a, &v))
            return FAILURE_BAD;
        value_add(a, &list, v);
    }
    if (!list.count)
        return FAILURE_NODATA;
    *value = (struct filter_value){.type = VALUE_MAP};
    value_put(a, value, STR("ttl"), value_integer(ttl));
    value_put(a, value, STR("authentic"), value_bool(p->at[3] & 0x20));
    value_put(a, value, STR("list"), list);
    return FAILURE_NONE;
}

/* ---- c-ares on the loop */

static void rearm(struct dns *d)
{
    struct timeval room, *next = ares_timeout(d->channel, NULL, &room);
    uint64_t ms = next ? (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1 : 0;
    alarm_set(&d->alarm, &d->turn, next ? loop_now(d->loop) + ms : 0);
}

static void turn(struct task *t)
{
    struct dns *d = holder_of(t, struct dns, turn);
    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm(d);
}

static void ready(uv_poll_t *poll, int status, int events)
{
    struct wait *w = poll->data;
    struct dns *d = w->dns; /* c-ares may free w during the call */
    bool in = status < 0 || events & (UV_READABLE | UV_DISCONNECT), out = status < 0 || events & UV_WRITABLE;
    ares_process_fd(d->channel, in ? w->fd : ARES_SOCKET_BAD, out ? w->fd : ARES_SOCKET_BAD);
    rearm(d);
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void socket_state(void *data, ares_socket_t fd, int in, int out)
{
    struct dns *d = data;
    struct wait **link = &waits, *w;
    while (*link && ((*link)->fd != fd || (*link)->dns != d))
        link = &(*link)->next;
    w = *link;
    if (!in && !out) {
        if (!w)
            return;
        *link = w->next;
        uv_poll_stop(&w->poll); /* at once, because c-ares closes the descriptor after this call */
        uv_close((uv_handle_t *)&w->poll, closed);
        return;
    }
    if (!w) {
        w = must_alloc(sizeof *w);
        w->dns = d;
        w->fd = fd;
        w->poll.data = w;
        if (uv_poll_init_socket(loop_uv(d->loop), &w->poll, fd) < 0) {
            free(w); /* its queries end by their deadlines */
            return;
        }
        w->next = waits;
        waits = w;
    }
    uv_poll_start(&w->poll, (in ? UV_READABLE : 0) | (out ? UV_WRITABLE : 0), ready);
}

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

struct dns *dns_open(struct loop *l, const char *servers, char *error, size_t room)
{
    struct dns *d = must_alloc(sizeof *d);
    d->loop = l;
    task_start(&d->turn, l, turn);
    struct ares_options options = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP |
                                            ARES_FLAG_EDNS,
                                   .timeout = TRY_MS,
                                   .tries = TRIES,
                                   .ndots = 1,
                                   .lookups = (char *)"b",
                                   .sock_state_cb = socket_state,
                                   .sock_state_cb_data = d,
                                   .ednspsz = UDP_MOST};
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_LOOKUPS |
               ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ;
    static bool library;
    pthread_mutex_lock(&opening); /* protects global state of c-ares, and getenv */
    int r = library ? ARES_SUCCESS : ares_library_init(ARES_LIB_INIT_ALL);
    library = library || r == ARES_SUCCESS;
    if (r == ARES_SUCCESS)
        r = ares_init_options(&d->channel, &options, mask);
    pthread_mutex_unlock(&opening);
    if (r == ARES_SUCCESS && servers && (r = ares_set_servers_ports_csv(d->channel, servers)) != ARES_SUCCESS)
        ares_destroy(d->channel);
    if (r == ARES_SUCCESS)
        return d;
    snprintf(error, room, "resolver%s%s: %s", servers ? " " : "", servers ? servers : "", ares_strerror(r));
    free(d);
    return NULL;
}

struct dns *dns_open_source(struct loop *l, struct dns_source *source)
{
    struct dns *d = must_alloc(sizeof *d);
    d->loop = l;
    d->source = source;
    return d;
}

void dns_close(struct dns **owner)
{
    struct dns *d = *owner;
    *owner = NULL;
    if (!d)
        return;
    if (d->source) {
        free(d);
        return;
    }
    ares_destroy(d->channel);
    alarm_stop(&d->alarm);
    task_forget(&d->turn);
    free(d);
}

/* ---- queries */

static void tell(struct dns_asked *a, enum failure error)
{
    if (a->answered)
        return;
    a->answered = true;
    a->q.error = error;
    task_wake(&a->turn);
}

static void query_turn(struct task *t)
{
    struct dns_asked *a = holder_of(t, struct dns_asked, turn);
    if (a->q.done)
        return;
    if (!a->answered && (!a->alarm.at || loop_now(t->loop) < a->alarm.at)) {
        alarm_set(&a->alarm, t, a->alarm.at);
        return;
    }
    if (!a->answered)
        a->q.error = a->at_alarm;
    a->answered = a->q.done = true;
    alarm_stop(&a->alarm);
    if (a->q.task)
        task_wake(a->q.task);
}

static enum failure error_of(int status)
{
    switch (status) {
    case ARES_ENODATA: return FAILURE_NODATA;
    case ARES_ENOTFOUND: return FAILURE_NXDOMAIN;
    case ARES_ETIMEOUT: return FAILURE_TIMEOUT;
    case ARES_EREFUSED: return FAILURE_REFUSED;
    case ARES_EBADNAME:
    case ARES_EBADQUERY: return FAILURE_BADNAME;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION: return FAILURE_CANCELLED;
    case ARES_EBADRESP:
    case ARES_EFORMERR: return FAILURE_BAD;
    default: return FAILURE_SERVFAIL;
    }
}

static void answered(void *data, int status, int timeouts, unsigned char *octets, int len)
{
    struct dns_asked *a = data;
    a->at_home = true;
    if (a->dropped) {
        free(a);
        return;
    }
    if (a->answered) /* too late */
        return;
    const struct packet p = {octets, len > 0 ? (size_t)len : 0};
    tell(a, status == ARES_SUCCESS ? read_answer(&p, a->type, &a->q.arena, &a->q.value) : error_of(status));
}

static bool is_name(struct str s)
{
    if (s.len && s.at[s.len - 1] == '.')
        s.len--;
    if (!s.len || s.len > 253)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < s.len; i++) {
        bool dot = s.at[i] == '.';
        if ((dot && !label) || (!dot && label == 63) || s.at[i] <= ' ' || s.at[i] > '~' || s.at[i] == '\\')
            return false;
        label = dot ? 0 : label + 1;
    }
    return label > 0;
}

/* 192.0.2.1 -> 1.2.0.192.in-addr.arpa; IPv6 by nibbles (RFC 3596 2.5). A name stays. */
static struct str reverse(struct str s, struct arena *arena)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char ip[16];
    if (s.len >= sizeof text)
        return s;
    snprintf(text, sizeof text, "%.*s", STR_ARGS(s));
    if (inet_pton(AF_INET, text, ip) == 1)
        return arena_print(arena, "%u.%u.%u.%u.in-addr.arpa", ip[3], ip[2], ip[1], ip[0]);
    if (inet_pton(AF_INET6, text, ip) != 1)
        return s;
    char name[80], *to = name;
    for (int i = 15; i >= 0; i--)
        to += sprintf(to, "%x.%x.", ip[i] & 15, ip[i] >> 4);
    return arena_print(arena, "%sip6.arpa", name);
}

static void send_query(struct dns *d, struct dns_asked *a, struct str name)
{
    char text[256];
    unsigned char *query = NULL;
    int len = 0;
    uint16_t id = 0;
    snprintf(text, sizeof text, "%.*s", STR_ARGS(name));
    must(RAND_bytes((unsigned char *)&id, sizeof id) == 1);
    int r = fault_strikes(FAULT_DNS) ? ARES_ENOMEM : ares_create_query(text, 1, a->type, id, 1, &query, &len, UDP_MOST);
    if (r != ARES_SUCCESS) {
        a->at_home = true;
        tell(a, error_of(r));
        return;
    }
    query[3] |= 0x20; /* AD: we understand it in the answer */
    ares_send(d->channel, query, len, answered, a);
    ares_free_string(query);
    rearm(d);
}

static void ask_source(struct dns *d, struct dns_asked *a, const char *type, struct str name, unsigned ms)
{
    unsigned delay = 0;
    a->at_home = true;
    enum failure error = d->source->answer(d->source, type, name, &a->q.arena, &a->q.value, &delay);
    if (!delay) {
        tell(a, error);
    } else if (delay < ms) {
        a->at_alarm = error;
        alarm_set(&a->alarm, &a->turn, loop_now(d->loop) + delay);
    }
}

struct dns_query *dns_ask(struct dns *d, const char *type, struct str name, unsigned ms, struct task *task)
{
    struct dns_asked *a = must_alloc(sizeof *a);
    a->q.task = task;
    task_start(&a->turn, d->loop, query_turn);
    for (size_t i = 0; i < countof(types); i++)
        if (str_equal_nocase(str_of(type), str_of(types[i].name)))
            a->type = types[i].number;
    if (a->type == TYPE_PTR)
        name = reverse(name, &a->q.arena);
    if (!a->type || !is_name(name)) {
        a->at_home = true;
        tell(a, FAILURE_BADNAME);
        return &a->q;
    }
    a->at_alarm = FAILURE_TIMEOUT;
    ms = ms ? ms : QUERY_MS;
    alarm_set(&a->alarm, &a->turn, loop_now(d->loop) + ms);
    if (d->source)
        ask_source(d, a, type, name, ms);
    else
        send_query(d, a, name);
    return &a->q;
}

void dns_drop(struct dns_query **owner)
{
    struct dns_asked *a = (struct dns_asked *)*owner;
    *owner = NULL;
    if (!a)
        return;
    alarm_stop(&a->alarm);
    task_forget(&a->turn);
    arena_reset(&a->q.arena);
    a->dropped = true;
    if (a->at_home)
        free(a);
}
