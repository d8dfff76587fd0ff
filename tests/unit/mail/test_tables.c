/* The tables beside filters/filter.h say the same as it does: every stage and verdict by its name, in its order; facts sorted, as the
 * look-up by halves needs it. */
#include "base/defs.h"
#include "base/failure.h"
#include "filters/filter.h"
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

struct named { int value; const char *id, *word; };

static const struct named stages[] = {
#define STAGE(name, word) {FILTER_##name, #name, word},
#include "filters/stages.def"
#undef STAGE
};
static const struct named verdicts[] = {
#define VERDICT_NAME(name, word, who) {VERDICT_##name, #name, word},
#include "filters/verdicts.def"
#undef VERDICT_NAME
};
static const struct fact { const char *id, *name, *doc; } facts[] = {
#define FACT(id, name, doc) {#id, name, doc},
#include "filters/facts.def"
#undef FACT
};

static void all_are_there_in_order(const struct named *rows, size_t n, int last)
{
    assert_int_equal(n, (size_t)last + 1);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rows[i].value, i);
        assert_int_equal(strlen(rows[i].id), strlen(rows[i].word));
        for (size_t k = 0; rows[i].id[k]; k++)
            assert_int_equal(tolower((unsigned char)rows[i].id[k]), rows[i].word[k]);
    }
}

static void every_stage_has_its_name(void **state)
{
    all_are_there_in_order(stages, countof(stages), FILTER_TICK);
}

static void every_verdict_has_its_name(void **state)
{
    all_are_there_in_order(verdicts, countof(verdicts), VERDICT_ERROR);
}

static void facts_are_sorted_and_told(void **state)
{
    for (size_t i = 0; i < countof(facts); i++) {
        char id[64];
        size_t n = strlen(facts[i].name);
        assert_true(n < sizeof id && *facts[i].doc);
        for (size_t k = 0; k <= n; k++)
            id[k] = (char)(facts[i].name[k] == '.' ? '_' : facts[i].name[k]);
        assert_string_equal(facts[i].id, id);
        assert_true(i == 0 || strcmp(facts[i - 1].name, facts[i].name) < 0);
    }
}

static void every_failure_has_a_word_of_its_own(void **state)
{
    assert_null(failure_word(FAILURE_NONE));
    for (int i = FAILURE_NONE + 1; i < FAILURES; i++) {
        assert_non_null(failure_word((enum failure)i));
        for (int k = FAILURE_NONE + 1; k < i; k++)
            assert_string_not_equal(failure_word((enum failure)i), failure_word((enum failure)k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stage_has_its_name),
        cmocka_unit_test(every_verdict_has_its_name),
        cmocka_unit_test(facts_are_sorted_and_told),
        cmocka_unit_test(every_failure_has_a_word_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
