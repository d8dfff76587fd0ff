/* try_arguments.c - the options of sluice try. */
#include "cli/try.h"
#include "conf/conf.h"
#include "try/words.h"
#include <getopt.h>

enum option_name {
    O_CONFIG = 'c',
    O_HELP = 'h',
    O_VERBOSE = 'v',
    O_QUIET = 'q',
    O_LISTEN = 256,
    O_CLIENT,
    O_HELO,
    O_RDNS,
    O_FROM,
    O_TO,
    O_MAIL_PARAMS,
    O_RCPT_PARAMS,
    O_AUTH,
    O_TLS,
    O_FACT,
    O_AS_RECEIVED,
    O_DNS,
    O_OFFLINE,
    O_NOW,
    O_REPLY,
    O_REAL_STORES,
    O_STORE,
    O_FILTER,
    O_OPTION,
    O_ENFORCE,
    O_SKIP,
    O_OUT,
    O_RAW,
    O_JSON,
    O_DIFF,
    O_STABLE,
    O_EXPECT
};
static const struct option long_options[] = {
    {"config", required_argument, NULL, O_CONFIG},
    {"help", no_argument, NULL, O_HELP},
    {"listen", required_argument, NULL, O_LISTEN},
    {"client", required_argument, NULL, O_CLIENT},
    {"helo", required_argument, NULL, O_HELO},
    {"rdns", required_argument, NULL, O_RDNS},
    {"from", required_argument, NULL, O_FROM},
    {"to", required_argument, NULL, O_TO},
    {"mail-params", required_argument, NULL, O_MAIL_PARAMS},
    {"rcpt-params", required_argument, NULL, O_RCPT_PARAMS},
    {"auth", required_argument, NULL, O_AUTH},
    {"tls", optional_argument, NULL, O_TLS},
    {"fact", required_argument, NULL, O_FACT},
    {"as-received", no_argument, NULL, O_AS_RECEIVED},
    {"dns", required_argument, NULL, O_DNS},
    {"offline", no_argument, NULL, O_OFFLINE},
    {"now", required_argument, NULL, O_NOW},
    {"reply", required_argument, NULL, O_REPLY},
    {"real-stores", no_argument, NULL, O_REAL_STORES},
    {"store", required_argument, NULL, O_STORE},
    {"filter", required_argument, NULL, O_FILTER},
    {"option", required_argument, NULL, O_OPTION},
    {"enforce", no_argument, NULL, O_ENFORCE},
    {"skip", required_argument, NULL, O_SKIP},
    {"out", required_argument, NULL, O_OUT},
    {"raw", no_argument, NULL, O_RAW},
    {"json", no_argument, NULL, O_JSON},
    {"diff", no_argument, NULL, O_DIFF},
    {"verbose", no_argument, NULL, O_VERBOSE},
    {"quiet", no_argument, NULL, O_QUIET},
    {"stable", no_argument, NULL, O_STABLE},
    {"expect", required_argument, NULL, O_EXPECT},
    {0},
};

void try_say_options(FILE *to)
{
    fputs("\nWho sends it:\n"
          "      --listen NAME         whose chain, of a listen or milter: the first that has one\n"
          "      --client IP[:PORT]    198.51.100.25:40025     --helo NAME   client.example\n"
          "      --rdns NAME|none      the client's verified name; else filters ask the DNS\n"
          "      --from ADDR           Return-Path, else From; '' is <>\n"
          "      --to ADDR             Delivered-To, X-Original-To, else the first of To; again for more\n"
          "      --mail-params TEXT    as behind MAIL FROM:<...>\n"
          "      --rcpt-params TEXT    likewise, of the --to before it\n"
          "      --auth USER[:METHOD]  --tls[=VERSION]  --fact tls.sni=NAME, server.ip=IP, helo.esmtp=0\n"
          "      --as-received         client, helo, rdns, envelope as the message's own trace tells them\n"
          "What it meets:\n"
          "      --dns FILE|off        a zone answers in place of the DNS; off: every question times out at once\n"
          "      --offline             no DNS but --dns FILE, and whoever dials is refused; filters that fail by it "
          "are skipped\n"
          "      --store FILE          lines of JSON that stand in the stores; below them is what a running process "
          "holds\n"
          "      --now TIME            the clock: RFC 3339, seconds since 1970, or \"received\"\n"
          "      --reply STAGE=TEXT    what the backend would say at mail, rcpt, message\n"
          "What is tried:\n"
          "      --filter NAME         of the chain, alone; or a script, NAME.lua, with --option K=V\n"
          "      --enforce             verdicts of filters under observe hold, too\n"
          "      --skip NAME           without this filter\n"
          "What is shown:\n"
          "      --out FILE|-          the message as it would leave\n"
          "      --raw                 its line ends and a \"From \" line in front stay as they are\n"
          "      --json  --diff  -v  -q  --stable (no clock in it)\n"
          "      --expect WORD         exit 0 if it comes to that (\"reject\", \"5xx\", \"451\"), else 1\n"
          "\nExit: 0 forwarded, 1 refused, 2 could not be tried, 3 discarded or quarantined, 75 deferred. The page is "
          "docs/try.md.\n",
          to);
}

