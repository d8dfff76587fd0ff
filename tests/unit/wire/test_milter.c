/* test_milter.c - packets of the milter protocol, read and written; replies and values of fields in its spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "split.h"
#include "wire/milter.h"

static struct arena arena;
static const struct milter_reader from_mta = {MILTER_FROM_MTA, MILTER_BODY_MOST, MILTER_OTHER_MOST};
static const struct milter_reader from_filter = {MILTER_FROM_FILTER, MILTER_BODY_MOST, MILTER_OTHER_MOST};

static const struct milter_reader *reader_of(enum milter_side side)
{
    return side == MILTER_FROM_MTA ? &from_mta : &from_filter;
}

static struct str framed(struct str kind_and_data)
{
    char *to = arena_space(&arena, 4 + kind_and_data.len);
    for (int i = 0; i < 4; i++)
        to[i] = (char)(kind_and_data.len >> (24 - 8 * i));
    memcpy(to + 4, kind_and_data.at, kind_and_data.len);
    return (struct str){to, 4 + kind_and_data.len};
}

static struct milter_packet parsed(enum milter_side side, struct str wire)
{
    struct milter_packet p;
    size_t whole;
    enum milter_fault fault;
    enum milter_took took = milter_parse(reader_of(side), wire, &p, &whole, &fault);
    if (took != MILTER_PACKET || fault || whole != wire.len) {
        print_error("kind '%c': took %d, fault %d, whole %zu of %zu\n", wire.at[4], took, fault, whole, wire.len);
        fail();
    }
    return p;
}

static struct str written(const struct milter_packet *p, enum milter_side side)
{
    size_t n = milter_size(p, side);
    assert_true(n > 4);
    char *to = arena_space(&arena, n);
    milter_write(p, side, to);
    return (struct str){to, n};
}

/* Every kind, as it is on the wire. */
static const struct {
    enum milter_side side;
    struct str wire;
} kinds[] = {
#define MTA(literal)                                                                                                   \
    {                                                                                                                  \
        MILTER_FROM_MTA,                                                                                               \
        {                                                                                                              \
            literal, sizeof literal - 1                                                                                \
        }                                                                                                              \
    }
#define FILTER(literal)                                                                                                \
    {                                                                                                                  \
        MILTER_FROM_FILTER,                                                                                            \
        {                                                                                                              \
            literal, sizeof literal - 1                                                                                \
        }                                                                                                              \
    }
    MTA("O\0\0\0\x06\0\0\1\xff\0\x1f\xff\xff"),
    MTA("DCj\0mx.test\0{daemon_name}\0\0"),
    MTA("DM"),
    MTA("Cmail.test\0"
        "4\x12\x34"
        "192.0.2.1\0"),
    MTA("Cmail.test\0"
        "6\0\x19"
        "2001:db8::1\0"),
    MTA("Clocalhost\0L\0\0/run/x\0"),
    MTA("Cunknown\0U"),
    MTA("Cunknown\0U\0\0\0"),
    MTA("Hclient.test\0"),
    MTA("M<a@a.test>\0"),
    MTA("M<a@a.test>\0SIZE=1\0BODY=8BITMIME\0"),
    MTA("R<b@b.test>\0NOTIFY=NEVER\0"),
    MTA("T"),
    MTA("LSubject\0x\n\ty\0"),
    MTA("LX\0\0"),
    MTA("N"),
    MTA("Ba\r\n\0b"),
    MTA("B"),
    MTA("E"),
    MTA("Erest"),
    MTA("UFOO bar\0"),
    MTA("A"),
    MTA("Q"),
    MTA("K"),
    FILTER("O\0\0\0\6\0\0\0\x7f\0\0\4\0\0\0\0\2i {auth}\0\0\0\0\6\0"),
    FILTER("c"),
    FILTER("a"),
    FILTER("r"),
    FILTER("t"),
    FILTER("d"),
    FILTER("p"),
    FILTER("s"),
    FILTER("4"),
    FILTER("f"),
    FILTER("y554-5.7.1 a\r\n554 5.7.1 b%%c\0"),
    FILTER("qreason\0"),
    FILTER("q\0"),
    FILTER("+<c@c.test>\0"),
    FILTER("-<b@b.test>\0"),
    FILTER("2<c@c.test>\0"),
    FILTER("2<c@c.test>\0NOTIFY=NEVER ORCPT=rfc822;x\0"),
    FILTER("e<>\0"),
    FILTER("e<a@a.test>\0RET=HDRS\0"),
    FILTER("hX-A\0v\0"),
    FILTER("i\0\0\0\1X-A\0v\0"),
    FILTER("m\x3f\xff\xff\xff"
           "Subject\0\0"),
    FILTER("b\r\n\0"),
    FILTER("b"),
#undef MTA
#undef FILTER
};

