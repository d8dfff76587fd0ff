/* probe.c - a filter that does what its options say, built against the installed <sluice/filter.h> and nothing else. Tests use
 * it to reach every call of the contract; it is also a filter to copy from.
 *
 *   filter "probe" { "rcpt: if no@ reject 550 5.1.1 No such user", "message: timer 50", "message: add X-Seen: yes",
 *                    flags = { "late_fields" } }
 *
 * Each unnamed element is "STAGE: ACTION ARGUMENTS"; those of a stage are done in order, and one that waits goes on with the
 * next when its op has ended. A verdict ends the list. In arguments {fact.name} is filled in, and \r \n are octets.
 * "if WORD ACTION": only when the recipient in hand (rcpt), else the reverse-path, has WORD in it. Flags that are not named
 * are given up, so that the same filter is every kind of filter. */
#include <sluice/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 64, ARGUMENT = 2000, LINE = 4000 };

struct step { unsigned stage; char action[24], only[64], argument[ARGUMENT]; };
struct probe { struct step steps[STEPS]; size_t count; };
struct place { size_t next; unsigned open; struct filter_stream *stream; }; /* of a call */
struct seen { unsigned chunks; uint64_t octets; };                         /* of a transaction */
struct tally { unsigned calls; };                                           /* of a session, of a worker */

static const char *const stages[] = {"connect", "tls", "helo", "auth", "mail", "rcpt", "data", "headers",
                                     "body", "part", "message", "reply", "reset", "disconnect", "start", "tick"};
enum { STAGES = sizeof stages / sizeof *stages };

/* ---- options --------------------------------------------------------------------------------------------------------- */

static bool take_step(struct filter *f, struct probe *p, const struct filter_value *v)
{
    const char *text = filter_value_text(v).at, *colon = text ? strchr(text, ':') : NULL;
    struct step *s = &p->steps[p->count];
    if (!colon || p->count == STEPS)
        return filter_complain(f, v, NULL, 0, "expected \"STAGE: ACTION ARGUMENTS\""), false;
    for (s->stage = 0; s->stage < STAGES; s->stage++)
        if (!strncmp(text, stages[s->stage], (size_t)(colon - text)) && !stages[s->stage][colon - text])
            break;
    if (s->stage == STAGES)
        return filter_complain(f, v, NULL, 0, "no such stage: %s", text), false;
    const char *at = colon + 1 + strspn(colon + 1, " ");
    if (!strncmp(at, "if ", 3)) {
        sscanf(at + 3, "%63s", s->only);
        at += 3 + strlen(s->only);
        at += strspn(at, " ");
    }
    sscanf(at, "%23s", s->action);
    at += strlen(s->action);
    snprintf(s->argument, sizeof s->argument, "%s", at + strspn(at, " "));
    p->count++;
    return true;
}