static bool bad(const char *option, const char *got, const char *expected)
{
    fprintf(stderr, "sluice try: --%s: expected %s, got \"%s\"\n", option, expected, got);
    return false;
}

static bool wrong(const char *text)
{
    fprintf(stderr, "sluice try: %s\n", text);
    return false;
}

static void hint(const char *word)
{
    const char *names[countof(long_options)];
    size_t n = 0;
    for (const struct option *o = long_options; o->name; o++)
        names[n++] = o->name;
    struct str near = nearest_name(str_of(word + strspn(word, "-")), names, n);
    if (near.at)
        fprintf(stderr, "sluice try: unknown option %s (did you mean --%s?)\n", word, near.at);
    else
        fprintf(stderr, "sluice try: unknown option %s; see sluice try --help\n", word);
}

static bool take_rdns(struct try_arguments *a, const char *text)
{
    bool none = strcmp(text, "none") == 0;
    a->rdns_said = true;
    a->who.rdns = none ? RDNS_FAIL : RDNS_OK;
    a->who.rdns_name = none ? STR("") : str_of(text);
    return none || *text || bad("rdns", text, "a name or \"none\"");
}

static bool take_rcpt(struct try_arguments *a, const char *text)
{
    if (a->who.nrcpts == TRY_LIST_MOST)
        return bad("to", text, "at most 1000 of them");
    a->rcpts[a->who.nrcpts++] = (struct try_rcpt){words_address(str_of(text), &a->arena), STR("")};
    return true;
}

static bool take_rcpt_params(struct try_arguments *a, const char *text)
{
    if (!a->who.nrcpts)
        return bad("rcpt-params", text, "a --to before it");
    a->rcpts[a->who.nrcpts - 1].params = str_of(text);
    return true;
}

static bool take_now(struct try_arguments *a, const char *text)
{
    a->now_said = true;
    a->now_received = strcmp(text, "received") == 0;
    return a->now_received || words_time(str_of(text), &a->now_micros) ||
           bad("now", text, "a time like 2026-01-05T12:00:00Z, seconds since 1970, or \"received\"");
}

static bool take_listed(const char **list, size_t *n, const char *option, const char *text)
{
    if (*n == TRY_LIST_MOST)
        return bad(option, text, "at most 1000 of them");
    list[(*n)++] = text;
    return true;
}

static bool take_who(struct try_arguments *a, int option, const char *text)
{
    struct try_who *who = &a->who;
    struct str word = str_of(text);
    switch (option) {
    case O_CLIENT:
        a->client_said = true;
        return words_client(word, &a->arena, &who->ip, &who->port) ||
               bad("client", text, "an IP address, with or without a port");
    case O_HELO:
        a->helo_said = true;
        who->helo = word;
        return !str_has_control(word) || bad("helo", text, "a name");
    case O_RDNS: return take_rdns(a, text);
    case O_FROM:
        a->from_said = true;
        who->from = words_address(word, &a->arena);
        return true;
    case O_TO: return take_rcpt(a, text);
    case O_MAIL_PARAMS: who->mail_params = word; return true;
    case O_RCPT_PARAMS: return take_rcpt_params(a, text);
    case O_AUTH:
        who->authenticated = true;
        return words_auth(word, &a->arena, &who->user, &who->method) || bad("auth", text, "USER or USER:METHOD");
    case O_TLS:
        return words_tls(text ? word : STR("1.3"), &a->arena, &who->tls) || bad("tls", text, "a version like 1.3");
    case O_FACT:
        return words_fact(word, &a->arena, who) ||
               bad("fact", text,
                   "what a client decides and no other option says: tls..., server.ip, server.port, helo.esmtp=0");
    case O_REPLY:
        a->reply_said = true;
        return words_reply(word, &a->arena, who) ||
               bad("reply", text, "mail, rcpt or message, and a reply: rcpt=\"550 5.1.1 no\"");
    default: never("no option of who sends");
    }
}