static void every_kind_is_read_and_written_as_it_came(void **state)
{
    for (size_t i = 0; i < countof(kinds); i++) {
        struct str wire = framed(kinds[i].wire);
        struct milter_packet p = parsed(kinds[i].side, wire);
        assert_int_equal(p.kind, kinds[i].wire.at[0]);
        assert_true(str_equal(written(&p, kinds[i].side), wire));
        if (p.kind == 'O')
            continue;
        struct milter_packet other;
        size_t whole;
        enum milter_fault fault;
        assert_int_equal(milter_parse(reader_of(!kinds[i].side), wire, &other, &whole, &fault), MILTER_BROKEN);
        assert_true(fault == MILTER_UNKNOWN && other.kind == p.kind && milter_size(&p, !kinds[i].side) == 0);
    }
}

static void is_text(struct str s, const char *text)
{
    if (!str_equal(s, str_of(text)) || !s.at) {
        print_error("\"%.*s\" in place of \"%s\"\n", STR_ARGS(s), text);
        fail();
    }
}

static void members_are_what_the_kind_has(void **state)
{
    struct milter_packet p = parsed(MILTER_FROM_MTA, framed(STR("Cmail.test\0"
                                                                "4\x12\x34"
                                                                "192.0.2.1\0")));
    is_text(p.name, "mail.test");
    is_text(p.value, "192.0.2.1");
    assert_true(p.of == '4' && p.port == 0x1234);
    p = parsed(MILTER_FROM_MTA, framed(STR("Cunknown\0U")));
    assert_true(p.of == 'U' && !p.value.at);
    p = parsed(MILTER_FROM_MTA, framed(STR("DMi\0001\0{mail_addr}\0\0")));
    struct str text;
    assert_int_equal(p.of, 'M');
    assert_true(milter_next(&p.rest, &text));
    is_text(text, "i");
    assert_true(milter_next(&p.rest, &text));
    is_text(text, "1");
    assert_true(milter_next(&p.rest, &text) && milter_next(&p.rest, &text));
    is_text(text, "");
    assert_false(milter_next(&p.rest, &text));
    p = parsed(MILTER_FROM_MTA, framed(STR("M<a@a.test>\0SIZE=1\0")));
    is_text(p.name, "<a@a.test>");
    assert_true(milter_next(&p.rest, &text) && !milter_next(&p.rest, &(struct str){0}));
    is_text(text, "SIZE=1");
    p = parsed(MILTER_FROM_FILTER, framed(STR("m\1\2\3\4Subject\0v\0")));
    is_text(p.name, "Subject");
    is_text(p.value, "v");
    assert_int_equal(p.index, 0x01020304);
    p = parsed(MILTER_FROM_FILTER, framed(STR("e<>\0")));
    assert_true(!p.value.at);
    p = parsed(MILTER_FROM_FILTER, framed(STR("2a\0\0")));
    is_text(p.value, "");
    p = parsed(MILTER_FROM_MTA, framed(STR("UFOO\0")));
    is_text(p.value, "FOO");
    p = parsed(MILTER_FROM_MTA, framed(STR("B\0x")));
    assert_true(str_equal(p.rest, STR("\0x")));
}

static void a_reply_and_a_reason_may_lack_their_nul(void **state)
{
    struct milter_packet p = parsed(MILTER_FROM_FILTER, framed(STR("y451 4.7.1 later")));
    is_text(p.value, "451 4.7.1 later");
    p = parsed(MILTER_FROM_FILTER, framed(STR("qwhy")));
    is_text(p.value, "why");
    p = parsed(MILTER_FROM_FILTER, framed(STR("q")));
    is_text(p.value, "");
}

