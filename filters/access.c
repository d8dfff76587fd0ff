/* access.c - filter "access": decides by tables of clients, HELO names, senders and recipients, with the actions of Postfix' access(5).
 * Options and actions: filters/README.md.
 *
 * The tables are searched in the order client, helo, sender, recipient, and the first action other than DUNNO decides: after an OK for the
 * client, the sender is not looked up. At each stage all tables for what is known so far are searched again, so that the order always
 * holds. Actions are parsed when they are used, since tables are reread when their files change; an invalid action is reported when the
 * configuration is loaded, and fails the filter (on_error) if it appears later. */
#include "base/table.h"
#include "filters/filter.h"
#include "wire/reply.h"
#include <stdio.h>

enum which { CLIENT, HELO, SENDER, RECIPIENT, TABLES };
static const char *const table_names[TABLES] = {"client", "helo", "sender", "recipient"};

enum action { BAD, DUNNO, OK, PASS, REJECT, DEFER, DISCARD, DROP, QUARANTINE };
static const char *const action_names[] = {"",      "DUNNO",   "OK",   "PASS",      "REJECT",
                                           "DEFER", "DISCARD", "DROP", "QUARANTINE"};

struct access {
    const struct filter_value *tables[TABLES];
    bool delay, quarantines;
};
struct access_order { /* the action of a table entry */
    enum action action;
    enum which which;
    struct str text;
};
struct access_mark { /* transaction memory: a QUARANTINE action, kept until HEADERS, the first stage that allows this verdict */
    bool set;
    char why[300];
};

/* ---- the words of a table ---------------------------------------------------------------------------------------- */

/* The next word; words in tables are separated by SP or HTAB. */
static struct str word_of(struct str *rest)
{
    size_t from = 0;
    while (from < rest->len && (rest->at[from] == ' ' || rest->at[from] == '\t'))
        from++;
    size_t to = from;
    while (to < rest->len && rest->at[to] != ' ' && rest->at[to] != '\t')
        to++;
    struct str word = str_part(*rest, from, to);
    *rest = str_part(*rest, to, rest->len);
    return word;
}

/* Whether a text that may begin with a code, an enhanced code or both is of this class: 4 or 5. */
static bool fits(struct str text, unsigned class)
{
    struct reply_front front = reply_front(text);
    return (!front.has_code || front.code / 100 == class) && (!front.enhanced[0] || front.enhanced[0] == class);
}

static bool closes(uint16_t code)
{
    return code == 421 || code == 521;
}

/* Parses an action. NULL: valid. Else a sentence that says what is wrong. */
static const char *order_parse(struct str value, struct access_order *o)
{
    struct str rest = value, word = word_of(&rest);
    o->action = BAD;
    o->text = str_trim(rest);
    unsigned class = reply_front(value).code / 100;
    if (class == 4 || class == 5) {
        o->text = value;
        if (!fits(value, class))
            return "the enhanced code is of another class than the code";
        o->action = closes(reply_front(value).code) ? DROP : class == 4 ? DEFER : REJECT;
        return NULL;
    }
    for (enum action a = DUNNO; a <= QUARANTINE; a++)
        if (str_equal_nocase(word, str_of(action_names[a])))
            o->action = a;
    if (o->action == BAD)
        return "expected OK, DUNNO, PASS, REJECT, DEFER, DISCARD, DROP, QUARANTINE, or a reply like \"550 5.7.1 text\"";
    if ((o->action == OK || o->action == DUNNO || o->action == PASS) && o->text.len)
        return "OK, DUNNO and PASS take no text";
    if ((o->action == REJECT && !fits(o->text, 5)) || (o->action == DEFER && !fits(o->text, 4)))
        return "the code in the text is not of the action's class: 5 for REJECT, 4 for DEFER";
    uint16_t code = reply_front(o->text).code;
    if (o->action == DROP && (code / 100 == 4 || code / 100 == 5) && !closes(code) && code != 554)
        return "DROP says 421, 521 or 554";
    return NULL;
}

static const char *bad_key(enum which which, struct str key)
{
    const char *why;
    struct cidr cidr;
    if (which != CLIENT || str_equal(key, STR("*")) || cidr_parse(key, &cidr, &why))
        return NULL;
    return "no address or network: clients are looked up by address, \"192.0.2.1\" or \"192.0.2.0/24\"";
}

