/* authres.c - see authres.h. */
#include "wire/authres.h"
#include "wire/token.h"

static bool is_white(char c)
{
    return c == ' ' || (unsigned char)c < ' ' || c == 127;
}

/* A comment or a quoted string; one without an end takes the rest. */
static size_t over(struct str s)
{
    return min_size(s.at[0] == '(' ? token_comment(s) : token_quoted(s), s.len);
}

/* Skips white space and comments. */
static void skip(struct str *s)
{
    size_t i = 0;
    while (i < s->len) {
        if (is_white(s->at[i]))
            i++;
        else if (s->at[i] == '(')
            i += over(str_part(*s, i, s->len));
        else
            break;
    }
    *s = str_part(*s, i, s->len);
}

/* A word of octets and quoted strings, as in  "a; b"@example.com , without the quotes; it ends at white space, a
 * comment,
 * ";" or one of `also`. "": none is there. */
static struct str take_word(struct str *s, const char *also, struct arena *arena)
{
    size_t len = 0, n = 0;
    while (len < s->len && !is_white(s->at[len]) && !strchr("(;", s->at[len]) && !strchr(also, s->at[len]))
        len += s->at[len] == '"' ? over(str_part(*s, len, s->len)) : 1;
    char *text = arena_space(arena, len + 1);
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (s->at[i] == '"') {
            quoted = !quoted;
            continue;
        }
        i += quoted && s->at[i] == '\\' && i + 1 < len;
        text[n++] = s->at[i];
    }
    text[n] = 0;
    *s = str_part(*s, len, s->len);
    return (struct str){text, n};
}

static bool take_octet(struct str *s, char c)
{
    skip(s);
    if (!s->len || s->at[0] != c)
        return false;
    *s = str_part(*s, 1, s->len);
    skip(s);
    return true;
}

/* Cuts *rest at the first ";" that stands in no quoted string and no comment. */
static struct str take_clause(struct str *rest)
{
    size_t i = 0;
    while (i < rest->len && rest->at[i] != ';') {
        struct str s = str_part(*rest, i, rest->len);
        i += s.at[0] == '"' || s.at[0] == '(' ? over(s) : 1;
    }
    struct str clause = str_part(*rest, 0, i);
    *rest = str_part(*rest, i + 1, rest->len);
    return clause;
}

bool authres_start(struct authres *a, struct str value, struct arena *arena, struct str *id)
{
    *a = (struct authres){.arena = arena, .rest = value.at ? value : STR("")};
    struct str head = take_clause(&a->rest);
    skip(&head);
    *id = take_word(&head, "=", arena);
    skip(&head);
    /* after the id comes a version or nothing: "spf=pass" is a result without an id before it */
    return id->len && (!head.len || char_is_digit(head.at[0]));
}

bool authres_next(struct authres *a, struct authres_result *r)
{
    while (a->rest.len) {
        struct str clause = take_clause(&a->rest);
        skip(&clause);
        struct str method = take_word(&clause, "=/", a->arena);
        if (take_octet(&clause, '/')) {
            take_word(&clause, "=", a->arena);
            skip(&clause);
        }
        if (!method.len || !take_octet(&clause, '='))
            continue;
        struct str result = take_word(&clause, "", a->arena);
        if (!result.len)
            continue;
        r->method = arena_lower(a->arena, method);
        r->result = arena_lower(a->arena, result);
        r->rest = clause;
        return true;
    }
    return false;
}

bool authres_property(struct authres_result *r, struct arena *arena, struct authres_property *p)
{
    for (;;) {
        skip(&r->rest);
        if (!r->rest.len)
            return false;
        size_t before = r->rest.len;
        struct str name = take_word(&r->rest, "=", arena);
        if (!take_octet(&r->rest, '=')) {
            if (r->rest.len == before) /* an octet that begins no word */
                r->rest = str_part(r->rest, 1, r->rest.len);
            continue;
        }
        p->name = arena_lower(arena, name);
        p->value = take_word(&r->rest, "", arena);
        if (p->name.len)
            return true;
    }
}