static void lists_of_macros_are_known_by_their_number(void **state)
{
    struct milter_packet p = parsed(MILTER_FROM_FILTER, framed(STR("O\0\0\0\6\0\0\1\0\0\x10\0\0"
                                                                   "\0\0\0\5a b\0\0\0\0\7zz\0\0\0\0\0\0\0\0\0\5c\0")));
    assert_true(p.option.version == 6 && p.option.actions == MILTER_SETSYMLIST &&
                p.option.protocol == MILTER_HDR_LEADSPC);
    is_text(p.option.lists[MILTER_AT_EOM], "c");
    is_text(p.option.lists[MILTER_AT_CONNECT], "");
    assert_true(!p.option.lists[MILTER_AT_HELO].at && !p.option.lists[MILTER_AT_EOH].at);
    static const struct str cut[] = {{"\0\0\0", 3}, {"\0\0\0\1", 4}, {"\0\0\0\1x", 5}};
    for (size_t i = 0; i < countof(cut); i++) {
        p = parsed(MILTER_FROM_FILTER,
                   framed(arena_join(&arena, 2, (struct str[]){STR("O\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\2i\0"), cut[i]})));
        is_text(p.option.lists[MILTER_AT_MAIL], "i");
        assert_true(p.option.version == 2 && !p.option.lists[MILTER_AT_HELO].at &&
                    !p.option.lists[MILTER_AT_CONNECT].at);
    }
}

