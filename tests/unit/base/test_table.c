/* What postmasters keep in files: formats, lookups, mistakes with their place, refresh, and that size does not matter.
 */
#include "base/table.h"
#include "base/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64];

static struct table *table_with(const char *text, char *error, size_t room)
{
    snprintf(path, sizeof path, "/tmp/test_table.%d", (int)getpid());
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    return table_open(path, error, room);
}

static struct table *good(const char *text)
{
    char error[256] = "";
    struct table *t = table_with(text, error, sizeof error);
    if (!t)
        print_error("%s\n", error);
    assert_non_null(t);
    return t;
}

static void found(struct table *t, const char *key, const char *value)
{
    struct str got = STR_NONE;
    bool yes = table_match(t, str_of(key), &got);
    assert_int_equal(yes, value != NULL);
    if (value)
        assert_string_equal(got.at, value);
}

static void found_ip(struct table *t, const char *ip, const char *value)
{
    struct str got = STR_NONE;
    bool yes = table_match_ip(t, str_of(ip), &got);
    assert_int_equal(yes, value != NULL);
    if (value)
        assert_string_equal(got.at, value);
}

static void bad(const char *text, unsigned line, const char *what)
{
    char error[512] = "", place[96];
    assert_null(table_with(text, error, sizeof error));
    snprintf(place, sizeof place, "%s:%u: ", path, line);
    if (!strstr(error, place) || !strstr(error, what))
        print_error("%s\n", error);
    assert_non_null(strstr(error, place));
    assert_non_null(strstr(error, what));
}

static void longest_prefix_wins(void **state)
{
    struct table *t = good("192.0.2.0/24 net\n192.0.2.128/25 half\n192.0.2.200 host\n2001:db8::/32 six\n"
                           "[2001:db8:1::]/48 inner\n0.0.0.0/0 any4\n");
    found_ip(t, "192.0.2.1", "net");
    found_ip(t, "192.0.2.129", "half");
    found_ip(t, "192.0.2.200", "host");
    found_ip(t, "198.51.100.1", "any4");
    found_ip(t, "2001:db8::1", "six");
    found_ip(t, "2001:db8:1::1", "inner");
    found_ip(t, "2001:db9::1", NULL);
    found_ip(t, "::ffff:192.0.2.200", "host"); /* one and the same client */
    found_ip(t, "not an ip", NULL);
    table_close(t);
}

static void addresses_are_looked_up_from_narrow_to_wide(void **state)
{
    struct table *t = good("ann+lists@example.org a\nann@example.org b\n@example.org c\nexample.net d\n.example.com e\n"
                           ".sub.example.com f\nroot@ g\nbob+x@ h\n* z\n");
    found(t, "Ann+Lists@Example.ORG", "a");
    found(t, "ann+other@example.org", "b");
    found(t, "eve@example.org", "c");
    found(t, "eve@example.net", "d");
    found(t, "eve@a.example.com", "e");
    found(t, "eve@a.sub.example.com", "f");
    found(t, "eve@example.com", "z"); /* ".example.com" is its subdomains only */
    found(t, "root@elsewhere.test", "g");
    found(t, "root+x@elsewhere.test", "g");
    found(t, "bob+x@elsewhere.test", "h");
    found(t, "bob+y@elsewhere.test", "z");
    found(t, "a.example.com", "e");
    found(t, "EXAMPLE.net", "d");
    found_ip(t, "192.0.2.1", "z");
    table_close(t);
}

