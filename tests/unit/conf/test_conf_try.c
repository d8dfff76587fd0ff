/* A configuration loaded to try a chain: without certificates, keys and user, from a file, a text, or a text behind a file. */
#include "conf/conf.h"
#include "filters/builtin.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define BASE "backend \"b\" { \"127.0.0.1:10025\" }\nlisten \"mx\" { \":2525\" }\n"

static char path[64];
static struct arena arena;
static struct complaints heard;

const struct filter_def *const *builtin_filters(void)
{
    static const struct filter_def *const none[] = {NULL};
    return none;
}

static const char *write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static int make_file(void **state)
{
    snprintf(path, sizeof path, "/tmp/test_conf_try.XXXXXX");
    int fd = mkstemp(path);
    heard = (struct complaints){.arena = &arena};
    return fd < 0 || close(fd);
}

static int drop_file(void **state)
{
    arena_reset(&arena);
    return unlink(path);
}

static void who_only_tries_needs_no_keys_and_no_user(void **state)
{
    static const char text[] = "tls \"t\" { certificate = \"/nonexistent/c.pem\" }\nuser \"no-such-user\"\n"
                               "backend \"b\" { \"127.0.0.1:10025\", tls = \"t\" }\nlisten \"mx\" { \":2525\", tls = \"t\", require_tls = true }\n";
    assert_null(conf_load(write_file(text), &heard));
    arena_reset(&arena);
    heard = (struct complaints){.arena = &arena};
    struct conf *conf = conf_load_to_try(write_file(text), NULL, &heard);
    assert_non_null(conf);
    assert_null(conf->smtp.listens[0].tls);
    assert_true(conf->smtp.listens[0].require_tls);
    conf_drop(conf);
    assert_null(conf_load_to_try(write_file("listen \"mx\" { \":2525\", tls = \"u\" }\n"), NULL, &heard));
    assert_non_null(heard.last);
    assert_int_equal(heard.last->line, 1);
    assert_non_null(strstr(heard.last->text.at, "there is no tls \"u\""));
}

static void a_text_stands_behind_a_file_or_alone(void **state)
{
    heard = (struct complaints){.arena = &arena};
    struct conf *conf = conf_load_to_try(write_file(BASE), "chain \"more\" { }\n", &heard);
    assert_non_null(conf);
    assert_int_equal(conf->smtp.mail.nchains, 1);
    conf_drop(conf);
    assert_non_null(conf = conf_load_to_try(NULL, BASE, &heard));
    conf_drop(conf);
    assert_null(conf_load_to_try(NULL, "nonsense", &heard));
}

static void a_value_of_lua_is_told_from_a_text(void **state)
{
    static const char *const values[] = {"1", "-2.5", "true", "\"x\"", "{ 1, a = {} }", "'y' .. 'z'"};
    static const char *const texts[] = {"", "word", "two words", "1, 2", "nil", "f()", "function() end", "(", "192.0.2.1", "5m", "(function() while true do end end)()"};
    for (size_t i = 0; i < countof(values); i++)
        assert_true(conf_is_value(values[i]));
    for (size_t i = 0; i < countof(texts); i++)
        assert_false(conf_is_value(texts[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_only_tries_needs_no_keys_and_no_user),
        cmocka_unit_test(a_text_stands_behind_a_file_or_alone),
        cmocka_unit_test(a_value_of_lua_is_told_from_a_text),
    };
    return cmocka_run_group_tests(tests, make_file, drop_file);
}
