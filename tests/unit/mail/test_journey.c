/* test_journey.c - a message on its way through a chain into an outlet: edits, passes, verdicts of content, at every cut of its octets. */
#include "stay.h"

#define MESSAGE "From: a@x.test\r\nSubject: Hi\r\n\r\nfirst line\r\nsecond line\r\n"

static enum filter_verdict (*acts)(struct filter_call *, enum filter_stage);
static enum filter_verdict (*looks)(struct filter_call *, enum filter_stage);

static enum filter_verdict first(struct filter_call *call, enum filter_stage stage)
{
    return acts ? acts(call, stage) : VERDICT_CONTINUE;
}
static enum filter_verdict second(struct filter_call *call, enum filter_stage stage)
{
    return looks ? looks(call, stage) : VERDICT_CONTINUE;
}
static struct filter_def first_def = {.name = "first", .hook = first}, second_def = {.name = "second", .hook = second};
static struct filter one, two;

/* A message whose filter 1 has these stages and flags, filter 2 the others; what leaves by pieces of so many octets. */
static const char *through(unsigned stages, unsigned flags, unsigned others, size_t piece)
{
    first_def.stages = stages;
    first_def.flags = flags;
    second_def.stages = others;
    one = (struct filter){.def = &first_def};
    two = (struct filter){.def = &second_def};
    STAY(&one, &two);
    stay_message("a@x.test");
    stay_rcpt("b@y.test");
    return stay_content(MESSAGE, piece);
}

static void what_nobody_edits_leaves_as_it_came(void **state)
{
    acts = looks = NULL;
    for (size_t piece = 1; piece < sizeof MESSAGE; piece++) {
        assert_string_equal(through(ON(HEADERS) | ON(BODY), 0, ON(MESSAGE), piece), MESSAGE);
        stay_end();
    }
}

static enum filter_verdict tags(struct filter_call *call, enum filter_stage stage)
{
    uint32_t subject = filter_field_next(call, 0, "subject");
    assert_true(filter_field_set(call, subject, (struct filter_text){"[EXT] Hi", 8}));
    assert_true(filter_field_add(call, FILTER_BOTTOM, "X-Seen", (struct filter_text){"yes", 3}));
    return VERDICT_CONTINUE;
}
static enum filter_verdict sees_the_tag(struct filter_call *call, enum filter_stage stage)
{
    struct filter_field f;
    if (stage != FILTER_HEADERS)
        return VERDICT_CONTINUE;
    S.visit.errors++; /* how often it is called */
    assert_true(filter_field(call, filter_field_next(call, 0, "Subject"), &f));
    assert_true(str_equal(str_trim((struct str){f.value.at, f.value.len}), STR("[EXT] Hi")));
    return VERDICT_CONTINUE;
}
static const char tagged[] = "From: a@x.test\r\nSubject: [EXT] Hi\r\nX-Seen: yes\r\n\r\nfirst line\r\nsecond line\r\n";

static void an_edit_of_a_field_is_seen_by_those_behind_and_leaves(void **state)
{
    acts = tags;
    looks = sees_the_tag;
    for (size_t piece = 1; piece < sizeof MESSAGE; piece += 5) {
        assert_string_equal(through(ON(HEADERS), 0, ON(HEADERS), piece), tagged);
        assert_int_equal(S.visit.errors, 1);
        stay_end();
    }
}
static void a_late_edit_of_fields_is_seen_by_those_behind_in_a_pass_of_their_own(void **state)
{
    acts = tags;
    looks = sees_the_tag;
    for (size_t piece = 1; piece < sizeof MESSAGE; piece += 5) {
        assert_string_equal(through(ON(MESSAGE), FILTER_LATE_FIELDS, ON(HEADERS) | ON(MESSAGE), piece), tagged);
        assert_int_equal(S.visit.errors, 1);
        stay_end();
    }
}

static enum filter_verdict shouts(struct filter_call *call, enum filter_stage stage)
{
    struct filter_chunk c;
    assert_true(filter_chunk(call, &c));
    char *copy = filter_alloc(call, LIFE_CALL, c.octets.len + 1);
    for (size_t i = 0; i < c.octets.len; i++)
        copy[i] = (char)(c.octets.at[i] >= 'a' && c.octets.at[i] <= 'z' ? c.octets.at[i] - 32 : c.octets.at[i]);
    filter_emit(call, copy, c.octets.len);
    return VERDICT_CONTINUE;
}
static enum filter_verdict hears_shouting(struct filter_call *call, enum filter_stage stage)
{
    struct filter_chunk c;
    assert_true(filter_chunk(call, &c));
    for (size_t i = 0; i < c.octets.len; i++)
        assert_false(c.octets.at[i] >= 'a' && c.octets.at[i] <= 'z');
    return VERDICT_CONTINUE;
}
static void a_body_that_is_rewritten_is_seen_by_those_behind(void **state)
{
    acts = shouts;
    looks = hears_shouting;
    for (size_t piece = 1; piece < sizeof MESSAGE; piece++) {
        assert_string_equal(through(ON(BODY), FILTER_EDITS_BODY, ON(BODY), piece),
                            "From: a@x.test\r\nSubject: Hi\r\n\r\nFIRST LINE\r\nSECOND LINE\r\n");
        stay_end();
    }
}

