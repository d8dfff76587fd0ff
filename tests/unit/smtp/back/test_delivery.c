/* What the next hop is told of a message, and what its replies mean: rcpts, the envelope said anew, DATA, content, losses. Every word of
 * the backend is the test's. */
#include "next_hop.h"

#define PIPELINING "PIPELINING"
#define TWO_NAMED  "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@y.test>\r\n"

static void two_rcpts(const char *offers)
{
    hop_begin();
    hop_mail("a@x.test");
    hop_rcpt("b@y.test");
    hop_rcpt("c@y.test");
    hop_accept(0, offers);
}

static void rcpts_are_said_in_one_group_and_each_has_its_own_reply(void **state)
{
    two_rcpts(PIPELINING);
    hop_hears(TWO_NAMED);
    hop_says("250 ok\r\n250 2.1.5 yes\r\n550 5.1.1 no such user\r\n");
    assert_int_equal(hop_told(0), 250);
    assert_int_equal(hop_told(1), 550);
    assert_int_equal(H.message.rcpts[0].fate, FATE_ACCEPTED);
    assert_int_equal(H.message.rcpts[1].fate, FATE_REFUSED);
    assert_int_equal(H.message.accepted, 1);
    assert_false(delivery_is_refused(&H.delivery));
    hop_message_end();
    hop_hears("RSET\r\n");
    hop_end();
}

static void without_pipelining_each_waits_for_the_reply_before_it(void **state)
{
    two_rcpts("");
    hop_hears("MAIL FROM:<a@x.test>\r\n");
    hop_says("250 ok\r\n");
    hop_hears("RCPT TO:<b@y.test>\r\n");
    hop_says("250 ok\r\n");
    hop_hears("RCPT TO:<c@y.test>\r\n");
    hop_says("250 ok\r\n");
    assert_int_equal(hop_told(1), 250);
    hop_end();
}

static void each_rcpt_hears_that_mail_was_refused(void **state)
{
    two_rcpts(PIPELINING);
    hop_hears(TWO_NAMED);
    hop_says("451 4.3.0 later\r\n503 no\r\n503 no\r\n");
    assert_int_equal(hop_told(0), 451);
    assert_int_equal(hop_told(1), 451);
    assert_true(delivery_is_refused(&H.delivery));
    hop_end();
}

static void words_that_would_mislead_are_ours(void **state)
{
    static const struct { const char *said; unsigned heard; bool closes; } rows[] = {
        {"552 5.2.2 full\r\n", 552, false}, {"421 4.3.2 bye\r\n", 451, true}, {"503 5.5.1 sequence\r\n", 451, true},
        {"220 what\r\n", 451, true},        {"354 go on\r\n", 451, true},     {"530 5.7.0 log in\r\n", 451, false},
        {"251 will forward\r\n", 251, false}};
    for (size_t i = 0; i < countof(rows); i++) {
        hop_begin();
        hop_mail("a@x.test");
        hop_rcpt("b@y.test");
        hop_accept(0, PIPELINING);
        hop_hears("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n");
        hop_says("250 ok\r\n");
        hop_says(rows[i].said);
        assert_int_equal(hop_told(0), rows[i].heard);
        assert_int_equal(hop_is_closed(), rows[i].closes);
        hop_end();
    }
}

static void data_joins_the_group_and_its_354_is_told_last(void **state)
{
    two_rcpts(PIPELINING);
    assert_true(delivery_join_data(&H.delivery));
    hop_hears(TWO_NAMED "DATA\r\n");
    hop_says("250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n");
    assert_int_equal(hop_told(1), 550);
    assert_int_equal(hop_data(), 354);
    assert_true(hop_content("Subject: s\r\n\r\n.dot\r\nbody"));
    hop_hears("Subject: s\r\n\r\n..dot\r\nbody\r\n.\r\n");
    hop_says("250 2.0.0 queued as Q1\r\n");
    assert_int_equal(hop_end_reply(), 250);
    hop_message_end();
    assert_false(hop_is_closed());
    hop_end();
}

static void a_354_although_nobody_was_accepted_costs_the_connection_and_no_dot(void **state)
{
    two_rcpts(PIPELINING);
    assert_true(delivery_join_data(&H.delivery));
    hop_hears(TWO_NAMED "DATA\r\n");
    hop_says("250 ok\r\n550 no\r\n550 no\r\n354 go\r\n");
    assert_int_equal(hop_told(1), 550);
    assert_int_equal(hop_data(), 554);
    assert_true(hop_is_closed());
    hop_end();
}

