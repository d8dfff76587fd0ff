/* file.h: the whole of a file or a pipe up to a bound; what cannot be had is told by errno. */
#include "base/file.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64];

static void write_octets(size_t n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fputc("ab\0\n"[i % 4], f);
    fclose(f);
}

static void a_file_is_read_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 100000};
    for (size_t i = 0; i < countof(sizes); i++) {
        size_t len;
        write_octets(sizes[i]);
        char *text = file_read(path, 100000, &len);
        assert_non_null(text);
        assert_int_equal(len, sizes[i]);
        assert_int_equal(text[len], 0);
        for (size_t k = 0; k < len; k++)
            assert_int_equal(text[k], "ab\0\n"[k % 4]);
        free(text);
    }
}

static void what_is_too_long_missing_or_no_file_is_told(void **state)
{
    size_t len;
    write_octets(101);
    assert_null(file_read(path, 100, &len));
    assert_int_equal(errno, EFBIG);
    assert_null(file_read("/nonexistent/file", 100, &len));
    assert_int_equal(errno, ENOENT);
    assert_null(file_read("/tmp", 100, &len));
    assert_int_equal(errno, EISDIR);
}

static void a_pipe_is_read_to_its_end(void **state)
{
    int ends[2];
    size_t len;
    char text[64];
    for (size_t n = 6; n <= 7; n++) {
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], "octets!", n), n);
        close(ends[1]);
        snprintf(text, sizeof text, "/proc/self/fd/%d", ends[0]);
        char *got = file_read(text, 6, &len);
        if (n == 6)
            assert_string_equal(got, "octets");
        else
            assert_true(!got && errno == EFBIG);
        free(got);
        close(ends[0]);
    }
}

static int make(void **state)
{
    snprintf(path, sizeof path, "/tmp/test_file.XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int take_away(void **state)
{
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole),
        cmocka_unit_test(what_is_too_long_missing_or_no_file_is_told),
        cmocka_unit_test(a_pipe_is_read_to_its_end),
    };
    return cmocka_run_group_tests(tests, make, take_away);
}
