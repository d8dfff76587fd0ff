/* test_log.c - lines of the log are whole, whatever values and targets do. */
#include "base/log.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char folder[] = "/tmp/sluice-log-XXXXXX", path[64];

static int open_target(enum log_format format)
{
    struct log_settings s = {.format = format, .target = LOG_TO_FILE, .path = str_of(path)};
    char error[256];
    int fd = log_open(&s, (unsigned)-1, error, sizeof error);
    assert_true(fd > 2);
    log_set(&s, fd);
    return fd;
}

/* What is in the file. */
static struct str text_of(const char *name)
{
    static char text[4 << 20];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n >= 0);
    text[n] = 0;
    return (struct str){text, (size_t)n};
}

static struct str written(void)
{
    return text_of(path);
}

static size_t count(struct str s, const char *what)
{
    size_t n = 0, len = strlen(what);
    for (size_t at; (at = str_find(s, str_of(what))) < s.len; s = str_part(s, at + len, s.len))
        n++;
    return n;
}

/* The thread of the log writes up to 50 ms later. */
static void wait_for(const char *name, const char *what, size_t n)
{
    for (int i = 0; i < 1000 && count(text_of(name), what) < n; i++)
        usleep(10000);
    assert_int_equal(count(text_of(name), what), n);
}

static void line_of_bad_values(char fill)
{
    char bad[3000];
    struct str list[LIST_MOST];
    memset(bad, fill, sizeof bad);
    log_begin(LOG_INFO, "test");
    for (size_t i = 0; i < LIST_MOST; i++)
        list[i] = (struct str){bad, 12};
    log_list("to", LIST_MOST, list, 7);
    for (size_t i = 0; i < 9; i++)
        log_text("value", (struct str){bad, sizeof bad});
    log_number("last", 1);
    log_end();
}

static void no_value_takes_the_room_of_those_behind_it(void **state)
{
    for (enum log_format f = LOG_LOGFMT; f <= LOG_JSON; f++) {
        unlink(path);
        open_target(f);
        for (int i = 0; i < 20; i++) {
            line_of_bad_values('\xff');
            line_of_bad_values('\x01');
            line_of_bad_values('"');
        }
        log_flush();
        struct str s = written();
        assert_int_equal(count(s, f == LOG_JSON ? "...\",\"last\":1}\n" : " last=1\n"), 60);
        assert_int_equal(count(s, "\n"), 60);
    }
}

/* Quotes, where an octet asks for them, at each place of values of each length (logfmt). */
static void one_octet_of_a_value_decides_on_its_quotes(void **state)
{
    char want[200], value[24];
    unlink(path);
    open_target(LOG_LOGFMT);
    for (int octet = 1; octet < 128; octet++)
        for (size_t len = 1; len < sizeof value; len += len < 9 ? 1 : 7)
            for (size_t at = 0; at < len; at++) {
                memset(value, 'a', sizeof value);
                value[at] = (char)octet;
                log_begin(LOG_INFO, "octet");
                log_number("n", octet * 10000 + (int)len * 100 + (int)at);
                log_text("value", (struct str){value, len});
                log_end();
                log_flush();
            }
    log_begin(LOG_INFO, "last");
    log_end();
    log_flush();
    wait_for(path, "event=last", 1);
    struct str all = written();
    for (int octet = 1; octet < 128; octet++)
        for (size_t len = 1; len < sizeof value; len += len < 9 ? 1 : 7)
            for (size_t at = 0; at < len; at++) {
                bool quoted = octet <= ' ' || octet == '"' || octet == '\\' || octet == 127;
                snprintf(want, sizeof want, " n=%d value=%s", octet * 10000 + (int)len * 100 + (int)at, quoted ? "\"" : "");
                size_t found = str_find(all, str_of(want));
                assert_true(found < all.len);
                assert_true(quoted || all.at[found + strlen(want)] != '"');
                all = str_part(all, found, all.len);
            }
}