static unsigned flag_named(struct filter_text name)
{
    static const char *const names[] = {"edits_body", "late_fields", "late_body", "late_envelope", "late_route", "reads_back",
                                        "binary_safe"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (name.at && !strcmp(name.at, names[i]))
            return 1u << i;
    return 0;
}

static bool open_probe(struct filter *f)
{
    static const struct filter_option options[] = {
        {.size = sizeof *options, .name = "1", .type = TYPE_LIST, .of = TYPE_TEXT, .preset = "{}", .doc = "the steps"},
        {.size = sizeof *options, .name = "flags", .type = TYPE_LIST, .of = TYPE_TEXT, .preset = "{}", .doc = "what it declares"},
        {.size = sizeof *options, .name = "tick", .type = TYPE_DURATION, .doc = "how often tick is called"},
        {.size = sizeof *options, .name = "table", .type = TYPE_TABLE, .doc = "what the action lookup looks in"},
    };
    struct probe *p = filter_memory(f);
    const struct filter_value *o = filter_options(f, options, sizeof options / sizeof *options);
    if (!o)
        return false;
    const struct filter_value *steps = filter_value_get(o, "1"), *flags = filter_value_get(o, "flags");
    unsigned stages_used = 0, flags_used = 0;
    bool good = true;
    for (size_t i = 0; i < filter_value_count(steps); i++)
        good &= take_step(f, p, filter_value_at(steps, i, NULL));
    for (size_t i = 0; i < p->count; i++)
        stages_used |= 1u << p->steps[i].stage;
    for (size_t i = 0; i < filter_value_count(flags); i++) {
        unsigned flag = flag_named(filter_value_text(filter_value_at(flags, i, NULL)));
        flags_used |= flag;
        if (!flag)
            good = (filter_complain(f, filter_value_at(flags, i, NULL), NULL, 0, "no such flag"), false);
    }
    if (filter_value_get(o, "tick"))
        filter_every(f, 7, (unsigned)filter_value_integer(filter_value_get(o, "tick")));
    filter_lessen(f, stages_used, flags_used);
    return good;
}

static void close_probe(struct filter *f)
{
    struct probe *p = filter_memory(f);
    p->count = 0;
}

/* ---- words ----------------------------------------------------------------------------------------------------------- */

/* The argument with facts and escapes filled in; call memory. */
static char *fill_in(struct filter_call *call, const char *from)
{
    char *to = filter_alloc(call, LIFE_CALL, LINE + 1);
    size_t n = 0;
    for (; *from && n < LINE - 1; from++) {
        const char *end = *from == '{' ? strchr(from, '}') : NULL;
        if (end && end - from < 60) {
            char name[64] = "";
            memcpy(name, from + 1, (size_t)(end - from - 1));
            struct filter_text fact = filter_fact(call, name);
            n += (size_t)snprintf(to + n, LINE - n, "%.*s", fact.at ? (int)fact.len : 4, fact.at ? fact.at : "none");
            n = n < LINE ? n : LINE - 1;
            from = end;
        } else if (*from == '\\' && (from[1] == 'r' || from[1] == 'n' || from[1] == '\\')) {
            from++;
            to[n++] = *from == 'r' ? '\r' : *from == 'n' ? '\n' : '\\';
        } else {
            to[n++] = *from;
        }
    }
    to[n] = 0;
    return to;
}

static void say(struct filter_call *call, const char *what, struct filter_text text)
{
    char shown[LINE];
    size_t n = 0;
    for (size_t i = 0; i < text.len && n < sizeof shown - 3; i++) {
        char c = text.at[i];
        if (c == '\r' || c == '\n')
            shown[n++] = '\\', shown[n++] = c == '\r' ? 'r' : 'n';
        else
            shown[n++] = c;
    }
    shown[n] = 0;
    filter_log(call, LEVEL_INFO, "%s%s", what, shown);
}

static bool is_meant(struct filter_call *call, const struct step *s)
{
    struct filter_path path = {.size = sizeof path};
    if (!s->only[0])
        return true;
    bool there = s->stage == FILTER_RCPT ? filter_rcpt(call, filter_rcpt_now(call), &path) : filter_reverse_path(call, &path);
    return there && path.address.at && strstr(path.address.at, s->only);
}

/* ---- envelope, fields, body ------------------------------------------------------------------------------------------ */

static void list_rcpts(struct filter_call *call)
{
    static const char *const states[] = {"pending", "accepted", "refused", "added", "dropped"};
    char line[LINE] = "";
    struct filter_path path = {.size = sizeof path};
    if (filter_reverse_path(call, &path))
        snprintf(line, sizeof line, "from=%s params=%s", path.address.at ? path.address.at : "", path.params.at ? path.params.at : "");
    for (size_t i = 0; i < filter_rcpt_count(call); i++)
        if (filter_rcpt(call, i, &path))
            snprintf(line + strlen(line), sizeof line - strlen(line), " %s:%s", path.address.at, states[path.state]);
    filter_log(call, LEVEL_INFO, "envelope %s", line);
}

static size_t rcpt_named(struct filter_call *call, const char *address)
{
    struct filter_path path = {.size = sizeof path};
    for (size_t i = 0; i < filter_rcpt_count(call); i++)
        if (filter_rcpt(call, i, &path) && path.address.at && !strcmp(path.address.at, address))
            return i;
    return *address ? 9999 : filter_rcpt_now(call);
}

static void list_fields(struct filter_call *call)
{
    char line[LINE] = "";
    struct filter_field field = {.size = sizeof field};
    for (uint32_t h = 0; (h = filter_field_next(call, h, NULL)) && filter_field(call, h, &field);)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%.*s=%.*s", *line ? "|" : "", (int)field.name.len,
                 field.name.at, (int)field.value.len, field.value.at);
    say(call, "fields ", (struct filter_text){line, strlen(line)});
}