static void what_is_wrong_is_said(void **state)
{
    static const struct {
        enum milter_side side;
        enum milter_fault fault;
        struct str packet;
    } bad[] = {
#define BAD_MTA(fault, literal)                                                                                        \
    {                                                                                                                  \
        MILTER_FROM_MTA, MILTER_##fault,                                                                               \
        {                                                                                                              \
            literal, sizeof literal - 1                                                                                \
        }                                                                                                              \
    }
#define BAD_FILTER(fault, literal)                                                                                     \
    {                                                                                                                  \
        MILTER_FROM_FILTER, MILTER_##fault,                                                                            \
        {                                                                                                              \
            literal, sizeof literal - 1                                                                                \
        }                                                                                                              \
    }
        BAD_MTA(LENGTH_ZERO, ""),
        BAD_MTA(UNKNOWN, "X"),
        BAD_MTA(UNKNOWN, "\0x"),
        BAD_MTA(UNKNOWN, "l\0"),
        BAD_FILTER(UNKNOWN, "l\0"),
        BAD_FILTER(UNKNOWN, "1"),
        BAD_MTA(SHORT, "O"),
        BAD_MTA(SHORT, "O\0\0\0\6\0\0\0\0\0\0\0"),
        BAD_MTA(SHORT, "D"),
        BAD_MTA(SHORT, "C"),
        BAD_MTA(SHORT, "Cx\0"),
        BAD_MTA(SHORT, "Cx\0"
                       "4\0"),
        BAD_MTA(SHORT, "Cx\0"
                       "4\0\0"),
        BAD_MTA(SHORT, "Cx\0U\0"),
        BAD_MTA(SHORT, "H"),
        BAD_MTA(SHORT, "M"),
        BAD_MTA(SHORT, "LX\0"),
        BAD_FILTER(SHORT, "i\0\0\0"),
        BAD_FILTER(SHORT, "i\0\0\0\1"),
        BAD_FILTER(SHORT, "mxxxxX\0"),
        BAD_FILTER(SHORT, "+"),
        BAD_MTA(NO_NUL, "Cx"),
        BAD_MTA(NO_NUL, "Cx\0"
                        "4\0\0x"),
        BAD_MTA(NO_NUL, "Hx"),
        BAD_MTA(NO_NUL, "M<>\0x"),
        BAD_MTA(NO_NUL, "DCj\0x"),
        BAD_MTA(NO_NUL, "LX\0v"),
        BAD_MTA(NO_NUL, "Ux"),
        BAD_FILTER(NO_NUL, "-x"),
        BAD_FILTER(NO_NUL, "ex\0y"),
        BAD_FILTER(NO_NUL, "hX\0v"),
        BAD_FILTER(NO_NUL, "mxxxxX\0v"),
        BAD_MTA(TRAILING, "T\0"),
        BAD_MTA(TRAILING, "Nx"),
        BAD_MTA(TRAILING, "Ax"),
        BAD_MTA(TRAILING, "Qx"),
        BAD_MTA(TRAILING, "Kx"),
        BAD_MTA(TRAILING, "Hx\0\0"),
        BAD_MTA(TRAILING, "Cx\0"
                          "4\0\0x\0y"),
        BAD_MTA(TRAILING, "LX\0v\0w\0"),
        BAD_FILTER(TRAILING, "c\0"),
        BAD_FILTER(TRAILING, "ax"),
        BAD_FILTER(TRAILING, "rx"),
        BAD_FILTER(TRAILING, "tx"),
        BAD_FILTER(TRAILING, "dx"),
        BAD_FILTER(TRAILING, "px"),
        BAD_FILTER(TRAILING, "sx"),
        BAD_FILTER(TRAILING, "4x"),
        BAD_FILTER(TRAILING, "fx"),
        BAD_FILTER(TRAILING, "+x\0y\0"),
        BAD_FILTER(TRAILING, "2x\0y\0z\0"),
        BAD_FILTER(TRAILING, "y550 x\0z"),
        BAD_FILTER(TRAILING, "qx\0\0"),
        BAD_MTA(ODD, "DMi\0"),
        BAD_MTA(ODD, "DMi\0x\0j\0"),
        BAD_MTA(BAD_FAMILY, "Cx\0"
                            "5\0\0x\0"),
        BAD_MTA(BAD_FAMILY, "Cx\0\0"),
        BAD_MTA(BAD_NAME, "L\0v\0"),
        BAD_MTA(BAD_NAME, "LX Y\0v\0"),
        BAD_FILTER(BAD_NAME, "ha:b\0v\0"),
        BAD_FILTER(BAD_NAME, "i\0\0\0\0X\xc3\xa9\0v\0"),
        BAD_FILTER(BAD_NAME, "mxxxxX\x7f\0v\0"),
        BAD_FILTER(BAD_CODE, "y"),
        BAD_FILTER(BAD_CODE, "y\0"),
#undef BAD_MTA
#undef BAD_FILTER
    };
    for (size_t i = 0; i < countof(bad); i++) {
        struct milter_packet p;
        size_t whole;
        enum milter_fault fault;
        struct str wire = framed(bad[i].packet);
        enum milter_took took = milter_parse(reader_of(bad[i].side), wire, &p, &whole, &fault);
        if (took != MILTER_BROKEN || fault != bad[i].fault || whole != wire.len) {
            print_error("row %zu: took %d, fault %d, whole %zu\n", i, took, fault, whole);
            fail();
        }
        assert_true(p.kind == (bad[i].packet.len ? bad[i].packet.at[0] : 0));
    }
}

static void the_log_names_the_kind_and_the_fault(void **state)
{
    struct milter_packet p;
    size_t whole;
    enum milter_fault fault;
    milter_parse(&from_filter, framed(STR("mxxxxX\0v")), &p, &whole, &fault);
    is_text(milter_fault_print(fault, &p, whole, &arena), "a packet of kind 'm' (8 octets) lacks the NUL of a text");
    milter_parse(&from_filter, framed(STR("\a")), &p, &whole, &fault);
    is_text(milter_fault_print(fault, &p, whole, &arena),
            "a packet of kind 0x07 (1 octets) is of no kind that this side sends");
    milter_parse(&from_filter, STR("GET / HTTP/1.1"), &p, &whole, &fault);
    is_text(milter_fault_print(fault, &p, whole, &arena), "a packet (1195725856 octets) is longer than is taken");
}

