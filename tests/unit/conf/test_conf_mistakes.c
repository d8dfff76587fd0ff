/* Mistakes that were once taken for good, or told at the wrong place: what is said on the wire, what belongs elsewhere,
 * what is told how often. The loader's other mistakes are in test_conf.c. */
#include "conf/conf.h"
#include "filters/builtin.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64];

static enum filter_verdict go_on(struct filter_call *call, enum filter_stage stage)
{
    return VERDICT_CONTINUE;
}

#define OPTION(key, ...)                                                                                               \
    {                                                                                                                  \
        .size = sizeof(struct filter_option), .name = key, __VA_ARGS__                                                 \
    }
static bool lists_open(struct filter *f)
{
    static const struct filter_option options[] = {OPTION("client", .type = TYPE_TABLE),
                                                   OPTION("peer", .type = TYPE_ADDRESS)};
    return filter_options(f, options, countof(options)) != NULL;
}

static const struct filter_def lists = {
    .size = sizeof lists, .abi = FILTER_ABI, .name = "lists", .hook = go_on, .open = lists_open};

/* As the host of scripts does: its own options are its to check. */
static bool script_open(struct filter *f)
{
    static const struct filter_option options[] = {OPTION("memory", .type = TYPE_SIZE),
                                                   OPTION("cpu", .type = TYPE_DURATION)};
    const struct filter_value *o = filter_options(f, options, countof(options));
    if (o && filter_value_integer(filter_value_get(o, "memory")) < 100)
        filter_complain(f, filter_value_get(o, "memory"), NULL, 0, "memory: 100 at least");
    return o != NULL;
}
static const struct filter_def script = {
    .size = sizeof script, .abi = FILTER_ABI, .name = ".script", .hook = go_on, .open = script_open};

static const char *declared;
static bool greedy_open(struct filter *f)
{
    const struct filter_option option = OPTION(declared, .type = TYPE_ANY);
    return filter_options(f, &option, 1) != NULL;
}
static const struct filter_def greedy = {
    .size = sizeof greedy, .abi = FILTER_ABI, .name = "greedy", .hook = go_on, .open = greedy_open};

const struct filter_def *const *builtin_filters(void)
{
    static const struct filter_def *const list[] = {&lists, &script, &greedy, NULL};
    return list;
}

static struct arena arena;
static struct complaints heard;

static struct conf *load(const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    arena_reset(&arena);
    heard = (struct complaints){.arena = &arena};
    return conf_load(path, &heard);
}

static unsigned said(uint32_t line, const char *what)
{
    unsigned n = 0;
    for (const struct complaint *c = heard.first; c; c = c->next)
        n += c->line == line && strstr(c->text.at, what);
    return n;
}

static void told(bool good, uint32_t line, const char *what, const char *text)
{
    struct conf *conf = load(text);
    if ((conf != NULL) != good || heard.errors + heard.warnings != 1 || said(line, what) != 1) {
        print_error("expected only line %u: %s, in:\n%s\n", line, what, text);
        complaints_say(stderr, &heard);
    }
    assert_int_equal(heard.errors + heard.warnings, 1);
    assert_int_equal(said(line, what), 1);
    assert_true((conf != NULL) == good);
    if (conf)
        conf_drop(conf);
}

static void refused(uint32_t line, const char *what, const char *text)
{
    told(false, line, what, text);
}

#define BASE "backend \"b\" { \"127.0.0.1:10025\" }\nlisten \"mx\" { \":2525\" }\n"

