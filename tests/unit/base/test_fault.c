/* fault.h: what is armed strikes when it should, and nothing else does. Without SLUICE_FAULTS nothing can be armed. */
#include "base/fault.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#ifdef SLUICE_FAULTS
static unsigned strikes(enum fault_kind kind, unsigned times)
{
    unsigned n = 0;
    for (unsigned i = 0; i < times; i++)
        n += fault_strikes(kind);
    return n;
}

static void fault_strikes_once_at_its_nth_step(void **state)
{
    bool struck;
    assert_true(fault_arm(STR("write 3")));
    assert_int_equal(strikes(FAULT_WRITE, 2), 0);
    assert_int_equal(strikes(FAULT_READ, 10), 0);
    assert_int_equal(fault_met(&struck), 2);
    assert_false(struck);
    assert_true(fault_strikes(FAULT_WRITE));
    assert_int_equal(strikes(FAULT_WRITE, 100), 0);
    assert_int_equal(fault_met(&struck), 103);
    assert_true(struck);
}

static void fault_of_memory_strikes_twice_in_a_row(void **state)
{
    assert_true(fault_arm(STR("memory:2")));
    assert_false(fault_strikes(FAULT_MEMORY));
    assert_true(fault_strikes(FAULT_MEMORY) && fault_strikes(FAULT_MEMORY));
    assert_int_equal(strikes(FAULT_MEMORY, 100), 0);
}

static void fault_of_any_kind_strikes_one_in_so_many(void **state)
{
    assert_true(fault_arm(STR("any 10")));
    unsigned n = strikes(FAULT_READ, 5000) + strikes(FAULT_OP, 5000);
    assert_in_range(n, 800, 1200);
}

static void fault_armed_with_nought_never_strikes(void **state)
{
    assert_true(fault_arm(STR("op 0")));
    assert_int_equal(strikes(FAULT_OP, 1000), 0);
}

static void fault_refuses_what_is_no_kind_or_no_number(void **state)
{
    assert_false(fault_arm(STR("disk 1")));
    assert_false(fault_arm(STR("write")));
    assert_false(fault_arm(STR("write x")));
    assert_false(fault_arm(STR("write 99999999999999999999")));
}
#else
static void fault_is_the_constant_false(void **state)
{
    assert_false(fault_strikes(FAULT_WRITE));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef SLUICE_FAULTS
        cmocka_unit_test(fault_strikes_once_at_its_nth_step),
        cmocka_unit_test(fault_of_memory_strikes_twice_in_a_row),
        cmocka_unit_test(fault_of_any_kind_strikes_one_in_so_many),
        cmocka_unit_test(fault_armed_with_nought_never_strikes),
        cmocka_unit_test(fault_refuses_what_is_no_kind_or_no_number),
#else
        cmocka_unit_test(fault_is_the_constant_false),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