static void lengths_are_judged_as_soon_as_they_are_here(void **state)
{
    static const struct {
        struct str held;
        enum milter_took took;
        size_t whole;
        enum milter_fault fault;
    } rows[] = {
#define HELD(literal) {literal, sizeof literal - 1}
        {HELD(""), MILTER_MORE, 4, MILTER_GOOD},
        {HELD("\0\0\0"), MILTER_MORE, 4, MILTER_GOOD},
        {HELD("\0\0\0\0"), MILTER_BROKEN, 4, MILTER_LENGTH_ZERO},
        {HELD("\0\0\0\1"), MILTER_MORE, 5, MILTER_GOOD},
        {HELD("\xff\xff\xff\xff"), MILTER_BROKEN, 4 + (size_t)UINT32_MAX, MILTER_TOO_LONG},
        {HELD("\0\x10\0\1"), MILTER_MORE, 5, MILTER_GOOD}, /* a body, or too long */
        {HELD("\0\x10\0\2"), MILTER_BROKEN, 4 + 0x100002, MILTER_TOO_LONG},
        {HELD("\0\x10\0\1"
              "b"),
         MILTER_MORE, 4 + 0x100001, MILTER_GOOD},
        {HELD("\0\x10\0\1"
              "h"),
         MILTER_BROKEN, 4 + 0x100001, MILTER_TOO_LONG},
        {HELD("\0\4\0\1"
              "h"),
         MILTER_MORE, 4 + 0x40001, MILTER_GOOD},
        {HELD("\0\4\0\2"
              "h"),
         MILTER_BROKEN, 4 + 0x40002, MILTER_TOO_LONG},
        {HELD("\0\0\1\0"
              "B"),
         MILTER_BROKEN, 4 + 0x100, MILTER_UNKNOWN},
#undef HELD
    };
    for (size_t i = 0; i < countof(rows); i++) {
        struct milter_packet p;
        size_t whole;
        enum milter_fault fault;
        enum milter_took took = milter_parse(&from_filter, rows[i].held, &p, &whole, &fault);
        if (took != rows[i].took || whole != rows[i].whole || fault != rows[i].fault) {
            print_error("row %zu: took %d, fault %d, whole %zu\n", i, took, fault, whole);
            fail();
        }
    }
}

static void no_packet_over_65535_octets_of_data_is_written(void **state)
{
    char *octets = arena_space(&arena, MILTER_DATA_MOST + 1);
    memset(octets, 'x', MILTER_DATA_MOST + 1);
    struct milter_packet p = {.kind = 'B', .rest = {octets, MILTER_DATA_MOST}};
    assert_int_equal(milter_size(&p, MILTER_FROM_MTA), 5 + MILTER_DATA_MOST);
    parsed(MILTER_FROM_MTA, written(&p, MILTER_FROM_MTA));
    p.rest.len++;
    assert_int_equal(milter_size(&p, MILTER_FROM_MTA), 0);
    p = (struct milter_packet){.kind = 'L', .name = STR("X"), .value = {octets, MILTER_DATA_MOST - 3}};
    assert_int_equal(milter_size(&p, MILTER_FROM_MTA), 5 + MILTER_DATA_MOST);
    parsed(MILTER_FROM_MTA, written(&p, MILTER_FROM_MTA));
    p.value.len++;
    assert_int_equal(milter_size(&p, MILTER_FROM_MTA), 0);
    for (size_t lists = 1; lists <= MILTER_WHERES; lists++) { /* parts that would fit, one by one */
        p = (struct milter_packet){.kind = 'O'};
        for (size_t i = 0; i < lists; i++)
            p.option.lists[i] = (struct str){octets, 40000};
        assert_int_equal(milter_size(&p, MILTER_FROM_FILTER), lists == 1 ? 5 + 12 + 4 + 40001 : 0);
    }
}

