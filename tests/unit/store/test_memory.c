/* The store in memory: what each operation means, under a clock the test owns; its bound; many threads at once. */
#include "store/store.h"
#include "store/memory.h"
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;
static struct store *store;
static double now;

#define ASK(...) ask(&(struct store_request){__VA_ARGS__})
static struct filter_value answer;

static enum failure ask(const struct store_request *r)
{
    return store_now(store, r, now, &arena, &answer);
}

static double number(const char *key)
{
    const struct filter_value *v = value_get(&answer, str_of(key));
    assert_non_null(v);
    return v->number;
}

#define GOOD(...) assert_int_equal(ASK(__VA_ARGS__), FAILURE_NONE)
#define IS(n)     assert_true(answer.number == (n))
#define K(text)   .key = STR(text)
#define V(text)   .value = STR(text)

static int open_store(void **state)
{
    store = store_memory_open(8 << 20);
    now = 1e9;
    return 0;
}

static int close_store(void **state)
{
    store_drop(store);
    arena_reset(&arena);
    return 0;
}

static void another_bound_keeps_what_is_there(void **state)
{
    GOOD(.op = STORE_SET, K("k"), V("here"), .ttl = 100);
    store_memory_bound(store, 16 << 20);
    GOOD(.op = STORE_GET, K("k"));
    assert_true(str_equal(answer.text, STR("here")));
    store_memory_bound(store, 2 << 20); /* whoever writes next takes away what is over it, never itself */
    GOOD(.op = STORE_SET, K("k2"), V("there"), .ttl = 100);
    GOOD(.op = STORE_GET, K("k2"));
    assert_true(str_equal(answer.text, STR("there")));
}

static void operations_have_names(void **state)
{
    enum store_op op;
    assert_true(store_op_named("set_size", &op));
    assert_int_equal(op, STORE_SET_SIZE);
    assert_true(store_op_named("get", &op));
    assert_int_equal(op, STORE_GET);
    assert_false(store_op_named("gets", &op));
}

static void what_is_set_is_got_until_it_expires(void **state)
{
    GOOD(.op = STORE_GET, K("a"));
    assert_int_equal(answer.type, VALUE_NONE);
    GOOD(.op = STORE_SET, K("a"), V("text"), .ttl = 10);
    IS(0);
    GOOD(.op = STORE_SET, K("n"), .value_is_integer = true, .integer = -7, .ttl = 10);
    now += 9;
    GOOD(.op = STORE_GET, K("a"));
    assert_int_equal(answer.type, VALUE_TEXT);
    assert_string_equal(answer.text.at, "text");
    GOOD(.op = STORE_GET, K("n"));
    assert_int_equal(answer.integer, -7);
    GOOD(.op = STORE_TTL, K("a"));
    IS(1);
    GOOD(.op = STORE_SET, K("a"), V(""), .ttl = 10);
    IS(1);
    GOOD(.op = STORE_GET, K("a"));
    assert_true(answer.type == VALUE_TEXT && answer.text.len == 0);
    now += 10;
    GOOD(.op = STORE_GET, K("a"));
    assert_int_equal(answer.type, VALUE_NONE);
    GOOD(.op = STORE_TTL, K("a"));
    assert_int_equal(answer.type, VALUE_NONE);
}

static void add_is_only_for_the_first(void **state)
{
    GOOD(.op = STORE_ADD, K("k"), V("1"), .ttl = 5);
    IS(1);
    GOOD(.op = STORE_ADD, K("k"), V("2"), .ttl = 5);
    IS(0);
    GOOD(.op = STORE_GET, K("k"));
    assert_string_equal(answer.text.at, "1");
    now += 5;
    GOOD(.op = STORE_ADD, K("k"), V("3"), .ttl = 5);
    IS(1);
    GOOD(.op = STORE_DEL, K("k"));
    IS(1);
    GOOD(.op = STORE_DEL, K("k"));
    IS(0);
}