/* "Name: value" */
static struct filter_text value_in(char *text)
{
    char *colon = strchr(text, ':');
    if (!colon)
        return (struct filter_text){"", 0};
    *colon = 0;
    return (struct filter_text){colon + 1, strlen(colon + 1)};
}

static bool edit(struct filter_call *call, const char *action, char *a)
{
    char *word = strchr(a, ' ');
    if (!strcmp(action, "add_rcpt"))
        return filter_add_rcpt(call, a, NULL, true);
    if (!strcmp(action, "add_optional"))
        return filter_add_rcpt(call, a, NULL, false);
    if (!strcmp(action, "drop_rcpt"))
        return filter_drop_rcpt(call, rcpt_named(call, a));
    if (!strcmp(action, "set_rcpt"))
        return filter_set_rcpt(call, filter_rcpt_now(call), a);
    if (!strcmp(action, "set_reverse_path"))
        return filter_set_reverse_path(call, a, NULL);
    if (!strcmp(action, "route"))
        return filter_route(call, a);
    if (!strcmp(action, "rename") && word) {
        *word++ = 0;
        return filter_field_rename(call, filter_field_next(call, 0, a), word);
    }
    struct filter_text value = value_in(a);
    if (!strcmp(action, "add"))
        return filter_field_add(call, FILTER_BOTTOM, a, value);
    if (!strcmp(action, "top"))
        return filter_field_add(call, FILTER_TOP, a, value);
    if (!strcmp(action, "before"))
        return filter_field_add(call, filter_field_next(call, 0, NULL), a, value);
    if (!strcmp(action, "set"))
        return filter_field_set(call, filter_field_back(call, 0, a), value);
    return filter_field_remove(call, filter_field_next(call, 0, a));
}

static bool is_edit(const char *action)
{
    static const char *const names[] = {"add_rcpt", "add_optional", "drop_rcpt", "set_rcpt", "set_reverse_path", "route",
                                        "rename", "add", "top", "before", "set", "remove"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(action, names[i]))
            return true;
    return false;
}

/* "swap ab": every a of the chunk becomes b. */
static void swap(struct filter_call *call, const char *a)
{
    struct filter_chunk chunk = {.size = sizeof chunk};
    if (!filter_chunk(call, &chunk))
        return;
    char *copy = filter_alloc(call, LIFE_CALL, chunk.octets.len + 1);
    for (size_t i = 0; i < chunk.octets.len; i++)
        copy[i] = chunk.octets.at[i] == a[0] ? a[1] : chunk.octets.at[i];
    filter_emit(call, copy, chunk.octets.len);
}

/* Passes each chunk, and puts the text behind the last one. */
static void append(struct filter_call *call, const char *a)
{
    struct filter_chunk chunk = {.size = sizeof chunk};
    if (!filter_chunk(call, &chunk) || !chunk.last)
        return;
    filter_emit(call, chunk.octets.at, chunk.octets.len);
    filter_emit(call, a, strlen(a));
}