static void what_would_not_be_read_is_not_written(void **state)
{
    const struct {
        enum milter_side side;
        struct milter_packet p;
    } bad[] = {
        {MILTER_FROM_MTA, {.kind = 'x'}},
        {MILTER_FROM_MTA, {.kind = 'H', .name = STR("a\0b")}},
        {MILTER_FROM_MTA, {.kind = 'C', .of = '5', .value = STR("x")}},
        {MILTER_FROM_MTA, {.kind = 'C', .of = '4', .value = STR("\0")}},
        {MILTER_FROM_MTA, {.kind = 'M', .rest = STR("x")}},
        {MILTER_FROM_MTA, {.kind = 'D', .rest = STR("x\0")}},
        {MILTER_FROM_MTA, {.kind = 'L', .name = STR(""), .value = STR("x")}},
        {MILTER_FROM_FILTER, {.kind = 'h', .name = STR("a:b"), .value = STR("x")}},
        {MILTER_FROM_FILTER, {.kind = 'i', .name = STR("a"), .value = STR("\0")}},
        {MILTER_FROM_FILTER, {.kind = 'e', .name = STR("a"), .value = STR("\0")}},
        {MILTER_FROM_FILTER, {.kind = 'y'}},
        {MILTER_FROM_FILTER, {.kind = 'y', .value = STR("250 ok")}},
        {MILTER_FROM_FILTER, {.kind = 'O', .option.lists[3] = STR("\0")}},
    };
    for (size_t i = 0; i < countof(bad); i++)
        if (milter_size(&bad[i].p, bad[i].side)) {
            print_error("row %zu\n", i);
            fail();
        }
}

/* Tells each packet of the stream by writing it anew, and how the stream ended. */
struct taker {
    struct arena arena;
    bool over;
};

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct milter_packet p;
    size_t whole = 0;
    enum milter_fault fault;
    enum milter_took took = MILTER_MORE;
    while (!t->over && (took = milter_read(&from_mta, in, &t->arena, &p, &whole, &fault)) == MILTER_PACKET) {
        char octets[256];
        size_t n = milter_size(&p, MILTER_FROM_MTA);
        assert_true(n && n <= sizeof octets);
        milter_write(&p, MILTER_FROM_MTA, octets);
        pipe_copy(out, octets, n);
        pipe_drop(in, whole);
    }
    if (took == MILTER_MORE && !t->over)
        assert_true(whole > in->octets);
    if (took == MILTER_BROKEN) {
        pipe_print(out, "fault %d", fault);
        t->over = true;
    }
    if (last && !t->over)
        pipe_print(out, "left %zu", in->octets);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

static void however_cut_the_same_is_read(void **state)
{
    static const struct split_stage taker = {sizeof(struct taker), NULL, feed, stop, NULL};
    struct str all[countof(kinds)];
    size_t n = 0;
    for (size_t i = 0; i < countof(kinds); i++)
        if (kinds[i].side == MILTER_FROM_MTA)
            all[n++] = framed(kinds[i].wire);
    struct str wire = arena_join(&arena, n, all);
    split_everywhere(&taker, wire, arena_join(&arena, 2, (struct str[]){wire, STR("left 0")}));
    struct str first = framed(STR("LSubject\0x\0"));
    const struct {
        struct str behind, told;
    } rows[] = {
        {STR("\0\0\0\4Hx"), STR("left 6")}, {STR("\0\0\0\3Hxyz"), STR("fault 5")},
        {STR("\0\0\0\0"), STR("fault 1")},  {STR("GET / HTTP/1.1\r\n\r\n"), STR("fault 2")},
        {STR("\0\0\0\7X"), STR("fault 3")},
    };
    assert_true(MILTER_LENGTH_ZERO == 1 && MILTER_TOO_LONG == 2 && MILTER_UNKNOWN == 3 && MILTER_NO_NUL == 5);
    for (size_t i = 0; i < countof(rows); i++)
        split_everywhere(&taker, arena_join(&arena, 2, (struct str[]){first, rows[i].behind}),
                         arena_join(&arena, 2, (struct str[]){first, rows[i].told}));
}

