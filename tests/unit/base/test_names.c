/* names.h: a slip of the pen finds its name, another word finds none. */
#include "base/names.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char *const names[] = {"listen", "backend", "tls", "limits", "timeouts"};

static void is_taken_for(const char *word, const char *name)
{
    struct str near = nearest_name(str_of(word), names, countof(names));
    if (name)
        assert_string_equal(near.at, name);
    else
        assert_null(near.at);
}

static void slips_find_their_name(void **state)
{
    is_taken_for("listen", "listen");
    is_taken_for("lisetn", "listen"); /* a swap is one edit */
    is_taken_for("LISTENS", "listen");
    is_taken_for("back_end", "backend");
    is_taken_for("tl", "tls");
    is_taken_for("timeout", "timeouts");
}

static void other_words_find_none(void **state)
{
    is_taken_for("", NULL);
    is_taken_for("x", NULL);
    is_taken_for("no", NULL);
    is_taken_for("chain", NULL);
    is_taken_for("a_word_that_is_longer_than_any_name_can_be_and_still_goes_on", NULL);
    assert_null(nearest_name(STR("listen"), NULL, 0).at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slips_find_their_name),
        cmocka_unit_test(other_words_find_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