static void look_at_chunk(struct filter_call *call)
{
    struct seen *seen = filter_keep(call, LIFE_TRANSACTION);
    struct filter_chunk chunk = {.size = sizeof chunk};
    if (!filter_chunk(call, &chunk))
        return;
    if (chunk.offset == 0 && chunk.octets.len) /* a pass begins anew */
        seen->chunks = 0, seen->octets = 0;
    seen->chunks++;
    seen->octets += chunk.octets.len;
    if (chunk.octets.len && chunk.octets.len < 200)
        say(call, "chunk ", chunk.octets);
    if (chunk.last)
        filter_log(call, LEVEL_INFO, "body of %llu octets", (unsigned long long)seen->octets);
}

/* ---- verdicts -------------------------------------------------------------------------------------------------------- */

static bool is_verdict(struct filter_call *call, const char *action, const char *a, enum filter_verdict *v)
{
    static const struct { const char *name; enum filter_verdict verdict; } plain[] = {
        {"continue", VERDICT_CONTINUE}, {"skip", VERDICT_SKIP}, {"accept", VERDICT_ACCEPT}, {"pass", VERDICT_PASS},
        {"suspend", VERDICT_SUSPEND}, {"failed", VERDICT_ERROR}};
    static const struct { const char *name; enum filter_verdict (*verdict)(struct filter_call *, const char *, ...); } worded[] = {
        {"reject", filter_reject}, {"defer", filter_defer}, {"drop", filter_drop}, {"reword", filter_reword}, {"error", filter_error}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(action, plain[i].name)) {
            filter_because(call, a);
            return *v = plain[i].verdict, true;
        }
    for (size_t i = 0; i < sizeof worded / sizeof *worded; i++)
        if (!strcmp(action, worded[i].name))
            return *v = worded[i].verdict(call, *a ? "%s" : NULL, a), true;
    if (!strcmp(action, "discard"))
        return *v = filter_discard(call, a), true;
    if (!strcmp(action, "quarantine"))
        return *v = filter_quarantine(call, a), true;
    return false;
}

/* ---- waits ----------------------------------------------------------------------------------------------------------- */

static void run_work(void *data)
{
    char *text = data;
    for (; *text; text++)
        if (*text >= 'a' && *text <= 'z')
            *text = (char)(*text - 32);
    usleep(20000);
}

static bool ask_store(struct filter_call *call, char *a)
{
    struct filter_store s = {.size = sizeof s};
    char op[16] = "", key[100] = "", value[100] = "", store[40] = "";
    if (sscanf(a, "%15s %99s %99s %39s", op, key, value, store) < 2)
        return false;
    s.op = op;
    s.store = *store ? store : NULL;
    s.key = (struct filter_text){key, strlen(key)};
    s.value = (struct filter_text){value, strlen(value)};
    s.n = 1;
    s.ttl = 60;
    s.window = 60;
    s.limit = atof(value);
    filter_store(call, &s);
    return true;
}

/* True: an op was begun. */
static bool is_wait(struct filter_call *call, const char *action, char *a)
{
    struct place *place = filter_keep(call, LIFE_CALL);
    char type[16] = "", name[256] = "";
    if (!strcmp(action, "timer"))
        filter_timer(call, (unsigned)atoi(a));
    else if (!strcmp(action, "hang"))
        filter_timer(call, 3600000);
    else if (!strcmp(action, "many")) {
        filter_timer(call, 10);
        for (int i = atoi(a); i > 1; i--, place->open++)
            filter_timer(call, (unsigned)i * 5);
    } else if (!strcmp(action, "cancel_op"))
        filter_op_cancel(call, filter_timer(call, 3600000)), filter_timer(call, 10);
    else if (!strcmp(action, "room"))
        filter_room(call);
    else if (!strcmp(action, "content"))
        filter_content(call, 0, (size_t)atoi(a));
    else if (!strcmp(action, "dns") && sscanf(a, "%15s %255s", type, name) == 2)
        filter_dns(call, type, name, 2000);
    else if (!strcmp(action, "work"))
        filter_work(call, run_work, free, strdup(a));
    else if (!strcmp(action, "dial")) {
        struct filter_dial d = {.size = sizeof d, .address = strtok(a, " "), .ms = 2000, .pooled = true};
        filter_dial(call, LIFE_CALL, &d);
    } else if (strcmp(action, "store") || !ask_store(call, a))
        return false;
    place->open++;
    return true;
}

