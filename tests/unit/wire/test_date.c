/* test_date.c - dates of header fields (RFC 5322 3.3, 4.3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/date.h"
#include <time.h>

static void gives(const char *text, int64_t expected)
{
    int64_t got = -1;
    if (!date_read(str_of(text), &got) || got != expected)
        print_error("%s: %lld\n", text, (long long)got);
    assert_int_equal(got, expected);
}

enum { T = 880106106 }; /* 21 Nov 1997 09:55:06 UTC */

static void dates_are_read(void **unused)
{
    gives("Fri, 21 Nov 1997 09:55:06 +0000", T);
    gives("21 nov 97 09:55:06 -0600 (CST (x))", T + 6 * 3600);
    gives("Mon (no) 21 (x \\) y) November 097 09 : 55 : 06 GMT", T); /* the day is not believed */
    gives("Fri,21-Nov-1997 9:55:06", T);
    gives("Fri, 21 Nov 1997 09:55 Z", T - 6);
    gives("Fri, 21 Nov 1997 09:55:60 Z", T + 54);
    gives("1 Jan 2049 00:00 Z", 2493072000);
    gives("1 Jan 49 00:00 Z", 2493072000);
    gives("1 Jan 50 00:00 Z", -631152000);
    gives("29 Feb 2024 12:00 +0530", 1709188200);
    static const struct {
        const char *zone;
        int hours;
    } zones[] = {{"EST", 5},  {"edt", 4},   {"CST", 6},     {"CDT", 5},      {"MST", 7}, {"MDT", 6},
                 {"PST", 8},  {"PDT", 7},   {"UT", 0},      {"UTC", 0},      {"A", 0},   {"X", 0},
                 {"CEST", 0}, {"-0000", 0}, {"+01:00", -1}, {"GMT+0100", -1}};
    for (size_t i = 0; i < countof(zones); i++) {
        char text[60];
        snprintf(text, sizeof text, "Fri, 21 Nov 1997 09:55:06 %s", zones[i].zone);
        gives(text, T + zones[i].hours * 3600);
    }
}

static void there_is_no_such_date(void **unused)
{
    static const char *const texts[] = {"",
                                        "yesterday",
                                        "+0000",
                                        "31 Nov 2025 09:55 Z",
                                        "29 Feb 2025 09:55 Z",
                                        "0 Nov 2025 09:55 Z",
                                        "21 Foo 2025 09:55 Z",
                                        "21 Nov 2025 24:00 Z",
                                        "21 Nov 2025 09:60 Z",
                                        "21 Nov 2025 09:55:61 Z",
                                        "21 Nov 2025",
                                        "21 Nov 99999999999999999999 09:55 Z",
                                        "21 Nov 1899 09:55 Z",
                                        "21 Nov 5 09:55 Z",
                                        "(21 Nov 2025 09:55 Z",
                                        "2025-11-21T09:55:06Z",
                                        "21 No 2025 09:55 Z"};
    int64_t seconds;
    for (size_t i = 0; i < countof(texts); i++)
        assert_false(date_read(str_of(texts[i]), &seconds));
}

static void each_day_is_that_of_the_library(void **unused)
{
    for (time_t t = -2208988800; t < 253402300800; t += 86400 * 13 + 3607) {
        char text[80];
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm);
        gives(text, t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(dates_are_read), cmocka_unit_test(there_is_no_such_date),
                                       cmocka_unit_test(each_day_is_that_of_the_library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
