/* Rows of limits.def and timeouts.def: each is a directive with its default, bounds and text, and what is said for it
 * in a file, or in a listener, is found in its own member of the model and in no other. */
#include "conf/parts.h"
#include "filters/builtin.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define BASE "backend \"b\" { \"127.0.0.1:1\" }\nlisten \"l\" { \":2525\" }\n"

const struct filter_def *const *builtin_filters(void)
{
    static const struct filter_def *const none[] = {NULL};
    return none;
}

static char path[64];
static struct arena arena;

/* NULL: refused, and `heard` is what was complained of first. */
static const char *heard;
static struct conf *load(const char *text)
{
    struct complaints complaints = {.arena = &arena};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    arena_reset(&arena);
    struct conf *conf = conf_load(path, &complaints);
    heard = complaints.first ? complaints.first->text.at : "";
    return conf;
}

static struct conf *load_with(const char *block, const char *key, const char *value)
{
    char text[512];
    snprintf(text, sizeof text, BASE "%s { %s = %s }", block, key, value);
    return load(text);
}

struct row {
    const char *block, *key, *preset, *doc;
    enum conf_place place;
    enum filter_type type;
    double least, most;
    uint64_t (*get)(const struct conf *), (*get_own)(const struct conf *); /* at the top; of the first listener */
};

#define LIMIT(name, ...)                                                                                               \
    static uint64_t limit_##name(const struct conf *conf)                                                              \
    {                                                                                                                  \
        return conf->smtp.limits.name;                                                                                      \
    }                                                                                                                  \
    static uint64_t own_limit_##name(const struct conf *conf)                                                          \
    {                                                                                                                  \
        return conf->smtp.listens[0].visit.limits.name;                                                                           \
    }
#include "mail/limits.def"
#undef LIMIT
#define TIMEOUT(name, ...)                                                                                             \
    static uint64_t timeout_##name(const struct conf *conf)                                                            \
    {                                                                                                                  \
        return conf->smtp.timeouts.name;                                                                                    \
    }                                                                                                                  \
    static uint64_t own_timeout_##name(const struct conf *conf)                                                        \
    {                                                                                                                  \
        return conf->smtp.listens[0].timeouts.name;                                                                         \
    }
#include "smtp/timeouts.def"
#undef TIMEOUT

static const struct row rows[] = {
#define LIMIT(name, type, value, low, high, unit, text)                                                                \
    {"limits", #name, value, text, IN_LIMITS, TYPE_##unit, low, high, limit_##name, own_limit_##name},
#include "mail/limits.def"
#undef LIMIT
#define TIMEOUT(name, value, low, high, text)                                                                          \
    {"timeouts", #name, value, text, IN_TIMEOUTS, TYPE_DURATION, low, high, timeout_##name, own_timeout_##name},
#include "smtp/timeouts.def"
#undef TIMEOUT
};

static uint64_t in_model(const struct row *r, double value)
{
    return (uint64_t)(r->type == TYPE_DURATION ? value * 1000 + 0.5 : value);
}

static bool one_for_all(const struct row *r) /* refused in a listener */
{
    static const char *const shared[] = {"limits.stress", "timeouts.pool_idle", "timeouts.pool_age", "timeouts.drain"};
    char name[64];
    snprintf(name, sizeof name, "%s.%s", r->block, r->key);
    for (size_t i = 0; i < countof(shared); i++)
        if (!strcmp(shared[i], name))
            return true;
    return false;
}

static void each_row_is_a_directive(void **state)
{
    size_t n = 0;
    for (size_t i = 0; i < countof(rows); i++) {
        const struct directive *d = directive_find(rows[i].place, str_of(rows[i].key));
        assert_non_null(d);
        assert_string_equal(d->preset, rows[i].preset);
        assert_string_equal(d->doc, rows[i].doc);
        assert_true(d->type == rows[i].type && d->least == rows[i].least && d->most == rows[i].most && d->most > 0);
    }
    for (const struct directive *d; (d = directive_at(n)); n++)
        if (d->where == IN_LIMITS || d->where == IN_TIMEOUTS) {
            size_t same = 0;
            for (size_t i = 0; i < countof(rows); i++)
                same += rows[i].place == d->where && !strcmp(rows[i].key, d->name);
            assert_int_equal(same, 1);
        }
}

static void each_default_is_in_the_model(void **state)
{
    struct conf *unsaid = load(BASE);
    assert_non_null(unsaid);
    for (size_t i = 0; i < countof(rows); i++) {
        double number = 0;
        uint64_t octets = 0;
        if (rows[i].type == TYPE_DURATION)
            assert_true(value_parse_duration(str_of(rows[i].preset), &number));
        else
            assert_true(value_parse_size(str_of(rows[i].preset), &octets));
        number = rows[i].type == TYPE_DURATION ? number : (double)octets;
        assert_int_equal(rows[i].get(unsaid), in_model(&rows[i], number));
        assert_int_equal(rows[i].get_own(unsaid), in_model(&rows[i], number));
    }
    conf_drop(unsaid);
}

/* One value at the top and another in the listener: each is where the row's member is, and nowhere else. */
static void what_is_said_is_in_its_own_member(void **state)
{
    struct conf *unsaid = load(BASE);
    for (size_t i = 0; i < countof(rows); i++) {
        const struct row *r = &rows[i];
        bool lower = !strcmp(r->key, "size"),
             shorter = !strcmp(r->key, "end_reply"); /* what must be below them goes along */
        const char *with = lower ? ", header_size = 1024" : shorter ? ", end_by = 10" : "";
        double top = lower ? 5000 : floor(r->least) + 70, own = top + 3;
        char text[512], inside[128] = "";
        if (!one_for_all(r))
            snprintf(inside, sizeof inside, ", %s = { %s = %.0f%s }", r->block, r->key, own, with);
        snprintf(text, sizeof text,
                 "backend \"b\" { \"127.0.0.1:1\" }\nlisten \"l\" { \":2525\"%s }\n%s { %s = %.0f%s }", inside,
                 r->block, r->key, top, with);
        struct conf *conf = load(text);
        if (!conf)
            fail_msg("%s: %s", text, heard);
        assert_int_equal(r->get(conf), in_model(r, top));
        assert_int_equal(r->get_own(conf), in_model(r, one_for_all(r) ? top : own));
        for (size_t k = 0; k < countof(rows); k++)
            if (k != i && !strstr(with, rows[k].key))
                assert_int_equal(rows[k].get(conf), rows[k].get(unsaid));
        conf_drop(conf);
    }
    conf_drop(unsaid);
}

static void refused(const struct row *r, double value)
{
    char number[32], range[64];
    snprintf(number, sizeof number, "%.14g", value);
    snprintf(range, sizeof range, "expected %.14g to %.14g", r->least, r->most);
    assert_null(load_with(r->block, r->key, number));
    if (!strstr(heard, range) || !strstr(heard, r->key))
        fail_msg("%s = %s: %s", r->key, number, heard);
}

static void each_bound_is_held(void **state)
{
    for (size_t i = 0; i < countof(rows); i++) {
        refused(&rows[i], rows[i].most + 1);
        if (rows[i].least > 0)
            refused(&rows[i], ceil(rows[i].least) - 1);
    }
}

static int open_file(void **state)
{
    snprintf(path, sizeof path, "/tmp/test_limits.XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int close_file(void **state)
{
    arena_reset(&arena);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_a_directive),
        cmocka_unit_test(each_default_is_in_the_model),
        cmocka_unit_test(what_is_said_is_in_its_own_member),
        cmocka_unit_test(each_bound_is_held),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