static void increase_counts_from_the_first_ttl(void **state)
{
    GOOD(.op = STORE_INCR, K("c"), .ttl = 10);
    IS(1);
    now += 6;
    GOOD(.op = STORE_INCR, K("c"), .n = 4, .ttl = 10);
    assert_int_equal(answer.integer, 5);
    GOOD(.op = STORE_INCR, K("c"), .n = -2, .ttl = 10);
    assert_int_equal(answer.integer, 3);
    GOOD(.op = STORE_INCR, K("c"), .n = 0.5, .ttl = 10);
    IS(3.5);
    now += 4;
    GOOD(.op = STORE_INCR, K("c"), .ttl = 10);
    IS(1);
    GOOD(.op = STORE_SET, K("big"), .value_is_integer = true, .integer = INT64_MAX, .ttl = 10);
    GOOD(.op = STORE_INCR, K("big"), .ttl = 10);
    assert_true(answer.number > 9e18); /* no wrap */
}

static void rate_refuses_over_its_limit_and_says_when(void **state)
{
    for (int i = 1; i <= 5; i++) {
        GOOD(.op = STORE_RATE, K("r"), .limit = 5, .window = 80);
        assert_true(number("ok") == 1 && number("count") == i && number("remaining") == 5 - i &&
                    number("retry_after") == 0);
    }
    now += 10;
    GOOD(.op = STORE_RATE, K("r"), .limit = 5, .window = 80);
    assert_true(number("ok") == 0 && number("remaining") == 0 && number("limit") == 5);
    double wait = number("retry_after");
    assert_true(wait > 60 && wait <= 80);
    now += wait;
    GOOD(.op = STORE_RATE, K("r"), .limit = 5, .window = 80);
    assert_true(number("ok") == 1); /* as promised */
}

static void rate_forgets_after_its_window(void **state)
{
    GOOD(.op = STORE_RATE, K("r"), .n = 100, .limit = 100, .window = 3600);
    assert_true(number("ok") == 1);
    GOOD(.op = STORE_RATE, K("r"), .n = 101, .limit = 100, .window = 3600);
    assert_true(number("ok") == 0);
    now += 3600 * 9 / 8 + 1;
    GOOD(.op = STORE_RATE, K("r"), .n = 100, .limit = 100, .window = 3600);
    assert_true(number("ok") == 1 && number("count") == 100);
}

/* However the attempts fall: what is in the window is over the limit by no more than came in its oldest eighth; and a
 * steady trickle below the limit is never refused. */
static void rate_error_is_within_one_eighth_of_the_window(void **state)
{
    enum { ROUNDS = 20000 };
    static double taken[ROUNDS];
    size_t n = 0;
    uint32_t random = 12345;
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        now += (random >> 16) % 100 / 1000.0 * ((random >> 8) % 7 == 0 ? 20 : 0.2);
        GOOD(.op = STORE_RATE, K("r"), .limit = 80, .window = 16);
        if (number("ok") == 1)
            taken[n++] = now;
        size_t inside = 0, oldest = 0;
        for (size_t k = n; k-- > 0 && taken[k] > now - 16;) {
            inside++;
            oldest += taken[k] < floor(now / 2) * 2 - 14;
        }
        assert_true(inside <= 80 + oldest);
        arena_reset(&arena);
    }
    assert_true(n > 1000 && n < ROUNDS);
    for (int i = 0; i < 2000; i++) {
        now += 0.25;
        GOOD(.op = STORE_RATE, K("steady"), .limit = 73, .window = 16);
        assert_true(number("ok") == 1);
    }
}

static void bucket_refills_evenly(void **state)
{
    GOOD(.op = STORE_BUCKET, K("b"), .n = 10, .limit = 10, .window = 100);
    assert_true(number("ok") == 1 && number("level") == 0);
    GOOD(.op = STORE_BUCKET, K("b"), .limit = 10, .window = 100);
    assert_true(number("ok") == 0 && number("wait") == 10);
    now += 10;
    GOOD(.op = STORE_BUCKET, K("b"), .limit = 10, .window = 100);
    assert_true(number("ok") == 1);
    now += 1000;
    GOOD(.op = STORE_BUCKET, K("b"), .limit = 10, .window = 100);
    assert_true(number("ok") == 1 && number("level") == 9);
}

