/* test_stages.c - who of a chain is called at which stage, and what its verdict, its failure and its waits do: without a session. */
#include "stay.h"

static enum filter_verdict (*acts)(struct filter_call *, enum filter_stage); /* what filter 1 does */

static enum filter_verdict first(struct filter_call *call, enum filter_stage stage)
{
    stay_called(call);
    return acts ? acts(call, stage) : VERDICT_CONTINUE;
}
static enum filter_verdict second(struct filter_call *call, enum filter_stage stage)
{
    stay_called(call);
    return VERDICT_CONTINUE;
}
static enum filter_verdict resumed(struct filter_call *call, const struct filter_event *e)
{
    return e->error ? filter_error(call, "%s", e->error) : VERDICT_CONTINUE;
}
static const unsigned front = ON(CONNECT) | ON(HELO) | ON(MAIL) | ON(RCPT) | ON(DATA) | ON(RESET) | ON(DISCONNECT);
static const struct filter_def first_def = {.name = "first", .stages = front, .hook = first, .resume = resumed,
                                            .transaction_memory = sizeof(int), .session_memory = sizeof(int)};
static const struct filter_def second_def = {.name = "second", .stages = front, .hook = second};
static struct filter one, two;

static int begin(void **state)
{
    acts = NULL;
    one = (struct filter){.def = &first_def};
    two = (struct filter){.def = &second_def};
    STAY(&one, &two);
    return 0;
}
static int end(void **state)
{
    stay_end();
    return 0;
}

static void each_is_called_in_order_and_hears_the_end_of_what_it_saw(void **state)
{
    stay_ask(FILTER_CONNECT);
    stay_message("a@x.test");
    stay_ask(FILTER_MAIL);
    stay_rcpt("b@y.test");
    stay_message_end();
    visit_end(&S.visit);
    assert_string_equal(S.calls, "1.connect 2.connect 1.mail 2.mail 1.rcpt 2.rcpt 1.reset 2.reset 1.disconnect 2.disconnect");
}

static enum filter_verdict refuses_mail(struct filter_call *call, enum filter_stage stage)
{
    return stage == FILTER_MAIL ? filter_reject(call, "550 5.7.1 not you") : VERDICT_CONTINUE;
}
static void a_refusal_ends_the_stage_with_its_words_and_its_author(void **state)
{
    acts = refuses_mail;
    stay_message("a@x.test");
    assert_int_equal(stay_ask(FILTER_MAIL), VERDICT_REJECT);
    assert_string_equal(S.calls, "1.mail");
    assert_int_equal(S.visit.run.verdict.reply.code, 550);
    assert_true(str_equal(S.visit.run.verdict.reply.text, STR("not you")));
    assert_ptr_equal(S.visit.run.verdict.by, &one);
}

static enum filter_verdict passes_helo(struct filter_call *call, enum filter_stage stage)
{
    return stage == FILTER_HELO ? VERDICT_PASS : VERDICT_CONTINUE;
}
static enum filter_verdict passes_mail(struct filter_call *call, enum filter_stage stage)
{
    return stage == FILTER_MAIL ? VERDICT_PASS : VERDICT_CONTINUE;
}
static enum filter_verdict skips_mail(struct filter_call *call, enum filter_stage stage)
{
    return stage == FILTER_MAIL ? VERDICT_SKIP : VERDICT_CONTINUE;
}
static void pass_before_mail_is_for_the_visit_from_mail_on_for_the_message(void **state)
{
    acts = passes_mail;
    stay_message("a@x.test");
    stay_ask(FILTER_MAIL);
    stay_rcpt("b@y.test");
    stay_message_end();
    stay_message("a@x.test");
    stay_ask(FILTER_MAIL);
    assert_string_equal(S.calls, "1.mail 1.reset 1.mail");
    acts = passes_helo;
    stay_ask(FILTER_HELO);
    stay_message_end();
    stay_message("a@x.test");
    stay_ask(FILTER_MAIL);
    assert_string_equal(S.calls, "1.mail 1.reset 1.mail 1.helo 1.reset");
}
static void skip_is_for_the_one_that_says_it(void **state)
{
    acts = skips_mail;
    stay_message("a@x.test");
    stay_ask(FILTER_MAIL);
    stay_rcpt("b@y.test");
    stay_ask(FILTER_HELO); /* amid the message: it said nothing of that */
    assert_string_equal(S.calls, "1.mail 2.mail 2.rcpt 1.helo 2.helo");
}

static enum filter_verdict fails(struct filter_call *call, enum filter_stage stage)
{
    return filter_error(call, "broken");
}
static void a_failure_defers_rejects_or_goes_on_as_on_error_says(void **state)
{
    acts = fails;
    stay_message("a@x.test");
    assert_int_equal(stay_ask(FILTER_MAIL), VERDICT_DEFER);
    one.on_error = ON_ERROR_REJECT;
    assert_int_equal(stay_ask(FILTER_MAIL), VERDICT_REJECT);
    one.on_error = ON_ERROR_CONTINUE;
    assert_int_equal(stay_ask(FILTER_MAIL), VERDICT_CONTINUE);
    assert_int_equal(stay_rcpt("b@y.test"), VERDICT_CONTINUE);
    assert_string_equal(S.calls, "1.mail 1.mail 1.mail 2.mail 2.rcpt"); /* whoever failed is not called again in this message */
}
static void who_only_watches_decides_nothing(void **state)
{
    acts = refuses_mail;
    one.observe = true;
    stay_message("a@x.test");
    assert_int_equal(stay_ask(FILTER_MAIL), VERDICT_CONTINUE);
    assert_string_equal(S.calls, "1.mail 2.mail");
}

