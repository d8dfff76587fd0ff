/* test_sasl.c - mechanism names, the form of responses, and who it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/codec.h"
#include "wire/sasl.h"

static struct arena arena;

static void check(const char *mechanism, struct str plain, const char *expected)
{
    struct str name = sasl_user(str_of(mechanism), 0, base64_encode(plain, &arena), &arena);
    if (expected) {
        assert_non_null(name.at);
        assert_string_equal(name.at, expected);
    } else {
        assert_null(name.at);
    }
}

static void the_name_is_learned_where_it_is_said(void **state)
{
    check("PLAIN", STR("\0ann@a.test\0secret"), "ann@a.test");
    check("plain", STR("admin\0ann\0secret"), "ann");
    check("LOGIN", STR("ann"), "ann");
    check("SCRAM-SHA-256", STR("n,,n=ann,r=rOprNGfwEbeRWgbNEkqO"), "ann");
    check("SCRAM-SHA-1", STR("y,a=admin,n=a=2Cb=3Dc,r=x"), "a,b=c");
    check("XOAUTH2", STR("user=ann@a.test\001auth=Bearer x\001\001"), "ann@a.test");
    check("OAUTHBEARER", STR("n,a=ann@a.test,\001host=h\001auth=Bearer x\001\001"), "ann@a.test");
    check("CRAM-MD5", STR("ann smith 0123456789abcdef"), "ann smith");
}

static void no_name_is_learned_where_there_is_none(void **state)
{
    check("PLAIN", STR("ann"), NULL);
    check("PLAIN", STR("\0\0secret"), NULL);
    check("PLAIN", STR("\0a\nb\0secret"), NULL);
    check("PLAIN", STR("\0a\xff\0secret"), NULL);
    check("LOGIN", STR(""), NULL);
    check("CRAM-MD5", STR("x"), NULL);
    check("XOAUTH2", STR("auth=Bearer x"), NULL);
    check("GSSAPI", STR("\0ann\0x"), NULL);
    char name[300] = {0};
    memset(name, 'x', sizeof name);
    check("LOGIN", (struct str){name, 255}, arena_str(&arena, (struct str){name, 255}).at);
    check("LOGIN", (struct str){name, 256}, NULL);
    assert_null(sasl_user(STR("LOGIN"), 1, STR("c2VjcmV0"), &arena).at); /* the second response is the password */
    assert_null(sasl_user(STR("LOGIN"), 0, STR("not base64!"), &arena).at);
}

static void forms_are_checked(void **state)
{
    static const char *const good[] = {"", "=", "QQ==", "QUI=", "QUJD", "+/+/"};
    static const char *const bad[] = {"Q", "QQ=", "QQ", "Q===", "=QQQ", "QQ==QQ==", "QU D", "QUJ\t", "*", "QUJ-"};
    for (size_t i = 0; i < countof(good); i++)
        assert_true(sasl_response_is_valid(str_of(good[i])));
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(sasl_response_is_valid(str_of(bad[i])));
    assert_true(sasl_mechanism_is_valid(STR("SCRAM-SHA-256")) && sasl_mechanism_is_valid(STR("x_1")));
    assert_false(sasl_mechanism_is_valid(STR("")) || sasl_mechanism_is_valid(STR("A B")) ||
                 sasl_mechanism_is_valid(STR("ABCDEFGHIJKLMNOPQRSTU")));
}

static int tear_down(void **state)
{
    arena_reset(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_name_is_learned_where_it_is_said),
        cmocka_unit_test(no_name_is_learned_where_there_is_none),
        cmocka_unit_test(forms_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