static void a_name_that_is_said_on_the_wire_is_one_word(void **state)
{
    static const char *const wrong[] = {"", "x y", "x\\r\\nMAIL FROM:<x>", "x\\n", "x\\t", "<x>", "b\\xc3\\xbc.test"};
    static const char *const good[] = {"mx1.example.org", "a_b-c", "[192.0.2.1]", "[IPv6:2001:db8::1]"};
    static const struct {
        const char *format, *what;
    } places[] = {
        {"hostname \"%s\"\n" BASE, "hostname: expected a name like"},
        {"listen \"x\" { \"127.0.0.1:9\", hostname = \"%s\" }\nbackend \"b\" { \"127.0.0.1:1\" }",
         "listen \"x\": \"hostname\": expected a name like \"mx1.example.org\", got \""},
        {"backend \"x\" { \"127.0.0.1:1\", helo = \"%s\" }\nlisten \"mx\" { \":9\" }",
         "backend \"x\": \"helo\": expected a name"},
        {"backend \"x\" { \"127.0.0.1:1\", tls_name = \"%s\" }\nlisten \"mx\" { \":9\" }",
         "backend \"x\": \"tls_name\": expected a name"},
    };
    char text[512];
    for (size_t i = 0; i < countof(places); i++) {
        for (size_t k = 0; k < countof(wrong); k++) {
            snprintf(text, sizeof text, places[i].format, wrong[k]);
            refused(1, places[i].what, text);
        }
        for (size_t k = 0; k < countof(good); k++) {
            snprintf(text, sizeof text, places[i].format, good[k]);
            struct conf *conf = load(text);
            assert_non_null(conf);
            conf_drop(conf);
        }
    }
}

static void names_of_blocks_and_filters_hold_no_control_characters(void **state)
{
    refused(1, "a name holds no control characters", "listen \"a\\nb\" { \":9\" }\nbackend \"b\" { \"127.0.0.1:1\" }");
    refused(4, "\"name\" holds no control characters", BASE "chain \"c\" {\n filter \"lists\" { name = \"a\\rb\" } }");
}

static void paths_that_are_shown_as_addresses_hold_no_control_characters(void **state)
{
    refused(1, "expected maildir:/PATH", "backend \"b\" { \"maildir:/a\\nb\" }\nlisten \"mx\" { \":9\" }");
    refused(1, "none of them a control character", "backend \"b\" { \"unix:/a\\nb\" }\nlisten \"mx\" { \":9\" }");
    refused(2, "none of them a control character",
            "backend \"b\" { \"127.0.0.1:1\" }\nlisten \"mx\" { \":9\", \"unix:/a\\nb\" }");
}

static void what_is_said_twice_is_told_once(void **state)
{
    refused(4, "hostname is said twice", "hostname \"a\"\n" BASE "hostname \"b\"");
    load("user \"no-such-user-here\"\n" BASE "user \"b\"");
    assert_int_equal(heard.errors, 2);
}

static void a_complaint_is_one_line_whatever_it_quotes(void **state)
{
    char *text = NULL;
    size_t size;
    assert_null(load("hostname \"a\\r\\nb\"\n" BASE));
    FILE *to = open_memstream(&text, &size);
    complaints_say(to, &heard);
    fclose(to);
    assert_non_null(strstr(text, "got \"a\\x0d\\x0ab\"\n"));
    assert_ptr_equal(strchr(text, '\n'), text + size - 1);
    free(text);
}

static void what_a_filter_has_no_use_for_is_no_option_of_it(void **state)
{
    static const char *const names[] = {"memory = \"1M\"", "cpu = \"1s\"", "http_allow = { \"a.test\" }",
                                        "http_allow = \"a.test\""};
    char text[512];
    for (size_t i = 0; i < countof(names); i++) {
        snprintf(text, sizeof text, BASE "chain \"c\" { filter \"lists\" {\n %s,\n} }", names[i]);
        refused(4, i < 2 ? "is for scripts: this filter is none" : "\"http_allow\" comes in a later version", text);
    }
    snprintf(text, sizeof text, BASE "chain \"c\" { filter \"lists\" { http_alow = 1 } }");
    refused(3, "unknown option \"http_alow\"", text);
    for (const struct complaint *c = heard.first; c; c = c->next)
        assert_null(strstr(c->text.at, "did you mean"));
}

