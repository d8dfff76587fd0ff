/* test_idn.c - one spelling for one domain. */
#include "base/idn.h"
#include "base/table.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void folds(const char *from, const char *to)
{
    char room[IDN_ROOM];
    struct str s = idn_fold(str_of(from), room);
    if (!str_equal(s, str_of(to)))
        fail_msg("%s: %.*s, not %s", from, STR_ARGS(s), to);
}

static void all_spellings_of_a_domain_are_one(void **state)
{
    folds("Example.ORG", "example.org");
    folds("XN--Bcher-KVA.example", "xn--bcher-kva.example");
    folds("b\xc3\xbc" "cher.example", "xn--bcher-kva.example");
    folds("B\xc3\x9c" "CHER.example", "xn--bcher-kva.example");
    folds("bu\xcc\x88" "cher.example", "xn--bcher-kva.example");                                /* decomposed */
    folds("\xef\xbd\x82\xc3\xbc\xef\xbd\x83\xef\xbd\x88" "er.example", "xn--bcher-kva.example"); /* b, c, h of full width */
    folds("b\xc3\xbc\xe2\x80\x8d" "cher.example", "xn--bcher-kva.example");                     /* a joiner */
    folds("b\xc3\xbc\xc2\xad" "cher.example", "xn--bcher-kva.example");                         /* a soft hyphen */
    folds("b\xc3\xbc" "cher\xe3\x80\x82" "example", "xn--bcher-kva.example");                   /* an ideographic full stop */
    folds(".b\xc3\xbc" "cher.example", ".xn--bcher-kva.example");
    folds("i\xe2\x9d\xa4.Example", "xn--i-7iq.example");
    folds("", "");
    folds(".", ".");
}

static void what_is_no_domain_is_lower_case_only(void **state)
{
    folds("\xff\xfe.X", "\xff\xfe.x");
    folds("a b\xc3\xbc.Example", "a b\xc3\xbc.example");
    char room[IDN_ROOM], zero[] = "A\0\xc3\xbc";
    assert_memory_equal(idn_fold((struct str){zero, 4}, room).at, "a\0\xc3\xbc", 4);
    char longer[3000];
    memset(longer, 'A', sizeof longer);
    longer[0] = '\xc3';
    assert_int_equal(idn_fold((struct str){longer, sizeof longer}, room).len, IDN_ROOM);
    longer[100] = '@';
    assert_true(idn_fold_address((struct str){longer, sizeof longer}, room).len <= IDN_ROOM);
}

static void a_label_that_is_none_hides_no_other(void **state)
{
    folds("XN--ZZZZZZZZ99.b\xc3\xbc" "cher.example", "xn--zzzzzzzz99.xn--bcher-kva.example");
    folds("B\xc3\xbc--x.B\xc3\x9c" "CHER.example", "b\xc3\xbc--x.xn--bcher-kva.example");
    folds("b\xc3\xbc--x\xe3\x80\x82" "b\xc3\xbc" "cher\xef\xbc\x8e" "example", "b\xc3\xbc--x.xn--bcher-kva.example");
    folds(".-\xc3\xbc.b\xc3\xbc" "cher.example", ".-\xc3\xbc.xn--bcher-kva.example");
    folds("-\xc3\xbc..b\xc3\xbc" "cher.example.", "-\xc3\xbc..xn--bcher-kva.example.");
    folds("\xef\xbb\xbf", "\xef\xbb\xbf"); /* of which nothing would be left */
    char error[256];
    struct str sub[] = {STR(".xn--bcher-kva.example")};
    struct table *t = table_of(sub, NULL, 1, error, sizeof error);
    assert_true(table_match(t, STR("a@xn--zzzzzzzz99.b\xc3\xbc" "cher.example"), NULL));
    table_close(t);
    char room[IDN_ROOM], longest[IDN_ROOM];
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 4 == 3 ? '.' : i % 4 == 0 ? '\xc3' : i % 4 == 1 ? '\xbc' : 'x'; /* each label grows */
    memcpy(longest, "\xc3\xbc--", 4);
    assert_true(idn_fold((struct str){longest, sizeof longest - 1}, room).len < IDN_ROOM);
}

static void keys_of_tables_meet_in_any_spelling(void **state)
{
    static const char *const spellings[] = {"xn--bcher-kva.example", "b\xc3\xbc" "cher.example", "B\xc3\x9c" "CHER.EXAMPLE"};
    char error[256], address[100];
    for (size_t k = 0; k < 3; k++) {
        char at[80];
        snprintf(at, sizeof at, "@%s", spellings[k]);
        struct str keys[] = {str_of(at)};
        struct table *t = table_of(keys, NULL, 1, error, sizeof error);
        for (size_t i = 0; i < 3; i++) {
            snprintf(address, sizeof address, "J\xc3\xb6rg@%s", spellings[i]);
            assert_true(table_match(t, str_of(address), NULL));
        }
        assert_false(table_match(t, STR("i@other.example"), NULL));
        table_close(t);
    }
    struct str sub[] = {STR(".b\xc3\xbc" "cher.example")};
    struct table *t = table_of(sub, NULL, 1, error, sizeof error);
    assert_true(table_match(t, STR("a@mail.xn--bcher-kva.example"), NULL));
    table_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_spellings_of_a_domain_are_one),
        cmocka_unit_test(what_is_no_domain_is_lower_case_only),
        cmocka_unit_test(a_label_that_is_none_hides_no_other),
        cmocka_unit_test(keys_of_tables_meet_in_any_spelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
