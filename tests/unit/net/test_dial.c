/* test_dial.c - dials and listeners: who is reached, refused, looked up; a listener that pauses, waits for room, is left or handed on. */
#include "world.h"

static struct stream *accepted;
static unsigned naccepted;
static void take(void *data, struct stream *s)
{
    assert_ptr_equal(data, &naccepted);
    naccepted++;
    if (accepted)
        stream_close(&accepted, CLOSE_ABORT);
    accepted = s;
}

static int rooms, listened; /* so many streams are wanted; the socket of the last listener */

static bool has_room(void *data)
{
    if (!rooms)
        return false;
    rooms--;
    return true;
}

static struct listener *listen_at(const char *text, struct address *at)
{
    const char *why = "";
    char error[256] = "";
    if (!address_parse(str_of(text), &W.arena, at, &why))
        fail_msg("%s", why);
    int fd = listener_bind(at, false, error, sizeof error);
    if (fd < 0)
        fail_msg("%s", error);
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &len);
    *at = address_of((struct sockaddr *)&name, len, &W.arena);
    naccepted = 0;
    accepted = NULL;
    static const struct listener_owner owner = {.has_room = has_room, .accepted = take};
    rooms = 1000;
    listened = fd;
    return listener_open(W.loop, fd, &owner, &naccepted);
}

static void check_dial(struct listener *l, const struct address *at)
{
    struct stream *s = stream_dial(W.loop, at, &W.task);
    assert_false(s->connected);
    pipe_put(&s->out, STR("said before it was connected"));
    stream_flush(s);
    UNTIL(s->connected || s->dead);
    if (s->dead)
        fail_msg("%s %.*s", failure_word(s->why), STR_ARGS(s->why_text));
    UNTIL(naccepted == 1);
    UNTIL(accepted->in.octets == 28);
    stream_close(&s, CLOSE_GRACEFUL);
    UNTIL(accepted->ended);
    stream_close(&accepted, CLOSE_GRACEFUL);
    listener_close(&l, LISTENER_GONE);
    assert_null(l);
    UNTIL(stream_count() == 0);
}

static void a_dial_reaches_a_listener(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    check_dial(l, &at);
    l = listen_at("[::1]:0", &at);
    check_dial(l, &at);
}

