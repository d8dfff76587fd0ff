/* fuzz_command.c - lines of a client and their verbs. Claims: the same lines are taken, or found bad or too long,
 * however the input is cut; a line taken is no longer than allowed and has no CR, LF or NUL; its words are parts of it.
 */
#include "fuzz.h"
#include "wire/command.h"

struct how {
    size_t most;
    bool bare_lf_ends;
};
struct taker {
    struct how how;
    struct line_reader r;
    struct arena arena;
};

static void start(void *stage, const void *how)
{
    ((struct taker *)stage)->how = *(const struct how *)how;
}

static bool is_part(struct str part, struct str of)
{
    return !part.len || (part.at >= of.at && part.at + part.len <= of.at + of.len);
}

static void check_line(struct str line, size_t most)
{
    struct command c;
    uint64_t octets;
    bool last;
    must(line.len <= most && line.at[line.len] == 0);
    for (size_t i = 0; i < line.len; i++)
        must(line.at[i] != '\r' && line.at[i] != '\n' && line.at[i]);
    struct arena arena = {0};
    struct str name;
    command_parse(line, SYNTAX_LENIENT, &c);
    must(!c.word.len || (c.word.at[0] != ' ' && c.word.at[0] != '\t'));
    if (helo_take(c.rest, SYNTAX_LENIENT, &arena, &name))
        must(name.len && name.len <= c.rest.len && !str_has_control(name) && str_find(name, STR("  ")) == name.len);
    arena_reset(&arena);
    command_parse(line, SYNTAX_STRICT, &c);
    must(is_part(c.word, line) && is_part(c.rest, line) && c.word.len + c.rest.len <= line.len);
    must(!memchr(line.at, ' ', c.word.len));
    must(!c.rest.len || (c.rest.at[0] != ' ' && c.rest.at[c.rest.len - 1] != ' '));
    must(c.verb == VERB_NONE || str_equal_nocase(c.word, str_of(verb_name(c.verb))));
    command_is_http(line);
    must(!helo_is_valid(c.rest) || (c.rest.len && c.rest.len <= 255 && !memchr(c.rest.at, ' ', c.rest.len)));
    if (bdat_parse(c.rest, &octets, &last))
        must(char_is_digit(c.rest.at[0]) && last == (memchr(c.rest.at, ' ', c.rest.len) != NULL));
}

static void feed(void *stage, struct pipe *in, struct pipe *out, bool last)
{
    struct taker *t = stage;
    struct str line;
    for (;;) {
        enum line_took took = line_take(&t->r, in, t->how.most, t->how.bare_lf_ends, &t->arena, &line);
        if (took == LINE_MORE)
            break;
        pipe_print(out, "%d ", took);
        if (took != LINE_TAKEN)
            continue;
        check_line(line, t->how.most);
        pipe_put(out, line);
        pipe_put(out, STR("\n"));
    }
    if (last)
        pipe_print(out, "%d", t->r.skipping);
    if (last && !t->r.skipping) /* of a line too long, when it is dropped is nobody's business */
        pipe_move(in, out, in->octets);
    must(in->octets <= t->how.most + 1);
}

static void stop(void *stage)
{
    arena_reset(&((struct taker *)stage)->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t n)
{
    struct str input = fuzz_input(octets, n);
    uint8_t flags = fuzz_octet(&input);
    struct how how = {.most = (size_t)(flags / 2 % 64) * 4 + 4, .bare_lf_ends = flags & 1};
    struct split_stage stage = {sizeof(struct taker), start, feed, stop, &how};
    fuzz_same_however_cut(&stage, input, flags);
    return 0;
}