static void an_address_literal_is_one_key_in_all_spellings(void **state)
{
    struct table *t =
        good("a@[IPv6:2001:DB8:0:0::25] a\n@[ipv6:2001:0db8::26] b\n[IPv6:2001:db8:0::27] c\n"
             "@[IPv6:::ffff:192.0.2.1] d\nx@[IPv6:1::2:3:4:5:6:7] e\n@[ipv6:::fffe:ffff] f\n[ipv6:nonsense] g\n");
    found(t, "a@[IPv6:2001:db8::25]", "a");
    found(t, "A@[ipv6:2001:db8:0:0:0:0:0:25]", "a");
    found(t, "b@[IPv6:2001:db8::25]", NULL);
    found(t, "b@[IPv6:2001:DB8::26]", "b");
    found(t, "b@[IPv6:2001:DB8::27]", "c");
    found(t, "b@[192.0.2.1]", "d");
    found(t, "b@[IPv6:::FFFF:192.0.2.1]", "d");
    found(t, "x@[ipv6:1:0:2:3:4:5:6:7]", "e");
    found(t, "x@[ipv6:::255.254.255.255]", "f");
    found(t, "x@[ipv6:nonsense]", "g");
    table_close(t);
}

static void null_reverse_path_has_its_own_key(void **state)
{
    struct table *t = good("<> null\n");
    found(t, "", "null");
    found(t, "x@y", NULL);
    table_close(t);
}

static void file_format_is_that_of_postfix(void **state)
{
    struct table *t =
        good("# comment\n\n  # indented comment\nkey\tREJECT  not\n   here,\n\tnor there\r\nalone\r\nkey second\n"
             "value-keeps-case Some Text \n");
    found(t, "key", "REJECT  not here, nor there"); /* of two the first counts */
    found(t, "alone", "OK");
    found(t, "value-keeps-case", "Some Text");
    assert_int_equal(table_count(t), 4);
    table_close(t);
    t = good("\xef\xbb\xbf" "192.0.2.1 one\nb two\n"); /* as some editors begin a file */
    found_ip(t, "192.0.2.1", "one");
    table_close(t);
    t = good("\xef\xbb\xbf");
    assert_int_equal(table_count(t), 0);
    table_close(t);
    t = good("");
    found(t, "x", NULL);
    table_close(t);
}

static void mistakes_have_a_place(void **state)
{
    bad("x y\n1\xef\xbc\x8e" "2.3.4 OK\n", 2, "not ASCII"); /* a dot of full width */
    bad("ok 1\n!192.0.2.0/24 no\n", 2, "not supported");
    bad("\n\n192.0.2.1/24 x\nlater y\n", 3, "did you mean \"192.0.2.0/24\"?");
    bad("192.0.2.0/33 x", 1, "0 to 32");
    bad("2001:db8::/129 x", 1, "0 to 128");
    bad("x y\n300.1.2.3 x\n", 2, "expected an address");
    bad("  y\n", 1, "continues");
    char error[256];
    assert_null(table_open("/nonexistent/table", error, sizeof error));
    assert_non_null(strstr(error, "/nonexistent/table: No such file"));
    assert_null(table_open("/tmp", error, sizeof error));
    assert_non_null(strstr(error, "not a regular file"));
}

static void lists_are_tables_with_OK(void **state)
{
    char error[256];
    struct str keys[] = {STR("192.0.2.0/24"), STR("Example.org")}, values[] = {STR("one"), STR("Two")};
    struct table *t = table_of(keys, NULL, 2, error, sizeof error);
    found_ip(t, "192.0.2.9", "OK");
    found(t, "x@example.ORG", "OK");
    assert_true(table_match(t, STR("example.org"), NULL));
    assert_false(table_refresh(t));
    table_close(t);
    t = table_of(keys, values, 2, error, sizeof error);
    found(t, "example.org", "Two");
    table_close(t);
    struct str wrong[] = {STR("a"), STR("10.1.2.3/8")};
    assert_null(table_of(wrong, NULL, 2, error, sizeof error));
    assert_non_null(strstr(error, "element 2"));
    t = table_of(NULL, NULL, 0, error, sizeof error);
    assert_int_equal(table_count(t), 0);
    table_close(t);
}