static void a_value_is_cut_between_characters(void **state)
{
    char text[3000];
    unlink(path);
    open_target(LOG_LOGFMT);
    for (size_t i = 0; i < sizeof text; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    for (size_t from = 0; from < 2; from++) {
        text[0] = 'x';
        log_begin(LOG_INFO, "test");
        log_text("v", (struct str){text + 3 - from, sizeof text - 10});
        log_pieces("w", 2, (struct str[]){{"\"", from}, {text + 3, sizeof text - 10}});
        log_end();
        text[2] = 'x';
    }
    log_flush();
    struct str s = written();
    assert_true(str_is_utf8(s));
    assert_int_equal(count(s, "\\x"), 0);
    assert_int_equal(count(s, "\xe2\x82\xac..."), 4);
}

static void what_was_written_in_part_swallows_no_other_line(void **state)
{
    struct rlimit before, small;
    unlink(path);
    open_target(LOG_LOGFMT);
    signal(SIGXFSZ, SIG_IGN);
    log_say(LOG_INFO, "first");
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = written().len + 20;
    setrlimit(RLIMIT_FSIZE, &small);
    log_say(LOG_INFO, "the disk is full in the middle of this one");
    log_say(LOG_INFO, "and at the beginning of this one");
    setrlimit(RLIMIT_FSIZE, &before);
    log_say(LOG_INFO, "last");
    log_say(LOG_INFO, "very last");
    signal(SIGXFSZ, SIG_DFL);
    struct str s = written();
    assert_int_equal(count(s, "\n"), 4);
    assert_int_equal(count(s, "\nts="), 3);
    assert_int_equal(count(s, "msg=last\n"), 1);
}

static void syslog_gets_lines_of_any_length_whole(void **state)
{
    static char text[65536];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char error[256];
    snprintf(name.sun_path, sizeof name.sun_path, "%s/syslog", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    for (enum log_format f = LOG_LOGFMT; f <= LOG_JSON; f++) {
        struct log_settings s = {.format = f, .target = LOG_TO_SYSLOG, .path = str_of(name.sun_path)};
        log_set(&s, log_open(&s, (unsigned)-1, error, sizeof error));
        line_of_bad_values('\xff');
        log_flush();
        ssize_t n = recv(fd, text, sizeof text - 1, 0);
        assert_true(n > 4096);
        struct str tail = str_of(f == LOG_JSON ? ",\"last\":1}" : " last=1");
        assert_true(str_equal((struct str){text + n - tail.len, tail.len}, tail));
    }
    close(fd);
    unlink(name.sun_path);
}

static void *say_some(void *data)
{
    for (int i = 0; i < 20; i++)
        log_say(LOG_INFO, "line %d of a thread", i);
    return NULL;
}

static void threads_come_and_go(void **state)
{
    pthread_t t[8];
    unlink(path);
    open_target(LOG_LOGFMT);
    log_start();
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < 8; i++)
            assert_int_equal(pthread_create(&t[i], NULL, say_some, NULL), 0);
        for (size_t i = 0; i < 8; i++)
            pthread_join(t[i], NULL);
    }
    wait_for(path, " of a thread\"\n", 1600);
    assert_int_equal(count(written(), "\nts="), 1599);
}

static void a_new_target_has_all_that_is_said_behind_its_setting(void **state)
{
    char old[80], both[80];
    unlink(path);
    open_target(LOG_LOGFMT);
    snprintf(old, sizeof old, "%s", path);
    for (int i = 0; i < 30; i++) {
        log_say(LOG_INFO, "before");
        snprintf(path, sizeof path, "%s/target.%d", folder, i);
        snprintf(both, sizeof both, "marked %d", i);
        open_target(LOG_LOGFMT);
        log_say(LOG_WARNING, "%s", both);
        usleep(2000);
        assert_int_equal(count(text_of(old), both), 0);
        snprintf(old, sizeof old, "%s", path);
    }
    wait_for(path, both, 1);
    for (int i = 0; i < 30; i++) {
        snprintf(path, sizeof path, "%s/target.%d", folder, i);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/log", folder);
}

static void a_rotation_that_leaves_nothing_to_be_opened_is_told(void **state)
{
    char old[80];
    snprintf(old, sizeof old, "%s.1", path);
    unlink(path);
    open_target(LOG_LOGFMT);
    log_say(LOG_INFO, "first");
    wait_for(path, "msg=first", 1);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    log_reopen();
    for (int i = 0; i < 200 && !count(text_of(old), "lines go to the file that had this name before"); i++) {
        log_say(LOG_WARNING, "more");
        usleep(10000);
    }
    struct str s = text_of(old);
    assert_int_equal(count(s, "level=error"), 1);
    assert_int_equal(count(s, "lines go to the file that had this name before"), 1);
    rmdir(path);
    log_reopen();
    log_say(LOG_INFO, "anew");
    for (int i = 0; i < 1000 && access(path, F_OK) != 0; i++)
        usleep(10000);
    wait_for(path, "msg=anew", 1);
    log_stop(5000);
    unlink(old);
}

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/log", folder);
    return 0;
}

static int drop_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_value_takes_the_room_of_those_behind_it),
        cmocka_unit_test(one_octet_of_a_value_decides_on_its_quotes),
        cmocka_unit_test(a_value_is_cut_between_characters),
        cmocka_unit_test(what_was_written_in_part_swallows_no_other_line),
        cmocka_unit_test(syslog_gets_lines_of_any_length_whole),
        cmocka_unit_test(threads_come_and_go),
        cmocka_unit_test(a_new_target_has_all_that_is_said_behind_its_setting),
        cmocka_unit_test(a_rotation_that_leaves_nothing_to_be_opened_is_told),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
