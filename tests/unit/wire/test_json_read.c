/* test_json_read.c - JSON read into a tree; each fault with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wire/json.h"

static struct arena arena;
static struct filter_value value;
static uint32_t line;

static const char *fault_of(struct str text)
{
    arena_reset(&arena);
    return json_read(text, &arena, &value, &line);
}

static void reads(const char *text)
{
    assert_null(fault_of(str_of(text)));
}

static void text_is(const char *json, struct str expected)
{
    reads(json);
    assert_int_equal(value.type, VALUE_TEXT);
    assert_int_equal(value.text.len, expected.len);
    assert_memory_equal(value.text.at, expected.at, expected.len);
    assert_int_equal(value.text.at[value.text.len], 0);
}

static void values_of_all_kinds_know_their_lines(void **state)
{
    reads(" {\"list\": [1, -2.5e1, true,\r\n false, null,\n\"x\"],\n \"a\": {}, \"b\": []} \n");
    assert_int_equal(value.type, VALUE_MAP);
    assert_int_equal(value.count, 3);
    assert_true(str_equal(value.keys[0], STR("a")) && str_equal(value.keys[1], STR("b")) &&
                str_equal(value.keys[2], STR("list")));
    const struct filter_value *list = value_get(&value, STR("list"));
    static const struct {
        enum value_type type;
        double number;
        uint32_t line;
    } items[] = {{VALUE_NUMBER, 1, 1}, {VALUE_NUMBER, -25, 1}, {VALUE_BOOL, 1, 1},
                 {VALUE_BOOL, 0, 2},   {VALUE_NONE, 0, 2},     {VALUE_TEXT, 0, 3}};
    assert_int_equal(list->count, countof(items));
    for (size_t i = 0; i < countof(items); i++) {
        assert_int_equal(list->items[i].type, items[i].type);
        assert_true(list->items[i].number == items[i].number);
        assert_int_equal(list->items[i].line, items[i].line);
    }
    assert_int_equal(value_get(&value, STR("a"))->line, 4);
}

static void whole_numbers_are_exact(void **state)
{
    reads("900719925474099301");
    assert_true(value.integer == 900719925474099301);
    reads("-0");
    assert_true(value.integer == 0);
    reads("1e400"); /* no number of ours: as far as it goes */
    assert_int_equal(value.integer, 0);
}

static void texts_and_their_escapes(void **state)
{
    text_is("\"\"", STR(""));
    text_is("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", STR("a\"\\/\b\f\n\r\t"));
    text_is("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\\u0000.\"",
            (struct str){"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0.", 12});
}

static void faults_have_their_line(void **state)
{
    static const struct {
        const char *text, *fault;
        uint32_t line;
    } rows[] = {
        {"", "ends too early", 1},
        {"\n\n", "ends too early", 3},
        {"[1,\n2", "expected , or ]", 2},
        {"[1,]", "expected a value", 1},
        {"{\"a\" 1}", "expected :", 1},
        {"{a: 1}", "a key in quotes", 1},
        {"{\"a\": 1,\n \"a\": 2}", "twice", 2},
        {"{\"a\": 1", "expected , or }", 1},
        {"\"a", "closing quote", 1},
        {"\"a\\\"", "closing quote", 1},
        {"\"a\nb\"", "control octet", 1},
        {"\"\\x\"", "unknown escape", 1},
        {"\"\\u12g4\"", "four hexadecimal", 1},
        {"\"\\ud83d\"", "surrogate", 1},
        {"\"\\ude00\"", "surrogate", 1},
        {"\"\\ud83d\\u0041\"", "surrogate", 1},
        {"\"\xff\"", "no UTF-8", 1},
        {"01", "expected a value", 1},
        {"1.", "ends with its point", 1},
        {"1e", "without its exponent", 1},
        {"-", "expected a value", 1},
        {"nul", "expected a value", 1},
        {"1\n2", "behind the value", 2},
        {"'a'", "expected a value", 1},
    };
    for (size_t i = 0; i < countof(rows); i++) {
        const char *fault = fault_of(str_of(rows[i].text));
        if (!fault || !strstr(fault, rows[i].fault) || line != rows[i].line)
            fail_msg("%s: %s in line %u", rows[i].text, fault ? fault : "no fault", line);
    }
}

static void depth_is_bounded(void **state)
{
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_null(fault_of((struct str){deep + 100 - JSON_DEEP, 2 * JSON_DEEP}));
    assert_non_null(strstr(fault_of((struct str){deep + 99 - JSON_DEEP, 2 * JSON_DEEP + 2}), "31 levels"));
}

static void many_keys_take_no_more_than_sorting(void **state)
{
    enum { KEYS = 100000 };
    size_t room = KEYS * 16 + 8, len = 1;
    char *text = must_alloc(room);
    text[0] = '{';
    for (int i = KEYS; i-- > 0;)
        len += (size_t)snprintf(text + len, room - len, "\"%06d\":1%s", i, i ? "," : "}");
    assert_null(fault_of((struct str){text, len}));
    assert_int_equal(value.count, KEYS);
    assert_non_null(value_get(&value, STR("077777")));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_all_kinds_know_their_lines),
        cmocka_unit_test(whole_numbers_are_exact),
        cmocka_unit_test(texts_and_their_escapes),
        cmocka_unit_test(faults_have_their_line),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(many_keys_take_no_more_than_sorting),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_reset(&arena);
    return failed;
}