/* The dialogue with what was dialled: our line, its line. True: it goes on waiting. */
static bool talk(struct filter_call *call, const struct filter_event *e, const char *line)
{
    struct place *place = filter_keep(call, LIFE_CALL);
    if (!place->stream) {
        place->stream = e->stream;
        filter_put(place->stream, line, strlen(line));
        filter_read(call, place->stream, 1, 2000);
        return true;
    }
    const char *end = memchr(e->octets.at, '\n', e->octets.len);
    if (!end && !e->ended) {
        filter_read(call, place->stream, e->octets.len + 1, 2000);
        return true;
    }
    size_t n = end ? (size_t)(end - e->octets.at) : e->octets.len;
    say(call, "answer ", (struct filter_text){e->octets.at, n});
    filter_consume(place->stream, end ? n + 1 : n);
    filter_stream_keep(&place->stream);
    return false;
}

static void show_event(struct filter_call *call, const char *action, const struct filter_event *e)
{
    const struct filter_value *v = e->value;
    if (e->error)
        filter_log(call, LEVEL_INFO, "%s ended: %s (%.*s)", action, e->error, (int)e->why.len, e->why.at ? e->why.at : "");
    else if (e->data)
        filter_log(call, LEVEL_INFO, "work made %s", (const char *)e->data);
    else if (e->octets.at)
        say(call, e->ended ? "content ends " : "content ", e->octets);
    else if (filter_value_type(v) == TYPE_MAP)
        filter_log(call, LEVEL_INFO, "%s answered ok=%d count=%g list=%s", action,
                   (int)filter_value_integer(filter_value_get(v, "ok")), filter_value_number(filter_value_get(v, "count")),
                   filter_value_count(filter_value_get(v, "list"))
                       ? filter_value_text(filter_value_at(filter_value_get(v, "list"), 0, NULL)).at
                       : "");
    else
        filter_log(call, LEVEL_INFO, "%s ended with %s%g", action, filter_value_text(v).at ? filter_value_text(v).at : "",
                   filter_value_number(v));
}

/* ---- the rest -------------------------------------------------------------------------------------------------------- */

static void note(struct filter_call *call, char *a)
{
    char *value = strchr(a, '=');
    if (value)
        *value++ = 0;
    filter_note(call, LIFE_TRANSACTION, a, (struct filter_text){value, value ? strlen(value) : 0});
}

static void do_small(struct filter_call *call, const char *action, char *a)
{
    struct tally *session = filter_keep(call, LIFE_SESSION), *worker = filter_keep(call, LIFE_WORKER);
    if (!strcmp(action, "log"))
        say(call, "", (struct filter_text){a, strlen(a)});
    else if (!strcmp(action, "rcpts"))
        list_rcpts(call);
    else if (!strcmp(action, "fields"))
        list_fields(call);
    else if (!strcmp(action, "look"))
        look_at_chunk(call);
    else if (!strcmp(action, "emit"))
        filter_emit(call, a, strlen(a));
    else if (!strcmp(action, "swap"))
        swap(call, a);
    else if (!strcmp(action, "append"))
        append(call, a);
    else if (!strcmp(action, "note"))
        note(call, a);
    else if (!strcmp(action, "score"))
        filter_log(call, LEVEL_INFO, "score %g", filter_score(call, atof(a), "probe"));
    else if (!strcmp(action, "progress"))
        filter_progress(call);
    else if (!strcmp(action, "lessen"))
        filter_lessen_rest(call, LIFE_TRANSACTION, ~(1u << FILTER_MESSAGE), ~0u);
    else if (!strcmp(action, "count"))
        filter_log(call, LEVEL_INFO, "calls session=%u worker=%u clock=%d random=%d", session ? ++session->calls : 0,
                   worker ? ++worker->calls : 0, filter_now(call, true) > 1600000000000000 && filter_now(call, false) > 0, 1);
    else
        filter_log(call, LEVEL_ERROR, "probe: no such action: %s", action);
}

