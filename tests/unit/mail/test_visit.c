/* test_visit.c - what a chain declares: when DATA is said, and where late editors cut it into passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "mail/visit.h"

#define ON(stage) (1u << FILTER_##stage)

static struct filter rcpt_only = {.stages = ON(RCPT)};
static struct filter fields = {.stages = ON(HEADERS)};
static struct filter judge = {.stages = ON(BODY) | ON(MESSAGE)};
static struct filter signer = {.stages = ON(MESSAGE), .flags = FILTER_LATE_FIELDS};
static struct filter rewriter = {.stages = ON(BODY), .flags = FILTER_EDITS_BODY};
static struct filter late_route = {.stages = ON(MESSAGE), .flags = FILTER_LATE_ROUTE};
static struct filter watcher = {.stages = ON(MESSAGE) | ON(HEADERS), .flags = FILTER_LATE_FIELDS, .observe = true};
static struct filter reader = {.stages = ON(MESSAGE), .flags = FILTER_READS_BACK, .observe = true};

#define CHAIN(...)                                                                                                     \
    (&(struct chain){.filters = (struct filter *[]){__VA_ARGS__}, .nfilters = countof(((struct filter *[]){__VA_ARGS__}))})

static void data_is_said_as_early_as_the_chain_allows(void **state)
{
    assert_int_equal(chain_data_when(&(struct chain){0}), WHEN_AT_DATA);
    assert_int_equal(chain_data_when(CHAIN(&rcpt_only)), WHEN_AT_DATA);
    assert_int_equal(chain_data_when(CHAIN(&rcpt_only, &fields)), WHEN_AFTER_HEADERS);
    assert_int_equal(chain_data_when(CHAIN(&judge, &fields)), WHEN_AT_BOUND);
    assert_int_equal(chain_data_when(CHAIN(&rewriter)), WHEN_AT_BOUND);
    assert_int_equal(chain_data_when(CHAIN(&fields, &signer)), WHEN_AT_VERDICT);
    assert_int_equal(chain_data_when(CHAIN(&late_route)), WHEN_AT_VERDICT);
}

static void a_filter_that_only_watches_does_not_hold_anything_back(void **state)
{
    assert_int_equal(chain_data_when(CHAIN(&watcher)), WHEN_AT_DATA);
    assert_int_equal(chain_data_when(CHAIN(&watcher, &fields)), WHEN_AFTER_HEADERS);
    assert_int_equal(chain_data_when(CHAIN(&reader)), WHEN_AT_VERDICT); /* it reads what is held */
    assert_int_equal(chain_passes(CHAIN(&watcher, &judge)), 1);
}

static void late_editors_cut_the_chain_behind_themselves(void **state)
{
    struct chain *chain = CHAIN(&fields, &signer, &judge, &signer, &judge);
    assert_int_equal(chain_passes(chain), 3);
    assert_int_equal(chain_pass_end(chain, 0), 2);
    assert_int_equal(chain_pass_end(chain, 1), 4);
    assert_int_equal(chain_pass_end(chain, 2), 5);
}

static void a_late_editor_at_the_end_and_a_late_route_cut_nothing(void **state)
{
    assert_int_equal(chain_passes(CHAIN(&judge, &signer)), 1);
    assert_int_equal(chain_pass_end(CHAIN(&judge, &signer), 0), 2);
    assert_int_equal(chain_passes(CHAIN(&late_route, &judge)), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_is_said_as_early_as_the_chain_allows),
        cmocka_unit_test(a_filter_that_only_watches_does_not_hold_anything_back),
        cmocka_unit_test(late_editors_cut_the_chain_behind_themselves),
        cmocka_unit_test(a_late_editor_at_the_end_and_a_late_route_cut_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