static void replies_are_packed_and_unpacked(void **state)
{
    struct str y, lines[MILTER_LINES];
    size_t n;
    const struct str two[] = {STR("554 5.7.1 100% a"), STR("554 5.7.1 \tb")};
    assert_true(milter_reply_pack(two, 2, &arena, &y));
    is_text(y, "554-5.7.1 100%% a\r\n554 5.7.1 \tb");
    assert_int_equal(y.at[y.len], 0);
    assert_true(milter_reply_unpack(y, &arena, lines, &n));
    assert_int_equal(n, 2);
    is_text(lines[0], "554 5.7.1 100% a");
    is_text(lines[1], "554 5.7.1 \tb");
    assert_true(milter_reply_pack((struct str[]){STR("421"), STR("421 x")}, 2, &arena, &y));
    is_text(y, "421-\r\n421 x");
    assert_true(milter_reply_unpack(STR("450"), &arena, lines, &n) && n == 1);
    is_text(lines[0], "450");
    assert_true(milter_reply_unpack(STR("450-a\r\n450"), &arena, lines, &n) && n == 2);
    assert_true(milter_reply_unpack(STR("550 5%.7.1 50% %%x%"), &arena, lines, &n));
    is_text(lines[0], "550 5.7.1 50 %x");
    assert_true(milter_reply_unpack(STR("550 192.0.2.1 listed, 4.7.1x"), &arena, lines, &n));
}

static void no_other_reply_is_one(void **state)
{
    static const char *const bad[] = {
        "",
        "55",
        "250 ok",
        "354 x",
        "600 x",
        "x50 x",
        "55x x",
        "550x",
        "550-x",
        "550 a\r\n550 b",
        "550-a\r\n551 b",
        "550-a\r\n550-b",
        "550-a\r\n",
        "550\r\n550 x",
        "550 a\rb",
        "550 a\nb",
        "550 a\1",
        "554 4.7.1 x",
        "451 5.7.1",
        "451 2.0.0 x",
        "554-5.7.1 a\r\n554 4.7.1 b",
        "554 4%.7.1 x",
        "550-a\r\n\r\n550 b",
    };
    struct str y, lines[MILTER_LINES];
    size_t n;
    for (size_t i = 0; i < countof(bad); i++) {
        struct milter_packet p;
        size_t whole;
        enum milter_fault fault;
        struct str packet = framed(arena_join(&arena, 3, (struct str[]){STR("y"), str_of(bad[i]), STR("\0")}));
        if (milter_reply_unpack(str_of(bad[i]), &arena, lines, &n) ||
            milter_parse(&from_filter, packet, &p, &whole, &fault) != MILTER_BROKEN || fault != MILTER_BAD_CODE) {
            print_error("taken: %s\n", bad[i]);
            fail();
        }
    }
    static const char *const lone[] = {"", "250 ok", "550-x", "550x", "550 a\rb", "554 4.7.1 x"};
    for (size_t i = 0; i < countof(lone); i++)
        assert_false(milter_reply_pack((struct str[]){str_of(lone[i])}, 1, &arena, &y));
    assert_false(milter_reply_pack(NULL, 0, &arena, &y));
    assert_false(milter_reply_pack((struct str[]){STR("550 a"), STR("551 b")}, 2, &arena, &y));
    assert_false(milter_reply_pack((struct str[]){STR("550 a\0b")}, 1, &arena, &y));
}

static void a_reply_has_32_lines_of_980_octets_at_most(void **state)
{
    struct str y, lines[MILTER_LINES + 1], out[MILTER_LINES];
    size_t n;
    char *line = arena_space(&arena, MILTER_LINE_MOST + 1);
    memset(line, '%', MILTER_LINE_MOST + 1);
    memcpy(line, "550 ", 4);
    for (size_t i = 0; i < countof(lines); i++)
        lines[i] = (struct str){line, MILTER_LINE_MOST};
    assert_true(milter_reply_pack(lines, MILTER_LINES, &arena, &y));
    struct milter_packet p = {.kind = 'y', .value = y};
    assert_true(milter_size(&p, MILTER_FROM_FILTER) > 0);
    assert_true(milter_reply_unpack(y, &arena, out, &n));
    assert_true(n == MILTER_LINES && str_equal(out[MILTER_LINES - 1], lines[0]));
    assert_false(milter_reply_pack(lines, MILTER_LINES + 1, &arena, &y));
    lines[0].len++;
    assert_false(milter_reply_pack(lines, 1, &arena, &y));
    struct str more[MILTER_LINES + 1];
    for (size_t i = 0; i < MILTER_LINES; i++)
        more[i] = STR("550-x\r\n");
    more[MILTER_LINES] = STR("550 x");
    assert_false(milter_reply_unpack(arena_join(&arena, MILTER_LINES + 1, more), &arena, out, &n));
}