static void what_is_wrong_with_an_option_of_scripts_is_told_once(void **state)
{
    static const char *const wrong[] = {"memory = 1", "memory = \"x\"", "memory = true", "memory = { 1 }",
                                        "memory = 99, cpu = 100000"};
    static const char *const what[] = {"memory: 100 at least", "expected a size", "expected a size", "expected a size",
                                       "memory: 100"};
    char text[512];
    for (size_t i = 0; i < countof(wrong); i++) {
        snprintf(text, sizeof text, BASE "chain \"c\" { filter \"%s\" {\n %s } }", path, wrong[i]);
        refused(4, what[i], text);
    }
}

static void two_keys_that_are_one_to_a_table_are_told(void **state)
{
    refused(5, "route \"r\": \"A.example\" and \"a.example\" are one and the same key",
            "backend \"b\" { \"127.0.0.1:1\" }\nbackend \"c\" { \"127.0.0.1:2\" }\nlisten \"mx\" { \":9\", route = "
            "\"r\" }\n"
            "route \"r\" { [\"a.example\"] = \"b\",\n [\"A.example\"] = \"c\", }");
    refused(5, "\"X@a.test\" and \"x@A.test\" are one and the same key",
            BASE "chain \"c\" { filter \"lists\" {\n client = { [\"X@a.test\"] = \"OK\",\n [\"x@A.test\"] = "
                 "\"REJECT\", [\"y\"] = \"OK\" } } }");
    refused(5, "are one and the same key",
            BASE "chain \"c\" { filter \"lists\" {\n client = { [\"192.0.2.1\"] = \"OK\", x = \"OK\",\n "
                 "[\"192.0.2.1/32\"] = \"REJECT\" } } }");
    struct conf *conf =
        load(BASE "chain \"c\" { filter \"lists\" { client = { \"a.test\", \"A.test\" } },\n"
                  "filter \"lists\" { client = { [\"192.0.2.1\"] = \"OK\", [\"192.0.2.0/24\"] = \"REJECT\" } } }");
    assert_non_null(conf);
    conf_drop(conf);
}

static void nobody_is_asked_at_port_0(void **state)
{
    refused(2, "dns: expected an IP address, with or without a port, got \"192.0.2.1:0\"",
            "dns { servers = { \"192.0.2.1\",\n \"192.0.2.1:0\" } }\n" BASE);
    refused(1, "got \"[::1]:0\"", "dns { \"[::1]:0\" }\n" BASE);
    refused(4, "option \"peer\": \"127.0.0.1:0\" cannot be dialled",
            BASE "chain \"c\" { filter \"lists\" {\n peer = \"127.0.0.1:0\" } }");
    refused(4, "option \"peer\": \":25\" cannot be dialled",
            BASE "chain \"c\" { filter \"lists\" {\n peer = \":25\" } }");
}

static void limits_are_judged_once_where_they_are_said(void **state)
{
#define MANY                                                                                                           \
    BASE "listen \"y\" { \":2526\" }\nlisten \"z\" { \":2527\", limits { errors = 3 }, timeouts = { data = 9 } }\n"
    told(true, 6, "rcpt_commands = 500 is below recipients = 1000", MANY "limits { junk = 1,\n rcpt_commands = 500 }");
    told(true, 5, "rcpt_commands = 10000 is below recipients = 20000", MANY "limits { recipients = 20000 }");
    told(true, 6, "recipients = 50: RFC 5321", MANY "limits {\n recipients = 50 }");
    told(false, 5, "size is below header_size", MANY "limits { header_size = \"60M\" }");
    told(false, 5, "end_by must be shorter", MANY "timeouts { end_reply = \"1m\" }");
    told(true, 6, "rcpt_commands = 500 is below recipients = 1000",
         MANY "listen \"own\" { \":9\",\n limits = { rcpt_commands = 500 } }");
    told(true, 6, "rcpt_commands = 500 is below recipients = 600",
         MANY
         "listen \"own\" { \":9\",\n limits { recipients = 600 } }\nlimits { rcpt_commands = 500, recipients = 300 }");
    told(true, 3, "stands in no chain", BASE "filter \"lists\" { }");
}

