/* test_xattr.c - attributes of XCLIENT and XFORWARD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/xattr.h"

static struct arena arena;
static struct xattrs x;
static struct str word;

static int parse(const char *text)
{
    return xattrs_parse(str_of(text), UINT32_MAX & ~(uint32_t)XATTR_IDENT, &arena, &x, &word);
}

static void attributes_are_read(void **state)
{
    assert_int_equal(parse("NAME=mail.a.test ADDR=192.0.2.1 PORT=1234 PROTO=ESMTP HELO=h.test LOGIN=ann+40a.test"), 0);
    assert_string_equal(x.name.at, "mail.a.test");
    assert_string_equal(x.ip.at, "192.0.2.1");
    assert_string_equal(x.helo.at, "h.test");
    assert_string_equal(x.login.at, "ann@a.test");
    assert_true(x.port == 1234 && x.esmtp);
    assert_int_equal(x.known, XATTR_NAME | XATTR_ADDR | XATTR_PORT | XATTR_PROTO | XATTR_HELO | XATTR_LOGIN);
    assert_int_equal(parse("addr=IPv6:2001:DB8:0::1 proto=smtp source=LOCAL destaddr=::1 destport=25"), 0);
    assert_string_equal(x.ip.at, "2001:db8::1");
    assert_string_equal(x.target_ip.at, "::1");
    assert_true(!x.esmtp && x.local && x.target_port == 25);
}

static void unavailable_is_not_known(void **state)
{
    assert_int_equal(parse("NAME=[UNAVAILABLE] ADDR=[unavailable] HELO=[TEMPUNAVAIL]"), 0);
    assert_true(x.given == (XATTR_NAME | XATTR_ADDR | XATTR_HELO) && !x.known && !x.name_temporary);
    assert_int_equal(x.name.len + x.ip.len + x.helo.len, 0);
    assert_int_equal(parse("NAME=[TEMPUNAVAIL]"), 0);
    assert_true(x.name_temporary);
}

static void an_ipv4_address_in_ipv6_dress_is_that_ipv4_address(void **state)
{
    assert_int_equal(parse("ADDR=IPV6:::ffff:192.0.2.1 DESTADDR=IPV6:::FFFF:c633:6401"), 0);
    assert_true(str_equal(x.ip, STR("192.0.2.1")));
    assert_true(str_equal(x.target_ip, STR("198.51.100.1")));
}

static void what_is_malformed_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "NAME",
        "NAME=",
        "=x",
        "FOO=x",
        "IDENT=x",
        "NAME=a NAME=b",
        "ADDR=192.0.2",
        "ADDR=IPV6:192.0.2.1",
        "ADDR=x",
        "PORT=65536",
        "PORT=x",
        "PORT=-1",
        "PROTO=LMTP",
        "HELO=a+20b",
        "HELO=a+0Ab",
        "LOGIN=a+0",
        "LOGIN=a+zz",
        "LOGIN=a+00b",
        "SOURCE=x",
        "NAME=a+3Cb",
    };
    for (size_t i = 0; i < countof(bad); i++)
        if (parse(bad[i]) != REPLY_PARAM_BAD) {
            print_error("taken: %s\n", bad[i]);
            fail();
        }
    char text[300] = "LOGIN=";
    memset(text + 6, 'x', 255);
    assert_int_equal(parse(text), 0);
    memset(text + 6, 'x', 256);
    assert_int_equal(parse(text), REPLY_PARAM_BAD);
}

static int tear_down(void **state)
{
    arena_reset(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_read),
        cmocka_unit_test(unavailable_is_not_known),
        cmocka_unit_test(an_ipv4_address_in_ipv6_dress_is_that_ipv4_address), cmocka_unit_test(what_is_malformed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