static void values_go_out_with_lf_folds_and_one_space_less(void **state)
{
    static const struct {
        const char *raw, *with, *without;
    } rows[] = {
        {" x", " x", "x"},
        {"x", "x", "x"},
        {"  x", "  x", " x"},
        {"\tx", "\tx", "\tx"},
        {"", "", ""},
        {" ", " ", ""},
        {" a\r\n\tb\r\n c", " a\n\tb\n c", "a\n\tb\n c"},
        {"\r\n a", "\n a", "\n a"},
        {" a\rb\r", " a\rb\r", "a\rb\r"},
        {" a\nb\r\r\n c", " a\nb\r\n c", "a\nb\r\n c"},
    };
    for (size_t i = 0; i < countof(rows); i++) {
        is_text(milter_value_out(str_of(rows[i].raw), true, &arena), rows[i].with);
        is_text(milter_value_out(str_of(rows[i].raw), false, &arena), rows[i].without);
    }
}

static void values_come_in_as_a_field_may_have_them(void **state)
{
    static const struct {
        const char *wire, *raw; /* with HDR_LEADSPC; without it there is one SP more */
    } rows[] = {
        {"x", "x"},
        {" x", " x"},
        {"", ""},
        {"a\n\tb\n c", "a\r\n\tb\r\n c"},
        {"a\r\n\tb", "a\r\n\tb"},
        {"a\r\tb", "a\r\n\tb"},
        {"a\r\r\n b", "a\r\n b"},
        {"a\nb", "a\r\n\tb"},
        {"a\r\nb", "a\r\n\tb"},
        {"a\n\nb", "a\r\n\tb"},
        {"a\r\n\r\nb", "a\r\n\tb"},
        {"a\n \nb", "a\r\n \r\n\tb"},
        {"a\rb", "a b"},
        {"a\r\rb\n\r\rc", "a  b\r\n\t  c"},
        {"a\n", "a"},
        {"a\r\n\r\n", "a"},
        {"a\r", "a"},
        {"\n", ""},
        {"\n a", "\r\n a"},
        {"a\n ", "a\r\n "},
    };
    for (size_t i = 0; i < countof(rows); i++) {
        struct str raw = str_of(rows[i].raw);
        is_text(milter_value_in(str_of(rows[i].wire), true, &arena), rows[i].raw);
        is_text(milter_value_in(str_of(rows[i].wire), false, &arena),
                arena_join(&arena, 2, (struct str[]){STR(" "), raw}).at);
    }
}

static void a_value_of_line_ends_only_takes_no_time(void **state)
{
    char *octets = arena_space(&arena, MILTER_OTHER_MOST);
    static const char ends[] = "\r\n";
    for (size_t way = 0; way < 2; way++) {
        memset(octets, ends[way], MILTER_OTHER_MOST - 1);
        octets[MILTER_OTHER_MOST - 1] = 'x';
        struct str raw = milter_value_in((struct str){octets, MILTER_OTHER_MOST}, true, &arena);
        assert_int_equal(raw.len, way ? 4 : MILTER_OTHER_MOST);
    }
}

static int tear_down(void **state)
{
    arena_reset(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read_and_written_as_it_came),
        cmocka_unit_test(members_are_what_the_kind_has),
        cmocka_unit_test(a_reply_and_a_reason_may_lack_their_nul),
        cmocka_unit_test(lists_of_macros_are_known_by_their_number),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(the_log_names_the_kind_and_the_fault),
        cmocka_unit_test(lengths_are_judged_as_soon_as_they_are_here),
        cmocka_unit_test(no_packet_over_65535_octets_of_data_is_written),
        cmocka_unit_test(what_would_not_be_read_is_not_written),
        cmocka_unit_test(however_cut_the_same_is_read),
        cmocka_unit_test(replies_are_packed_and_unpacked),
        cmocka_unit_test(no_other_reply_is_one),
        cmocka_unit_test(a_reply_has_32_lines_of_980_octets_at_most),
        cmocka_unit_test(values_go_out_with_lf_folds_and_one_space_less),
        cmocka_unit_test(values_come_in_as_a_field_may_have_them),
        cmocka_unit_test(a_value_of_line_ends_only_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
