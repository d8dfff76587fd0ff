/* test_stream.c - plain streams: octets, bounds, ends, closes, dials. */
#include "world.h"

static struct stream *open_pair(bool unix_pair, int *peer)
{
    int fds[2];
    if (unix_pair)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    else
        tcp_pair(fds);
    *peer = fds[1];
    return stream_open(W.loop, fds[0], &W.task);
}

static void check_echo(bool unix_pair)
{
    int peer;
    char text[64] = {0};
    struct stream *s = open_pair(unix_pair, &peer);
    assert_true(s->connected);
    assert_int_equal(write(peer, "EHLO a\r\n", 8), 8);
    UNTIL(s->in.octets == 8);
    UNTIL(W.news > 0);
    assert_str(in_text(s), "EHLO a\r\n");
    pipe_clear(&s->in);
    say(s, "250 b\r\n");
    assert_true(pipe_is_empty(&s->out));
    assert_int_equal(read(peer, text, sizeof text), 7);
    assert_string_equal(text, "250 b\r\n");
    assert_int_equal(s->read_octets, 8);
    assert_int_equal(s->written_octets, 7);
    stream_close(&s, CLOSE_ABORT);
    assert_null(s);
    close(peer);
}

static void echo_over_tcp(void **state)
{
    check_echo(false);
}
static void echo_over_a_unix_socket(void **state)
{
    check_echo(true);
}