static void a_dial_reaches_a_unix_listener_whose_stale_file_was_there(void **state)
{
    struct address at;
    const char *text = arena_print(&W.arena, "unix:%s/s", W.folder).at;
    for (int i = 0; i < 2; i++) { /* the second finds the file of the first */
        struct listener *l = listen_at(text, &at);
        struct stat st;
        assert_int_equal(stat(in_folder("s"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0666);
        check_dial(l, &at);
    }
}

static void a_living_unix_socket_is_not_taken_away(void **state)
{
    struct address at;
    const char *text = arena_print(&W.arena, "unix:%s/s", W.folder).at;
    struct listener *l = listen_at(text, &at);
    char error[256] = "";
    assert_int_equal(listener_bind(&at, false, error, sizeof error), -1);
    assert_non_null(strstr(error, "in use"));
    listener_close(&l, LISTENER_GONE);
    FOR_MS(5);
    stream_close(&accepted, CLOSE_ABORT); /* the knock of the second bind */
}

static void a_refused_dial_dies_refused_but_not_inside_the_call(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    listener_close(&l, LISTENER_GONE);
    FOR_MS(5);
    struct stream *s = stream_dial(W.loop, &at, &W.task);
    assert_false(s->dead);
    UNTIL(s->dead);
    assert_int_equal(s->why, FAILURE_REFUSED);
    UNTIL(W.news == 1);
    stream_close(&s, CLOSE_GRACEFUL);
    const char *why;
    assert_true(address_parse(arena_print(&W.arena, "unix:%s/none", W.folder), &W.arena, &at, &why));
    s = stream_dial(W.loop, &at, &W.task);
    UNTIL(s->dead);
    assert_int_equal(s->why, FAILURE_REFUSED);
    stream_close(&s, CLOSE_GRACEFUL);
}

static void a_name_is_looked_up_and_its_addresses_tried_in_order(void **state)
{
    struct address at, name;
    const char *why;
    struct listener *l = listen_at("127.0.0.1:0", &at); /* localhost is ::1 first on most machines: refused there */
    assert_true(address_parse(arena_print(&W.arena, "localhost:%u", at.port), &W.arena, &name, &why));
    check_dial(l, &name);
}

static void a_name_that_is_none_dies_and_a_dial_may_be_closed_at_any_time(void **state)
{
    struct address at;
    const char *why;
    assert_true(address_parse(STR("no-such-host.invalid:25"), &W.arena, &at, &why));
    struct stream *s = stream_dial(W.loop, &at, &W.task);
    UNTIL_MS(30000, s->dead);
    assert_true(s->why == FAILURE_NXDOMAIN || s->why == FAILURE_TIMEOUT);
    stream_close(&s, CLOSE_ABORT);
    s = stream_dial(W.loop, &at, &W.task);
    stream_close(&s, CLOSE_ABORT);
    s = stream_dial(W.loop, &at, &W.task);
    world_step(); /* the look-up is on its way */
    stream_close(&s, CLOSE_GRACEFUL);
    UNTIL_MS(30000, stream_count() == 0);
    assert_true(address_parse(STR("192.0.2.1:25"), &W.arena, &at, &why));
    s = stream_dial(W.loop, &at, &W.task);
    FOR_MS(20);
    stream_close(&s, CLOSE_GRACEFUL);
    UNTIL(stream_count() == 0);
}

static int knock_at(const struct address *at)
{
    int fd = socket(at->name.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at->name, at->len), 0);
    return fd;
}

static void a_paused_listener_drops_nobody(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    listener_pause(l, true);
    int fds[10];
    for (int i = 0; i < 10; i++)
        fds[i] = knock_at(&at);
    FOR_MS(50);
    assert_int_equal(naccepted, 0);
    listener_pause(l, false);
    assert_int_equal(naccepted, 0);
    UNTIL(naccepted == 10);
    stream_close(&accepted, CLOSE_ABORT);
    listener_pause(l, true);
    int late = knock_at(&at);
    FOR_MS(20);
    listener_close(&l, LISTENER_GONE); /* with one held */
    close(late);
    for (int i = 0; i < 10; i++)
        close(fds[i]);
}

static void a_listener_without_room_waits_until_it_is_told_of_some(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    int fds[5];
    rooms = 2;
    for (int i = 0; i < 5; i++)
        fds[i] = knock_at(&at);
    UNTIL(naccepted == 2);
    FOR_MS(30);
    assert_int_equal(naccepted, 2);
    rooms = 1;
    listener_pause(l, false);
    UNTIL(naccepted == 3);
    FOR_MS(30);
    assert_int_equal(naccepted, 3);
    rooms = 100;
    listener_pause(l, false);
    UNTIL(naccepted == 5);
    stream_close(&accepted, CLOSE_ABORT);
    listener_close(&l, LISTENER_GONE);
    for (int i = 0; i < 5; i++)
        close(fds[i]);
}

static void a_listener_that_is_left_hands_out_all_that_is_queued(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    listener_pause(l, true);
    int fds[5];
    for (int i = 0; i < 5; i++)
        fds[i] = knock_at(&at);
    FOR_MS(30);
    assert_int_equal(naccepted, 0);
    listener_close(&l, LISTENER_REST);
    assert_int_equal(naccepted, 5);
    stream_close(&accepted, CLOSE_ABORT);
    for (int i = 0; i < 5; i++)
        close(fds[i]);
}

static void a_listener_that_is_handed_on_leaves_the_queue_to_the_other(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at), *other;
    int twin = dup(listened);
    listener_pause(l, true);
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = knock_at(&at);
    FOR_MS(30); /* one is held */
    listener_close(&l, LISTENER_HANDED_ON);
    assert_int_equal(naccepted, 1);
    static const struct listener_owner owner = {.accepted = take};
    other = listener_open(W.loop, twin, &owner, &naccepted);
    UNTIL(naccepted == 3);
    stream_close(&accepted, CLOSE_ABORT);
    listener_close(&other, LISTENER_GONE);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void both_ends_have_names(void **state)
{
    struct address at;
    struct listener *l = listen_at("127.0.0.1:0", &at);
    int fd = knock_at(&at);
    UNTIL(naccepted == 1);
    struct address peer = stream_peer(accepted, &W.arena), local = stream_local(accepted, &W.arena);
    assert_str(address_ip(&peer, &W.arena), "127.0.0.1");
    assert_true(str_equal(local.text, at.text));
    stream_close(&accepted, CLOSE_ABORT);
    listener_close(&l, LISTENER_GONE);
    close(fd);
}

static void a_shared_port_takes_several_listeners(void **state)
{
    struct address at;
    const char *why;
    char error[256] = "";
    assert_true(address_parse(STR("127.0.0.1:0"), &W.arena, &at, &why));
    int first = listener_bind(&at, true, error, sizeof error);
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    getsockname(first, (struct sockaddr *)&name, &len);
    at = address_of((struct sockaddr *)&name, len, &W.arena);
    int second = listener_bind(&at, true, error, sizeof error);
    assert_true(first >= 0 && second >= 0);
    assert_int_equal(listener_bind(&at, false, error, sizeof error), -1);
    assert_non_null(strstr(error, "127.0.0.1"));
    close(first);
    close(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(a_dial_reaches_a_listener),
        CLAIM(a_dial_reaches_a_unix_listener_whose_stale_file_was_there),
        CLAIM(a_living_unix_socket_is_not_taken_away),
        CLAIM(a_refused_dial_dies_refused_but_not_inside_the_call),
        CLAIM(a_name_is_looked_up_and_its_addresses_tried_in_order),
        CLAIM(a_name_that_is_none_dies_and_a_dial_may_be_closed_at_any_time),
        CLAIM(a_paused_listener_drops_nobody),
        CLAIM(a_listener_without_room_waits_until_it_is_told_of_some),
        CLAIM(a_listener_that_is_left_hands_out_all_that_is_queued),
        CLAIM(a_listener_that_is_handed_on_leaves_the_queue_to_the_other),
        CLAIM(both_ends_have_names),
        CLAIM(a_shared_port_takes_several_listeners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