static void write_in_place(const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void put_there_whole(const char *text)
{
    char fresh[80];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *f = fopen(fresh, "w");
    fputs(text, f);
    fclose(f);
    assert_int_equal(rename(fresh, path), 0);
}

static void changed_file_is_read_again_and_a_broken_one_is_not(void **state)
{
    struct table *t = good("a one\n");
    log_set(&(struct log_settings){.level = LOG_ERROR + 1}, 1);
    assert_false(table_refresh(t));
    put_there_whole("a two-two\n");
    assert_true(table_refresh(t)); /* at once */
    found(t, "a", "two-two");
    assert_false(table_refresh(t));
    put_there_whole("a three\n1.2.3.4/8 x\n");
    assert_false(table_refresh(t));
    assert_false(table_refresh(t));
    found(t, "a", "two-two");
    unlink(path);
    assert_false(table_refresh(t)); /* between two steps of a replacement */
    found(t, "a", "two-two");
    table_close(t);
}

static void a_file_that_is_written_in_place_is_taken_when_it_is_finished(void **state)
{
    struct table *t = good("a one\nb two\n");
    log_set(&(struct log_settings){.level = LOG_ERROR + 1}, 1);
    const char *const unfinished[] = {"", "a one-and-a-ha", "a one-and-a-half\nb tw"};
    for (size_t i = 0; i < 3; i++) {
        write_in_place(unfinished[i]);
        for (int look = 0; look < 4; look++)
            assert_false(table_refresh(t));
        found(t, "a", "one");
        found(t, "b", "two");
    }
    write_in_place("a three\nb four\n");
    assert_false(table_refresh(t)); /* it may change yet */
    assert_true(table_refresh(t));
    found(t, "a", "three");
    write_in_place("a five\nb");
    struct table *next = table_open(path, (char[256]){0}, 256); /* a reload meanwhile */
    assert_true(table_take_over(next, t));
    found(next, "a", "three");
    table_close(t);
    found(next, "b", "four");
    write_in_place("a six\n");
    assert_false(table_refresh(next));
    assert_true(table_refresh(next));
    found(next, "a", "six");
    t = table_open(path, (char[256]){0}, 256);
    assert_false(table_take_over(t, next)); /* finished: what is there counts */
    unlink(path);
    table_close(t);
    table_close(next);
}

static void answers_outlive_the_next_ones(void **state)
{
    struct table *t = good("a first\nb second\n");
    struct str one, two;
    table_match(t, STR("a"), &one);
    for (int i = 0; i < 15; i++)
        table_match(t, STR("b"), &two);
    assert_string_equal(one.at, "first");
    table_close(t);
}

static void ten_thousand_networks_cost_no_more_than_ten(void **state)
{
    enum { MANY = 10000 };
    struct str *keys = must_alloc(MANY * sizeof *keys);
    struct arena arena = {0};
    char error[256];
    for (int i = 0; i < MANY; i++)
        keys[i] = arena_print(&arena, "10.%d.%d.0/24", i / 256, i % 256);
    struct table *t = table_of(keys, NULL, MANY, error, sizeof error);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(table_match_ip(t, i % 2 ? STR("10.39.15.9") : STR("10.39.16.9"), NULL), i % 2);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    assert_true(seconds < 2); /* a walk over all would take minutes under a sanitizer */
    table_close(t);
    arena_reset(&arena);
    free(keys);
}

static void cidr_is_parsed_strictly(void **state)
{
    struct cidr c;
    const char *why;
    assert_true(cidr_parse(STR("192.0.2.0/24"), &c, &why));
    assert_int_equal(c.bits, 24);
    assert_true(cidr_has(&c, STR("192.0.2.255")));
    assert_false(cidr_has(&c, STR("192.0.3.0")));
    assert_false(cidr_has(&c, STR("2001:db8::1")));
    assert_true(cidr_parse(STR("::ffff:192.0.2.0/120"), &c, &why));
    assert_true(cidr_has(&c, STR("192.0.2.7")));
    assert_true(cidr_parse(STR("::/0"), &c, &why));
    assert_true(cidr_has(&c, STR("2001:db8::1")));
    static const char *const wrong[] = {"",
                                        "x",
                                        "192.0.2",
                                        "192.0.2.0/",
                                        "192.0.2.0/x",
                                        "192.0.2.1/24",
                                        "192.0.2.0/33",
                                        "2001:db8::1/64",
                                        "/8",
                                        "1.2.3.4/-1",
                                        "192.0.2.0/24 "};
    for (size_t i = 0; i < countof(wrong); i++)
        assert_false(cidr_parse(str_of(wrong[i]), &c, &why));
}

static void network_of_an_ip_is_spelt_out(void **state)
{
    struct arena a = {0};
    assert_string_equal(cidr_network(STR("192.0.2.77"), 24, 64, &a).at, "192.0.2.0/24");
    assert_string_equal(cidr_network(STR("2001:db8:1:2:3::4"), 24, 64, &a).at, "2001:db8:1:2::/64");
    assert_string_equal(cidr_network(STR("::ffff:192.0.2.77"), 16, 64, &a).at, "192.0.0.0/16");
    assert_string_equal(cidr_network(STR("192.0.2.77"), 99, 64, &a).at, "192.0.2.77/32");
    assert_null(cidr_network(STR("x"), 24, 64, &a).at);
    arena_reset(&a);
}

static void table_at_walks_all_entries_with_their_lines(void **state)
{
    char error[200], name[] = "/tmp/sluice-table-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    dprintf(fd, "# x\nExample.org  REJECT\n  5.7.1 no\n192.0.2.0/24 OK\n");
    close(fd);
    struct table *t = table_open(name, error, sizeof error);
    assert_non_null(t);
    struct table_entry e;
    assert_true(table_at(t, 0, &e));
    assert_string_equal(e.key.at, "example.org");
    assert_string_equal(e.value.at, "REJECT 5.7.1 no");
    assert_int_equal(e.line, 2);
    assert_string_equal(e.file, name);
    assert_true(table_at(t, 1, &e));
    assert_string_equal(e.key.at, "192.0.2.0/24");
    assert_int_equal(e.line, 4);
    assert_false(table_at(t, 2, &e));
    table_close(t);
    unlink(name);
}

static void keys_that_are_one_are_found_whatever_stands_between(void **state)
{
    const struct str keys[] = {STR("x.test"),           STR("192.0.2.1"), STR("User@A.test"),
                               STR("::ffff:192.0.2.1"), STR("y.test"),    STR("user@a.TEST")};
    size_t one, other;
    assert_false(table_twins(keys, 3, &one, &other));
    assert_true(table_twins(keys, 4, &one, &other) && one == 1 && other == 3);
    assert_true(table_twins(keys, 6, &one, &other) && one == 2 && other == 5);
    assert_false(table_twins(NULL, 0, &one, &other));
    const struct str wrong[] = {STR("a"), STR("A"), STR("300.1.2.3")};
    assert_false(table_twins(wrong, 3, &one, &other)); /* table_of tells what is wrong first */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_at_walks_all_entries_with_their_lines),
        cmocka_unit_test(longest_prefix_wins),
        cmocka_unit_test(addresses_are_looked_up_from_narrow_to_wide),
        cmocka_unit_test(an_address_literal_is_one_key_in_all_spellings),
        cmocka_unit_test(null_reverse_path_has_its_own_key),
        cmocka_unit_test(file_format_is_that_of_postfix),
        cmocka_unit_test(mistakes_have_a_place),
        cmocka_unit_test(lists_are_tables_with_OK),
        cmocka_unit_test(changed_file_is_read_again_and_a_broken_one_is_not),
        cmocka_unit_test(a_file_that_is_written_in_place_is_taken_when_it_is_finished),
        cmocka_unit_test(answers_outlive_the_next_ones),
        cmocka_unit_test(ten_thousand_networks_cost_no_more_than_ten),
        cmocka_unit_test(cidr_is_parsed_strictly),
        cmocka_unit_test(network_of_an_ip_is_spelt_out),
        cmocka_unit_test(keys_that_are_one_are_found_whatever_stands_between),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