static void a_short_read_pins_little_and_a_long_one_is_handed_over(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    assert_int_equal(write(peer, "x", 1), 1);
    UNTIL(s->in.octets == 1);
    assert_true(s->in.held <= 600);
    pipe_clear(&s->in);
    stream_flush(s);
    static char big[60000];
    s->in.mark = 0;
    assert_int_equal(write(peer, big, sizeof big), sizeof big);
    UNTIL(s->in.octets == sizeof big);
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

/* ---- bounds */

enum { STREAMED = 200 << 20 };
struct feeder {
    int fd;
    size_t octets;
    bool read;
};

static void *feed(void *data)
{
    struct feeder *f = data;
    static char zeroes[65536];
    char into[65536];
    while (f->octets) {
        size_t want = min_size(f->octets, sizeof into);
        ssize_t n = f->read ? read(f->fd, into, want) : write(f->fd, zeroes, want);
        if (n <= 0)
            break;
        f->octets -= (size_t)n;
    }
    return NULL;
}

static void two_hundred_megabytes_in_cost_one_mark(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    struct feeder f = {peer, STREAMED};
    pthread_t thread;
    pthread_create(&thread, NULL, feed, &f);
    FOR_MS(100); /* nobody reads: the mark stops it */
    size_t peak = block_total(), taken = 0;
    assert_true(s->in.octets >= PIPE_MARK / 2);
    assert_true(s->in.octets <= 2 * PIPE_MARK + BLOCK_READ);
    while (taken < STREAMED) {
        taken += s->in.octets;
        peak = max_size(peak, block_total());
        pipe_clear(&s->in);
        stream_flush(s);
        world_step();
    }
    assert_true(peak < W.blocks + 6 * 65536);
    pthread_join(thread, NULL);
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

static void two_hundred_megabytes_out_cost_one_mark_and_each_stall_wakes(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    struct feeder f = {peer, STREAMED, true};
    pthread_t thread;
    size_t given = 0, peak = 0;
    static char block[16384];
    bool reading = false;
    uint64_t end = millis() + 60000;
    unsigned stalls = 0;
    while (given < STREAMED) {
        while (given < STREAMED && !pipe_is_full(&s->out)) {
            pipe_copy(&s->out, block, sizeof block);
            given += sizeof block;
        }
        stream_flush(s);
        peak = max_size(peak, block_total());
        if (!pipe_is_full(&s->out))
            continue;
        task_forget(&W.task); /* news of earlier turns */
        W.news = 0;
        stalls++;
        if (!reading) {
            FOR_MS(50);
            if (W.news) { /* the kernel has moved octets to the peer's side and had room again, without a reader */
                must(stalls < 1000);
                continue;
            }
            pthread_create(&thread, NULL, feed, &f);
            reading = true;
        }
        while (!W.news && millis() < end)
            world_step();
        assert_true(W.news);
        assert_false(pipe_is_full(&s->out));
    }
    assert_true(stalls > 0);
    UNTIL(pipe_is_empty(&s->out));
    assert_int_equal(s->written_octets, STREAMED);
    assert_true(peak < W.blocks + 6 * 65536);
    pthread_join(thread, NULL);
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

static void what_is_flushed_soon_leaves_behind_the_turns_of_all_in_one_write(void **state)
{
    int peer;
    char text[64] = {0};
    struct stream *s = open_pair(false, &peer);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    pipe_put(&s->out, STR("250 a\r\n"));
    stream_flush_soon(s);
    assert_int_equal(s->written_octets, 0);
    pipe_put(&s->out, STR("250 b\r\n"));
    stream_flush_soon(s);
    UNTIL(pipe_is_empty(&s->out));
    assert_false(s->stuck);
    FOR_MS(20);
    assert_int_equal(read(peer, text, sizeof text), 14);
    assert_string_equal(text, "250 a\r\n250 b\r\n");
    stream_flush_soon(s); /* and one that is closed before it comes to that says its last word once */
    pipe_put(&s->out, STR("221 c\r\n"));
    stream_flush_soon(s);
    stream_close(&s, CLOSE_GRACEFUL);
    memset(text, 0, sizeof text);
    FOR_MS(20);
    assert_int_equal(read(peer, text, sizeof text), 7);
    assert_string_equal(text, "221 c\r\n");
    assert_int_equal(read(peer, text, sizeof text), 0);
    close(peer);
}

static void who_flushed_soon_hears_when_the_peer_takes_no_more_and_when_it_has_taken_all(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    static char block[65536];
    size_t given = 0;
    s->out.mark = 0; /* never full: what wakes is that it is stuck */
    fcntl(peer, F_SETFL, O_NONBLOCK);
    while (!s->stuck) {
        pipe_copy(&s->out, block, sizeof block);
        given += sizeof block;
        W.news = 0;
        stream_flush_soon(s);
        UNTIL(s->stuck || pipe_is_empty(&s->out));
        assert_true(given < 64 << 20);
    }
    UNTIL(W.news == 1);
    size_t had = 0;
    UNTIL_MS(20000, (had += (size_t)max_size((size_t)(read(peer, block, sizeof block) + 1), 1) - 1) == given);
    UNTIL(W.news == 2 && !s->stuck);
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

static void what_is_appended_while_a_write_is_under_way_follows_in_order(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    s->out.mark = 0;
    uint32_t n = 0;
    for (; n < 1000000; n++)
        pipe_copy(&s->out, &n, sizeof n);
    stream_flush(s);
    assert_false(pipe_is_empty(&s->out));
    for (; n < 1200000; n++) {
        pipe_copy(&s->out, &n, sizeof n);
        if (n % 5000 == 0)
            stream_flush(s);
    }
    stream_flush(s);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    static uint32_t got[1200000];
    size_t have = 0;
    uint64_t end = millis() + 20000;
    while (have < sizeof got && millis() < end) {
        ssize_t r = read(peer, (char *)got + have, sizeof got - have);
        if (r > 0)
            have += (size_t)r;
        else
            world_step();
    }
    assert_int_equal(have, sizeof got);
    for (uint32_t i = 0; i < 1200000; i++)
        if (got[i] != i)
            fail_msg("%u at %u", got[i], i);
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

/* ---- ends */

static void the_end_comes_behind_the_octets_and_is_no_death(void **state)
{
    int peer;
    char text[16] = {0};
    struct stream *s = open_pair(false, &peer);
    assert_int_equal(write(peer, "QUIT\r\n", 6), 6);
    shutdown(peer, SHUT_WR);
    UNTIL(s->ended);
    assert_false(s->dead);
    assert_str(in_text(s), "QUIT\r\n");
    say(s, "221 x\r\n");
    assert_int_equal(read(peer, text, sizeof text), 7);
    stream_close(&s, CLOSE_GRACEFUL);
    UNTIL(stream_count() == 0);
    close(peer);
}

static void a_reset_is_death(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    struct linger hard = {1, 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(peer);
    UNTIL(s->dead);
    assert_int_equal(s->why, FAILURE_RESET);
    assert_true(s->why_text.len > 0);
    UNTIL(W.news > 0);
    say(s, "to nobody");
    stream_close(&s, CLOSE_GRACEFUL);
}

static void the_last_words_of_a_peer_that_resets_are_read(void **state)
{
    int peer;
    struct stream *s = open_pair(true, &peer);
    assert_int_equal(write(peer, "421 bye\r\n", 9), 9);
    close(peer);
    say(s, "MAIL FROM:<>\r\n"); /* EPIPE, before anything was read */
    UNTIL(s->dead);
    assert_str(in_text(s), "421 bye\r\n");
    stream_close(&s, CLOSE_GRACEFUL);
}

static size_t read_all(int fd, char *into, size_t room, int *error)
{
    size_t n = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (uint64_t end = millis() + 5000; millis() < end;) {
        ssize_t r = read(fd, into + n, room - n);
        *error = r < 0 ? errno : 0;
        if (r == 0 || (r < 0 && errno != EAGAIN))
            break;
        if (r > 0)
            n += (size_t)r;
        else
            world_step();
    }
    return n;
}

static void a_graceful_close_delivers_all_even_past_unread_octets(void **state)
{
    for (int unread = 0; unread < 2; unread++)
        for (int linger = 0; linger < 2; linger++) {
            int peer, error;
            static char text[2 << 20];
            struct stream *s = open_pair(false, &peer);
            if (unread) {
                static char content[30000];
                assert_int_equal(write(peer, content, sizeof content), sizeof content);
            }
            s->out.mark = 0;
            size_t n = linger ? 1 << 20 : 20;
            for (size_t i = 0; i < n; i += 4)
                pipe_copy(&s->out, "421 ", 4);
            stream_close(&s, linger ? CLOSE_LINGER : CLOSE_GRACEFUL);
            assert_null(s);
            assert_int_equal(read_all(peer, text, sizeof text, &error), n);
            assert_int_equal(error, 0);
            close(peer);
            UNTIL_MS(3000, stream_count() == 0);
        }
}

static void a_graceful_close_with_nothing_unread_is_over_at_once(void **state)
{
    int peer, error;
    char text[16];
    struct stream *s = open_pair(false, &peer);
    FOR_MS(5);
    pipe_put(&s->out, STR("221 x\r\n"));
    stream_close(&s, CLOSE_GRACEFUL);
    uint64_t begin = millis();
    UNTIL(stream_count() == 0);
    assert_true(millis() - begin < 100);
    assert_int_equal(read_all(peer, text, sizeof text, &error), 7);
    assert_int_equal(error, 0);
    close(peer);
}

static void lingering_has_a_clock_and_a_bound(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    pipe_put(&s->out, STR("421 x\r\n"));
    uint64_t begin = millis();
    stream_close(&s, CLOSE_LINGER);
    UNTIL(stream_count() == 0);
    assert_in_range(millis() - begin, 1900, 3000);
    close(peer);
    s = open_pair(false, &peer);
    static char content[8192];
    fcntl(peer, F_SETFL, O_NONBLOCK);
    begin = millis();
    stream_close(&s, CLOSE_LINGER);
    while (stream_count() && millis() - begin < 5000) {
        ssize_t n = write(peer, content, sizeof content);
        (void)n;
        world_step();
    }
    assert_true(millis() - begin < 1000);
    close(peer);
}

static void closing_the_loop_ends_what_lingers(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    stream_close(&s, CLOSE_LINGER);
    /* world_close runs it out */
    (void)s;
    close(peer);
}

static void abort_is_at_once_with_a_write_under_way(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    s->out.mark = 0;
    static char big[8 << 20];
    pipe_copy(&s->out, big, sizeof big);
    stream_flush(s);
    assert_false(pipe_is_empty(&s->out));
    stream_close(&s, CLOSE_ABORT);
    UNTIL_MS(100, stream_count() == 0);
    close(peer);
}

static void after_close_the_owner_hears_nothing(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    FOR_MS(5);
    stream_close(&s, CLOSE_LINGER);
    task_forget(&W.task);
    W.news = 0;
    assert_int_equal(write(peer, "x", 1), 1);
    close(peer);
    UNTIL(stream_count() == 0);
    assert_int_equal(W.news, 0);
    stream_close(&s, CLOSE_ABORT); /* NULL inside is fine */
}

static void unread_octets_show_although_nobody_reads(void **state)
{
    int peer;
    struct stream *s = open_pair(false, &peer);
    assert_false(stream_has_unread(s));
    assert_int_equal(write(peer, "early", 5), 5);
    usleep(1000);
    assert_true(stream_has_unread(s));
    assert_true(stream_in_is_empty(s));
    UNTIL(s->in.octets);
    assert_false(stream_in_is_empty(s));
    stream_close(&s, CLOSE_ABORT);
    close(peer);
}

/* ---- dials and listeners */

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(echo_over_tcp),
        CLAIM(echo_over_a_unix_socket),
        CLAIM(a_short_read_pins_little_and_a_long_one_is_handed_over),
        CLAIM(two_hundred_megabytes_in_cost_one_mark),
        CLAIM(two_hundred_megabytes_out_cost_one_mark_and_each_stall_wakes),
        CLAIM(what_is_flushed_soon_leaves_behind_the_turns_of_all_in_one_write),
        CLAIM(who_flushed_soon_hears_when_the_peer_takes_no_more_and_when_it_has_taken_all),
        CLAIM(what_is_appended_while_a_write_is_under_way_follows_in_order),
        CLAIM(the_end_comes_behind_the_octets_and_is_no_death),
        CLAIM(a_reset_is_death),
        CLAIM(the_last_words_of_a_peer_that_resets_are_read),
        CLAIM(a_graceful_close_delivers_all_even_past_unread_octets),
        CLAIM(a_graceful_close_with_nothing_unread_is_over_at_once),
        CLAIM(lingering_has_a_clock_and_a_bound),
        CLAIM(closing_the_loop_ends_what_lingers),
        CLAIM(abort_is_at_once_with_a_write_under_way),
        CLAIM(after_close_the_owner_hears_nothing),
        CLAIM(unread_octets_show_although_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