/* ---- verdicts ---- */
static enum filter_verdict verdict;
static enum filter_verdict says(struct filter_call *call, enum filter_stage stage)
{
    switch (verdict) {
    case VERDICT_REJECT: return filter_reject(call, "554 5.7.1 no");
    case VERDICT_DROP: return filter_drop(call, "421 4.7.0 go");
    case VERDICT_DISCARD: return filter_discard(call, "spam");
    case VERDICT_QUARANTINE: return filter_quarantine(call, "virus");
    default: return verdict;
    }
}
static const unsigned content_stages[] = {ON(HEADERS), ON(BODY), ON(MESSAGE)};

static void a_refusal_of_content_is_kept_and_the_outlet_abandons_it(void **state)
{
    acts = says;
    looks = NULL;
    for (size_t i = 0; i < countof(content_stages); i++) {
        verdict = VERDICT_REJECT;
        assert_null(through(content_stages[i], 0, 0, 7));
        assert_true(S.abandoned && content_is_dropped(&S.message) && !S.message.drop && S.message.fate != MESSAGE_DISCARDED);
        assert_int_equal(S.message.refusal.code, 554);
        assert_true(str_equal(S.message.verdict_by, STR("1")));
        stay_end();
        verdict = VERDICT_DROP;
        assert_null(through(content_stages[i], 0, 0, 7));
        assert_true(S.abandoned && S.message.drop);
        assert_int_equal(S.message.refusal.code, 421);
        stay_end();
        verdict = VERDICT_DISCARD;
        assert_null(through(content_stages[i], 0, 0, 7));
        assert_true(S.abandoned && S.message.fate == MESSAGE_DISCARDED && !S.message.refusal.code);
        stay_end();
    }
}
static enum filter_verdict puts_too_late(struct filter_call *call, enum filter_stage stage)
{
    S.late = true;
    return filter_quarantine(call, "virus");
}
static void quarantine_goes_where_the_chain_says_unless_it_is_too_late(void **state)
{
    acts = says;
    verdict = VERDICT_QUARANTINE;
    assert_string_equal(through(ON(MESSAGE), FILTER_LATE_ROUTE, 0, 7), MESSAGE);
    assert_ptr_equal(S.went, &stay_hops[1]);
    assert_true(S.message.quarantined);
    stay_end();
    acts = puts_too_late;
    assert_null(through(ON(MESSAGE), FILTER_LATE_ROUTE, 0, 7));
    assert_int_equal(S.message.refusal.code / 100, 4);
    stay_end();
}

/* ---- the envelope ---- */
static enum filter_verdict edits_the_envelope(struct filter_call *call, enum filter_stage stage)
{
    struct filter_path path = {.size = sizeof path};
    assert_int_equal(filter_rcpt_count(call), 1);
    assert_true(filter_add_rcpt(call, "copy@y.test", NULL, false));
    assert_int_equal(filter_rcpt_count(call), 2);
    assert_true(filter_rcpt(call, 1, &path) && path.state == RCPT_ADDED);
    assert_true(filter_drop_rcpt(call, 0));
    assert_true(filter_rcpt(call, 0, &path) && path.state == RCPT_DROPPED);
    assert_true(filter_set_reverse_path(call, "bounce@x.test", NULL));
    assert_true(filter_route(call, "elsewhere"));
    assert_false(filter_route(call, "nowhere"));
    assert_false(filter_drop_rcpt(call, 2));
    return VERDICT_CONTINUE;
}
static void edits_of_the_envelope_tell_the_outlet(void **state)
{
    acts = edits_the_envelope;
    assert_non_null(through(ON(MESSAGE), FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE, 0, 7));
    assert_int_equal(S.stale, 2); /* the sender, and the recipient that was accepted */
    assert_ptr_equal(S.went, &stay_hops[0]);
    assert_true(str_equal(S.message.from.address, STR("bounce@x.test")));
    assert_false(rcpt_stands(&S.message.rcpts[0]));
    assert_true(rcpt_stands(&S.message.rcpts[1]));
    stay_end();
}
static enum filter_verdict edits_undeclared(struct filter_call *call, enum filter_stage stage)
{
    assert_false(filter_add_rcpt(call, "copy@y.test", NULL, false));
    assert_false(filter_set_reverse_path(call, "bounce@x.test", NULL));
    assert_false(filter_route(call, "elsewhere"));
    assert_int_equal(filter_field_add(call, FILTER_TOP, "X-Late", (struct filter_text){"yes", 3}), 0);
    return VERDICT_CONTINUE;
}
static void edits_that_were_not_declared_are_refused(void **state)
{
    acts = edits_undeclared;
    assert_string_equal(through(ON(MESSAGE), 0, 0, 7), MESSAGE);
    assert_int_equal(S.stale, 0);
    assert_null(S.went);
    stay_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_edits_leaves_as_it_came),
        cmocka_unit_test(an_edit_of_a_field_is_seen_by_those_behind_and_leaves),
        cmocka_unit_test(a_late_edit_of_fields_is_seen_by_those_behind_in_a_pass_of_their_own),
        cmocka_unit_test(a_body_that_is_rewritten_is_seen_by_those_behind),
        cmocka_unit_test(a_refusal_of_content_is_kept_and_the_outlet_abandons_it),
        cmocka_unit_test(quarantine_goes_where_the_chain_says_unless_it_is_too_late),
        cmocka_unit_test(edits_of_the_envelope_tell_the_outlet),
        cmocka_unit_test(edits_that_were_not_declared_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