static void a_certificate_that_is_missing_is_told_once(void **state)
{
    refused(1, "No such file or directory",
            "tls \"t\" { certificate = \"/nonexistent\" }\nbackend \"b\" { \"127.0.0.1:1\" }\n"
            "listen \"x\" { \":9\", tls = \"t\", auth = \"offer\" }\nlisten \"y\" { \":10\", tls = \"t\", auth = "
            "\"require\" }");
    refused(3, "tls \"t\" has no certificate",
            "tls \"t\" { }\nbackend \"b\" { \"127.0.0.1:1\" }\n"
            "listen \"x\" { \":9\", tls = \"t\", auth = \"offer\" }");
    refused(3, "there is no tls \"t\"", BASE "listen \"x\" { \":9\", tls = \"t\", auth = \"offer\" }");
    refused(3, "is never offered", BASE "listen \"x\" { \":9\", auth = \"offer\" }");
}

static void each_identity_is_known_by_its_name(void **state)
{
    static const char *const names[] = {"none", "xclient", "xforward", "proxy", "proxy_v1"};
    assert_int_equal(countof(names), IDENTITIES);
    for (size_t i = 0; i < countof(names); i++) {
        char text[256];
        snprintf(text, sizeof text, "backend \"b\" { \"127.0.0.1:1\", identity = \"%s\" }\nlisten \"l\" { \":9\" }",
                 names[i]);
        struct conf *conf = load(text);
        assert_non_null(conf);
        assert_true(conf->smtp.backends[0].identity == i && str_equal(identity_name((enum identity)i), str_of(names[i])));
        conf_drop(conf);
    }
}

/* The names stand in the table of directives, and in relay, which must not know that table. */
static void no_filter_may_declare_an_option_that_every_filter_has(void **state)
{
    char *list = NULL, word[64];
    size_t size;
    unsigned n = 0;
    FILE *to = open_memstream(&list, &size);
    conf_say_defaults(to);
    fclose(to);
    char *at = strstr(list, "\nfilter\n") + 8;
    for (; sscanf(at, "    %60[a-z_]", word) == 1 && *at == ' '; at = strchr(at, '\n') + 1, n++) {
        declared = word;
        refused(3, "which every filter has already", BASE "chain \"c\" { filter \"greedy\" {} }");
    }
    assert_int_equal(n, 10);
    declared = "http_allow"; /* kept for later: told nowhere */
    refused(3, "which every filter has already", BASE "chain \"c\" { filter \"greedy\" {} }");
    free(list);
}

static int make_file(void **state)
{
    snprintf(path, sizeof path, "/tmp/test_conf.XXXXXX.script");
    int fd = mkstemps(path, 7);
    return fd < 0 || close(fd);
}

static int remove_file(void **state)
{
    arena_reset(&arena);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_is_said_on_the_wire_is_one_word),
        cmocka_unit_test(names_of_blocks_and_filters_hold_no_control_characters),
        cmocka_unit_test(paths_that_are_shown_as_addresses_hold_no_control_characters),
        cmocka_unit_test(what_is_said_twice_is_told_once),
        cmocka_unit_test(a_complaint_is_one_line_whatever_it_quotes),
        cmocka_unit_test(what_a_filter_has_no_use_for_is_no_option_of_it),
        cmocka_unit_test(what_is_wrong_with_an_option_of_scripts_is_told_once),
        cmocka_unit_test(two_keys_that_are_one_to_a_table_are_told),
        cmocka_unit_test(nobody_is_asked_at_port_0),
        cmocka_unit_test(limits_are_judged_once_where_they_are_said),
        cmocka_unit_test(a_certificate_that_is_missing_is_told_once),
        cmocka_unit_test(each_identity_is_known_by_its_name),
        cmocka_unit_test(no_filter_may_declare_an_option_that_every_filter_has),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