static void distinct_counts_values_within_the_window(void **state)
{
    GOOD(.op = STORE_DISTINCT, K("d"), V("a"), .window = 100);
    IS(1);
    now += 60;
    GOOD(.op = STORE_DISTINCT, K("d"), V("b"), .window = 100);
    IS(2);
    GOOD(.op = STORE_DISTINCT, K("d"), V("b"), .window = 100);
    IS(2);
    now += 60;
    GOOD(.op = STORE_DISTINCT, K("d"), V("c"), .window = 100);
    IS(2); /* a was seen 120 seconds ago */
    now += 39;
    GOOD(.op = STORE_DISTINCT, K("d"), V("b"), .window = 100);
    IS(2);
    now += 62;
    GOOD(.op = STORE_DISTINCT, K("d"), V("x"), .window = 100);
    IS(2); /* b was seen again */
    for (int i = 0; i < 5000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        enum failure error = ASK(.op = STORE_DISTINCT, K("d"), .value = str_of(text), .window = 100);
        assert_int_equal(error != FAILURE_NONE, i >= MARKS_MOST - 2); /* full, and says so */
        assert_true(!error || error == FAILURE_LIMIT);
    }
    GOOD(.op = STORE_DISTINCT, K("d"), V("7"), .window = 100);
    IS(MARKS_MOST);
    now += 101;
    GOOD(.op = STORE_DISTINCT, K("d"), V("y"), .window = 100);
    IS(1);
}

static void sets_hold_members(void **state)
{
    GOOD(.op = STORE_SET_HAS, K("s"), V("a"));
    IS(0);
    GOOD(.op = STORE_SET_ADD, K("s"), V("a"), .ttl = 10);
    IS(1);
    GOOD(.op = STORE_SET_ADD, K("s"), V("a"), .ttl = 10);
    IS(0);
    GOOD(.op = STORE_SET_ADD, K("s"), V("b"), .ttl = 20);
    GOOD(.op = STORE_SET_SIZE, K("s"));
    IS(2);
    GOOD(.op = STORE_SET_DEL, K("s"), V("a"));
    IS(1);
    GOOD(.op = STORE_SET_HAS, K("s"), V("a"));
    IS(0);
    GOOD(.op = STORE_SET_HAS, K("s"), V("b"));
    IS(1);
    now += 20;
    GOOD(.op = STORE_SET_SIZE, K("s"));
    IS(0);
    enum failure error = FAILURE_NONE;
    for (int i = 0; i <= MARKS_MOST && !error; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        error = ASK(.op = STORE_SET_ADD, K("full"), .value = str_of(text), .ttl = 10);
    }
    assert_int_equal(error, FAILURE_LIMIT);
}

static void wrong_questions_are_answered_as_such(void **state)
{
    char long_key[2000];
    memset(long_key, 'x', sizeof long_key);
    GOOD(.op = STORE_SET, K("v"), V("text"), .ttl = 10);
    assert_int_equal(ASK(.op = STORE_INCR, K("v"), .ttl = 1), FAILURE_WRONGTYPE);
    assert_int_equal(ASK(.op = STORE_RATE, K("v"), .limit = 1, .window = 1), FAILURE_WRONGTYPE);
    assert_int_equal(ASK(.op = STORE_SET_HAS, K("v"), V("x")), FAILURE_WRONGTYPE);
    assert_int_equal(ASK(.op = STORE_SET, K("v"), V("x")), FAILURE_BAD); /* for ever is not allowed */
    assert_int_equal(ASK(.op = STORE_SET, K("v"), V("x"), .ttl = -1), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_RATE, K("r"), .limit = 1), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_RATE, K("r"), .window = 1), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_RATE, K("r"), .n = -1, .limit = 1, .window = 1), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_RATE, K("r"), .n = __builtin_nan(""), .limit = 1, .window = 1), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_GET), FAILURE_BAD);
    assert_int_equal(ASK(.op = STORE_GET, .key = {long_key, sizeof long_key}), FAILURE_LIMIT);
    assert_int_equal(ASK(.op = (enum store_op)99, K("v")), FAILURE_BAD);
    GOOD(.op = STORE_RATE, K("q"), .limit = 1, .window = 1);
    GOOD(.op = STORE_SET, K("q"), V("now a text"), .ttl = 1); /* set replaces whatever there was */
    GOOD(.op = STORE_GET, K("q"));
    assert_string_equal(answer.text.at, "now a text");
}

