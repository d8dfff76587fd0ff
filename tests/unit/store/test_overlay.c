/* test_overlay.c - a store over another: what is below is seen, once asked is kept, and nothing is written there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "store/store.h"

struct pair {
    struct store_below below; /* the first member */
    struct store *low, *high;
    unsigned asked;
    enum { WELL, GONE, TORN } state;
    char *octets;
};
static struct arena arena;
static struct filter_value answer;

static FILE *image(struct store_below *below, struct str key)
{
    struct pair *p = (struct pair *)below;
    size_t len;
    p->asked++;
    if (p->state == GONE)
        return NULL;
    free(p->octets);
    FILE *to = open_memstream(&p->octets, &len);
    store_memory_image(p->low, key, to);
    fclose(to);
    return fmemopen(p->octets, p->state == TORN ? len / 2 : len, "r");
}

static void start(struct pair *p)
{
    *p = (struct pair){.below = {image}, .low = store_memory_open(1 << 20), .high = store_memory_open(1 << 20)};
}

static void stop(struct pair *p)
{
    store_drop(p->low);
    store_drop(p->high);
    free(p->octets);
    arena_reset(&arena);
}

static const struct filter_value *ask(struct store *s, double now, struct store_request r)
{
    assert_int_equal(store_now(s, &r, now, &arena, &answer), FAILURE_NONE);
    return &answer;
}

#define SET(store, k, n)                                                                                               \
    ask(store, 1,                                                                                                      \
        (struct store_request){.op = STORE_SET, .key = STR(k), .value_is_integer = true, .integer = n, .ttl = 100})
#define GET(store, k) ask(store, 2, (struct store_request){.op = STORE_GET, .key = STR(k)})

static void what_is_below_is_seen_and_asked_once(void **state)
{
    struct pair p;
    start(&p);
    SET(p.low, "a", 7);
    assert_true(store_lay_over(p.high, &p.below));
    assert_int_equal(GET(p.high, "a")->integer, 7);
    SET(p.low, "a", 8);
    assert_int_equal(GET(p.high, "a")->integer, 7);
    assert_int_equal(GET(p.high, "b")->type, VALUE_NONE);
    SET(p.low, "b", 9);
    assert_int_equal(GET(p.high, "b")->type, VALUE_NONE);
    assert_int_equal(p.asked, 3); /* the seed, a, b */
    assert_int_equal(ask(p.high, 200, (struct store_request){.op = STORE_GET, .key = STR("a")})->type,
                     VALUE_NONE); /* it has its end of before */
    stop(&p);
}

static void what_is_written_stays_above(void **state)
{
    struct pair p;
    start(&p);
    SET(p.low, "a", 7);
    SET(p.low, "n", 40);
    assert_true(store_lay_over(p.high, &p.below));
    SET(p.high, "a", 1);
    assert_int_equal(
        ask(p.high, 2, (struct store_request){.op = STORE_INCR, .key = STR("n"), .n = 2, .ttl = 10})->integer, 42);
    assert_int_equal(GET(p.low, "a")->integer, 7);
    assert_int_equal(GET(p.low, "n")->integer, 40);
    ask(p.high, 2, (struct store_request){.op = STORE_DEL, .key = STR("a")});
    assert_int_equal(GET(p.high, "a")->type, VALUE_NONE);
    stop(&p);
}

static void members_and_windows_go_on(void **state)
{
    struct pair p;
    start(&p);
    struct store_request add = {.op = STORE_SET_ADD, .key = STR("s"), .value = STR("ann"), .ttl = 100},
                         rate = {.op = STORE_RATE, .key = STR("r"), .limit = 3, .window = 100},
                         bucket = {.op = STORE_BUCKET, .key = STR("b"), .limit = 2, .window = 1e6};
    ask(p.low, 1, add);
    for (int i = 0; i < 2; i++) {
        ask(p.low, 1, rate);
        ask(p.low, 1, bucket);
    }
    assert_true(store_lay_over(p.high, &p.below));
    assert_int_equal(
        ask(p.high, 2, (struct store_request){.op = STORE_SET_HAS, .key = STR("s"), .value = STR("ann")})->integer, 1);
    assert_int_equal(
        ask(p.high, 2, (struct store_request){.op = STORE_SET_HAS, .key = STR("s"), .value = STR("eve")})->integer, 0);
    assert_int_equal(value_get(ask(p.high, 2, rate), STR("ok"))->integer, 1);
    assert_int_equal(value_get(ask(p.high, 2, rate), STR("ok"))->integer, 0);
    assert_int_equal(value_get(ask(p.high, 2, bucket), STR("ok"))->integer, 0);
    stop(&p);
}

static void who_cannot_be_asked_any_more_holds_nothing(void **state)
{
    struct pair p;
    for (int how = GONE; how <= TORN; how++) {
        start(&p);
        p.state = how;
        assert_false(store_lay_over(p.high, &p.below));
        p.state = WELL;
        SET(p.low, "a", 7);
        assert_true(store_lay_over(p.high, &p.below));
        p.state = how;
        assert_int_equal(GET(p.high, "a")->type, VALUE_NONE);
        unsigned asked = p.asked;
        assert_int_equal(GET(p.high, "c")->type, VALUE_NONE);
        assert_int_equal(p.asked, asked);
        stop(&p);
    }
}

static void another_process_below_is_none(void **state)
{
    struct pair p;
    start(&p);
    assert_true(store_lay_over(p.high, &p.below));
    struct store *before = p.low;
    p.low = store_memory_open(1 << 20);
    store_drop(before);
    SET(p.low, "a", 7);
    assert_int_equal(GET(p.high, "a")->type, VALUE_NONE);
    stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_below_is_seen_and_asked_once),
        cmocka_unit_test(what_is_written_stays_above),
        cmocka_unit_test(members_and_windows_go_on),
        cmocka_unit_test(who_cannot_be_asked_any_more_holds_nothing),
        cmocka_unit_test(another_process_below_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