/* Complains of each entry that could never work, at its line. */
static bool check(struct filter *f, struct access *a, enum which which)
{
    const struct filter_value *table = a->tables[which];
    unsigned bad = 0;
    for (size_t i = 0; i < filter_value_count(table) && bad < 20; i++) {
        struct filter_text key;
        const struct filter_value *entry = filter_value_at(table, i, &key);
        struct filter_text value = filter_value_text(entry);
        struct access_order o;
        const char *why = order_parse((struct str){value.at, value.len}, &o);
        if (!why && o.action == PASS && which == RECIPIENT)
            why = "PASS is for the whole transaction: a recipient can only have OK";
        if (!why)
            why = bad_key(which, (struct str){key.at, key.len});
        a->quarantines |= o.action == QUARANTINE;
        if (!why)
            continue;
        bad++;
        filter_complain(f, entry, NULL, 0, "%s table: \"%s %s\": %s", table_names[which], key.at, value.at, why);
    }
    return bad == 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static bool open_access(struct filter *f)
{
    static const struct filter_option options[] = {
        {sizeof *options, "client", TYPE_TABLE, .doc = "addresses and networks of clients, each with an action"},
        {sizeof *options, "helo", TYPE_TABLE, .doc = "names of EHLO and HELO, domains with a dot in front: subdomains"},
        {sizeof *options, "sender", TYPE_TABLE, .doc = "reverse-paths: addresses and domains; \"<>\" is the null one"},
        {sizeof *options, "recipient", TYPE_TABLE, .doc = "recipients: addresses and domains"},
        {sizeof *options, "delay", TYPE_BOOL, .preset = "true",
         .doc = "refusals of client and helo are said to each RCPT, so that the log knows whose mail it was; false: at "
                "once"},
    };
    struct access *a = filter_memory(f);
    const struct filter_value *o = filter_options(f, options, sizeof options / sizeof *options);
    if (!o)
        return false;
    bool good = true, any = false;
    for (enum which w = CLIENT; w < TABLES; w++) {
        a->tables[w] = filter_value_get(o, table_names[w]);
        any |= a->tables[w] != NULL;
        good &= check(f, a, w);
    }
    a->delay = filter_value_integer(filter_value_get(o, "delay"));
    if (!any)
        filter_complain(f, NULL, NULL, 0, "names no table: client, helo, sender or recipient");
    bool early = a->tables[CLIENT] || a->tables[HELO];
    unsigned stages = 1u << FILTER_RCPT;
    if (a->tables[CLIENT] && !a->delay)
        stages |= 1u << FILTER_CONNECT;
    if (early && !a->delay)
        stages |= 1u << FILTER_HELO;
    if (early || a->tables[SENDER])
        stages |= 1u << FILTER_MAIL;
    if (a->quarantines)
        stages |= 1u << FILTER_HEADERS;
    filter_lessen(f, stages, ~0u);
    return good && any;
}

/* ---- looking up -------------------------------------------------------------------------------------------------- */

/* "[192.0.2.1]" and "[IPv6:2001:db8::1]" are looked up as the address they name (RFC 5321 4.1.3). */
static struct filter_text bare_literal(struct filter_text name)
{
    struct str s = {name.at, name.len};
    if (s.len > 2 && s.at[0] == '[' && s.at[s.len - 1] == ']')
        s = str_part(s, 1, s.len - 1);
    if (str_starts_nocase(s, STR("IPv6:")))
        s = str_part(s, 5, s.len);
    return (struct filter_text){s.at, s.len};
}

static struct filter_text key_of(struct filter_call *call, enum which which)
{
    struct filter_path path = {.size = sizeof path};
    const struct filter_text none = {NULL, 0};
    switch (which) {
    case CLIENT: {
        struct filter_text ip = filter_fact(call, "client.ip");
        return ip.len ? ip : none; /* a unix socket has no address */
    }
    case HELO: return bare_literal(filter_fact(call, "helo.name"));
    case SENDER:
        if (!filter_reverse_path(call, &path))
            return none;
        return path.address.len ? path.address : (struct filter_text){"<>", 2};
    case RECIPIENT: return filter_rcpt(call, filter_rcpt_now(call), &path) ? path.address : none;
    default: return none;
    }
}

/* Finds the first action other than DUNNO in the tables up to `last`; DUNNO: there is none. Returns NULL, or what is wrong with an entry, in
 * call memory. */
static const char *look(struct filter_call *call, const struct access *a, enum which last, struct access_order *o)
{
    o->action = DUNNO;
    for (enum which w = CLIENT; w <= last && o->action == DUNNO; w++) {
        struct filter_text key = key_of(call, w), found;
        if (!key.at || !filter_value_match(a->tables[w], key, &found))
            continue;
        const char *wrong = order_parse((struct str){found.at, found.len}, o);
        if (!wrong && o->action == PASS && w == RECIPIENT)
            wrong = "PASS in a recipient table";
        if (!wrong && o->action == QUARANTINE && !a->quarantines)
            wrong = "QUARANTINE is new in the tables: load the configuration again";
        o->which = w;
        char *why = filter_alloc(call, LIFE_CALL, 600);
        snprintf(why, 600, "%s %.*s: %.*s%s%s", table_names[w], (int)key.len, key.at, (int)found.len, found.at,
                 wrong ? ": " : "", wrong ? wrong : "");
        filter_because(call, why);
        if (wrong)
            return why;
    }
    return NULL;
}

/* ---- applying ---------------------------------------------------------------------------------------------------- */

static enum filter_verdict mark_quarantine(struct filter_call *call, const struct access_order *o)
{
    struct access_mark *mark = filter_keep(call, LIFE_TRANSACTION);
    if (!mark->set)
        snprintf(mark->why, sizeof mark->why, "%s table%s%.*s", table_names[o->which], o->text.len ? ": " : "",
                 STR_ARGS(o->text));
    mark->set = true;
    return VERDICT_CONTINUE;
}

static enum filter_verdict apply(struct filter_call *call, const struct access *a, const struct access_order *o)
{
    enum filter_stage stage = filter_stage(call);
    bool refusal = o->action == REJECT || o->action == DEFER || o->action == DROP;
    if (refusal && stage == FILTER_MAIL && a->delay && o->which < SENDER)
        return VERDICT_CONTINUE; /* delayed: each RCPT gets the refusal */
    if (refusal && stage == FILTER_HELO && o->which == CLIENT)
        return VERDICT_CONTINUE; /* refused at connect already: a deferred client may send EHLO, and is refused again at MAIL */
    if ((o->action == DISCARD || o->action == QUARANTINE) && stage < FILTER_MAIL)
        return VERDICT_CONTINUE; /* there is no message yet: MAIL asks again */
    switch (o->action) {
    case OK: return VERDICT_ACCEPT;
    case PASS: return stage == FILTER_RCPT ? VERDICT_CONTINUE : VERDICT_PASS; /* at RCPT: the file changed since MAIL */
    case REJECT: return filter_reject(call, "%.*s", STR_ARGS(o->text));
    case DEFER: return filter_defer(call, "%.*s", STR_ARGS(o->text));
    case DROP: return filter_drop(call, "%.*s", STR_ARGS(o->text));
    case DISCARD: return VERDICT_DISCARD;
    case QUARANTINE: return mark_quarantine(call, o);
    default: return VERDICT_CONTINUE;
    }
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    const struct access *a = filter_memory(filter_of(call));
    if (stage == FILTER_HEADERS) {
        const struct access_mark *mark = filter_keep(call, LIFE_TRANSACTION);
        return mark->set ? filter_quarantine(call, mark->why) : VERDICT_CONTINUE;
    }
    enum which last = stage == FILTER_CONNECT ? CLIENT
                      : stage == FILTER_HELO  ? HELO
                      : stage == FILTER_MAIL  ? SENDER
                                              : RECIPIENT;
    struct access_order o;
    const char *wrong = look(call, a, last, &o);
    return wrong ? filter_error(call, "%s", wrong) : apply(call, a, &o);
}

const struct filter_def access_filter = {
    .size = sizeof access_filter,
    .abi = FILTER_ABI,
    .name = "access",
    .doc = "accepts and refuses by tables of clients, HELO names, senders and recipients",
    .stages = 1u << FILTER_CONNECT | 1u << FILTER_HELO | 1u << FILTER_MAIL | 1u << FILTER_RCPT | 1u << FILTER_HEADERS,
    .flags = FILTER_BINARY_SAFE,
    .filter_memory = sizeof(struct access),
    .transaction_memory = sizeof(struct access_mark),
    .open = open_access,
    .hook = hook,
};