static enum filter_verdict waits(struct filter_call *call, enum filter_stage stage)
{
    filter_timer(call, 20);
    return VERDICT_SUSPEND;
}
static enum filter_verdict waits_for_long(struct filter_call *call, enum filter_stage stage)
{
    filter_timer(call, 60000);
    return VERDICT_SUSPEND;
}
static enum filter_verdict waits_for_nothing(struct filter_call *call, enum filter_stage stage)
{
    return VERDICT_SUSPEND;
}
static void a_suspended_call_holds_the_stage_and_goes_on(void **state)
{
    acts = waits;
    assert_int_equal(stay_ask(FILTER_CONNECT), VERDICT_CONTINUE);
    assert_string_equal(S.calls, "1.connect 2.connect");
    acts = waits_for_long;
    one.timeout = 1;
    assert_int_equal(stay_ask(FILTER_CONNECT), VERDICT_DEFER);
    acts = waits_for_nothing;
    one.timeout = 60000;
    assert_int_equal(stay_ask(FILTER_CONNECT), VERDICT_DEFER);
}
static void a_visit_that_is_stopped_waits_no_more(void **state)
{
    acts = waits;
    visit_ask(&S.visit, FILTER_CONNECT, (struct subject){0});
    assert_false(visit_turn(&S.visit));
    assert_true(visit_clock(&S.visit) > 0);
    visit_stop(&S.visit, CANCEL_CLIENT_GONE);
    assert_int_equal(visit_clock(&S.visit), 0);
    assert_true(visit_turn(&S.visit));
}

static enum filter_verdict asks_a_dead_service(struct filter_call *call, enum filter_stage stage)
{
    struct filter_dial d = {.size = sizeof d, .address = "inet:127.0.0.1:1", .ms = 1000};
    filter_dial(call, LIFE_CALL, &d);
    return VERDICT_SUSPEND;
}
static void the_breaker_opens_for_failing_services_and_for_nothing_else(void **state)
{
    acts = fails;
    for (int i = 0; i < 30; i++)
        stay_ask(FILTER_CONNECT);
    assert_false(breaker_is_open(&S.set, &one));
    acts = asks_a_dead_service;
    for (int i = 0; i < 30; i++)
        stay_ask(FILTER_CONNECT);
    assert_true(breaker_is_open(&S.set, &one));
    assert_false(breaker_is_open(&S.set, &two));
    S.calls[0] = 0;
    assert_int_equal(stay_ask(FILTER_CONNECT), VERDICT_DEFER);
    assert_string_equal(S.calls, ""); /* it is not run */
}

static void conditions_look_at_the_client(void **state)
{
    two.only.given = true;
    two.only.auth = 1;
    one.except.given = true;
    one.except.tls = 1;
    stay_ask(FILTER_CONNECT);
    assert_string_equal(S.calls, "1.connect");
    client_login(&S.client, STR("u"), STR("PLAIN"));
    S.client.secure = CLIENT_TLS;
    S.calls[0] = 0;
    stay_ask(FILTER_CONNECT);
    assert_string_equal(S.calls, "2.connect");
}

static enum filter_verdict counts(struct filter_call *call, enum filter_stage stage)
{
    int *visit = filter_keep(call, LIFE_SESSION), *message = filter_keep(call, LIFE_TRANSACTION);
    if (message && stage == FILTER_MAIL)
        assert_int_equal(++*message, 1);
    assert_int_equal(++*visit, S.visit.errors + 1);
    S.visit.errors++;
    return VERDICT_CONTINUE;
}
static void memory_of_the_message_begins_anew_with_each(void **state)
{
    acts = counts;
    for (int i = 0; i < 3; i++) {
        stay_message("a@x.test");
        stay_ask(FILTER_MAIL);
        stay_message_end();
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(each_is_called_in_order_and_hears_the_end_of_what_it_saw),
        TEST(a_refusal_ends_the_stage_with_its_words_and_its_author),
        TEST(pass_before_mail_is_for_the_visit_from_mail_on_for_the_message),
        TEST(skip_is_for_the_one_that_says_it),
        TEST(a_failure_defers_rejects_or_goes_on_as_on_error_says),
        TEST(who_only_watches_decides_nothing),
        TEST(a_suspended_call_holds_the_stage_and_goes_on),
        TEST(a_visit_that_is_stopped_waits_no_more),
        TEST(the_breaker_opens_for_failing_services_and_for_nothing_else),
        TEST(conditions_look_at_the_client),
        TEST(memory_of_the_message_begins_anew_with_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