static bool take_show(struct try_arguments *a, int option, const char *text)
{
    switch (option) {
    case O_CONFIG: a->path = text; return a->path_said = true;
    case O_HELP: return a->help = true;
    case O_VERBOSE: return a->verbose = true;
    case O_QUIET: return a->quiet = true;
    case O_LISTEN: a->listen = text; return true;
    case O_AS_RECEIVED: return a->as_received = true;
    case O_DNS:
        a->no_dns = strcmp(text, "off") == 0;
        a->zone = a->no_dns ? NULL : text;
        return true;
    case O_OFFLINE: return a->offline = true;
    case O_NOW: return take_now(a, text);
    case O_REAL_STORES:
        return wrong("--real-stores is for stores outside the gateway (lmdb, redis), which are not there yet: one in "
                     "memory is read, never "
                     "written to");
    case O_STORE: a->store = text; return true;
    case O_FILTER: a->filter = text; return true;
    case O_OPTION: return take_listed(a->options, &a->noptions, "option", text);
    case O_SKIP: return take_listed(a->skip, &a->nskip, "skip", text);
    case O_ENFORCE: return a->enforce = true;
    case O_OUT: a->out = text; return true;
    case O_RAW: return a->raw = true;
    case O_JSON: return a->json = true;
    case O_DIFF: return a->diff = true;
    case O_STABLE: return a->stable = true;
    case O_EXPECT:
        a->expect = text;
        return words_expect(str_of(text)) ||
               bad("expect", text, "a verdict like \"reject\", or a code like 5xx or 451");
    default: return false;
    }
}

static bool is_of_who(int option)
{
    return (option >= O_CLIENT && option <= O_FACT) || option == O_REPLY;
}

/* What goes together. */
static bool fits(const struct try_arguments *a)
{
    const struct tls_facts *f = &a->who.tls_facts;
    bool facts = f->cipher || f->sni.at || f->alpn.at || f->subject.at || f->issuer.at || f->fingerprint.at ||
                 f->bits || f->verified;
    if (facts && !a->who.tls.len)
        return wrong("--fact tls...: the client is in the clear; say --tls");
    if (a->noptions && !(a->filter && str_ends_nocase(str_of(a->filter), STR(".lua"))))
        return wrong("--option belongs to a script: --filter NAME.lua");
    if (a->now_received && !a->as_received)
        return wrong("--now received needs --as-received");
    if (a->as_received && !a->nmessages)
        return wrong("--as-received needs a message");
    if (!a->nmessages && (!a->from_said || !a->who.nrcpts))
        return wrong("without a message, --from and --to say what the envelope is");
    if (a->out && !a->nmessages)
        return wrong("--out needs a message");
    if (a->json && a->out && strcmp(a->out, "-") == 0)
        return wrong("--json and --out - both want the standard output");
    return true;
}

bool try_arguments_take(struct try_arguments *a, int argc, char **argv)
{
    bool good = true;
    int option;
    a->who = (struct try_who){.ip = STR("198.51.100.25"),
                              .port = 40025,
                              .helo = STR("client.example"),
                              .mail_params = STR(""),
                              .mail_reply = reply_named(REPLY_SENDER_OK),
                              .rcpt_reply = reply_named(REPLY_RCPT_OK),
                              .end_reply = reply_named(REPLY_OK)};
    a->who.rcpts = a->rcpts;
    opterr = 0;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:hvq", long_options, NULL)) != -1) {
        if (option == '?') {
            const char *word = argv[optind - 1];
            if (optopt)
                fprintf(stderr, "sluice try: %s needs a value\n", word);
            else
                hint(word);
            good = false;
        } else {
            good &= is_of_who(option) ? take_who(a, option, optarg) : take_show(a, option, optarg);
        }
    }
    a->messages = argv + optind;
    a->nmessages = (size_t)(argc - optind);
    if (!a->who.tls.len)
        return good && (a->help || fits(a));
    struct tls_facts *f = &a->who.tls_facts;
    f->version = a->who.tls.at;
    f->cipher = f->cipher ? f->cipher : "TLS_AES_256_GCM_SHA384";
    f->bits = f->bits ? f->bits : 256;
    struct str *texts[] = {&f->sni, &f->alpn, &f->subject, &f->issuer, &f->fingerprint, &f->common_name};
    for (size_t i = 0; i < countof(texts); i++)
        *texts[i] = texts[i]->at ? *texts[i] : STR("");
    return good && (a->help || fits(a));
}