static void memory_is_bounded_and_the_nearest_to_expiry_go(void **state)
{
    struct store *small = store_memory_open(65536);
    struct store *mine = store;
    store = small;
    char key[32], text[500];
    memset(text, 'v', sizeof text);
    GOOD(.op = STORE_SET, K("keeper"), V("x"), .ttl = 1e6);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        GOOD(.op = STORE_SET, .key = str_of(key), .value = {text, sizeof text}, .ttl = 100 + i);
        GOOD(.op = STORE_GET, .key = str_of(key));
        assert_int_equal(answer.text.len, sizeof text); /* what was just written is there */
        arena_reset(&arena);
    }
    GOOD(.op = STORE_GET, K("keeper"));
    assert_int_equal(answer.type, VALUE_TEXT);
    GOOD(.op = STORE_GET, K("key0"));
    assert_int_equal(answer.type, VALUE_NONE);
    static const char huge[40000];
    assert_int_equal(ASK(.op = STORE_SET, K("huge"), .value = {huge, sizeof huge}, .ttl = 1), FAILURE_LIMIT);
    store_drop(store_hold(small));
    store_drop(small);
    store = mine;
}

static void expired_keys_are_reclaimed_by_whoever_comes_by(void **state)
{
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        GOOD(.op = STORE_SET, .key = str_of(key), V("x"), .ttl = 1);
    }
    now += 2;
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "other%d", i);
        GOOD(.op = STORE_SET, .key = str_of(key), V("x"), .ttl = 1);
    }
    now -= 2; /* had they stayed, they would be alive again */
    unsigned alive = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        GOOD(.op = STORE_GET, .key = str_of(key));
        alive += answer.type != VALUE_NONE;
    }
    assert_true(alive < 100);
}

static void *hammer(void *data)
{
    struct arena mine = {0};
    for (int i = 0; i < 20000; i++) {
        char key[16];
        struct filter_value v;
        snprintf(key, sizeof key, "k%d", i % 50);
        assert_null(store_now(store, &(struct store_request){.op = STORE_INCR, .key = str_of(key), .ttl = 1000}, 1e9,
                              &mine, &v));
        store_now(store, &(struct store_request){.op = STORE_RATE, K("shared"), .limit = 1e9, .window = 60}, 1e9, &mine,
                  &v);
        arena_reset(&mine);
    }
    return NULL;
}

static void operations_are_atomic_among_threads(void **state)
{
    pthread_t threads[4];
    for (size_t i = 0; i < countof(threads); i++)
        pthread_create(&threads[i], NULL, hammer, NULL);
    for (size_t i = 0; i < countof(threads); i++)
        pthread_join(threads[i], NULL);
    GOOD(.op = STORE_GET, K("k7"));
    IS(4 * 20000 / 50);
    GOOD(.op = STORE_RATE, K("shared"), .limit = 1e9, .window = 60);
    assert_true(number("count") == 4 * 20000 + 1);
}

static void marks_survive_removal_in_any_order(void **state)
{
    struct store_marks m = {0};
    bool there[200] = {0};
    uint32_t random = 99, count = 0;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        unsigned which = (random >> 8) % 200;
        struct store_mark mark = {which % 16, which}; /* many collide */
        assert_int_equal(marks_has(&m, mark), there[which]);
        if (random >> 31) {
            marks_add(&m, mark, i);
            count += !there[which];
            there[which] = true;
        } else {
            assert_int_equal(marks_remove(&m, mark), there[which]);
            count -= there[which];
            there[which] = false;
        }
        assert_int_equal(m.count, count);
    }
    marks_forget(&m, 1e9);
    assert_int_equal(m.count, 0);
    assert_int_equal(m.first, 0);
    free(m.nodes);
    free(m.slots);
}

/* ---- from one process to the next ---- */

static char *passed;
static size_t passed_len;

static void fill_with_all_kinds(void)
{
    static char large[40000];
    memset(large, 'x', sizeof large);
    GOOD(STORE_SET, K("text"), V("a\0b"), .ttl = 60);
    GOOD(STORE_SET, K("large"), .value = {large, sizeof large}, .ttl = 50);
    GOOD(STORE_SET, K("number"), .value_is_integer = true, .integer = INT64_MIN, .ttl = 60);
    GOOD(STORE_INCR, K("part"), .n = 0.5, .ttl = 60);
    GOOD(STORE_RATE, K("rate"), .limit = 3, .window = 80);
    now += 15;
    GOOD(STORE_RATE, K("rate"), .n = 2, .limit = 3, .window = 80);
    GOOD(STORE_BUCKET, K("bucket"), .n = 7, .limit = 10, .window = 100);
    for (int i = 0; i < 300; i++) {
        char member[16];
        snprintf(member, sizeof member, "m%d", i);
        GOOD(STORE_DISTINCT, K("distinct"), .value = str_of(member), .window = 100);
        GOOD(STORE_SET_ADD, K("set"), .value = str_of(member), .ttl = 100);
    }
}