static enum filter_verdict go_on(struct filter_call *call)
{
    const struct probe *p = filter_memory(filter_of(call));
    struct place *place = filter_keep(call, LIFE_CALL);
    enum filter_verdict v;
    for (; place->next < p->count; place->next++) {
        const struct step *s = &p->steps[place->next];
        if (s->stage != filter_stage(call) || !is_meant(call, s))
            continue;
        char *a = fill_in(call, s->argument);
        if (is_verdict(call, s->action, a, &v))
            return v;
        if (is_wait(call, s->action, a))
            return VERDICT_SUSPEND;
        if (!is_edit(s->action))
            do_small(call, s->action, a);
        else if (!edit(call, s->action, a))
            filter_log(call, LEVEL_INFO, "%s refused: %s", s->action, filter_refusal(call).at);
    }
    return VERDICT_CONTINUE;
}

static enum filter_verdict hook(struct filter_call *call, enum filter_stage stage)
{
    unsigned char dice[4];
    (void)stage;
    filter_random(call, dice, sizeof dice);
    return go_on(call);
}

static enum filter_verdict resume(struct filter_call *call, const struct filter_event *e)
{
    const struct probe *p = filter_memory(filter_of(call));
    struct place *place = filter_keep(call, LIFE_CALL);
    const struct step *s = &p->steps[place->next];
    if (!strcmp(s->action, "dial") && !e->error) {
        char *a = fill_in(call, s->argument), *line = strchr(a, ' ');
        if (talk(call, e, line ? line + 1 : ""))
            return VERDICT_SUSPEND;
    } else {
        show_event(call, s->action, e);
    }
    if (--place->open)
        return VERDICT_SUSPEND;
    place->next++;
    return go_on(call);
}

static void cancel(struct filter_call *call, enum filter_cancel why)
{
    static const char *const words[] = {"timeout", "client gone", "shutdown"};
    struct place *place = filter_keep(call, LIFE_CALL);
    filter_stream_close(&place->stream);
    filter_log(call, LEVEL_INFO, "cancelled at %s: %s", stages[filter_stage(call)], words[why]);
}

static void stop(struct filter_call *call)
{
    const struct tally *worker = filter_keep(call, LIFE_WORKER);
    filter_log(call, LEVEL_INFO, "probe stops after %u", worker->calls);
}

static const struct filter_def probe = {
    .size = sizeof probe, .abi = FILTER_ABI, .name = "probe", .doc = "does what its options say",
    .stages = ((1u << STAGES) - 1) & ~(1u << FILTER_PART),
    .flags = FILTER_EDITS_BODY | FILTER_LATE_FIELDS | FILTER_LATE_BODY | FILTER_LATE_ENVELOPE | FILTER_LATE_ROUTE |
             FILTER_READS_BACK | FILTER_BINARY_SAFE,
    .filter_memory = sizeof(struct probe), .worker_memory = sizeof(struct tally), .session_memory = sizeof(struct tally),
    .transaction_memory = sizeof(struct seen), .call_memory = sizeof(struct place),
    .open = open_probe, .close = close_probe, .hook = hook, .resume = resume, .cancel = cancel, .stop = stop,
};

const struct filter_def *const *sluice_filters(unsigned host_abi)
{
    static const struct filter_def *const list[] = {&probe, NULL};
    return host_abi >= 1 ? list : NULL;
}