static void accept_both(void)
{
    two_rcpts(PIPELINING);
    hop_hears(TWO_NAMED);
    hop_says("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert_int_equal(hop_told(1), 250);
}

/* Both are accepted, and the backend has said 354. */
static void open_data(void)
{
    accept_both();
    struct reply reply;
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("DATA\r\n");
    hop_says("354 go\r\n");
    assert_int_equal(hop_data(), 354);
}

static void who_is_dropped_later_is_not_in_the_envelope_said_anew(void **state)
{
    accept_both();
    struct rcpt *r = &H.message.rcpts[0];
    H.delivery.outlet.ops->stale(&H.delivery.outlet, r);
    r->fate = FATE_DROPPED;
    struct reply reply;
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("RSET\r\n");
    hop_accept(0, PIPELINING); /* the one that hears RSET is in the pool's care */
    hop_hears("MAIL FROM:<a@x.test>\r\nRCPT TO:<c@y.test>\r\n");
    hop_says("250 ok\r\n250 ok\r\n");
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("DATA\r\n");
    hop_says("354 go\r\n");
    assert_int_equal(hop_data(), 354);
    hop_end();
}

static void added_rcpts_are_said_before_data_and_an_optional_one_may_be_refused(void **state)
{
    accept_both();
    struct rcpt *optional = hop_add("d@z.test", true, false);
    struct reply reply;
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("RCPT TO:<d@z.test>\r\n");
    hop_says("550 5.7.1 no\r\n");
    assert_int_equal(optional->fate, FATE_DROPPED);
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("DATA\r\n");
    hop_end();
}

static void a_needed_one_that_is_refused_defers_the_message(void **state)
{
    accept_both();
    hop_add("d@z.test", true, true);
    struct reply reply;
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("RCPT TO:<d@z.test>\r\n");
    hop_says("550 5.7.1 no\r\n");
    assert_int_equal(hop_data(), 451);
    assert_non_null(delivery_failure(&H.delivery));
    hop_end();
}

static void an_accepted_envelope_is_said_again_after_a_loss_once(void **state)
{
    for (int good = 0; good < 2; good++) {
        accept_both();
        hop_lose();
        struct reply reply;
        assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
        hop_accept(0, PIPELINING);
        hop_hears(TWO_NAMED);
        hop_says(good ? "250 ok\r\n250 ok\r\n250 ok\r\n" : "250 ok\r\n250 ok\r\n550 not today\r\n");
        if (good) {
            assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
            hop_hears("DATA\r\n");
            hop_lose(); /* the second loss is told */
        }
        assert_int_equal(hop_data(), 451);
        hop_end();
    }
}

static void a_pooled_connection_that_dies_unheard_is_nobodys_fault(void **state)
{
    accept_both();
    hop_message_end();
    hop_hears("RSET\r\n");
    hop_says("250 ok\r\n");
    hop_mail("a@x.test");
    hop_rcpt("b@y.test");
    hop_hears("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n");
    hop_lose();
    hop_accept(0, PIPELINING); /* the same words again, and no word of it to the client */
    hop_hears("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n");
    hop_says("250 ok\r\n250 ok\r\n");
    assert_int_equal(hop_told(0), 250);
    hop_end();
}

static void lost_behind_our_end_it_is_uncertain(void **state)
{
    open_data();
    assert_true(hop_content("A: b\r\n\r\nx\r\n"));
    hop_hears("A: b\r\n\r\nx\r\n.\r\n");
    hop_lose();
    assert_int_equal(hop_end_reply(), 451);
    assert_int_equal(H.message.end, END_UNCERTAIN);
    hop_end();
}

static void lost_before_an_octet_of_content_it_is_said_anew_with_the_content(void **state)
{
    open_data();
    flow_start(&H.visit);
    hop_lose();
    assert_false(content_is_dropped(&H.message));
    pipe_put(&H.message.flow.content, STR("A: b\r\n\r\nx\r\n"));
    hop_ends();
    while (!flow_judge(&H.visit))
        hop_turn();
    assert_false(delivery_open(&H.delivery));
    hop_accept(0, PIPELINING);
    hop_hears(TWO_NAMED);
    hop_says("250 ok\r\n250 ok\r\n250 ok\r\n");
    delivery_open(&H.delivery);
    hop_hears("DATA\r\n");
    hop_says("354 go\r\n");
    assert_true(delivery_send(&H.delivery));
    delivery_release(&H.delivery);
    hop_hears("A: b\r\n\r\nx\r\n.\r\n");
    hop_says("250 ok\r\n");
    assert_int_equal(hop_end_reply(), 250);
    hop_end();
}

static void what_is_judged_and_small_goes_by_one_bdat(void **state)
{
    two_rcpts("PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
    H.message.data_when = WHEN_AT_VERDICT;
    hop_hears(TWO_NAMED);
    hop_says("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert_int_equal(hop_told(1), 250);
    assert_true(hop_content("A: b\r\n\r\n.x\r\n"));
    hop_hears("BDAT 12 LAST\r\nA: b\r\n\r\n.x\r\n");
    hop_says("250 ok\r\n");
    assert_int_equal(hop_end_reply(), 250);
    hop_end();
}

static void a_message_that_goes_elsewhere_leaves_this_one(void **state)
{
    accept_both();
    const struct outlet_ops *ops = H.delivery.outlet.ops;
    const struct next_hop *other = ops->hop(&H.delivery.outlet, STR("other"));
    assert_non_null(other);
    assert_null(ops->route(&H.delivery.outlet, other, ROUTE_ALL));
    struct reply reply;
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("RSET\r\n");
    hop_accept(1, PIPELINING);
    hop_hears(TWO_NAMED);
    hop_says("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert_int_equal(delivery_data(&H.delivery, &reply), DELIVERY_WAITS);
    hop_hears("DATA\r\n");
    hop_end();
}

static void lmtp_answers_for_each_and_the_client_hears_one_reply(void **state)
{
    static const struct { const char *said; unsigned heard; } rows[] = {
        {"250 yes\r\n250 yes\r\n", 250}, {"250 yes\r\n452 4.2.2 full\r\n", 452}, {"550 no\r\n550 never\r\n", 550},
        {"550 no\r\n451 later\r\n", 451}, {"250 yes\r\n550 no\r\n", 550}};
    for (size_t i = 0; i < countof(rows); i++) {
        hop_begin();
        H.backends[0].protocol = SPEAKS_LMTP;
        hop_mail("a@x.test");
        hop_rcpt("b@y.test");
        hop_rcpt("c@y.test");
        hop_accept(0, PIPELINING);
        assert_true(delivery_join_data(&H.delivery));
        hop_hears(TWO_NAMED "DATA\r\n");
        hop_says("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        assert_int_equal(hop_told(1), 250);
        assert_int_equal(hop_data(), 354);
        assert_true(hop_content("A: b\r\n\r\nx\r\n"));
        hop_hears("A: b\r\n\r\nx\r\n.\r\n");
        hop_says(rows[i].said);
        assert_int_equal(hop_end_reply(), rows[i].heard);
        hop_end();
    }
}

static void octets_that_nobody_asked_for_cost_the_content(void **state)
{
    open_data();
    flow_start(&H.visit);
    hop_says("452 4.3.1 no room\r\n");
    assert_true(hop_is_closed());
    assert_true(content_is_dropped(&H.message));
    assert_int_equal(H.message.refusal.code, 452); /* told at the client's end */
    hop_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rcpts_are_said_in_one_group_and_each_has_its_own_reply),
        cmocka_unit_test(without_pipelining_each_waits_for_the_reply_before_it),
        cmocka_unit_test(each_rcpt_hears_that_mail_was_refused),
        cmocka_unit_test(words_that_would_mislead_are_ours),
        cmocka_unit_test(data_joins_the_group_and_its_354_is_told_last),
        cmocka_unit_test(a_354_although_nobody_was_accepted_costs_the_connection_and_no_dot),
        cmocka_unit_test(who_is_dropped_later_is_not_in_the_envelope_said_anew),
        cmocka_unit_test(added_rcpts_are_said_before_data_and_an_optional_one_may_be_refused),
        cmocka_unit_test(a_needed_one_that_is_refused_defers_the_message),
        cmocka_unit_test(an_accepted_envelope_is_said_again_after_a_loss_once),
        cmocka_unit_test(a_pooled_connection_that_dies_unheard_is_nobodys_fault),
        cmocka_unit_test(lost_behind_our_end_it_is_uncertain),
        cmocka_unit_test(lost_before_an_octet_of_content_it_is_said_anew_with_the_content),
        cmocka_unit_test(what_is_judged_and_small_goes_by_one_bdat),
        cmocka_unit_test(a_message_that_goes_elsewhere_leaves_this_one),
        cmocka_unit_test(lmtp_answers_for_each_and_the_client_hears_one_reply),
        cmocka_unit_test(octets_that_nobody_asked_for_cost_the_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