static void hand_over(uint64_t octets)
{
    FILE *to = open_memstream(&passed, &passed_len);
    store_memory_pass(store, to);
    fclose(to);
    store_drop(store);
    store = store_memory_open(octets);
}

static void all_kinds_go_on_in_the_next_process(void **state)
{
    fill_with_all_kinds();
    hand_over(1 << 20); /* of another number of shards */
    FILE *from = fmemopen(passed, passed_len, "r");
    assert_true(store_memory_take(store, from));
    fclose(from);
    free(passed);
    GOOD(STORE_GET, K("text"));
    assert_true(str_equal(answer.text, STR("a\0b")));
    GOOD(STORE_GET, K("large"));
    assert_int_equal(answer.text.len, 40000);
    GOOD(STORE_GET, K("number"));
    assert_true(answer.integer == INT64_MIN);
    GOOD(STORE_INCR, K("part"), .ttl = 60);
    IS(1.5);
    GOOD(STORE_TTL, K("text"));
    IS(45);
    GOOD(STORE_RATE, K("rate"), .limit = 3, .window = 80);
    assert_true(number("count") == 3);
    GOOD(STORE_BUCKET, K("bucket"), .n = 4, .limit = 10, .window = 100);
    assert_true(number("wait") == 10);
    GOOD(STORE_DISTINCT, K("distinct"), V("m7"), .window = 100);
    IS(300);
    GOOD(STORE_SET_HAS, K("set"), V("m299"));
    assert_true(answer.integer);
    GOOD(STORE_SET_ADD, K("set"), V("m300"), .ttl = 100);
    now += 36; /* what would have expired there expires here */
    GOOD(STORE_GET, K("large"));
    assert_int_equal(answer.type, VALUE_NONE);
}

static void what_is_cut_short_or_foreign_is_refused_and_the_store_serves(void **state)
{
    GOOD(STORE_SET, K("text"), V("abc"), .ttl = 60);
    GOOD(STORE_RATE, K("rate"), .limit = 3, .window = 80);
    GOOD(STORE_SET_ADD, K("set"), V("m"), .ttl = 100);
    hand_over(1 << 20);
    for (size_t len = 0; len < passed_len; len++) {
        FILE *from = fmemopen(passed, len ? len : 1, "r");
        if (!len)
            fgetc(from);
        assert_false(store_memory_take(store, from));
        fclose(from);
        GOOD(STORE_SET_SIZE, K("set"));
        GOOD(STORE_RATE, K("rate"), .limit = 3, .window = 80);
        GOOD(STORE_GET, K("text"));
        store_drop(store);
        store = store_memory_open(1 << 20);
    }
    for (size_t at = 0; at < passed_len; at++) { /* any octet may be wrong: it is taken or refused, nothing breaks */
        passed[at] ^= 0xff;
        FILE *from = fmemopen(passed, passed_len, "r");
        bool good = store_memory_take(store, from);
        assert_false(good && at < 16);
        fclose(from);
        passed[at] ^= 0xff;
        store_drop(store);
        store = store_memory_open(1 << 20);
    }
    free(passed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, open_store, close_store)
        CLAIM(another_bound_keeps_what_is_there),
        CLAIM(operations_have_names),
        CLAIM(what_is_set_is_got_until_it_expires),
        CLAIM(add_is_only_for_the_first),
        CLAIM(increase_counts_from_the_first_ttl),
        CLAIM(rate_refuses_over_its_limit_and_says_when),
        CLAIM(rate_forgets_after_its_window),
        CLAIM(rate_error_is_within_one_eighth_of_the_window),
        CLAIM(bucket_refills_evenly),
        CLAIM(distinct_counts_values_within_the_window),
        CLAIM(sets_hold_members),
        CLAIM(wrong_questions_are_answered_as_such),
        CLAIM(memory_is_bounded_and_the_nearest_to_expiry_go),
        CLAIM(expired_keys_are_reclaimed_by_whoever_comes_by),
        CLAIM(operations_are_atomic_among_threads),
        CLAIM(marks_survive_removal_in_any_order),
        CLAIM(all_kinds_go_on_in_the_next_process),
        CLAIM(what_is_cut_short_or_foreign_is_refused_and_the_store_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
